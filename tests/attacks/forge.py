"""Hostile files, made from a valid one. Each is a file that somebody could send."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from typing import Any

Fields = dict[str, Any]


def split(data: bytes) -> tuple[Fields, bytes]:
    """The header's JSON and the body."""
    length = int.from_bytes(data[:8], "little")
    return json.loads(data[8 : 8 + length]), data[8 + length :]


def join(fields: Fields, body: bytes, *, honest: bool = True) -> bytes:
    """A file of these parts; with matching digests when honest, so that everything behind them is reached."""
    metadata = fields.get("__metadata__")
    if honest and isinstance(metadata, dict):
        metadata["body_sha256"] = hashlib.sha256(body).hexdigest()
        metadata["header_sha256"] = "0" * 64
    text = json.dumps(fields, sort_keys=True, separators=(",", ":")).encode()
    if honest and isinstance(metadata, dict):
        text = signed(text)
    return len(text).to_bytes(8, "little") + text + body


def signed(text: bytes) -> bytes:
    """Header text with zeros for its digest, to the same text with its digest."""
    return text.replace(
        b'"header_sha256":"' + b"0" * 64, b'"header_sha256":"' + hashlib.sha256(text).hexdigest().encode()
    )


def raw(text: bytes, body: bytes) -> bytes:
    """A file of a header that json.dumps would not write."""
    text = signed(text)
    return len(text).to_bytes(8, "little") + text + body


def edit(change: Callable[[Fields], object], *, honest: bool = True) -> Callable[[bytes], bytes]:
    """An attack that changes the header's fields."""

    def attack(data: bytes) -> bytes:
        fields, body = split(data)
        change(fields)
        return join(fields, body, honest=honest)

    return attack


def edit_text(old: bytes, new: bytes) -> Callable[[bytes], bytes]:
    """An attack that changes the header's text, once."""

    def attack(data: bytes) -> bytes:
        fields, body = split(data)
        fields["__metadata__"]["header_sha256"] = "0" * 64
        text = json.dumps(fields, sort_keys=True, separators=(",", ":")).encode()
        assert old in text
        return raw(text.replace(old, new, 1), body)

    return attack


def metadata(**changes: object) -> Callable[[bytes], bytes]:
    """An attack that changes metadata; None removes a field."""

    def change(fields: Fields) -> None:
        for key, value in changes.items():
            if value is None:
                del fields["__metadata__"][key]
            else:
                fields["__metadata__"][key] = value

    return edit(change)


def tensor(name: str, **changes: object) -> Callable[[bytes], bytes]:
    """An attack that changes a tensor's description; None removes a field."""

    def change(fields: Fields) -> None:
        for key, value in changes.items():
            if value is None:
                del fields[name][key]
            else:
                fields[name][key] = value

    return edit(change)


def many_tensors(data: bytes) -> bytes:
    """Empty tensors without end."""
    fields, body = split(data)
    fields |= {f"t{i}": {"dtype": "U8", "shape": [0], "data_offsets": [0, 0]} for i in range(20_000)}
    return join(fields, body)


TB = 10 * 10**12

ATTACKS: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    # the file's length and the header's
    "empty": (lambda d: b"", "0 bytes"),
    "only_a_length": (lambda d: d[:8], "truncated"),
    "header_cut": (lambda d: d[:40], "truncated"),
    "body_cut": (lambda d: d[:-1], "truncated"),
    "body_longer": (lambda d: d + b"\0", "altered"),
    "header_length_of_10_TB": (lambda d: TB.to_bytes(8, "little") + d[8:], "no Cipherlens file"),
    "header_length_of_2_to_64": (lambda d: b"\xff" * 8 + d[8:], "no Cipherlens file"),
    "header_length_beyond_the_end": (lambda d: (1 << 23).to_bytes(8, "little") + d[8:], "truncated"),
    "header_length_zero": (lambda d: bytes(8) + d[8:], "no valid JSON"),
    "another_format": (lambda d: b"PK\x03\x04" + bytes(100), "truncated|no Cipherlens|no valid JSON"),
    # JSON
    "not_utf8": (lambda d: raw(b'{"\xff":1}', b""), "no valid JSON"),
    "not_json": (lambda d: raw(b"{'a': 1}", b""), "no valid JSON"),
    "a_list": (lambda d: raw(b"[]", b""), "no JSON object"),
    "deep_nesting": (lambda d: raw(b"[" * 200_000, b""), "nests too deeply"),
    "millions_of_values": (lambda d: raw(b'{"a":[' + b"{}," * 3_000_000 + b"{}]}", b""), "more than"),
    "number_of_5000_digits": (lambda d: raw(b'{"a":' + b"9" * 5000 + b"}", b""), "no valid JSON"),
    "nan": (lambda d: raw(b'{"a":NaN}', b""), "no valid JSON"),
    "infinity_by_exponent": (lambda d: raw(b'{"a":1e999}', b""), "no valid JSON"),
    "lone_surrogate": (lambda d: raw(b'{"a":"\\ud800"}', b""), "no valid JSON"),
    "tensor_twice": (edit_text(b'"b":{', b'"a":{"dtype":"U8","shape":[0],"data_offsets":[0,0]},"b":{'), "twice"),
    "kind_twice": (edit_text(b'"kind":', b'"kind":"model","kind":'), "twice"),
    # metadata
    "no_metadata": (edit(lambda f: f.pop("__metadata__")), "none of Cipherlens"),
    "metadata_a_list": (edit(lambda f: f.update(__metadata__=["format"])), "none of Cipherlens"),
    "newer_format": (metadata(format="2"), r"newer Cipherlens \(format 2"),
    "newer_format_with_news": (metadata(format="3", signature="x"), r"newer Cipherlens \(format 3"),
    "format_zero": (metadata(format="0"), "no version"),
    "format_text": (metadata(format="one\x1b[31m"), r"no version"),
    "format_a_number": (metadata(format=1), "none of Cipherlens"),
    "unknown_kind": (metadata(kind="photographs"), "does not know"),
    "no_kind": (metadata(kind=None), "exactly the texts"),
    "metadata_more": (metadata(comment="x"), "exactly the texts"),
    "metadata_null": (edit(lambda f: f["__metadata__"].update(kind=None)), "exactly the texts"),
    "header_no_json": (metadata(header="{"), "no valid JSON"),
    "header_deep": (metadata(header="[" * 100_000), "nests too deeply"),
    "header_a_number": (metadata(header="1"), "no JSON object"),
    "header_key_twice": (metadata(header='{"a":1,"a":2}'), "twice"),
    "header_digest_wrong": (edit(lambda f: f["__metadata__"].update(header_sha256="1" * 64), honest=False), "altered"),
    "header_digest_short": (edit(lambda f: f["__metadata__"].update(header_sha256="00"), honest=False), "no SHA-256"),
    "header_unsigned_change": (edit(lambda f: f["__metadata__"].update(kind="reply"), honest=False), "altered"),
    "body_digest_text": (edit_text(b'"body_sha256":"', b'"body_sha256":"zz'), "no SHA-256 of the body"),
    "body_changed": (lambda d: d[:-1] + bytes([d[-1] ^ 1]), "altered: its body"),
    # tensors
    "tensor_of_10_TB": (tensor("b", shape=[TB], data_offsets=[24, 24 + TB]), "truncated"),
    "shape_and_place_differ": (tensor("b", shape=[TB]), "takes 6 bytes"),
    "rows_of_nothing": (tensor("b", shape=[1 << 40, 0], data_offsets=[24, 24]), "none"),
    "shape_overflows": (tensor("b", shape=[1 << 32, 1 << 32], data_offsets=[24, 24]), "takes 0 bytes"),
    "shape_huge": (tensor("b", shape=[1 << 63]), "none"),
    "shape_negative": (tensor("b", shape=[-2, -3]), "none"),
    "shape_bool": (tensor("b", shape=[True]), "none"),
    "shape_float": (tensor("b", shape=[6.0]), "none"),
    "shape_scalar": (tensor("b", shape=[]), "none"),
    "shape_of_nine_axes": (tensor("b", shape=[1] * 9), "none"),
    "shape_text": (tensor("b", shape="6"), "none"),
    "hole": (tensor("b", data_offsets=[25, 31]), "begins at byte 25"),
    "overlap": (tensor("b", data_offsets=[20, 26]), "begins at byte 20"),
    "same_place_twice": (tensor("b", dtype="F64", shape=[3], data_offsets=[0, 24]), "begins at byte 0"),
    "place_backwards": (tensor("b", data_offsets=[30, 24]), "takes -6 bytes"),
    "place_negative": (tensor("b", data_offsets=[-6, 0]), "none"),
    "place_of_three": (tensor("b", data_offsets=[24, 30, 30]), "none"),
    "place_missing": (tensor("b", data_offsets=None), "not described"),
    "dtype_unknown": (tensor("b", dtype="BF16"), "dtype"),
    "dtype_a_list": (tensor("b", dtype=["U8"]), "dtype"),
    "description_more": (tensor("b", note="x"), "not described"),
    "description_a_number": (edit(lambda f: f.update(b=1)), "not described"),
    "name_empty": (edit(lambda f: f.update({"": f.pop("b")})), "no name"),
    "name_with_escapes": (edit(lambda f: f.update({"\x1b[31mred": f.pop("b")})), "no name"),
    "name_of_a_megabyte": (edit(lambda f: f.update({"b" * (1 << 20): f.pop("b")})), "no name"),
    "tensors_without_end": (many_tensors, "at most"),
}  # fmt: skip
"""By name: how it is made from a valid file with the tensors a (F64, 3) and b (U8, 6), and what its refusal says."""
