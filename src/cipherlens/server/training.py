"""Training on encrypted images: the server's side."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice

import numpy as np

from cipherlens.errors import InputError
from cipherlens.learning.encrypted_images import EncryptedImages, same_task
from cipherlens.learning.recipes import Recipe
from cipherlens.learning.results import TrainedModel
from cipherlens.learning.training import PASS_SHARE, Checkpoints, Progress, Trainer, merge
from cipherlens.scheme.engine import Engine, usable_cores
from cipherlens.scheme.evaluator import Evaluator
from cipherlens.scheme.keys import EvaluationKeys
from cipherlens.server.checks import check_keys
from cipherlens.server.shards import Cluster


def train(
    data: EncryptedImages | Sequence[EncryptedImages],
    evaluation: EvaluationKeys,
    *,
    threads: int | None = None,
    progress: Progress | None = None,
    engine: Engine | None = None,
    checkpoints: Checkpoints | None = None,
    cluster: Cluster | None = None,
    recipe: Recipe | None = None,
) -> TrainedModel:
    """Train the task's learner on encrypted images; the result is encrypted too.

    data: one data set or several of one task and key. evaluation: the owner's evaluation keys. threads: cores by
    default. progress: called with the stage and the share of all work done. engine: made when None. checkpoints: where
    to leave sums on the way, and to go on from when there are any. cluster: other machines for the pass over the
    images, see `open_cluster`; the solve is done here. recipe: another learner than the task's own.

    The same inputs give the same bytes on every machine, with any number of threads and on any cluster.

    Raises:
        KeyMismatch: data, keys or tasks that do not belong together.
        InputError: no labels, or a class without images.
        PlanError: more images than the task's scales can average, a recipe that the task's ring does not carry, or a
            cluster whose nodes have too little room.
        FormatError: a ciphertext that is not one.
        ServerError: the cluster failed.
    """
    sets = [data] if isinstance(data, EncryptedImages) else list(data)
    if not sets:
        raise InputError("training needs at least one data set")
    same_task((f"data set {i + 1}", s.task, s.key_id) for i, s in enumerate(sets))
    if len({s.names for s in sets}) < len(sets):  # sealed with fresh randomness, so equal for copies alone
        raise InputError("one data set is given twice, so its images would count twice; give each once")
    task = sets[0].task if recipe is None else recipe.applied(sets[0].task)
    check_keys(task, sets[0].key_id, evaluation)
    counts = np.sum([s.counts() for s in sets], axis=0)
    engine = engine or Engine(task.parameters)
    evaluator = Evaluator(engine, evaluation, threads or usable_cores())
    trainer = Trainer(task.circuit, evaluator, counts)
    sums = None if checkpoints is None else checkpoints.load()
    if sums is not None:
        trainer.restore(sums)
    total = sum(len(s.rows) for s in sets)
    if cluster is None:
        places = ((images, index) for images in sets for index in range(len(images.rows)))
        batches = (images.batch(engine, index) for images, index in islice(places, trainer.state().batches, None))
        trained = trainer.train(batches, total, progress, checkpoints)
    else:
        _sum_elsewhere(trainer, cluster, sets, evaluation, total, progress, checkpoints)
        trained = trainer.finish(progress)
    return TrainedModel.of(task, sets[0].key_id, counts, trained, engine)


def _sum_elsewhere(
    trainer: Trainer,
    cluster: Cluster,
    sets: Sequence[EncryptedImages],
    evaluation: EvaluationKeys,
    total: int,
    progress: Progress | None,
    checkpoints: Checkpoints | None,
) -> None:
    """The pass over the images on a cluster, whose sums the trainer takes in one after the other."""

    def watch(ahead: int) -> None:
        if progress is not None:
            progress("images", PASS_SHARE * (trainer.state().batches + ahead) / total)

    evaluator = trainer.evaluator
    for sums in cluster.sums(sets, trainer.counts, evaluation, trainer.state().batches, watch):
        so_far = trainer.state()
        trainer.restore(merge(evaluator, [so_far, sums] if so_far.batches else [sums]))
        if checkpoints is not None and checkpoints.due():
            checkpoints.save(trainer.state())
        watch(0)
