"""Reading and writing cipherlens files: the names that other layers use, in one place."""

from cipherlens.wire.fields import (
    Json,
    canonical_json,
    header_bool,
    header_choice,
    header_float,
    header_hex,
    header_int,
    header_ints,
    header_list,
    header_object,
    header_str,
    parse_json,
    parse_json_object,
)
from cipherlens.wire.layout import FORMAT, Kind
from cipherlens.wire.reader import Reader
from cipherlens.wire.writer import FULL, NoRoom, Writer

__all__ = [
    "FORMAT",
    "FULL",
    "Json",
    "Kind",
    "NoRoom",
    "Reader",
    "Writer",
    "canonical_json",
    "header_bool",
    "header_choice",
    "header_float",
    "header_hex",
    "header_int",
    "header_ints",
    "header_list",
    "header_object",
    "header_str",
    "parse_json",
    "parse_json_object",
]
