#include "sampling.hpp"

#include <bit>
#include <cstring>

#include "modular.hpp"

namespace cipherlens {

namespace {
std::uint64_t word_at(const std::uint8_t* stream, std::size_t i) {  // little-endian on every machine
    std::uint64_t word = 0;
    if constexpr (std::endian::native == std::endian::little) {
        std::memcpy(&word, stream + 8 * i, sizeof word);
        return word;
    }
    for (int b = 7; b >= 0; --b) word = (word << 8) | stream[8 * i + static_cast<std::size_t>(b)];
    return word;
}
}  // namespace

std::size_t sample_uniform(double* limb, std::size_t n, const std::uint8_t* stream, std::size_t words,
                           const Modulus& m) {
    const std::uint64_t p = static_cast<std::uint64_t>(m.value);
    const std::uint64_t limit = ~std::uint64_t{0} / p * p;  // 2^64 is no multiple of p, so this is floor(2^64/p) p
    const std::uint64_t reciprocal = ~std::uint64_t{0} / p;
    const std::int64_t half = (m.value - 1) / 2;
    std::size_t filled = 0;
    for (std::size_t i = 0; i < words && filled < n; ++i) {
        const std::uint64_t word = word_at(stream, i);
        // word mod p without a division (Barrett): with M = floor(2^64 / p), word / p - word M / 2^64 lies in [0, 1), so
        // that the quotient is at most one too small, and the remainder below 2 p. Nothing here is a jump: a word that is
        // skipped is written over by the next.
        const auto quotient = static_cast<std::uint64_t>(static_cast<unsigned __int128>(word) * reciprocal >> 64);
        std::int64_t r = static_cast<std::int64_t>(word - quotient * p);
        r -= r > half ? m.value : 0;
        r -= r > half ? m.value : 0;
        limb[filled] = static_cast<double>(r);
        filled += word < limit;
    }
    return filled;
}

void sample_ternary(std::int8_t* out, std::size_t n, const std::uint8_t* stream) {
    for (std::size_t i = 0; i < n; ++i) {
        const unsigned __int128 triple = static_cast<unsigned __int128>(word_at(stream, i)) * 3;
        out[i] = static_cast<std::int8_t>(static_cast<int>(triple >> 64) - 1);
    }
}

void sample_error(std::int8_t* out, std::size_t n, const std::uint8_t* stream) {
    const std::uint64_t mask = (1u << 21) - 1;
    for (std::size_t i = 0; i < n; ++i) {
        const std::uint64_t word = word_at(stream, i);
        out[i] = static_cast<std::int8_t>(__builtin_popcountll(word & mask) - __builtin_popcountll((word >> 21) & mask));
    }
}

}  // namespace cipherlens
