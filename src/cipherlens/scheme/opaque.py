"""What encrypted arrays refuse: everything that would need a value."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar, NoReturn, Self

from cipherlens.errors import InputError


class Opaque:
    """Refuses truth, conversion to numbers, equality and elements, each with one sentence (InputError)."""

    # numpy's operators leave an operand with this on their right to its own class (NEP 13).
    __array_ufunc__: ClassVar[None] = None

    def __bool__(self) -> NoReturn:
        raise InputError("An encrypted array is neither true nor false here; its owner decrypts it first.")

    def __float__(self) -> NoReturn:
        raise InputError("An encrypted number cannot become a float; its owner decrypts it with keys.decrypt.")

    __int__ = __complex__ = __float__

    def __format__(self, specification: str) -> str:
        if specification:
            raise InputError("Encrypted numbers have no digits to format; format what keys.decrypt gives.")
        return repr(self)

    # Nothing in an array ever changes, so a copy is the array itself.
    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: object) -> Self:
        return self

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError("Encrypted arrays are not pickled and have no kind of file; keep them in the process.")

    def __array__(self, dtype: object = None, copy: object = None) -> NoReturn:
        raise InputError("An encrypted array cannot become a numpy array; its owner decrypts it with keys.decrypt.")

    def __array_function__(self, function: Callable[..., object], *_: object) -> NoReturn:
        raise InputError(
            f"numpy.{function.__name__} needs values and these are encrypted; use the operators and methods of the array."
        )

    def __eq__(self, other: object) -> NoReturn:
        raise InputError("Equality of encrypted numbers is no polynomial; compare with a.greater(b, margin=...).")

    __ne__ = __eq__

    def __ge__(self, other: object) -> NoReturn:
        raise InputError("Encrypted comparisons are undefined near equality, so >= means no more than >; write > or <.")

    __le__ = __ge__

    __hash__ = None  # type: ignore[assignment]

    def __iter__(self) -> NoReturn:
        raise InputError("An encrypted array has no single elements to iterate over; compute on all of it at once.")

    def __getitem__(self, key: object) -> NoReturn:
        raise InputError("An encrypted array cannot be indexed; multiply by a clear array of zeros and ones instead.")

    def __len__(self) -> NoReturn:
        raise InputError("An encrypted array has no len(); its shape is public: use a.shape[0].")
