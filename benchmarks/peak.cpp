// The most fused multiply-adds that one core starts in a second, on vectors of four doubles and, where the machine has
// them, of eight: chains that do not depend on each other, no memory. benchmarks/limits.py compiles and runs it.
#include <immintrin.h>

#include <chrono>
#include <cstdio>

namespace {

// Twelve chains hide a latency of four or five cycles on two units.
constexpr int chains = 12;
constexpr long rounds = 1 << 15;  // below a millisecond: some run is never interrupted

template <typename F>
double most_per_second(const F& run) {
    double best = 0;
    for (int i = 0; i < 500; ++i) {
        const auto start = std::chrono::steady_clock::now();
        run();
        const std::chrono::duration<double> taken = std::chrono::steady_clock::now() - start;
        const double rate = chains * static_cast<double>(rounds) / taken.count();
        best = rate > best ? rate : best;
    }
    return best;
}

volatile double sink;

__attribute__((target("avx2,fma"))) void four_lanes() {
    __m256d x[chains], a = _mm256_set1_pd(1.0 - 1e-9), b = _mm256_set1_pd(1e-9);
    for (auto& chain : x) chain = a;
    for (long i = 0; i < rounds; ++i)
#pragma GCC unroll 12
        for (auto& chain : x) chain = _mm256_fmadd_pd(chain, a, b);
    for (const auto& chain : x) sink = _mm256_cvtsd_f64(chain);
}

__attribute__((target("avx512f"))) void eight_lanes() {
    __m512d x[chains], a = _mm512_set1_pd(1.0 - 1e-9), b = _mm512_set1_pd(1e-9);
    for (auto& chain : x) chain = a;
    for (long i = 0; i < rounds; ++i)
#pragma GCC unroll 12
        for (auto& chain : x) chain = _mm512_fmadd_pd(chain, a, b);
    for (const auto& chain : x) sink = _mm512_cvtsd_f64(chain);
}

}  // namespace

int main() {
    __builtin_cpu_init();
    std::printf("{");
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
        std::printf("\"avx2\": %.0f", most_per_second(four_lanes));
    if (__builtin_cpu_supports("avx512f")) std::printf(", \"avx512\": %.0f", most_per_second(eight_lanes));
    std::printf("}\n");
}
