#include "buffers.hpp"

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <new>
#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace cipherlens {

namespace {
constexpr std::size_t huge_page = std::size_t{1} << 21, page = 4096;

// Arrays begin at different places of a page. A limb is a whole number of pages, so equal places of several arrays would
// all fall into the same set of the first-level cache, which holds eight: sums of products took up to 1.8 times as long.
constexpr std::size_t colours = 7, colour_bytes = 576;  // a multiple of a line of the cache; all of it below a page

double* start_of(double* data) {
    return reinterpret_cast<double*>(reinterpret_cast<std::uintptr_t>(data) / page * page);
}
}  // namespace

void wipe(void* data, std::size_t bytes) noexcept {
    std::memset(data, 0, bytes);
    asm volatile("" : : "r"(data) : "memory");  // as if somebody read it: or it may be left out before free()
}

BufferPool::~BufferPool() {
    for (auto& [count, list] : idle_)
        for (double* data : list) std::free(start_of(data));
}

double* BufferPool::acquire(std::size_t count) {
    std::size_t colour;
    {
        const std::lock_guard<std::mutex> lock(mutex_);
        auto found = idle_.find(count);
        if (found != idle_.end() && !found->second.empty()) {
            double* data = found->second.back();
            found->second.pop_back();
            idle_count_ -= count;
            return data;
        }
        colour = next_colour_++ % colours;
    }
    const std::size_t bytes = colours * colour_bytes + count * sizeof(double);
    const std::size_t alignment = bytes >= huge_page ? huge_page : page;
    void* base = nullptr;
    if (posix_memalign(&base, alignment, bytes) != 0) throw std::bad_alloc();
#if defined(__linux__)
    if (bytes >= huge_page) madvise(base, bytes / huge_page * huge_page, MADV_HUGEPAGE);
#endif
    return static_cast<double*>(base) + colour * colour_bytes / sizeof(double);
}

void BufferPool::release(double* data, std::size_t count) noexcept {
    if (wipes_) wipe(data, count * sizeof(double));
    try {
        const std::lock_guard<std::mutex> lock(mutex_);
        if (idle_count_ + count <= idle_limit) {
            idle_[count].push_back(data);
            idle_count_ += count;
            return;
        }
    } catch (const std::bad_alloc&) {  // no room to remember it: give it back
    }
    std::free(start_of(data));
}

}  // namespace cipherlens
