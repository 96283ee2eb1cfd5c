#include "encoding.hpp"

#include <cmath>
#include <unordered_map>

#include "modular.hpp"

namespace cipherlens {

namespace {

// Unevaluated sums of two doubles, about 104 bits: roots of unity computed with these and rounded once are correct
// to the last bit, whatever the machine's libm does. Products are split as Dekker does, without fused operations.
struct Pair {
    double high, low;
};

Pair quick_sum(double a, double b) {
    const double s = a + b;
    return {s, b - (s - a)};
}

Pair two_sum(double a, double b) {
    const double s = a + b, t = s - a;
    return {s, (a - (s - t)) + (b - t)};
}

Pair two_product(double a, double b) {
    const double splitter = 134217729.0;  // 2^27 + 1
    const double ta = splitter * a, tb = splitter * b;
    const double ah = ta - (ta - a), al = a - ah, bh = tb - (tb - b), bl = b - bh;
    const double p = a * b;
    return {p, ((ah * bh - p) + ah * bl + al * bh) + al * bl};
}

Pair operator+(Pair a, Pair b) {
    const Pair s = two_sum(a.high, b.high);
    return quick_sum(s.high, s.low + (a.low + b.low));
}

Pair operator-(Pair a) { return {-a.high, -a.low}; }

Pair operator*(Pair a, Pair b) {
    const Pair p = two_product(a.high, b.high);
    return quick_sum(p.high, p.low + (a.high * b.low + a.low * b.high));
}

Pair half(Pair a) { return {a.high / 2, a.low / 2}; }

Pair divide(Pair a, Pair b) {
    const double q = a.high / b.high;
    const Pair r = a + -(b * Pair{q, 0.0});
    const double q2 = r.high / b.high;
    const Pair r2 = r + -(b * Pair{q2, 0.0});
    const Pair s = quick_sum(q, q2);
    return quick_sum(s.high, s.low + r2.high / b.high);
}

Pair square_root(Pair a) {
    const double x = std::sqrt(a.high);  // correctly rounded by IEEE 754
    const Pair r = a + -two_product(x, x);
    return quick_sum(x, r.high / (2 * x));
}

struct Root {
    Pair re, im;
};

Root operator*(Root a, Root b) { return {a.re * b.re + -(a.im * b.im), a.re * b.im + a.im * b.re}; }

// exp(2 pi i k / size) for k = 0 ... size - 1.
std::vector<Root> roots_of_unity(std::size_t size) {
    std::vector<Root> table{{{1.0, 0.0}, {0.0, 0.0}}};
    std::vector<Root> halvings;  // exp(2 pi i / 2^j), j = 1 ... log2 size
    Root root{{-1.0, 0.0}, {0.0, 0.0}};
    for (std::size_t order = 2; order <= size; order *= 2) {
        halvings.push_back(root);
        if (order == 2) {
            root = {{0.0, 0.0}, {1.0, 0.0}};
        } else {
            const Pair c = square_root(half(root.re + Pair{1.0, 0.0}));
            root = {c, divide(half(root.im), c)};
        }
    }
    // Bit by bit: entry k + 2^b is entry k times exp(2 pi i 2^b / size); each entry has at most log2 size products.
    for (auto step = halvings.rbegin(); step != halvings.rend(); ++step) {
        const std::size_t known = table.size();
        for (std::size_t k = 0; k < known; ++k) table.push_back(table[k] * *step);
    }
    return table;
}

double nearest(double x) {
    // Nearest even, by the constant trick where it is exact; at 2^52 and above every double is an integer.
    if (std::fabs(x) < 2251799813685248.0) return (x + 6755399441055744.0) - 6755399441055744.0;
    return std::nearbyint(x);
}

}  // namespace

Encoder::Encoder(std::size_t n) : n_(n), real_(n / 2), imaginary_(n / 2), leaf_(n / 2) {
    log2_exact(n);
    const std::vector<Root> roots = roots_of_unity(2 * n);
    const std::size_t slots = n / 2;
    std::vector<std::size_t> exponent(2 * slots);  // node: Y^size = zeta^exponent
    exponent[1] = n / 2;
    for (std::size_t node = 1; node < slots; ++node) {
        const std::size_t root = exponent[node] / 2;
        real_[node] = roots[root].re.high;
        imaginary_[node] = roots[root].im.high;
        exponent[2 * node] = root;
        exponent[2 * node + 1] = root + n;
    }
    std::unordered_map<std::size_t, std::uint32_t> leaf_of;
    for (std::size_t i = 0; i < slots; ++i) leaf_of[exponent[slots + i]] = static_cast<std::uint32_t>(i);
    for (std::size_t j = 0, power = 1; j < slots; ++j, power = power * 5 % (2 * n)) leaf_[j] = leaf_of.at(power);
}

void Encoder::embed(double* coefficients, const std::complex<double>* values, double scale) const {
    const std::size_t slots = n_ / 2;
    double *re = coefficients, *im = coefficients + slots;  // u_k = m_k + i m_{k + n/2} ends where it belongs
    for (std::size_t j = 0; j < slots; ++j) re[leaf_[j]] = values[j].real(), im[leaf_[j]] = values[j].imag();
    for (std::size_t blocks = slots / 2, size = 2; size <= slots; blocks /= 2, size *= 2)
        for (std::size_t block = 0; block < blocks; ++block) {
            const double c = real_[blocks + block], s = imaginary_[blocks + block];
            double *r0 = re + block * size, *r1 = r0 + size / 2, *i0 = im + block * size, *i1 = i0 + size / 2;
            for (std::size_t k = 0; k < size / 2; ++k) {
                const double dr = r0[k] - r1[k], di = i0[k] - i1[k];
                r0[k] = r0[k] + r1[k];
                i0[k] = i0[k] + i1[k];
                r1[k] = dr * c + di * s;  // times the conjugate of the twiddle
                i1[k] = di * c - dr * s;
            }
        }
    const double factor = scale / static_cast<double>(slots);
    for (std::size_t k = 0; k < n_; ++k) coefficients[k] = nearest(coefficients[k] * factor);
}

void Encoder::project(std::complex<double>* values, const double* coefficients, double scale) const {
    const std::size_t slots = n_ / 2;
    std::vector<double> work(coefficients, coefficients + n_);
    double *re = work.data(), *im = re + slots;
    for (std::size_t blocks = 1, size = slots; size >= 2; blocks *= 2, size /= 2)
        for (std::size_t block = 0; block < blocks; ++block) {
            const double c = real_[blocks + block], s = imaginary_[blocks + block];
            double *r0 = re + block * size, *r1 = r0 + size / 2, *i0 = im + block * size, *i1 = i0 + size / 2;
            for (std::size_t k = 0; k < size / 2; ++k) {
                const double xr = r1[k] * c - i1[k] * s, xi = r1[k] * s + i1[k] * c;
                r1[k] = r0[k] - xr;
                i1[k] = i0[k] - xi;
                r0[k] = r0[k] + xr;
                i0[k] = i0[k] + xi;
            }
        }
    for (std::size_t j = 0; j < slots; ++j) values[j] = {re[leaf_[j]] / scale, im[leaf_[j]] / scale};
}

}  // namespace cipherlens
