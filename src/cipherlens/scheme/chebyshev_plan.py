"""Evaluating a Chebyshev series on ciphertexts in the fewest levels, with few relinearisations.

A series p = Σ c_n·T_n of degree d costs exactly ⌈log2(d+1)⌉ levels here, the products with its coefficients
included. The method is Paterson-Stockmeyer in the Chebyshev basis, arranged as Bossuat, Mouchet,
Troncoso-Pastoriza and Hubaux do it ("Efficient bootstrapping for approximate homomorphic encryption with
non-sparse keys", EUROCRYPT 2021, section 5), with sums of products relinearised together:

- **Basis.** T_{i+j} = 2·T_i·T_j - T_{|i-j|} gives T_n after ⌈log2 n⌉ levels.
- **Splitting.** With a budget of t levels, p = q·T_g + r, where deg q < 2^(t-1) and T_g is known after t-1 levels:
  from T_g·T_j = (T_{g+j} + T_{|g-j|})/2 follow q_0 = c_g, q_j = 2·c_{g+j}, and c_{g+j} is taken from r_{|g-j|}.
  q is evaluated in t-1 levels in the same way; r is split further with the *same* budget, until all that is
  left are basis values known after t-1 levels. So p = Σ q_i·T_{g_i} + Σ c_j·T_j + c_0, all of it at one level.
- **One rescale.** That whole sum is formed first, then relinearised and rescaled once (`MultiplyAccumulate`). A
  coefficient therefore never costs a level of its own: its product shares the rescale of the sum it stands in.
- **Exact scales.** Rescaling divides by a prime that differs a little from one level to the next, so values that took
  different paths have different scales, which must not be added. Every q_i is used in one product only: its
  scale is free, and is chosen from the top down such that all terms of a sum agree exactly. Basis values enter a
  sum through a constant, encoded at whatever scale is missing. Primes must lie near the scale: a T_n multiplies
  their relative distance by n.

Which T_g to split by and which basis values to make is found by dynamic programming over (degree, parity,
budget): fewest relinearisations, then fewest products and rescales. An odd or even series (up to its constant, which is
free) never makes terms of the other parity. Zero coefficients are left out.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from itertools import combinations
from typing import Protocol, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cipherlens.errors import InputError, PlanError

MAX_DEGREE = 511
"""Largest degree that is planned; beyond it a composition of polynomials is cheaper."""

NEGLIGIBLE = 2.0**-52
"""Coefficients below this share of the largest one are dropped: no ciphertext carries so many bits."""

# The order of preference as one number: a relinearisation outweighs any number of the cheaper operations.
_RELINEARISATION, _RESCALE, _PRODUCT = 10_000, 2, 1
_IMPOSSIBLE = 10**9

Value = TypeVar("Value")


class Backend(Protocol[Value]):
    """What a number system must offer so that plans run on it: ciphertexts, or arrays in the clear.

    `multiply` and `multiply_constant` leave their result *pending*: its scale is the product's, three-part
    ciphertexts stay three-part. Pending values are added and then finished by one `rescale`. Both operands of
    `multiply`, `add` and `subtract` have the same level, those of `add` and `subtract` the same scale too (equal up to
    the rounding of floats, about 2^-50).
    """

    def level(self, value: Value) -> int:
        """Number of rescales that the value has left."""

    def scale(self, value: Value) -> float:
        """The factor by which encoded numbers are multiplied."""

    def divisor(self, level: int) -> float:
        """What `rescale` divides the scale of a value at `level` by."""

    def drop(self, value: Value, level: int) -> Value:
        """The same value and scale at a lower (or the same) level."""

    def multiply(self, left: Value, right: Value) -> Value:
        """Product, pending."""

    def multiply_constant(self, value: Value, constant: float, scale: float) -> Value:
        """Product with a real constant, pending, whose scale is exactly `scale`."""

    def add(self, left: Value, right: Value) -> Value:
        """Sum."""

    def subtract(self, left: Value, right: Value) -> Value:
        """Difference."""

    def add_constant(self, value: Value, constant: float) -> Value:
        """Sum with a real constant, encoded at the value's own scale."""

    def rescale(self, value: Value) -> Value:
        """Relinearise where needed and rescale: one level less, the scale divided by `divisor`."""


@dataclass(frozen=True, slots=True)
class ChebyshevProduct:
    """T_{i+j} = 2·T_i·T_j - T_{|i-j|}, with one relinearisation and one rescale.

    `left`, `right` and `difference` number the values T_i, T_j and T_{|i-j|}; the last is None where i = j (T_0 = 1).
    """

    degree: int
    left: int
    right: int
    difference: int | None


@dataclass(frozen=True, slots=True)
class MultiplyAccumulate:
    """Σ a·b + Σ c·t + constant, formed at one level, relinearised (if there is a product) and rescaled once.

    `products` holds pairs of value numbers: an earlier MultiplyAccumulate that is used nowhere else, and a basis
    value. `linear` holds pairs of a coefficient and the number of a basis value.
    """

    products: tuple[tuple[int, int], ...]
    linear: tuple[tuple[float, int], ...]
    constant: float


Step = ChebyshevProduct | MultiplyAccumulate


@dataclass(frozen=True, slots=True)
class PolynomialPlan:
    """The steps that evaluate one Chebyshev series: value 0 is the input, steps[k] makes value k + 1, the last is p(x).

    Basis values come before sums. `depths[v]` is the number of levels after which value v is known: 0 for the input,
    `depth` for the last.
    """

    coefficients: tuple[float, ...]
    depth: int
    steps: tuple[Step, ...]
    depths: tuple[int, ...]

    @property
    def degree(self) -> int:
        """Degree of the series after negligible coefficients are dropped."""
        return len(self.coefficients) - 1

    @property
    def multiplications(self) -> int:
        """Relinearised products of two ciphertexts: what the evaluation's time is made of."""
        return sum(isinstance(step, ChebyshevProduct) or bool(step.products) for step in self.steps)

    @property
    def products(self) -> int:
        """Products of two ciphertexts, counting those that share a relinearisation."""
        return sum(1 if isinstance(step, ChebyshevProduct) else len(step.products) for step in self.steps)


def depth_of_degree(degree: int) -> int:
    """Levels that a series of this degree takes: ⌈log2(degree + 1)⌉."""
    return degree.bit_length()


def plan_polynomial(coefficients: ArrayLike, *, depth: int | None = None) -> PolynomialPlan:
    """Plan the evaluation of Σ coefficients[n]·T_n(x), |x| ≤ 1.

    Parameters: `coefficients`, shape (degree + 1,), real; `depth`, the levels to spend, by default the fewest possible,
    ⌈log2(degree + 1)⌉ (one more sometimes saves a multiplication). The result stands exactly `depth` levels below x.

    Raises InputError for coefficients that are not a finite real vector, are constant or of a degree above 511;
    PlanError for a depth that is too small.
    """
    series = _checked(coefficients)
    degree = len(series) - 1
    needed = depth_of_degree(degree)
    budget = needed if depth is None else depth
    if budget < needed:
        raise PlanError(
            f"A polynomial of degree {degree} takes {needed} levels but {budget} are allowed; "
            f"allow {needed} levels or approximate with degree {2 ** max(budget, 0) - 1} or less."
        )
    parity = _parity(series)
    splitting = _Splitting(_best_basis(degree, parity, budget))
    builder = _Builder(splitting)
    builder.evaluate(series, parity, budget)
    return builder.finish(series)


def evaluate(plan: PolynomialPlan, value: Value, backend: Backend[Value], *, scale: float | None = None) -> Value:
    """Run the plan's steps on `value`; the result stands `plan.depth` levels lower and has exactly the given scale.

    `scale` is by default that of `value`. Raises PlanError if the value has fewer levels left than the plan takes.
    """
    top = backend.level(value)
    if top < plan.depth:
        raise PlanError(
            f"This polynomial of degree {plan.degree} takes {plan.depth} levels but the value has {top} left; "
            f"plan for {plan.depth - top} more or use a polynomial of degree {2 ** max(top, 0) - 1} or less."
        )
    values: list[Value] = [value]
    for number, step in enumerate(plan.steps, start=1):
        if isinstance(step, ChebyshevProduct):
            values.append(_chebyshev_product(step, values, top - plan.depths[number] + 1, backend))
    first = len(values)  # all basis values come first in a plan
    targets = {len(plan.steps): backend.scale(value) if scale is None else scale}
    for number in range(len(plan.steps), first - 1, -1):
        step = plan.steps[number - 1]
        if isinstance(step, MultiplyAccumulate):
            pending = targets[number] * backend.divisor(top - plan.depths[number] + 1)
            targets |= {factor: pending / backend.scale(values[basis]) for factor, basis in step.products}
    for number in range(first, len(plan.steps) + 1):
        step = plan.steps[number - 1]
        if isinstance(step, MultiplyAccumulate):
            values.append(_multiply_accumulate(step, values, top - plan.depths[number] + 1, targets[number], backend))
    return values[-1]


def _chebyshev_product(step: ChebyshevProduct, values: list[Value], level: int, backend: Backend[Value]) -> Value:
    left = backend.drop(values[step.left], level)
    product = backend.multiply(left, left if step.left == step.right else backend.drop(values[step.right], level))
    double = backend.add(product, product)
    if step.difference is None:
        return backend.rescale(backend.add_constant(double, -1.0))
    difference = backend.drop(values[step.difference], level)
    return backend.rescale(backend.subtract(double, backend.multiply_constant(difference, 1.0, backend.scale(double))))


def _multiply_accumulate(
    step: MultiplyAccumulate, values: list[Value], level: int, scale: float, backend: Backend[Value]
) -> Value:
    pending = scale * backend.divisor(level)
    terms = [backend.multiply(values[factor], backend.drop(values[basis], level)) for factor, basis in step.products]
    terms += [backend.multiply_constant(backend.drop(values[basis], level), c, pending) for c, basis in step.linear]
    total = terms[0]
    for term in terms[1:]:
        total = backend.add(total, term)
    if step.constant != 0.0:
        total = backend.add_constant(total, step.constant)
    return backend.rescale(total)


@dataclass(frozen=True, slots=True)
class ClearValue:
    """Numbers in the clear with the level that a ciphertext would have: array of float64, any shape."""

    array: NDArray[np.float64]
    level: int
    pending: bool = False


class ClearBackend:
    """The arithmetic of ciphertexts on arrays: levels are tracked and enforced; the scale is always 1."""

    def level(self, value: ClearValue) -> int:
        return value.level

    def scale(self, value: ClearValue) -> float:
        return 1.0

    def divisor(self, level: int) -> float:
        return 1.0

    def drop(self, value: ClearValue, level: int) -> ClearValue:
        if level > value.level:
            raise PlanError(f"A value at level {value.level} cannot be raised to level {level}; plan more levels.")
        return ClearValue(value.array, level, value.pending)

    def multiply(self, left: ClearValue, right: ClearValue) -> ClearValue:
        if left.pending or right.pending:
            raise PlanError("A product must be rescaled before it is multiplied again; rescale it first.")
        return ClearValue(left.array * right.array, self._common_level(left, right), pending=True)

    def multiply_constant(self, value: ClearValue, constant: float, scale: float) -> ClearValue:
        if value.pending:
            raise PlanError("A product must be rescaled before it is multiplied again; rescale it first.")
        return ClearValue(value.array * constant, value.level, pending=True)

    def add(self, left: ClearValue, right: ClearValue) -> ClearValue:
        return ClearValue(left.array + right.array, self._common_level(left, right), left.pending)

    def subtract(self, left: ClearValue, right: ClearValue) -> ClearValue:
        return ClearValue(left.array - right.array, self._common_level(left, right), left.pending)

    def add_constant(self, value: ClearValue, constant: float) -> ClearValue:
        return ClearValue(value.array + constant, value.level, value.pending)

    def rescale(self, value: ClearValue) -> ClearValue:
        if value.level < 1:
            raise PlanError("No level is left to rescale by; plan at least one more.")
        return ClearValue(value.array, value.level - 1)

    def _common_level(self, left: ClearValue, right: ClearValue) -> int:
        if left.level != right.level:
            raise PlanError(f"Values at levels {left.level} and {right.level} cannot be combined; drop one first.")
        return left.level


def evaluate_clear(plan: PolynomialPlan, x: ArrayLike, *, level: int | None = None) -> ClearValue:
    """Run the plan's steps on numbers in the clear, x of any shape starting at `level` (by default `plan.depth`)."""
    start = ClearValue(np.asarray(x, dtype=np.float64), plan.depth if level is None else level)
    return evaluate(plan, start, ClearBackend())


def _checked(coefficients: ArrayLike) -> NDArray[np.float64]:
    try:
        if np.iscomplexobj(coefficients):
            raise TypeError("complex")
        series = np.array(coefficients, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(
            "The coefficients of a polynomial must be real numbers; give a vector (c_0, c_1, ...)."
        ) from error
    if series.ndim != 1 or series.size == 0 or not np.isfinite(series).all():
        raise InputError(
            f"The coefficients of a polynomial must be a vector of finite numbers, not of shape {series.shape} "
            "or with NaN; give (c_0, c_1, ...)."
        )
    series[np.abs(series) <= NEGLIGIBLE * np.abs(series).max()] = 0.0
    degree = int(np.flatnonzero(series)[-1]) if series.any() else 0
    if degree == 0:
        raise InputError("The polynomial is constant, so it needs no ciphertext; use the number itself.")
    if degree > MAX_DEGREE:
        raise InputError(
            f"Polynomials are planned up to degree {MAX_DEGREE}, not {degree}; compose several of lower degree."
        )
    return series[: degree + 1]


def _parity(series: NDArray[np.float64]) -> int | None:
    """1 if only odd degrees occur, 0 if only even ones, None if both; the constant does not count."""
    if not series[2::2].any():
        return 1
    return None if series[1::2].any() else 0


def _depth_of_basis(degree: int) -> int:
    return (degree - 1).bit_length()


class _Splitting:
    """The cheapest way to evaluate dense series of every (degree, parity, budget) from given basis values T_g."""

    def __init__(self, basis: frozenset[int]) -> None:
        self.basis = basis
        self._ordered = sorted(basis)
        self._memo: dict[tuple[int, int | None, int], tuple[int, int]] = {}

    def value(self, degree: int, parity: int | None, budget: int) -> int:
        """Cost of a value of its own that is known after `budget` levels."""
        if degree <= 0:
            return 0
        if degree >= 2**budget:
            return _IMPOSSIBLE
        cost, _ = self.terms(degree, parity, budget)
        return cost + _RESCALE + (_RELINEARISATION if cost else 0)

    def terms(self, degree: int, parity: int | None, budget: int) -> tuple[int, int]:
        """Cost of a sum's terms before its rescale, and the T_g that takes the leading ones: g = degree means c·T_g."""
        if parity is not None and degree % 2 != parity:
            degree -= 1
        if degree <= 0:
            return 0, 0
        key = degree, parity, budget
        if key not in self._memo:
            self._memo[key] = min(self._options(degree, parity, budget), default=(_IMPOSSIBLE, 0))
        return self._memo[key]

    def _options(self, degree: int, parity: int | None, budget: int) -> Iterator[tuple[int, int]]:
        for g in self._ordered:
            if g > degree or _depth_of_basis(g) >= budget:
                return
            if g == degree:
                yield self.terms(g - 1, parity, budget)[0], g
            elif degree - g < 2 ** (budget - 1) and degree <= 3 * g:
                quotient = self.value(degree - g, None if parity is None else (parity + g) % 2, budget - 1)
                yield min(_PRODUCT + quotient + self.terms(g - 1, parity, budget)[0], _IMPOSSIBLE), g


def _factors(degree: int, basis: frozenset[int]) -> tuple[int, int] | None:
    """The most balanced i ≥ j with T_{i+j} = 2·T_i·T_j - T_{i-j} in ⌈log2(i+j)⌉ levels; None if the basis has none."""
    depth = _depth_of_basis(degree)
    for i in range((degree + 1) // 2, 2 ** (depth - 1) + 1):
        if i in basis and degree - i in basis and (2 * i == degree or 2 * i - degree in basis):
            return i, degree - i
    return None


@cache
def _best_basis(degree: int, parity: int | None, budget: int) -> frozenset[int]:
    """The basis values with the cheapest splitting: powers of two, small degrees, and some 3·2^k."""
    best, best_cost = frozenset[int](), _IMPOSSIBLE
    for basis in _candidate_bases(degree, parity, budget):
        made = (len(basis) - 1) * (_RELINEARISATION + _PRODUCT + _RESCALE)
        if made < best_cost and all(_factors(g, basis) for g in basis if g > 1):
            cost = made + _Splitting(basis).value(degree, parity, budget)
            if cost < best_cost:
                best, best_cost = basis, cost
    return best


def _candidate_bases(degree: int, parity: int | None, budget: int) -> list[frozenset[int]]:
    """Smallest first, in a fixed order."""
    top = min(degree, 2 ** (budget - 1))
    powers = [{2**k for k in range(end) if 2**k <= top} for end in (budget - 1, budget)]
    threes = [3 * 2**k for k in range(1, budget) if 3 * 2**k <= top]
    widest = min(top, 2 * int(degree**0.5) + 2)
    small = {frozenset(range(1, width + 1)) for width in range(1, widest + 1)}
    if parity is not None:
        small |= {frozenset(range(2 - parity, width + 1, 2)) for width in range(1, widest + 1)}
    extras = [set(extra) for count in range(min(len(threes), 3) + 1) for extra in combinations(threes, count)]
    distinct = {frozenset({1} | giants | part | extra) for giants in powers for part in small for extra in extras}
    return sorted(distinct, key=lambda basis: (len(basis), sorted(basis)))


@dataclass(frozen=True, slots=True)
class _Sum:
    """A MultiplyAccumulate before its values are numbered: `products` pair an earlier sum with a degree."""

    products: tuple[tuple[int, int], ...]
    linear: tuple[tuple[float, int], ...]
    constant: float
    depth: int


class _Builder:
    """Turns one series into sums by following a splitting, then numbers all values."""

    def __init__(self, splitting: _Splitting) -> None:
        self._splitting = splitting
        self._sums: list[_Sum] = []

    def evaluate(self, series: NDArray[np.float64], parity: int | None, budget: int) -> int:
        """Append the sums that make this series known after `budget` levels; the number of the last."""
        rest = series.copy()
        products: list[tuple[int, int]] = []
        linear: list[tuple[float, int]] = []
        while rest[1:].any():
            degree = int(np.flatnonzero(rest)[-1])
            g = self._splitting.terms(degree, parity, budget)[1]
            quotient = np.zeros(degree - g + 1)
            for j in range(degree - g, 0, -1):
                quotient[j] = 2 * rest[g + j]
                rest[abs(g - j)] -= rest[g + j]
            quotient[0] = rest[g]
            rest[g:] = 0.0
            if quotient[1:].any():
                inner = None if parity is None else (parity + g) % 2
                products.append((self.evaluate(quotient, inner, budget - 1), g))
            elif quotient[0] != 0.0:
                linear.append((float(quotient[0]), g))
        self._sums.append(_Sum(tuple(products), tuple(linear), float(rest[0]), budget))
        return len(self._sums) - 1

    def finish(self, series: NDArray[np.float64]) -> PolynomialPlan:
        """The plan: basis values in ascending order, then the sums in the order in which they were made."""
        basis = self._splitting.basis
        needed = {g for part in self._sums for g in (*(g for _, g in part.products), *(g for _, g in part.linear))}
        for g in range(max(needed), 1, -1):
            if g in needed and (pair := _factors(g, basis)):
                needed |= {*pair, pair[0] - pair[1]} - {0}
        degrees = sorted(needed | {1})
        number = {g: k for k, g in enumerate(degrees)}
        steps: list[Step] = []
        for g in degrees[1:]:
            i, j = _factors(g, basis) or (g - 1, 1)
            steps.append(ChebyshevProduct(g, number[i], number[j], number[i - j] if i > j else None))
        first = len(degrees)
        for part in self._sums:
            products = tuple((first + index, number[g]) for index, g in part.products)
            linear = tuple((c, number[g]) for c, g in part.linear)
            steps.append(MultiplyAccumulate(products, linear, part.constant))
        depths = [_depth_of_basis(g) for g in degrees] + [part.depth for part in self._sums]
        return PolynomialPlan(tuple(map(float, series)), depths[-1], tuple(steps), tuple(depths))
