// A loop over independent tasks on as many threads as asked for. Threads live for one call: nothing is shared
// between calls, nothing spins, and a forked process inherits no dead workers.
#pragma once

#include <atomic>
#include <cstddef>
#include <exception>
#include <new>
#include <system_error>
#include <thread>
#include <vector>

namespace cipherlens {

// f(task, worker) for task = 0 ... count - 1; worker < max(1, threads). What f throws is thrown here, once every worker
// has stopped. A system that grants fewer threads is served with those there are.
template <typename F>
void parallel_for(int threads, std::size_t count, const F& f) {
    const std::size_t workers = static_cast<std::size_t>(threads < 1 ? 1 : threads);
    if (workers == 1 || count <= 1) {
        for (std::size_t i = 0; i < count; ++i) f(i, std::size_t{0});
        return;
    }
    std::atomic<std::size_t> next{0};
    std::atomic<bool> failed{false};
    std::exception_ptr failure;  // written by the one worker that fails first, read after all have been joined
    const auto work = [&](std::size_t worker) noexcept {
        try {
            for (std::size_t i = next++; i < count && !failed; i = next++) f(i, worker);
        } catch (...) {
            if (!failed.exchange(true)) failure = std::current_exception();
        }
    };
    std::vector<std::thread> team;
    team.reserve(workers - 1 < count ? workers - 1 : count);
    try {
        for (std::size_t worker = 1; worker < workers && worker < count; ++worker) team.emplace_back(work, worker);
    } catch (const std::system_error&) {
    } catch (const std::bad_alloc&) {
    }
    work(0);
    for (std::thread& thread : team) thread.join();
    if (failure) std::rethrow_exception(failure);
}

}  // namespace cipherlens
