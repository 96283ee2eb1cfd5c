"""Classifying encrypted queries: the server's side."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np

from cipherlens.learning.classifying import Classifier
from cipherlens.learning.encrypted_images import EncryptedImages, same_task
from cipherlens.learning.results import Packed, Reply, TrainedModel, score_bytes
from cipherlens.learning.training import Progress
from cipherlens.scheme.engine import Engine, usable_cores
from cipherlens.scheme.evaluator import Evaluator
from cipherlens.scheme.keys import EvaluationKeys
from cipherlens.server.checks import check_keys
from cipherlens.wire.packed import pack_ciphertext


def classify(
    model: TrainedModel,
    data: EncryptedImages,
    evaluation: EvaluationKeys,
    *,
    threads: int | None = None,
    progress: Progress | None = None,
    engine: Engine | None = None,
) -> Reply:
    """Encrypted scores of encrypted images under an encrypted model.

    Arguments as for `train`. The same inputs give the same bytes on every machine and with any number of threads.

    Raises:
        KeyMismatch: model, data and keys that do not belong together.
        FormatError: a ciphertext that is not one.
    """
    same_task([("the model", model.task, model.key_id), ("the data", data.task, data.key_id)])
    task = model.task
    check_keys(task, model.key_id, evaluation)
    engine = engine or Engine(task.parameters)
    threads = threads or usable_cores()
    classifier = Classifier.prepare(task.circuit, Evaluator(engine, evaluation, threads), model.weights(engine))
    single = Evaluator(engine, evaluation, 1)
    count = len(data.rows)
    scores = np.empty((count, score_bytes(task)), np.uint8)
    done = 0

    def answer(index: int) -> tuple[int, Packed]:
        query = data.batch(engine, index).ciphertext
        return index, pack_ciphertext(engine, classifier.scores(single, query))

    with ThreadPoolExecutor(threads) as pool:
        for index, packed in pool.map(answer, range(count)):
            scores[index] = packed
            done += 1
            if progress is not None:
                progress("classifying", done / count)
    return Reply(task, model.key_id, model.counts, data.images, scores, model.lowered_tables(engine), data.names)
