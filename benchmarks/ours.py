"""This engine's records for benchmarks/engine.py: the same rings and operations as the peers'.

python benchmarks/ours.py --threads 1 2 [--kernel avx2] [--ring 15]
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial

import numpy as np
from peers.common import OURS, RINGS, Record, Recorder, Ring, Timing, require_close, timed_by_turns

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


def measure(ring: Ring, threads: Sequence[int], kernel: str, library: str) -> list[Record]:
    """Every operation on one ring, with each number of threads by turns."""
    p = parameters(ring)
    engine = Engine(p, kernel)
    secret = SecretKey.create(engine)
    top, most = p.top_level, max(threads)
    steps = list(range(1, HOISTED + 1))
    requests = [KeyRequest(RELINEARISATION, top)] + [KeyRequest(rotation(p, s), top) for s in steps]
    held = secret.evaluation_keys(requests, most)
    evaluators = {count: Evaluator(engine, held, count) for count in threads}
    evaluator = evaluators[most]
    rng = np.random.default_rng(1)
    values = rng.normal(size=p.slots) + 1j * rng.normal(size=p.slots)
    plain = evaluator.encode(values, top)
    a, b = secret.encrypt(plain), secret.encrypt(plain)
    product = evaluator.multiply_plain(a, plain)
    limbs, every = np.ascontiguousarray(a.data[0]), list(range(ring.limbs))
    elements = [rotation(p, s) for s in steps]
    keys = [evaluator.key(element) for element in elements]
    digits = engine.ring.decompose(a.data[1], most)
    contributor = PublicEncryptor(engine, secret.public_key(most))
    # A diagonal of its own for every step, as in a transform, so that each is read from memory.
    extended = engine.ring.residues(engine.encoder.embed(values, plain.scale), ring.limbs, most, True)
    diagonals = [[extended.copy()] for _ in steps]

    def one_more(e: Evaluator) -> Ciphertext:
        data = engine.ring.key_switch_digits(digits, keys[0], a.data[0], None, elements[0], False, e.threads)
        return Ciphertext(data, a.scale)

    def inner_sum(e: Evaluator, count: int) -> Limbs:
        """The first part of a double-hoisted transform with one giant step."""
        few = slice(count)
        return engine.ring.hoisted_transform(digits, a.data, keys[few], elements[few], diagonals[few], e.threads)

    def transformed(e: Evaluator) -> Ciphertext:
        sums = inner_sum(e, HOISTED)[0]
        return Ciphertext(engine.ring.mod_down(sums, None, None, 1, e.threads), a.scale * plain.scale)

    def check(operation: str, result: Ciphertext, expected: complex) -> None:
        found = secret.decrypt(result)[SLOT]
        require_close(library, operation, found.real, expected.real)
        require_close(library, operation, found.imag, expected.imag)

    z, turned = values[SLOT], np.roll(values, -1)[SLOT]
    for e in evaluators.values():
        check("encrypt", contributor.encrypt(plain, e.threads), z)
        check("encrypt_secret", secret.encrypt(plain, e.threads), z)
        check("add", e.add(a, b), 2 * z)
        check("multiply_plain, rescale", e.rescale(product), z * z)
        check("multiply_relinearise", e.rescale(e.multiply(a, b, rescale=False)), z * z)
        check("rotate", e.rotate(a, 1), turned)
        check("rotate_hoisted", one_more(e), turned)
        check("rotate_double_hoisted", e.rescale(transformed(e)), z * values[[SLOT + s for s in steps]].sum())
        there = engine.ring.ntt(limbs, every, False, e.threads)
        if not np.array_equal(engine.ring.ntt(there, every, True, e.threads), limbs):
            raise ArithmeticError(f"{library}: ntt is not undone by its inverse; its time is not used")

    operations: dict[str, Callable[[Evaluator], object]] = {
        "ntt": lambda e: engine.ring.ntt(limbs, every, False, e.threads),
        "encode": lambda e: e.encode(values, top),
        "encrypt": lambda e: contributor.encrypt(plain, e.threads),
        "encrypt_secret": lambda e: secret.encrypt(plain, e.threads),
        "decrypt": lambda e: secret.decrypt(a),
        "add": lambda e: e.add(a, b),
        "multiply_plain": lambda e: e.multiply_plain(a, plain),
        "multiply_relinearise": lambda e: e.multiply(a, b, rescale=False),
        "rescale": lambda e: e.rescale(product),
        "rotate": lambda e: e.rotate(a, 1),
        "rotate_hoisted": one_more,
    }

    def by_turns(call: Callable[[Evaluator], object]) -> list[Timing]:
        return timed_by_turns([partial(call, e) for e in evaluators.values()])

    recorders = [Recorder(library, cipherlens.__version__, ring, count) for count in threads]
    for operation, call in operations.items():
        for recorder, found in zip(recorders, by_turns(call), strict=True):
            recorder.put(operation, found)
    few, many = by_turns(lambda e: inner_sum(e, FEW)), by_turns(lambda e: inner_sum(e, HOISTED))
    for recorder, short, long in zip(recorders, few, many, strict=True):
        median, least = (
            max(more - fewer, 0.0) / (HOISTED - FEW)
            for more, fewer in ((long.median, short.median), (long.least, short.least))
        )
        recorder.put("rotate_double_hoisted", Timing(median, least, long.runs))
    return [record for recorder in recorders for record in recorder.records()]


def main() -> None:
    """Print the records as a JSON array."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, nargs="+", default=[1], help="taking turns (default: 1)")
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
