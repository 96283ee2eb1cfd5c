#include "sums.hpp"

#include "parallel.hpp"

namespace cipherlens {

namespace {
// Coefficients in one block of a scatter update: with 8 ciphertexts and 33 rotations each, 2 parts of 32
// coefficients are 135 KiB and stay in the second-level cache.
constexpr std::size_t scatter_block = 32;
}  // namespace

void sum_plain_products(const Ring& ring, double* out, const std::vector<const double*>& x,
                        const std::vector<const double*>& plain, std::size_t parts, std::size_t limbs, int threads) {
    const std::size_t n = ring.n();
    parallel_for(threads, parts * limbs, [&](std::size_t task, std::size_t) {
        const std::size_t limb = task % limbs;
        std::vector<const double*> a, b;
        for (std::size_t t = 0; t < x.size(); ++t) a.push_back(x[t] + task * n), b.push_back(plain[t] + limb * n);
        ring.kernels().dot(out + task * n, a.data(), b.data(), a.size(), n, ring.modulus(limb));
    });
}

void sum_tensor_products(const Ring& ring, double* out, const std::vector<const double*>& a,
                         const std::vector<const double*>& b, std::size_t limbs, int threads) {
    const std::size_t n = ring.n();
    parallel_for(threads, limbs, [&](std::size_t limb, std::size_t) {
        std::vector<const double*> a0, a1, b0, b1;
        for (std::size_t t = 0; t < a.size(); ++t) {
            a0.push_back(a[t] + limb * n), a1.push_back(a[t] + (limbs + limb) * n);
            b0.push_back(b[t] + limb * n), b1.push_back(b[t] + (limbs + limb) * n);
        }
        double* const outs[3] = {out + limb * n, out + (limbs + limb) * n, out + (2 * limbs + limb) * n};
        ring.kernels().dot_tensor(outs, a0.data(), a1.data(), b0.data(), b1.data(), a.size(), n, ring.modulus(limb));
    });
}

void sum_scalar_products(const Ring& ring, double* out, const std::vector<const double*>& x,
                         const std::vector<std::vector<double>>& residues, std::size_t parts, std::size_t limbs,
                         int threads) {
    const std::size_t n = ring.n();
    parallel_for(threads, parts * limbs, [&](std::size_t task, std::size_t) {
        const std::size_t limb = task % limbs;
        std::vector<const double*> a;
        std::vector<double> c;
        for (std::size_t t = 0; t < x.size(); ++t) a.push_back(x[t] + task * n), c.push_back(residues[t][limb]);
        ring.kernels().dot_scalar(out + task * n, a.data(), c.data(), a.size(), n, ring.modulus(limb), false);
    });
}

void accumulate_scatter(const Ring& ring, const std::vector<double*>& sums,
                        const std::vector<std::vector<const double*>>& babies,
                        const std::vector<std::vector<const double*>>& giants, std::size_t limbs, int threads) {
    const std::size_t n = ring.n(), count = babies.size(), g = babies[0].size();
    const std::size_t block = n < scatter_block ? n : scatter_block, blocks = n / block;
    // One task is an eighth of a limb or so: enough of them to share evenly, each long enough to amortise its start.
    const std::size_t pieces = blocks < 8 ? blocks : 8;
    parallel_for(threads, limbs * pieces, [&](std::size_t task, std::size_t) {
        const std::size_t limb = task / pieces, piece = task % pieces;
        const Modulus& m = ring.modulus(limb);
        const Kernels& kernels = ring.kernels();
        std::vector<const double*> a0(count), a1(count), b0(count), b1(count);
        double sum[3][scatter_block];
        double* const outs[3] = {sum[0], sum[1], sum[2]};
        for (std::size_t j = piece * blocks / pieces * block; j < (piece + 1) * blocks / pieces * block; j += block)
            for (std::size_t diagonal = 0; diagonal < sums.size(); ++diagonal) {
                for (std::size_t t = 0; t < count; ++t) {
                    const double *a = giants[t][diagonal / g] + j, *b = babies[t][diagonal % g] + j;
                    a0[t] = a + limb * n, a1[t] = a + (limbs + limb) * n;
                    b0[t] = b + limb * n, b1[t] = b + (limbs + limb) * n;
                }
                kernels.dot_tensor(outs, a0.data(), a1.data(), b0.data(), b1.data(), count, block, m);
                for (std::size_t part = 0; part < 3; ++part) {
                    double* at = sums[diagonal] + (part * limbs + limb) * n + j;
                    kernels.add(at, at, sum[part], block, m);
                }
            }
    });
}

}  // namespace cipherlens
