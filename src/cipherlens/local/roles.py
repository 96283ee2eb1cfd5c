"""Owner and server side by side in one process: what an encrypted estimator holds between `fit` and `predict`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

import cipherlens.server as server
from cipherlens.learning.results import TrainedModel
from cipherlens.learning.twin import ClearModel
from cipherlens.owner.keys import Keys
from cipherlens.planning.task import Task


@dataclass(frozen=True, eq=False, repr=False)
class Roles:
    """Keys and an encrypted model. Holds a secret key: it is neither pickled nor copied.

    Attributes:
        keys: the owner's.
        model: the server's.
        threads: of every step, None for the cores.
    """

    keys: Keys
    model: TrainedModel
    threads: int | None

    @classmethod
    def train(cls, task: Task, images: Any, labels: Any, threads: int | None) -> Roles:
        """Make keys, encrypt, train on ciphertexts."""
        keys = Keys.create(task, threads=threads)
        data = keys.encrypt(images, labels, labelled=True, threads=threads)
        return cls(keys, server.train(data, keys.evaluation, threads=threads), threads)

    def open(self) -> ClearModel:
        """The model, decrypted by its owner. Raises RangeError when training left its planned range."""
        return self.keys.secrets.open(self.model)

    def scores(self, images: Any) -> NDArray[np.float64]:
        """Encrypt queries, classify them, decrypt: (n, k) scores."""
        queries = self.keys.encrypt(images, threads=self.threads)
        reply = server.classify(self.model, queries, self.keys.evaluation, threads=self.threads)
        return self.keys.decrypt(reply).scores

    def __reduce__(self) -> tuple[object, ...]:
        raise TypeError("secret keys are never pickled or copied")
