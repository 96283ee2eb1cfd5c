#include "secret.hpp"

#include <cmath>
#include <cstring>

#include "modular.hpp"
#include "parallel.hpp"

namespace cipherlens {

namespace {

// Small coefficients modulo one prime, NTT form.
void transform(const Ring& ring, double* limb, const std::int8_t* small, std::size_t prime) {
    for (std::size_t i = 0; i < ring.n(); ++i) limb[i] = small[i];
    ring.ntt(limb, prime);
}

}  // namespace

void small_to_ntt(const Ring& ring, double* out, const std::int8_t* small, const std::vector<std::size_t>& indices,
                  int threads) {
    parallel_for(threads, indices.size(), [&](std::size_t at, std::size_t) {
        transform(ring, out + at * ring.n(), small, indices[at]);
    });
}

namespace {
// b = error - a * secret modulo one prime.
void mask(const Ring& ring, double* b, const double* a, const std::int8_t* error, const double* secret,
          std::size_t prime) {
    const std::size_t n = ring.n();
    const Modulus& m = ring.modulus(prime);
    const Buffer product(ring.pool(), n);
    transform(ring, b, error, prime);
    ring.kernels().multiply(product.get(), a, secret + prime * n, n, m);
    ring.kernels().subtract(b, b, product.get(), n, m);
}
}  // namespace

void encrypt(const Ring& ring, double* out, double* a, const Streams& streams, const double* message,
             const std::int8_t* error, const double* secret, std::size_t limbs, int threads) {
    const std::size_t n = ring.n();
    const auto uniform = [&](std::size_t i) { return UniformLimb{a + i * n, i}; };
    const auto use = [&](std::size_t i) {
        mask(ring, out + i * n, a + i * n, error, secret, i);
        if (message != nullptr)
            ring.kernels().add(out + i * n, out + i * n, message + i * n, n, ring.modulus(i));
    };
    expand(ring, streams, limbs, uniform, use, threads);
}

void switching_key(const Ring& ring, double* key, const Streams& streams, const std::int8_t* errors,
                   const double* source, const double* target, std::size_t limbs, int threads) {
    const std::size_t n = ring.n(), width = limbs + ring.special(), count = ring.digits(limbs);
    const auto prime_of = [&](std::size_t task) { return ring.extended_index(task % width, limbs); };
    const auto half = [&](std::size_t task) { return key + (task / width * 2 * width + task % width) * n; };
    const auto uniform = [&](std::size_t task) { return UniformLimb{half(task) + width * n, prime_of(task)}; };
    const auto use = [&](std::size_t task) {
        const std::size_t d = task / width, at = task % width, prime = prime_of(task);
        double* b = half(task);
        mask(ring, b, b + width * n, errors + d * n, target, prime);
        if (at < limbs && prime / ring.digit() == d)
            ring.kernels().multiply_scalar(b, source + prime * n, ring.special_product(prime), b, n,
                                           ring.modulus(prime));
    };
    expand(ring, streams, count * width, uniform, use, threads);
}

void public_key(const Ring& ring, double* key, const Streams& streams, const std::int8_t* error, const double* secret,
                int threads) {
    const std::size_t n = ring.n(), width = ring.chain() + ring.special();
    const auto uniform = [&](std::size_t i) { return UniformLimb{key + (width + i) * n, i}; };
    const auto use = [&](std::size_t i) { mask(ring, key + i * n, key + (width + i) * n, error, secret, i); };
    expand(ring, streams, width, uniform, use, threads);
}

void secret_square(const Ring& ring, double* out, const double* secret, int threads) {
    const std::size_t n = ring.n();
    parallel_for(threads, ring.chain() + ring.special(), [&](std::size_t i, std::size_t) {
        ring.kernels().multiply(out + i * n, secret + i * n, secret + i * n, n, ring.modulus(i));
    });
}

void secret_automorphism(const Ring& ring, double* out, const double* secret, std::size_t galois, int threads) {
    const std::size_t n = ring.n();
    const auto source = ring.automorphism(galois);
    parallel_for(threads, ring.chain() + ring.special(), [&](std::size_t i, std::size_t) {
        ring.kernels().permute(out + i * n, secret + i * n, source->data(), galois, n);
    });
}

void decrypt(const Ring& ring, double* coefficients, const double* parts, std::size_t count, std::size_t limbs,
             const double* secret) {
    const std::size_t n = ring.n(), used = limbs < 2 ? limbs : 2;
    const Buffer values(ring.pool(), used * n);
    for (std::size_t i = 0; i < used; ++i) {
        const Modulus& m = ring.modulus(i);
        double* value = values.get() + i * n;  // Horner: ((c_k s + c_{k-1}) s + ...) + c_0
        std::memcpy(value, parts + ((count - 1) * limbs + i) * n, n * sizeof(double));
        for (std::size_t k = count - 1; k-- > 0;) {
            ring.kernels().multiply(value, value, secret + i * n, n, m);
            ring.kernels().add(value, value, parts + (k * limbs + i) * n, n, m);
        }
        ring.intt(value, i);
    }
    if (used == 1) {
        std::memcpy(coefficients, values.get(), n * sizeof(double));
        return;
    }
    // x = x0 + q0 * [(x1 - x0) / q0]_{q1} with centred digits, itself centred up to q0 / 2.
    const std::int64_t q0 = ring.modulus(0).value, q1 = ring.modulus(1).value;
    const std::int64_t inverse = inverse_mod(q0 % q1, q1);
    for (std::size_t i = 0; i < n; ++i) {
        const std::int64_t x0 = static_cast<std::int64_t>(values.get()[i]);
        std::int64_t difference = (static_cast<std::int64_t>(values.get()[n + i]) - x0) % q1;
        if (difference < 0) difference += q1;
        const std::int64_t digit = multiply_mod(difference, inverse, q1);
        const __int128 centred_digit = digit > (q1 - 1) / 2 ? digit - q1 : digit;
        coefficients[i] = static_cast<double>(centred_digit * q0 + x0);
    }
}

void public_encrypt(const Ring& ring, double* out, const double* message, const double* key, std::size_t limbs,
                    const std::int8_t* ephemeral, const std::int8_t* error0, const std::int8_t* error1, int threads) {
    const std::size_t n = ring.n(), width = limbs + ring.special();
    const auto sums = [&](std::size_t at, double* room, const double** limb) {
        const std::size_t prime = ring.extended_index(at, limbs);
        const Buffer u(ring.pool(), n);
        transform(ring, u.get(), ephemeral, prime);
        for (std::size_t part = 0; part < 2; ++part) {
            double* sum = room + part * n;
            transform(ring, sum, part == 0 ? error0 : error1, prime);
            ring.kernels().multiply_add(sum, key + (part * width + at) * n, u.get(), n, ring.modulus(prime));
            limb[part] = sum;
        }
    };
    ring.mod_down(out, sums, 2, limbs, message, nullptr, 1, threads);
}

}  // namespace cipherlens
