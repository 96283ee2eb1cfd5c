#include "secret.hpp"

#include <cmath>
#include <cstring>

#include "modular.hpp"
#include "parallel.hpp"

namespace cipherlens {

namespace {

// Arrays that held a secret are cleared before they are freed.
class SecretBuffer {
  public:
    explicit SecretBuffer(std::size_t count) : data_(count) {}
    SecretBuffer(const SecretBuffer&) = delete;
    SecretBuffer& operator=(const SecretBuffer&) = delete;
    ~SecretBuffer() {
        volatile double* at = data_.data();
        for (std::size_t i = 0; i < data_.size(); ++i) at[i] = 0;
    }
    double* get() { return data_.data(); }

  private:
    std::vector<double> data_;
};

std::vector<std::size_t> extended_indices(const Ring& ring, std::size_t limbs) {
    std::vector<std::size_t> indices;
    for (std::size_t at = 0; at < limbs + ring.special(); ++at) indices.push_back(ring.extended_index(at, limbs));
    return indices;
}

}  // namespace

void small_to_ntt(const Ring& ring, double* out, const std::int8_t* small, const std::vector<std::size_t>& indices,
                  int threads) {
    const std::size_t n = ring.n();
    parallel_for(threads, indices.size(), [&](std::size_t at, std::size_t) {
        double* limb = out + at * n;
        for (std::size_t i = 0; i < n; ++i) limb[i] = small[i];
        ring.ntt(limb, indices[at]);
    });
}

namespace {
// b = error - a * secret modulo one prime.
void mask(const Ring& ring, double* b, const double* a, const std::int8_t* error, const double* secret,
          std::size_t prime) {
    const std::size_t n = ring.n();
    const Modulus& m = ring.modulus(prime);
    SecretBuffer product(n);
    for (std::size_t i = 0; i < n; ++i) b[i] = error[i];
    ring.ntt(b, prime);
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
    SecretBuffer values(used * n);
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
    SecretBuffer u(width * n), sums(2 * width * n);
    small_to_ntt(ring, u.get(), ephemeral, indices, threads);
    small_to_ntt(ring, sums.get(), error0, indices, threads);
    small_to_ntt(ring, sums.get() + width * n, error1, indices, threads);
    parallel_for(threads, 2 * width, [&](std::size_t task, std::size_t) {
        const std::size_t at = task % width;
        const Modulus& m = ring.modulus(indices[at]);
        double* sum = sums.get() + task * n;
        SecretBuffer product(n);
        ring.kernels().multiply(product.get(), key + task * n, u.get() + at * n, n, m);
        ring.kernels().add(sum, sum, product.get(), n, m);
    });
    ring.mod_down(out, sums.get(), 2, limbs, message, nullptr, 1, threads);
}

}  // namespace cipherlens
