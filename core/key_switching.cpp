// Hybrid key switching (Han, Ki, "Better bootstrapping for approximate homomorphic encryption", ePrint 2019/688,
// section 3): c is cut into digits modulo groups of primes, each digit is extended to all primes, multiplied with the
// key, and the sum is divided by the product P of the special primes.
//
// Keys for an automorphism are made for the secret *before* it: the inner product is taken on unrotated digits and
// the sum is permuted once at the end. So a rotation after hoisting is the same function as a single one.
#include <cstring>

#include "parallel.hpp"
#include "ring.hpp"

namespace cipherlens {

std::vector<std::size_t> Ring::digit_primes(std::size_t digit, std::size_t limbs) const {
    std::vector<std::size_t> primes;
    for (std::size_t i = digit * digit_; i < (digit + 1) * digit_ && i < limbs; ++i) primes.push_back(i);
    return primes;
}

// One conversion serves a digit at every level: its targets are all primes, whichever of them are in use.
std::shared_ptr<const BaseConversion> Ring::digit_conversion(std::size_t digit, std::size_t limbs) const {
    std::vector<std::size_t> all;
    for (std::size_t i = 0; i < moduli_.size(); ++i) all.push_back(i);
    return conversion(digit_primes(digit, limbs), all);
}

void Ring::scaled_coefficients(double* y, const double* c, std::size_t limbs, int threads) const {
    std::vector<double> factors;
    for (std::size_t d = 0; d < digits(limbs); ++d)
        for (double factor : digit_conversion(d, limbs)->from_factor) factors.push_back(factor);
    parallel_for(threads, limbs, [&](std::size_t i, std::size_t) {
        std::memcpy(y + i * n_, c + i * n_, n_ * sizeof(double));
        intt(y + i * n_, i, factors[i]);
    });
}

void Ring::extend_digit(double* out, const double* c, const double* y, std::size_t digit, std::size_t limbs,
                        std::size_t target) const {
    const auto constants = digit_conversion(digit, limbs);
    const std::size_t first = digit * digit_, count = constants->from.size();
    if (target >= first && target < first + count) {
        std::memcpy(out, c + target * n_, n_ * sizeof(double));
        return;
    }
    std::vector<const double*> sources;
    for (std::size_t i = 0; i < count; ++i) sources.push_back(y + (first + i) * n_);
    kernels_.dot_scalar(out, sources.data(), constants->matrix[target].data(), count, n_, moduli_[target]);
    ntt(out, target);
}

void Ring::decompose(double* out, const double* c, std::size_t limbs, int threads) const {
    const std::size_t count = digits(limbs), width = limbs + special_;
    const Buffer y(pool_, limbs * n_);
    scaled_coefficients(y.get(), c, limbs, threads);
    parallel_for(threads, count * width, [&](std::size_t task, std::size_t) {
        const std::size_t at = task % width;
        extend_digit(out + task * n_, c, y.get(), task / width, limbs, extended_index(at, limbs));
    });
}

void Ring::inner_product(double* out, const double* digit_limbs, std::size_t limbs, const double* key,
                         std::size_t key_limbs, int threads) const {
    const std::size_t count = digits(limbs), width = limbs + special_, key_width = key_limbs + special_;
    parallel_for(threads, width, [&](std::size_t at, std::size_t) {
        const std::size_t key_at = at < limbs ? at : key_limbs + (at - limbs);
        std::vector<const double*> a, b0, b1;
        for (std::size_t d = 0; d < count; ++d) {
            a.push_back(digit_limbs + (d * width + at) * n_);
            b0.push_back(key + (2 * d * key_width + key_at) * n_);
            b1.push_back(key + ((2 * d + 1) * key_width + key_at) * n_);
        }
        kernels_.dot_pair(out + at * n_, out + (width + at) * n_, a.data(), b0.data(), b1.data(), count, n_,
                          moduli_[extended_index(at, limbs)]);
    });
}

void Ring::mod_down(double* out, const double* extended, std::size_t limbs, const double* add0, const double* add1,
                    std::size_t galois, int threads) const {
    const std::size_t width = limbs + special_;
    std::vector<std::size_t> from, to;
    for (std::size_t i = 0; i < special_; ++i) from.push_back(chain() + i);
    for (std::size_t i = 0; i < limbs; ++i) to.push_back(i);
    const auto constants = conversion(from, to);
    const auto source = automorphism(galois);
    const Buffer y(pool_, 2 * special_ * n_);
    parallel_for(threads, 2 * special_, [&](std::size_t task, std::size_t) {
        const std::size_t part = task / special_, i = task % special_;
        double* limb = y.get() + task * n_;
        std::memcpy(limb, extended + (part * width + limbs + i) * n_, n_ * sizeof(double));
        intt(limb, chain() + i, constants->from_factor[i]);
    });
    parallel_for(threads, 2 * limbs, [&](std::size_t task, std::size_t) {
        const std::size_t part = task / limbs, j = task % limbs;
        std::vector<const double*> sources;
        for (std::size_t i = 0; i < special_; ++i) sources.push_back(y.get() + (part * special_ + i) * n_);
        const double* addend = part == 0 ? add0 : add1;
        const Buffer work(pool_, n_);
        kernels_.dot_scalar(work.get(), sources.data(), constants->matrix[j].data(), special_, n_, moduli_[j]);
        ntt(work.get(), j);
        double* result = galois == 1 ? out + task * n_ : work.get();
        kernels_.subtract_multiply(result, extended + (part * width + j) * n_, work.get(), constants->inverse[j],
                                   addend == nullptr ? nullptr : addend + j * n_, n_, moduli_[j]);
        if (galois != 1) permute(out + task * n_, work.get(), *source);
    });
}

void Ring::key_switch(double* out, const double* c, std::size_t limbs, const double* key, std::size_t key_limbs,
                      const double* add0, const double* add1, std::size_t galois, bool rescale, int threads) const {
    const std::size_t count = digits(limbs), width = limbs + special_, key_width = key_limbs + special_;
    const std::size_t rest = rescale ? limbs - 1 : limbs, tail = width - rest;
    std::vector<std::size_t> from, to;
    for (std::size_t i = 0; i < tail; ++i) from.push_back(extended_index(rest + i, limbs));
    for (std::size_t i = 0; i < rest; ++i) to.push_back(i);
    const auto constants = conversion(from, to);
    const auto source = automorphism(galois);
    const Buffer y(pool_, limbs * n_), sums(pool_, 2 * width * n_);
    scaled_coefficients(y.get(), c, limbs, threads);

    parallel_for(threads, width, [&](std::size_t at, std::size_t) {
        const std::size_t prime = extended_index(at, limbs), key_at = at < limbs ? at : key_limbs + (at - limbs);
        const Buffer digit_limbs(pool_, count * n_);
        std::vector<const double*> a, b0, b1;
        for (std::size_t d = 0; d < count; ++d) {
            const std::size_t first = d * digit_;
            if (prime >= first && prime < first + digit_ && prime < limbs) {
                a.push_back(c + prime * n_);
            } else {
                extend_digit(digit_limbs.get() + d * n_, c, y.get(), d, limbs, prime);
                a.push_back(digit_limbs.get() + d * n_);
            }
            b0.push_back(key + (2 * d * key_width + key_at) * n_);
            b1.push_back(key + ((2 * d + 1) * key_width + key_at) * n_);
        }
        double* sum[2] = {sums.get() + at * n_, sums.get() + (width + at) * n_};
        kernels_.dot_pair(sum[0], sum[1], a.data(), b0.data(), b1.data(), count, n_, moduli_[prime]);
        if (at < rest) return;
        // A limb of the divisor: what is added at the end elsewhere is added here, times P, before the division.
        for (std::size_t part = 0; part < 2; ++part) {
            const double* addend = part == 0 ? add0 : add1;
            if (prime < limbs && addend != nullptr) {
                kernels_.multiply_scalar(sum[part], addend + prime * n_, special_product_[prime], sum[part], n_,
                                         moduli_[prime]);
            }
            intt(sum[part], prime, constants->from_factor[at - rest]);
        }
    });

    parallel_for(threads, 2 * rest, [&](std::size_t task, std::size_t) {
        const std::size_t part = task / rest, j = task % rest;
        std::vector<const double*> sources;
        for (std::size_t i = 0; i < tail; ++i) sources.push_back(sums.get() + (part * width + rest + i) * n_);
        const double* addend = part == 0 ? add0 : add1;
        double* sum = sums.get() + (part * width + j) * n_;
        const Buffer work(pool_, n_);
        kernels_.dot_scalar(work.get(), sources.data(), constants->matrix[j].data(), tail, n_, moduli_[j]);
        ntt(work.get(), j);
        double* result = galois == 1 ? out + task * n_ : work.get();
        if (rescale) {
            if (addend != nullptr)
                kernels_.multiply_scalar(sum, addend + j * n_, special_product_[j], sum, n_, moduli_[j]);
            addend = nullptr;
        }
        kernels_.subtract_multiply(result, sum, work.get(), constants->inverse[j],
                                   addend == nullptr ? nullptr : addend + j * n_, n_, moduli_[j]);
        if (galois != 1) permute(out + task * n_, work.get(), *source);
    });
}

}  // namespace cipherlens
