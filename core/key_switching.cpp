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

namespace {
// Coefficients of a linear transform's sums that are made, permuted and used at once: two parts are 8 KiB.
constexpr std::size_t transform_block = 512;
}  // namespace

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
        intt(y + i * stride_, c + i * n_, i, factors[i]);
    });
}

void Ring::convert_digits(std::vector<std::vector<const double*>>& limb, Limbs& unfinished, double* room,
                          const double* c, const double* y, std::size_t limbs, std::size_t begin,
                          std::size_t end) const {
    std::vector<std::size_t> targets;
    for (std::size_t at = begin; at < end; ++at) targets.push_back(extended_index(at, limbs));
    for (std::size_t d = 0; d < digits(limbs); ++d) {
        std::vector<double*> converted;
        for (std::size_t at = begin; at < end; ++at) {
            const bool own = at < limbs && at / digit_ == d;
            double* to = own ? nullptr : room + (d * (end - begin) + at - begin) * stride_;
            converted.push_back(to);
            limb[d][at - begin] = own ? c + at * n_ : to;
            if (!own) unfinished[at - begin].push_back(to);
        }
        convert(converted.data(), y + d * digit_ * stride_, *digit_conversion(d, limbs), targets);
    }
}

void Ring::decompose(double* out, const double* c, std::size_t limbs, int threads) const {
    const std::size_t count = digits(limbs), width = limbs + special_;
    const Buffer y(pool_, limbs * stride_);
    scaled_coefficients(y.get(), c, limbs, threads);
    const std::size_t group = group_size(digit_, width, threads), groups = (width + group - 1) / group;
    parallel_for(threads, groups, [&](std::size_t task, std::size_t) {
        const std::size_t begin = task * group, end = begin + group < width ? begin + group : width;
        std::vector<std::size_t> targets;
        for (std::size_t at = begin; at < end; ++at) targets.push_back(extended_index(at, limbs));
        for (std::size_t d = 0; d < count; ++d) {
            std::vector<double*> converted;
            for (std::size_t at = begin; at < end; ++at) {
                double* limb = out + (d * width + at) * n_;
                const bool own = at < limbs && at / digit_ == d;
                if (own) std::memcpy(limb, c + at * n_, n_ * sizeof(double));
                converted.push_back(own ? nullptr : limb);
            }
            convert(converted.data(), y.get() + d * digit_ * stride_, *digit_conversion(d, limbs), targets);
        }
        for (std::size_t at = begin; at < end; ++at)
            for (std::size_t d = 0; d < count; ++d)
                if (at >= limbs || at / digit_ != d) ntt_tail(out + (d * width + at) * n_, targets[at - begin]);
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

void Ring::hoisted_transform(double* out, const double* digit_limbs, const double* c0, const double* c1,
                             std::size_t limbs, const std::vector<const double*>& keys,
                             const std::vector<std::size_t>& key_limbs, const std::vector<std::size_t>& galois,
                             const std::vector<std::vector<const double*>>& plain, int threads) const {
    const std::size_t count = digits(limbs), width = limbs + special_, rows = plain[0].size();
    const std::size_t block = n_ < transform_block ? n_ : transform_block;
    std::vector<std::shared_ptr<const std::vector<std::uint32_t>>> sources, targets;
    for (std::size_t element : galois) {
        sources.push_back(automorphism(element));
        targets.push_back(automorphism(inverse_galois(element)));
    }
    parallel_for(threads, width, [&](std::size_t at, std::size_t) {
        const Modulus& m = moduli_[extended_index(at, limbs)];
        for (std::size_t part = 0; part < 2 * rows; ++part)
            std::memset(out + (part * width + at) * n_, 0, n_ * sizeof(double));
        const Buffer work(pool_, 2 * block + n_);
        double *const sum[2] = {work.get(), work.get() + block}, *lifted = work.get() + 2 * block;
        // P c0 is the same for every term; modulo a special prime it is zero.
        if (at < limbs) kernels_.multiply_scalar(lifted, c0 + at * n_, special_product_[at], nullptr, n_, m);
        std::vector<const double*> a(count), b0(count), b1(count), factors(rows);
        std::vector<double*> to(rows);
        for (std::size_t k = 0; k < galois.size(); ++k) {
            const bool identity = galois[k] == 1;
            if (identity && at >= limbs) continue;
            const std::size_t key_width = key_limbs[k] + special_;
            const std::size_t key_at = at < limbs ? at : key_limbs[k] + (at - limbs);
            // Block by block, so that the sums never leave the first-level cache: a block of them is needed for one
            // block of the result only.
            for (std::size_t begin = 0; begin < n_; begin += block) {
                if (identity) {
                    std::memcpy(sum[0], lifted + begin, block * sizeof(double));
                    kernels_.multiply_scalar(sum[1], c1 + at * n_ + begin, special_product_[at], nullptr, block, m);
                } else {
                    for (std::size_t d = 0; d < count; ++d) {
                        a[d] = digit_limbs + (d * width + at) * n_ + begin;
                        b0[d] = keys[k] + (2 * d * key_width + key_at) * n_ + begin;
                        b1[d] = keys[k] + ((2 * d + 1) * key_width + key_at) * n_ + begin;
                    }
                    kernels_.dot_pair(sum[0], sum[1], a.data(), b0.data(), b1.data(), count, block, m);
                    if (at < limbs) kernels_.add(sum[0], sum[0], lifted + begin, block, m);
                }
                const std::size_t target = (*targets[k])[begin] / block * block;
                for (std::size_t part = 0; part < 2; ++part) {
                    std::size_t used = 0;
                    for (std::size_t row = 0; row < rows; ++row) {
                        if (plain[k][row] == nullptr) continue;
                        to[used] = out + ((2 * row + part) * width + at) * n_ + target;
                        factors[used++] = plain[k][row] + at * n_ + target;
                    }
                    kernels_.permuted_multiply_add(to.data(), sum[part], sources[k]->data() + target, galois[k],
                                                   factors.data(), used, block, m);
                }
            }
        }
    });
}

void Ring::add_switched(double* total, const double* digit_limbs, const double* first, std::size_t limbs,
                        const double* key, std::size_t key_limbs, std::size_t galois, int threads) const {
    const std::size_t count = digits(limbs), width = limbs + special_, key_width = key_limbs + special_;
    const std::size_t block = n_ < transform_block ? n_ : transform_block;
    const auto source = automorphism(galois), target = automorphism(inverse_galois(galois));
    parallel_for(threads, width, [&](std::size_t at, std::size_t) {
        const Modulus& m = moduli_[extended_index(at, limbs)];
        const std::size_t key_at = at < limbs ? at : key_limbs + (at - limbs);
        const Buffer work(pool_, 3 * block);
        double *const sum[2] = {work.get(), work.get() + block}, *turned = work.get() + 2 * block;
        std::vector<const double*> a(count), b0(count), b1(count);
        for (std::size_t begin = 0; begin < n_; begin += block) {  // as in hoisted_transform
            for (std::size_t d = 0; d < count; ++d) {
                a[d] = digit_limbs + (d * width + at) * n_ + begin;
                b0[d] = key + (2 * d * key_width + key_at) * n_ + begin;
                b1[d] = key + ((2 * d + 1) * key_width + key_at) * n_ + begin;
            }
            kernels_.dot_pair(sum[0], sum[1], a.data(), b0.data(), b1.data(), count, block, m);
            kernels_.add(sum[0], sum[0], first + at * n_ + begin, block, m);
            const std::size_t place = (*target)[begin] / block * block;
            for (std::size_t part = 0; part < 2; ++part) {
                double* to = total + (part * width + at) * n_ + place;
                kernels_.permute(turned, sum[part], source->data() + place, galois, block);
                kernels_.add(to, to, turned, block, m);
            }
        }
    });
}

void Ring::mod_down(double* out, const double* extended, std::size_t parts, std::size_t limbs, const double* add0,
                    const double* add1, std::size_t galois, int threads) const {
    const auto stored = [&](std::size_t at, double*, const double** limb) {
        for (std::size_t part = 0; part < parts; ++part)
            limb[part] = extended + (part * (limbs + special_) + at) * n_;
    };
    mod_down(out, stored, parts, limbs, add0, add1, galois, threads);
}

void Ring::mod_down(double* out, const ExtendedLimbs& make, std::size_t parts, std::size_t limbs, const double* add0,
                    const double* add1, std::size_t galois, int threads) const {
    std::vector<std::size_t> from, to;
    for (std::size_t i = 0; i < special_; ++i) from.push_back(chain() + i);
    for (std::size_t i = 0; i < limbs; ++i) to.push_back(i);
    const auto constants = conversion(from, to);
    const auto source = automorphism(galois);
    const Buffer y(pool_, parts * special_ * stride_);
    parallel_for(threads, special_, [&](std::size_t i, std::size_t) {
        const Buffer room(pool_, parts * stride_);
        std::vector<const double*> limb(parts);
        make(limbs + i, room.get(), limb.data());
        for (std::size_t part = 0; part < parts; ++part)
            intt(y.get() + (part * special_ + i) * stride_, limb[part], chain() + i, constants->from_factor[i]);
    });
    const std::size_t group = group_size(special_, limbs, threads), groups = (limbs + group - 1) / group;
    parallel_for(threads, groups, [&](std::size_t task, std::size_t) {
        const std::size_t first = task * group, last = first + group < limbs ? first + group : limbs;
        const Buffer work(pool_, parts * (group + 1) * stride_);
        double* const room = work.get() + parts * group * stride_;
        std::vector<std::vector<double*>> converted(parts);
        std::vector<std::size_t> targets;
        for (std::size_t j = first; j < last; ++j) targets.push_back(j);
        for (std::size_t part = 0; part < parts; ++part) {
            for (std::size_t j = first; j < last; ++j)
                converted[part].push_back(work.get() + (part * group + j - first) * stride_);
            convert(converted[part].data(), y.get() + part * special_ * stride_, *constants, targets);
        }
        std::vector<const double*> made(parts);
        for (std::size_t j = first; j < last; ++j) {
            make(j, room, made.data());
            for (std::size_t part = 0; part < parts; ++part) {
                const double* addend = part == 0 ? add0 : add1;
                double *target = out + (part * limbs + j) * n_, *limb = converted[part][j - first];
                ntt_tail(limb, j);
                kernels_.subtract_multiply(galois == 1 ? target : limb, made[part], limb, constants->inverse[j],
                                           addend == nullptr ? nullptr : addend + j * n_, n_, moduli_[j]);
                if (galois != 1) kernels_.permute(target, limb, source->data(), galois, n_);
            }
        }
    });
}

template <typename DigitLimbs, typename Addend>
void Ring::switch_key(double* out, const DigitLimbs& digit_limbs, const Addend& addend, std::size_t limbs,
                      const double* key, std::size_t key_limbs, std::size_t galois, bool rescale, int threads) const {
    const std::size_t count = digits(limbs), width = limbs + special_, key_width = key_limbs + special_;
    const std::size_t rest = rescale ? limbs - 1 : limbs, tail = width - rest;
    std::vector<std::size_t> from, to;
    for (std::size_t i = 0; i < tail; ++i) from.push_back(extended_index(rest + i, limbs));
    for (std::size_t i = 0; i < rest; ++i) to.push_back(i);
    const auto constants = conversion(from, to);
    const auto source = automorphism(galois);

    // Both sums modulo one prime, from the limbs of all digits.
    const auto inner = [&](double* sum0, double* sum1, std::size_t at, std::size_t i,
                           const std::vector<std::vector<const double*>>& limb) {
        const std::size_t key_at = at < limbs ? at : key_limbs + (at - limbs);
        std::vector<const double*> a, b0, b1;
        for (std::size_t d = 0; d < count; ++d) {
            a.push_back(limb[d][i]);
            b0.push_back(key + (2 * d * key_width + key_at) * n_);
            b1.push_back(key + ((2 * d + 1) * key_width + key_at) * n_);
        }
        kernels_.dot_pair(sum0, sum1, a.data(), b0.data(), b1.data(), count, n_, moduli_[extended_index(at, limbs)]);
    };
    const auto empty = [&](std::size_t size) {
        return std::vector<std::vector<const double*>>(count, std::vector<const double*>(size));
    };

    // First the primes that are divided by: their sums as scaled coefficients.
    const Buffer y(pool_, 2 * tail * stride_);
    const std::size_t up = group_size(digit_, tail, threads), ups = (tail + up - 1) / up;
    parallel_for(threads, ups, [&](std::size_t task, std::size_t) {
        const std::size_t begin = rest + task * up, end = begin + up < width ? begin + up : width;
        const Buffer work(pool_, (count * up + 1) * stride_);
        auto limb = empty(end - begin);
        Limbs unfinished(end - begin);
        digit_limbs(begin, end, work.get(), limb, unfinished);
        for (std::size_t at = begin; at < end; ++at) {
            for (double* digit : unfinished[at - begin]) ntt_tail(digit, extended_index(at, limbs));
            double* const sum[2] = {y.get() + (at - rest) * stride_, y.get() + (tail + at - rest) * stride_};
            inner(sum[0], sum[1], at, at - begin, limb);
            const std::size_t prime = extended_index(at, limbs);
            for (std::size_t part = 0; part < 2; ++part) {
                const double* added = at < limbs ? addend(part, at, work.get() + count * up * stride_) : nullptr;
                if (added != nullptr)  // joins before the division, so times P
                    kernels_.multiply_scalar(sum[part], added, special_product_[at], sum[part], n_, moduli_[prime]);
                intt(sum[part], sum[part], prime, constants->from_factor[at - rest]);
            }
        }
    });

    // Then every prime that stays: its sums, less the converted tail, times the inverse of the divisor.
    const std::size_t group = group_size(digit_ > tail ? digit_ : tail, rest, threads);
    parallel_for(threads, (rest + group - 1) / group, [&](std::size_t task, std::size_t) {
        const std::size_t begin = task * group, end = begin + group < rest ? begin + group : rest, size = end - begin;
        const Buffer work(pool_, (count * group + 2 * group + 3) * stride_);
        double *converted = work.get() + count * group * stride_, *sum = converted + 2 * group * stride_;
        auto limb = empty(size);
        Limbs unfinished(size);
        digit_limbs(begin, end, work.get(), limb, unfinished);
        std::vector<std::size_t> targets;
        for (std::size_t j = begin; j < end; ++j) targets.push_back(j);
        for (std::size_t part = 0; part < 2; ++part) {
            std::vector<double*> limbs_out;
            for (std::size_t i = 0; i < size; ++i) {
                limbs_out.push_back(converted + (part * group + i) * stride_);
                unfinished[i].push_back(limbs_out.back());
            }
            convert(limbs_out.data(), y.get() + part * tail * stride_, *constants, targets);
        }
        for (std::size_t j = begin; j < end; ++j) {
            for (double* waiting : unfinished[j - begin]) ntt_tail(waiting, j);
            inner(sum, sum + stride_, j, j - begin, limb);
            for (std::size_t part = 0; part < 2; ++part) {
                double *total = sum + part * stride_, *target = out + (part * rest + j) * n_;
                const double* added = addend(part, j, sum + 2 * stride_);
                if (rescale && added != nullptr) {
                    kernels_.multiply_scalar(total, added, special_product_[j], total, n_, moduli_[j]);
                    added = nullptr;
                }
                kernels_.subtract_multiply(galois == 1 ? target : total, total,
                                           converted + (part * group + j - begin) * stride_, constants->inverse[j], added,
                                           n_, moduli_[j]);
                if (galois != 1) kernels_.permute(target, total, source->data(), galois, n_);
            }
        }
    });
}

template <typename Addend>
void Ring::decompose_and_switch(double* out, const double* c, const Addend& addend, std::size_t limbs,
                                const double* key, std::size_t key_limbs, std::size_t galois, bool rescale,
                                int threads) const {
    const Buffer y(pool_, limbs * stride_);
    scaled_coefficients(y.get(), c, limbs, threads);
    const auto digit_limbs = [&](std::size_t begin, std::size_t end, double* room,
                                 std::vector<std::vector<const double*>>& limb, Limbs& unfinished) {
        convert_digits(limb, unfinished, room, c, y.get(), limbs, begin, end);
    };
    switch_key(out, digit_limbs, addend, limbs, key, key_limbs, galois, rescale, threads);
}

void Ring::key_switch(double* out, const double* c, std::size_t limbs, const double* key, std::size_t key_limbs,
                      const double* add0, const double* add1, std::size_t galois, bool rescale, int threads) const {
    const auto addend = [&](std::size_t part, std::size_t j, double*) {
        const double* whole = part == 0 ? add0 : add1;
        return whole == nullptr ? nullptr : whole + j * n_;
    };
    decompose_and_switch(out, c, addend, limbs, key, key_limbs, galois, rescale, threads);
}

void Ring::key_switch_digits(double* out, const double* stored, std::size_t limbs, const double* key,
                             std::size_t key_limbs, const double* add0, const double* add1, std::size_t galois,
                             bool rescale, int threads) const {
    const std::size_t width = limbs + special_;
    const auto digit_limbs = [&](std::size_t begin, std::size_t end, double*,
                                 std::vector<std::vector<const double*>>& limb, Limbs&) {
        for (std::size_t d = 0; d < limb.size(); ++d)
            for (std::size_t at = begin; at < end; ++at) limb[d][at - begin] = stored + (d * width + at) * n_;
    };
    const auto addend = [&](std::size_t part, std::size_t j, double*) {
        const double* whole = part == 0 ? add0 : add1;
        return whole == nullptr ? nullptr : whole + j * n_;
    };
    switch_key(out, digit_limbs, addend, limbs, key, key_limbs, galois, rescale, threads);
}

void Ring::multiply(double* out, const double* a, const double* b, std::size_t limbs, const double* key,
                    std::size_t key_limbs, bool rescale, int threads) const {
    const double *a1 = a + limbs * n_, *b1 = b + limbs * n_;
    const Buffer last(pool_, limbs * n_);
    parallel_for(threads, limbs, [&](std::size_t i, std::size_t) {
        kernels_.multiply(last.get() + i * n_, a1 + i * n_, b1 + i * n_, n_, moduli_[i]);
    });
    const auto addend = [&](std::size_t part, std::size_t j, double* work) -> const double* {
        const std::size_t at = j * n_;
        if (part == 0) {
            kernels_.multiply(work, a + at, b + at, n_, moduli_[j]);
        } else {
            const double *const left[2] = {a + at, a1 + at}, *const right[2] = {b1 + at, b + at};
            kernels_.dot(work, left, right, 2, n_, moduli_[j]);
        }
        return work;
    };
    decompose_and_switch(out, last.get(), addend, limbs, key, key_limbs, 1, rescale, threads);
}

}  // namespace cipherlens
