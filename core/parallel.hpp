// A loop over independent tasks on as many threads as asked for. Threads live for one call: nothing is shared
// between calls, nothing spins, and a forked process inherits no dead workers.
#pragma once

#include <atomic>
#include <cstddef>
#include <thread>
#include <vector>

namespace cipherlens {

// f(task, worker) for task = 0 ... count - 1; worker < max(1, threads). f must not throw.
template <typename F>
void parallel_for(int threads, std::size_t count, const F& f) {
    const std::size_t workers = static_cast<std::size_t>(threads < 1 ? 1 : threads);
    if (workers == 1 || count <= 1) {
        for (std::size_t i = 0; i < count; ++i) f(i, std::size_t{0});
        return;
    }
    std::atomic<std::size_t> next{0};
    const auto work = [&](std::size_t worker) {
        for (std::size_t i = next++; i < count; i = next++) f(i, worker);
    };
    std::vector<std::thread> team;
    for (std::size_t worker = 1; worker < workers && worker < count; ++worker) team.emplace_back(work, worker);
    work(0);
    for (std::thread& thread : team) thread.join();
}

}  // namespace cipherlens
