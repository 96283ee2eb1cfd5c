"""A data set of encrypted images: in memory or in a file, read one ciphertext at a time."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from cipherlens.errors import FormatError, InputError, KeyMismatch
from cipherlens.learning.circuit import LARGEST_COUNT
from cipherlens.learning.task import PublicTask, read_task, task_header
from cipherlens.learning.training import Batch
from cipherlens.scheme.engine import Engine
from cipherlens.scheme.notebook import NotebookRepr
from cipherlens.wire.container import Kind, Reader, Writer, header_bool, header_int
from cipherlens.wire.packed import unpack_ciphertext, unpack_seeded

Packed = NDArray[np.uint8]
Row = tuple[Packed, Packed]
"""One ciphertext: the packed message half, and the seed (32 bytes) or the packed other half."""

NO_IMAGE = -1
"""Label of a position that holds no image."""


class Rows(Protocol):
    """Packed ciphertexts, wherever they lie."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Row: ...


@dataclass(frozen=True, eq=False)
class _FileRows:
    reader: Reader
    other: str

    def __len__(self) -> int:
        return int(self.reader.shapes["message"][0])

    def __getitem__(self, index: int) -> Row:
        return (
            self.reader.read("message", index, index + 1)[0],
            self.reader.read(self.other, index, index + 1)[0],
        )


@dataclass(frozen=True, eq=False)
class EncryptedImages(NotebookRepr):
    """Images under one owner's key, in the layout of one task.

    Attributes:
        task: the public task they were encrypted for.
        key_id: which secret key decrypts them.
        images: their number.
        seeded: whether the uniform halves are seeds (made with the secret key) or in full (with the public key).
        labels: int32 (ciphertexts, 2B) class numbers in the clear, -1 where there is no image; None without labels.
        names: the images' names, sealed for the owner.
        rows: packed ciphertexts.
    """

    task: PublicTask
    key_id: str
    images: int
    seeded: bool
    labels: NDArray[np.int32] | None
    names: bytes
    rows: Rows

    def __len__(self) -> int:
        return self.images

    def __repr__(self) -> str:
        kind = "labelled" if self.labels is not None else "unlabelled"
        return f"EncryptedImages({self.images} {kind} images in {len(self.rows)} ciphertexts, {self.nbytes:,} bytes)"

    @property
    def nbytes(self) -> int:
        """Bytes of ciphertexts, seeds and names: what an upload takes, up to a few hundred."""
        return len(self.rows) * sum(row_bytes(self.task, self.seeded)) + len(self.names)

    def counts(self) -> NDArray[np.int64]:
        """Images of each class, int64 (k,).

        Raises:
            InputError: the images carry no labels.
        """
        if self.labels is None:
            raise InputError("these images carry no labels; encrypt them with labels to train on them")
        counts = np.zeros(self.task.spec.classes, np.int64)
        for row in self.labels:  # one ciphertext's at a time, as counting takes copies
            counts += np.bincount(row[row >= 0], minlength=len(counts))
        return counts

    def batch(self, engine: Engine, index: int) -> Batch:
        """One ciphertext, expanded, with its labels.

        Raises:
            FormatError: a residue is not below its prime.
        """
        top = self.task.circuit.top
        message, other = self.rows[index]
        scale = self.task.parameters.scales[top]
        if self.seeded:
            ciphertext = unpack_seeded(engine, message, other.tobytes(), top + 1, scale)
        else:
            ciphertext = unpack_ciphertext(engine, np.concatenate([message, other]), 2, top + 1, scale)
        positions = self.task.circuit.layout.images
        labels = np.full(positions, NO_IMAGE) if self.labels is None else self.labels[index].astype(np.int64)
        return Batch(ciphertext, labels)

    def part(self, span: range) -> EncryptedImages:
        """Some of the ciphertexts, read into memory, with their labels and without the names."""
        full = self.task.circuit.layout.images
        return replace(
            self,
            images=min(self.images, span.stop * full) - span.start * full,
            labels=None if self.labels is None else self.labels[span.start : span.stop],
            names=b"",
            rows=[self.rows[index] for index in span],
        )

    def batches(self, engine: Engine) -> Iterator[Batch]:
        """Every ciphertext in turn; memory does not grow with their number."""
        return (self.batch(engine, index) for index in range(len(self.rows)))

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a file of kind IMAGES."""
        rows = (self.rows[i] for i in range(len(self.rows)))
        write_images(path, self.task, self.key_id, self.images, self.seeded, self.labels, self.names, rows)

    @classmethod
    def load(cls, path: str | os.PathLike[str], *, verify: bool = True) -> EncryptedImages:
        """Open a file of kind IMAGES; ciphertexts are read when they are needed.

        path: of the file. verify: whether to compare its body with its SHA-256 now, which reads the whole file.

        Raises:
            FormatError: the file is not what it claims to be.
        """
        reader = Reader.open(Path(path), Kind.IMAGES, verify=verify)
        about = check_images(reader)
        labels = None
        if about.labelled:
            labels = reader.read("labels").astype(np.int32, copy=False)
            _check_labels(labels, about.images, about.task)
        sealed = reader.read("names").tobytes()
        rows = _FileRows(reader, "seeds" if about.seeded else "uniform")
        return cls(about.task, about.key_id, about.images, about.seeded, labels, sealed, rows)


@dataclass(frozen=True)
class ImagesHeader:
    """What the header of a file of kind IMAGES says; the fields are those of `EncryptedImages`.

    names: bytes of the sealed names.
    """

    task: PublicTask
    key_id: str
    images: int
    seeded: bool
    labelled: bool
    names: int

    @property
    def resident_bytes(self) -> int:
        """What `EncryptedImages.load` holds in memory at most: the labels, and the names twice while it reads them."""
        layout = self.task.circuit.layout
        labels = np.dtype(np.int32).itemsize * layout.ciphertexts(self.images) * layout.images
        return (labels if self.labelled else 0) + 2 * self.names


def check_images(reader: Reader) -> ImagesHeader:
    """The header of a file of kind IMAGES, and the shapes of its tensors, without reading any.

    Raises:
        FormatError: they do not fit together.
        SecurityError: parameters above the security table.
    """
    task, key_id = read_task(reader.header)
    images = header_int(reader.header, "images", 1, LARGEST_COUNT)
    seeded, labelled = header_bool(reader.header, "seeded"), header_bool(reader.header, "labelled")
    expected = _shapes(task, task.circuit.layout.ciphertexts(images), seeded, labelled)
    for name, (dtype, shape) in expected.items():
        reader.expect(name, dtype, shape)
    names = reader.expect("names", np.uint8, (None,))[0]
    reader.expect_only([*expected, "names"])
    return ImagesHeader(task, key_id, images, seeded, labelled, names)


def look_at_images(path: str | os.PathLike[str]) -> ImagesHeader:
    """The header of a file of kind IMAGES, without its body. Raises as `check_images`."""
    with Reader.open(Path(path), Kind.IMAGES, verify=False) as reader:
        return check_images(reader)


def _check_labels(labels: NDArray[np.int32], images: int, task: PublicTask) -> None:
    flat = labels.reshape(-1)
    if flat[:images].min() < 0 or flat[:images].max() >= task.spec.classes or (flat[images:] != NO_IMAGE).any():
        raise FormatError(f"the labels are not class numbers 0 to {task.spec.classes - 1} of {images} images")


def row_bytes(task: PublicTask, seeded: bool) -> tuple[int, int]:
    """Packed bytes of one ciphertext: its message half, and its seed or other half."""
    half = task.parameters.ciphertext_bytes(task.circuit.top, 1)
    return half, 32 if seeded else half


def _shapes(
    task: PublicTask, count: int, seeded: bool, labelled: bool
) -> dict[str, tuple[type[np.generic], tuple[int, ...]]]:
    half, other = row_bytes(task, seeded)
    shapes: dict[str, tuple[type[np.generic], tuple[int, ...]]] = {
        "message": (np.uint8, (count, half)),
        "seeds" if seeded else "uniform": (np.uint8, (count, other)),
    }
    if labelled:
        shapes["labels"] = (np.int32, (count, task.circuit.layout.images))
    return shapes


def write_images(
    path: str | os.PathLike[str],
    task: PublicTask,
    key_id: str,
    images: int,
    seeded: bool,
    labels: NDArray[np.int32] | None,
    names: bytes,
    rows: Iterable[Row],
) -> None:
    """Write a file of kind IMAGES, one ciphertext at a time as `rows` gives them."""
    count = task.circuit.layout.ciphertexts(images)
    header = {**task_header(task, key_id), "images": images, "seeded": seeded, "labelled": labels is not None}
    shapes = {**_shapes(task, count, seeded, labels is not None), "names": (np.uint8, (len(names),))}
    with Writer(Path(path), Kind.IMAGES, header, shapes) as writer:
        for message, other in rows:
            writer.write("message", message[None])
            writer.write("seeds" if seeded else "uniform", other[None])
        if labels is not None:
            writer.write("labels", labels)
        writer.write("names", np.frombuffer(names, np.uint8))


def pad_labels(task: PublicTask, numbers: NDArray[np.integer]) -> NDArray[np.int32]:
    """Class numbers (n,) to (ciphertexts, 2B), -1 where there is no image."""
    positions = task.circuit.layout.images
    table = np.full(task.circuit.layout.ciphertexts(len(numbers)) * positions, NO_IMAGE, np.int32)
    table[: len(numbers)] = numbers
    return table.reshape(-1, positions)


def same_task(items: Iterable[tuple[str, PublicTask, str]], *, any_recipe: bool = False) -> None:
    """Check that everything named belongs to one task and one key.

    items: (what it is, its task, its key id). any_recipe: a model may be of another recipe than the images' own task.
    Raises KeyMismatch.
    """
    first: tuple[str, PublicTask, str] | None = None
    for item in items:
        if first is None:
            first = item
        elif item[1].id != first[1].id and not (any_recipe and item[1].origin == first[1].origin):
            raise KeyMismatch(f"{item[0]} belongs to another task than {first[0]}; use files made from one task")
        elif item[2] != first[2]:
            raise KeyMismatch(f"{item[0]} is under another key than {first[0]}; use files made with one key pair")
