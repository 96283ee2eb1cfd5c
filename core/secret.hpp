// Everything that touches a secret key. Linked into the module `_secret` alone. The ring must be one that wipes: all
// temporary arrays are on loan from its pool.
#pragma once

#include "expansion.hpp"
#include "ring.hpp"

namespace cipherlens {

// A polynomial with small coefficients (a secret, an error) modulo the primes `indices`, in NTT form.
void small_to_ntt(const Ring& ring, double* out, const std::int8_t* small, const std::vector<std::size_t>& indices,
                  int threads);

// a from the streams, limb by limb, and out = message + error - a * secret on `limbs` limbs; message may be null. `secret`
// holds every prime of the ring.
void encrypt(const Ring& ring, double* out, double* a, const Streams& streams, const double* message,
             const std::int8_t* error, const double* secret, std::size_t limbs, int threads);

// A key that takes `source` (what a ciphertext is under) to `target`: for each digit d a_d from the streams, one limb after
// the other, and b_d = error_d - a_d * target + P * gadget_d * source, where P * gadget_d is P modulo the digit's own primes
// and 0 modulo all others. key: (digits(limbs), 2, limbs + special, n), b_d before a_d; errors: (digits(limbs), n).
void switching_key(const Ring& ring, double* key, const Streams& streams, const std::int8_t* errors,
                   const double* source, const double* target, std::size_t limbs, int threads);

// key[1] from the streams and key[0] = error - key[1] * secret on every prime of the ring; key: (2, all primes, n).
void public_key(const Ring& ring, double* key, const Streams& streams, const std::int8_t* error, const double* secret,
                int threads);

// out = secret^2 and out = secret(X^galois), on every prime of the ring.
void secret_square(const Ring& ring, double* out, const double* secret, int threads);
void secret_automorphism(const Ring& ring, double* out, const double* secret, std::size_t galois, int threads);

// Coefficients of c_0 + c_1 s + c_2 s^2 + ..., exact where they are below half the product of the first
// min(limbs, 2) primes, rounded to double.
void decrypt(const Ring& ring, double* coefficients, const double* parts, std::size_t count, std::size_t limbs,
             const double* secret);

// Public-key encryption: (key * ephemeral + errors) / P + message; key: (2, limbs + special, n).
void public_encrypt(const Ring& ring, double* out, const double* message, const double* key, std::size_t limbs,
                    const std::int8_t* ephemeral, const std::int8_t* error0, const std::int8_t* error1, int threads);

}  // namespace cipherlens
