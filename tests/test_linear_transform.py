"""Double-hoisted linear transforms and monomials against numpy."""

from __future__ import annotations

import numpy as np
import pytest

from cipherlens.errors import KeyMismatch, PlanError
from cipherlens.owner.secret_key import SecretKey
from cipherlens.scheme.engine import Engine
from cipherlens.scheme.evaluator import Evaluator
from cipherlens.scheme.keys import RELINEARISATION, KeyRequest
from cipherlens.scheme.linear_transform import LinearTransform, baby_steps
from cipherlens.scheme.parameters import Parameters


@pytest.fixture(scope="module")
def owner() -> SecretKey:
    parameters = Parameters.generate(
        1 << 13, 2, scale_bits=40, first_bits=45, special=1, special_bits=45, digit=1
    )  # fmt: skip
    return SecretKey.create(Engine(parameters))


@pytest.mark.parametrize("baby", [None, 1, 4, 32])
def test_a_transform_is_the_sum_of_its_rotated_diagonals(owner: SecretKey, baby: int | None) -> None:
    engine, slots = owner.engine, owner.engine.parameters.slots
    rng = np.random.default_rng(3)
    offsets = [0, 1, 2, 5, 11, -1, -7]
    diagonals = {k: rng.normal(size=slots) + 1j * rng.normal(size=slots) for k in offsets}
    transform = LinearTransform.encode(engine, diagonals, 2, baby=baby)
    evaluator = Evaluator(engine, owner.evaluation_keys(transform.key_requests(engine)))
    x = rng.normal(size=slots) + 1j * rng.normal(size=slots)
    result = transform.apply(evaluator, owner.encrypt(evaluator.encode(x, 2)))
    expected = sum(d * np.roll(x, -k) for k, d in diagonals.items())
    assert np.abs(owner.decrypt(evaluator.rescale(result)) - expected).max() < 1e-5
    two = transform.apply(Evaluator(engine, evaluator.keys, 2), owner.encrypt(evaluator.encode(x, 2)))
    assert two.data.shape == result.data.shape


def test_threads_do_not_change_a_transform(owner: SecretKey) -> None:
    engine, slots = owner.engine, owner.engine.parameters.slots
    diagonals = {k: np.full(slots, 0.5 + k) for k in range(6)}
    transform = LinearTransform.encode(engine, diagonals, 2)
    keys = owner.evaluation_keys(transform.key_requests(engine))
    ciphertext = owner.encrypt(Evaluator(engine).encode(np.arange(slots) / slots, 2))
    results = [transform.apply(Evaluator(engine, keys, threads), ciphertext).data for threads in (1, 2, 3)]
    assert np.array_equal(results[0], results[1]) and np.array_equal(results[0], results[2])


def test_what_does_not_fit_is_refused(owner: SecretKey) -> None:
    engine, slots = owner.engine, owner.engine.parameters.slots
    with pytest.raises(PlanError, match="at least one diagonal"):
        LinearTransform.encode(engine, {}, 2)
    transform = LinearTransform.encode(engine, {1: np.ones(slots)}, 1)
    evaluator = Evaluator(engine, owner.evaluation_keys([]))
    with pytest.raises(PlanError, match="level 1, not 2"):
        transform.apply(evaluator, owner.encrypt(evaluator.encode(np.ones(slots), 2)))
    with pytest.raises(KeyMismatch, match="no key for"):
        transform.apply(evaluator, owner.encrypt(evaluator.encode(np.ones(slots), 1)))


def test_few_diagonals_take_few_steps() -> None:
    assert [baby_steps(n) for n in (1, 2, 8, 32, 200)] == [1, 2, 4, 8, 32]


@pytest.mark.parametrize("quarter_turns", [1, 2, 3, 5, -1])
def test_a_monomial_multiplies_by_a_power_of_i(owner: SecretKey, quarter_turns: int) -> None:
    evaluator = Evaluator(owner.engine)
    n = owner.engine.parameters.ring_dimension
    x = np.random.default_rng(4).normal(size=n // 2) + 1j
    ciphertext = owner.encrypt(evaluator.encode(x, 1))
    turned = evaluator.multiply_monomial(ciphertext, quarter_turns * n // 2)
    assert turned.scale == ciphertext.scale and turned.level == 1
    assert np.abs(owner.decrypt(turned) - x * 1j**quarter_turns).max() < 1e-6


@pytest.mark.parametrize("rescale", [False, True])
def test_a_product_in_one_go_is_tensor_and_relinearisation(owner: SecretKey, rescale: bool) -> None:
    evaluator = Evaluator(owner.engine, owner.evaluation_keys([KeyRequest(RELINEARISATION, 2)]))
    rng = np.random.default_rng(5)
    a, b = (owner.encrypt(evaluator.encode(rng.normal(size=4096), 2)) for _ in range(2))
    one = evaluator.multiply(a, b, rescale=rescale)
    two = evaluator.relinearise(evaluator.tensor([a], [b]), rescale=rescale)
    assert np.array_equal(one.data, two.data) and one.scale == two.scale
