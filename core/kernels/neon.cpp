// Two lanes: NEON of AArch64, whose fused multiply-add is part of the base instruction set.
#include <arm_neon.h>

#include "kernels.hpp"

namespace cipherlens::neon {

typedef float64x2_t V;
static constexpr std::size_t lanes = 2;

static inline V load(const double* x) { return vld1q_f64(x); }
static inline void store(double* x, V a) { vst1q_f64(x, a); }
static inline V set1(double x) { return vdupq_n_f64(x); }
static inline V add(V a, V b) { return vaddq_f64(a, b); }
static inline V sub(V a, V b) { return vsubq_f64(a, b); }
static inline V mul(V a, V b) { return vmulq_f64(a, b); }
static inline V fma(V a, V b, V c) { return vfmaq_f64(c, a, b); }
static inline V fms(V a, V b, V c) { return vfmaq_f64(vnegq_f64(c), a, b); }
static inline V fnma(V a, V b, V c) { return vfmsq_f64(c, a, b); }

#include "lanes_fma.hpp"

// Eight contiguous elements: vector k receives the elements whose index is k modulo 4.
static inline void deinterleave4(V& a, V& b, V& c, V& d) {
    const V a0 = vzip1q_f64(a, c), b0 = vzip2q_f64(a, c), c0 = vzip1q_f64(b, d), d0 = vzip2q_f64(b, d);
    a = a0, b = b0, c = c0, d = d0;
}
static inline void interleave4(V& a, V& b, V& c, V& d) {
    const V a0 = vzip1q_f64(a, b), b0 = vzip1q_f64(c, d), c0 = vzip2q_f64(a, b), d0 = vzip2q_f64(c, d);
    a = a0, b = b0, c = c0, d = d0;
}
static inline void load_pairs(const double* x, V& even, V& odd) {
    const V a = load(x), b = load(x + 2);
    even = vzip1q_f64(a, b);
    odd = vzip2q_f64(a, b);
}
static inline V load_reversed(const double* end) {
    const V a = load(end - 2);
    return vextq_f64(a, a, 1);
}
static inline void load_pairs_reversed(const double* end, V& even, V& odd) {
    const V a = load(end - 4), b = load(end - 2);
    even = vzip2q_f64(b, a);
    odd = vzip1q_f64(b, a);
}

// Lane k receives lane order[k].
typedef uint8x16_t Shuffle;
static inline Shuffle make_shuffle(const std::size_t* order) {
    std::uint8_t bytes[16];
    for (int k = 0; k < 16; ++k) bytes[k] = static_cast<std::uint8_t>(8 * order[k / 8] + static_cast<std::size_t>(k % 8));
    return vld1q_u8(bytes);
}
static inline V shuffle(V a, Shuffle order) {
    return vreinterpretq_f64_u8(vqtbl1q_u8(vreinterpretq_u8_f64(a), order));
}

#include "kernels_body.hpp"

}  // namespace cipherlens::neon

const cipherlens::Kernels& cipherlens::neon_kernels() {
    static constexpr Kernels table = CIPHERLENS_KERNEL_TABLE(cipherlens::neon, "neon");
    return table;
}
