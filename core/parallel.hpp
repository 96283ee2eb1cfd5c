// Independent tasks on as many threads as asked for. Threads live for one call: nothing is shared between calls, nothing
// spins, and a forked process inherits no dead workers. To wake a thread that waits takes no less than to start one: on a
// virtual machine 50 to 60 us against 40.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstddef>
#include <deque>
#include <exception>
#include <mutex>
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

// make(task, slot) for task = 0 ... count - 1 on the calling thread alone, one after the other; use(task, slot) on any
// thread once it is made. A slot is not made again before it has been used; there are `slots` of them, at least one for
// every thread, so the calling thread never waits for room: it uses what is ready instead. What is thrown is thrown here.
template <typename Make, typename Use>
void pipeline(int threads, std::size_t count, std::size_t slots, const Make& make, const Use& use) {
    const std::size_t most = slots < count ? slots : count;
    const std::size_t workers = threads < 1 ? 1 : static_cast<std::size_t>(threads) < most ? threads : most;
    if (workers <= 1) {
        for (std::size_t task = 0; task < count; ++task) make(task, std::size_t{0}), use(task, std::size_t{0});
        return;
    }
    struct Item {
        std::size_t task, slot;
    };
    std::mutex mutex;
    std::condition_variable made;
    std::deque<Item> ready;
    std::vector<std::size_t> free;
    for (std::size_t slot = slots; slot-- > 0;) free.push_back(slot);
    bool finished = false;  // or failed: no more will be made
    std::exception_ptr failure;

    // Uses the first item that is ready; the lock is held before and after.
    const auto use_one = [&](std::unique_lock<std::mutex>& lock) {
        const Item item = ready.front();
        ready.pop_front();
        lock.unlock();
        use(item.task, item.slot);
        lock.lock();
        free.push_back(item.slot);
    };
    const auto fail = [&](std::unique_lock<std::mutex>& lock) {
        if (!lock.owns_lock()) lock.lock();
        if (!failure) failure = std::current_exception();
        finished = true;
        ready.clear();
        made.notify_all();
    };
    const auto work = [&]() noexcept {
        std::unique_lock<std::mutex> lock(mutex);
        try {
            for (;;) {
                made.wait(lock, [&] { return finished || !ready.empty(); });
                if (ready.empty()) return;
                use_one(lock);
            }
        } catch (...) {
            fail(lock);
        }
    };
    std::vector<std::thread> team;
    team.reserve(workers - 1);
    try {
        while (team.size() < workers - 1) team.emplace_back(work);
    } catch (const std::system_error&) {
    } catch (const std::bad_alloc&) {
    }
    std::unique_lock<std::mutex> lock(mutex);
    try {
        for (std::size_t task = 0; task < count && !finished; ++task) {
            while (free.empty() && !finished) use_one(lock);
            if (finished) break;
            const std::size_t slot = free.back();
            free.pop_back();
            lock.unlock();
            make(task, slot);
            lock.lock();
            if (finished) break;
            ready.push_back({task, slot});
            made.notify_one();
        }
        finished = true;
        made.notify_all();
        while (!ready.empty()) use_one(lock);
    } catch (...) {
        fail(lock);
    }
    if (lock.owns_lock()) lock.unlock();
    for (std::thread& thread : team) thread.join();
    if (failure) std::rethrow_exception(failure);
}

}  // namespace cipherlens
