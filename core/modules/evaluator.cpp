// The module `_evaluator`: everything that a party without a secret key computes. No function here takes a secret.
#include <nanobind/stl/complex.h>
#include <nanobind/stl/pair.h>

#include <atomic>

#include "../encoding.hpp"
#include "../kernels/dispatch.hpp"
#include "../modular.hpp"
#include "../packing.hpp"
#include "../parallel.hpp"
#include "../sampling.hpp"
#include "../sums.hpp"
#include "arrays.hpp"

namespace cipherlens {

namespace {

using Complexes = nb::ndarray<const std::complex<double>, nb::ndim<1>, nb::c_contig, nb::device::cpu>;

std::vector<const double*> pointers(const Ring& ring, const std::vector<Doubles>& list, std::size_t parts,
                                    std::size_t limbs) {
    require(!list.empty(), "an empty list of arrays");
    std::vector<const double*> result;
    for (const Doubles& x : list) {
        require_shape(x, {parts, limbs, ring.n()}, "ciphertexts of different shapes");
        result.push_back(x.data());
    }
    return result;
}

std::size_t check_key(const Ring& ring, const Doubles& key, std::size_t limbs) {
    require(key.ndim() == 4 && key.shape(1) == 2 && key.shape(3) == ring.n(), "a key of another ring");
    require(key.shape(2) > ring.special(), "a key without limbs");
    const std::size_t key_limbs = key.shape(2) - ring.special();
    require(key_limbs <= ring.chain() && key.shape(0) == ring.digits(key_limbs), "a key of another shape");
    require(limbs <= key_limbs, "a key of a lower level than the ciphertext");
    return key_limbs;
}

// Limbs of decomposed polynomials, special ones included.
std::size_t check_digits(const Ring& ring, const Doubles& digits) {
    require(digits.ndim() == 3 && digits.shape(2) == ring.n() && digits.shape(1) > ring.special(),
            "digits of another ring");
    const std::size_t limbs = digits.shape(1) - ring.special();
    require(limbs <= ring.chain() && digits.shape(0) == ring.digits(limbs), "digits of another shape");
    return digits.shape(1);
}

void check_galois(const Ring& ring, std::size_t galois) {
    require(galois % 2 == 1 && galois < 2 * ring.n(), "a Galois element must be odd and below 2n");
}

const double* optional_limbs(const Ring& ring, const std::optional<Doubles>& x, std::size_t limbs) {
    if (!x) return nullptr;
    require_shape(*x, {limbs, ring.n()}, "an addend of another shape");
    return x->data();
}

// Where each packed limb begins, and where the last one ends.
std::vector<std::size_t> packed_offsets(const Ring& ring, const std::vector<std::size_t>& indices) {
    std::vector<std::size_t> offsets{0};
    for (std::size_t index : indices) {
        require(index < ring.chain() + ring.special(), "a prime the ring does not have");
        offsets.push_back(offsets.back() + packed_size(ring.n(), ring.modulus(index).bits));
    }
    return offsets;
}

enum class Binary { add, subtract };

// a + b or a - b; b may have fewer parts than a, where those that it lacks are zero.
DoublesOut combine(const Ring& ring, const Doubles& a, const Doubles& b, Binary operation, int threads) {
    const std::size_t limbs = checked_limbs(ring, a, 3), parts = a.shape(0), n = ring.n();
    require(checked_limbs(ring, b, 3) == limbs && b.shape(0) <= parts, "two ciphertexts of different shapes");
    const std::size_t both = b.shape(0) * limbs;
    DoublesOut out = new_array(ring.pool(), {parts, limbs, n});
    const double *x = a.data(), *y = b.data();
    double* z = out.data();
    nb::gil_scoped_release release;
    const auto kernel = operation == Binary::add ? ring.kernels().add : ring.kernels().subtract;
    parallel_for(threads, parts * limbs, [&](std::size_t task, std::size_t) {
        const double* from = x + task * n;
        if (task < both) kernel(z + task * n, from, y + task * n, n, ring.modulus(task % limbs));
        else std::copy(from, from + n, z + task * n);
    });
    return out;
}

void bind_ring(nb::module_& m) {
    using namespace nb::literals;
    nb::class_<Ring>(m, "Ring", "A ring modulo a chain of primes and special primes; limbs are float64 arrays.")
        .def("__init__",
             [](Ring* self, std::size_t n, const std::vector<std::int64_t>& primes, std::size_t special,
                std::size_t digit, const std::string& kernel, int threads) {
                 nb::gil_scoped_release release;
                 new (self) Ring(n, primes, special, digit, kernel, false, threads);
             },
             "n"_a, "primes"_a, "special"_a, "digit"_a, "kernel"_a, "threads"_a = 1)
        .def_prop_ro("n", &Ring::n)
        .def_prop_ro("chain", &Ring::chain)
        .def_prop_ro("special", &Ring::special)
        .def_prop_ro("kernel", [](const Ring& ring) { return std::string(ring.kernels().name); })

        .def("empty",
             [](const Ring& ring, const std::vector<std::size_t>& shape) { return new_array(ring.pool(), shape); },
             "shape"_a,
             "An array to fill, aligned to a line of the cache: on those that numpy makes, sums of products take up to "
             "twice as long, because every other vector lies in two lines.")

        .def("ntt",
             [](const Ring& ring, const Doubles& x, const std::vector<std::size_t>& indices, bool inverse, int threads) {
                 const std::size_t n = ring.n();
                 require_shape(x, {indices.size(), n}, "one row of n residues for each prime");
                 for (std::size_t index : indices)
                     require(index < ring.chain() + ring.special(), "a prime the ring does not have");
                 DoublesOut out = new_array(ring.pool(), {indices.size(), n});
                 const double* from = x.data();
                 double* to = out.data();
                 nb::gil_scoped_release release;
                 parallel_for(threads, indices.size(), [&](std::size_t i, std::size_t) {
                     std::copy(from + i * n, from + (i + 1) * n, to + i * n);
                     if (inverse) ring.intt(to + i * n, indices[i]);
                     else ring.ntt(to + i * n, indices[i]);
                 });
                 return out;
             },
             "x"_a, "indices"_a, "inverse"_a = false, "threads"_a = 1)
        .def("residues",
             [](const Ring& ring, const Doubles& coefficients, std::size_t limbs, int threads, bool extended) {
                 const std::size_t n = ring.n();
                 require_shape(coefficients, {n}, "n coefficients");
                 require(limbs >= 1 && limbs <= ring.chain(), "a number of limbs that the chain does not have");
                 const std::size_t width = limbs + (extended ? ring.special() : 0);
                 bool small = true, valid = true;
                 for (std::size_t i = 0; i < n; ++i) {
                     const double size = std::abs(coefficients.data()[i]);
                     small &= size < 4503599627370496.0;        // 2^52
                     valid &= size < 4611686018427387904.0;  // 2^62; false for NaN as well
                 }
                 require(valid, "a coefficient of 2^62 or more, or not a number: the scale is too large for the values");
                 DoublesOut out = new_array(ring.pool(), {width, n});
                 const double* from = coefficients.data();
                 double* to = out.data();
                 nb::gil_scoped_release release;
                 parallel_for(threads, width, [&](std::size_t limb, std::size_t) {
                     const std::size_t index = ring.extended_index(limb, limbs);
                     const Modulus& modulus = ring.modulus(index);
                     if (small) {
                         ring.kernels().reduce(to + limb * n, from, n, modulus);
                     } else {
                         for (std::size_t i = 0; i < n; ++i) {
                             std::int64_t r = static_cast<std::int64_t>(from[i]) % modulus.value;
                             if (r < 0) r += modulus.value;
                             to[limb * n + i] = centred(r, modulus.value);
                         }
                     }
                     ring.ntt(to + limb * n, index);
                 });
                 return out;
             },
             "coefficients"_a, "limbs"_a, "threads"_a = 1, "extended"_a = false,
             "Integer coefficients (n) to (limbs, n) in NTT form; with extended, modulo the special primes too.")

        .def("add", [](const Ring& r, const Doubles& a, const Doubles& b,
                       int threads) { return combine(r, a, b, Binary::add, threads); },
             "a"_a, "b"_a, "threads"_a = 1)
        .def("subtract", [](const Ring& r, const Doubles& a, const Doubles& b,
                            int threads) { return combine(r, a, b, Binary::subtract, threads); },
             "a"_a, "b"_a, "threads"_a = 1)
        .def("multiply_plain",
             [](const Ring& ring, const std::vector<Doubles>& x, const std::vector<Doubles>& plain, int threads) {
                 require(!x.empty() && x.size() == plain.size(), "as many plaintexts as ciphertexts");
                 const std::size_t limbs = checked_limbs(ring, x[0], 3), parts = x[0].shape(0), n = ring.n();
                 const auto a = pointers(ring, x, parts, limbs);
                 std::vector<const double*> b;
                 for (const Doubles& p : plain) {
                     require_shape(p, {limbs, n}, "a plaintext of another level");
                     b.push_back(p.data());
                 }
                 DoublesOut out = new_array(ring.pool(), {parts, limbs, n});
                 nb::gil_scoped_release release;
                 sum_plain_products(ring, out.data(), a, b, parts, limbs, threads);
                 return out;
             },
             "ciphertexts"_a, "plaintexts"_a, "threads"_a = 1, "sum_t ciphertexts[t] * plaintexts[t]")
        .def("multiply_scalars",
             [](const Ring& ring, const std::vector<Doubles>& x, const std::vector<std::vector<double>>& residues,
                int threads) {
                 require(!x.empty() && x.size() == residues.size(), "as many scalars as ciphertexts");
                 const std::size_t limbs = checked_limbs(ring, x[0], 3), parts = x[0].shape(0);
                 const auto a = pointers(ring, x, parts, limbs);
                 for (const auto& row : residues) {
                     require(row.size() == limbs, "one residue a limb");
                     for (std::size_t i = 0; i < limbs; ++i)
                         require(std::abs(row[i]) <= (ring.modulus(i).p - 1) / 2, "a residue out of range");
                 }
                 DoublesOut out = new_array(ring.pool(), {parts, limbs, ring.n()});
                 nb::gil_scoped_release release;
                 sum_scalar_products(ring, out.data(), a, residues, parts, limbs, threads);
                 return out;
             },
             "ciphertexts"_a, "residues"_a, "threads"_a = 1, "sum_t residues[t] * ciphertexts[t], centred residues")
        .def("tensor",
             [](const Ring& ring, const std::vector<Doubles>& a, const std::vector<Doubles>& b, int threads) {
                 require(!a.empty() && a.size() == b.size(), "as many factors on both sides");
                 const std::size_t limbs = checked_limbs(ring, a[0], 3);
                 const auto x = pointers(ring, a, 2, limbs), y = pointers(ring, b, 2, limbs);
                 DoublesOut out = new_array(ring.pool(), {3, limbs, ring.n()});
                 nb::gil_scoped_release release;
                 sum_tensor_products(ring, out.data(), x, y, limbs, threads);
                 return out;
             },
             "a"_a, "b"_a, "threads"_a = 1, "sum_t a[t] (x) b[t], three parts")
        .def("accumulate_scatter",
             [](const Ring& ring, const std::vector<nb::ndarray<double, nb::ndim<3>, nb::c_contig, nb::device::cpu>>& sums,
                const std::vector<std::vector<Doubles>>& babies, const std::vector<std::vector<Doubles>>& giants,
                int threads) {
                 require(!babies.empty() && babies.size() == giants.size() && !sums.empty(), "an empty sum");
                 require(!babies[0].empty(), "an empty sum");
                 const std::size_t limbs = checked_limbs(ring, babies[0][0], 3), g = babies[0].size();
                 std::vector<double*> to;
                 for (const auto& sum : sums) {
                     require(sum.shape(0) == 3 && sum.shape(1) == limbs && sum.shape(2) == ring.n(), "sums of another shape");
                     to.push_back(sum.data());
                 }
                 std::vector<std::vector<const double*>> x, y;
                 for (std::size_t t = 0; t < babies.size(); ++t) {
                     require(babies[t].size() == g && giants[t].size() == (sums.size() - 1) / g + 1, "rotations missing");
                     x.push_back(pointers(ring, babies[t], 2, limbs));
                     y.push_back(pointers(ring, giants[t], 2, limbs));
                 }
                 nb::gil_scoped_release release;
                 accumulate_scatter(ring, to, x, y, limbs, threads);
             },
             "sums"_a.noconvert(), "babies"_a, "giants"_a, "threads"_a = 1)
        .def("divide",
             [](const Ring& ring, const Doubles& x, std::size_t tail, int threads) {
                 const std::size_t limbs = checked_limbs(ring, x, 3), parts = x.shape(0);
                 require(tail >= 1 && tail < limbs, "no limb would be left");
                 DoublesOut out = new_array(ring.pool(), {parts, limbs - tail, ring.n()});
                 const double* from = x.data();
                 nb::gil_scoped_release release;
                 ring.divide(out.data(), from, parts, limbs, tail, threads);
                 return out;
             },
             "x"_a, "tail"_a = 1, "threads"_a = 1, "Divide by the last `tail` primes of the chain and drop them.")
        .def("automorphism",
             [](const Ring& ring, const Doubles& x, std::size_t galois, int threads) {
                 require(x.ndim() == 3 && x.shape(2) == ring.n(), "an array of another ring dimension");
                 check_galois(ring, galois);
                 const std::size_t rows = x.shape(0) * x.shape(1), n = ring.n();
                 DoublesOut out = new_array(ring.pool(), {x.shape(0), x.shape(1), n});
                 const double* from = x.data();
                 double* to = out.data();
                 nb::gil_scoped_release release;
                 const auto source = ring.automorphism(galois);
                 parallel_for(threads, rows, [&](std::size_t row, std::size_t) {
                     ring.kernels().permute(to + row * n, from + row * n, source->data(), galois, n);
                 });
                 return out;
             },
             "x"_a, "galois"_a, "threads"_a = 1)

        .def("decompose",
             [](const Ring& ring, const Doubles& c, int threads) {
                 const std::size_t limbs = checked_limbs(ring, c, 2);
                 DoublesOut out = new_array(ring.pool(), {ring.digits(limbs), limbs + ring.special(), ring.n()});
                 const double* from = c.data();
                 nb::gil_scoped_release release;
                 ring.decompose(out.data(), from, limbs, threads);
                 return out;
             },
             "c"_a, "threads"_a = 1)
        .def("inner_product",
             [](const Ring& ring, const Doubles& digits, const Doubles& key, int threads) {
                 const std::size_t limbs = check_digits(ring, digits) - ring.special();
                 const std::size_t key_limbs = check_key(ring, key, limbs);
                 DoublesOut out = new_array(ring.pool(), {2, digits.shape(1), ring.n()});
                 const double *from = digits.data(), *k = key.data();
                 nb::gil_scoped_release release;
                 ring.inner_product(out.data(), from, limbs, k, key_limbs, threads);
                 return out;
             },
             "digits"_a, "key"_a, "threads"_a = 1)
        .def("hoisted_transform",
             [](const Ring& ring, const Doubles& digits, const Doubles& ciphertext,
                const std::vector<std::optional<Doubles>>& keys, const std::vector<std::size_t>& galois,
                const std::vector<std::vector<std::optional<Doubles>>>& plain, int threads) {
                 const std::size_t limbs = checked_limbs(ring, ciphertext, 3), width = limbs + ring.special(), n = ring.n();
                 require(ciphertext.shape(0) == 2, "a ciphertext of two parts");
                 require_shape(digits, {ring.digits(limbs), width, n}, "digits of another level");
                 require(!plain.empty() && keys.size() == plain.size() && galois.size() == plain.size(),
                         "a key, an element and plaintexts for each term");
                 const std::size_t rows = plain[0].size();
                 require(rows > 0, "at least one row");
                 std::vector<const double*> key_data;
                 std::vector<std::vector<const double*>> plain_data;
                 std::vector<std::size_t> key_limbs;
                 for (std::size_t k = 0; k < plain.size(); ++k) {
                     check_galois(ring, galois[k]);
                     require(keys[k].has_value() || galois[k] == 1, "a key for every automorphism but the identity");
                     key_limbs.push_back(keys[k] ? check_key(ring, *keys[k], limbs) : 0);
                     key_data.push_back(keys[k] ? keys[k]->data() : nullptr);
                     require(plain[k].size() == rows, "as many rows for every term");
                     std::vector<const double*> terms;
                     for (const std::optional<Doubles>& term : plain[k]) {
                         if (term) require_shape(*term, {width, n}, "plaintexts modulo the special primes too");
                         terms.push_back(term ? term->data() : nullptr);
                     }
                     plain_data.push_back(terms);
                 }
                 DoublesOut out = new_array(ring.pool(), {rows, 2, width, n});
                 const double *d = digits.data(), *c = ciphertext.data();
                 nb::gil_scoped_release release;
                 ring.hoisted_transform(out.data(), d, c, c + limbs * n, limbs, key_data, key_limbs, galois, plain_data,
                                        threads);
                 return out;
             },
             "digits"_a, "ciphertext"_a, "keys"_a, "galois"_a, "plain"_a, "threads"_a = 1,
             "For each row r: sum_k plain[k][r] * automorphism_k(key switch of the ciphertext), times P, not divided: "
             "(rows, 2, limbs + special, n).")
        .def("add_switched",
             [](const Ring& ring, DoublesInOut total, const Doubles& digits, const Doubles& first, const Doubles& key,
                std::size_t galois, int threads) {
                 const std::size_t width = check_digits(ring, digits), limbs = width - ring.special();
                 require_shape(total, {2, width, ring.n()}, "a total of another level");
                 require_shape(first, {width, ring.n()}, "an addend of another level");
                 const std::size_t key_limbs = check_key(ring, key, limbs);
                 check_galois(ring, galois);
                 double* to = total.data();
                 const double *from = digits.data(), *added = first.data(), *k = key.data();
                 nb::gil_scoped_release release;
                 ring.add_switched(to, from, added, limbs, k, key_limbs, galois, threads);
             },
             "total"_a.noconvert(), "digits"_a, "first"_a, "key"_a, "galois"_a, "threads"_a = 1,
             "total += automorphism(digits * key + (first, 0)), none of them divided by P.")
        .def("mod_down",
             [](const Ring& ring, const Doubles& extended, std::optional<Doubles> add0, std::optional<Doubles> add1,
                std::size_t galois, int threads) {
                 require(extended.ndim() == 3 && (extended.shape(0) == 1 || extended.shape(0) == 2) && extended.shape(2) == ring.n() &&
                             extended.shape(1) > ring.special() && extended.shape(1) <= ring.special() + ring.chain(),
                         "not an extended ciphertext");
                 check_galois(ring, galois);
                 const std::size_t limbs = extended.shape(1) - ring.special();
                 const double *a0 = optional_limbs(ring, add0, limbs), *a1 = optional_limbs(ring, add1, limbs);
                 DoublesOut out = new_array(ring.pool(), {extended.shape(0), limbs, ring.n()});
                 const double* from = extended.data();
                 const std::size_t parts = extended.shape(0);
                 nb::gil_scoped_release release;
                 ring.mod_down(out.data(), from, parts, limbs, a0, a1, galois, threads);
                 return out;
             },
             "extended"_a, "add0"_a.none(), "add1"_a.none(), "galois"_a = 1, "threads"_a = 1)
        .def("key_switch",
             [](const Ring& ring, const Doubles& c, const Doubles& key, std::optional<Doubles> add0,
                std::optional<Doubles> add1, std::size_t galois, bool rescale, int threads) {
                 const std::size_t limbs = checked_limbs(ring, c, 2), key_limbs = check_key(ring, key, limbs);
                 check_galois(ring, galois);
                 require(!rescale || limbs > 1, "no limb would be left");
                 const double *a0 = optional_limbs(ring, add0, limbs), *a1 = optional_limbs(ring, add1, limbs);
                 DoublesOut out = new_array(ring.pool(), {2, rescale ? limbs - 1 : limbs, ring.n()});
                 const double *from = c.data(), *k = key.data();
                 nb::gil_scoped_release release;
                 ring.key_switch(out.data(), from, limbs, k, key_limbs, a0, a1, galois, rescale, threads);
                 return out;
             },
             "c"_a, "key"_a, "add0"_a.none(), "add1"_a.none(), "galois"_a = 1, "rescale"_a = false, "threads"_a = 1)

        .def("multiply",
             [](const Ring& ring, const Doubles& a, const Doubles& b, const Doubles& key, bool rescale, int threads) {
                 const std::size_t limbs = checked_limbs(ring, a, 3), key_limbs = check_key(ring, key, limbs);
                 require_shape(a, {2, limbs, ring.n()}, "a factor of two parts");
                 require_shape(b, {2, limbs, ring.n()}, "two factors of the same shape");
                 require(!rescale || limbs > 1, "no limb would be left");
                 DoublesOut out = new_array(ring.pool(), {2, rescale ? limbs - 1 : limbs, ring.n()});
                 const double *x = a.data(), *y = b.data(), *k = key.data();
                 nb::gil_scoped_release release;
                 ring.multiply(out.data(), x, y, limbs, k, key_limbs, rescale, threads);
                 return out;
             },
             "a"_a, "b"_a, "key"_a, "rescale"_a = false, "threads"_a = 1, "a * b, relinearised.")
        .def("key_switch_digits",
             [](const Ring& ring, const Doubles& digits, const Doubles& key, std::optional<Doubles> add0,
                std::optional<Doubles> add1, std::size_t galois, bool rescale, int threads) {
                 const std::size_t limbs = check_digits(ring, digits) - ring.special();
                 const std::size_t key_limbs = check_key(ring, key, limbs);
                 check_galois(ring, galois);
                 require(!rescale || limbs > 1, "no limb would be left");
                 const double *a0 = optional_limbs(ring, add0, limbs), *a1 = optional_limbs(ring, add1, limbs);
                 DoublesOut out = new_array(ring.pool(), {2, rescale ? limbs - 1 : limbs, ring.n()});
                 const double *from = digits.data(), *k = key.data();
                 nb::gil_scoped_release release;
                 ring.key_switch_digits(out.data(), from, limbs, k, key_limbs, a0, a1, galois, rescale, threads);
                 return out;
             },
             "digits"_a, "key"_a, "add0"_a.none(), "add1"_a.none(), "galois"_a = 1, "rescale"_a = false, "threads"_a = 1,
             "key_switch from the output of decompose.")

        .def("uniform",
             [](const Ring& ring, DoublesInOut limbs, const std::vector<std::size_t>& indices, const StreamRoom& room,
                const nb::callable& make, int threads) {
                 require_shape(limbs, {indices.size(), ring.n()}, "one row of n residues for each prime");
                 for (std::size_t index : indices)
                     require(index < ring.chain() + ring.special(), "a prime the ring does not have");
                 const Streams streams = checked_streams(ring, room, make);
                 double* out = limbs.data();
                 const nb::gil_scoped_release release;
                 const auto limb = [&](std::size_t i) { return UniformLimb{out + i * ring.n(), indices[i]}; };
                 expand(ring, streams, indices.size(), limb, [](std::size_t) {}, threads);
             },
             "limbs"_a.noconvert(), "indices"_a, "room"_a, "make"_a, "threads"_a = 1,
             "Fill limbs with residues uniform modulo primes, each from the stream that make(i, slot) writes to room[slot].")
        .def("pack",
             [](const Ring& ring, const Doubles& x, const std::vector<std::size_t>& indices, int threads) {
                 const std::size_t n = ring.n();
                 require_shape(x, {indices.size(), n}, "one row of n residues for each prime");
                 const std::vector<std::size_t> offsets = packed_offsets(ring, indices);
                 nb::bytes result =
                     nb::steal<nb::bytes>(PyBytes_FromStringAndSize(nullptr, static_cast<Py_ssize_t>(offsets.back())));
                 if (!result.is_valid()) throw std::bad_alloc();
                 auto* to = reinterpret_cast<std::uint8_t*>(PyBytes_AS_STRING(result.ptr()));
                 const double* from = x.data();
                 nb::gil_scoped_release release;
                 parallel_for(threads, indices.size(), [&](std::size_t i, std::size_t) {
                     pack(to + offsets[i], from + i * n, n, ring.modulus(indices[i]));
                 });
                 return result;
             },
             "x"_a, "indices"_a, "threads"_a = 1)
        .def("unpack",
             [](const Ring& ring, const Bytes& bytes, const std::vector<std::size_t>& indices,
                int threads) -> std::optional<DoublesOut> {
                 const std::size_t n = ring.n();
                 const std::vector<std::size_t> offsets = packed_offsets(ring, indices);
                 require(bytes.shape(0) == offsets.back(), "another number of bytes than these limbs take");
                 DoublesOut out = new_array(ring.pool(), {indices.size(), n});
                 const std::uint8_t* from = bytes.data();
                 double* to = out.data();
                 std::atomic<bool> valid{true};
                 {
                     nb::gil_scoped_release release;
                     parallel_for(threads, indices.size(), [&](std::size_t i, std::size_t) {
                         if (!unpack(to + i * n, from + offsets[i], n, ring.modulus(indices[i]))) valid = false;
                     });
                 }
                 if (!valid) return std::nullopt;
                 return out;
             },
             "bytes"_a, "indices"_a, "threads"_a = 1, "Residues (len(indices), n), or None when one is not below its prime.");
}

void bind_encoder(nb::module_& m) {
    using namespace nb::literals;
    nb::class_<Encoder>(m, "Encoder", "Complex slots to integer coefficients and back, the same bits everywhere.")
        .def("__init__",
             [](Encoder* self, std::size_t n) {
                 require(log2_exact(n) >= 6 && log2_exact(n) <= 17, "the ring dimension must be 2^6 ... 2^17");
                 new (self) Encoder(n);
             },
             "n"_a)
        .def("embed",
             [](const Encoder& encoder, const Complexes& values, double scale) {
                 require(values.shape(0) == encoder.slots(), "one value for each slot");
                 const std::size_t n = 2 * encoder.slots();
                 DoublesOut out = new_array(std::make_shared<BufferPool>(false), {n});
                 const std::complex<double>* from = values.data();
                 nb::gil_scoped_release release;
                 encoder.embed(out.data(), from, scale);
                 return out;
             },
             "values"_a, "scale"_a)
        .def("project",
             [](const Encoder& encoder, const Doubles& coefficients, double scale) {
                 const std::size_t n = 2 * encoder.slots();
                 require_shape(coefficients, {n}, "n coefficients");
                 auto* values = new std::complex<double>[encoder.slots()];
                 nb::capsule owner(values, [](void* p) noexcept { delete[] static_cast<std::complex<double>*>(p); });
                 {
                     nb::gil_scoped_release release;
                     encoder.project(values, coefficients.data(), scale);
                 }
                 return nb::ndarray<nb::numpy, std::complex<double>, nb::ndim<1>>(values, {encoder.slots()}, owner);
             },
             "coefficients"_a, "scale"_a);
}

}  // namespace

}  // namespace cipherlens

NB_MODULE(_evaluator, m) {
    m.doc() = "The engine's evaluator: every operation that needs no secret key.";
    m.def("available_kernels", &cipherlens::available_kernels, "Kernels this machine can run, fastest first.");
    m.def("check_kernels", [](const std::string& name) { cipherlens::checked_kernels(name); },
          nanobind::arg("name"), "Raise RuntimeError when these kernels fail their self-check.");
    cipherlens::bind_ring(m);
    cipherlens::bind_encoder(m);
}
