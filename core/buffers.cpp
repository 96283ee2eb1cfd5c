#include "buffers.hpp"

#include <cstdlib>
#include <new>
#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace cipherlens {

namespace {
constexpr std::size_t huge_page = std::size_t{1} << 21;
}

BufferPool::~BufferPool() {
    for (auto& [count, list] : idle_)
        for (double* data : list) std::free(data);
}

double* BufferPool::acquire(std::size_t count) {
    {
        const std::lock_guard<std::mutex> lock(mutex_);
        auto found = idle_.find(count);
        if (found != idle_.end() && !found->second.empty()) {
            double* data = found->second.back();
            found->second.pop_back();
            idle_count_ -= count;
            return data;
        }
    }
    const std::size_t bytes = count * sizeof(double);
    const std::size_t alignment = bytes >= huge_page ? huge_page : 64;
    const std::size_t rounded = (bytes + alignment - 1) / alignment * alignment;
    void* data = std::aligned_alloc(alignment, rounded == 0 ? alignment : rounded);
    if (data == nullptr) throw std::bad_alloc();
#if defined(__linux__)
    if (bytes >= huge_page) madvise(data, rounded, MADV_HUGEPAGE);
#endif
    return static_cast<double*>(data);
}

void BufferPool::release(double* data, std::size_t count) noexcept {
    if (wipes_) {
        volatile double* at = data;
        for (std::size_t i = 0; i < count; ++i) at[i] = 0;
    }
    try {
        const std::lock_guard<std::mutex> lock(mutex_);
        if (idle_count_ + count <= idle_limit) {
            idle_[count].push_back(data);
            idle_count_ += count;
            return;
        }
    } catch (const std::bad_alloc&) {  // no room to remember it: give it back
    }
    std::free(data);
}

}  // namespace cipherlens
