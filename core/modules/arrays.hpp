// Numpy arrays in and out of the bindings, with their shapes checked.
#pragma once

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <initializer_list>
#include <stdexcept>
#include <string>
#include <optional>
#include <vector>

#include "../expansion.hpp"
#include "../ring.hpp"

namespace cipherlens {

namespace nb = nanobind;

using Doubles = nb::ndarray<const double, nb::c_contig, nb::device::cpu>;
using DoublesInOut = nb::ndarray<double, nb::c_contig, nb::device::cpu>;
using DoublesOut = nb::ndarray<nb::numpy, double, nb::c_contig>;
using Bytes = nb::ndarray<const std::uint8_t, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using StreamRoom = nb::ndarray<const std::uint8_t, nb::ndim<2>, nb::c_contig, nb::device::cpu>;
using Small = nb::ndarray<const std::int8_t, nb::c_contig, nb::device::cpu>;

// A new numpy array on memory of the pool, given back to it when the array dies.
inline DoublesOut new_array(const std::shared_ptr<BufferPool>& pool, std::vector<std::size_t> shape) {
    struct Loan {
        std::shared_ptr<BufferPool> pool;
        double* data;
        std::size_t count;
    };
    std::size_t count = 1;
    for (std::size_t extent : shape) count *= extent;
    auto* loan = new Loan{pool, pool->acquire(count), count};
    nb::capsule owner(loan, [](void* p) noexcept {
        auto* returned = static_cast<Loan*>(p);
        returned->pool->release(returned->data, returned->count);
        delete returned;
    });
    return DoublesOut(loan->data, shape.size(), shape.data(), owner);
}

inline void require(bool condition, const char* what) {
    if (!condition) throw std::invalid_argument(what);
}

// (parts, limbs, n) with any number of parts.
template <typename Array>
std::size_t checked_limbs(const Ring& ring, const Array& x, std::size_t dimensions) {
    require(x.ndim() == dimensions && x.shape(dimensions - 1) == ring.n(), "an array of another ring dimension");
    const std::size_t limbs = x.shape(dimensions - 2);
    require(limbs >= 1 && limbs <= ring.chain(), "a number of limbs that the chain does not have");
    return limbs;
}

// Streams that `make(task, slot)` writes to row `slot` of `room`. Both must outlive what is returned, which may be used with
// Python's lock released.
inline Streams checked_streams(const Ring& ring, const StreamRoom& room, const nb::callable& make) {
    require(room.shape(0) >= 1 && room.shape(1) >= 8 * ring.n(), "room for a stream of 8 n bytes at least");
    const auto locked = [&make](std::size_t task, std::size_t slot) {
        const nb::gil_scoped_acquire lock;
        make(task, slot);
    };
    return {locked, room.data(), room.shape(1), room.shape(0)};
}

template <typename Array>
void require_shape(const Array& x, std::initializer_list<std::size_t> shape, const char* what) {
    require(x.ndim() == shape.size(), what);
    std::size_t axis = 0;
    for (std::size_t extent : shape) require(x.shape(axis++) == extent, what);
}

}  // namespace cipherlens
