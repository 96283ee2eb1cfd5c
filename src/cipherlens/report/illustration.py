"""Can a classifier learn anything from ciphertext bytes? An illustration, not a proof.

Every image is encrypted alone, as `encrypt` would encrypt a data set of one image, with fresh randomness. A logistic
regression is trained on bytes of these ciphertexts, once for the class and once for something as coarse as the mean
colour (its brightness); the same regression on the bytes of the clear pixels shows that it can learn. Each image is
judged by a regression that was trained on others. What security rests on is the hardness of ring learning with errors,
not on this.
"""

from __future__ import annotations

import importlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cipherlens.owner.encryption import SecretEncryptor
from cipherlens.owner.secret_key import SecretKey
from cipherlens.planning.task import Task
from cipherlens.scheme.ciphertext import Plaintext

SAMPLED = 2048
"""Bytes of each ciphertext that the regression sees, evenly spaced; all 0.6 MB of each would only add columns."""

PENALTY = 1e-2
"""C of scikit-learn's logistic regression, for ciphertexts and clear pixels alike."""

TOLERANCE = 1e-2
"""Of the gradient; a smaller one changes no share by more than two points and takes several times as long."""

FOLDS = 5
"""Parts of the images, each judged by a regression that was trained on the others."""

Bytes = NDArray[np.uint8]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class ByteTest:
    """One target of the regression: two halves of the images.

    Attributes:
        target: what it was to learn, in words.
        encrypted: share of right answers from ciphertext bytes, 0 to 1.
        clear: the same from the bytes of clear pixels.
        band: three standard deviations of a coin's share of right answers on as many images.
    """

    target: str
    encrypted: float
    clear: float
    band: float

    @property
    def at_chance(self) -> bool:
        """No better and no worse than a coin, which stays inside the band 997 times of 1,000."""
        return abs(self.encrypted - 0.5) <= self.band


def sample_ciphertexts(task: Task, secret: SecretKey, columns: Floats, threads: int) -> tuple[Bytes, int]:
    """Encrypt each row of columns (n, D) alone; returns (n, SAMPLED) bytes and the bytes that a ciphertext has."""
    encryptor = SecretEncryptor(secret)

    def one(row: Floats) -> tuple[Bytes, int]:
        message = _encrypt(task, encryptor, row[None])
        return message[np.linspace(0, message.size - 1, SAMPLED).astype(np.int64)], message.size

    with ThreadPoolExecutor(threads) as pool:
        rows = list(pool.map(one, columns))
    return np.stack([row for row, _ in rows]), rows[0][1]


def _encrypt(task: Task, encryptor: SecretEncryptor, columns: Floats) -> Bytes:
    """The packed message half of one ciphertext."""
    circuit = task.public.circuit
    scale = task.public.parameters.scales[circuit.top]
    encoded = encryptor.engine.encode(circuit.layout.pack(columns), scale, circuit.top + 1)
    return encryptor.row(Plaintext(encoded, scale), threads=1)[0]


def byte_test(target: str, encrypted: Bytes, clear: Bytes, truth: NDArray[np.bool_]) -> ByteTest:
    """Train on both tables (n, bytes) and test by cross-validation. truth: bool (n,), half of them true."""
    band = 3 * float(np.sqrt(0.25 / len(truth)))
    return ByteTest(target, _accuracy(encrypted, truth), _accuracy(clear, truth), band)


def _accuracy(table: Bytes, truth: NDArray[np.bool_]) -> float:
    scaled = (table.astype(np.float64) - 127.5) / 74.0  # the standard deviation of uniform bytes is 74
    learner: Any = importlib.import_module("sklearn.linear_model").LogisticRegression(
        C=PENALTY, tol=TOLERANCE, max_iter=2000
    )
    selection: Any = importlib.import_module("sklearn.model_selection")
    folds = selection.StratifiedKFold(FOLDS, shuffle=True, random_state=0)
    return float(np.mean(selection.cross_val_predict(learner, scaled, truth, cv=folds) == truth))


def flip_bit(content: bytes) -> tuple[bytes, int]:
    """A copy with its middle bit flipped, and the number of the byte that it is in."""
    place = len(content) // 2
    altered = bytearray(content)
    altered[place] ^= 1
    return bytes(altered), place
