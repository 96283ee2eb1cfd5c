// Large arrays that are used again instead of being returned to the system: a fresh page costs more than the
// arithmetic on it. A pool that may see secrets wipes what is given back.
#pragma once

#include <cstddef>
#include <map>
#include <memory>
#include <mutex>
#include <vector>

namespace cipherlens {

// Clear memory that held a secret and is about to be freed.
void wipe(void* data, std::size_t bytes) noexcept;

class BufferPool {
  public:
    explicit BufferPool(bool wipes) : wipes_(wipes) {}
    BufferPool(const BufferPool&) = delete;
    BufferPool& operator=(const BufferPool&) = delete;
    ~BufferPool();

    double* acquire(std::size_t count);  // throws std::bad_alloc
    void release(double* data, std::size_t count) noexcept;

  private:
    static constexpr std::size_t idle_limit = std::size_t{1} << 27;  // doubles kept idle: 1 GiB

    const bool wipes_;
    std::mutex mutex_;
    std::map<std::size_t, std::vector<double*>> idle_;
    std::size_t idle_count_ = 0, next_colour_ = 0;
};

// An array on loan from a pool for the length of a scope.
class Buffer {
  public:
    Buffer(std::shared_ptr<BufferPool> pool, std::size_t count)
        : pool_(std::move(pool)), count_(count), data_(pool_->acquire(count)) {}
    Buffer(const Buffer&) = delete;
    Buffer& operator=(const Buffer&) = delete;
    ~Buffer() { pool_->release(data_, count_); }
    double* get() const { return data_; }

  private:
    std::shared_ptr<BufferPool> pool_;
    std::size_t count_;
    double* data_;
};

}  // namespace cipherlens
