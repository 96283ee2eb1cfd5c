"""Training on encrypted images: the server's side."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain

import numpy as np

from cipherlens.errors import InputError
from cipherlens.learning.encrypted_images import EncryptedImages, same_task
from cipherlens.learning.results import TrainedModel
from cipherlens.learning.training import Batch, Progress, Trainer
from cipherlens.scheme.engine import Engine, usable_cores
from cipherlens.scheme.evaluator import Evaluator
from cipherlens.scheme.keys import EvaluationKeys
from cipherlens.server.checks import check_keys


def train(
    data: EncryptedImages | Sequence[EncryptedImages],
    evaluation: EvaluationKeys,
    *,
    threads: int | None = None,
    progress: Progress | None = None,
    engine: Engine | None = None,
) -> TrainedModel:
    """Train the task's learner on encrypted images; the result is encrypted too.

    data: one data set or several of one task and key. evaluation: the owner's evaluation keys. threads: cores by
    default. progress: called with the stage and the share of all work done. engine: made when None.

    The same inputs give the same bytes on every machine and with any number of threads.

    Raises:
        KeyMismatch: data, keys or tasks that do not belong together.
        InputError: no labels, or a class without images.
        FormatError: a ciphertext that is not one.
    """
    sets = [data] if isinstance(data, EncryptedImages) else list(data)
    if not sets:
        raise InputError("training needs at least one data set")
    same_task((f"data set {i + 1}", s.task, s.key_id) for i, s in enumerate(sets))
    task = sets[0].task
    check_keys(task, sets[0].key_id, evaluation)
    counts = np.sum([s.counts() for s in sets], axis=0)
    engine = engine or Engine(task.parameters)
    evaluator = Evaluator(engine, evaluation, threads or usable_cores())
    batches: Iterator[Batch] = chain.from_iterable(s.batches(engine) for s in sets)
    trained = Trainer(task.circuit, evaluator, counts).train(batches, sum(len(s.rows) for s in sets), progress)
    return TrainedModel.of(task, sets[0].key_id, counts, trained, engine)
