// Modular arithmetic without vectors or fused operations, on 64- and 128-bit integers.
//
// Included inside the namespace of the portable kernels. Lazy values may differ from those of the FMA kernels;
// canonical results cannot. A quotient is rounded twice here, so a product of |a| <= A p and |b| <= p/2 is at most
// (1/2 + 3A/16) p: forward transforms stay below 2.4 p instead of 2.13, inverse ones below p, every quotient at 2^51.

struct V {
    double v;
};
static constexpr std::size_t lanes = 1;

static inline V load(const double* x) { return {*x}; }
static inline void store(double* x, V a) { *x = a.v; }
static inline V set1(double x) { return {x}; }
static inline V add(V a, V b) { return {a.v + b.v}; }
static inline V sub(V a, V b) { return {a.v - b.v}; }

struct Field {
    double p, inverse, half;
    std::int64_t value;
    explicit Field(const Modulus& m) : p(m.p), inverse(m.inverse), half((m.p - 1) / 2), value(m.value) {}
};

static inline double nearest(double x) { return (x + 6755399441055744.0) - 6755399441055744.0; }

// Two roundings instead of one: the quotient can be off by one next to a half-integer, hence the two corrections.
static inline V reduce(V x, const Field& f) {
    double r = x.v - nearest(x.v * f.inverse) * f.p;  // exact: the product is an integer below 2^53
    if (r > f.half) r -= f.p;
    if (r < -f.half) r += f.p;
    return {r};
}

// The remainder is smaller than 2^63 in magnitude, so arithmetic modulo 2^64 gives it exactly.
static inline V multiply(V a, V b, const Field& f) {
    const std::int64_t q = static_cast<std::int64_t>(nearest(a.v * b.v * f.inverse));
    const std::uint64_t product = static_cast<std::uint64_t>(static_cast<std::int64_t>(a.v)) *
                                  static_cast<std::uint64_t>(static_cast<std::int64_t>(b.v));
    const std::uint64_t multiple = static_cast<std::uint64_t>(q) * static_cast<std::uint64_t>(f.value);
    return {static_cast<double>(static_cast<std::int64_t>(product - multiple))};
}

struct Sum {
    __int128 total = 0;
    explicit Sum(V) {}
    inline void add_product(V a, V b) {
        total += static_cast<__int128>(static_cast<std::int64_t>(a.v)) * static_cast<std::int64_t>(b.v);
    }
    inline V value(V anchor, const Field& f) const { return reduce(lazy(anchor, f), f); }
    inline V lazy(V, const Field& f) const { return {static_cast<double>(static_cast<std::int64_t>(total % f.value))}; }
};

static inline void deinterleave4(V&, V&, V&, V&) {}
static inline void interleave4(V&, V&, V&, V&) {}
static inline void load_pairs(const double* x, V& even, V& odd) { even = {x[0]}, odd = {x[1]}; }
static inline void load_pairs_reversed(const double* end, V& even, V& odd) { even = {end[-1]}, odd = {end[-2]}; }
static inline V load_reversed(const double* end) { return {end[-1]}; }

struct Shuffle {};
static inline Shuffle make_shuffle(const std::size_t*) { return {}; }
static inline V shuffle(V a, Shuffle) { return a; }
