"""Encrypted models and replies: what a server gives back, in memory or in a file."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cipherlens.errors import FormatError
from cipherlens.learning.circuit import LARGEST_COUNT
from cipherlens.learning.task import PublicTask, read_task, task_header
from cipherlens.learning.training import EncryptedModel
from cipherlens.scheme.ciphertext import Ciphertext
from cipherlens.scheme.engine import Engine
from cipherlens.scheme.notebook import NotebookRepr
from cipherlens.wire.container import Kind, Reader, Writer, header_int
from cipherlens.wire.packed import pack_ciphertext, unpack_ciphertext

Packed = NDArray[np.uint8]

TABLE_LEVEL = 1
"""Tables that are only decrypted keep two primes: enough for their values, and a decryption uses no more."""

HEADER_BYTES = 1 << 16
"""More than the header of a model or reply takes, where a file's size is told in advance."""


@dataclass(frozen=True, eq=False)
class TrainedModel(NotebookRepr):
    """An encrypted model.

    Attributes:
        task, key_id: what it was trained for, and under which key.
        counts: int64 (k,), training images of each class.
        tables: packed ciphertexts: weights, right_hand_side, and where the learner has them residual and centres.
    """

    task: PublicTask
    key_id: str
    counts: NDArray[np.int64]
    tables: Mapping[str, Packed]

    def __repr__(self) -> str:
        return f"TrainedModel({self.task.spec.kind}, {self.counts.sum()} images, {self.nbytes:,} bytes, encrypted)"

    @property
    def nbytes(self) -> int:
        """Bytes of its ciphertexts."""
        return sum(table.nbytes for table in self.tables.values())

    @classmethod
    def of(
        cls, task: PublicTask, key_id: str, counts: NDArray[np.int64], model: EncryptedModel, engine: Engine
    ) -> TrainedModel:
        """Pack what training gave."""
        tables = {"weights": pack_ciphertext(engine, model.weights)}
        for name in ("right_hand_side", "residual", "centres"):
            ciphertext: Ciphertext | None = getattr(model, name)
            if ciphertext is not None:
                tables[name] = pack_ciphertext(engine, lowered(ciphertext))
        return cls(task, key_id, counts, tables)

    def weights(self, engine: Engine) -> Ciphertext:
        """W, at the level that classifying starts from. Raises FormatError when a residue is not below its prime."""
        circuit = self.task.circuit
        return unpack_ciphertext(engine, self.tables["weights"], 2, circuit.weight_level + 1, circuit.weight_scale)

    def lowered_tables(self, engine: Engine) -> dict[str, Packed]:
        """All tables at the lowest level that decrypts them: what a reply carries."""
        return {**self.tables, "weights": pack_ciphertext(engine, lowered(self.weights(engine)))}

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a file of kind MODEL."""
        header = {**task_header(self.task, self.key_id), "counts": self.counts.tolist()}
        shapes = {name: (table.dtype.type, table.shape) for name, table in self.tables.items()}
        with Writer(Path(path), Kind.MODEL, header, shapes) as writer:
            for name, table in self.tables.items():
                writer.write(name, table)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> TrainedModel:
        """Read a file of kind MODEL. Raises FormatError."""
        with Reader.open(Path(path), Kind.MODEL) as reader:
            task, key_id = read_task(reader.header)
            counts = read_counts(reader, task)
            tables = _read_tables(reader, table_levels(task, lowered=False), task)
            return cls(task, key_id, counts, tables)


@dataclass(frozen=True, eq=False)
class Reply(NotebookRepr):
    """Encrypted scores, and the encrypted tables of the model that the owner checks them with.

    Attributes:
        task, key_id, counts: of the model.
        images: queries.
        scores: uint8 (ciphertexts, bytes), packed.
        tables: the model's tables, lowered.
        names: the queries' names, sealed for the owner.
    """

    task: PublicTask
    key_id: str
    counts: NDArray[np.int64]
    images: int
    scores: Packed
    tables: Mapping[str, Packed]
    names: bytes

    def __repr__(self) -> str:
        return f"Reply({self.images} images, {self.nbytes:,} bytes, encrypted)"

    @property
    def nbytes(self) -> int:
        """Bytes of its ciphertexts."""
        return self.scores.nbytes + sum(table.nbytes for table in self.tables.values())

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a file of kind REPLY."""
        write_reply(path, self.task, self.key_id, self.counts, self.images, [self.scores], self.tables, self.names)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Reply:
        """Read a file of kind REPLY. Raises FormatError."""
        with Reader.open(Path(path), Kind.REPLY) as reader:
            task, key_id = read_task(reader.header)
            images = header_int(reader.header, "images", 1, LARGEST_COUNT)
            counts = read_counts(reader, task)
            reader.expect("scores", np.uint8, (task.circuit.layout.ciphertexts(images), score_bytes(task)))
            reader.expect("names", np.uint8, (None,))
            tables = _read_tables(reader, table_levels(task, lowered=True), task, {"scores", "names"})
            return cls(task, key_id, counts, images, reader.read("scores"), tables, reader.read("names").tobytes())


def write_reply(
    path: str | os.PathLike[str],
    task: PublicTask,
    key_id: str,
    counts: NDArray[np.int64],
    images: int,
    scores: Iterable[Packed],
    tables: Mapping[str, Packed],
    names: bytes,
) -> None:
    """Write a file of kind REPLY. The arguments are the fields of `Reply`, but for the scores.

    scores: uint8 (some, bytes) of consecutive ciphertexts, which go to the disk as they come.
    """
    header = {**task_header(task, key_id), "counts": counts.tolist(), "images": images}
    whole = {**tables, "names": np.frombuffer(names, np.uint8)}
    shapes = {name: (tensor.dtype.type, tensor.shape) for name, tensor in whole.items()}
    shapes["scores"] = (np.uint8, (task.circuit.layout.ciphertexts(images), score_bytes(task)))
    with Writer(Path(path), Kind.REPLY, header, shapes) as writer:
        for rows in scores:
            writer.write("scores", rows)
        for name, tensor in whole.items():
            writer.write(name, tensor)


def lowered(ciphertext: Ciphertext) -> Ciphertext:
    """At most TABLE_LEVEL, values and scale unchanged."""
    if ciphertext.level <= TABLE_LEVEL:
        return ciphertext
    return replace(ciphertext, data=np.ascontiguousarray(ciphertext.data[:, : TABLE_LEVEL + 1]))


def table_levels(task: PublicTask, *, lowered: bool) -> dict[str, int]:
    """Which tables a model of this task has, and the level each is stored at."""
    circuit = task.circuit
    levels = {"weights": circuit.weight_level, "right_hand_side": circuit.solve_level}
    if task.spec.solves:
        levels["residual"] = circuit.weight_level - 1
    if task.spec.kind != "ridge":
        levels["centres"] = circuit.solve_level
    return {n: min(v, TABLE_LEVEL) if lowered or n != "weights" else v for n, v in levels.items()}


def score_bytes(task: PublicTask) -> int:
    """Packed bytes of one ciphertext of scores."""
    return task.parameters.ciphertext_bytes(task.circuit.score_level, 2)


def model_bytes(task: PublicTask) -> int:
    """Bytes of a model's file at most."""
    return HEADER_BYTES + _tables_bytes(task, lowered=False)


def reply_bytes(task: PublicTask, images: int, names: int) -> int:
    """Bytes of a reply's file at most. task: of the model. names: bytes of the queries' sealed names."""
    scores = task.circuit.layout.ciphertexts(images) * score_bytes(task)
    return HEADER_BYTES + _tables_bytes(task, lowered=True) + scores + names


def _tables_bytes(task: PublicTask, *, lowered: bool) -> int:
    levels = table_levels(task, lowered=lowered).values()
    return sum(task.parameters.ciphertext_bytes(level, 2) for level in levels)


def read_counts(reader: Reader, task: PublicTask) -> NDArray[np.int64]:
    """The header's images of each class. Raises FormatError."""
    counts = reader.header.get("counts")
    if (
        not isinstance(counts, list)
        or len(counts) != task.spec.classes
        or not all(type(c) is int and 0 < c < LARGEST_COUNT for c in counts)
    ):
        raise FormatError(f"the counts in this file are not {task.spec.classes} positive numbers of images")
    return np.array(counts, np.int64)


def _read_tables(
    reader: Reader, levels: Mapping[str, int], task: PublicTask, others: set[str] | None = None
) -> dict[str, Packed]:
    for name, level in levels.items():
        reader.expect(name, np.uint8, (task.parameters.ciphertext_bytes(level, 2),))
    reader.expect_only(set(levels) | (others or set()))
    return {name: reader.read(name) for name in levels}
