"""Encrypted arrays against numpy."""

import copy
import operator
import pickle
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from toy import ToyParameters

from cipherlens.errors import (
    CipherlensError,
    FormatError,
    InputError,
    KeyMismatch,
    PlanError,
    RangeError,
    SecurityError,
)
from cipherlens.owner.arrays import ArrayKeys
from cipherlens.scheme.array import EncryptedArray
from cipherlens.scheme.array_layout import ArrayLayout
from cipherlens.scheme.array_plan import ArrayPlan
from cipherlens.scheme.diagonals import DiagonalSteps
from cipherlens.scheme.keys import RELINEARISATION

Floats = NDArray[np.float64]
RNG = np.random.default_rng(7)
TOLERANCE = 1e-4

MATRIX_PLAN = ArrayPlan((20, 12), operations=("matmul", "sum_axis_1", "multiply", "sum"), matmul=(12, 5), bound=4)
VECTOR_PLAN = ArrayPlan((300,), operations=("multiply", "sum", "multiply"), bound=3)
X, Y, W = RNG.uniform(-2, 2, (20, 12)), RNG.uniform(-2, 2, (20, 12)), RNG.uniform(-1, 1, (12, 5))


@pytest.fixture(scope="module")
def keys() -> ArrayKeys:
    return ArrayKeys.create(MATRIX_PLAN, threads=1)


@pytest.fixture(scope="module")
def vectors() -> ArrayKeys:
    return ArrayKeys.create(VECTOR_PLAN, threads=2)


@pytest.fixture(scope="module")
def comparing() -> ArrayKeys:
    return ArrayKeys.create(ArrayPlan((50, 6), operations=("greater", "sum"), margin=2**-5, bound=10), threads=1)


@pytest.fixture(scope="module")
def a(keys: ArrayKeys) -> EncryptedArray:
    return keys.encrypt(X)


@pytest.fixture(scope="module")
def b(keys: ArrayKeys) -> EncryptedArray:
    return keys.encrypt(Y)


def agree(keys: ArrayKeys, encrypted: Any, clear: Any, tolerance: float = TOLERANCE) -> None:
    expected = np.asarray(clear)
    assert encrypted.shape == expected.shape
    np.testing.assert_allclose(keys.decrypt(encrypted), expected, rtol=0, atol=tolerance)


# ---- operators ------------------------------------------------------------------------------------------------

ELEMENTWISE: list[tuple[str, int, Callable[[Any, Any], Any]]] = [
    ("a + b", 0, lambda a, b: a + b),
    ("a - b", 0, lambda a, b: a - b),
    ("a * b", 1, lambda a, b: a * b),
    ("-a", 0, lambda a, b: -a),
    ("a + 2", 0, lambda a, b: a + 2),
    ("a - 2.5", 0, lambda a, b: a - 2.5),
    ("2.5 - a", 0, lambda a, b: 2.5 - a),
    ("2 * a", 0, lambda a, b: 2 * a),
    ("a * 0.3", 1, lambda a, b: a * 0.3),
    ("a / 3", 1, lambda a, b: a / 3),
    ("a**2", 1, lambda a, b: a**2),
    ("a**3", 2, lambda a, b: a**3),
    ("a**1", 0, lambda a, b: a**1),
    ("a**True", 0, lambda a, b: a**True),
    ("a**np.int64", 1, lambda a, b: a ** np.int64(2)),
    ("+a", 0, lambda a, b: +a),
    ("a / 1000", 1, lambda a, b: a / 1000),
    ("a + Y", 0, lambda a, b: a + Y),
    ("Y + a", 0, lambda a, b: Y + a),
    ("Y - a", 0, lambda a, b: Y - a),
    ("Y * a", 1, lambda a, b: Y * a),
    ("a * row", 1, lambda a, b: a * Y[0]),
    ("row - a", 0, lambda a, b: Y[0] - a),
    ("column * a", 1, lambda a, b: Y[:, :1] * a),
    ("np.float64 * a", 1, lambda a, b: np.float64(0.7) * a),
    ("list + a", 0, lambda a, b: [1.0] * 12 + a if isinstance(a, EncryptedArray) else 1.0 + a),
    ("levels meet", 1, lambda a, b: a * b + a),
    ("x^2 + 2.5 x + 1", 1, lambda a, b: a * a + 2.5 * b + 1),
]


@pytest.mark.parametrize(("levels", "formula"), [e[1:] for e in ELEMENTWISE], ids=[e[0] for e in ELEMENTWISE])
def test_elementwise(
    keys: ArrayKeys, a: EncryptedArray, b: EncryptedArray, levels: int, formula: Callable[[Any, Any], Any]
) -> None:
    clear = formula(X, Y)
    result = formula(a, b)
    assert isinstance(result, EncryptedArray)
    agree(keys, result, clear)
    assert result.level == MATRIX_PLAN.levels - levels


@pytest.mark.parametrize("axis", [None, 0, 1, -1, -2])
def test_sums(keys: ArrayKeys, a: EncryptedArray, axis: int | None) -> None:
    agree(keys, a.sum(axis), X.sum(axis))
    # Clear sums leave unused slots at zero, broadcast ones do not.
    agree(keys, (a + 0.5).sum(axis), (X + 0.5).sum(axis))


def test_sums_of_sums(keys: ArrayKeys, a: EncryptedArray) -> None:
    agree(keys, a.sum(axis=1).sum(), X.sum(), 1e-3)
    agree(keys, a.sum(axis=0).sum(), X.sum(), 1e-3)
    agree(keys, a.sum().sum(), X.sum(), 1e-3)


def test_encrypted_rows_and_scalars_broadcast() -> None:
    keys = ArrayKeys.create(
        ArrayPlan((20, 12), operations=("sum", "multiply", "multiply", "multiply", "sum"), bound=20)
    )
    a = keys.encrypt(X)
    row, total = a.sum(axis=0) / 20, a.sum() / 240
    agree(keys, a - row, X - X.mean(axis=0))
    agree(keys, row - a, X.mean(axis=0) - X)
    agree(keys, a - total, X - X.mean())
    agree(keys, row * total, X.mean(axis=0) * X.mean())
    agree(keys, a * row, X * X.mean(axis=0))
    assert not (a - row).clean
    # The unused slots now hold -row and are cleared before they are summed, which takes a level.
    agree(keys, ((a - row) ** 2).sum(axis=0), ((X - X.mean(axis=0)) ** 2).sum(axis=0), 1e-3)
    assert (a * row).clean


# ---- matrices -------------------------------------------------------------------------------------------------


def test_matrices(keys: ArrayKeys, a: EncryptedArray) -> None:
    product = a @ W
    agree(keys, product, X @ W)
    assert product.level == a.level - 1
    agree(keys, a @ W[:, :2], X @ W[:, :2])
    agree(keys, a @ W[:, 0], X @ W[:, 0])
    agree(keys, a @ keys.encrypt_matrix(W), X @ W)
    agree(keys, (2 * a) @ keys.encrypt_matrix(W[:, 1:3]), 2 * X @ W[:, 1:3])
    agree(keys, (a @ W[:, 0]).sum(), (X @ W[:, 0]).sum(), 1e-3)
    agree(keys, (a * 0.5) @ keys.encrypt_matrix(W), 0.5 * X @ W)


@settings(max_examples=200, deadline=None)
@given(st.integers(1, 20), st.integers(1, 20), st.data())
def test_diagonal_steps_in_the_clear(rows: int, columns: int, data: st.DataObject) -> None:
    steps = DiagonalSteps(rows, columns)
    some_rows, some_columns = data.draw(st.integers(1, rows)), data.draw(st.integers(1, columns))
    matrix = np.random.default_rng(rows * 100 + columns).normal(size=(some_rows, some_columns))
    layout = ArrayLayout(128, 32, (4, some_rows))
    x = np.random.default_rng(columns).normal(size=layout.shape)
    slots, total, used = layout.pack(x)[0], np.zeros(128), set[int]()
    for giant, row in steps.moved_diagonals(matrix, 128, 32).items():
        inner = sum(diagonal * np.roll(slots, -m1) for m1, diagonal in row)
        total += np.roll(inner, -steps.baby * giant)
        used |= {m1 for m1, _ in row} | {steps.baby * giant}
    result = layout.with_shape((4, some_columns))
    np.testing.assert_allclose(result.unpack(total[None]), x @ matrix, atol=1e-12)
    assert not total[result.pack(np.ones(result.shape))[0] == 0].any()
    assert used - {0} <= set(steps.rotations(some_rows, some_columns)) <= set(steps.rotations(rows, columns))


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 2), st.data())
def test_layouts_keep_every_element(dimensions: int, data: st.DataObject) -> None:
    shape = data.draw(hnp.array_shapes(min_dims=dimensions, max_dims=dimensions, max_side=16)) if dimensions else ()
    column = dimensions == 1 and data.draw(st.booleans())
    layout = ArrayLayout(data.draw(st.sampled_from([16, 64])), 16, shape, column)
    values = np.random.default_rng(0).normal(size=shape)
    slots = layout.pack(values)
    assert slots.shape == (layout.ciphertexts, layout.slots)
    np.testing.assert_array_equal(layout.unpack(slots), values)


def test_vectors(vectors: ArrayKeys) -> None:
    v, w = RNG.uniform(-1, 1, 300), RNG.uniform(-1, 1, 300)
    x, y = vectors.encrypt(v), vectors.encrypt(w)
    agree(vectors, x * y, v * w)
    agree(vectors, x.sum(), v.sum())
    agree(vectors, x.sum(axis=0), v.sum())
    agree(vectors, x @ y, v @ w)
    agree(vectors, x @ w, v @ w)
    agree(vectors, w @ x, v @ w)
    agree(vectors, x - x.sum() / 300, v - v.mean())
    agree(vectors, vectors.encrypt(1.5), np.full(300, 1.5))


def test_vector_times_matrix() -> None:
    keys = ArrayKeys.create(ArrayPlan((12,), matmul=(12, 20)))
    v, matrix = RNG.uniform(-1, 1, 12), RNG.uniform(-1, 1, (12, 20))
    agree(keys, keys.encrypt(v) @ matrix, v @ matrix)
    agree(keys, matrix.T @ keys.encrypt(v), matrix.T @ v)


@pytest.mark.parametrize("shape", [(5000,), (300, 13)])
def test_arrays_of_several_ciphertexts(shape: tuple[int, ...]) -> None:
    keys = ArrayKeys.create(
        ArrayPlan(shape, operations=("multiply", "sum"), ring_dimension=1 << 12, bound=2), threads=2
    )
    v, w = RNG.uniform(-0.2, 0.2, (2, *shape))
    x, y = keys.encrypt(v), keys.encrypt(w)
    assert len(x.ciphertexts) == x.layout.ciphertexts > 1
    agree(keys, x * y - x, v * w - v, 1e-3)
    agree(keys, x * w + 0.1, v * w + 0.1, 1e-3)
    agree(keys, x - x.sum(), v - v.sum(), 1e-2)
    if len(shape) == 2:
        agree(keys, x.sum(axis=0), v.sum(axis=0), 1e-2)


numbers = st.floats(-2, 2, width=32)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    hnp.arrays(np.float64, 300, elements=numbers),
    hnp.arrays(np.float64, 300, elements=numbers),
    st.lists(
        st.tuples(st.sampled_from([operator.add, operator.sub, operator.mul]), st.booleans(), numbers), max_size=4
    ),
)
def test_random_formulas(
    vectors: ArrayKeys, v: Floats, w: Floats, steps: list[tuple[Callable[[Any, Any], Any], bool, float]]
) -> None:
    encrypted: Any = vectors.encrypt(v)
    other: Any = vectors.encrypt(w)
    clear: Any = v
    for function, by_array, number in steps:
        if function is operator.mul and encrypted.level == 0:
            continue
        encrypted = function(encrypted, other if by_array else number)
        clear = function(clear, w if by_array else number)
    agree(vectors, encrypted, clear, 1e-3)


# ---- comparisons ----------------------------------------------------------------------------------------------


def test_greater_outside_the_margin(comparing: ArrayKeys) -> None:
    x, y = RNG.uniform(-5, 5, (2, 50, 6))
    a: Any
    b: Any
    a, b = comparing.encrypt(x), comparing.encrypt(y)
    far = np.abs(x - y) >= 10 / 32
    for result, truth in ((a > b, x > y), (a < b, x < y), (a.greater(b), x > y), (a > y, x > y), (y > a, y > x)):
        assert np.abs(comparing.decrypt(result) - truth)[far].max() <= 0.25
    far = np.abs(x - 1.5) >= 10 / 32
    for result, truth in ((a > 1.5, x > 1.5), (a < 1.5, x < 1.5), (np.full(6, 1.5) < a, x > 1.5)):
        assert np.abs(comparing.decrypt(result) - truth)[far].max() <= 0.25
    far = np.abs(x - y) >= 10 / 8
    assert np.abs(comparing.decrypt(a.greater(b, margin=2**-3)) - (x > y))[far].max() <= 0.25
    # Between bound and margin the clear polynomial is met; unused slots are zero again, so counting works.
    counted, exact = (a > b).sum(), comparing.plan.comparison().greater((x - y) / 10).sum()
    agree(comparing, counted, exact, 0.05)


def test_signs(comparing: ArrayKeys) -> None:
    x = RNG.uniform(-10, 10, (50, 6))
    a = comparing.encrypt(x)
    for margin in (None, 2**-3):
        far = np.abs(x) >= 10 * (margin or 2**-5)
        assert np.abs(comparing.decrypt(a.sign(margin)) - np.sign(x))[far].max() <= 0.5
    assert a.sign().level == a.greater(0).level


def test_inaccurate_differences_are_not_compared(comparing: ArrayKeys) -> None:
    a = comparing.encrypt(np.ones((50, 6)))
    with pytest.raises(RangeError, match="accurate to about"):
        replace(a, noise=2.0**-12).greater(0)


def test_comparison_noise_stays_within_the_promise() -> None:
    keys = ArrayKeys.create(ArrayPlan((4096,), margin=2**-5))
    assert keys.plan.parameters.ring_dimension == 1 << 13
    edge = np.repeat([-1.0, -(2**-5), 2**-5, 1.0], 1024)
    values = keys.decrypt(keys.encrypt(edge) > 0)
    promised = keys.plan.comparison_error(keys.plan.comparison())
    assert np.abs(values - (edge > 0)).max() <= promised <= 0.25


def test_fractional_bounds_keep_their_margin() -> None:
    plan = ArrayPlan((64,), margin=2**-4, bound=2.5)
    assert plan.unit == 3
    keys = ArrayKeys.create(plan)
    x = np.linspace(-2.5, 2.5, 64)
    far = np.abs(x) >= 2.5 / 16
    assert np.abs(keys.decrypt(keys.encrypt(x) > 0.0) - (x > 0))[far].max() <= 0.25


def test_values_beyond_the_bound_are_noticed(comparing: ArrayKeys) -> None:
    a = comparing.encrypt(np.full((50, 6), 30.0))
    with pytest.raises(RangeError, match="range of this plan"):
        comparing.decrypt(a > 0)


# ---- refusals -------------------------------------------------------------------------------------------------

REFUSED: list[tuple[str, type[Exception], str, Callable[[Any], Any]]] = [
    ("bool", InputError, "neither true nor false", bool),
    ("if", InputError, "neither true nor false", lambda a: 1 if a else 0),
    ("float", InputError, "cannot become a float", float),
    ("int", InputError, "cannot become a float", int),
    ("complex", InputError, "cannot become a float", complex),
    ("asarray", InputError, "cannot become a numpy array", np.asarray),
    ("array", InputError, "cannot become a numpy array", lambda a: np.array([a, a])),
    ("==", InputError, "Equality", lambda a: a == a),
    ("!=", InputError, "Equality", lambda a: a != 0),
    (">=", InputError, ">=", lambda a: a >= 0),
    ("<=", InputError, ">=", lambda a: a <= 0),
    ("len", InputError, r"a\.shape\[0\]", len),
    ("iter", InputError, "no single elements", list),
    ("in", InputError, "no single elements", lambda a: 1.0 in a),
    ("index", InputError, "cannot be indexed", lambda a: a[0]),
    ("np.sum", InputError, r"numpy\.sum", np.sum),
    ("np.dot", InputError, r"numpy\.dot", lambda a: np.dot(a, W)),
    ("ufunc", TypeError, "ufunc", np.exp),
    ("hash", TypeError, "unhashable", hash),
    ("pickle", TypeError, "pickle", pickle.dumps),
    ("text", InputError, "real numbers only", lambda a: a + "x"),
    ("complex number", InputError, "real numbers only", lambda a: a * 1j),
    ("nan", InputError, "NaN", lambda a: a + np.nan),
    ("huge", RangeError, "larger bound", lambda a: a + 1e12),
    ("shape", InputError, r"\(5,\) does not broadcast", lambda a: a + np.ones(5)),
    ("encrypted shape", InputError, "different slots", lambda a: a + a.sum(axis=1)),
    ("divide by encrypted", InputError, "no polynomial", lambda a: a / a),
    ("divide by zero", InputError, "zero", lambda a: a / 0),
    ("divide by the least", InputError, "inverse is infinite", lambda a: a / 5e-324),
    ("divide by tiny", RangeError, "larger bound", lambda a: a / 1e-300),
    ("1 / a", InputError, "no polynomial", lambda a: 1 / a),
    ("power", InputError, "whole exponent", lambda a: a**-1),
    ("broken power", InputError, "whole number, not 1.5", lambda a: a**1.5),
    ("2**a", InputError, "clear whole exponents", lambda a: 2**a),
    ("abs", InputError, r"a \* a.sign\(\)", abs),
    ("format", InputError, "no digits to format", lambda a: f"{a:.2f}"),
    ("ragged factor", InputError, "differ in length", lambda a: a * [[1.0], [1.0, 2.0]]),
    ("ragged", InputError, "differ in length", lambda a: operator.add(a, [[1.0], [1.0, 2.0]])),
    ("tuple of axes", InputError, r"whole number, not \(0,\)", lambda a: a.sum(axis=(0,))),
    ("broken axis", InputError, "whole number, not 0.5", lambda a: a.sum(axis=0.5)),
    ("margin of text", InputError, "finite number, not 'x'", lambda a: a.greater(0, margin="x")),
    ("margin nan", InputError, "finite number", lambda a: a.sign(np.nan)),
    ("coarse", RangeError, "off by up to", lambda a: a * np.full(12, 15.9) * np.full(12, 15.9) * 1000 * 1000),
    ("axis", InputError, "Axis 2 does not exist", lambda a: a.sum(2)),
    ("greater", PlanError, r"plan with margin=2\*\*-5", lambda a: a > 0),
    ("matrix shape", InputError, "do not fit a product", lambda a: a @ np.ones((5, 2))),
    ("matrix size", PlanError, "larger than the planned", lambda a: a @ np.ones((12, 6))),
    ("matrix rank", InputError, "vector or a matrix", lambda a: a @ np.ones((2, 2, 2))),
    ("left matrix", InputError, "from the right only", lambda a: np.ones((3, 20)) @ a),
    ("encrypted @", InputError, "encrypt_matrix", lambda a: a @ a),
    ("levels", PlanError, r"takes 1 level\(s\) but this array has 0 left; plan for 1 more", lambda a: a**16),
    ("margin", PlanError, r"levels but \d are left; plan for \d+ more", lambda a: a.greater(0, margin=2**-8)),
]


@pytest.mark.parametrize(("error", "message", "use"), [r[1:] for r in REFUSED], ids=[r[0] for r in REFUSED])
def test_refusals(a: EncryptedArray, error: type[Exception], message: str, use: Callable[[Any], Any]) -> None:
    with pytest.raises(error, match=message) as caught:
        use(a)
    if isinstance(caught.value, CipherlensError):
        assert len(str(caught.value)) < 250


def test_keys_must_match(keys: ArrayKeys, vectors: ArrayKeys, a: EncryptedArray) -> None:
    other = ArrayKeys.create(MATRIX_PLAN, threads=1)
    with pytest.raises(KeyMismatch, match="different keys"):
        a + other.encrypt(X)
    with pytest.raises(KeyMismatch, match="other keys"):
        other.decrypt(a)
    with pytest.raises(KeyMismatch, match="other keys"):
        vectors.decrypt(a)
    with pytest.raises(KeyMismatch, match="other keys"):
        a @ other.encrypt_matrix(W)


def test_copies_are_the_array_itself(a: EncryptedArray) -> None:
    assert copy.copy(a) is a
    assert copy.deepcopy([a])[0] is a


def test_powers_share_their_halves(vectors: ArrayKeys, monkeypatch: pytest.MonkeyPatch) -> None:
    keys = ArrayKeys.create(ArrayPlan((8,), operations=["multiply"] * 3))
    products = []
    product = EncryptedArray._product
    monkeypatch.setattr(EncryptedArray, "_product", lambda self, x: products.append(1) or product(self, x))
    x = RNG.uniform(-1, 1, 8)
    for exponent, count in ((1, 0), (2, 1), (3, 2), (4, 2), (5, 3), (7, 4), (8, 3)):
        products.clear()
        agree(keys, keys.encrypt(x) ** exponent, x**exponent)
        assert len(products) == count


def test_rings_outside_the_security_table_are_refused() -> None:
    plan = ArrayPlan((8,), operations=["multiply"])
    p = plan.parameters
    toy = ToyParameters(p.ring_dimension, p.primes, p.special_primes, p.digit, p.scale_bits)
    plan.__dict__["parameters"] = toy  # where a cached_property keeps its value
    with pytest.raises(SecurityError, match="inside the security table"):
        ArrayKeys.create(plan)


def test_decryption_refuses_another_scale(keys: ArrayKeys, a: EncryptedArray) -> None:
    forged = replace(a, ciphertexts=tuple(replace(x, scale=x.scale / 2) for x in a.ciphertexts))
    with pytest.raises(FormatError, match="scale"):
        keys.decrypt(forged)


def test_missing_operations_are_named() -> None:
    keys = ArrayKeys.create(ArrayPlan((10,), operations=["multiply"]))
    x = keys.encrypt(np.ones(10))
    with pytest.raises(PlanError, match='plan with "sum"'):
        x.sum()
    with pytest.raises(PlanError, match="matmul"):
        x @ np.ones((10, 2))
    with pytest.raises(PlanError, match="matmul"):
        keys.encrypt_matrix(np.ones((10, 2)))
    sums = ArrayKeys.create(ArrayPlan((10,), operations=["sum"]))
    assert not any(number == RELINEARISATION for number in sums.evaluation.keys)
    with pytest.raises(PlanError, match='plan with "multiply"'):
        sums.encrypt(np.ones(10)) * sums.encrypt(np.ones(10))


def test_operations_come_down_to_the_level_of_their_keys(a: EncryptedArray) -> None:
    assert MATRIX_PLAN.level_of("sum") == 0
    assert a.sum().level == 0


def test_owner_refuses_what_cannot_be_encrypted(keys: ArrayKeys) -> None:
    for values in (np.full((20, 12), np.nan), X + 1j, [["a"]], np.inf):
        with pytest.raises(InputError, match="finite real numbers"):
            keys.encrypt(values)
    with pytest.raises(InputError, match=r"\(7,\) do not broadcast"):
        keys.encrypt(np.ones(7))
    with pytest.raises(InputError, match="differ in length"):
        keys.encrypt([[1.0], [1.0, 2.0]])
    with pytest.raises(RangeError, match="larger bound"):
        keys.encrypt(keys.plan.largest * 1.01)
    with pytest.raises(InputError, match="does not fit the planned"):
        keys.encrypt_matrix(np.ones((13, 5)))
    threads: Any
    for threads in (0, "x"):
        with pytest.raises(InputError, match="thread"):
            ArrayKeys.create(MATRIX_PLAN, threads=threads)


def test_overflow_is_noticed(keys: ArrayKeys) -> None:
    a = keys.encrypt(X * (keys.plan.largest / 3))
    with pytest.raises(RangeError):
        keys.decrypt(a * 1024)
    # Modulo the last prime the sums wrap around; they then come back far outside the range.
    with pytest.raises(RangeError):
        keys.decrypt((a * 1000).sum(axis=0))


# ---- what shows -----------------------------------------------------------------------------------------------


def test_repr_shows_no_data(keys: ArrayKeys, a: EncryptedArray) -> None:
    assert repr(a) == f"EncryptedArray(shape=(20, 12), level={MATRIX_PLAN.levels}, scale=2^38.0, ciphertexts=1)"
    everything = repr(keys) + repr(keys.encrypt_matrix(W)) + str(a) + f"{a}"
    assert "array(" not in everything
    assert len(everything) < 2500
    assert "SecretKey" not in repr(keys)
    size = keys.plan.evaluation_key_bytes
    assert f"{len(keys.evaluation.keys)} evaluation keys, {size / 1e6:.1f} MB packed" in str(keys)
    assert keys.evaluation.nbytes == size


def test_arrays_hold_nothing_secret(keys: ArrayKeys, a: EncryptedArray) -> None:
    seen: list[Any] = [a]
    for item in seen:
        assert type(item).__name__ not in ("SecretKey", "SecretRing", "ArrayKeys")
        seen.extend(getattr(item, name) for name in getattr(type(item), "__dataclass_fields__", {}) if name != "_")
    assert len(seen) > 10


def test_the_same_on_more_threads(keys: ArrayKeys, a: EncryptedArray, b: EncryptedArray) -> None:
    def compute(x: EncryptedArray, y: EncryptedArray) -> EncryptedArray:
        return ((x * y + x) @ W).sum(axis=0)

    more = [replace(x, evaluator=replace(x.evaluator, threads=3)) for x in (a, b)]
    one, three = compute(a, b), compute(*more)
    assert np.array_equal(one.ciphertexts[0].data, three.ciphertexts[0].data)
