"""Classifying encrypted queries: the server's side."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from cipherlens.learning.classifying import Classifier
from cipherlens.learning.encrypted_images import EncryptedImages, same_task
from cipherlens.learning.results import Packed, Reply, TrainedModel, score_bytes
from cipherlens.learning.training import Progress
from cipherlens.scheme.engine import Engine, usable_cores
from cipherlens.scheme.evaluator import Evaluator
from cipherlens.scheme.keys import EvaluationKeys
from cipherlens.server.checks import check_keys
from cipherlens.server.shards import Cluster, packed_scores


def classify(
    model: TrainedModel,
    data: EncryptedImages,
    evaluation: EvaluationKeys,
    *,
    threads: int | None = None,
    progress: Progress | None = None,
    engine: Engine | None = None,
    cluster: Cluster | None = None,
) -> Reply:
    """Encrypted scores of encrypted images under an encrypted model.

    Arguments as for `train`; of the evaluation keys only those of `Circuit.score_requests` are used. The same inputs give
    the same bytes on every machine, with any number of threads and on any cluster.

    Raises:
        KeyMismatch: model, data and keys that do not belong together.
        FormatError: a ciphertext that is not one.
        ServerError: the cluster failed.
    """
    same_task([("the model", model.task, model.key_id), ("the data", data.task, data.key_id)], any_recipe=True)
    task = model.task
    check_keys(task, model.key_id, evaluation, task.circuit.score_requests())
    engine = engine or Engine(task.parameters)
    threads = threads or usable_cores()
    classifier = Classifier.prepare(task.circuit, Evaluator(engine, evaluation, threads), model.weights(engine))
    count = len(data.rows)
    scores = np.empty((count, score_bytes(task)), np.uint8)
    done = 0

    def watch(ahead: int) -> None:
        if progress is not None:
            progress("classifying", (done + ahead) / count)

    if cluster is None:
        answers: Iterator[Packed] = (
            packed[None] for packed in packed_scores(data, classifier, engine, evaluation, threads)
        )
    else:
        answers = cluster.scores(classifier, data, evaluation, watch)
    for packed in answers:
        scores[done : done + len(packed)] = packed
        done += len(packed)
        watch(0)
    return Reply(task, model.key_id, model.counts, data.images, scores, model.lowered_tables(engine), data.names)
