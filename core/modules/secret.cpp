// The module `_secret`: key generation, encryption and decryption. Only `cipherlens.owner` imports it.
#include "../secret.hpp"

#include "../sampling.hpp"
#include "arrays.hpp"

namespace cipherlens {

namespace {

using SmallOut = nb::ndarray<nb::numpy, std::int8_t, nb::ndim<1>>;

SmallOut sample(const Bytes& stream, void (*sampler)(std::int8_t*, std::size_t, const std::uint8_t*)) {
    const std::size_t n = stream.shape(0) / 8;
    struct Samples {
        std::vector<std::int8_t> values;
        ~Samples() { wipe(values.data(), values.size()); }
    };
    auto* samples = new Samples{std::vector<std::int8_t>(n)};
    nb::capsule owner(samples, [](void* p) noexcept { delete static_cast<Samples*>(p); });
    std::int8_t* values = samples->values.data();
    const std::uint8_t* bytes = stream.data();
    {
        nb::gil_scoped_release release;
        sampler(values, n, bytes);
    }
    return SmallOut(values, {n}, owner);
}

const double* checked_secret(const Ring& ring, const Doubles& secret) {
    require_shape(secret, {ring.chain() + ring.special(), ring.n()}, "a secret key of another ring");
    return secret.data();
}

const std::int8_t* checked_small(const Ring& ring, const Small& x, std::size_t rows) {
    require(x.size() == rows * ring.n(), "n small coefficients");
    return x.data();
}

}  // namespace

}  // namespace cipherlens

NB_MODULE(_secret, m) {
    using namespace cipherlens;
    using namespace nanobind::literals;
    namespace nb = nanobind;
    m.doc() = "The engine's secret half: keys, encryption, decryption. Randomness is passed in as bytes.";
    m.def("sample_ternary", [](const Bytes& stream) { return sample(stream, sample_ternary); }, "stream"_a);
    m.def("sample_error", [](const Bytes& stream) { return sample(stream, sample_error); }, "stream"_a);

    nb::class_<Ring>(m, "SecretRing", "The owner's side of a ring.")
        .def("__init__",
             [](Ring* self, std::size_t n, const std::vector<std::int64_t>& primes, std::size_t special,
                std::size_t digit, const std::string& kernel, int threads) {
                 nb::gil_scoped_release release;
                 new (self) Ring(n, primes, special, digit, kernel, true, threads);
             },
             "n"_a, "primes"_a, "special"_a, "digit"_a, "kernel"_a, "threads"_a = 1)
        .def("secret",
             [](const Ring& ring, const Small& small, int threads) {
                 const std::int8_t* from = checked_small(ring, small, 1);
                 std::vector<std::size_t> indices;
                 for (std::size_t i = 0; i < ring.chain() + ring.special(); ++i) indices.push_back(i);
                 DoublesOut out = new_array(ring.pool(), {indices.size(), ring.n()});
                 nb::gil_scoped_release release;
                 small_to_ntt(ring, out.data(), from, indices, threads);
                 return out;
             },
             "ternary"_a, "threads"_a = 1, "The secret polynomial modulo every prime, NTT form.")
        .def("square",
             [](const Ring& ring, const Doubles& secret, int threads) {
                 const double* s = checked_secret(ring, secret);
                 DoublesOut out = new_array(ring.pool(), {ring.chain() + ring.special(), ring.n()});
                 double* to = out.data();
                 nb::gil_scoped_release release;
                 secret_square(ring, to, s, threads);
                 return out;
             },
             "secret"_a, "threads"_a = 1)
        .def("automorphism",
             [](const Ring& ring, const Doubles& secret, std::size_t galois, int threads) {
                 const double* s = checked_secret(ring, secret);
                 require(galois % 2 == 1 && galois < 2 * ring.n(), "a Galois element must be odd and below 2n");
                 DoublesOut out = new_array(ring.pool(), {ring.chain() + ring.special(), ring.n()});
                 double* to = out.data();
                 nb::gil_scoped_release release;
                 secret_automorphism(ring, to, s, galois, threads);
                 return out;
             },
             "secret"_a, "galois"_a, "threads"_a = 1)
        .def("encrypt",
             [](const Ring& ring, DoublesInOut out, std::optional<Doubles> message, const Small& error,
                const Doubles& secret, const StreamRoom& room, const nb::callable& make, int threads) {
                 const std::size_t limbs = checked_limbs(ring, out, 3);
                 require(out.shape(0) == 2, "both parts of a ciphertext");
                 if (message) require_shape(*message, {limbs, ring.n()}, "a message of another level");
                 const double* msg = message ? message->data() : nullptr;
                 const double* s = checked_secret(ring, secret);
                 const std::int8_t* e = checked_small(ring, error, 1);
                 const Streams streams = checked_streams(ring, room, make);
                 double* to = out.data();
                 const nb::gil_scoped_release release;
                 encrypt(ring, to, to + limbs * ring.n(), streams, msg, e, s, limbs, threads);
             },
             "out"_a.noconvert(), "message"_a.none(), "error"_a, "secret"_a, "room"_a, "make"_a, "threads"_a = 1,
             "out[1] from the streams that make(i, slot) writes to room[slot], out[0] = message + error - out[1] * secret.")
        .def("switching_key",
             [](const Ring& ring, DoublesInOut key, const Small& errors, const Doubles& source, const Doubles& target,
                const StreamRoom& room, const nb::callable& make, int threads) {
                 require(key.ndim() == 4 && key.shape(1) == 2 && key.shape(3) == ring.n() &&
                             key.shape(2) > ring.special() && key.shape(2) <= ring.chain() + ring.special(),
                         "a key of another shape");
                 const std::size_t limbs = key.shape(2) - ring.special();
                 require(key.shape(0) == ring.digits(limbs), "two halves for each digit");
                 const double *from = checked_secret(ring, source), *to = checked_secret(ring, target);
                 const std::int8_t* e = checked_small(ring, errors, key.shape(0));
                 const Streams streams = checked_streams(ring, room, make);
                 double* halves = key.data();
                 const nb::gil_scoped_release release;
                 switching_key(ring, halves, streams, e, from, to, limbs, threads);
             },
             "key"_a.noconvert(), "errors"_a, "source"_a, "target"_a, "room"_a, "make"_a, "threads"_a = 1,
             "Fill (digits, 2, limbs + special, n): key[:, 1] from the streams, limb by limb, and key[:, 0].")
        .def("public_key",
             [](const Ring& ring, DoublesInOut key, const Small& error, const Doubles& secret, const StreamRoom& room,
                const nb::callable& make, int threads) {
                 require_shape(key, {2, ring.chain() + ring.special(), ring.n()}, "both halves for every prime");
                 const double* s = checked_secret(ring, secret);
                 const std::int8_t* e = checked_small(ring, error, 1);
                 const Streams streams = checked_streams(ring, room, make);
                 double* halves = key.data();
                 const nb::gil_scoped_release release;
                 public_key(ring, halves, streams, e, s, threads);
             },
             "key"_a.noconvert(), "error"_a, "secret"_a, "room"_a, "make"_a, "threads"_a = 1,
             "key[1] from the streams, key[0] = error - key[1] * secret, modulo every prime, special ones included.")
        .def("public_encrypt",
             [](const Ring& ring, DoublesInOut out, const Doubles& message, const Doubles& key, const Small& ephemeral,
                const Small& error0, const Small& error1, int threads) {
                 const std::size_t limbs = checked_limbs(ring, message, 2), n = ring.n();
                 require(limbs == ring.chain(), "public-key encryption is at the top level");
                 require_shape(out, {2, limbs, n}, "both parts of a ciphertext at the top level");
                 require_shape(key, {2, limbs + ring.special(), n}, "a public key of another ring");
                 const double *msg = message.data(), *k = key.data();
                 const std::int8_t *u = checked_small(ring, ephemeral, 1), *e0 = checked_small(ring, error0, 1),
                                   *e1 = checked_small(ring, error1, 1);
                 double* to = out.data();
                 const nb::gil_scoped_release release;
                 public_encrypt(ring, to, msg, k, limbs, u, e0, e1, threads);
             },
             "out"_a.noconvert(), "message"_a, "key"_a, "ephemeral"_a, "error0"_a, "error1"_a, "threads"_a = 1)
        .def("decrypt",
             [](const Ring& ring, const Doubles& parts, const Doubles& secret) {
                 const std::size_t limbs = checked_limbs(ring, parts, 3);
                 require(parts.shape(0) >= 2, "a ciphertext has at least two parts");
                 const double *c = parts.data(), *s = checked_secret(ring, secret);
                 const std::size_t count = parts.shape(0);
                 DoublesOut out = new_array(ring.pool(), {ring.n()});
                 nb::gil_scoped_release release;
                 decrypt(ring, out.data(), c, count, limbs, s);
                 return out;
             },
             "parts"_a, "secret"_a, "Coefficients of the plaintext, rounded to float64.");
}
