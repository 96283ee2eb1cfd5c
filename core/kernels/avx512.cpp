// Eight lanes: AVX-512 F and DQ. See avx2.cpp for why only intrinsics are included.
#include <immintrin.h>

#include "kernels.hpp"

#define CIPHERLENS_EIGHT_LANES

namespace cipherlens::avx512 {

typedef __m512d V;
static constexpr std::size_t lanes = 8;

static inline V load(const double* x) { return _mm512_loadu_pd(x); }
static inline void store(double* x, V a) { _mm512_storeu_pd(x, a); }
static inline V set1(double x) { return _mm512_set1_pd(x); }
static inline V add(V a, V b) { return _mm512_add_pd(a, b); }
static inline V sub(V a, V b) { return _mm512_sub_pd(a, b); }
static inline V mul(V a, V b) { return _mm512_mul_pd(a, b); }
static inline V fma(V a, V b, V c) { return _mm512_fmadd_pd(a, b, c); }
static inline V fms(V a, V b, V c) { return _mm512_fmsub_pd(a, b, c); }
static inline V fnma(V a, V b, V c) { return _mm512_fnmadd_pd(a, b, c); }

#include "lanes_fma.hpp"

static inline V pick(V a, V b, long long i0, long long i1, long long i2, long long i3, long long i4, long long i5,
                     long long i6, long long i7) {
    return _mm512_permutex2var_pd(a, _mm512_setr_epi64(i0, i1, i2, i3, i4, i5, i6, i7), b);
}

// Vector k receives the elements whose index is k modulo 4.
static inline void deinterleave4(V& a, V& b, V& c, V& d) {
    const V ab01 = pick(a, b, 0, 4, 8, 12, 1, 5, 9, 13), ab23 = pick(a, b, 2, 6, 10, 14, 3, 7, 11, 15);
    const V cd01 = pick(c, d, 0, 4, 8, 12, 1, 5, 9, 13), cd23 = pick(c, d, 2, 6, 10, 14, 3, 7, 11, 15);
    a = _mm512_shuffle_f64x2(ab01, cd01, 0x44);
    b = _mm512_shuffle_f64x2(ab01, cd01, 0xEE);
    c = _mm512_shuffle_f64x2(ab23, cd23, 0x44);
    d = _mm512_shuffle_f64x2(ab23, cd23, 0xEE);
}
static inline void interleave4(V& a, V& b, V& c, V& d) {
    const V ab01 = _mm512_shuffle_f64x2(a, b, 0x44), cd01 = _mm512_shuffle_f64x2(a, b, 0xEE);
    const V ab23 = _mm512_shuffle_f64x2(c, d, 0x44), cd23 = _mm512_shuffle_f64x2(c, d, 0xEE);
    a = pick(ab01, ab23, 0, 4, 8, 12, 1, 5, 9, 13);
    b = pick(ab01, ab23, 2, 6, 10, 14, 3, 7, 11, 15);
    c = pick(cd01, cd23, 0, 4, 8, 12, 1, 5, 9, 13);
    d = pick(cd01, cd23, 2, 6, 10, 14, 3, 7, 11, 15);
}

// Two groups of 16 elements, each a 4 x 4 matrix in rows of 4: vector k receives row k of both groups.
static inline void group_rows(V& a, V& b, V& c, V& d) {
    const V r0 = _mm512_shuffle_f64x2(a, c, 0x44), r1 = _mm512_shuffle_f64x2(a, c, 0xEE);
    const V r2 = _mm512_shuffle_f64x2(b, d, 0x44), r3 = _mm512_shuffle_f64x2(b, d, 0xEE);
    a = r0, b = r1, c = r2, d = r3;
}
static inline void ungroup_rows(V& a, V& b, V& c, V& d) {
    const V x0 = _mm512_shuffle_f64x2(a, b, 0x44), x2 = _mm512_shuffle_f64x2(a, b, 0xEE);
    const V x1 = _mm512_shuffle_f64x2(c, d, 0x44), x3 = _mm512_shuffle_f64x2(c, d, 0xEE);
    a = x0, b = x1, c = x2, d = x3;
}
static inline V two_groups(double first, double second) {
    return _mm512_insertf64x4(_mm512_set1_pd(first), _mm256_set1_pd(second), 1);
}

static inline V reversed(V a) { return _mm512_permutexvar_pd(_mm512_setr_epi64(7, 6, 5, 4, 3, 2, 1, 0), a); }
static inline void load_pairs(const double* x, V& even, V& odd) {
    const V a = load(x), b = load(x + 8);
    even = pick(a, b, 0, 2, 4, 6, 8, 10, 12, 14);
    odd = pick(a, b, 1, 3, 5, 7, 9, 11, 13, 15);
}
static inline V load_reversed(const double* end) { return reversed(load(end - 8)); }
static inline void load_pairs_reversed(const double* end, V& even, V& odd) {
    V low, high;
    load_pairs(end - 16, low, high);
    even = reversed(high);
    odd = reversed(low);
}

// Lane k receives lane order[k].
typedef __m512i Shuffle;
static inline Shuffle make_shuffle(const std::size_t* order) { return _mm512_loadu_si512(order); }
static inline V shuffle(V a, Shuffle order) { return _mm512_permutexvar_pd(order, a); }

#include "kernels_body.hpp"

}  // namespace cipherlens::avx512

const cipherlens::Kernels& cipherlens::avx512_kernels() {
    static constexpr Kernels table = CIPHERLENS_KERNEL_TABLE(cipherlens::avx512, "avx512");
    return table;
}
