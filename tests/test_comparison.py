"""Signs and comparisons on ciphertexts, and polynomials run on them."""

import numpy as np
import pytest
from numpy.polynomial import chebyshev
from numpy.typing import NDArray

from cipherlens.errors import InputError, KeyMismatch, PlanError
from cipherlens.owner.secret_key import SecretKey
from cipherlens.scheme.chebyshev_plan import plan_polynomial
from cipherlens.scheme.ciphertext import Ciphertext
from cipherlens.scheme.comparison import greater, plan_comparison, polynomial_noise, positive, sign
from cipherlens.scheme.engine import Engine
from cipherlens.scheme.evaluator import Evaluator
from cipherlens.scheme.keys import RELINEARISATION, KeyRequest
from cipherlens.scheme.minimax import composite_sign, odd_minimax
from cipherlens.scheme.parameters import Parameters
from cipherlens.scheme.polynomial import constant_plaintext, evaluate_polynomial

Floats = NDArray[np.float64]
LEVELS = 9


@pytest.fixture(scope="module")
def secret() -> SecretKey:
    parameters = Parameters.generate(1 << 14, LEVELS, scale_bits=36, first_bits=45, special=1, special_bits=48, digit=1)
    return SecretKey.create(Engine(parameters))


@pytest.fixture(scope="module")
def evaluator(secret: SecretKey) -> Evaluator:
    return Evaluator(secret.engine, secret.evaluation_keys([KeyRequest(RELINEARISATION, LEVELS)]))


def encrypt(secret: SecretKey, evaluator: Evaluator, values: Floats, level: int = LEVELS) -> Ciphertext:
    return secret.encrypt(evaluator.encode(values.astype(np.complex128), level))


def uniform(secret: SecretKey, seed: int, width: float = 1.0) -> Floats:
    return np.random.default_rng(seed).uniform(-width, width, secret.engine.parameters.slots)


@pytest.mark.parametrize("degree", [1, 2, 3, 6, 7, 12, 15, 31, 100])
def test_polynomials_take_their_planned_levels_and_end_at_the_levels_scale(
    secret: SecretKey, evaluator: Evaluator, degree: int
) -> None:
    series = np.random.default_rng(degree).uniform(-1, 1, degree + 1) / (degree + 1)
    plan = plan_polynomial(series)
    x = uniform(secret, degree)
    result = evaluate_polynomial(evaluator, plan, encrypt(secret, evaluator, x))
    assert result.level == LEVELS - (degree).bit_length()
    assert result.scale == evaluator.scale(result.level)
    assert result.parts == 2
    bound = polynomial_noise(1 << 14, 2.0**36, degree + 1)
    assert np.abs(secret.decrypt(result) - chebyshev.chebval(x, series)).max() < bound


@pytest.mark.parametrize(("degree", "low"), [(3, 0.01), (15, 0.001), (31, 0.1), (63, 0.001), (127, 0.01)])
def test_noise_of_minimax_polynomials_is_below_its_estimate(
    secret: SecretKey, evaluator: Evaluator, degree: int, low: float
) -> None:
    series, _ = odd_minimax(degree, low)
    x = uniform(secret, degree)
    x[::4] *= 0.05
    result = evaluate_polynomial(evaluator, plan_polynomial(series), encrypt(secret, evaluator, x))
    noise = np.abs(secret.decrypt(result) - chebyshev.chebval(x, series)).max()
    assert noise < polynomial_noise(1 << 14, 2.0**36, degree)


def test_polynomials_need_levels_and_a_relinearisation_key(secret: SecretKey, evaluator: Evaluator) -> None:
    plan = plan_polynomial([0.0, 0.0, 0.0, 1.0])
    low = encrypt(secret, evaluator, uniform(secret, 0), level=1)
    with pytest.raises(PlanError, match="takes 2 levels but the value has 1 left; plan for 1 more"):
        evaluate_polynomial(evaluator, plan, low)
    with pytest.raises(KeyMismatch):
        evaluate_polynomial(Evaluator(secret.engine), plan, encrypt(secret, evaluator, uniform(secret, 0)))


def test_constants_are_exact_at_any_scale(secret: SecretKey, evaluator: Evaluator) -> None:
    x = uniform(secret, 1)
    value = encrypt(secret, evaluator, x)
    three = evaluator.tensor([value], [value])
    plain = constant_plaintext(secret.engine, -0.75, LEVELS, three.scale)
    result = evaluator.relinearise(evaluator.add_plain(three, plain), rescale=True)
    assert np.abs(secret.decrypt(result) - (x * x - 0.75)).max() < 1e-5


@pytest.mark.parametrize(
    ("bits", "error", "levels"), [(5, 0.25, 4), (5, 0.125, 5), (8, 0.25, 7), (8, 0.125, 8), (10, 0.25, 10)]
)
def test_planned_depths(bits: int, error: float, levels: int) -> None:
    assert plan_comparison(2.0**-bits, error).depth <= levels
    with pytest.raises(PlanError, match=rf"levels but {levels - 2} are left; plan for \d more"):
        plan_comparison(2.0**-bits, error, levels=levels - 2)


@pytest.mark.parametrize(("bits", "depth"), [(5, 5), (8, 9)])
def test_sign_is_right_outside_the_margin(secret: SecretKey, evaluator: Evaluator, bits: int, depth: int) -> None:
    composite = composite_sign(2.0**-bits, 0.25, depth_limit=depth)
    x = uniform(secret, bits)
    result = sign(evaluator, encrypt(secret, evaluator, x), composite)
    assert result.level == LEVELS - composite.depth >= LEVELS - depth
    values = secret.decrypt(result)
    outside = np.abs(x) >= 2.0**-bits
    assert np.abs(values - np.sign(x))[outside].max() <= 0.25
    assert np.abs(values).max() <= 1.25


@pytest.mark.parametrize(("bits", "error"), [(5, 0.25), (5, 0.125), (8, 0.25)])
def test_greater_is_right_outside_the_margin(secret: SecretKey, evaluator: Evaluator, bits: int, error: float) -> None:
    a, b = uniform(secret, 1, 0.5), uniform(secret, 2, 0.5)
    x, y = encrypt(secret, evaluator, a), encrypt(secret, evaluator, b, LEVELS - 1)
    result = greater(evaluator, x, y, bound=1.0, margin=2.0**-bits, error=error)
    composite = plan_comparison(2.0**-bits, error)
    assert result.level == LEVELS - 1 - composite.depth
    values = secret.decrypt(result)
    outside = np.abs(a - b) >= 2.0**-bits
    assert np.abs(values - (a > b))[outside].max() <= error
    assert values.real.min() >= -error
    assert values.real.max() <= 1 + error
    assert np.abs(values - composite.greater(a - b)).max() < 2e-3


def test_greater_with_a_bound_takes_one_more_level(secret: SecretKey, evaluator: Evaluator) -> None:
    a, b = uniform(secret, 3, 50.0), uniform(secret, 4, 50.0)
    x, y = encrypt(secret, evaluator, a), encrypt(secret, evaluator, b)
    result = greater(evaluator, x, y, bound=100.0, margin=2.0**-5)
    assert result.level == LEVELS - 5
    outside = np.abs(a - b) >= 100 * 2.0**-5
    assert np.abs(secret.decrypt(result) - (a > b))[outside].max() <= 0.25


def test_positive_scales_its_one(secret: SecretKey, evaluator: Evaluator) -> None:
    composite = plan_comparison(2.0**-4)
    x = uniform(secret, 5)
    result = positive(evaluator, encrypt(secret, evaluator, x), composite, one=0.1)
    assert np.abs(secret.decrypt(result) - 0.1 * composite.greater(x)).max() < 1e-4


def test_refusals(secret: SecretKey, evaluator: Evaluator) -> None:
    x = encrypt(secret, evaluator, uniform(secret, 0), level=3)
    with pytest.raises(PlanError, match="takes 4 levels but 3 are left; plan for 1 more"):
        greater(evaluator, x, x, bound=1.0, margin=2.0**-5)
    with pytest.raises(PlanError, match="but 2 are left"):
        greater(evaluator, x, x, bound=2.0, margin=2.0**-5)
    for bound in (0.0, -1.0, np.inf, np.nan):
        with pytest.raises(InputError, match="bound"):
            greater(evaluator, x, x, bound=bound, margin=2.0**-5)
    with pytest.raises(InputError, match="margin"):
        greater(evaluator, x, x, bound=1.0, margin=1.5)
    with pytest.raises(InputError, match="between 0 and 1/2"):
        plan_comparison(2.0**-5, 0.5)
