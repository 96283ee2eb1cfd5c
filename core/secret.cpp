#include "secret.hpp"

#include <cmath>
#include <cstring>

#include "modular.hpp"
#include "parallel.hpp"

namespace cipherlens {

namespace {

std::vector<std::size_t> extended_indices(const Ring& ring, std::size_t limbs) {
    std::vector<std::size_t> indices;
    for (std::size_t at = 0; at < limbs + ring.special(); ++at) indices.push_back(ring.extended_index(at, limbs));
    return indices;
}

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

void encrypt(const Ring& ring, double* out, const double* message, const double* a, const std::int8_t* error,
             const double* secret, std::size_t limbs, int threads) {
    const std::size_t n = ring.n();
    parallel_for(threads, limbs, [&](std::size_t i, std::size_t) {
        mask(ring, out + i * n, a + i * n, error, secret, i);
        if (message != nullptr)
            ring.kernels().add(out + i * n, out + i * n, message + i * n, n, ring.modulus(i));
    });
}

void switching_key(const Ring& ring, double* key, const std::int8_t* errors, const double* source,
                   const double* target, std::size_t limbs, int threads) {
    const std::size_t n = ring.n(), width = limbs + ring.special(), count = ring.digits(limbs);
    parallel_for(threads, count * width, [&](std::size_t task, std::size_t) {
        const std::size_t d = task / width, at = task % width, prime = ring.extended_index(at, limbs);
        double* b = key + (2 * d * width + at) * n;
        mask(ring, b, b + width * n, errors + d * n, target, prime);
        if (at < limbs && prime / ring.digit() == d)
            ring.kernels().multiply_scalar(b, source + prime * n, ring.special_product(prime), b, n,
                                           ring.modulus(prime));
    });
}

void public_key(const Ring& ring, double* key, const std::int8_t* error, const double* secret, int threads) {
    const std::size_t n = ring.n(), width = ring.chain() + ring.special();
    parallel_for(threads, width, [&](std::size_t i, std::size_t) {
        mask(ring, key + i * n, key + (width + i) * n, error, secret, i);
    });
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
    const std::vector<std::size_t> indices = extended_indices(ring, limbs);
    const Buffer sums(ring.pool(), 2 * width * n);
    parallel_for(threads, width, [&](std::size_t at, std::size_t) {
        const Modulus& m = ring.modulus(indices[at]);
        const Buffer work(ring.pool(), 2 * n);
        double *const u = work.get(), *const product = u + n;
        transform(ring, u, ephemeral, indices[at]);
        for (std::size_t part = 0; part < 2; ++part) {
            double* sum = sums.get() + (part * width + at) * n;
            transform(ring, sum, part == 0 ? error0 : error1, indices[at]);
            ring.kernels().multiply(product, key + (part * width + at) * n, u, n, m);
            ring.kernels().add(sum, sum, product, n, m);
        }
    });
    ring.mod_down(out, sums.get(), 2, limbs, message, nullptr, 1, threads);
}

}  // namespace cipherlens
