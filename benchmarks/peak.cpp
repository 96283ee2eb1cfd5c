// What a machine gives at most, on registers alone; benchmarks/machine.py compiles and runs it.
//
//   peak rates    fused multiply-adds that one core starts in a second, on vectors of four doubles and, where the machine
//                 has them, of eight: chains that do not depend on each other
//   peak threads  how many times as fast two threads are as one with the same arithmetic
#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <thread>
#include <vector>

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

#if defined(__x86_64__)
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
#endif

void print_rates() {
    std::printf("{");
#if defined(__x86_64__)
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
        std::printf("\"avx2\": %.0f", most_per_second(four_lanes));
    if (__builtin_cpu_supports("avx512f")) std::printf(", \"avx512\": %.0f", most_per_second(eight_lanes));
#endif
    std::printf("}\n");
}

void scalar(long count) {
    double x[chains];
    for (double& chain : x) chain = 1.0 - 1e-9;
    for (long i = 0; i < count; ++i)
        for (double& chain : x) chain = chain * (1.0 - 1e-9) + 1e-9;
    double sum = 0;
    for (const double& chain : x) sum += chain;
    sink = sum;
}

double seconds(int threads, long count) {
    const auto start = std::chrono::steady_clock::now();
    if (threads == 2) {
        std::thread other([&] { scalar(count / 2); });
        scalar(count / 2);
        other.join();
    } else {
        scalar(count);
    }
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

void print_gain() {
    constexpr long count = rounds * 100;  // some 20 ms: threads start in a hundredth of it
    constexpr std::size_t pairs = 200;
    std::vector<double> gains;
    for (std::size_t i = 0; i < pairs; ++i) {
        const double one = seconds(1, count);
        gains.push_back(one / seconds(2, count));
    }
    std::sort(gains.begin(), gains.end());
    std::printf("{\"median\": %.3f, \"ninth_of_ten\": %.3f}\n", gains[pairs / 2], gains[pairs / 10]);
}

}  // namespace

int main(int argc, char** argv) {
    if (argc > 1 && std::strcmp(argv[1], "threads") == 0)
        print_gain();
    else
        print_rates();
}
