"""JSON from outside: parsed strictly, and read field by field with a range for each."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from math import isfinite
from typing import TypeAlias

from cipherlens.errors import FormatError

Json: TypeAlias = "bool | int | float | str | list[Json] | dict[str, Json] | None"

LARGEST_JSON_ITEMS = 1 << 18
"""Values in one JSON text. Python takes about 100 bytes for each, so text of a few megabytes stays harmless."""


def canonical_json(value: object) -> str:
    """JSON text with sorted keys, no spaces, ASCII only.

    Raises:
        ValueError: a number that is not finite.
        TypeError: a value that JSON does not know.
    """
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def parse_json(text: bytes | str, what: str, most: int = LARGEST_JSON_ITEMS) -> Json:
    """JSON from untrusted text.

    Args:
        text: UTF-8 where it is bytes.
        what: names the text in messages.
        most: how many values it may hold.

    Raises:
        FormatError: no JSON, a key twice, a number that is not finite, text that is no Unicode, or too many values.
    """
    try:
        decoded = text if isinstance(text, str) else text.decode()
        if decoded.count(",") + decoded.count("[") + decoded.count("{") > most:
            raise FormatError(f"{what} holds more than {most} values, so it was not read")
        value: Json = json.loads(decoded, object_pairs_hook=_unique_keys)
        canonical_json(value)  # refuses NaN and infinities
        json.dumps(value, ensure_ascii=False).encode()  # refuses lone surrogates, which nothing could print
    except (ValueError, RecursionError) as error:
        reason = "it nests too deeply" if isinstance(error, RecursionError) else quoted(str(error), 80)
        raise FormatError(f"{what} is no valid JSON: {reason}") from None
    return value


def parse_json_object(text: bytes | str, what: str) -> dict[str, Json]:
    """A JSON object from untrusted text.

    Raises:
        FormatError: as `parse_json`, or no object.
    """
    value = parse_json(text, what)
    if not isinstance(value, dict):
        raise FormatError(f"{what} is no JSON object")
    return value


def _unique_keys(pairs: list[tuple[str, Json]]) -> dict[str, Json]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise ValueError("a key appears twice")
    return result


def quoted(value: object, length: int = 40) -> str:
    """Something from a file, fit for an error message: escaped and cut."""
    text = repr(value if not isinstance(value, str) else value[: length + 1])
    return text if len(text) <= length else text[: length - 1] + "…"


def _field(header: Mapping[str, Json], name: str) -> Json:
    if name not in header:
        raise FormatError(f"the file's header has no field {name!r}; it is damaged or not of this kind")
    return header[name]


def _refuse(name: str, value: object, wanted: str) -> FormatError:
    return FormatError(f"the file's header says {name} = {quoted(value)}, which is not {wanted}")


def header_int(header: Mapping[str, Json], name: str, low: int, high: int) -> int:
    """An integer in [low, high].

    Raises:
        FormatError: missing, of another type, or out of range.
    """
    value = _field(header, name)
    if type(value) is not int or not low <= value <= high:
        raise _refuse(name, value, f"an integer in {low} ... {high}")
    return value


def header_float(header: Mapping[str, Json], name: str, low: float, high: float) -> float:
    """A finite number in [low, high]; integers count as numbers.

    Raises:
        FormatError: missing, of another type, or out of range.
    """
    value = _field(header, name)
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise _refuse(name, value, f"a number in {low:g} ... {high:g}")
    number = float(value)
    if not isfinite(number):
        raise _refuse(name, value, "a finite number")
    return number


def header_bool(header: Mapping[str, Json], name: str) -> bool:
    """True or false.

    Raises:
        FormatError: missing or of another type.
    """
    value = _field(header, name)
    if not isinstance(value, bool):
        raise _refuse(name, value, "true or false")
    return value


def header_str(header: Mapping[str, Json], name: str, longest: int = 256, pattern: str | None = None) -> str:
    """Text of at most `longest` characters, matching `pattern` (a whole regular expression) where one is given.

    Raises:
        FormatError: missing, of another type, too long, or of another form.
    """
    value = _field(header, name)
    if not isinstance(value, str) or len(value) > longest:
        raise _refuse(name, value, f"text of at most {longest} characters")
    if pattern is not None and not re.fullmatch(pattern, value):
        raise _refuse(name, value, "of the form that it should have")
    return value


def header_hex(header: Mapping[str, Json], name: str, digits: int = 32) -> str:
    """Exactly so many lower-case hexadecimal digits, such as a key id.

    Raises:
        FormatError: anything else.
    """
    value = _field(header, name)
    if not isinstance(value, str) or len(value) != digits or not re.fullmatch("[0-9a-f]*", value):
        raise _refuse(name, value, f"{digits} hexadecimal digits")
    return value


def header_choice(header: Mapping[str, Json], name: str, choices: tuple[str, ...]) -> str:
    """One of a few words.

    Raises:
        FormatError: anything else.
    """
    value = _field(header, name)
    if not isinstance(value, str) or value not in choices:
        raise _refuse(name, value, f"one of {', '.join(choices)}")
    return value


def header_object(header: Mapping[str, Json], name: str) -> dict[str, Json]:
    """A JSON object.

    Raises:
        FormatError: anything else.
    """
    value = _field(header, name)
    if not isinstance(value, dict):
        raise _refuse(name, value, "an object")
    return value


def header_list(header: Mapping[str, Json], name: str, longest: int) -> list[Json]:
    """A list of at most `longest` values, each still to be checked.

    Raises:
        FormatError: anything else.
    """
    value = _field(header, name)
    if not isinstance(value, list) or len(value) > longest:
        raise _refuse(name, value, f"a list of at most {longest} values")
    return value


def header_ints(header: Mapping[str, Json], name: str, longest: int, low: int, high: int) -> tuple[int, ...]:
    """A list of at most `longest` integers in [low, high].

    Raises:
        FormatError: anything else.
    """
    result: list[int] = []
    for value in header_list(header, name, longest):
        if type(value) is not int or not low <= value <= high:
            raise _refuse(name, value, f"a list of integers in {low} ... {high}")
        result.append(value)
    return tuple(result)
