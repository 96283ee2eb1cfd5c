"""RNS-CKKS in plain Python integers: the oracle that the compiled engine is compared with, bit for bit.

Nothing here is shared with the engine. Polynomials are lists of Python integers modulo a product of primes, products
are naive negacyclic convolutions, residues meet integers through the schoolbook Chinese remainder theorem, and the
transform is evaluated term by term from its definition: output i is the value at psi^(2 brv(i) + 1), psi being the
smallest quadratic non-residue to the power (p - 1) / 2N. Divisions and base extensions are those that the engine
*defines*: an integer v = sum_i y_i D / d_i with centred y_i = [x (D / d_i)^-1]_{d_i}, no floating correction.

Arrays cross the border as float64 with centred residues, as the engine holds them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from math import prod
from operator import mul

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from numpy.typing import NDArray

Integers = list[int]
Array = NDArray[np.float64]

# ---- single integers ------------------------------------------------------------------------------------------------


def centred(x: int, p: int) -> int:
    """The representative of x modulo an odd p in [-(p - 1) / 2, (p - 1) / 2]."""
    r = x % p
    return r - p if r > (p - 1) // 2 else r


def reverse_bits(i: int, bits: int) -> int:
    """i with its lowest `bits` bits in the opposite order."""
    return int(format(i, f"0{bits}b")[::-1], 2)


def primitive_root(p: int, n: int) -> int:
    """psi: the smallest quadratic non-residue modulo p to the power (p - 1) / 2n."""
    non_residue = next(g for g in range(2, p) if pow(g, (p - 1) // 2, p) == p - 1)
    return pow(non_residue, (p - 1) // (2 * n), p)


# ---- the transform, by definition -----------------------------------------------------------------------------------


@cache
def _forward_rows(p: int, n: int) -> list[Integers]:
    psi, bits = primitive_root(p, n), n.bit_length() - 1
    powers = [pow(psi, e, p) for e in range(2 * n)]
    return [[powers[(2 * reverse_bits(i, bits) + 1) * j % (2 * n)] for j in range(n)] for i in range(n)]


@cache
def _inverse_rows(p: int, n: int) -> list[Integers]:
    psi, bits = primitive_root(p, n), n.bit_length() - 1
    scaled = [pow(n, -1, p) * pow(psi, -e, p) % p for e in range(2 * n)]
    return [[scaled[(2 * reverse_bits(i, bits) + 1) * j % (2 * n)] for i in range(n)] for j in range(n)]


def ntt(coefficients: Integers, p: int) -> Integers:
    """Values at psi^(2 brv(i) + 1), in [0, p)."""
    return [sum(map(mul, row, coefficients)) % p for row in _forward_rows(p, len(coefficients))]


def inverse_ntt(values: Integers, p: int) -> Integers:
    """Coefficients in [0, p)."""
    return [sum(map(mul, row, values)) % p for row in _inverse_rows(p, len(values))]


# ---- polynomials of big integers ------------------------------------------------------------------------------------


def negacyclic(a: Integers, b: Integers, modulus: int) -> Integers:
    """a * b modulo X^n + 1 and the modulus, every product by hand."""
    n = len(a)
    wrapped, backwards = [-x for x in a[1:]] + a, b[::-1]
    return [sum(map(mul, wrapped[k : k + n], backwards)) % modulus for k in range(n)]


def automorphism(a: Integers, galois: int, modulus: int) -> Integers:
    """a(X^galois) modulo X^n + 1."""
    n = len(a)
    out = [0] * n
    for j, x in enumerate(a):
        at = j * galois % (2 * n)
        out[at % n] = (x if at < n else -x) % modulus
    return out


def chinese_remainder(residues: Sequence[int], primes: Sequence[int]) -> int:
    """The integer in [0, product of the primes) with these residues."""
    modulus = prod(primes)
    return sum(r * (modulus // p) * pow(modulus // p, -1, p) for r, p in zip(residues, primes, strict=True)) % modulus


def lift(limbs: Array, primes: Sequence[int]) -> Integers:
    """Limbs in NTT form, (len(primes), n), to coefficients in [0, product)."""
    assert limbs.shape[0] == len(primes)
    columns = [inverse_ntt([int(x) for x in row], p) for row, p in zip(limbs, primes, strict=True)]
    modulus = prod(primes)
    weights = [(modulus // p) * pow(modulus // p, -1, p) for p in primes]
    return [sum(map(mul, weights, residues)) % modulus for residues in zip(*columns, strict=True)]


def lower(coefficients: Integers, primes: Sequence[int]) -> Array:
    """Coefficients to limbs in NTT form, centred, float64."""
    return np.array([[centred(x, p) for x in ntt([c % p for c in coefficients], p)] for p in primes], np.float64)


def fast_conversion(x: int, primes: Sequence[int]) -> int:
    """The integer sum_i y_i D / d_i, y_i = centred [x (D / d_i)^-1]_{d_i}: congruent to x modulo D, at most t D / 2."""
    modulus = prod(primes)
    return sum(centred(x * pow(modulus // p, -1, p), p) * (modulus // p) for p in primes)


def divide(coefficients: Integers, divisor: Sequence[int], rest: Sequence[int]) -> Integers:
    """(x - fast conversion of x modulo D) / D modulo the other primes."""
    modulus, into = prod(rest), prod(divisor)
    return [(x - fast_conversion(x, divisor)) // into % modulus for x in coefficients]


# ---- the scheme -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ReferenceRing:
    """The operations of the engine's ring. Polynomials in and out are arrays (limbs, n) in NTT form.

    Attributes:
        n: the ring dimension.
        chain: q_0 ... q_L.
        special: the special primes.
        digit: primes that share a digit.
    """

    n: int
    chain: tuple[int, ...]
    special: tuple[int, ...]
    digit: int

    def extended(self, limbs: int) -> tuple[int, ...]:
        """The primes of an extended polynomial."""
        return self.chain[:limbs] + self.special

    def groups(self, limbs: int) -> list[tuple[int, ...]]:
        """The primes of each digit, restricted to those present."""
        return [self.chain[i : min(i + self.digit, limbs)] for i in range(0, limbs, self.digit)]

    def _lift_parts(self, x: Array) -> list[Integers]:
        return [lift(part, self.chain[: x.shape[1]]) for part in x]

    def _lower_parts(self, parts: Sequence[Integers], limbs: int) -> Array:
        return np.stack([lower(part, self.chain[:limbs]) for part in parts])

    # Sums and products of ciphertexts, (parts, limbs, n).

    def add(self, a: Array, b: Array, sign: int = 1) -> Array:
        limbs = a.shape[1]
        pairs = zip(self._lift_parts(a), self._lift_parts(b), strict=True)
        return self._lower_parts([[x + sign * y for x, y in zip(p, q, strict=True)] for p, q in pairs], limbs)

    def multiply_plain(self, x: Sequence[Array], plain: Sequence[Array]) -> Array:
        limbs = x[0].shape[1]
        modulus = prod(self.chain[:limbs])
        total = [[0] * self.n for _ in range(x[0].shape[0])]
        for ciphertext, plaintext in zip(x, plain, strict=True):
            factor = lift(plaintext, self.chain[:limbs])
            for part, poly in enumerate(self._lift_parts(ciphertext)):
                total[part] = _sum(total[part], negacyclic(poly, factor, modulus))
        return self._lower_parts(total, limbs)

    def multiply_scalars(self, x: Sequence[Array], scalars: Sequence[int]) -> Array:
        limbs = x[0].shape[1]
        total = [[0] * self.n for _ in range(x[0].shape[0])]
        for ciphertext, scalar in zip(x, scalars, strict=True):
            for part, poly in enumerate(self._lift_parts(ciphertext)):
                total[part] = _sum(total[part], [scalar * c for c in poly])
        return self._lower_parts(total, limbs)

    def tensor(self, a: Sequence[Array], b: Sequence[Array]) -> Array:
        limbs = a[0].shape[1]
        modulus = prod(self.chain[:limbs])
        total = [[0] * self.n for _ in range(3)]
        for x, y in zip(a, b, strict=True):
            (x0, x1), (y0, y1) = self._lift_parts(x), self._lift_parts(y)
            for part, (left, right) in ((0, (x0, y0)), (1, (x0, y1)), (1, (x1, y0)), (2, (x1, y1))):
                total[part] = _sum(total[part], negacyclic(left, right, modulus))
        return self._lower_parts(total, limbs)

    def scatter(
        self,
        sums: Sequence[Array],
        babies: Sequence[Sequence[Array]],
        giants: Sequence[Sequence[Array]],
    ) -> list[Array]:
        """sums[m] + sum_t giants[t][m // g] (x) babies[t][m % g]."""
        g = len(babies[0])
        return [
            self.add(start, self.tensor([t[m // g] for t in giants], [t[m % g] for t in babies]))
            for m, start in enumerate(sums)
        ]

    # Divisions, automorphisms, key switching.

    def divide(self, x: Array, tail: int) -> Array:
        limbs = x.shape[1]
        rest, divisor = self.chain[: limbs - tail], self.chain[limbs - tail : limbs]
        return self._lower_parts([divide(part, divisor, rest) for part in self._lift_parts(x)], limbs - tail)

    def automorphism(self, x: Array, galois: int) -> Array:
        limbs = x.shape[1]
        modulus = prod(self.chain[:limbs])
        return self._lower_parts([automorphism(part, galois, modulus) for part in self._lift_parts(x)], limbs)

    def _digits(self, c: Array) -> list[Integers]:
        limbs = c.shape[0]
        poly = lift(c, self.chain[:limbs])
        return [[fast_conversion(x, group) for x in poly] for group in self.groups(limbs)]

    def decompose(self, c: Array) -> Array:
        return np.stack([lower(digit, self.extended(c.shape[0])) for digit in self._digits(c)])

    def _switched(self, c: Array, key: Array) -> tuple[Integers, Integers]:
        """<digits of c, key> modulo the primes of c and the special ones."""
        limbs = c.shape[0]
        primes, key_limbs = self.extended(limbs), key.shape[2] - len(self.special)
        modulus = prod(primes)
        present = [*range(limbs), *range(key_limbs, key.shape[2])]
        sums: list[Integers] = []
        for part in range(2):
            total = [0] * self.n
            for d, digit in enumerate(self._digits(c)):
                total = _sum(total, negacyclic(digit, lift(key[d, part][present], primes), modulus))
            sums.append([x % modulus for x in total])
        return sums[0], sums[1]

    def inner_product(self, c: Array, key: Array) -> Array:
        return np.stack([lower(part, self.extended(c.shape[0])) for part in self._switched(c, key)])

    def _divide_extended(
        self, sums: Sequence[Integers], limbs: int, add: Sequence[Array | None], galois: int, rescale: bool
    ) -> Array:
        rest = self.chain[: limbs - 1] if rescale else self.chain[:limbs]
        divisor = self.extended(limbs)[len(rest) :]
        special = prod(self.special)
        out = []
        for total, addend in zip(sums, add, strict=True):
            if addend is not None:
                total = [x + special * y for x, y in zip(total, lift(addend, self.chain[:limbs]), strict=True)]
            out.append(automorphism(divide(total, divisor, rest), galois, prod(rest)))
        return self._lower_parts(out, len(rest))

    def mod_down(self, extended: Array, add0: Array | None, add1: Array | None, galois: int) -> Array:
        """One or two extended polynomials."""
        limbs = extended.shape[1] - len(self.special)
        sums = [lift(part, self.extended(limbs)) for part in extended]
        return self._divide_extended(sums, limbs, (add0, add1)[: len(sums)], galois, rescale=False)

    def hoisted_transform(
        self,
        ciphertext: Array,
        keys: Sequence[Array | None],
        galois: Sequence[int],
        plain: Sequence[Sequence[Array | None]],
    ) -> Array:
        """For each row r: sum_k plain[k][r] * automorphism_k(<digits, keys[k]> + P (c_0, 0)), extended, undivided; the
        identity, which has no key, stands for P (c_0, c_1)."""
        limbs = ciphertext.shape[1]
        primes, special = self.extended(limbs), prod(self.special)
        modulus = prod(primes)
        c0, c1 = ([special * x for x in part] for part in self._lift_parts(ciphertext))
        zero = [0] * self.n
        rows = [[zero, zero] for _ in plain[0]]
        for key, element, terms in zip(keys, galois, plain, strict=True):
            switched = (zero, c1) if key is None else self._switched(ciphertext[1], key)
            parts = [automorphism(part, element, modulus) for part in (_sum(switched[0], c0), switched[1])]
            for row, term in zip(rows, terms, strict=True):
                if term is not None:
                    factor = lift(term, primes)
                    row[:] = [_sum(x, negacyclic(y, factor, modulus)) for x, y in zip(row, parts, strict=True)]
        return np.array([[lower(part, primes) for part in row] for row in rows])

    def key_switch(
        self, c: Array, key: Array, add0: Array | None, add1: Array | None, galois: int, rescale: bool
    ) -> Array:
        return self._divide_extended(self._switched(c, key), c.shape[0], (add0, add1), galois, rescale)

    # Keys, encryption, decryption. Secrets, errors and messages are lists of integers.

    def encrypt(self, message: Integers, a: Array, error: Integers, secret: Integers) -> Array:
        primes = self.chain[: a.shape[0]]
        product = negacyclic(lift(a, primes), secret, prod(primes))
        return lower([m + e - x for m, e, x in zip(message, error, product, strict=True)], primes)

    def decrypt(self, parts: Array, secret: Integers) -> Integers:
        """Centred coefficients of c_0 + c_1 s + c_2 s^2 + ... modulo all primes present."""
        modulus = prod(self.chain[: parts.shape[1]])
        total, power = [0] * self.n, [1] + [0] * (self.n - 1)
        for part in self._lift_parts(parts):
            total = _sum(total, negacyclic(part, power, modulus))
            power = negacyclic(power, secret, modulus)
        return [centred(x, modulus) for x in total]

    def switching_key(self, a: Array, errors: Sequence[Integers], source: Integers, target: Integers) -> Array:
        """b_d = e_d - a_d target + P g_d source; P g_d is P modulo the digit's own primes and 0 modulo all others."""
        limbs = a.shape[1] - len(self.special)
        primes, special = self.extended(limbs), prod(self.special)
        modulus = prod(primes)
        out = []
        for uniform, error, group in zip(a, errors, self.groups(limbs), strict=True):
            gadget = chinese_remainder([special % p if p in group else 0 for p in primes], primes)
            product = negacyclic(lift(uniform, primes), target, modulus)
            out.append(lower([e - x + gadget * s for e, x, s in zip(error, product, source, strict=True)], primes))
        return np.stack(out)

    def public_key(self, a: Array, error: Integers, secret: Integers) -> Array:
        primes = self.chain + self.special
        product = negacyclic(lift(a, primes), secret, prod(primes))
        return lower([e - x for e, x in zip(error, product, strict=True)], primes)

    def public_encrypt(self, message: Array, key: Array, ephemeral: Integers, errors: Sequence[Integers]) -> Array:
        primes = self.chain + self.special
        sums = [
            _sum(negacyclic(lift(half, primes), ephemeral, prod(primes)), error)
            for half, error in zip(key, errors, strict=True)
        ]
        return self._divide_extended(sums, len(self.chain), (message, None), 1, rescale=False)


def _sum(a: Integers, b: Integers) -> Integers:
    return [x + y for x, y in zip(a, b, strict=True)]


# ---- bytes ----------------------------------------------------------------------------------------------------------


def pack(residues: Integers, p: int) -> bytes:
    """Residues modulo p, in as many bits as p has, lowest bit first."""
    bits = p.bit_length()
    window = sum((r % p) << (i * bits) for i, r in enumerate(residues))
    return window.to_bytes(len(residues) * bits // 8, "little")


def words(stream: bytes) -> Integers:
    """64-bit little-endian words."""
    return [int.from_bytes(stream[i : i + 8], "little") for i in range(0, len(stream) // 8 * 8, 8)]


def uniform(stream: bytes, n: int, p: int) -> Integers | None:
    """n centred residues by rejection, or None when the stream is too short."""
    limit = (1 << 64) // p * p
    accepted = [centred(w, p) for w in words(stream) if w < limit][:n]
    return accepted if len(accepted) == n else None


def ternary(stream: bytes) -> Integers:
    """floor(3 u / 2^64) - 1 for each word u."""
    return [(3 * w >> 64) - 1 for w in words(stream)]


def binomial(stream: bytes) -> Integers:
    """Ones among bits 0 ... 20 less ones among bits 21 ... 41."""
    return [(w & 0x1FFFFF).bit_count() - (w >> 21 & 0x1FFFFF).bit_count() for w in words(stream)]


def counter_stream(key: bytes, use: int, index: int, prime_index: int, length: int) -> bytes:
    """AES-256 of successive counter blocks: use (2 bytes) | index (4) | prime index (2) | counter (8), big-endian."""
    head = use.to_bytes(2, "big") + index.to_bytes(4, "big") + prime_index.to_bytes(2, "big")
    blocks = b"".join(head + counter.to_bytes(8, "big") for counter in range(-(-length // 16)))
    return Cipher(algorithms.AES(key), modes.ECB()).encryptor().update(blocks)[:length]


def expand(seed: bytes, use: int, index: int, prime_index: int, n: int, p: int) -> Integers:
    """n uniform residues modulo p from a seed."""
    length = 8 * n
    while (found := uniform(counter_stream(seed, use, index, prime_index, length), n, p)) is None:
        length += 8
    return found
