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

constexpr std::size_t block = 512;  // words whose halves stay in the first-level cache

// x < 2^32 as a double: put below the 2^52 of a double's exponent, which vector units without such a conversion can do.
double from_half(std::uint64_t x) { return std::bit_cast<double>(x | 0x4330000000000000) - 0x1p52; }

// Residues of the words `begin` to `end` that are below `limit`, at most n; how many there were.
std::size_t one_by_one(double* limb, std::size_t n, const std::uint8_t* stream, std::size_t begin, std::size_t end,
                       std::uint64_t limit, const Modulus& m) {
    const std::uint64_t p = static_cast<std::uint64_t>(m.value);
    std::size_t filled = 0;
    for (std::size_t i = begin; i < end && filled < n; ++i) {
        const std::uint64_t word = word_at(stream, i);
        if (word < limit) limb[filled++] = centred(static_cast<std::int64_t>(word % p), m.value);
    }
    return filled;
}
}  // namespace

std::size_t sample_uniform(double* limb, std::size_t n, const std::uint8_t* stream, std::size_t words,
                           const Modulus& m, const Kernels& kernels) {
    const std::uint64_t p = static_cast<std::uint64_t>(m.value);
    const std::uint64_t limit = ~std::uint64_t{0} / p * p;  // 2^64 is no multiple of p, so this is floor(2^64/p) p
    const double shift = centred(static_cast<std::int64_t>((std::uint64_t{1} << 32) % p), m.value);
    std::size_t filled = 0, i = 0;
    // A word is 2^32 high + low, both halves canonical where p > 2^33: a product and a sum that the kernels know.
    if (m.value > std::int64_t{1} << 33) {
        double high[block], low[block];
        for (; i + block <= words && filled + block <= n; i += block) {
            bool skips = false;
            for (std::size_t j = 0; j < block; ++j) {
                const std::uint64_t word = word_at(stream, i + j);
                skips |= word >= limit;
                high[j] = from_half(word >> 32);
                low[j] = from_half(word & 0xffffffff);
            }
            if (skips) {  // one word in 2^14 at most, so one block in 32
                filled += one_by_one(limb + filled, block, stream, i, i + block, limit, m);
                continue;
            }
            kernels.multiply_scalar(limb + filled, high, shift, low, block, m);
            filled += block;
        }
    }
    return filled + one_by_one(limb + filled, n - filled, stream, i, words, limit, m);
}

void sample_ternary(std::int8_t* out, std::size_t n, const std::uint8_t* stream) {
    for (std::size_t i = 0; i < n; ++i) {
        const unsigned __int128 triple = static_cast<unsigned __int128>(word_at(stream, i)) * 3;
        out[i] = static_cast<std::int8_t>(static_cast<int>(triple >> 64) - 1);
    }
}

void sample_error(std::int8_t* out, std::size_t n, const std::uint8_t* stream) {
    // Both counts at once, one in each half of a word, in operations that every vector unit has.
    const std::uint64_t mask = (1u << 21) - 1;
    for (std::size_t i = 0; i < n; ++i) {
        const std::uint64_t word = word_at(stream, i);
        std::uint64_t bits = (word & mask) | (word >> 21 & mask) << 32;
        bits -= bits >> 1 & 0x5555555555555555;
        bits = (bits & 0x3333333333333333) + (bits >> 2 & 0x3333333333333333);
        bits = (bits + (bits >> 4)) & 0x0f0f0f0f0f0f0f0f;
        bits += bits >> 8;
        bits += bits >> 16;
        out[i] = static_cast<std::int8_t>((bits & 0xff) - (bits >> 32 & 0xff));
    }
}

}  // namespace cipherlens
