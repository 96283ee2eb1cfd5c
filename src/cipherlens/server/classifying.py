"""Classifying encrypted queries: the server's side."""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator
from contextlib import closing

import numpy as np

from cipherlens.learning.classifying import Classifier
from cipherlens.learning.encrypted_images import EncryptedImages, same_task
from cipherlens.learning.results import Packed, Reply, TrainedModel, score_bytes, write_reply
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
    engine = _engine(model, data, evaluation, engine)
    answers = _answers(model, data, evaluation, engine, threads, progress, cluster)
    scores = np.empty((len(data.rows), score_bytes(model.task)), np.uint8)
    done = 0
    for packed in answers:
        scores[done : done + len(packed)] = packed
        done += len(packed)
    tables = model.lowered_tables(engine)
    return Reply(model.task, model.key_id, model.counts, data.images, scores, tables, data.names)


def classify_to_file(
    path: str | os.PathLike[str],
    model: TrainedModel,
    data: EncryptedImages,
    evaluation: EvaluationKeys,
    *,
    threads: int | None = None,
    progress: Progress | None = None,
    engine: Engine | None = None,
    cluster: Cluster | None = None,
) -> None:
    """As `classify`, with the same bytes as its reply's `save`, a few ciphertexts at a time: memory does not grow with
    the number of images.

    Raises:
        InputError: the file cannot be written.
        KeyMismatch, FormatError, ServerError: as `classify`; there is no file then.
    """
    engine = _engine(model, data, evaluation, engine)
    tables = model.lowered_tables(engine)
    with closing(_answers(model, data, evaluation, engine, threads, progress, cluster)) as answers:
        write_reply(path, model.task, model.key_id, model.counts, data.images, answers, tables, data.names)


def _engine(model: TrainedModel, data: EncryptedImages, evaluation: EvaluationKeys, engine: Engine | None) -> Engine:
    """For a model, data and keys that belong together. Raises KeyMismatch when they do not."""
    same_task([("the model", model.task, model.key_id), ("the data", data.task, data.key_id)], any_recipe=True)
    check_keys(model.task, model.key_id, evaluation, model.task.circuit.score_requests())
    return engine or Engine(model.task.parameters)


def _answers(
    model: TrainedModel,
    data: EncryptedImages,
    evaluation: EvaluationKeys,
    engine: Engine,
    threads: int | None,
    progress: Progress | None,
    cluster: Cluster | None,
) -> Generator[Packed, None, None]:
    """Packed scores of consecutive ciphertexts, uint8 (some, score_bytes)."""
    threads = threads or usable_cores()
    classifier = Classifier.prepare(model.task.circuit, Evaluator(engine, evaluation, threads), model.weights(engine))
    done = 0

    def watch(ahead: int) -> None:
        if progress is not None:
            progress("classifying", (done + ahead) / len(data.rows))

    if cluster is None:
        answers: Iterator[Packed] = (
            packed[None] for packed in packed_scores(data, classifier, engine, evaluation, threads)
        )
    else:
        answers = cluster.scores(classifier, data, evaluation, watch)
    for packed in answers:
        yield packed
        done += len(packed)
        watch(0)
