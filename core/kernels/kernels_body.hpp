// The kernels themselves, written once over the type V. Included inside a namespace after V, Field and Sum.

// ---- number-theoretic transform -------------------------------------------------------------------------------
//
// Decimation in time with the twist merged into the roots: the node numbered m + i of the binary tree of butterflies
// (m blocks in its layer) uses roots[m + i], its children are the nodes 2(m + i) and 2(m + i) + 1. Two layers are
// taken at a time. The inverse of roots[m + i] is -roots[2m - 1 - i], so one table serves both directions.
//
// Bounds, in units of p. Forward: x0 is reduced to 1/2 first; with |x| <= A on entry, a product is at most
// 1/2 + A/8, the second layer's factor at most 1/2 + 9A/8 (below 4), the outputs at most 1.5625 + 0.2657 A, hence
// A <= 2.13 throughout (an input of 1.5 gives at most 2.2 after a head of one layer, and 2.15 after the next two).
// Inverse: entries at most 1 give sums of at most 4 (a reduction's and a product's limit),
// products of differences at most 1, and both plain sums are reduced to 1/2.

static inline void forward_butterfly(V& x0, V& x1, V& x2, V& x3, V w1, V w2, V w3, const Field& f) {
    x0 = reduce(x0, f);
    const V a2 = multiply(x2, w1, f), a3 = multiply(x3, w1, f);
    const V y0 = add(x0, a2), y1 = add(x1, a3), y2 = sub(x0, a2), y3 = sub(x1, a3);
    const V b1 = multiply(y1, w2, f), b3 = multiply(y3, w3, f);
    x0 = add(y0, b1), x1 = sub(y0, b1), x2 = add(y2, b3), x3 = sub(y2, b3);
}

// Leaves x0 and x1 unreduced. v1, v2, v3 are the negatives of the inverse roots, hence the exchanged differences.
static inline void inverse_butterfly(V& x0, V& x1, V& x2, V& x3, V v1, V v2, V v3, const Field& f) {
    const V s01 = add(x0, x1), d01 = multiply(sub(x1, x0), v2, f);
    const V s23 = add(x2, x3), d23 = multiply(sub(x3, x2), v3, f);
    x0 = add(s01, s23), x1 = add(d01, d23);
    x2 = multiply(sub(s23, s01), v1, f), x3 = multiply(sub(d23, d01), v1, f);
}

static inline void forward_pass(double* x, std::size_t quarter, std::size_t columns, double r1, double r2, double r3,
                                const Field& f) {
    const V w1 = set1(r1), w2 = set1(r2), w3 = set1(r3);
    for (std::size_t j = 0; j < columns; j += lanes) {
        double* at = x + j;
        V x0 = load(at), x1 = load(at + quarter), x2 = load(at + 2 * quarter), x3 = load(at + 3 * quarter);
        forward_butterfly(x0, x1, x2, x3, w1, w2, w3, f);
        store(at, x0), store(at + quarter, x1), store(at + 2 * quarter, x2), store(at + 3 * quarter, x3);
    }
}

static inline void inverse_pass(double* x, std::size_t quarter, double r1, double r2, double r3, const Field& f) {
    const V v1 = set1(r1), v2 = set1(r2), v3 = set1(r3);
    for (std::size_t j = 0; j < quarter; j += lanes) {
        double* at = x + j;
        V x0 = load(at), x1 = load(at + quarter), x2 = load(at + 2 * quarter), x3 = load(at + 3 * quarter);
        inverse_butterfly(x0, x1, x2, x3, v1, v2, v3, f);
        x0 = reduce(x0, f), x1 = reduce(x1, f);
        store(at, x0), store(at + quarter, x1), store(at + 2 * quarter, x2), store(at + 3 * quarter, x3);
    }
}

// The last two layers of a block: four neighbours form a butterfly, each with roots of its own. Ends canonical.
static void forward_last(double* x, std::size_t length, std::size_t node, const double* roots, const Field& f) {
    for (std::size_t j = 0; j < length; j += 4 * lanes, node += lanes) {
        double* at = x + j;
        V x0 = load(at), x1 = load(at + lanes), x2 = load(at + 2 * lanes), x3 = load(at + 3 * lanes);
        deinterleave4(x0, x1, x2, x3);
        const V w1 = load(roots + node);
        V w2, w3;
        load_pairs(roots + 2 * node, w2, w3);
        forward_butterfly(x0, x1, x2, x3, w1, w2, w3, f);
        x0 = reduce(x0, f), x1 = reduce(x1, f), x2 = reduce(x2, f), x3 = reduce(x3, f);
        interleave4(x0, x1, x2, x3);
        store(at, x0), store(at + lanes, x1), store(at + 2 * lanes, x2), store(at + 3 * lanes, x3);
    }
}

// `mirror` is the index of the first node's mirrored root; it runs downwards. Reads another array than it writes.
static void inverse_first(double* x, const double* from, std::size_t length, std::size_t mirror, const double* roots,
                          const Field& f) {
    for (std::size_t j = 0; j < length; j += 4 * lanes, mirror -= lanes) {
        double* at = x + j;
        const double* in = from + j;
        V x0 = load(in), x1 = load(in + lanes), x2 = load(in + 2 * lanes), x3 = load(in + 3 * lanes);
        deinterleave4(x0, x1, x2, x3);
        const V v1 = load_reversed(roots + mirror + 1);
        V v2, v3;
        load_pairs_reversed(roots + 2 * mirror + 2, v2, v3);
        inverse_butterfly(x0, x1, x2, x3, v1, v2, v3, f);
        x0 = reduce(x0, f), x1 = reduce(x1, f);
        interleave4(x0, x1, x2, x3);
        store(at, x0), store(at + lanes, x1), store(at + 2 * lanes, x2), store(at + 3 * lanes, x3);
    }
}

#if defined(CIPHERLENS_EIGHT_LANES)
// Blocks of 16 are too short for eight lanes: two of them share each vector.
static void forward_sixteens(double* x, std::size_t length, std::size_t node, const double* roots, const Field& f) {
    for (std::size_t j = 0; j < length; j += 32, node += 2) {
        double* at = x + j;
        V x0 = load(at), x1 = load(at + 8), x2 = load(at + 16), x3 = load(at + 24);
        group_rows(x0, x1, x2, x3);
        forward_butterfly(x0, x1, x2, x3, two_groups(roots[node], roots[node + 1]),
                          two_groups(roots[2 * node], roots[2 * node + 2]),
                          two_groups(roots[2 * node + 1], roots[2 * node + 3]), f);
        ungroup_rows(x0, x1, x2, x3);
        store(at, x0), store(at + 8, x1), store(at + 16, x2), store(at + 24, x3);
    }
}
static void inverse_sixteens(double* x, std::size_t length, std::size_t mirror, const double* roots, const Field& f) {
    for (std::size_t j = 0; j < length; j += 32, mirror -= 2) {
        double* at = x + j;
        V x0 = load(at), x1 = load(at + 8), x2 = load(at + 16), x3 = load(at + 24);
        group_rows(x0, x1, x2, x3);
        inverse_butterfly(x0, x1, x2, x3, two_groups(roots[mirror], roots[mirror - 1]),
                          two_groups(roots[2 * mirror + 1], roots[2 * mirror - 1]),
                          two_groups(roots[2 * mirror], roots[2 * mirror - 2]), f);
        x0 = reduce(x0, f), x1 = reduce(x1, f);
        ungroup_rows(x0, x1, x2, x3);
        store(at, x0), store(at + 8, x1), store(at + 16, x2), store(at + 24, x3);
    }
}
static constexpr std::size_t shortest_pass = 64;
#else
static constexpr std::size_t shortest_pass = 16;
#endif

// Blocks of this many coefficients (32 KiB) stay in the first-level cache; longer ones are split depth first.
static constexpr std::size_t cache_block = 4096;

static void forward_block(double* x, std::size_t length, std::size_t node, const double* roots, const Field& f) {
    if (length > cache_block) {
        forward_pass(x, length / 4, length / 4, roots[node], roots[2 * node], roots[2 * node + 1], f);
        for (std::size_t i = 0; i < 4; ++i) forward_block(x + i * (length / 4), length / 4, 4 * node + i, roots, f);
        return;
    }
    std::size_t count = 1, size = length;
    for (; size >= shortest_pass; size /= 4, count *= 4)
        for (std::size_t i = 0; i < count; ++i) {
            const std::size_t at = node * count + i;
            forward_pass(x + i * size, size / 4, size / 4, roots[at], roots[2 * at], roots[2 * at + 1], f);
        }
#if defined(CIPHERLENS_EIGHT_LANES)
    forward_sixteens(x, length, node * count, roots, f);
    count *= 4;
#endif
    forward_last(x, length, node * count, roots, f);
}

// The last pass of an inverse transform: also multiplies with `factor` and ends canonical.
static void inverse_final_pass(double* x, std::size_t quarter, double r1, double r2, double r3, double factor,
                               const Field& f) {
    const V v2 = set1(r2), v3 = set1(r3), c = set1(factor);
    const V v1 = reduce(multiply(set1(r1), c, f), f);
    for (std::size_t j = 0; j < quarter; j += lanes) {
        double* at = x + j;
        const V x0 = load(at), x1 = load(at + quarter), x2 = load(at + 2 * quarter), x3 = load(at + 3 * quarter);
        const V s01 = add(x0, x1), d01 = multiply(sub(x1, x0), v2, f);
        const V s23 = add(x2, x3), d23 = multiply(sub(x3, x2), v3, f);
        store(at, reduce(multiply(add(s01, s23), c, f), f));
        store(at + quarter, reduce(multiply(add(d01, d23), c, f), f));
        store(at + 2 * quarter, reduce(multiply(sub(s23, s01), v1, f), f));
        store(at + 3 * quarter, reduce(multiply(sub(d23, d01), v1, f), f));
    }
}

static void inverse_block(double* x, const double* from, std::size_t length, std::size_t mirror, const double* roots,
                          const Field& f) {
    if (length > cache_block) {
        const std::size_t last = 4 * mirror + 3, quarter = length / 4;
        for (std::size_t i = 0; i < 4; ++i)
            inverse_block(x + i * quarter, from + i * quarter, quarter, last - i, roots, f);
        inverse_pass(x, quarter, roots[mirror], roots[2 * mirror + 1], roots[2 * mirror], f);
        return;
    }
    std::size_t count = length / 4;
    inverse_first(x, from, length, (mirror + 1) * count - 1, roots, f);
    std::size_t size = 16;
    count /= 4;
#if defined(CIPHERLENS_EIGHT_LANES)
    inverse_sixteens(x, length, (mirror + 1) * count - 1, roots, f);
    size = 64;
    count /= 4;
#endif
    for (; size <= length; size *= 4, count /= 4)
        for (std::size_t i = 0; i < count; ++i) {
            const std::size_t at = (mirror + 1) * count - 1 - i;
            inverse_pass(x + i * size, size / 4, roots[at], roots[2 * at + 1], roots[2 * at], f);
        }
}

static void ntt_head(double* x, const double* roots, std::size_t n, std::size_t column, std::size_t columns,
                     const Modulus& m) {
    const Field f(m);
    if (ntt_rows(n) == 1) return;
    if (ntt_rows(n) == 4)
        return forward_pass(x + column, n / 4, columns, roots[1], roots[2], roots[3], f);
    const std::size_t half = n / 2;
    const V w = set1(roots[1]);
    for (std::size_t j = column; j < column + columns; j += lanes) {
        const V x0 = load(x + j), a = multiply(load(x + half + j), w, f);
        store(x + j, add(x0, a)), store(x + half + j, sub(x0, a));
    }
}

static void ntt_tail(double* x, const double* roots, std::size_t n, const Modulus& m) {
    const Field f(m);
    const std::size_t rows = ntt_rows(n), size = n / rows;
    for (std::size_t i = 0; i < rows; ++i) forward_block(x + i * size, size, rows + i, roots, f);
}

static void intt(double* out, const double* x, const double* roots, std::size_t n, const Modulus& m, double factor) {
    const Field f(m);
    // The root of the tree mirrors to itself, its children 2 and 3 to each other, 4 ... 7 to 7 ... 4.
    const std::size_t rows = ntt_rows(n), size = n / rows;
    for (std::size_t i = 0; i < rows; ++i)
        inverse_block(out + i * size, x + i * size, size, 2 * rows - 1 - i, roots, f);
    if (rows == 4) return inverse_final_pass(out, size, roots[1], roots[3], roots[2], factor, f);
    const V c = set1(factor), v = reduce(multiply(set1(roots[1]), c, f), f);
    if (rows == 1) {
        for (std::size_t j = 0; j < n; j += lanes) store(out + j, reduce(multiply(load(out + j), c, f), f));
        return;
    }
    for (std::size_t j = 0; j < size; j += lanes) {
        const V x0 = load(out + j), x1 = load(out + size + j);
        store(out + j, reduce(multiply(add(x0, x1), c, f), f));
        store(out + size + j, reduce(multiply(sub(x1, x0), v, f), f));
    }
}

// ---- element by element ---------------------------------------------------------------------------------------

static void add_limbs(double* out, const double* a, const double* b, std::size_t n, const Modulus& m) {
    const Field f(m);
    for (std::size_t j = 0; j < n; j += lanes) store(out + j, reduce(add(load(a + j), load(b + j)), f));
}

static void subtract_limbs(double* out, const double* a, const double* b, std::size_t n, const Modulus& m) {
    const Field f(m);
    for (std::size_t j = 0; j < n; j += lanes) store(out + j, reduce(sub(load(a + j), load(b + j)), f));
}

static void multiply_limbs(double* out, const double* a, const double* b, std::size_t n, const Modulus& m) {
    const Field f(m);
    for (std::size_t j = 0; j < n; j += lanes) store(out + j, reduce(multiply(load(a + j), load(b + j), f), f));
}

static void multiply_scalar(double* out, const double* a, double c, const double* b, std::size_t n, const Modulus& m) {
    const Field f(m);
    const V factor = set1(c);
    if (b == nullptr) {
        for (std::size_t j = 0; j < n; j += lanes) store(out + j, reduce(multiply(load(a + j), factor, f), f));
    } else {
        for (std::size_t j = 0; j < n; j += lanes)
            store(out + j, reduce(add(multiply(load(a + j), factor, f), load(b + j)), f));
    }
}

static void multiply_add(double* out, const double* a, const double* b, std::size_t n, const Modulus& m) {
    const Field f(m);
    for (std::size_t j = 0; j < n; j += lanes)
        store(out + j, reduce(add(load(out + j), multiply(load(a + j), load(b + j), f)), f));
}

static void subtract_multiply(double* out, const double* a, const double* b, double c, const double* d, std::size_t n,
                              const Modulus& m) {
    const Field f(m);
    const V factor = set1(c);
    for (std::size_t j = 0; j < n; j += lanes) {
        V r = multiply(sub(load(a + j), load(b + j)), factor, f);
        if (d != nullptr) r = add(r, load(d + j));
        store(out + j, reduce(r, f));
    }
}

// The order of a vector's values under an automorphism, by the place (modulo `lanes`) that the first of them comes from.
// Index i holds exponent 2 brv(i) + 1, so the last bits of i are the first of the exponent: over one vector the exponent
// runs through steps of 2n / lanes, and times galois it does so in another order.
struct Turns {
    Shuffle from[lanes];
    explicit Turns(std::size_t galois) {
        for (std::size_t first = 0; first < lanes; ++first) {
            std::size_t order[lanes];
            for (std::size_t j = 0; j < lanes; ++j)
                order[j] = reverse_lane((galois * reverse_lane(j) + reverse_lane(first)) % lanes);
            from[first] = make_shuffle(order);
        }
    }
    static std::size_t reverse_lane(std::size_t j) {
        std::size_t result = 0;
        for (std::size_t size = 1; size < lanes; size *= 2, j /= 2) result = 2 * result + j % 2;
        return result;
    }
    V load_turned(const double* in, std::size_t source) const {
        return shuffle(load(in + source / lanes * lanes), from[source % lanes]);
    }
};

static void permute(double* out, const double* in, const std::uint32_t* source, std::size_t galois, std::size_t n) {
    const Turns turns(galois);
    for (std::size_t j = 0; j < n; j += lanes) store(out + j, turns.load_turned(in, source[j] & (n - 1)));
}

static void permuted_multiply_add(double* const* out, const double* a, const std::uint32_t* source, std::size_t galois,
                                  const double* const* b, std::size_t rows, std::size_t n, const Modulus& m) {
    const Field f(m);
    const Turns turns(galois);
    for (std::size_t j = 0; j < n; j += lanes) {
        const V x = turns.load_turned(a, source[j] & (n - 1));
        for (std::size_t r = 0; r < rows; ++r)
            store(out[r] + j, reduce(add(load(out[r] + j), multiply(x, load(b[r] + j), f)), f));
    }
}

static void reduce_limb(double* out, const double* x, std::size_t n, const Modulus& m) {
    const Field f(m);
    for (std::size_t j = 0; j < n; j += lanes) store(out + j, reduce(load(x + j), f));
}

// ---- sums of products -----------------------------------------------------------------------------------------

static inline double anchor_value(int exponent) {  // 1.5 * 2^exponent
    const std::uint64_t bits = (static_cast<std::uint64_t>(exponent + 1023) << 52) | (1ull << 51);
    double value;
    __builtin_memcpy(&value, &bits, sizeof value);
    return value;
}

// How many products of `bits_a` and `bits_b` bits (as magnitudes) one exact run may hold, and its anchor.
struct Run {
    std::size_t terms;
    V anchor;
    Run(std::size_t wanted, int magnitude_bits, int longest_log) : terms(1), anchor(set1(0.0)) {
        int log = 0;
        while (terms < wanted && log < longest_log) terms *= 2, ++log;
        anchor = set1(anchor_value(magnitude_bits + 1 + log));
    }
};
static inline Run product_run(std::size_t wanted, const Modulus& m) {
    return Run(wanted, 2 * m.bits - 2, 53 - m.bits);
}

static void dot(double* out, const double* const* a, const double* const* b, std::size_t terms, std::size_t n,
                const Modulus& m) {
    const Field f(m);
    const Run run = product_run(terms, m);
    for (std::size_t j = 0; j < n; j += lanes) {
        V total = set1(0.0);
        for (std::size_t first = 0; first < terms; first += run.terms) {
            const std::size_t last = terms - first < run.terms ? terms : first + run.terms;
            Sum sum(run.anchor);
            for (std::size_t t = first; t < last; ++t) sum.add_product(load(a[t] + j), load(b[t] + j));
            total = first == 0 ? sum.value(run.anchor, f) : reduce(add(total, sum.value(run.anchor, f)), f);
        }
        store(out + j, total);
    }
}

// Keys are read once, from memory, and processors look ahead within a page only: ask for the next page of each stream.
// (An address, not a pointer: behind the last limb there may be nothing, which a prefetch does not mind.)
constexpr std::size_t ahead = 512, line = 8;
static void prefetch(const double* stream, std::size_t at) {
    __builtin_prefetch(reinterpret_cast<const void*>(reinterpret_cast<std::uintptr_t>(stream) + at * sizeof(double)), 0, 2);
}

static void dot_pair(double* out0, double* out1, const double* const* a, const double* const* b0,
                     const double* const* b1, std::size_t terms, std::size_t n, const Modulus& m) {
    const Field f(m);
    const Run run = product_run(terms, m);
    const V anchor = run.anchor;
    for (std::size_t first = 0; first < terms; first += run.terms) {
        const std::size_t last = terms - first < run.terms ? terms : first + run.terms;
        for (std::size_t j = 0; j < n; j += 2 * lanes) {
            Sum s00(anchor), s01(anchor), s10(anchor), s11(anchor);
            for (std::size_t t = first; t < last; ++t) {
                const V x0 = load(a[t] + j), x1 = load(a[t] + j + lanes);
                s00.add_product(x0, load(b0[t] + j));
                s01.add_product(x1, load(b0[t] + j + lanes));
                s10.add_product(x0, load(b1[t] + j));
                s11.add_product(x1, load(b1[t] + j + lanes));
                if (j % line == 0)  // a step may be a part of a line, or two of them
                    for (std::size_t at = j + ahead; at < j + ahead + 2 * lanes; at += line)
                        prefetch(b0[t], at), prefetch(b1[t], at);
            }
            V r00 = s00.value(anchor, f), r01 = s01.value(anchor, f), r10 = s10.value(anchor, f),
              r11 = s11.value(anchor, f);
            if (first != 0) {
                r00 = reduce(add(load(out0 + j), r00), f), r01 = reduce(add(load(out0 + j + lanes), r01), f);
                r10 = reduce(add(load(out1 + j), r10), f), r11 = reduce(add(load(out1 + j + lanes), r11), f);
            }
            store(out0 + j, r00), store(out0 + j + lanes, r01);
            store(out1 + j, r10), store(out1 + j + lanes, r11);
        }
    }
}

static void dot_scalar(double* out, const double* const* y, const double* c, std::size_t terms, std::size_t n,
                       const Modulus& m, bool lazy) {
    const Field f(m);
    // |y| < 2^49 whatever its prime, |c| <= p/2: eight terms keep the quotient at 8 * 2^49 / 2 = 2^51.
    const Run run(terms, 49 + m.bits - 1, 3);
    const V anchor = run.anchor;
    if (terms == 1) {  // one product: no sum to keep exact
        const V factor = set1(c[0]);
        for (std::size_t j = 0; j < n; j += lanes) store(out + j, reduce(multiply(reduce(load(y[0] + j), f), factor, f), f));
        return;
    }
    for (std::size_t first = 0; first < terms; first += run.terms) {
        const std::size_t last = terms - first < run.terms ? terms : first + run.terms;
        // Four vectors at a time hide the latency of each sum's chain of operations.
        for (std::size_t j = 0; j < n; j += 4 * lanes) {
            Sum s0(anchor), s1(anchor), s2(anchor), s3(anchor);
            for (std::size_t t = first; t < last; ++t) {
                const double* at = y[t] + j;
                const V factor = set1(c[t]);
                s0.add_product(load(at), factor);
                s1.add_product(load(at + lanes), factor);
                s2.add_product(load(at + 2 * lanes), factor);
                s3.add_product(load(at + 3 * lanes), factor);
            }
            double* to = out + j;
            V r0 = s0.lazy(anchor, f), r1 = s1.lazy(anchor, f), r2 = s2.lazy(anchor, f), r3 = s3.lazy(anchor, f);
            if (!lazy || terms > run.terms) {
                r0 = reduce(r0, f), r1 = reduce(r1, f), r2 = reduce(r2, f), r3 = reduce(r3, f);
            }
            if (first != 0) {
                r0 = reduce(add(load(to), r0), f), r1 = reduce(add(load(to + lanes), r1), f);
                r2 = reduce(add(load(to + 2 * lanes), r2), f), r3 = reduce(add(load(to + 3 * lanes), r3), f);
            }
            store(to, r0), store(to + lanes, r1), store(to + 2 * lanes, r2), store(to + 3 * lanes, r3);
        }
    }
}

static void dot_tensor(double* const* out, const double* const* a0, const double* const* a1, const double* const* b0,
                       const double* const* b1, std::size_t terms, std::size_t n, const Modulus& m) {
    const Field f(m);
    const Run run = product_run(2 * terms, m);  // the middle component has two products a term
    const std::size_t step = run.terms / 2;
    for (std::size_t j = 0; j < n; j += lanes) {
        V total0 = set1(0.0), total1 = set1(0.0), total2 = set1(0.0);
        for (std::size_t first = 0; first < terms; first += step) {
            const std::size_t last = terms - first < step ? terms : first + step;
            Sum sum0(run.anchor), sum1(run.anchor), sum2(run.anchor);
            for (std::size_t t = first; t < last; ++t) {
                const V x0 = load(a0[t] + j), x1 = load(a1[t] + j), y0 = load(b0[t] + j), y1 = load(b1[t] + j);
                sum0.add_product(x0, y0);
                sum1.add_product(x0, y1);
                sum1.add_product(x1, y0);
                sum2.add_product(x1, y1);
            }
            const V v0 = sum0.value(run.anchor, f), v1 = sum1.value(run.anchor, f), v2 = sum2.value(run.anchor, f);
            total0 = first == 0 ? v0 : reduce(add(total0, v0), f);
            total1 = first == 0 ? v1 : reduce(add(total1, v1), f);
            total2 = first == 0 ? v2 : reduce(add(total2, v2), f);
        }
        store(out[0] + j, total0);
        store(out[1] + j, total1);
        store(out[2] + j, total2);
    }
}

#define CIPHERLENS_KERNEL_TABLE(space, name)                                                                     \
    {name, space::ntt_head, space::ntt_tail, space::intt, space::add_limbs, space::subtract_limbs, space::multiply_limbs,              \
     space::multiply_scalar, space::multiply_add, space::subtract_multiply, space::permute,          \
     space::permuted_multiply_add, space::reduce_limb, space::dot, space::dot_pair,          \
     space::dot_scalar, space::dot_tensor}
