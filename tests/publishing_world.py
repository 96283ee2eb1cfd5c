"""What tests of publishing share: an owner with a service, and trainers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from service_world import Service, rows, serving, token

import cipherlens as cl
from cipherlens.client.publishing import Publication, PublishingConnection, Submission
from cipherlens.client.recomputing import Recomputed
from cipherlens.learning.encrypted_images import EncryptedImages
from cipherlens.owner.keys import Keys
from cipherlens.service.database import Database
from cipherlens.service.settings import Settings
from cipherlens.service.tokens import Scope, create_token

EACH = 6
STEPS = 2


@dataclass(frozen=True)
class World:
    """An owner with everything that it published, in memory and on disk, and the service that holds it."""

    service: Service
    keys: Keys
    data: tuple[EncryptedImages, ...]
    holdout: EncryptedImages
    truth: NDArray[np.int64]
    owner_token: str

    def connect(self, secret: str) -> PublishingConnection:
        return cl.connect(self.service.url, secret)

    def publish(self, server: PublishingConnection, **more: Any) -> Publication:
        options: dict[str, Any] = {"trainers": ["ada", "ben"], "submissions_each": EACH} | more
        return server.publish(self.data, self.keys.evaluation, self.holdout, **options)

    def trainer(self, publication: Publication, name: str) -> str:
        return trainer_token(self.service.data, publication.id, name)

    def recompute(self, server: PublishingConnection, submission: Submission) -> Recomputed:
        return server.recompute(submission, self.data, self.keys.evaluation, self.holdout)

    def accuracy(self, recomputed: Recomputed) -> float:
        return float(np.mean(self.keys.decrypt(recomputed.reply, recomputed.recipe).numbers == self.truth))


def trainer_token(data: Path, publication_id: str, name: str) -> str:
    database = Database(data)
    try:
        return create_token(database, Settings(data=data), name, Scope.TRAINER, publication_id=publication_id)
    finally:
        database.close()


@contextmanager
def made_world(data_folder: Path) -> Iterator[World]:
    """A service with an owner whose files are made, and nothing published yet."""
    table, labels = rows(256, 1)
    task = cl.plan(table[:200], labels[:200], features="table", threads=1, steps=STEPS, dimension=32)
    keys = Keys.create(task, threads=2)
    data = tuple(keys.encrypt(table[part], labels[part]) for part in (slice(0, 128), slice(128, 256)))
    hidden, truth = rows(80, 2)
    classes = task.notes.classes
    with serving(data_folder) as service:
        yield World(
            service, keys, data, keys.encrypt(hidden), np.array([classes.index(name) for name in truth]),
            token(service.data),
        )  # fmt: skip
