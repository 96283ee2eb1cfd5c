// The table of vector kernels: one entry for each primitive, one table for each instruction set.
//
// A residue is a double that holds an integer. Canonical means centred: |x| <= (p - 1) / 2, which is unique
// because p is odd. Every kernel takes and returns canonical residues unless its comment says otherwise.
// All kernels work on n coefficients of one limb, n a multiple of 32; transforms on n >= 64.
#pragma once

#include <cstddef>
#include <cstdint>

namespace cipherlens {

struct Modulus {
    double p;            // an odd prime, 2^25 < p < 2^50
    double inverse;      // 1 / p, rounded to nearest
    std::int64_t value;  // p as an integer
    int bits;            // the bit length of p
};

struct Kernels {
    const char* name;

    // Forward negacyclic NTT, in place: output i is the value at psi^(2 brv(i) + 1). roots[i] = psi^brv(i), canonical.
    // It comes in two steps, so that a caller can take the first one while it still has the input in its cache.
    // The head is one pass over columns: coefficients j + k n / ntt_rows(n) of one column j interact. Input |x| <= 1.5 p;
    // the tail does the rest and ends canonical.
    void (*ntt_head)(double* x, const double* roots, std::size_t n, std::size_t column, std::size_t columns,
                     const Modulus& m);
    void (*ntt_tail)(double* x, const double* roots, std::size_t n, const Modulus& m);
    // Inverse NTT of x into out (which may be x), then a product with `factor` (which includes 1/n).
    void (*intt)(double* out, const double* x, const double* roots, std::size_t n, const Modulus& m, double factor);

    void (*add)(double* out, const double* a, const double* b, std::size_t n, const Modulus& m);
    void (*subtract)(double* out, const double* a, const double* b, std::size_t n, const Modulus& m);
    void (*multiply)(double* out, const double* a, const double* b, std::size_t n, const Modulus& m);
    // a * c + b; b may be null.
    void (*multiply_scalar)(double* out, const double* a, double c, const double* b, std::size_t n, const Modulus& m);
    // out += a * b
    void (*multiply_add)(double* out, const double* a, const double* b, std::size_t n, const Modulus& m);
    // (a - b) * c + d; d may be null. Ends every division by a product of primes.
    void (*subtract_multiply)(double* out, const double* a, const double* b, double c, const double* d, std::size_t n,
                              const Modulus& m);
    // out[i] = in[source[i] mod n], `source` the table of the automorphism X -> X^galois, or a part of it for an aligned
    // block of n values, n a power of two. An automorphism takes aligned blocks of any power of two to such blocks, and
    // where the first of `lanes` values comes from says how the others lie: one index serves a whole vector.
    void (*permute)(double* out, const double* in, const std::uint32_t* source, std::size_t galois, std::size_t n);
    // out[r] += b[r] * a permuted, for each of `rows` sums.
    void (*permuted_multiply_add)(double* const* out, const double* a, const std::uint32_t* source, std::size_t galois,
                                  const double* const* b, std::size_t rows, std::size_t n, const Modulus& m);
    // Integers |x| < 2^52 to canonical residues.
    void (*reduce)(double* out, const double* x, std::size_t n, const Modulus& m);

    // sum_t a[t] * b[t]
    void (*dot)(double* out, const double* const* a, const double* const* b, std::size_t terms, std::size_t n,
                const Modulus& m);
    // out0 = sum_t a[t] * b0[t], out1 = sum_t a[t] * b1[t]: the inner product of a key switch.
    void (*dot_pair)(double* out0, double* out1, const double* const* a, const double* const* b0,
                     const double* const* b1, std::size_t terms, std::size_t n, const Modulus& m);
    // sum_t y[t] * c[t] with y[t] canonical for another prime below 2^50: fast base conversion. Not canonical but
    // below 1.5 p, if `lazy`, which an NTT takes.
    void (*dot_scalar)(double* out, const double* const* y, const double* c, std::size_t terms, std::size_t n,
                       const Modulus& m, bool lazy);
    // Sums of tensor products: out0 = sum a0 b0, out1 = sum a0 b1 + a1 b0, out2 = sum a1 b1.
    void (*dot_tensor)(double* const* out, const double* const* a0, const double* const* a1, const double* const* b0,
                       const double* const* b1, std::size_t terms, std::size_t n, const Modulus& m);
};

// Rows of the head of a forward NTT: 4 when log2 n is even, else 2, so that the tail's blocks are powers of four. The
// shortest transform, 64, has no head: a quarter of it would be too short for eight lanes. Static, because files
// compiled for different instruction sets include it: each has a copy of its own, and none is picked by the linker.
static inline std::size_t ntt_rows(std::size_t n) {
    if (n <= 64) return 1;
    return (n & 0x5555555555555555ull) != 0 ? 4 : 2;
}

const Kernels& portable_kernels();
#if defined(CIPHERLENS_X86)
const Kernels& avx2_kernels();
const Kernels& avx512_kernels();
#endif
#if defined(CIPHERLENS_NEON)
const Kernels& neon_kernels();
#endif

}  // namespace cipherlens
