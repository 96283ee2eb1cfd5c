// Modular arithmetic on vectors of doubles with fused multiply-add, shared by every FMA instruction set.
//
// Included inside a namespace of the instruction set, after the type V and its primitives (load, store, set1, add,
// sub, mul, fma, fms, fnma). Sources: van der Hoeven, Lecerf, Quintin, "Modular SIMD arithmetic in Mathemagix"
// (2016), section 4; the anchored accumulator is the error-free sum of Rump's extraction applied to products.

struct Field {
    V p, inverse, magic;
    explicit Field(const Modulus& m) : p(set1(m.p)), inverse(set1(m.inverse)), magic(set1(6755399441055744.0)) {}
};

// Nearest integer of x / p by adding 1.5 * 2^52 inside one fused operation; needs |x / p| <= 2^51.
static inline V quotient(V x, const Field& f) { return sub(fma(x, f.inverse, f.magic), f.magic); }

// |x| < 2^52 gives the canonical residue: the error of the quotient before rounding is at most |x/p| 2^-53 < 1/(2p),
// and no integer over p lies closer to a half-integer than 1/(2p), because p is odd.
static inline V reduce(V x, const Field& f) { return fnma(quotient(x, f), f.p, x); }

// a * b mod p for |a| <= A p with A <= 4 and |b| <= p/2: |result| <= (1/2 + A/8) p. The quotient is at most
// 2 p < 2^51 and carries a relative error below 2^-52, so it is off by at most 1/2 + A p 2^-53 <= 1/2 + A/8.
static inline V multiply(V a, V b, const Field& f) {
    const V h = mul(a, b);
    const V q = quotient(h, f);
    const V l = fms(a, b, h);
    return add(fnma(q, f.p, h), l);
}

// An exact sum of products. With the anchor C = 1.5 * 2^e and ulp(C) = 2^(e-52): H stays in [2^e, 2^(e+1)) while
// sum |ab| <= 2^(e-1), every H - H' is exact, and every remainder is an integer of at most 2^(e-53), so that L is
// exact for 2^(105-e) terms. For |ab| <= 2^(2 bits - 2) and t terms, e = 2 bits - 1 + log2 t serves as long as
// log2 t <= 53 - bits: 8 terms at 50 bits, 2^19 at 34.
struct Sum {
    V high, low;
    explicit Sum(V anchor) : high(anchor), low(set1(0.0)) {}
    inline void add_product(V a, V b) {
        const V next = fma(a, b, high);
        low = add(low, fma(a, b, sub(high, next)));
        high = next;
    }
    // high - anchor <= 2^(e-1) = t 2^(2 bits - 2): the quotient is at most 2^51 and off by at most 1, so the first
    // remainder is within p; |low| <= 2^52 is reduced on its own; the sum of both is below 2^52.
    inline V value(V anchor, const Field& f) const { return reduce(lazy(anchor, f), f); }
    // Below 1.5 p.
    inline V lazy(V anchor, const Field& f) const {
        const V h = sub(high, anchor);
        return add(fnma(quotient(h, f), f.p, h), reduce(low, f));
    }
};
