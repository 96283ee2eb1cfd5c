"""The outer shape of a cipherlens file: a safetensors file with five entries of metadata. No input or output here.

A file is: the length of the header (8 bytes, little-endian), the header (a JSON object, padded with spaces to a multiple
of 8), the body. The header names each tensor with its dtype, shape and place in the body. Tensors cover the body
without holes or overlaps. See docs/format.md.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from math import prod
from typing import Any, TypeAlias

import numpy as np

from cipherlens.errors import FormatError, InputError
from cipherlens.wire.fields import Json, canonical_json, parse_json_object, quoted

FORMAT = 1
LARGEST_HEADER = 16 << 20
LENGTH_BYTES = 8
MOST_TENSORS = 1 << 14
MOST_AXES = 8
LARGEST_EXTENT = 1 << 48
METADATA = "__metadata__"
UNSET_DIGEST = "0" * 64

DType: TypeAlias = np.dtype[Any]

DTYPES: Mapping[str, DType] = {
    "U8": np.dtype("u1"),
    "I8": np.dtype("i1"),
    "I32": np.dtype("<i4"),
    "I64": np.dtype("<i8"),
    "F32": np.dtype("<f4"),
    "F64": np.dtype("<f8"),
}


class Kind(StrEnum):
    """What a file holds."""

    TASK = "task"
    PUBLIC_TASK = "public_task"
    SECRET_KEY = "secret_key"
    PUBLIC_KEY = "public_key"
    EVALUATION_KEYS = "evaluation_keys"
    SWITCHING_KEY = "switching_key"
    IMAGES = "images"
    MODEL = "model"
    REPLY = "reply"

    @property
    def words(self) -> str:
        """The kind in plain words."""
        return {"task": "a task", "public_task": "the public half of a task", "secret_key": "a secret key",
                "public_key": "a public key", "evaluation_keys": "evaluation keys",
                "switching_key": "a switching key", "images": "encrypted images", "model": "an encrypted model",
                "reply": "a reply"}[self.value]  # fmt: skip


@dataclass(frozen=True)
class Tensor:
    """Where a tensor lies.

    Attributes:
        code: its dtype in safetensors' words.
        shape: at least one axis.
        begin: its first byte, counted from the start of the body.
    """

    code: str
    shape: tuple[int, ...]
    begin: int

    @property
    def dtype(self) -> DType:
        """Little-endian numpy dtype."""
        return DTYPES[self.code]

    @property
    def row_bytes(self) -> int:
        """Bytes of one row along the first axis."""
        return prod(self.shape[1:]) * self.dtype.itemsize

    @property
    def end(self) -> int:
        """The byte after its last, counted from the start of the body."""
        return self.begin + self.shape[0] * self.row_bytes


@dataclass(frozen=True)
class Layout:
    """Everything that stands before the body.

    Attributes:
        kind: what the file holds.
        header: the fields of this kind.
        tensors: by name, in the order in which they lie.
        body_sha256: 64 hexadecimal digits.
    """

    kind: Kind
    header: Mapping[str, Json]
    tensors: Mapping[str, Tensor]
    body_sha256: str

    @property
    def body_bytes(self) -> int:
        """Length of the body."""
        return max((tensor.end for tensor in self.tensors.values()), default=0)


def place(shapes: Mapping[str, tuple[Any, tuple[int, ...]]]) -> dict[str, Tensor]:
    """Places for tensors, those of the widest elements first, so that every element is aligned.

    Raises:
        InputError: a name, dtype or shape that the format does not know.
    """
    codes = {dtype: code for code, dtype in DTYPES.items()}
    described = []
    for name, (dtype, shape) in shapes.items():
        code = codes.get(np.dtype(dtype).newbyteorder("<"))
        if code is None:
            raise InputError(f"the format stores no tensors of {np.dtype(dtype)}; it knows {', '.join(DTYPES)}")
        if not _NAME.fullmatch(name) or name == METADATA or not _is_shape(tuple(shape)):
            raise InputError(f"a tensor named {quoted(name)} of shape {shape} cannot be stored")
        described.append((-DTYPES[code].itemsize, name, code, tuple(int(extent) for extent in shape)))
    tensors: dict[str, Tensor] = {}
    begin = 0
    for _, name, code, shape in sorted(described):
        tensors[name] = Tensor(code, shape, begin)
        begin = tensors[name].end
    return tensors


def compose(kind: Kind, header: Mapping[str, object], tensors: Mapping[str, Tensor], body_sha256: str) -> bytes:
    """Length and header. Its own length does not depend on the digest.

    Raises:
        InputError: the header is longer than 16 MiB.
    """
    fields: dict[str, object] = {
        name: {"dtype": t.code, "shape": list(t.shape), "data_offsets": [t.begin, t.end]} for name, t in tensors.items()
    }
    fields[METADATA] = {
        "format": str(FORMAT),
        "kind": kind.value,
        "header": canonical_json(dict(header)),
        "body_sha256": body_sha256,
        "header_sha256": UNSET_DIGEST,
    }
    text = canonical_json(fields).encode()
    text += b" " * (-len(text) % 8)
    if len(text) > LARGEST_HEADER:
        raise InputError(f"the header would take {len(text)} bytes and may take {LARGEST_HEADER}; use fewer tensors")
    text = _sealed(text)
    return len(text).to_bytes(LENGTH_BYTES, "little") + text


def _sealed(text: bytes) -> bytes:
    """Put the digest of the whole header, taken with zeros in the digest's own place, into that place."""
    mark = b'"header_sha256":"'
    at = text.rindex(mark) + len(mark)
    return text[:at] + hashlib.sha256(text).hexdigest().encode() + text[at + len(UNSET_DIGEST) :]


def _is_shape(shape: tuple[int, ...]) -> bool:
    """Whether there may be such a tensor. Rows of no bytes are refused: a file could promise any number of them."""
    small = all(extent < LARGEST_EXTENT for extent in shape) and prod(shape[1:]) < LARGEST_EXTENT
    return 1 <= len(shape) <= MOST_AXES and shape[0] >= 0 and min(shape[1:], default=1) >= 1 and small


_NAME = re.compile("[A-Za-z0-9_.-]{1,100}")
_DIGEST = re.compile("[0-9a-f]{64}")


def parse(text: bytes, name: str) -> Layout:
    """The header of a file from outside; `name` stands for the file in messages.

    Raises:
        FormatError: not a cipherlens file, of a newer format, altered, or with tensors that do not cover its body.
    """
    what = f"the header of {name}"
    fields = parse_json_object(text, what)
    metadata = fields.pop(METADATA, None)
    if not isinstance(metadata, dict) or not isinstance(metadata.get("format"), str):
        raise FormatError(f"{name} is a safetensors file but none of Cipherlens")
    version = str(metadata["format"])
    if not re.fullmatch("[1-9][0-9]{0,5}", version):
        raise FormatError(f"{what} names the format {quoted(version)}, which is no version")
    if int(version) > FORMAT:
        raise FormatError(
            f"{name} was written by a newer Cipherlens (format {version}; this one reads up to {FORMAT}); "
            "upgrade Cipherlens to read it"
        )
    expected = {"format", "kind", "header", "body_sha256", "header_sha256"}
    if set(metadata) != expected or not all(isinstance(value, str) for value in metadata.values()):
        raise FormatError(f"{what} does not hold exactly the texts {', '.join(sorted(expected))}")
    strings = {key: str(value) for key, value in metadata.items()}
    _check_digest(text, strings["header_sha256"], name)
    if not _DIGEST.fullmatch(strings["body_sha256"]):
        raise FormatError(f"{what} holds no SHA-256 of the body")
    if strings["kind"] not in tuple(Kind):
        raise FormatError(f"{name} says that it holds {quoted(strings['kind'])}, a kind that format 1 does not know")
    header = parse_json_object(strings["header"], f"the field 'header' of {name}")
    return Layout(Kind(strings["kind"]), header, _tensors(fields, name), strings["body_sha256"])


def _check_digest(text: bytes, digest: str, name: str) -> None:
    mark = digest.encode()
    if not _DIGEST.fullmatch(digest) or text.count(mark) != 1:
        raise FormatError(f"the header of {name} holds no SHA-256 of itself")
    if hashlib.sha256(text.replace(mark, UNSET_DIGEST.encode())).hexdigest() != digest:
        raise FormatError(f"{name} was altered: its header does not match its SHA-256; fetch or create it again")


def _tensors(fields: Mapping[str, Json], name: str) -> dict[str, Tensor]:
    if len(fields) > MOST_TENSORS:
        raise FormatError(f"{name} names {len(fields)} tensors; at most {MOST_TENSORS} are read")
    tensors = {key: _tensor(key, value, name) for key, value in fields.items()}
    end = 0
    ordered = dict(sorted(tensors.items(), key=lambda item: (item[1].begin, item[1].end)))
    for key, tensor in ordered.items():
        if tensor.begin != end:
            raise FormatError(f"the tensor {key!r} of {name} begins at byte {tensor.begin} of the body, not at {end}")
        end = tensor.end
    return ordered


def _tensor(key: str, value: Json, name: str) -> Tensor:
    if not _NAME.fullmatch(key):
        raise FormatError(f"{name} holds a tensor named {quoted(key)}, which is no name")
    if not isinstance(value, dict) or set(value) != {"dtype", "shape", "data_offsets"}:
        raise FormatError(f"the tensor {key!r} of {name} is not described by dtype, shape and data_offsets")
    code, shape, offsets = value["dtype"], value["shape"], value["data_offsets"]
    if not isinstance(code, str) or code not in DTYPES:
        raise FormatError(f"the tensor {key!r} of {name} has the dtype {quoted(code)}; {', '.join(DTYPES)} are read")
    extents = _integers(shape)
    if extents is None or not _is_shape(extents):
        raise FormatError(f"the tensor {key!r} of {name} has the shape {quoted(shape)}, which is none")
    places = _integers(offsets)
    if places is None or len(places) != 2 or places[0] < 0:
        raise FormatError(f"the tensor {key!r} of {name} has the data_offsets {quoted(offsets)}, which are none")
    tensor = Tensor(code, extents, places[0])
    if tensor.end != places[1]:
        raise FormatError(
            f"the tensor {key!r} of {name} has shape {list(extents)} but takes {places[1] - places[0]} bytes"
        )
    return tensor


def _integers(value: Json) -> tuple[int, ...] | None:
    if not isinstance(value, list) or len(value) > MOST_AXES:
        return None
    integers = tuple(number for number in value if type(number) is int)
    return integers if len(integers) == len(value) else None
