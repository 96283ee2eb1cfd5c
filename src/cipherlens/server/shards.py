"""Training and classifying in shards: how the work is cut, what one machine does with a shard, what a cluster offers.

Everything a shard needs travels with it, and what it gives depends on nothing else. Sums of shards are exact (see
`cipherlens.learning.training.merge`), scores belong to one ciphertext each: the result is that of one machine, bit for
bit, however the work was cut and however often a shard was computed.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from cipherlens.learning.classifying import Classifier
from cipherlens.learning.encrypted_images import EncryptedImages
from cipherlens.learning.results import Packed
from cipherlens.learning.training import GROUP, Sums, Trainer, merge
from cipherlens.scheme.engine import Engine
from cipherlens.scheme.evaluator import Evaluator
from cipherlens.scheme.keys import EvaluationKeys
from cipherlens.scheme.parameters import Parameters
from cipherlens.wire.packed import pack_ciphertext

AHEAD = 2
"""Ciphertexts for each thread that may be scored or wait before the first of them is taken."""

Watch = Callable[[int], None]
"""Called several times a second with the ciphertexts that are done beyond those of the results so far; it may raise."""

Place = tuple[int, range]
"""Some ciphertexts: the number of the data set, and which of its rows."""


class Cluster(Protocol):
    """Other machines that compute shards. Results come in order, and when the iteration ends early, work is stopped."""

    def sums(
        self,
        sets: Sequence[EncryptedImages],
        counts: NDArray[np.int64],
        evaluation: EvaluationKeys,
        start: int,
        watch: Watch,
    ) -> Iterator[Sums]:
        """Sums of consecutive spans of all ciphertexts from the `start`-th on."""

    def scores(
        self, classifier: Classifier, data: EncryptedImages, evaluation: EvaluationKeys, watch: Watch
    ) -> Iterator[Packed]:
        """Packed scores of consecutive ciphertexts, uint8 (some, score_bytes)."""


def cut(sizes: Sequence[int], start: int, most: int) -> list[Place]:
    """All ciphertexts from the `start`-th on in consecutive places, none of which spans two data sets.

    sizes: ciphertexts of each data set. most: ciphertexts of one place at most.
    """
    places, before = [], 0
    for number, size in enumerate(sizes):
        first = min(max(start - before, 0), size)
        places += [(number, range(at, min(at + most, size))) for at in range(first, size, most)]
        before += size
    return places


def shard_size(total: int, slots: int, row_bytes: int, room: int) -> int:
    """Ciphertexts of a shard, in groups as the sums take them: large, as each shard gives sums that must be moved.

    total: ciphertexts. slots: shards that are computed side by side. row_bytes: packed, of one ciphertext. room: bytes
    that the shards in flight, two for each slot, may take together.
    """
    even, fitting = -(-total // slots), room // (2 * slots * row_bytes)
    return max(1, min(-(-even // GROUP), fitting // GROUP)) * GROUP


def sum_shard(shard: EncryptedImages, counts: NDArray[np.int64], evaluation: EvaluationKeys, threads: int) -> Sums:
    """One shard's share of the pass over the images. counts: of all images of the training, as for `Trainer`.

    Raises:
        FormatError: a ciphertext that is not one.
    """
    engine = Engine(shard.task.parameters)
    trainer = Trainer(shard.task.circuit, Evaluator(engine, evaluation, threads), counts)
    for _ in trainer.take(shard.batches(engine)):
        continue
    return trainer.state()


def merge_shards(parameters: Parameters, threads: int, *parts: Sums) -> Sums:
    """The sums of several shards."""
    return merge(Evaluator(Engine(parameters), None, threads), parts)


def score_shard(shard: EncryptedImages, classifier: Classifier, evaluation: EvaluationKeys, threads: int) -> Packed:
    """Packed scores of one shard, uint8 (ciphertexts, score_bytes). Raises FormatError as `sum_shard`."""
    return np.stack(list(packed_scores(shard, classifier, Engine(shard.task.parameters), evaluation, threads)))


def packed_scores(
    data: EncryptedImages, classifier: Classifier, engine: Engine, evaluation: EvaluationKeys, threads: int
) -> Iterator[Packed]:
    """Packed scores of each ciphertext in turn, uint8 (score_bytes,); memory does not grow with their number.

    Raises FormatError as `sum_shard`.
    """
    single = Evaluator(engine, evaluation, 1)

    def answer(index: int) -> Packed:
        return pack_ciphertext(engine, classifier.scores(single, data.batch(engine, index).ciphertext))

    waiting: deque[Future[Packed]] = deque()
    with ThreadPoolExecutor(threads) as pool:
        try:
            for index in range(len(data.rows)):
                if len(waiting) == AHEAD * threads:
                    yield waiting.popleft().result()
                waiting.append(pool.submit(answer, index))
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()
