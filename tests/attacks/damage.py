"""Random damage to valid files, for the fuzzers of readers and of uploads."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from hypothesis import strategies as st

edits = st.lists(
    st.tuples(st.integers(0, 5), st.integers(0, 1 << 14), st.binary(min_size=1, max_size=12)), min_size=1, max_size=4
)


def damaged(data: bytes, changes: list[tuple[int, int, bytes]]) -> bytes:
    """Bytes overwritten, inserted, removed, flipped, cut off or repeated."""
    for operation, position, value in changes:
        at = position % (len(data) + 1)
        match operation:
            case 0:
                data = data[:at] + value + data[at + len(value) :]
            case 1:
                data = data[:at] + value + data[at:]
            case 2:
                data = data[:at] + data[at + len(value) :]
            case 3:
                data = data[:at] + bytes(b ^ value[0] for b in data[at : at + 1]) + data[at + 1 :]
            case 4:
                data = data[:at]
            case _:
                data = data[:at] + data[at : at + 64] * value[0] + data[at:]
    return data


numbers = st.integers() | st.sampled_from(
    [-1, 0, 1, 2, 32, 64, 128, 1 << 31, 1 << 48, 1 << 62, 1 << 63, 1 << 64, 10**13]
)
values = st.recursive(
    st.none() | st.booleans() | numbers | st.floats() | st.text(max_size=8) | st.sampled_from(["U8", "F64", "1", "2"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=6,
)


def paths_of(value: Any, prefix: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Ways to every value inside a JSON value."""
    if prefix:
        yield prefix
    entries = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in entries:
        yield from paths_of(inner, (*prefix, key))


def put(value: Any, path: tuple[Any, ...], new: Any, remove: bool) -> None:
    """Another value there, or none at all."""
    for key in path[:-1]:
        value = value[key]
    if remove:
        del value[path[-1]]
    else:
        value[path[-1]] = new
