#include "dispatch.hpp"

#include <map>
#include <mutex>
#include <stdexcept>

#include "../modular.hpp"

namespace cipherlens {

namespace {

struct Candidate {
    const char* name;
    const Kernels& (*get)();
    bool runs;
};

std::vector<Candidate> candidates() {
    std::vector<Candidate> list;
#if defined(CIPHERLENS_X86)
    __builtin_cpu_init();
    list.push_back({"avx512", avx512_kernels, __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq")});
    list.push_back({"avx2", avx2_kernels, __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")});
#endif
#if defined(CIPHERLENS_NEON)
    list.push_back({"neon", neon_kernels, true});
#endif
    list.push_back({"portable", portable_kernels, true});
    return list;
}

// Residues that touch both ends of the range and fill the rest with a fixed pseudo-random sequence.
std::vector<double> pattern(std::size_t n, const Modulus& m, std::uint64_t seed) {
    std::vector<double> x(n);
    for (std::size_t i = 0; i < n; ++i) {
        seed = seed * 6364136223846793005ull + 1442695040888963407ull;
        x[i] = centred(static_cast<std::int64_t>((seed >> 11) % static_cast<std::uint64_t>(m.value)), m.value);
    }
    x[0] = static_cast<double>((m.value - 1) / 2);
    x[1] = -x[0];
    x[2] = 0;
    return x;
}

// Every kernel on one modulus; the results one after the other.
std::vector<double> transcript(const Kernels& k, const Modulus& m, std::size_t n) {
    const std::vector<double> roots = root_table(m, n);
    std::vector<std::vector<double>> in;
    for (std::uint64_t seed = 1; seed <= 44; ++seed) in.push_back(pattern(n, m, seed));
    std::vector<const double*> a, b, c, d;
    for (std::size_t t = 0; t < 11; ++t) {
        a.push_back(in[t].data()), b.push_back(in[11 + t].data());
        c.push_back(in[22 + t].data()), d.push_back(in[33 + t].data());
    }
    std::vector<double> all, out(n), out1(n), out2(n);
    const auto keep = [&](const std::vector<double>& x) { all.insert(all.end(), x.begin(), x.end()); };
    // The head at once and, as base conversion takes it, in blocks of columns.
    const std::size_t columns = n / ntt_rows(n);
    for (std::size_t block : {columns, columns < 32 ? columns : 32}) {
        out = in[0];
        for (std::size_t at = 0; at < columns; at += block) k.ntt_head(out.data(), roots.data(), n, at, block, m);
        k.ntt_tail(out.data(), roots.data(), n, m), keep(out);
    }
    k.intt(out1.data(), out.data(), roots.data(), n, m, in[1][5]), keep(out1);
    k.add(out.data(), a[0], b[0], n, m), keep(out);
    k.subtract(out.data(), a[0], b[0], n, m), keep(out);
    k.multiply(out.data(), a[0], b[0], n, m), keep(out);
    k.multiply_scalar(out.data(), a[0], in[1][7], b[0], n, m), keep(out);
    k.multiply_add(out.data(), a[0], b[1], n, m), keep(out);
    k.subtract_multiply(out.data(), a[0], b[0], in[1][9], c[0], n, m), keep(out);
    for (std::size_t galois : {std::size_t{1}, std::size_t{5}, std::size_t{25}, 2 * n - 1, 2 * n - 5}) {
        const std::vector<std::uint32_t> source = automorphism_table(n, galois);
        k.permute(out.data(), a[0], source.data(), galois, n), keep(out);
        out1 = in[1], out2 = in[2];
        double* const rows[2] = {out1.data(), out2.data()};
        k.permuted_multiply_add(rows, a[0], source.data(), galois, b.data(), 2, n, m), keep(out1), keep(out2);
    }
    for (std::size_t i = 0; i < n; ++i) out1[i] = in[0][i] * 3 + static_cast<double>(i);
    k.reduce(out.data(), out1.data(), n, m), keep(out);
    k.dot(out.data(), a.data(), b.data(), 11, n, m), keep(out);
    k.dot_pair(out.data(), out1.data(), a.data(), b.data(), c.data(), 11, n, m), keep(out), keep(out1);
    for (std::size_t terms : {1, 8, 11}) {
        k.dot_scalar(out.data(), a.data(), in[2].data() + 3, terms, n, m, false), keep(out);
        k.dot_scalar(out.data(), a.data(), in[2].data() + 3, terms, n, m, true);
        for (double& x : out)
            if (!(x >= -1.5 * m.p && x <= 1.5 * m.p)) x = 0.5;  // no integer: no other kernels give this
        k.reduce(out1.data(), out.data(), n, m), keep(out1);  // lazy values may differ, what they stand for may not
    }
    double* outs[3] = {out.data(), out1.data(), out2.data()};
    k.dot_tensor(outs, a.data(), b.data(), c.data(), d.data(), 11, n, m), keep(out), keep(out1), keep(out2);
    return all;
}

// A transform longer than a block of the cache takes another path. The portable kernels would need too long for it, so
// two outputs are compared with the polynomial's values, and all of them by the way back.
bool long_transform_is_right(const Kernels& k) {
    const std::size_t n = std::size_t{1} << 15;
    const Modulus m = make_modulus(1125899904679937);  // 50 bits, 1 mod 2^16
    const std::vector<double> roots = root_table(m, n), x = pattern(n, m, 1);
    std::vector<double> y = x;
    k.ntt_head(y.data(), roots.data(), n, 0, n / ntt_rows(n), m);
    k.ntt_tail(y.data(), roots.data(), n, m);
    const std::int64_t psi = primitive_root(m.value, n);
    for (std::size_t i : {std::size_t{1}, n - 2}) {
        const std::int64_t point = power_mod(psi, 2 * reverse_bits(i, log2_exact(n)) + 1, m.value);
        std::int64_t value = 0;  // Horner
        for (std::size_t j = n; j-- > 0;) {
            const std::int64_t coefficient = static_cast<std::int64_t>(x[j]);
            value = multiply_mod(value, point, m.value) + (coefficient < 0 ? coefficient + m.value : coefficient);
            value -= value >= m.value ? m.value : 0;
        }
        if (y[i] != centred(value, m.value)) return false;
    }
    k.intt(y.data(), y.data(), roots.data(), n, m, centred(inverse_mod(n, m.value), m.value));
    return y == x;
}

bool passes(const Kernels& kernels) {
    for (std::size_t n : {64, 128, 256})
        for (std::int64_t p : {1125899906826241ll, 17179859969ll, 67104769ll}) {  // 50, 34 and 26 bits, 1 mod 1024
            const Modulus m = make_modulus(p);
            if (transcript(kernels, m, n) != transcript(portable_kernels(), m, n)) return false;
        }
    return long_transform_is_right(kernels);
}

}  // namespace

std::vector<std::string> available_kernels() {
    std::vector<std::string> names;
    for (const Candidate& c : candidates())
        if (c.runs) names.push_back(c.name);
    return names;
}

const Kernels& checked_kernels(const std::string& name) {
    // The machine does not change under a process: each kernel is checked once, not for every ring.
    static std::mutex mutex;
    static std::map<std::string, bool> outcomes;
    for (const Candidate& c : candidates()) {
        if (name != c.name || !c.runs) continue;
        const std::lock_guard<std::mutex> lock(mutex);
        auto known = outcomes.find(name);
        if (known == outcomes.end()) known = outcomes.emplace(name, passes(c.get())).first;
        if (!known->second) throw std::runtime_error("the " + name + " kernels failed their self-check on this machine");
        return c.get();
    }
    throw std::runtime_error("no kernels named " + name + " run on this machine");
}

}  // namespace cipherlens
