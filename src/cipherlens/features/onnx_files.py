"""Whether an ONNX model takes weights from files beside it.

onnxruntime opens such files wherever the model says, `../` included, and a model may come inside a task from elsewhere:
its features would then hold what was read, and go encrypted to whoever made the task. So models must be in one file.

Read here is the wire format of protocol buffers (https://protobuf.dev/programming-guides/encoding/) along the fields of
onnx.proto3 (https://github.com/onnx/onnx, field numbers are part of the format) that lead to tensors.
"""

from __future__ import annotations

from collections.abc import Iterator

_FIELDS: dict[str, dict[int, str]] = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "function": {7: "node", 11: "attribute"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
}
_EXTERNAL_DATA, _DATA_LOCATION = 13, 14  # of a tensor
_VARINT, _EIGHT_BYTES, _BYTES, _FOUR_BYTES = 0, 1, 2, 5
_DEEPEST = 100
"""Protocol buffers' own limit on nesting."""


def refers_to_files(model: bytes) -> bool:
    """True if any tensor says that its data lies elsewhere, and for bytes that are not a model in this format."""
    if model[4:8] == b"ORTM":  # onnxruntime's own format, which it takes as well
        return True
    try:
        return _refers(memoryview(model), "model", 0)
    except (IndexError, ValueError):
        return True


def _refers(message: memoryview, kind: str, depth: int) -> bool:
    if depth > _DEEPEST:
        raise ValueError("nested too deeply")
    fields = _FIELDS.get(kind, {})
    for number, value in _fields_of(message):
        if kind == "tensor":
            if number == _EXTERNAL_DATA or (number == _DATA_LOCATION and value != 0):
                return True
        elif number in fields and (isinstance(value, int) or _refers(value, fields[number], depth + 1)):
            return True
    return False


def _fields_of(message: memoryview) -> Iterator[tuple[int, memoryview | int]]:
    """Numbers and values; of fixed width, and not needed: 0."""
    at = 0
    while at < len(message):
        tag, at = _varint(message, at)
        if tag >> 32:  # other readers drop the upper bits, and would see another field
            raise ValueError("a tag of more than 32 bits")
        wire, value, length = tag & 7, 0, 0
        if wire == _VARINT:
            value, at = _varint(message, at)
        elif wire in (_EIGHT_BYTES, _FOUR_BYTES):
            at += 8 if wire == _EIGHT_BYTES else 4
        elif wire == _BYTES:
            length, at = _varint(message, at)
            at += length
        else:
            raise ValueError("a kind of field that ONNX does not use")
        if at > len(message):
            raise ValueError("cut off")
        yield tag >> 3, message[at - length : at] if wire == _BYTES else value


def _varint(message: memoryview, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = message[at]
        value |= (byte & 127) << shift
        at, shift = at + 1, shift + 7
        if byte < 128:
            return value, at
        if shift > 63:
            raise ValueError("a number of more than 64 bits")
