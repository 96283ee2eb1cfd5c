"""What a file says of itself in its header, checked before any of its body is taken."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cipherlens.errors import FormatError
from cipherlens.learning.encrypted_images import EncryptedImages, check_images
from cipherlens.wire.container import Kind, Reader
from cipherlens.wire.key_change import check_key_change
from cipherlens.wire.keys import check_listing
from cipherlens.wire.layout import LENGTH_BYTES, parse

LARGEST_HEADER = 1 << 20
"""A service takes shorter headers than a reader of local files: 16,384 tensors are nobody's keys or images."""

NAME_BYTES = 1024
LARGEST_NAMES = 256 << 20
"""Sealed names are read into memory: bytes allowed for one image's, and for all together."""

UPLOADS = (Kind.EVALUATION_KEYS, Kind.SWITCHING_KEY, Kind.IMAGES)


@dataclass(frozen=True)
class Description:
    """A file by its header.

    Attributes:
        parameters_id, key_id: ring and key pair; of a switching key the old one, whose data it is for.
        task_id: None for keys, which serve every task on their ring.
        images, labelled: None unless the file holds images.
    """

    kind: Kind
    parameters_id: str
    key_id: str
    task_id: str | None = None
    images: int | None = None
    labelled: bool | None = None


def describe_header(kind: Kind, header: bytes, size: int) -> Description:
    """Check the first bytes of an upload.

    Args:
        kind: what the client says it is.
        header: the file's first 8 bytes and the header whose length they tell; nothing more.
        size: of the whole file.

    Raises:
        FormatError: not such a file, or of another size.
        SecurityError: parameters above the security table.
    """
    name = "the upload"
    length = int.from_bytes(header[:LENGTH_BYTES], "little")
    if len(header) < LENGTH_BYTES or length != len(header) - LENGTH_BYTES:
        raise FormatError("the header is not the file's first 8 bytes and as many more as they say; send exactly those")
    layout = parse(header[LENGTH_BYTES:], name)
    if layout.kind is not kind or kind not in UPLOADS:
        raise FormatError(f"the header is of {layout.kind.words}, not of {kind.words}; name the right kind")
    if len(header) + layout.body_bytes != size:
        raise FormatError(f"the header describes {len(header) + layout.body_bytes} bytes, and {size} are announced")
    return _describe(Reader(-1, name, len(header), layout))  # has no file behind it: only shapes are looked at


def describe_file(path: Path) -> Description:
    """Check a whole upload: its body against its hash, its labels against its classes.

    Raises:
        FormatError, SecurityError: it is not what its header says.
    """
    with Reader.open(path, UPLOADS) as reader:
        description = _describe(reader)
    if description.kind is Kind.IMAGES:
        EncryptedImages.load(path, verify=False)
    return description


def _describe(reader: Reader) -> Description:
    if reader.kind is Kind.EVALUATION_KEYS:
        listing = check_listing(reader)
        return Description(reader.kind, listing.parameters.id, listing.key_id)
    if reader.kind is Kind.SWITCHING_KEY:
        change = check_key_change(reader)
        return Description(reader.kind, change.parameters.id, change.old_key_id)
    shape = check_images(reader)
    names = reader.expect("names", np.uint8, (None,))[0]
    if names > min(NAME_BYTES * shape.images + (1 << 16), LARGEST_NAMES):
        raise FormatError(f"the sealed names of {shape.images} images take {names} bytes; shorten them")
    return Description(reader.kind, shape.task.parameters.id, shape.key_id, shape.task.id, shape.images, shape.labelled)
