// The core tested without Python, on whatever machine it was compiled for.
//
// Every kernel is compared with 128-bit integers, sums and transforms of the largest residues among them; a small ring
// encrypts, multiplies, rotates and decrypts. The last line is a digest of everything computed: it must be the same on
// every instruction set.
#include <algorithm>
#include <complex>
#include <cstdio>
#include <string>
#include <vector>

#include "../encoding.hpp"
#include "../kernels/dispatch.hpp"
#include "../modular.hpp"
#include "../packing.hpp"
#include "../sampling.hpp"
#include "../secret.hpp"
#include "../sums.hpp"

using namespace cipherlens;

namespace {

using Wide = __int128;
using Limb = std::vector<double>;

int failures = 0;

void expect(bool condition, const std::string& what) {
    if (condition) return;
    std::printf("FAILED: %s\n", what.c_str());
    ++failures;
}

// FNV-1a over the bytes of results.
struct Digest {
    std::uint64_t value = 14695981039346656037ull;
    void add(const void* data, std::size_t bytes) {
        const auto* at = static_cast<const unsigned char*>(data);
        for (std::size_t i = 0; i < bytes; ++i) value = (value ^ at[i]) * 1099511628211ull;
    }
    void add(const Limb& x) { add(x.data(), x.size() * sizeof(double)); }
};

// A fixed sequence of 64-bit words (SplitMix64), so that every machine tests the same numbers.
struct Words {
    std::uint64_t state;
    std::uint64_t next() {
        std::uint64_t z = (state += 0x9e3779b97f4a7c15ull);
        z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
        z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
        return z ^ (z >> 31);
    }
};

std::int64_t reduce(Wide x, std::int64_t p) {
    const std::int64_t r = static_cast<std::int64_t>(x % p);
    return r < 0 ? r + p : r;
}

double canonical(Wide x, const Modulus& m) { return centred(reduce(x, m.value), m.value); }

enum class Fill { random, largest, signs };

Limb residues(std::size_t n, const Modulus& m, Fill fill, Words& words) {
    const std::int64_t half = (m.value - 1) / 2;
    Limb x(n);
    for (double& value : x) {
        const std::uint64_t word = words.next();
        switch (fill) {
            case Fill::random:
                value = centred(static_cast<std::int64_t>(word % static_cast<std::uint64_t>(m.value)), m.value);
                break;
            case Fill::largest: value = static_cast<double>(half); break;
            case Fill::signs: value = static_cast<double>(word & 1 ? half : -half); break;
        }
    }
    return x;
}

std::vector<const double*> pointers(const std::vector<Limb>& list) {
    std::vector<const double*> result;
    for (const Limb& x : list) result.push_back(x.data());
    return result;
}

bool equal(const Limb& found, const Limb& expected) { return found == expected; }

// ---- element by element and sums of products -----------------------------------------------------------------------

void test_elementwise(const Kernels& k, const Modulus& m, Fill fill, Digest& digest) {
    const std::size_t n = 64;
    Words words{1};
    const Limb a = residues(n, m, fill, words), b = residues(n, m, fill, words), d = residues(n, m, fill, words);
    const double c = static_cast<double>((m.value - 1) / 2);
    const auto check = [&](const char* name, const Limb& out, auto exact) {
        Limb expected(n);
        for (std::size_t i = 0; i < n; ++i)
            expected[i] =
                canonical(exact(static_cast<Wide>(a[i]), static_cast<Wide>(b[i]), static_cast<Wide>(d[i])), m);
        expect(equal(out, expected), std::string(k.name) + " " + name + ", p = " + std::to_string(m.value));
        digest.add(out);
    };
    const Wide cw = static_cast<Wide>(c);
    Limb out(n);
    k.add(out.data(), a.data(), b.data(), n, m);
    check("add", out, [](Wide x, Wide y, Wide) { return x + y; });
    k.subtract(out.data(), a.data(), b.data(), n, m);
    check("subtract", out, [](Wide x, Wide y, Wide) { return x - y; });
    k.multiply(out.data(), a.data(), b.data(), n, m);
    check("multiply", out, [](Wide x, Wide y, Wide) { return x * y; });
    k.multiply_scalar(out.data(), a.data(), c, nullptr, n, m);
    check("multiply_scalar", out, [&](Wide x, Wide, Wide) { return x * cw; });
    k.multiply_scalar(out.data(), a.data(), c, b.data(), n, m);
    check("multiply_scalar with an addend", out, [&](Wide x, Wide y, Wide) { return x * cw + y; });
    out = d;
    k.multiply_add(out.data(), a.data(), b.data(), n, m);
    check("multiply_add", out, [](Wide x, Wide y, Wide z) { return x * y + z; });
    k.subtract_multiply(out.data(), a.data(), b.data(), c, nullptr, n, m);
    check("subtract_multiply", out, [&](Wide x, Wide y, Wide) { return (x - y) * cw; });
    k.subtract_multiply(out.data(), a.data(), b.data(), c, d.data(), n, m);
    check("subtract_multiply with an addend", out, [&](Wide x, Wide y, Wide z) { return (x - y) * cw + z; });

    Limb wide(n), expected(n);
    for (std::size_t i = 0; i < n; ++i) {
        const double size = static_cast<double>(words.next() >> 12);
        // The ends of the range, points half-way between multiples of p, and anything.
        const std::int64_t multiple = std::max<std::int64_t>(static_cast<std::int64_t>(size / m.p) - 1, 0) * m.value;
        switch (i % 4) {
            case 0: wide[i] = i % 8 ? 4503599627370495.0 : -4503599627370495.0; break;
            case 1: wide[i] = static_cast<double>(multiple + (m.value + 1) / 2); break;
            case 2: wide[i] = -static_cast<double>(multiple + (m.value - 1) / 2); break;
            default: wide[i] = size;
        }
        expected[i] = canonical(static_cast<Wide>(wide[i]), m);
    }
    k.reduce(out.data(), wide.data(), n, m);
    expect(equal(out, expected), std::string(k.name) + " reduce");
    digest.add(out);
}

void test_sums(const Kernels& k, const Modulus& m, const Modulus& source, Fill fill, std::size_t terms,
               Digest& digest) {
    const std::size_t n = 32;
    Words words{terms};
    std::vector<Limb> a[4], y;
    for (auto& list : a)
        for (std::size_t t = 0; t < terms; ++t) list.push_back(residues(n, m, fill, words));
    for (std::size_t t = 0; t < terms; ++t) y.push_back(residues(n, source, fill, words));
    const auto exact = [&](std::size_t i, auto product) {
        Wide total = 0;  // kept reduced, so that no number of terms overflows
        for (std::size_t t = 0; t < terms; ++t) total = (total + product(t, i)) % m.value;
        return canonical(total, m);
    };
    const auto value = [&](std::size_t list, std::size_t t, std::size_t i) { return static_cast<Wide>(a[list][t][i]); };
    const auto label = [&](const char* name) {
        return std::string(k.name) + " " + name + " of " + std::to_string(terms) +
               " terms, p = " + std::to_string(m.value);
    };
    Limb out(n), out1(n), out2(n), want(n), want1(n), want2(n);
    const auto p0 = pointers(a[0]), p1 = pointers(a[1]), p2 = pointers(a[2]), p3 = pointers(a[3]);

    for (std::size_t i = 0; i < n; ++i)
        want[i] = exact(i, [&](std::size_t t, std::size_t j) { return value(0, t, j) * value(1, t, j); });
    k.dot(out.data(), p0.data(), p1.data(), terms, n, m);
    expect(equal(out, want), label("dot"));
    digest.add(out);

    for (std::size_t i = 0; i < n; ++i)
        want1[i] = exact(i, [&](std::size_t t, std::size_t j) { return value(0, t, j) * value(2, t, j); });
    k.dot_pair(out.data(), out1.data(), p0.data(), p1.data(), p2.data(), terms, n, m);
    expect(equal(out, want) && equal(out1, want1), label("dot_pair"));
    digest.add(out1);

    for (std::size_t i = 0; i < n; ++i) {
        want[i] = exact(i, [&](std::size_t t, std::size_t j) { return value(0, t, j) * value(2, t, j); });
        want1[i] = exact(i, [&](std::size_t t, std::size_t j) {
            return value(0, t, j) * value(3, t, j) + value(1, t, j) * value(2, t, j);
        });
        want2[i] = exact(i, [&](std::size_t t, std::size_t j) { return value(1, t, j) * value(3, t, j); });
    }
    double* const outs[3] = {out.data(), out1.data(), out2.data()};
    k.dot_tensor(outs, p0.data(), p1.data(), p2.data(), p3.data(), terms, n, m);
    expect(equal(out, want) && equal(out1, want1) && equal(out2, want2), label("dot_tensor"));
    digest.add(out), digest.add(out1), digest.add(out2);

    const Limb c = residues(terms, m, fill, words);
    for (std::size_t i = 0; i < n; ++i)
        want[i] = exact(
            i, [&](std::size_t t, std::size_t j) { return static_cast<Wide>(y[t][j]) * static_cast<Wide>(c[t]); });
    const auto sources = pointers(y);
    k.dot_scalar(out.data(), sources.data(), c.data(), terms, n, m, false);
    expect(equal(out, want), label("dot_scalar") + " from " + std::to_string(source.value));
    digest.add(out);
}

// Sums whose every remainder (what a product loses when it joins the accumulator) is one short of half a unit, with
// the largest factors that allow it: the longest that a run may be. Sources are below 2^49 for any target.
void test_remainders(const Kernels& k, const Modulus& m, std::size_t terms, Digest& digest) {
    const std::size_t n = 32;
    Words words{terms + 1000};
    int log = 0;
    while (log < 3 && (std::size_t{1} << log) < terms) ++log;
    const std::int64_t unit = std::int64_t{1} << (m.bits - 3 + log), limit = (std::int64_t{1} << 49) - 1;
    std::vector<Limb> y(terms, Limb(n));
    Limb c(terms), out(n), expected(n);
    for (std::size_t t = 0; t < terms; ++t) {
        const std::int64_t factor = ((m.value - 1) / 2 - static_cast<std::int64_t>(words.next() % 1024)) | 1;
        c[t] = static_cast<double>(factor > (m.value - 1) / 2 ? factor - 2 : factor);
        // The inverse of an odd number modulo a power of two, by Newton's iteration.
        std::uint64_t inverse = 1;
        for (int i = 0; i < 6; ++i) inverse *= 2 - static_cast<std::uint64_t>(c[t]) * inverse;
        for (double& value : y[t]) {
            const std::uint64_t residue =
                (static_cast<std::uint64_t>(unit) / 2 - 1) * inverse & static_cast<std::uint64_t>(unit - 1);
            std::int64_t at = static_cast<std::int64_t>(residue);
            if (at > limit) at -= unit;
            else at += (limit - at) / unit * unit;
            value = static_cast<double>(at);
        }
    }
    for (std::size_t i = 0; i < n; ++i) {
        Wide total = 0;
        for (std::size_t t = 0; t < terms; ++t) total += static_cast<Wide>(y[t][i]) * static_cast<Wide>(c[t]);
        expected[i] = canonical(total, m);
    }
    const auto sources = pointers(y);
    k.dot_scalar(out.data(), sources.data(), c.data(), terms, n, m, false);
    expect(equal(out, expected), std::string(k.name) + " largest remainders of " + std::to_string(terms) + " terms");
    digest.add(out);
}

// ---- transform -----------------------------------------------------------------------------------------------------

// The head column block by column block, as base conversion takes it.
void forward(const Kernels& k, Limb& y, const Limb& roots, std::size_t n, const Modulus& m) {
    const std::size_t columns = n / ntt_rows(n), block = columns < 32 ? columns : 32;
    for (std::size_t column = 0; column < columns; column += block)
        k.ntt_head(y.data(), roots.data(), n, column, block, m);
    k.ntt_tail(y.data(), roots.data(), n, m);
}

void test_transform(const Kernels& k, const Modulus& m, std::size_t n, Fill fill, Digest& digest) {
    Words words{n};
    const Limb x = residues(n, m, fill, words), roots = root_table(m, n);
    const std::string label =
        std::string(k.name) + " transform of " + std::to_string(n) + ", p = " + std::to_string(m.value);
    Limb y = x;
    forward(k, y, roots, n, m);
    const std::int64_t psi = primitive_root(m.value, n);
    for (std::size_t i : {std::size_t{0}, std::size_t{1}, n / 2 + 1, n - 1}) {
        const std::int64_t point = power_mod(psi, 2 * reverse_bits(i, log2_exact(n)) + 1, m.value);
        std::int64_t value = 0;  // Horner
        for (std::size_t j = n; j-- > 0;)
            value = reduce(static_cast<Wide>(value) * point + static_cast<Wide>(x[j]), m.value);
        expect(y[i] == centred(value, m.value), label);
    }
    digest.add(y);
    k.intt(y.data(), y.data(), roots.data(), n, m, centred(inverse_mod(static_cast<std::int64_t>(n), m.value), m.value));
    expect(equal(y, x), label + ", back");
    y = x;  // the inverse of arbitrary values, undone by the forward transform
    k.intt(y.data(), y.data(), roots.data(), n, m, centred(inverse_mod(static_cast<std::int64_t>(n), m.value), m.value));
    digest.add(y);
    forward(k, y, roots, n, m);
    expect(equal(y, x), label + ", inverse first");
}

// ---- automorphisms -------------------------------------------------------------------------------------------------

// A whole limb and, block by block, a sum of products with a permuted factor, as a linear transform takes it.
void test_automorphism(const Kernels& k, const Modulus& m, std::size_t n, std::size_t galois, Digest& digest) {
    Words words{galois};
    const Limb x = residues(n, m, Fill::random, words), b = residues(n, m, Fill::signs, words),
               c = residues(n, m, Fill::random, words);
    const std::vector<std::uint32_t> source = automorphism_table(n, galois);
    const std::string label =
        std::string(k.name) + " automorphism " + std::to_string(galois) + " of " + std::to_string(n);
    Limb out(n), expected(n), sum0 = c, sum1 = b, want0(n), want1(n);
    for (std::size_t i = 0; i < n; ++i) {
        expected[i] = x[source[i]];
        want0[i] = canonical(static_cast<Wide>(c[i]) + static_cast<Wide>(x[source[i]]) * static_cast<Wide>(b[i]), m);
        want1[i] = canonical(static_cast<Wide>(b[i]) + static_cast<Wide>(x[source[i]]) * static_cast<Wide>(c[i]), m);
    }
    k.permute(out.data(), x.data(), source.data(), galois, n);
    expect(equal(out, expected), label);
    const std::size_t block = n / 2;
    for (std::size_t at = 0; at < n; at += block) {
        double* const sums[2] = {sum0.data() + at, sum1.data() + at};
        const double* const factors[2] = {b.data() + at, c.data() + at};
        k.permuted_multiply_add(sums, x.data() + source[at] / block * block, source.data() + at, galois, factors, 2,
                                block, m);
    }
    expect(equal(sum0, want0) && equal(sum1, want1), label + ", multiplied");
    digest.add(out), digest.add(sum0), digest.add(sum1);
}

// ---- bytes ---------------------------------------------------------------------------------------------------------

void test_bytes(const Modulus& m, Digest& digest) {
    const std::size_t n = 64;
    Words words{9};
    const Limb x = residues(n, m, Fill::random, words);
    std::vector<std::uint8_t> packed(packed_size(n, m.bits)), stream(8 * n);
    pack(packed.data(), x.data(), n, m);
    Limb back(n);
    expect(unpack(back.data(), packed.data(), n, m) && equal(back, x), "packing");
    digest.add(packed.data(), packed.size());
    for (std::uint8_t& byte : packed) byte = 255;
    expect(!unpack(back.data(), packed.data(), n, m), "a residue above its prime is noticed");

    for (std::uint8_t& byte : stream) byte = static_cast<std::uint8_t>(words.next());
    std::vector<std::int8_t> ternary(n), error(n);
    sample_ternary(ternary.data(), n, stream.data());
    sample_error(error.data(), n, stream.data());
    for (std::size_t i = 0; i < n; ++i) {
        expect(ternary[i] >= -1 && ternary[i] <= 1, "a ternary coefficient");
        expect(error[i] >= -21 && error[i] <= 21, "an error");
    }
    digest.add(ternary.data(), n), digest.add(error.data(), n);
}

// Uniform residues from words of three kinds: random ones; those around multiples of p, where a quotient taken in floating
// point is off by one; and such as have to be skipped. Long enough for whole blocks, and for an end that is none.
void test_uniform(const Kernels& k, const Modulus& m, Digest& digest) {
    const std::size_t n = 1500;
    const auto p = static_cast<std::uint64_t>(m.value);
    const std::uint64_t limit = ~std::uint64_t{0} / p * p;
    Words random{10};
    std::vector<std::uint8_t> stream;
    Limb expected, found(n);
    for (std::size_t i = 0; i < n; ++i) {
        std::uint64_t word = random.next();
        if (i % 3 == 1) word = word % (limit / p) * p + (i % 2 == 0 ? 0 : p - 1);
        if (i >= 1100 && i % 100 == 0) word = limit + word % (~std::uint64_t{0} - limit);
        for (std::size_t b = 0; b < 8; ++b) stream.push_back(static_cast<std::uint8_t>(word >> (8 * b)));
        if (word < limit) expected.push_back(canonical(static_cast<Wide>(word), m));
    }
    const std::string label = std::string(k.name) + " uniform residues";
    for (std::size_t words : {n, n / 2}) {
        const std::size_t filled = sample_uniform(found.data(), n, stream.data(), words, m, k);
        expect(filled <= words && filled <= expected.size() && (words < n || filled == expected.size()) &&
                   std::equal(found.begin(), found.begin() + static_cast<std::ptrdiff_t>(filled), expected.begin()),
               label);
    }
    for (std::size_t few : {std::size_t{7}, std::size_t{600}})  // a limb that is full before the stream ends
        expect(sample_uniform(found.data(), few, stream.data(), n, m, k) == few, label + ", a short limb");
    digest.add(expected);
}

// ---- a small ring from end to end ----------------------------------------------------------------------------------

void put(std::uint8_t* to, std::uint64_t word) {  // little-endian
    for (std::size_t b = 0; b < 8; ++b) to[b] = static_cast<std::uint8_t>(word >> (8 * b));
}

// A stream for each limb of words, in the order of the tasks.
struct WordStreams {
    std::vector<std::uint8_t> room;
    Streams streams;

    WordStreams(std::size_t n, int threads, Words& words)
        : room(static_cast<std::size_t>(threads) * (8 * n + 512)),
          streams{[this, &words](std::size_t, std::size_t slot) {
                      std::uint8_t* to = room.data() + slot * streams.length;
                      for (std::size_t i = 0; i < streams.length; i += 8) put(to + i, words.next());
                  },
                  room.data(), 8 * n + 512, static_cast<std::size_t>(threads)} {}
    WordStreams(const WordStreams&) = delete;
};

Limb uniform(const Ring& ring, const std::vector<std::size_t>& indices, Words& words) {
    Limb all;
    for (std::size_t index : indices) {
        const Limb limb = residues(ring.n(), ring.modulus(index), Fill::random, words);
        all.insert(all.end(), limb.begin(), limb.end());
    }
    return all;
}

std::vector<std::int8_t> small(std::size_t n, Words& words, bool ternary) {
    std::vector<std::uint8_t> stream(8 * n);
    for (std::size_t i = 0; i < n; ++i) put(stream.data() + 8 * i, words.next());
    std::vector<std::int8_t> out(n);
    (ternary ? sample_ternary : sample_error)(out.data(), n, stream.data());
    return out;
}

// Encrypt z, then z * z relinearised and rescaled, and z rotated by one slot, against the same in the clear.
void test_ring(const std::string& kernel, int threads, Digest& digest) {
    const std::size_t n = 1024, limbs = 3, special = 2;
    // 40, 30, 30 | 41, 41 bits, each 1 modulo 2^13
    const std::vector<std::int64_t> primes{1099511480321, 1073643521, 1073872897, 2199022927873, 2199023190017};
    const Ring ring(n, primes, special, 2, kernel, true);
    const Encoder encoder(n);
    Words words{77};
    const double scale = 1073741824.0;
    const std::size_t top = limbs + special;

    const std::vector<std::size_t> all{0, 1, 2, 3, 4};
    Limb secret(top * n), square(top * n), rotated(top * n);
    small_to_ntt(ring, secret.data(), small(n, words, true).data(), all, threads);
    secret_square(ring, square.data(), secret.data(), threads);
    const std::size_t inverse = ring.inverse_galois(5);
    expect(inverse * 5 % (2 * n) == 1, "the inverse of a Galois element");
    secret_automorphism(ring, rotated.data(), secret.data(), inverse, threads);

    const auto key_for = [&](const Limb& source, const Limb& target) {
        const std::size_t digits = ring.digits(limbs);
        Limb key(digits * 2 * top * n);
        std::vector<std::int8_t> errors;
        for (std::size_t d = 0; d < digits; ++d)
            for (std::int8_t e : small(n, words, false)) errors.push_back(e);
        const WordStreams made(n, threads, words);
        switching_key(ring, key.data(), made.streams, errors.data(), source.data(), target.data(), limbs, threads);
        return key;
    };
    const Limb relinearisation = key_for(square, secret), rotation = key_for(secret, rotated);

    std::vector<std::complex<double>> z(n / 2), got(n / 2);
    for (std::size_t j = 0; j < n / 2; ++j)
        z[j] = {static_cast<double>(words.next() >> 11) * 0x1p-53, static_cast<double>(words.next() >> 11) * -0x1p-53};
    Limb coefficients(n), message(limbs * n), c = Limb(2 * limbs * n), decrypted(n);
    encoder.embed(coefficients.data(), z.data(), scale);
    digest.add(coefficients);
    for (std::size_t i = 0; i < limbs; ++i) {
        ring.kernels().reduce(message.data() + i * n, coefficients.data(), n, ring.modulus(i));
        ring.ntt(message.data() + i * n, i);
    }
    const auto noise = small(n, words, false);
    const WordStreams made(n, threads, words);
    encrypt(ring, c.data(), c.data() + limbs * n, made.streams, message.data(), noise.data(), secret.data(), limbs,
            threads);

    const auto error = [&](const Limb& ciphertext, std::size_t level, double at, auto expected) {
        decrypt(ring, decrypted.data(), ciphertext.data(), 2, level, secret.data());
        encoder.project(got.data(), decrypted.data(), at);
        double worst = 0;
        for (std::size_t j = 0; j < n / 2; ++j) worst = std::max(worst, std::abs(got[j] - expected(j)));
        digest.add(ciphertext), digest.add(decrypted), digest.add(got.data(), got.size() * sizeof got[0]);
        return worst;
    };
    expect(error(c, limbs, scale, [&](std::size_t j) { return z[j]; }) < 0x1p-18, kernel + " encryption");

    Limb turned(2 * limbs * n), product(3 * limbs * n), lower(2 * (limbs - 1) * n);
    ring.key_switch(turned.data(), c.data() + limbs * n, limbs, rotation.data(), limbs, c.data(), nullptr, 5, false,
                    threads);
    expect(error(turned, limbs, scale, [&](std::size_t j) { return z[(j + 1) % (n / 2)]; }) < 0x1p-14,
           kernel + " rotation");

    sum_tensor_products(ring, product.data(), {c.data()}, {c.data()}, limbs, threads);
    ring.key_switch(lower.data(), product.data() + 2 * limbs * n, limbs, relinearisation.data(), limbs, product.data(),
                    product.data() + limbs * n, 1, true, threads);
    const double after = scale * scale / static_cast<double>(primes[limbs - 1]);
    expect(error(lower, limbs - 1, after, [&](std::size_t j) { return z[j] * z[j]; }) < 0x1p-14, kernel + " product");
}

// ---- every operation of a ring -------------------------------------------------------------------------------------

// On arbitrary residues, in digits of two primes with a partial last one: what is computed in one go equals what is
// computed step by step.
void test_operations(const std::string& kernel, int threads, Digest& digest) {
    const std::size_t n = 2048, limbs = 3, special = 2, top = limbs + special, digits = 2;
    // 40, 30, 30 | 41, 41 bits, each 1 modulo 2^13
    const std::vector<std::int64_t> primes{1099511480321, 1073643521, 1073872897, 2199022927873, 2199023190017};
    const Ring ring(n, primes, special, 2, kernel, true);
    Words words{78};
    std::vector<std::size_t> all{0, 1, 2, 3, 4}, chain{0, 1, 2};
    const auto polynomials = [&](std::size_t count, const std::vector<std::size_t>& indices) {
        Limb out;
        for (std::size_t i = 0; i < count; ++i) {
            const Limb one = uniform(ring, indices, words);
            out.insert(out.end(), one.begin(), one.end());
        }
        return out;
    };
    const auto same = [&](const Limb& found, const Limb& expected, const char* what) {
        expect(equal(found, expected), kernel + " " + what + " on " + std::to_string(threads) + " threads");
        digest.add(found);
    };
    const Limb a = polynomials(2, chain), b = polynomials(2, chain), key = polynomials(2 * digits, all);
    const double *a0 = a.data(), *a1 = a0 + limbs * n, *b0 = b.data(), *b1 = b0 + limbs * n;

    Limb parts(digits * top * n), inner(2 * top * n), down(2 * limbs * n), got(2 * limbs * n);
    ring.decompose(parts.data(), a1, limbs, threads);
    ring.inner_product(inner.data(), parts.data(), limbs, key.data(), limbs, threads);
    ring.mod_down(down.data(), inner.data(), 2, limbs, b0, b1, 5, threads);
    digest.add(parts), digest.add(inner), digest.add(down);
    ring.key_switch(got.data(), a1, limbs, key.data(), limbs, b0, b1, 5, false, threads);
    same(got, down, "key switch in one go");
    ring.key_switch_digits(got.data(), parts.data(), limbs, key.data(), limbs, b0, b1, 5, false, threads);
    same(got, down, "key switch from stored digits");
    Limb rescaled(2 * (limbs - 1) * n), lower(2 * (limbs - 1) * n);
    ring.key_switch(rescaled.data(), a1, limbs, key.data(), limbs, b0, b1, 1, true, threads);
    ring.key_switch_digits(lower.data(), parts.data(), limbs, key.data(), limbs, b0, b1, 1, true, threads);
    same(lower, rescaled, "key switch and rescale from stored digits");

    Limb product(3 * limbs * n);
    sum_tensor_products(ring, product.data(), {a0}, {b0}, limbs, threads);
    ring.key_switch(down.data(), product.data() + 2 * limbs * n, limbs, key.data(), limbs, product.data(),
                    product.data() + limbs * n, 1, false, threads);
    ring.multiply(got.data(), a0, b0, limbs, key.data(), limbs, false, threads);
    same(got, down, "product in one go");
    ring.key_switch(rescaled.data(), product.data() + 2 * limbs * n, limbs, key.data(), limbs, product.data(),
                    product.data() + limbs * n, 1, true, threads);
    ring.multiply(lower.data(), a0, b0, limbs, key.data(), limbs, true, threads);
    same(lower, rescaled, "product and rescale in one go");

    // One row whose factor is 1 is a rotation, another holds the ciphertext itself too.
    const Limb ones(top * n, 1.0), plain = polynomials(2, all);
    Limb rows(2 * 2 * top * n), row(2 * top * n);
    ring.hoisted_transform(rows.data(), parts.data(), a0, a1, limbs, {nullptr, key.data()}, {0, limbs}, {1, 5},
                           {{nullptr, plain.data()}, {ones.data(), plain.data() + top * n}}, threads);
    digest.add(rows);
    row.assign(rows.begin(), rows.begin() + static_cast<std::ptrdiff_t>(2 * top * n));
    ring.mod_down(got.data(), row.data(), 2, limbs, nullptr, nullptr, 1, threads);
    ring.key_switch(down.data(), a1, limbs, key.data(), limbs, a0, nullptr, 5, false, threads);
    same(got, down, "hoisted rotation");

    for (std::size_t tail : {std::size_t{1}, std::size_t{2}}) {
        Limb divided(2 * (limbs - tail) * n);
        ring.divide(divided.data(), a0, 2, limbs, tail, threads);
        digest.add(divided);
    }
    sum_plain_products(ring, got.data(), {a0, b0}, {plain.data(), b1}, 2, limbs, threads);
    digest.add(got);
    sum_scalar_products(ring, got.data(), {a0, b0}, {{1.0, -2.0, 3.0}, {-5.0, 7.0, 11.0}}, 2, limbs, threads);
    digest.add(got);

    // Diagonals m = m1 + 2 m2 of a scatter matrix, added to what is there.
    std::vector<Limb> sums, expected;
    std::vector<double*> into;
    for (std::size_t m = 0; m < 3; ++m) {
        sums.push_back(polynomials(3, chain));
        expected.push_back(Limb(3 * limbs * n));
        sum_tensor_products(ring, expected[m].data(), {m / 2 == 0 ? a0 : b0, b0}, {m % 2 == 0 ? b0 : a0, a0}, limbs,
                            threads);
        for (std::size_t at = 0; at < 3 * limbs; ++at)
            ring.kernels().add(expected[m].data() + at * n, expected[m].data() + at * n, sums[m].data() + at * n, n,
                               ring.modulus(at % limbs));
    }
    for (Limb& sum : sums) into.push_back(sum.data());
    accumulate_scatter(ring, into, {{b0, a0}, {a0, a0}}, {{a0, b0}, {b0, b0}}, limbs, threads);
    for (std::size_t m = 0; m < 3; ++m) same(sums[m], expected[m], "scatter");

    const Limb message = polynomials(1, chain), whole = polynomials(2, all);
    const auto ephemeral = small(n, words, true), error0 = small(n, words, false), error1 = small(n, words, false);
    public_encrypt(ring, got.data(), message.data(), whole.data(), limbs, ephemeral.data(), error0.data(),
                   error1.data(), threads);
    digest.add(got);
}

}  // namespace

int main() {
    const Modulus large = make_modulus(1125899906826241), middle = make_modulus(17179859969),
                  tiny = make_modulus(67104769);
    std::uint64_t digest = 0;
    bool first = true;
    for (const std::string& name : available_kernels()) {
        const Kernels& k = checked_kernels(name);
        Digest found;
        for (const Modulus& m : {large, middle, tiny}) {
            for (Fill fill : {Fill::random, Fill::largest, Fill::signs}) {
                test_elementwise(k, m, fill, found);
                for (std::size_t terms : {1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 33, 100}) {
                    test_sums(k, m, large, fill, terms, found);
                    test_sums(k, m, tiny, fill, terms, found);
                }
                for (std::size_t n : {64, 128, 256}) test_transform(k, m, n, fill, found);
            }
            for (std::size_t terms : {1, 2, 4, 7, 8, 9, 16, 24}) test_remainders(k, m, terms, found);
            test_bytes(m, found);
            test_uniform(k, m, found);
        }
        for (std::size_t n : {64, 128, 1024})
            for (std::size_t galois : {std::size_t{1}, std::size_t{3}, std::size_t{5}, std::size_t{25}, 2 * n - 1})
                test_automorphism(k, large, n, galois, found);
        // A 50-bit prime that is 1 modulo 2^16: long transforms, of even and of odd logarithm, take other paths.
        const Modulus deep = make_modulus(1125899904679937);
        for (std::size_t n : {1024, 4096, 8192, 16384, 32768})
            for (Fill fill : {Fill::random, Fill::signs}) test_transform(k, deep, n, fill, found);
        for (int threads : {1, 2, 3}) {
            Digest ring;
            test_ring(name, threads, ring);
            test_operations(name, threads, ring);
            if (threads == 1) found.add(&ring.value, sizeof ring.value);
            Digest again;
            test_ring(name, 1, again);
            test_operations(name, 1, again);
            expect(ring.value == again.value, name + ": the same bytes on " + std::to_string(threads) + " threads");
        }
        expect(first || found.value == digest, name + ": the same bytes as the other kernels");
        digest = found.value;
        first = false;
        std::printf("%s checked\n", name.c_str());
    }
    if (failures != 0) return 1;
    std::printf("digest %016llx\n", static_cast<unsigned long long>(digest));
    return 0;
}
