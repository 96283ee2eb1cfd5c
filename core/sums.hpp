// Long sums of products over many ciphertexts, each limb in cache-sized blocks.
#pragma once

#include "ring.hpp"

namespace cipherlens {

// out (parts, limbs, n) = sum_t x[t] * plain[t]; x[t]: (parts, limbs, n), plain[t]: (limbs, n).
void sum_plain_products(const Ring& ring, double* out, const std::vector<const double*>& x,
                        const std::vector<const double*>& plain, std::size_t parts, std::size_t limbs, int threads);

// out (3, limbs, n) = sum_t a[t] (x) b[t], ciphertexts of two parts.
void sum_tensor_products(const Ring& ring, double* out, const std::vector<const double*>& a,
                         const std::vector<const double*>& b, std::size_t limbs, int threads);

// out (parts, limbs, n) = sum_t residues[t][limb] * x[t]: sums with clear weights, one centred residue a limb.
void sum_scalar_products(const Ring& ring, double* out, const std::vector<const double*>& x,
                         const std::vector<std::vector<double>>& residues, std::size_t parts, std::size_t limbs,
                         int threads);

// The diagonals of a scatter matrix (see cipherlens.learning): for every m = m1 + g m2 in 0 ... half,
// sums[m] (3, limbs, n) += sum_t giants[t][m2] (x) babies[t][m1]. babies[t] lists g ciphertexts, giants[t]
// half / g + 1. Blocked so that every baby and giant of a block is read from cache g times.
void accumulate_scatter(const Ring& ring, const std::vector<double*>& sums,
                        const std::vector<std::vector<const double*>>& babies,
                        const std::vector<std::vector<const double*>>& giants, std::size_t limbs, int threads);

}  // namespace cipherlens
