"""Shards on a Ray cluster.

The evaluation keys are put into Ray's object store once and reach each node once; its tasks read them from shared
memory. So do the packed ciphertexts of a shard. Tasks of one wave, a shard for each slot of the cluster, give sums that
further tasks merge, four at a time, on the nodes; the driver receives one sum for each wave. Two waves are in flight,
which bounds memory. Until a wave's result has arrived its inputs are kept, so that Ray can compute again what a lost
process or node held.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from types import TracebackType
from typing import Any, Generic, TypeVar

import numpy as np
import ray
from numpy.typing import NDArray

from cipherlens import __version__
from cipherlens.errors import CipherlensError, PlanError, ServerError
from cipherlens.learning.circuit import Circuit
from cipherlens.learning.classifying import Classifier
from cipherlens.learning.encrypted_images import EncryptedImages, row_bytes
from cipherlens.learning.results import Packed
from cipherlens.learning.training import GROUP, Sums
from cipherlens.scheme.engine import usable_cores
from cipherlens.scheme.keys import EvaluationKeys
from cipherlens.server.shards import Place, Watch, cut, merge_shards, score_shard, shard_size, sum_shard

T = TypeVar("T")

FAN_IN = 4
"""Sums that one task merges."""

RETRIES = 5
"""How often a task whose process or node died is started again; a cluster that loses more than that is ill."""

POLL_SECONDS = 0.2
CONNECT_SECONDS = 5.0
STORE_SHARE = 0.25
"""Of this machine's memory, for the object store of a Ray that is started here."""

INPUT_SHARE = 0.25
"""Of a node's object store, for encrypted images; the rest is for keys and sums."""

ENVIRONMENT = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}
"""Nothing is reported to anyone; and the second silences a warning about graphics cards."""


@dataclass(frozen=True)
class _Wave(Generic[T]):
    """Tasks whose one result is awaited: `inputs` in the object store, `tasks` and the ciphertexts of each."""

    inputs: Sequence[Any]
    tasks: Sequence[Any]
    sizes: Sequence[int]
    result: Any


class RayCluster:
    """A connection to a Ray cluster, or a Ray of its own. One at a time in a process, as Ray has it.

    Attributes:
        threads: cores that one shard takes.
        slots: shards that the cluster computes side by side.
    """

    def __init__(self, address: str | None, *, threads: int | None = None, shard: int | None = None) -> None:
        """Join or start.

        address: HOST:PORT of a running cluster that this machine belongs to; None starts Ray here. threads: cores that
        one shard takes; by default up to four, as more make sums no faster. shard: ciphertexts in one at most; by
        default what the object stores have room for.

        Raises:
            ServerError: no cluster answers there, or one of other versions, or no node has that many cores.
        """
        os.environ.update(ENVIRONMENT)
        options: dict[str, Any] = {"include_dashboard": False}
        if address is None:
            memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
            options |= {"num_cpus": usable_cores(), "object_store_memory": int(STORE_SHARE * memory)}
        else:
            _knock(address)
            options = {"address": address}
        with _own_signals():
            try:
                ray.init(**options, log_to_driver=False, logging_level=logging.CRITICAL)
            except (RuntimeError, ValueError, ConnectionError, ray.exceptions.RayError) as error:
                where = "on this machine" if address is None else f"at {address}"
                self.close()
                raise ServerError(f"there is no joining the Ray cluster {where}: {_line(error)}") from None
        try:
            nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
            cores = [int(node.get("CPU", 0)) for node in nodes]
            self.threads = threads or max(1, min([GROUP, *(c for c in cores if c)]))
            self.slots = sum(c // self.threads for c in cores)
            if not self.slots:
                raise ServerError(f"no node of the cluster has {self.threads} cores; the largest has {max(cores)}")
            self._store = int(min(node.get("object_store_memory", 0) for node in nodes))
        except BaseException:
            self.close()
            raise
        self._shard = shard
        self._work = ray.remote(num_cpus=self.threads, max_retries=RETRIES)(_on_node)
        self._merge = ray.remote(num_cpus=0, max_retries=RETRIES)(_on_node)

    def __enter__(self) -> RayCluster:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Leave the cluster; a Ray that was started here ends."""
        ray.shutdown()

    # ---- what a cluster does ------------------------------------------------------------------------------------

    def sums(
        self,
        sets: Sequence[EncryptedImages],
        counts: NDArray[np.int64],
        evaluation: EvaluationKeys,
        start: int,
        watch: Watch,
    ) -> Iterator[Sums]:
        """See `cipherlens.server.shards.Cluster`.

        Raises:
            PlanError: a node's object store is too small.
            ServerError: the cluster failed.
        """
        task = sets[0].task
        self._check_room(sum_bytes(task.circuit), evaluation)
        places = self._cut(sets, start)
        keys = ray.put(evaluation)

        def wave(group: list[Place]) -> _Wave[Sums]:
            inputs = [ray.put(sets[number].part(span)) for number, span in group]
            tasks = [self._work.remote(__version__, sum_shard, i, counts, keys, self.threads) for i in inputs]
            level = tasks
            while len(level) > 1:
                fours = [level[i : i + FAN_IN] for i in range(0, len(level), FAN_IN)]
                level = [self._merge.remote(__version__, merge_shards, task.parameters, 1, *four) for four in fours]
            return _Wave(inputs, tasks, [len(span) for _, span in group], level[0])

        yield from _in_order((wave(group) for group in _groups(places, self.slots)), 2, watch)

    def scores(
        self, classifier: Classifier, data: EncryptedImages, evaluation: EvaluationKeys, watch: Watch
    ) -> Iterator[Packed]:
        """See `cipherlens.server.shards.Cluster`. Raises as `sums`."""
        self._check_room(0, evaluation)
        keys, shared = ray.put(evaluation), ray.put(classifier)

        def wave(span: range) -> _Wave[Packed]:
            shard = ray.put(data.part(span))
            task = self._work.remote(__version__, score_shard, shard, shared, keys, self.threads)
            return _Wave([shard], [task], [len(span)], task)

        yield from _in_order((wave(span) for _, span in self._cut([data], 0)), 2 * self.slots, watch)

    def _cut(self, sets: Sequence[EncryptedImages], start: int) -> list[Place]:
        sizes = [len(s.rows) for s in sets]
        largest = max(sum(row_bytes(s.task, s.seeded)) for s in sets)
        size = shard_size(sum(sizes) - start, self.slots, largest, int(INPUT_SHARE * self._store))
        return cut(sizes, start, min(size, self._shard or size))

    def _check_room(self, sums: int, evaluation: EvaluationKeys) -> None:
        needed = sum(key.data.nbytes for key in evaluation.keys.values()) + (FAN_IN + 1) * sums
        if needed > (1 - INPUT_SHARE) * self._store:
            least = needed / (1 - INPUT_SHARE)
            raise PlanError(
                f"this task needs an object store of {least / 1e9:.1f} GB on each node, and the smallest has "
                f"{self._store / 1e9:.1f} GB; start Ray with --object-store-memory={int(least) + 1} or more"
            )


def sum_bytes(circuit: Circuit) -> int:
    """Bytes of the sums of one shard: what it sends for merging."""
    spec, tables = circuit.spec, 1 if circuit.spec.kind == "ridge" else 2
    polynomials = 2 * spec.columns * tables + (3 * (spec.dimension // 2 + 1) if spec.solves else 0)
    return polynomials * (circuit.top + 1) * circuit.parameters.ring_dimension * 8


def _on_node(version: str, function: Callable[..., T], *arguments: Any) -> T:
    """What a node runs."""
    if version != __version__:
        raise ServerError(f"a node has Cipherlens {__version__} and this machine {version}; install one version on all")
    return function(*arguments)


def _groups(places: Iterable[Place], size: int) -> Iterator[list[Place]]:
    iterator = iter(places)
    while group := list(islice(iterator, size)):
        yield group


def _in_order(waves: Iterator[_Wave[T]], most: int, watch: Watch) -> Iterator[T]:
    """Results of waves, at most so many of which are in flight; whatever is when the iteration ends is cancelled."""
    flying: deque[_Wave[T]] = deque()
    try:
        while True:
            flying.extend(islice(waves, most - len(flying)))
            if not flying:
                return
            while not ray.wait([flying[0].result], timeout=POLL_SECONDS)[0]:
                watch(sum(_finished(wave) for wave in flying))
            yield _fetched(flying[0].result)
            flying.popleft()
    finally:
        for wave in flying:
            for task in wave.tasks:
                ray.cancel(task, force=True)


def _finished(wave: _Wave[Any]) -> int:
    tasks = list(wave.tasks)
    ready = set(ray.wait(tasks, num_returns=len(tasks), timeout=0, fetch_local=False)[0])
    return sum(size for task, size in zip(tasks, wave.sizes, strict=True) if task in ready)


def _fetched(result: Any) -> Any:
    """A result from the object store. Raises what its task raised, ServerError when there is none."""
    try:
        return ray.get(result)
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, (CipherlensError, MemoryError)):
            raise error.cause from None
        raise ServerError(f"a node of the cluster failed: {_line(error.cause)}; its logs say where") from None
    except ray.exceptions.RayError as error:
        raise ServerError(f"the cluster lost work and could not repeat it: {_line(error)}") from None


def _line(error: BaseException) -> str:
    text = str(error).strip()
    return f"{type(error).__name__}: {text.splitlines()[0]}" if text else type(error).__name__


def _knock(address: str) -> None:
    """Raises ServerError when nothing listens there; Ray itself would try for minutes."""
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), CONNECT_SECONDS).close()
    except (OSError, OverflowError) as error:
        raise ServerError(
            f"no Ray cluster answers at {address} ({_line(error)}); `ray start --head` starts one, and its port is 6379"
        ) from None


class _own_signals:
    """Ray takes SIGTERM over when it connects; who called keeps it."""

    def __enter__(self) -> None:
        self._before = signal.getsignal(signal.SIGTERM)

    def __exit__(self, *_: object) -> None:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, self._before)
