"""What a run of the demonstration leaves for its report: plain values, no arrays of secrets, no keys."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypedDict

import numpy as np
from numpy.typing import NDArray

from cipherlens.planning.cost import Cost
from cipherlens.report.illustration import ByteTest
from cipherlens.report.splits import Splits

Pixels = NDArray[np.uint8]


class Summary(TypedDict):
    """The record of summary.json; seconds are wall times, bytes and shares as named."""

    task: str
    learner: str
    images: int
    clear_subsample: int
    features: str
    ring_dimension: int
    levels: int
    key_switches: int
    threads: int
    kernel: str
    accuracy_encrypted: float
    accuracy_clear: float
    accuracy_reference: float
    accuracy_linear_means: float
    agreement: float
    max_weight_error: float
    feature_seconds: float
    keygen_seconds: float
    encrypt_seconds: float
    train_seconds: float
    classify_seconds: float
    clear_seconds: float
    slowdown: float
    forecast_seconds: float
    peak_memory_mb: float
    upload_bytes: int
    evaluation_key_bytes: int


@dataclass(frozen=True, eq=False)
class Answered:
    """One decrypted image.

    Attributes:
        name: of the file.
        pixels: uint8 (h, w[, 3]).
        label: the decrypted class.
        score: of that class, larger is surer.
        truth: the right class, None for a user's own picture.
        original: what is known of the picture beyond its class, or an empty text.
    """

    name: str
    pixels: Pixels
    label: str
    score: float
    truth: str | None = None
    original: str = ""

    @property
    def wrong(self) -> bool:
        """Decrypted under another class than the right one."""
        return self.truth is not None and self.truth != self.label


@dataclass(frozen=True)
class Holding:
    """Something that a party held: what, its bytes (None for what is part of another file), and which parties."""

    what: str
    size: int | None
    owner: bool
    server: bool


@dataclass(frozen=True)
class Refusal:
    """Something that was tried, the command that met it, and the one sentence it answered with."""

    tried: str
    command: str
    sentence: str


@dataclass(frozen=True)
class Seen:
    """What the server saw of an image.

    Attributes:
        image: the image.
        file: the server's file that it is in.
        offset: of the first byte shown in that file.
        content: bytes of the ciphertext from there on.
        size: bytes of the whole ciphertext. images: how many images share it.
    """

    image: Answered
    file: str
    offset: int
    content: bytes
    size: int
    images: int


@dataclass(frozen=True)
class ServerWatch:
    """What the server's processes did.

    Attributes:
        opened: files of the server's folder, relative to it, in the order of their first opening.
        outside: all other files they opened: Python, its libraries, the system.
        forbidden: those of both that lie in a folder of the owner or a stranger, or are secret keys: none.
        modules: the modules that the server's processes loaded of the owner's half: none.
        runs: how many times training and classifying ran. same_bytes: whether each time with the same bytes.
    """

    opened: tuple[str, ...]
    outside: tuple[str, ...]
    forbidden: tuple[str, ...]
    modules: tuple[str, ...]
    runs: int
    same_bytes: bool


@dataclass(frozen=True, eq=False)
class Demonstration:
    """Everything that the report and the terminal show."""

    summary: Summary
    dimension: int
    steps: int
    splits: Splits
    forecast: Cost
    classes: tuple[str, ...]
    answers: tuple[Answered, ...]
    photos: tuple[Answered, ...]
    photo_seconds: float
    holdings: tuple[Holding, ...]
    watch: ServerWatch
    seen: Seen
    ciphertext_bytes: int
    byte_tests: tuple[ByteTest, ...]
    refusals: tuple[Refusal, ...]
    date: str
    seconds: float
