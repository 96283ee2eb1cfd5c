// Uniform halves from public streams, each limb used while the stream of the next is being made.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <stdexcept>

#include "parallel.hpp"
#include "ring.hpp"
#include "sampling.hpp"

namespace cipherlens {

// Streams made one at a time by the caller, who has the cipher: make(task, slot) writes the stream of one limb to
// bytes[slot * length ... (slot + 1) * length - 1], `slots` of which there are, one for every thread at least.
struct Streams {
    std::function<void(std::size_t task, std::size_t slot)> make;
    const std::uint8_t* bytes;
    std::size_t length, slots;
};

struct UniformLimb {
    double* residues;   // where they go
    std::size_t prime;  // index of the prime
};

// limb_of(task) is filled from its stream, then use(task) is called. Throws std::invalid_argument on a stream too short.
template <typename LimbOf, typename Use>
void expand(const Ring& ring, const Streams& streams, std::size_t count, const LimbOf& limb_of, const Use& use,
            int threads) {
    pipeline(threads, count, streams.slots, streams.make, [&](std::size_t task, std::size_t slot) {
        const UniformLimb limb = limb_of(task);
        const std::uint8_t* stream = streams.bytes + slot * streams.length;
        if (sample_uniform(limb.residues, ring.n(), stream, streams.length / 8, ring.modulus(limb.prime),
                           ring.kernels()) < ring.n())
            throw std::invalid_argument("a stream gave too few residues");
        use(task);
    });
}

}  // namespace cipherlens
