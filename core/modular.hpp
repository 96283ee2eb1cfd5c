// Exact modular arithmetic on single integers: what tables and constants are made with.
#pragma once

#include <cstdint>
#include <vector>

#include "kernels/kernels.hpp"

namespace cipherlens {

// Throws std::invalid_argument unless p is odd and 2^25 < p < 2^50.
Modulus make_modulus(std::int64_t p);

// All of these take and return values in [0, p).
std::int64_t multiply_mod(std::int64_t a, std::int64_t b, std::int64_t p);
std::int64_t power_mod(std::int64_t base, std::uint64_t exponent, std::int64_t p);
std::int64_t inverse_mod(std::int64_t a, std::int64_t p);  // p prime

// [0, p) to the centred representative as a double.
inline double centred(std::int64_t a, std::int64_t p) { return static_cast<double>(a > (p - 1) / 2 ? a - p : a); }

// A primitive 2n-th root of unity psi: the smallest quadratic non-residue to the power (p - 1) / 2n.
// Throws std::invalid_argument when p is not a prime with p = 1 mod 2n.
std::int64_t primitive_root(std::int64_t p, std::size_t n);

// psi^brv(i) for i = 0 ... n - 1, centred.
std::vector<double> root_table(const Modulus& m, std::size_t n);

// source[i] such that the automorphism X -> X^galois takes x to x[source[i]], in the order of the transform.
std::vector<std::uint32_t> automorphism_table(std::size_t n, std::size_t galois);

std::size_t reverse_bits(std::size_t i, int bits);
int log2_exact(std::size_t n);  // throws std::invalid_argument when n is not a power of two

}  // namespace cipherlens
