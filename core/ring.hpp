// The ring Z[X]/(X^n + 1) modulo a chain of primes q_0 ... q_L and special primes p_0 ... p_{k-1}.
//
// A limb is the array of n residues modulo one prime, in NTT form unless said otherwise. A polynomial of `limbs`
// limbs is modulo q_0 ... q_{limbs-1}; an extended one has the special primes behind them. Operations take plain
// pointers to limbs lying one behind the other; the Python bindings check shapes before they come here.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <tuple>
#include <vector>

#include "buffers.hpp"
#include "kernels/kernels.hpp"

namespace cipherlens {

// Constants of x -> sum_i y_i (D / d_i) mod each target, y_i = [x_i (D / d_i)^-1]_{d_i}, D = d_0 d_1 ...
struct BaseConversion {
    std::vector<std::size_t> from, to;        // prime indices
    std::vector<double> from_factor;          // (D / d_i)^-1 / n mod d_i: for the inverse NTT
    std::vector<std::vector<double>> matrix;  // [target][i] = D / d_i mod target
    std::vector<double> inverse;              // D^-1 mod target
};

class Ring {
  public:
    // primes: q_0 ... q_L then `special` special ones. digit: how many q share a digit of the key switch.
    // wipes: clear temporary arrays after use, for rings that see secrets. Throws std::invalid_argument.
    Ring(std::size_t n, const std::vector<std::int64_t>& primes, std::size_t special, std::size_t digit,
         const std::string& kernel, bool wipes, int threads = 1);

    std::size_t n() const { return n_; }
    std::size_t chain() const { return moduli_.size() - special_; }  // L + 1
    std::size_t special() const { return special_; }
    std::size_t digit() const { return digit_; }
    std::size_t digits(std::size_t limbs) const { return (limbs + digit_ - 1) / digit_; }
    const Kernels& kernels() const { return kernels_; }
    const Modulus& modulus(std::size_t index) const { return moduli_[index]; }
    const double* roots(std::size_t index) const { return roots_->get() + index * n_; }
    double special_product(std::size_t index) const { return special_product_[index]; }
    // The prime index of limb `at` of an extended polynomial with `limbs` limbs of the chain.
    std::size_t extended_index(std::size_t at, std::size_t limbs) const {
        return at < limbs ? at : chain() + (at - limbs);
    }
    const std::shared_ptr<BufferPool>& pool() const { return pool_; }

    void ntt(double* limb, std::size_t index) const {
        kernels_.ntt_head(limb, roots(index), n_, 0, n_ / ntt_rows(n_), moduli_[index]);
        kernels_.ntt_tail(limb, roots(index), n_, moduli_[index]);
    }
    void intt(double* out, const double* limb, std::size_t index, double factor) const {
        kernels_.intt(out, limb, roots(index), n_, moduli_[index], factor);
    }
    void intt(double* limb, std::size_t index) const { intt(limb, limb, index, inverse_n_[index]); }

    // Kept once computed, for the life of the ring.
    std::shared_ptr<const BaseConversion> conversion(const std::vector<std::size_t>& from,
                                                     const std::vector<std::size_t>& to) const;
    // source[i] such that (automorphism X -> X^galois)(x)[i] = x[source[i]]; galois odd, below 2n.
    std::shared_ptr<const std::vector<std::uint32_t>> automorphism(std::size_t galois) const;
    // The Galois element of the inverse automorphism.
    std::size_t inverse_galois(std::size_t galois) const {
        std::size_t inverse = galois;  // right modulo 8, and each of Newton's steps doubles the bits
        for (int i = 0; i < 3; ++i) inverse *= 2 - galois * inverse;
        return inverse % (2 * n_);
    }

    // out = round(x / (q_{limbs-tail} ... q_{limbs-1})), `parts` polynomials of `limbs` limbs each, in place allowed
    // for no argument. The rounding is the fast conversion of the centred tail (no floating correction), so it is off
    // by at most (tail + 1) / 2 instead of 1/2.
    void divide(double* out, const double* x, std::size_t parts, std::size_t limbs, std::size_t tail,
                int threads) const;

    // Digits of c: (digits(limbs), limbs + special, n).
    void decompose(double* digits, const double* c, std::size_t limbs, int threads) const;

    // <digits, key>: two extended polynomials one after the other. key: (digits, 2, key_limbs + special, n).
    void inner_product(double* out, const double* digits, std::size_t limbs, const double* key, std::size_t key_limbs,
                       int threads) const;

    // automorphism(extended / P + (add0, add1)) for one or two extended polynomials; add0, add1 may be null.
    void mod_down(double* out, const double* extended, std::size_t parts, std::size_t limbs, const double* add0,
                  const double* add1, std::size_t galois, int threads) const;
    // The same of polynomials that are never stored: make(at, room, limb) points limb[part] to limb `at` of each part, made
    // in `room` (`parts` limbs) or lying elsewhere, for use before the next call on that thread.
    using ExtendedLimbs = std::function<void(std::size_t at, double* room, const double** limb)>;
    void mod_down(double* out, const ExtendedLimbs& make, std::size_t parts, std::size_t limbs, const double* add0,
                  const double* add1, std::size_t galois, int threads) const;

    // The inner sums of a linear transform on unreduced (extended) results, no division in between. For each row r
    // out[r] (2, limbs + special, n) = sum_k plain[k][r] * automorphism_k(<digits, keys[k]> + P (c0, 0)), where
    // galois[k] = 1 stands for P (c0, c1) itself and takes no key. plain[k][r]: (limbs + special, n), or null where
    // row r has no term k. Every key is read once, whatever the number of rows.
    void hoisted_transform(double* out, const double* digits, const double* c0, const double* c1, std::size_t limbs,
                           const std::vector<const double*>& keys, const std::vector<std::size_t>& key_limbs,
                           const std::vector<std::size_t>& galois, const std::vector<std::vector<const double*>>& plain,
                           int threads) const;

    // A giant step: total += automorphism(<digits, key> + (first, 0)), all of them extended and none divided by P.
    void add_switched(double* total, const double* digits, const double* first, std::size_t limbs, const double* key,
                      std::size_t key_limbs, std::size_t galois, int threads) const;

    // decompose, inner_product and mod_down in one go, with every digit used while it is in cache. With rescale, the
    // result is also divided by q_{limbs-1} (one rounding for both) and has one limb less.
    void key_switch(double* out, const double* c, std::size_t limbs, const double* key, std::size_t key_limbs,
                    const double* add0, const double* add1, std::size_t galois, bool rescale, int threads) const;

    // a * b for ciphertexts of two parts each (one limb behind the other), relinearised; the parts of the product that
    // need no key switch are made where they are added, and never stored.
    void multiply(double* out, const double* a, const double* b, std::size_t limbs, const double* key,
                  std::size_t key_limbs, bool rescale, int threads) const;

    // The same as key_switch from the output of decompose.
    void key_switch_digits(double* out, const double* digits, std::size_t limbs, const double* key,
                           std::size_t key_limbs, const double* add0, const double* add1, std::size_t galois,
                           bool rescale, int threads) const;

  private:
    // Fast base conversion into several targets at once, and the head of their transforms: out[i] gets target
    // to[targets[i]], skipping null pointers. y: the scaled coefficients of the sources, stride_ from one to the next. The
    // tails are the caller's, who takes all limbs of one prime together while its roots are in the cache.
    void convert(double* const* out, const double* y, const BaseConversion& constants,
                 const std::vector<std::size_t>& targets) const;
    void ntt_tail(double* limb, std::size_t index) const {
        kernels_.ntt_tail(limb, roots(index), n_, moduli_[index]);
    }
    // convert for every digit and the extended primes begin ... end - 1: limb[d][i] is set to digit d modulo prime
    // begin + i, in room (digits * (end - begin) limbs) or in c itself; those in room still need their tails.
    using Limbs = std::vector<std::vector<double*>>;
    void convert_digits(std::vector<std::vector<const double*>>& limb, Limbs& unfinished, double* room, const double* c,
                        const double* y, std::size_t limbs, std::size_t begin, std::size_t end) const;
    // How many of `targets` limbs to convert at once: enough that sources beyond the cache are read once for several,
    // few enough that every thread gets the same share.
    std::size_t group_size(std::size_t sources, std::size_t targets, int threads) const;
    // The common part of all key switches. digit_limbs(begin, end, room, limb, unfinished) does what convert_digits does,
    // or points to digits that exist already. addend(part, j,
    // work) gives limb j of what is added to a part, in `work` (one limb) or wherever it lies, or null.
    template <typename DigitLimbs, typename Addend>
    void switch_key(double* out, const DigitLimbs& digit_limbs, const Addend& addend, std::size_t limbs,
                    const double* key, std::size_t key_limbs, std::size_t galois, bool rescale, int threads) const;
    // switch_key for the digits of c.
    template <typename Addend>
    void decompose_and_switch(double* out, const double* c, const Addend& addend, std::size_t limbs, const double* key,
                              std::size_t key_limbs, std::size_t galois, bool rescale, int threads) const;
    std::vector<std::size_t> digit_primes(std::size_t digit, std::size_t limbs) const;
    std::shared_ptr<const BaseConversion> digit_conversion(std::size_t digit, std::size_t limbs) const;
    void scaled_coefficients(double* y, const double* c, std::size_t limbs, int threads) const;

    std::size_t n_;
    // From one limb to the next in work space: not a whole number of pages, so that limbs used together do not all fall
    // into the same set of the first-level cache. A multiple of 8: every limb begins on a line.
    std::size_t stride_;
    std::size_t special_, digit_;
    const Kernels& kernels_;
    std::vector<Modulus> moduli_;
    std::vector<double> inverse_n_, special_product_;  // P modulo each prime of the chain
    std::shared_ptr<BufferPool> pool_;
    std::unique_ptr<const Buffer> roots_;  // a limb for each prime, aligned as all limbs are

    mutable std::mutex mutex_;
    mutable std::map<std::pair<std::vector<std::size_t>, std::vector<std::size_t>>,
                     std::shared_ptr<const BaseConversion>>
        conversions_;
    mutable std::map<std::size_t, std::shared_ptr<const std::vector<std::uint32_t>>> automorphisms_;
};

}  // namespace cipherlens
