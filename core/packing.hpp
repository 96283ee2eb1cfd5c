// Residues to bytes: each in [0, p), in as many bits as its prime has, lowest bit first, without gaps.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/kernels.hpp"

namespace cipherlens {

// n is a multiple of 8, so that a limb ends on a whole byte.
inline std::size_t packed_size(std::size_t n, int bits) { return n / 8 * static_cast<std::size_t>(bits); }

void pack(std::uint8_t* out, const double* limb, std::size_t n, const Modulus& m);

// False when a value is not below its prime; the limb is then undefined.
bool unpack(double* limb, const std::uint8_t* bytes, std::size_t n, const Modulus& m);

}  // namespace cipherlens
