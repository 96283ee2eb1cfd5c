"""This engine's records for benchmarks/engine.py: the same rings and operations as the peers'.

python benchmarks/ours.py --threads 1 [--kernel avx2] [--ring 15]
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict

import numpy as np
from peers.common import OURS, RINGS, Record, Recorder, Ring, median_seconds, require_close

import cipherlens
from cipherlens.owner.encryption import PublicEncryptor
from cipherlens.owner.secret_key import SecretKey
from cipherlens.scheme.ciphertext import Ciphertext
from cipherlens.scheme.engine import Engine, choose_kernel
from cipherlens.scheme.evaluator import Evaluator
from cipherlens.scheme.keys import RELINEARISATION, KeyRequest, rotation
from cipherlens.scheme.parameters import Parameters
from cipherlens.scheme.types import Limbs

PRIME_BITS = 49
"""Bits of every prime: just below 2^50, so that all of them together are as long as the peers'."""

HOISTED, FEW = 8, 2
"""Baby steps of the two linear transforms whose difference is the cost of one."""

SLOT = 7
"""The slot that every operation's result is checked in."""


def parameters(ring: Ring) -> Parameters:
    """Parameters with the ring's limbs, special limbs and digits."""
    return Parameters.generate(
        ring.dimension, ring.limbs - 1, scale_bits=PRIME_BITS, first_bits=PRIME_BITS,
        special=ring.special_limbs, special_bits=PRIME_BITS, digit=-(-ring.limbs // ring.dnum),
    )  # fmt: skip


def measure(ring: Ring, threads: int, kernel: str, library: str) -> list[Record]:
    """Every operation on one ring."""
    p = parameters(ring)
    engine = Engine(p, kernel)
    secret = SecretKey.create(engine)
    top = p.top_level
    steps = list(range(1, HOISTED + 1))
    requests = [KeyRequest(RELINEARISATION, top)] + [KeyRequest(rotation(p, s), top) for s in steps]
    evaluator = Evaluator(engine, secret.evaluation_keys(requests, threads), threads)
    rng = np.random.default_rng(1)
    values = rng.normal(size=p.slots) + 1j * rng.normal(size=p.slots)
    plain = evaluator.encode(values, top)
    a, b = secret.encrypt(plain), secret.encrypt(plain)
    product = evaluator.multiply_plain(a, plain)
    limbs, every = np.ascontiguousarray(a.data[0]), list(range(ring.limbs))
    elements = [rotation(p, s) for s in steps]
    keys = [evaluator.key(element) for element in elements]
    digits = engine.ring.decompose(a.data[1], threads)
    contributor = PublicEncryptor(engine, secret.public_key(threads))
    # A diagonal of its own for every step, as in a transform, so that each is read from memory.
    extended = engine.ring.residues(engine.encoder.embed(values, plain.scale), ring.limbs, threads, True)
    diagonals = [[extended.copy()] for _ in steps]

    def one_more() -> Ciphertext:
        data = engine.ring.key_switch_digits(digits, keys[0], a.data[0], None, elements[0], False, threads)
        return Ciphertext(data, a.scale)

    def inner_sum(count: int) -> Limbs:
        """The first part of a double-hoisted transform with one giant step."""
        few = slice(count)
        return engine.ring.hoisted_transform(digits, a.data, keys[few], elements[few], diagonals[few], threads)

    def transformed() -> Ciphertext:
        return Ciphertext(engine.ring.mod_down(inner_sum(HOISTED)[0], None, None, 1, threads), a.scale * plain.scale)

    def check(operation: str, result: Ciphertext, expected: complex) -> None:
        found = secret.decrypt(result)[SLOT]
        require_close(library, operation, found.real, expected.real)
        require_close(library, operation, found.imag, expected.imag)

    z, turned = values[SLOT], np.roll(values, -1)[SLOT]
    check("encrypt", contributor.encrypt(plain, threads), z)
    check("encrypt_secret", a, z)
    check("add", evaluator.add(a, b), 2 * z)
    check("multiply_plain, rescale", evaluator.rescale(product), z * z)
    check("multiply_relinearise", evaluator.rescale(evaluator.multiply(a, b, rescale=False)), z * z)
    check("rotate", evaluator.rotate(a, 1), turned)
    check("rotate_hoisted", one_more(), turned)
    check("rotate_double_hoisted", evaluator.rescale(transformed()), z * values[[SLOT + s for s in steps]].sum())
    if not np.array_equal(engine.ring.ntt(engine.ring.ntt(limbs, every, False, threads), every, True, threads), limbs):
        raise ArithmeticError(f"{library}: ntt is not undone by its inverse; its time is not used")

    recorder = Recorder(library, cipherlens.__version__, ring, threads)
    recorder.time("ntt", lambda: engine.ring.ntt(limbs, every, False, threads))
    recorder.time("encode", lambda: evaluator.encode(values, top))
    recorder.time("encrypt", lambda: contributor.encrypt(plain, threads))
    recorder.time("encrypt_secret", lambda: secret.encrypt(plain, threads))
    recorder.time("decrypt", lambda: secret.decrypt(a))
    recorder.time("add", lambda: evaluator.add(a, b))
    recorder.time("multiply_plain", lambda: evaluator.multiply_plain(a, plain))
    recorder.time("multiply_relinearise", lambda: evaluator.multiply(a, b, rescale=False))
    recorder.time("rescale", lambda: evaluator.rescale(product))
    recorder.time("rotate", lambda: evaluator.rotate(a, 1))
    recorder.time("rotate_hoisted", one_more)
    few_seconds, _ = median_seconds(lambda: inner_sum(FEW))
    recorder.time("rotate_double_hoisted", lambda: inner_sum(HOISTED), subtract=few_seconds, divide=HOISTED - FEW)
    return recorder.records()


def main() -> None:
    """Print the records as a JSON array."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--kernel", help="avx512, avx2, neon or portable; by default the machine's best")
    parser.add_argument("--ring", type=int, help="only the ring of dimension 2^RING")
    arguments = parser.parse_args()
    kernel = arguments.kernel or choose_kernel()
    library = f"{OURS} ({kernel})" if arguments.kernel else OURS
    records: list[Record] = []
    for ring in RINGS:
        if arguments.ring in (None, ring.dimension.bit_length() - 1):
            records += measure(ring, arguments.threads, kernel, library)
    json.dump([asdict(record) for record in records], sys.stdout)


if __name__ == "__main__":
    main()
