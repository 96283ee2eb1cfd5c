#include "modular.hpp"

#include <stdexcept>
#include <string>

namespace cipherlens {

Modulus make_modulus(std::int64_t p) {
    if (p % 2 == 0 || p <= (1ll << 25) || p >= (1ll << 50))
        throw std::invalid_argument("a modulus must be an odd prime between 2^25 and 2^50, not " + std::to_string(p));
    int bits = 0;
    while ((p >> bits) != 0) ++bits;
    return {static_cast<double>(p), 1.0 / static_cast<double>(p), p, bits};
}

std::int64_t multiply_mod(std::int64_t a, std::int64_t b, std::int64_t p) {
    return static_cast<std::int64_t>(static_cast<unsigned __int128>(a) * static_cast<unsigned __int128>(b) %
                                     static_cast<unsigned __int128>(p));
}

std::int64_t power_mod(std::int64_t base, std::uint64_t exponent, std::int64_t p) {
    std::int64_t result = 1 % p;
    for (base %= p; exponent != 0; exponent >>= 1, base = multiply_mod(base, base, p))
        if (exponent & 1) result = multiply_mod(result, base, p);
    return result;
}

std::int64_t inverse_mod(std::int64_t a, std::int64_t p) {
    return power_mod(a, static_cast<std::uint64_t>(p - 2), p);
}

std::int64_t primitive_root(std::int64_t p, std::size_t n) {
    const std::int64_t order = static_cast<std::int64_t>(2 * n);
    if ((p - 1) % order != 0)
        throw std::invalid_argument("the prime " + std::to_string(p) + " is not 1 modulo " + std::to_string(order));
    for (std::int64_t g = 2; g < 1000; ++g) {
        if (power_mod(g, static_cast<std::uint64_t>((p - 1) / 2), p) != p - 1) continue;
        return power_mod(g, static_cast<std::uint64_t>((p - 1) / order), p);
    }
    throw std::invalid_argument(std::to_string(p) + " is not prime");
}

std::size_t reverse_bits(std::size_t i, int bits) {
    std::size_t result = 0;
    for (int k = 0; k < bits; ++k, i >>= 1) result = (result << 1) | (i & 1);
    return result;
}

int log2_exact(std::size_t n) {
    int bits = 0;
    while ((std::size_t{1} << bits) < n) ++bits;
    if (n == 0 || (std::size_t{1} << bits) != n) throw std::invalid_argument("not a power of two");
    return bits;
}

std::vector<double> root_table(const Modulus& m, std::size_t n) {
    const int bits = log2_exact(n);
    const std::int64_t psi = primitive_root(m.value, n);
    std::vector<double> table(n);
    std::int64_t power = 1;
    for (std::size_t e = 0; e < n; ++e, power = multiply_mod(power, psi, m.value))
        table[reverse_bits(e, bits)] = centred(power, m.value);
    return table;
}

std::vector<std::uint32_t> automorphism_table(std::size_t n, std::size_t galois) {
    const int bits = log2_exact(n);
    std::vector<std::uint32_t> table(n);
    for (std::size_t i = 0; i < n; ++i) {
        const std::size_t exponent = (2 * reverse_bits(i, bits) + 1) * galois % (2 * n);
        table[i] = static_cast<std::uint32_t>(reverse_bits((exponent - 1) / 2, bits));
    }
    return table;
}

}  // namespace cipherlens
