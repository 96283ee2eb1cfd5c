#include "ring.hpp"

#include <algorithm>
#include <cstring>
#include <stdexcept>

#include "kernels/dispatch.hpp"
#include "modular.hpp"
#include "parallel.hpp"

namespace cipherlens {

Ring::Ring(std::size_t n, const std::vector<std::int64_t>& primes, std::size_t special, std::size_t digit,
           const std::string& kernel, bool wipes, int threads)
    : n_(n),
      stride_(n + 72),
      special_(special),
      digit_(digit),
      kernels_(checked_kernels(kernel)),
      pool_(std::make_shared<BufferPool>(wipes)) {
    if (log2_exact(n) < 6 || log2_exact(n) > 17) throw std::invalid_argument("the ring dimension must be 2^6 ... 2^17");
    if (primes.size() <= special) throw std::invalid_argument("a ring needs at least one prime that is not special");
    if (digit == 0) throw std::invalid_argument("a digit holds at least one prime");
    for (std::size_t i = 0; i < primes.size(); ++i) {
        for (std::size_t j = 0; j < i; ++j)
            if (primes[i] == primes[j]) throw std::invalid_argument("the primes of a ring must differ");
        moduli_.push_back(make_modulus(primes[i]));
        inverse_n_.push_back(centred(inverse_mod(static_cast<std::int64_t>(n), primes[i]), primes[i]));
    }
    roots_ = std::make_unique<const Buffer>(pool_, primes.size() * n);
    parallel_for(threads, primes.size(), [&](std::size_t i, std::size_t) {
        const std::vector<double> table = root_table(moduli_[i], n);
        std::copy(table.begin(), table.end(), roots_->get() + i * n);
    });
    for (std::size_t j = 0; j < chain(); ++j) {
        std::int64_t product = 1;
        for (std::size_t i = chain(); i < primes.size(); ++i)
            product = multiply_mod(product, primes[i] % primes[j], primes[j]);
        special_product_.push_back(centred(product, primes[j]));
    }
}

std::shared_ptr<const BaseConversion> Ring::conversion(const std::vector<std::size_t>& from,
                                                       const std::vector<std::size_t>& to) const {
    const std::lock_guard<std::mutex> lock(mutex_);
    auto& slot = conversions_[{from, to}];
    if (slot) return slot;
    auto result = std::make_shared<BaseConversion>();
    result->from = from;
    result->to = to;
    // The product of all primes of `from` but the one at `skip`, modulo prime p.
    const auto product = [&](std::size_t skip, std::int64_t p) {
        std::int64_t value = 1;
        for (std::size_t i = 0; i < from.size(); ++i)
            if (i != skip) value = multiply_mod(value, moduli_[from[i]].value % p, p);
        return value;
    };
    for (std::size_t i = 0; i < from.size(); ++i) {
        const std::int64_t p = moduli_[from[i]].value;
        const std::int64_t scaled = multiply_mod(product(i, p), static_cast<std::int64_t>(n_) % p, p);
        result->from_factor.push_back(centred(inverse_mod(scaled, p), p));
    }
    for (std::size_t target : to) {
        const std::int64_t p = moduli_[target].value;
        std::vector<double> row;
        for (std::size_t i = 0; i < from.size(); ++i) row.push_back(centred(product(i, p), p));
        result->matrix.push_back(row);
        result->inverse.push_back(centred(inverse_mod(product(from.size(), p), p), p));
    }
    slot = result;
    return slot;
}

std::shared_ptr<const std::vector<std::uint32_t>> Ring::automorphism(std::size_t galois) const {
    const std::lock_guard<std::mutex> lock(mutex_);
    auto& slot = automorphisms_[galois];
    if (slot) return slot;
    slot = std::make_shared<const std::vector<std::uint32_t>>(automorphism_table(n_, galois));
    return slot;
}

void Ring::divide(double* out, const double* x, std::size_t parts, std::size_t limbs, std::size_t tail,
                  int threads) const {
    const std::size_t rest = limbs - tail;
    std::vector<std::size_t> from, to;
    for (std::size_t i = 0; i < rest; ++i) to.push_back(i);
    for (std::size_t i = rest; i < limbs; ++i) from.push_back(i);
    const auto constants = conversion(from, to);
    const Buffer y(pool_, parts * tail * stride_);
    parallel_for(threads, parts * tail, [&](std::size_t task, std::size_t) {
        const std::size_t part = task / tail, i = task % tail;
        intt(y.get() + task * stride_, x + (part * limbs + rest + i) * n_, rest + i, constants->from_factor[i]);
    });
    const std::size_t group = group_size(tail, rest, threads), groups = (rest + group - 1) / group;
    parallel_for(threads, parts * groups, [&](std::size_t task, std::size_t) {
        const std::size_t part = task / groups, first = task % groups * group;
        const std::size_t last = first + group < rest ? first + group : rest;
        const Buffer work(pool_, group * n_);
        std::vector<double*> converted;
        std::vector<std::size_t> targets;
        for (std::size_t j = first; j < last; ++j)
            converted.push_back(work.get() + (j - first) * n_), targets.push_back(j);
        convert(converted.data(), y.get() + part * tail * stride_, *constants, targets);
        for (std::size_t j = first; j < last; ++j) {
            ntt_tail(converted[j - first], j);
            kernels_.subtract_multiply(out + (part * rest + j) * n_, x + (part * limbs + j) * n_, converted[j - first],
                                       constants->inverse[j], nullptr, n_, moduli_[j]);
        }
    });
}

std::size_t Ring::group_size(std::size_t sources, std::size_t targets, int threads) const {
    constexpr std::size_t second_level = std::size_t{1} << 15, third_level = std::size_t{1} << 18;  // 256 KiB, 2 MiB
    if (sources * n_ <= second_level) return 1;
    const std::size_t most = sources * n_ <= third_level ? 4 : 8;
    const std::size_t workers = static_cast<std::size_t>(threads < 1 ? 1 : threads);
    const std::size_t rounds = (targets + most * workers - 1) / (most * workers);  // of one group for every thread
    return (targets + rounds * workers - 1) / (rounds * workers);
}

void Ring::convert(double* const* out, const double* y, const BaseConversion& constants,
                   const std::vector<std::size_t>& targets) const {
    // Columns of the transform's head are converted and go through it while they are in the first-level cache, where
    // 8 sources of 512 coefficients (4 KiB) fit.
    const std::size_t rows = ntt_rows(n_), columns = n_ / rows, longest = 512 / rows;
    const std::size_t block = columns < longest ? columns : longest, count = constants.from.size();
    std::vector<const double*> sources(count);
    for (std::size_t column = 0; column < columns; column += block)
        for (std::size_t k = 0; k < targets.size(); ++k) {
            if (out[k] == nullptr) continue;
            const std::size_t target = constants.to[targets[k]];
            for (std::size_t at = column; at < n_; at += columns) {
                for (std::size_t i = 0; i < count; ++i) sources[i] = y + i * stride_ + at;
                kernels_.dot_scalar(out[k] + at, sources.data(), constants.matrix[targets[k]].data(), count, block,
                                    moduli_[target], true);
            }
            kernels_.ntt_head(out[k], roots(target), n_, column, block, moduli_[target]);
        }
}

}  // namespace cipherlens
