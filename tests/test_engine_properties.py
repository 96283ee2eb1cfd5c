"""Laws that hold for any values, at ring dimensions that are used in earnest."""

from dataclasses import dataclass
from typing import cast

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from toy import owner_and_evaluator

from cipherlens.errors import KeyMismatch, PlanError, RangeError
from cipherlens.owner.secret_key import SecretKey
from cipherlens.scheme.ciphertext import Ciphertext
from cipherlens.scheme.engine import Engine
from cipherlens.scheme.evaluator import Evaluator
from cipherlens.scheme.keys import RELINEARISATION, KeyRequest, conjugation, rotation
from cipherlens.scheme.parameters import Parameters
from cipherlens.scheme.types import Slots

TOLERANCE = 2.0**-12  # noise at a scale of 2^30 with values up to 4 stays far below
STEPS = (1, 3, -5, 64)

few = settings(max_examples=8, deadline=None)


@dataclass(frozen=True)
class World:
    """An owner and an evaluator under the owner's keys."""

    owner: SecretKey
    evaluator: Evaluator

    @property
    def parameters(self) -> Parameters:
        return self.evaluator.engine.parameters

    def slots(self, pattern: list[complex]) -> Slots:
        return np.resize(np.array(pattern, np.complex128), self.parameters.slots)

    def encrypt(self, slots: Slots, level: int | None = None) -> Ciphertext:
        level = self.parameters.top_level if level is None else level
        return self.owner.encrypt(self.evaluator.encode(slots, level))

    def error(self, ciphertext: Ciphertext, expected: Slots) -> float:
        return float(np.abs(self.owner.decrypt(ciphertext) - expected).max())


def _world(parameters: Parameters) -> World:
    top = parameters.top_level
    rotations = {a + b for a in (0, *STEPS) for b in (0, *STEPS)}
    requests = [KeyRequest(RELINEARISATION, top), KeyRequest(conjugation(parameters), top)]
    requests += [KeyRequest(conjugation(parameters, 3), top)]
    requests += [KeyRequest(rotation(parameters, steps), top) for steps in rotations]
    return World(*owner_and_evaluator(parameters, requests))


WORLDS = {
    12: Parameters.generate(1 << 12, 1, scale_bits=30, first_bits=36, special=1, special_bits=38, digit=1),
    13: Parameters.generate(1 << 13, 3, scale_bits=30, first_bits=40, special=2, special_bits=38, digit=2),
}


@pytest.fixture(scope="module", params=WORLDS)
def world(request: pytest.FixtureRequest) -> World:
    return _world(WORLDS[cast(int, request.param)])


@pytest.fixture(scope="module")
def deep() -> World:
    return _world(WORLDS[13])


part = st.floats(-1, 1, width=32)
patterns = st.lists(st.builds(complex, part, part), min_size=1, max_size=9)
steps = st.sampled_from(STEPS)


# ---- encoding -------------------------------------------------------------------------------------------------------


@few
@given(pattern=patterns, scale_bits=st.integers(20, 45))
def test_decoding_inverts_encoding(world: World, pattern: list[complex], scale_bits: int) -> None:
    """Each of N coefficients is rounded by at most 1/2, so a slot moves by at most N / 2 units of the scale."""
    n, slots = world.parameters.ring_dimension, world.slots(pattern)
    encoder = world.evaluator.engine.encoder
    coefficients = encoder.embed(slots, 2.0**scale_bits)
    np.testing.assert_array_equal(coefficients, np.rint(coefficients))
    error = np.abs(encoder.project(coefficients, 2.0**scale_bits) - slots).max()
    assert error <= n / 2 * 2.0**-scale_bits + 2.0**-45


@few
@given(x=patterns, y=patterns)
def test_a_product_of_polynomials_encodes_the_product_of_slots(
    world: World, x: list[complex], y: list[complex]
) -> None:
    engine, scale = world.evaluator.engine, 2.0**30
    a, b = (engine.encode(world.slots(v), scale, 2) for v in (x, y))
    product = engine.ring.multiply_plain([a[None]], [b])
    # A trivial ciphertext (m, 0) decrypts to m under any key.
    trivial = Ciphertext(np.concatenate([product, np.zeros_like(product)]), scale * scale)
    assert world.error(trivial, world.slots(x) * world.slots(y)) < TOLERANCE


@pytest.mark.parametrize("bad", [np.nan, np.inf, 1e300])
def test_values_that_cannot_be_encoded_are_refused(world: World, bad: float) -> None:
    with pytest.raises(RangeError, match="cannot be encoded"):
        world.evaluator.encode(np.full(world.parameters.slots, bad + 0j), 0)


def test_values_beyond_the_modulus_of_their_level_are_refused(world: World) -> None:
    evaluator, p = world.evaluator, world.parameters
    largest = p.primes[0] / 2 / evaluator.scale(0)
    for sign in (1, -1):
        evaluator.encode(np.full(p.slots, sign * 0.99 * largest + 0j), 0)
        with pytest.raises(RangeError, match="at level 0"):
            evaluator.encode(np.full(p.slots, sign * 1.01 * largest + 0j), 0)
    evaluator.encode(np.full(p.slots, 1.01 * largest + 0j), 1)


# ---- homomorphic laws -----------------------------------------------------------------------------------------------


@few
@given(x=patterns, y=patterns)
def test_sums(world: World, x: list[complex], y: list[complex]) -> None:
    e, a, b = world.evaluator, world.slots(x), world.slots(y)
    ca, cb = world.encrypt(a), world.encrypt(b)
    assert world.error(e.add(ca, cb), a + b) < TOLERANCE
    assert world.error(e.subtract(ca, cb), a - b) < TOLERANCE
    assert world.error(e.negate(ca), -a) < TOLERANCE
    assert world.error(e.add_plain(ca, e.encode(b, ca.level)), a + b) < TOLERANCE
    assert world.error(e.total([ca, cb, ca]), 2 * a + b) < TOLERANCE
    np.testing.assert_array_equal(e.add(ca, cb).data, e.add(cb, ca).data)
    np.testing.assert_array_equal(e.subtract(e.add(ca, cb), cb).data, ca.data)
    np.testing.assert_array_equal(e.add(ca, e.negate(ca)).data, np.zeros_like(ca.data))


@few
@given(x=patterns, y=patterns, z=patterns)
def test_products(world: World, x: list[complex], y: list[complex], z: list[complex]) -> None:
    e = world.evaluator
    a, b, c = world.slots(x), world.slots(y), world.slots(z)
    ca, cb, cc = world.encrypt(a), world.encrypt(b), world.encrypt(c)
    assert world.error(e.multiply(ca, cb), a * b) < TOLERANCE
    assert world.error(e.tensor([ca, cc], [cb, cb]), a * b + c * b) < TOLERANCE
    assert world.error(e.rescale(e.relinearise(e.tensor([ca], [cb]))), a * b) < TOLERANCE
    assert world.error(e.rescale(e.multiply_plain(ca, e.encode(b, ca.level))), a * b) < TOLERANCE
    # Before any rounding, products are those of a ring: commutative and distributive to the last bit.
    np.testing.assert_array_equal(e.multiply(ca, cb).data, e.multiply(cb, ca).data)
    np.testing.assert_array_equal(
        e.tensor([e.add(ca, cb)], [cc]).data, e.add(e.tensor([ca], [cc]), e.tensor([cb], [cc])).data
    )
    np.testing.assert_array_equal(
        e.tensor([ca, cb], [cc, cc]).data, e.add(e.tensor([ca], [cc]), e.tensor([cb], [cc])).data
    )


@few
@given(x=patterns, y=patterns, factors=st.tuples(st.floats(-4, 4), st.floats(-4, 4)))
def test_linear_combinations(world: World, x: list[complex], y: list[complex], factors: tuple[float, float]) -> None:
    e, a, b = world.evaluator, world.slots(x), world.slots(y)
    items = [(world.encrypt(a), factors[0]), (world.encrypt(b), factors[1])]
    scale = e.scale(world.parameters.top_level) * 2.0**20
    expected = factors[0] * a + factors[1] * b
    combined = e.combine(items, scale)
    assert combined.scale == scale
    assert combined.level == world.parameters.top_level
    assert world.error(combined, expected) < TOLERANCE


# ---- automorphisms --------------------------------------------------------------------------------------------------


@few
@given(x=patterns, i=steps, j=steps)
def test_rotations_compose(world: World, x: list[complex], i: int, j: int) -> None:
    e, a = world.evaluator, world.slots(x)
    ca = world.encrypt(a)
    assert world.error(e.rotate(ca, i), np.roll(a, -i)) < TOLERANCE
    twice, once = e.rotate(e.rotate(ca, i), j), e.rotate(ca, i + j)
    assert world.error(twice, np.roll(a, -i - j)) < TOLERANCE
    assert world.error(once, np.roll(a, -i - j)) < TOLERANCE
    assert e.rotate(ca, 0) is ca
    assert e.rotate(ca, world.parameters.slots) is ca


@few
@given(x=patterns, i=steps)
def test_conjugation(world: World, x: list[complex], i: int) -> None:
    e, a = world.evaluator, world.slots(x)
    ca = world.encrypt(a)
    assert world.error(e.conjugate(ca), a.conj()) < TOLERANCE
    assert world.error(e.conjugate(ca, 3), np.roll(a, -3).conj()) < TOLERANCE
    assert world.error(e.conjugate(e.rotate(ca, i)), np.roll(a, -i).conj()) < TOLERANCE
    assert world.error(e.conjugate(e.conjugate(ca)), a) < TOLERANCE
    assert world.error(e.real(ca), (a + a.conj())) < TOLERANCE


@few
@given(x=patterns, elements=st.lists(st.sampled_from([0, *STEPS]), min_size=1, max_size=4), level=st.integers(1, 3))
def test_hoisted_rotations_equal_single_ones_bit_for_bit(
    deep: World, x: list[complex], elements: list[int], level: int
) -> None:
    e, p = deep.evaluator, deep.parameters
    ca = deep.encrypt(deep.slots(x), level)
    galois = [rotation(p, s) for s in elements] + [conjugation(p, 3)]
    for got, s in zip(e.hoisted(ca, galois)[:-1], elements, strict=True):
        assert got.data.tobytes() == e.rotate(ca, s).data.tobytes()
    assert e.hoisted(ca, galois)[-1].data.tobytes() == e.conjugate(ca, 3).data.tobytes()
    assert e.hoisted(ca, [1])[0] is ca


@few
@given(g=st.integers(0, 2**13 - 1), h=st.integers(0, 2**13 - 1), seed=st.integers(0, 9))
def test_automorphisms_form_a_group(deep: World, g: int, h: int, seed: int) -> None:
    n, ring = deep.parameters.ring_dimension, deep.evaluator.engine.ring
    g, h = 2 * g + 1, 2 * h + 1
    x = np.random.default_rng(seed).integers(-1000, 1000, (1, 2, n)).astype(np.float64)
    np.testing.assert_array_equal(ring.automorphism(ring.automorphism(x, g), h), ring.automorphism(x, g * h % (2 * n)))
    np.testing.assert_array_equal(ring.automorphism(ring.automorphism(x, g), pow(g, -1, 2 * n)), x)


# ---- levels and scales ----------------------------------------------------------------------------------------------


@few
@given(x=patterns, level=st.integers(0, 2), factor=st.floats(-2, 2))
def test_level_drops(deep: World, x: list[complex], level: int, factor: float) -> None:
    e, a = deep.evaluator, deep.slots(x)
    ca = deep.encrypt(a)
    lower = e.at_level(ca, level, factor)
    assert (lower.level, lower.scale) == (level, e.scale(level))
    assert deep.error(lower, factor * a) < TOLERANCE
    cut = e.truncate(ca, level)
    assert (cut.level, cut.scale) == (level, ca.scale)
    assert deep.error(cut, a) < TOLERANCE
    assert e.at_level(ca, ca.level) is ca


@few
@given(x=patterns, y=patterns)
def test_a_chain_of_products_keeps_to_the_scale_of_each_level(deep: World, x: list[complex], y: list[complex]) -> None:
    e, a, b = deep.evaluator, deep.slots(x), deep.slots(y)
    product, expected, factor = deep.encrypt(a), a, deep.encrypt(b)
    while product.level > 0:
        product, expected = e.multiply(product, e.at_level(factor, product.level)), expected * b
        assert product.scale == e.scale(product.level)
        assert deep.error(product, expected) < TOLERANCE
    with pytest.raises(PlanError, match="no level is left"):
        e.multiply(product, product)
    with pytest.raises(PlanError, match="no level is left"):
        e.rescale(product)


def test_operands_of_different_levels_or_scales_are_refused(deep: World) -> None:
    e, p = deep.evaluator, deep.parameters
    ones = np.ones(p.slots, np.complex128)
    high, low = deep.encrypt(ones), deep.encrypt(ones, 1)
    other = deep.owner.encrypt(e.encode(ones, p.top_level, high.scale * 2))
    for b in (low, other):
        for operation in (e.add, e.subtract):
            with pytest.raises(PlanError, match="at_level"):
                operation(high, b)
        with pytest.raises(PlanError):
            e.total([high, b])
        with pytest.raises(PlanError):
            e.tensor([high, b], [high, high])
    with pytest.raises(PlanError):
        e.multiply(high, low)
    with pytest.raises(PlanError):
        e.combine([(high, 1.0), (low, 1.0)], high.scale)
    for plain in (e.encode(ones, 1), e.encode(ones, p.top_level, high.scale * 2)):
        with pytest.raises(PlanError):
            e.add_plain(high, plain)
    with pytest.raises(PlanError):
        e.multiply_plain(high, e.encode(ones, 1))
    with pytest.raises(PlanError):
        e.plain_products([high, high], [e.encode(ones, p.top_level), e.encode(ones, p.top_level, 2.0)])
    with pytest.raises(PlanError, match="cannot be raised"):
        e.truncate(low, p.top_level)
    with pytest.raises(PlanError):
        e.at_level(low, p.top_level)


def test_a_missing_key_is_named(deep: World) -> None:
    e, ciphertext = deep.evaluator, deep.encrypt(np.ones(deep.parameters.slots, np.complex128))
    with pytest.raises(KeyMismatch, match=f"automorphism {rotation(deep.parameters, 777)}"):
        e.rotate(ciphertext, 777)
    with pytest.raises(KeyMismatch, match="automorphism"):
        e.hoisted(ciphertext, [rotation(deep.parameters, 777)])
    bare = Evaluator(e.engine)
    with pytest.raises(KeyMismatch, match="needs the owner's evaluation keys"):
        bare.multiply(ciphertext, ciphertext)
    without = Evaluator(e.engine, deep.owner.evaluation_keys([]))
    with pytest.raises(KeyMismatch, match="relinearisation"):
        without.multiply(ciphertext, ciphertext)


def test_keys_of_other_parameters_are_refused(deep: World) -> None:
    with pytest.raises(KeyMismatch, match="other parameters"):
        Evaluator(Engine(WORLDS[12]), deep.evaluator.keys)


def test_a_strangers_key_decrypts_to_noise(deep: World) -> None:
    ones = np.ones(deep.parameters.slots, np.complex128)
    stranger = SecretKey.create(deep.evaluator.engine)
    assert np.abs(stranger.decrypt(deep.encrypt(ones)) - ones).min() > 1


def test_a_key_serves_every_level_below_its_own(deep: World) -> None:
    e, p = deep.evaluator, deep.parameters
    a = deep.slots([1, 2j, -0.5])
    for level in range(p.top_level + 1):
        assert deep.error(e.rotate(deep.encrypt(a, level), 1), np.roll(a, -1)) < TOLERANCE
    low = deep.owner.switching_key(KeyRequest(rotation(p, 1), 1))
    ring = e.engine.ring
    data = deep.encrypt(a).data
    with pytest.raises(ValueError, match="lower level"):
        ring.key_switch(data[1], low.data, data[0], None, rotation(p, 1))


def test_mapping_over_threads_keeps_the_order(deep: World) -> None:
    threaded = Evaluator(deep.evaluator.engine, deep.evaluator.keys, 3)
    items = [deep.encrypt(deep.slots([k])) for k in (0.1, 0.2, 0.3, 0.4)]
    rotated = threaded.map(lambda e, c: e.rotate(c, 1), items)
    for got, item in zip(rotated, items, strict=True):
        np.testing.assert_array_equal(got.data, deep.evaluator.rotate(item, 1).data)
