"""Plans of encrypted arrays: what they cost, what they refuse, and how accurate they promise results to be."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cipherlens.errors import InputError, PlanError, RangeError
from cipherlens.owner.arrays import ArrayKeys
from cipherlens.scheme.array_plan import ArrayPlan
from cipherlens.scheme.keys import RELINEARISATION

# ---- errors ---------------------------------------------------------------------------------------------------

ESTIMATED: list[tuple[str, Callable[[Any, Any, Any], Any]]] = [
    ("fresh", lambda a, b, w: a),
    ("sum", lambda a, b, w: a + b),
    ("add clear", lambda a, b, w: a + 1.5),
    ("integer", lambda a, b, w: 7 * a),
    ("number", lambda a, b, w: a * 0.3),
    ("product", lambda a, b, w: a * b),
    ("products", lambda a, b, w: a * b * a),
    ("matrix", lambda a, b, w: a @ w),
    ("product and matrix", lambda a, b, w: (a * b) @ w),
    ("rows", lambda a, b, w: a.sum(axis=1)),
    ("columns", lambda a, b, w: a.sum(axis=0)),
    ("all", lambda a, b, w: (a * b).sum()),
]


@pytest.mark.parametrize("bound", [1, 4, 2**12])
def test_errors_stay_below_their_estimate(bound: int) -> None:
    """And the estimate is of use: with the few elements here within 2^9 of the largest error, as printed by the plan."""
    operations = ("multiply", "multiply", "matmul", "sum_axis_1", "sum_axis_0", "sum")
    plan = ArrayPlan((100, 16), operations=operations, matmul=(16, 16), bound=bound)
    keys, rng, size = ArrayKeys.create(plan, threads=1), np.random.default_rng(bound), bound ** (1 / 3)
    assert f"absolute errors up to about {keys.encrypt(0.0).error:.2g} when fresh" in str(plan)
    x, y = rng.uniform(-size, size, (2, 100, 16))
    matrix = rng.choice([-1.0, 1.0], (16, 16))
    a, b = keys.encrypt(x), keys.encrypt(y)
    for name, formula in ESTIMATED:
        for w in (matrix, keys.encrypt_matrix(matrix)) if "matrix" in name else (matrix,):
            encrypted = formula(a, b, w)
            measured = np.abs(keys.decrypt(encrypted) - formula(x, y, matrix)).max()
            assert measured <= encrypted.error, name
            if encrypted.shape:  # the error of one number alone may be as small as chance has it
                assert encrypted.error <= 2**9 * measured, name


def test_products_that_would_be_noise_are_refused() -> None:
    """A bound of 2^30 leaves an accuracy of about 2^10; factors of 2^20 would lift that above the bound."""
    keys = ArrayKeys.create(ArrayPlan((8,), matmul=(8, 2), bound=2**30))
    a, matrix = keys.encrypt(np.ones(8)), np.full((8, 2), 2.0**20)
    with pytest.raises(RangeError, match=r"off by up to .* where values of at most 1.074e\+09 were planned"):
        a @ matrix
    with pytest.raises(RangeError, match="magnifies the error"):
        keys.encrypt_matrix(matrix)
    # With a bound of the size of the values and a matrix scaled down, the same product is accurate.
    keys = ArrayKeys.create(ArrayPlan((8,), matmul=(8, 2), bound=8))
    product = keys.encrypt(np.ones(8)) @ (matrix / 2**20)
    np.testing.assert_allclose(keys.decrypt(product), np.full(2, 8.0), rtol=0, atol=1e-3)
    assert product.error < 1e-3
    keys = ArrayKeys.create(ArrayPlan((8,), matmul=(8, 2), bound=2**40))
    with pytest.raises(RangeError):
        keys.encrypt(np.ones(8)) @ np.full((8, 2), 2.0**44)


# ---- plans ----------------------------------------------------------------------------------------------------

BAD_PLANS: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"shape": ()}, InputError, "one or two dimensions"),
    ({"shape": (2, 2, 2)}, InputError, "one or two dimensions"),
    ({"shape": (0,)}, InputError, "at least 1"),
    ({"shape": (8,), "operations": ["divide"]}, InputError, "'divide' is no operation"),
    ({"shape": (8,), "operations": ["greater"]}, InputError, "needs a margin"),
    ({"shape": (8,), "operations": ["matmul"]}, InputError, "size of the matrix"),
    ({"shape": (8,), "matmul": (7, 3)}, InputError, r"matmul=\(8, 3\)"),
    ({"shape": (8,), "depth": -1}, InputError, "negative"),
    ({"shape": (8,), "bound": 0.0}, InputError, "bound"),
    ({"shape": (8,), "scale_bits": 60}, InputError, "26 to 41"),
    ({"shape": (8,), "depth": 10**9}, PlanError, "1000000000 levels"),
    ({"shape": (8,), "depth": 60}, PlanError, "60 levels .* 1747 bits"),
    ({"shape": (2, 40000)}, PlanError, "65536 slots"),
    ({"shape": (8,), "depth": 5, "ring_dimension": 4096}, PlanError, "5 levels .* 4096"),
    ({"shape": (8,), "margin": 2**-5, "error": 2**-28}, PlanError, "noise"),
    ({"shape": 8}, InputError, "for a vector"),
    ({"shape": (8,), "margin": 2**-15}, InputError, "margin must lie"),
    ({"shape": (8,), "margin": 2.0}, InputError, "margin"),
    ({"shape": (8.5,)}, InputError, "whole number, not 8.5"),
    ({"shape": ("a",)}, InputError, "whole number, not 'a'"),
    ({"shape": "a"}, InputError, "tuple of whole numbers"),
    ({"shape": (8,), "depth": 1.5}, InputError, "depth must be a whole number, not 1.5"),
    ({"shape": (8,), "margin": "x"}, InputError, "margin must be a finite number, not 'x'"),
    ({"shape": (8,), "bound": "x"}, InputError, "bound must be a finite number"),
    ({"shape": (8,), "bound": np.inf}, InputError, "bound must be a finite number"),
    ({"shape": (8,), "error": None}, InputError, "error of a comparison must be"),
    ({"shape": (8,), "matmul": (8,)}, InputError, "two whole numbers"),
    ({"shape": (8,), "matmul": 8}, InputError, "two whole numbers"),
    ({"shape": (8,), "matmul": (8, 2.5)}, InputError, "whole number, not 2.5"),
    ({"shape": (8,), "ring_dimension": 5000}, InputError, "4096, 8192, 16384, 32768, 65536, not 5000"),
    ({"shape": (8,), "ring_dimension": 4096.0}, InputError, "whole number, not 4096.0"),
    ({"shape": (8,), "scale_bits": 30.5}, InputError, "whole number, not 30.5"),
    ({"shape": (8,), "operations": "multiply"}, InputError, "list of names, not 'multiply'"),
    ({"shape": (8,), "operations": 5}, InputError, "list of names, not 5"),
    ({"shape": (8,), "margin": 2**-5, "error": 0.7}, InputError, "between 0 and 1/2"),
]


@pytest.mark.parametrize(("arguments", "error", "message"), BAD_PLANS)
def test_plans_refuse(arguments: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        ArrayPlan(**arguments)


def test_plans_take_numbers_of_numpy() -> None:
    given = ArrayPlan((np.int64(8),), depth=np.int32(1), matmul=(np.int64(8), 2), bound=np.float32(2))
    assert given == ArrayPlan((8,), depth=1, matmul=(8, 2), bound=2.0)
    assert all(type(n) is int for n in (*given.shape, given.depth))


def test_plans_take_the_smallest_ring() -> None:
    assert ArrayPlan((100,)).parameters.ring_dimension == 1 << 12
    assert ArrayPlan((100,), depth=3).parameters.ring_dimension == 1 << 13
    assert ArrayPlan((100,), depth=4).parameters.ring_dimension <= 1 << 14
    assert ArrayPlan((3, 3000)).parameters.ring_dimension == 1 << 13
    assert ArrayPlan((100,), margin=2**-8).parameters.ring_dimension == 1 << 14
    for depth in range(12):
        parameters = ArrayPlan((100,), depth=depth).parameters
        assert parameters.top_level == depth
        assert parameters.security_margin_bits >= 0


def test_plans_print_their_cost() -> None:
    text = str(ArrayPlan((1000,), operations=["multiply", "greater"], margin=2**-5, bound=8))
    assert "5 levels" in text
    assert re.search(r"log2\(QP\) = \d+\.\d of 430 at 128-bit security", text)
    assert "greater: right within 0.24" in text
    assert "0.25 <= |a - b| <= 8" in text
    assert re.search(r"evaluation keys: 1, \d+\.\d MB", text)


def test_key_requests_name_each_key_once() -> None:
    operations = ("matmul", "sum_axis_1", "multiply", "sum")
    plan = ArrayPlan((20, 12), operations=operations, matmul=(12, 5), bound=4)
    requests = plan.key_requests()
    assert len({r.number for r in requests}) == len(requests)
    assert {r.number: r.level for r in requests}[RELINEARISATION] == plan.levels


def test_the_guide_runs() -> None:
    guide = (Path(__file__).parent.parent / "docs" / "arrays.md").read_text()
    snippets = re.findall(r"```python\n(.*?)```", guide, re.DOTALL)
    assert len(snippets) >= 4
    names: dict[str, Any] = {}
    for snippet in snippets:
        exec(compile(snippet, "docs/arrays.md", "exec"), names)
