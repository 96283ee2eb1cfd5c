"""Every operation of the evaluator, on real encryptions in a small ring, against the same in big integers, bit for bit.

The sequence of operations is replayed by `ReferenceEvaluator`, on every kernel and with 1, 2 and 3 threads. Results are
also decrypted by the reference alone, from their residues and the ternary secret.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import pytest
import reference_embedding
from reference import lower
from reference_evaluator import ReferenceEvaluator
from toy import KERNELS, ToyParameters, ToySecretKey, integers, random_slots, reference_ring

from cipherlens.owner.encryption import PublicEncryptor
from cipherlens.scheme.chebyshev_plan import plan_polynomial
from cipherlens.scheme.ciphertext import Ciphertext, Plaintext
from cipherlens.scheme.engine import Engine
from cipherlens.scheme.evaluator import Evaluator
from cipherlens.scheme.keys import RELINEARISATION, KeyRequest, conjugation, rotation
from cipherlens.scheme.linear_transform import LinearTransform
from cipherlens.scheme.polynomial import evaluate_polynomial
from cipherlens.scheme.types import Slots

N, LEVELS = 64, 4
THREADS = (1, 2, 3)
STEPS = (1, 2, 3, 4, 8, 10, 28)
Outputs = dict[str, Ciphertext]


@dataclass(frozen=True)
class Small:
    """An owner of a small ring, two vectors of slots, their encryptions, and a clear vector."""

    parameters: ToyParameters
    owner: ToySecretKey
    evaluator: Evaluator
    oracle: ReferenceEvaluator
    z: Slots
    w: Slots
    a: Ciphertext
    b: Ciphertext

    def evaluators(self) -> Iterator[tuple[str, Evaluator]]:
        """On every kernel, with 1, 2 and 3 threads."""
        for kernel in KERNELS:
            for threads in THREADS:
                yield (
                    f"{kernel}, {threads} threads",
                    Evaluator(Engine(self.parameters, kernel), self.evaluator.keys, threads),
                )

    def plain(self, slots: Slots, level: int, scale: float | None = None) -> Plaintext:
        return self.evaluator.encode(slots, level, scale)

    def decrypted(self, ciphertext: Ciphertext) -> Slots:
        """By the reference alone."""
        coefficients = reference_ring(self.parameters).decrypt(ciphertext.data, integers(self.owner.coefficients))
        projected = reference_embedding.project(coefficients, ciphertext.scale, N)
        return np.array([complex(float(x), float(y)) for x, y in projected])


@cache
def small(digit: int) -> Small:
    """Digits of one prime, or of two with a partial last one."""
    parameters = ToyParameters.generate(
        N, LEVELS, scale_bits=32, first_bits=42, special=digit, special_bits=40, digit=digit
    )
    assert isinstance(parameters, ToyParameters)
    owner = ToySecretKey.create(Engine(parameters, "portable"))
    numbers = [RELINEARISATION, conjugation(parameters), conjugation(parameters, 3)]
    numbers += [rotation(parameters, steps) for steps in STEPS]
    keys = owner.evaluation_keys([KeyRequest(number, LEVELS) for number in numbers])
    evaluator, rng = Evaluator(owner.engine, keys), np.random.default_rng(digit)
    z, w = random_slots(N, rng), random_slots(N, rng)
    a, b = (owner.encrypt(evaluator.encode(v, LEVELS)) for v in (z, w))
    oracle = ReferenceEvaluator(parameters, {number: key.data for number, key in keys.keys.items()})
    return Small(parameters, owner, evaluator, oracle, z, w, a, b)


@pytest.fixture(params=[1, 2], ids=["digits of one", "digits of two"])
def world(request: pytest.FixtureRequest) -> Small:
    return small(request.param)


def check(world: Small, expected: Outputs, run: Callable[[Evaluator], Outputs]) -> None:
    """The same residues and scales on every kernel, with any number of threads."""
    for where, evaluator in world.evaluators():
        found = run(evaluator)
        assert found.keys() == expected.keys()
        for name, ciphertext in found.items():
            np.testing.assert_array_equal(ciphertext.data, expected[name].data, err_msg=f"{name} on {where}")
            assert ciphertext.scale == expected[name].scale, name
            assert not np.signbit(ciphertext.data[ciphertext.data == 0]).any(), f"a negative zero: {name} on {where}"


def sums(world: Small, e: Any) -> Outputs:
    a, b = world.a, world.b
    square = world.a.scale**2
    three, two = e.tensor([a, b], [b, b]), e.multiply_plain(a, world.plain(world.w, LEVELS))
    return {
        "add": e.add(a, b),
        "subtract": e.subtract(a, b),
        "subtract itself": e.subtract(a, a),
        "negate": e.negate(a),
        "negate zero": e.negate(e.subtract(a, a)),
        "total": e.total([a, b, a]),
        "add_plain": e.add_plain(a, world.plain(world.w, LEVELS)),
        "two and three parts": e.add(two, three),
        "three and two parts": e.add(three, two),
        "two less three parts": e.subtract(two, three),
        "three less two parts": e.subtract(three, two),
        "add_plain to three parts": e.add_plain(three, world.plain(world.w, LEVELS, square)),
        "negate three parts": e.negate(three),
    }


def products(world: Small, e: Any) -> Outputs:
    a, b = world.a, world.b
    plains = [world.plain(v, LEVELS) for v in (world.w, world.z)]
    three = e.tensor([a, b], [b, b])
    low = e.truncate(a, 1)
    scale = a.scale
    return {
        "tensor": three,
        "relinearise": e.relinearise(three),
        "relinearise and rescale": e.relinearise(three, rescale=True),
        "multiply": e.multiply(a, b),
        "multiply, not rescaled": e.multiply(a, b, rescale=False),
        "multiply at level 1": e.multiply(low, low),
        "square": e.multiply(a, a),
        "multiply_plain": e.multiply_plain(a, plains[0]),
        "plain_products": e.plain_products([a, b], plains),
        "multiply_plain of three parts": e.multiply_plain(three, plains[0]),
        "combine": e.combine([(a, 0.375), (b, -1.7), (a, 0.0)], scale * 2.0**20),
        "combine with integers": e.combine([(a, 3.0), (b, -5.0)], scale),
        "combine three parts": e.combine([(three, -2.5)], three.scale * 2.0**12),
        "rescale": e.rescale(e.multiply_plain(a, plains[0])),
        "rescale three parts": e.rescale(three),
        "rescale twice at once": e.rescale(e.combine([(a, 1.0)], scale * 2.0**62), 2),
        "truncate": e.truncate(a, 2),
        "truncate to the lowest": e.truncate(a, 0),
        "truncate three parts": e.truncate(three, 2),
        **{f"at_level {level}": e.at_level(a, level) for level in range(LEVELS)},
        "at_level with a factor": e.at_level(b, 2, -0.3),
    }


def automorphisms(world: Small, e: Any) -> Outputs:
    a, low, p = world.a, e.truncate(world.b, 0), world.parameters
    hoisted = e.hoisted(a, [1, rotation(p, 1), rotation(p, 28), conjugation(p, 3)])
    return {
        **{f"rotate by {steps}": e.rotate(a, steps) for steps in STEPS},
        "rotate at the lowest level": e.rotate(low, 3),
        "conjugate": e.conjugate(a),
        "rotate and conjugate": e.conjugate(a, 3),
        **{f"hoisted {i}": result for i, result in enumerate(hoisted)},
        "real": e.real(a),
    }


@pytest.mark.parametrize("operations", [sums, products, automorphisms])
def test_operations(world: Small, operations: Callable[[Small, Any], Outputs]) -> None:
    check(world, operations(world, world.oracle), lambda evaluator: operations(world, evaluator))


def test_every_monomial(world: Small) -> None:
    """Exponents from one full turn below zero to one above two."""
    a = Ciphertext(world.a.data[:, :2], world.a.scale)
    exponents = range(-2 * N - 1, 4 * N + 2)
    exact = {exponent: world.oracle.multiply_monomial(a, exponent).data for exponent in range(2 * N)}
    for kernel in KERNELS:
        evaluator = Evaluator(Engine(world.parameters, kernel))
        for exponent in exponents:
            got = evaluator.multiply_monomial(a, exponent)
            np.testing.assert_array_equal(got.data, exact[exponent % (2 * N)], err_msg=f"X^{exponent}")
            assert got.scale == a.scale
    three = world.evaluator.tensor([a], [a])
    exponents = range(1, 2 * N, 37)
    expected = {f"X^{exponent}": world.oracle.multiply_monomial(three, exponent) for exponent in exponents}
    check(world, expected, lambda e: {f"X^{x}": e.multiply_monomial(three, x) for x in exponents})


@pytest.mark.parametrize(("offsets", "baby"), [((0, 1, 2, 3), 4), ((0, 1, 4, 5, 10), 2), ((3, 28, 29), 4)])
def test_linear_transforms(world: Small, offsets: tuple[int, ...], baby: int) -> None:
    rng = np.random.default_rng(baby)
    diagonals = {k: random_slots(N, rng) for k in offsets}
    # Encoded by the reference: the diagonal k = giant + small, moved by the giant step against what follows it.
    for level in (LEVELS, 1):
        x = world.oracle.truncate(world.a, level)
        scale = world.parameters.scales[level]
        rows: dict[int, list[tuple[int, Any]]] = {}
        for k in offsets:
            moved = np.roll(diagonals[k], k - k % baby)
            coefficients = [round(c) for c in reference_embedding.embed(list(moved), scale, N)]
            plain = lower(coefficients, reference_ring(world.parameters).extended(level + 1))
            rows.setdefault(k - k % baby, []).append((k % baby, plain))
        expected = {"transform": world.oracle.transform(x, rows, scale)}

        def apply(evaluator: Evaluator, level: int = level, x: Ciphertext = x) -> Outputs:
            transform = LinearTransform.encode(evaluator.engine, diagonals, level, baby=baby)
            return {"transform": transform.apply(evaluator, x)}

        check(world, expected, apply)
        wanted = sum((d * np.roll(world.z, -k) for k, d in diagonals.items()), np.zeros(N // 2, np.complex128))
        assert np.abs(world.decrypted(expected["transform"]) - wanted).max() < 2.0**-16


@pytest.mark.parametrize("series", [[0.5, -0.25], [0.1, 0.2, 0.3], [0, 0.7, 0, -0.2, 0, 0.1], [0.02] * 13], ids=len)
def test_polynomials(world: Small, series: list[float]) -> None:
    """The plan of a polynomial run on big integers."""
    plan = plan_polynomial(series)
    real = world.owner.encrypt(world.evaluator.encode(world.z.real.astype(np.complex128), LEVELS))
    oracle: Any = world.oracle
    expected = {"polynomial": evaluate_polynomial(oracle, plan, real)}
    check(world, expected, lambda e: {"polynomial": evaluate_polynomial(e, plan, real)})
    wanted = np.polynomial.chebyshev.chebval(world.z.real, series)
    assert np.abs(world.decrypted(expected["polynomial"]) - wanted).max() < 2.0**-12


def test_results_are_decrypted_by_the_reference_alone(world: Small) -> None:
    """Products, rotations, rescales and an encryption under the public key, to slots without the engine."""
    e, z, w, a, b = world.evaluator, world.z, world.w, world.a, world.b
    cases: list[tuple[Ciphertext, Slots]] = [
        (e.multiply(a, b), z * w),
        (e.multiply(a, b, rescale=False), z * w),
        (e.tensor([a, b], [b, a]), 2 * z * w),
        (e.relinearise(e.tensor([a], [a])), z * z),
        (e.rescale(e.multiply_plain(a, world.plain(w, LEVELS))), z * w),
        (e.multiply(e.multiply(a, b), e.multiply(b, b)), z * w**3),
        (e.rotate(a, 3), np.roll(z, -3)),
        (e.rotate(e.multiply(a, b), 28), np.roll(z * w, -28)),
        (e.conjugate(a, 3), np.roll(z, -3).conj()),
        (e.real(a), 2 * z.real),
        (e.multiply_monomial(a, N // 2), 1j * z),
        (e.at_level(a, 0, 0.5), z / 2),
        (e.truncate(a, 0), z),
    ]
    engine, scale = e.engine, world.a.scale
    message = Plaintext(engine.encode(z, scale, LEVELS + 1), scale)
    cases.append((PublicEncryptor(engine, world.owner.public_key()).encrypt(message), z))
    for number, (ciphertext, wanted) in enumerate(cases):
        assert np.abs(world.decrypted(ciphertext) - wanted).max() < 2.0**-18, number
        np.testing.assert_allclose(world.owner.decrypt(ciphertext), world.decrypted(ciphertext), rtol=0, atol=2.0**-40)
