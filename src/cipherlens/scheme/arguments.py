"""Numbers that a user gives, checked: numpy's scalars are welcome, anything else is refused in one sentence."""

from __future__ import annotations

from math import isfinite
from numbers import Real
from operator import index

from cipherlens.errors import InputError


def whole_number(value: object, what: str, *, least: int | None = None) -> int:
    """An int, numpy's among them. Raises InputError for anything else, and for less than `least`."""
    try:
        number = index(value)  # type: ignore[arg-type]
    except TypeError:
        raise InputError(f"{what} must be a whole number, not {value!r}; give an int.") from None
    if least is not None and number < least:
        raise InputError(f"{what} must be at least {least}, not {number}.")
    return number


def real_number(value: object, what: str) -> float:
    """A finite int or float, numpy's among them. Raises InputError for anything else."""
    if not isinstance(value, Real) or not isfinite(value):
        raise InputError(f"{what} must be a finite number, not {value!r}; give a float.")
    return float(value)
