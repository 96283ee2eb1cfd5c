// Four lanes: AVX2 with FMA3. Nothing but intrinsics is included here, so that no inline function of the standard
// library is ever compiled with these flags and then picked by the linker for a machine that lacks them.
#include <immintrin.h>

#include "kernels.hpp"

namespace cipherlens::avx2 {

typedef __m256d V;
static constexpr std::size_t lanes = 4;

static inline V load(const double* x) { return _mm256_loadu_pd(x); }
static inline void store(double* x, V a) { _mm256_storeu_pd(x, a); }
static inline V set1(double x) { return _mm256_set1_pd(x); }
static inline V add(V a, V b) { return _mm256_add_pd(a, b); }
static inline V sub(V a, V b) { return _mm256_sub_pd(a, b); }
static inline V mul(V a, V b) { return _mm256_mul_pd(a, b); }
static inline V fma(V a, V b, V c) { return _mm256_fmadd_pd(a, b, c); }
static inline V fms(V a, V b, V c) { return _mm256_fmsub_pd(a, b, c); }
static inline V fnma(V a, V b, V c) { return _mm256_fnmadd_pd(a, b, c); }

#include "lanes_fma.hpp"

// A 4 x 4 transpose: vector k receives the elements whose index is k modulo 4. It is its own inverse.
static inline void deinterleave4(V& a, V& b, V& c, V& d) {
    const V ab0 = _mm256_unpacklo_pd(a, b), ab1 = _mm256_unpackhi_pd(a, b);
    const V cd0 = _mm256_unpacklo_pd(c, d), cd1 = _mm256_unpackhi_pd(c, d);
    a = _mm256_permute2f128_pd(ab0, cd0, 0x20);
    b = _mm256_permute2f128_pd(ab1, cd1, 0x20);
    c = _mm256_permute2f128_pd(ab0, cd0, 0x31);
    d = _mm256_permute2f128_pd(ab1, cd1, 0x31);
}
static inline void interleave4(V& a, V& b, V& c, V& d) { deinterleave4(a, b, c, d); }

static inline void load_pairs(const double* x, V& even, V& odd) {
    const V a = _mm256_permute4x64_pd(load(x), 0xD8), b = _mm256_permute4x64_pd(load(x + 4), 0xD8);  // 0 2 1 3
    even = _mm256_permute2f128_pd(a, b, 0x20);
    odd = _mm256_permute2f128_pd(a, b, 0x31);
}
static inline V load_reversed(const double* end) { return _mm256_permute4x64_pd(load(end - 4), 0x1B); }
// Pairs walked from the end: even = end[-1], end[-3], ..., odd = end[-2], end[-4], ...
static inline void load_pairs_reversed(const double* end, V& even, V& odd) {
    V low, high;
    load_pairs(end - 8, low, high);
    even = _mm256_permute4x64_pd(high, 0x1B);
    odd = _mm256_permute4x64_pd(low, 0x1B);
}

// Lane k receives lane order[k].
typedef __m256i Shuffle;
static inline Shuffle make_shuffle(const std::size_t* order) {
    int half[8];
    for (int k = 0; k < 8; ++k) half[k] = 2 * static_cast<int>(order[k / 2]) + k % 2;
    return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(half));
}
static inline V shuffle(V a, Shuffle order) {
    return _mm256_castps_pd(_mm256_permutevar8x32_ps(_mm256_castpd_ps(a), order));
}

#include "kernels_body.hpp"

}  // namespace cipherlens::avx2

const cipherlens::Kernels& cipherlens::avx2_kernels() {
    static constexpr Kernels table = CIPHERLENS_KERNEL_TABLE(cipherlens::avx2, "avx2");
    return table;
}
