"""Encrypting images for a task: with the secret key (half the size) or with the public key (contributors)."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from cipherlens.errors import InputError, KeyMismatch
from cipherlens.features.images import ImageSource
from cipherlens.features.labels import label_names, number_labels, read_labels
from cipherlens.features.whitening import check_features
from cipherlens.learning.encrypted_images import EncryptedImages, Row, pad_labels, write_images
from cipherlens.owner.randomness import fresh_error, fresh_ternary
from cipherlens.owner.secret_key import SecretKey, secret_ring
from cipherlens.planning.task import Task
from cipherlens.scheme.ciphertext import Ciphertext, Plaintext
from cipherlens.scheme.engine import Engine, usable_cores
from cipherlens.scheme.keys import PublicKey
from cipherlens.wire.packed import pack_ciphertext, pack_half
from cipherlens.wire.sealed import seal

Progress = Callable[[int, int], None]
"""Called with the number of images done and their total."""

Floats = NDArray[np.float64]


class Encryptor(Protocol):
    """Encrypts one plaintext to a packed row."""

    @property
    def engine(self) -> Engine:
        """The ring."""
        ...

    @property
    def key_id(self) -> str:
        """The key pair's name."""
        ...

    @property
    def seeded(self) -> bool:
        """Whether the uniform halves are seeds."""
        ...

    def row(self, plaintext: Plaintext, threads: int) -> Row:
        """A fresh encryption."""
        ...


@dataclass(frozen=True)
class SecretEncryptor:
    """Encrypts with the secret key; the uniform half is a seed."""

    secret: SecretKey
    seeded: bool = True

    @property
    def engine(self) -> Engine:
        """The ring."""
        return self.secret.engine

    @property
    def key_id(self) -> str:
        """The key pair's name."""
        return self.secret.key_id

    def row(self, plaintext: Plaintext, threads: int) -> Row:
        """Packed half and seed."""
        fresh = self.secret.encrypt_seeded(plaintext, threads)
        return pack_half(self.engine, fresh.data, threads), np.frombuffer(fresh.seed, np.uint8)


class PublicEncryptor:
    """Encrypts with the public key modulo Q P and divides by P, which leaves hardly more noise than a secret key does."""

    seeded = False

    def __init__(self, engine: Engine, key: PublicKey) -> None:
        self.engine, self.key, self.key_id = engine, key, key.key_id
        self._ring = secret_ring(engine)

    def encrypt(self, plaintext: Plaintext, threads: int = 1) -> Ciphertext:
        """A fresh ciphertext at the top level, where the plaintext must be."""
        n = self.engine.parameters.ring_dimension
        data = self.engine.ring.empty((2, plaintext.limbs, n))
        self._ring.public_encrypt(
            data, plaintext.data, self.key.data, fresh_ternary(n), fresh_error(n), fresh_error(n), threads
        )
        return Ciphertext(data, plaintext.scale)

    def row(self, plaintext: Plaintext, threads: int) -> Row:
        """Both packed halves."""
        packed = pack_ciphertext(self.engine, self.encrypt(plaintext, threads), threads)
        half = packed.size // 2
        return packed[:half], packed[half:]


def _columns(
    task: Task, images: Any, threads: int, progress: Progress | None
) -> Iterator[tuple[Sequence[str], Floats]]:
    return task.feature_map.batches(images, progress, threads=threads)


def _rows(
    task: Task, encryptor: Encryptor, batches: Iterable[tuple[Sequence[str], Floats]], threads: int
) -> Iterator[Row]:
    """Columns, in whatever portions they come, regrouped to full ciphertexts and encrypted."""
    layout, top = task.public.circuit.layout, task.public.circuit.top
    scale = task.public.parameters.scales[top]
    engine = encryptor.engine
    waiting: list[Floats] = []
    held = 0

    def encrypt(block: Floats) -> Row:
        slots = layout.pack(block)
        return encryptor.row(Plaintext(engine.encode(slots, scale, top + 1, threads), scale), threads)

    for _, columns in batches:
        waiting.append(columns)
        held += len(columns)
        if held < layout.images:
            continue
        table = np.concatenate(waiting)
        full = held - held % layout.images
        for start in range(0, full, layout.images):
            yield encrypt(table[start : start + layout.images])
        waiting, held = [table[full:]], held - full
    if held:
        yield encrypt(np.concatenate(waiting))


@dataclass(frozen=True)
class Prepared:
    """Images with their labels, checked and ready to be encrypted: what the server will see is already decided."""

    source: Any = field(repr=False)
    images: int
    numbers: NDArray[np.int64] | None = field(repr=False)
    names: bytes = field(repr=False)


def prepare(task: Task, images: Any, labels: Any, labelled: bool, *, skip_broken: bool = False) -> Prepared:
    """Read names and labels, check them against the task's classes, and put the names into one text to seal.

    Raises InputError for images or labels that cannot be used, and PlanError for more than one training can average.
    """
    classes = task.notes.classes
    if task.feature_map.base.kind == "table":
        source: Any = check_features(images)
        names = [str(i) for i in range(len(source))]
        numbers = number_labels(label_names(labels), classes).numbers if labelled and labels is not None else None
        if labelled and numbers is None:
            raise InputError("a table of numbers needs labels; give one for each row, or encrypt it without labels")
        count = len(source)
    else:
        source = ImageSource.of(images, skip_broken=skip_broken)
        names, count = list(source.names), len(source)
        numbers = read_labels(source, labels, classes=classes).numbers if labelled else None
    if count == 0:
        raise InputError("there are no images to encrypt; give at least one")
    if numbers is not None and len(numbers) != count:
        raise InputError(f"{count} images need {count} labels, not {len(numbers)}")
    if numbers is not None:
        task.public.circuit.require_averaged(count)
    return Prepared(source, count, numbers, json.dumps([as_unicode(name) for name in names]).encode())


def as_unicode(name: str) -> str:
    """A file's name as text that JSON can carry: bytes that are no UTF-8 become \\xff and the like."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def encrypt_images(
    task: Task,
    encryptor: Encryptor,
    sealing_key: bytes,
    prepared: Prepared,
    *,
    path: str | os.PathLike[str] | None = None,
    threads: int | None = None,
    progress: Progress | None = None,
) -> EncryptedImages | None:
    """Encrypt prepared images: into a file, one ciphertext at a time, or into memory when no path is given.

    sealing_key: the owner's X25519 public key, 32 bytes. Raises KeyMismatch when key and task differ in parameters.
    """
    if encryptor.engine.parameters.id != task.public.parameters.id:
        raise KeyMismatch("these keys were made for other parameters than the task's; create keys from this task")
    threads = threads or usable_cores()
    names = seal(sealing_key, prepared.names)
    labels = None if prepared.numbers is None else pad_labels(task.public, prepared.numbers)
    rows = _rows(task, encryptor, _columns(task, prepared.source, threads, progress), threads)
    if path is not None:
        write_images(Path(path), task.public, encryptor.key_id, prepared.images, encryptor.seeded, labels, names, rows)
        return None
    return EncryptedImages(task.public, encryptor.key_id, prepared.images, encryptor.seeded, labels, names, list(rows))
