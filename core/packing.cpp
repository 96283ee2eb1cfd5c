#include "packing.hpp"

#include "modular.hpp"

namespace cipherlens {

void pack(std::uint8_t* out, const double* limb, std::size_t n, const Modulus& m) {
    unsigned __int128 window = 0;
    int filled = 0;
    for (std::size_t i = 0; i < n; ++i) {
        const std::int64_t x = static_cast<std::int64_t>(limb[i]);
        window |= static_cast<unsigned __int128>(x < 0 ? x + m.value : x) << filled;
        for (filled += m.bits; filled >= 8; filled -= 8, window >>= 8) *out++ = static_cast<std::uint8_t>(window);
    }
}

bool unpack(double* limb, const std::uint8_t* bytes, std::size_t n, const Modulus& m) {
    const std::uint64_t mask = (std::uint64_t{1} << m.bits) - 1;
    std::uint64_t window = 0;
    int filled = 0;
    bool valid = true;
    for (std::size_t i = 0; i < n; ++i) {
        for (; filled < m.bits; filled += 8) window |= static_cast<std::uint64_t>(*bytes++) << filled;  // <= 57 bits
        const std::int64_t x = static_cast<std::int64_t>(window & mask);
        window >>= m.bits;
        filled -= m.bits;
        valid &= x < m.value;
        limb[i] = centred(x, m.value);
    }
    return valid;
}

}  // namespace cipherlens
