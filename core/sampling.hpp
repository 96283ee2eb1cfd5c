// Streams of random bytes to samples. Pure functions: the randomness comes from the caller.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/kernels.hpp"

namespace cipherlens {

// n residues uniform modulo p from 64-bit little-endian words, words at or above floor(2^64 / p) * p skipped.
// Returns how many residues the `words` words gave: fewer than n means the stream was too short.
std::size_t sample_uniform(double* limb, std::size_t n, const std::uint8_t* stream, std::size_t words,
                           const Modulus& m, const Kernels& kernels);

// -1, 0 or 1 with equal probability up to 2^-62: floor(3 u / 2^64) - 1 for each 64-bit word u. 8 n bytes.
void sample_ternary(std::int8_t* out, std::size_t n, const std::uint8_t* stream);

// Centred binomial with eta = 21 (standard deviation sqrt(21 / 2) = 3.24): the number of ones among bits 0 to 20 of
// each 64-bit word less that among bits 21 to 41. 8 n bytes.
void sample_error(std::int8_t* out, std::size_t n, const std::uint8_t* stream);

}  // namespace cipherlens
