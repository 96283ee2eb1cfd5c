"""How fast this machine is: a few operations of the engine, timed once and remembered.

Processor time is measured, not wall time, so that other programs do not spoil a forecast for a quiet machine. Keys and
sums are taken in turn from more memory than caches hold: in training every key switch reads another key, and that
takes as long as its arithmetic.
"""

from __future__ import annotations

import json
import math
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from itertools import cycle
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cipherlens._evaluator import available_kernels
from cipherlens.learning.training import GROUP
from cipherlens.scheme.engine import Engine, usable_cores
from cipherlens.scheme.expansion import SEED_BYTES
from cipherlens.scheme.types import Limbs
from cipherlens.wire.packed import pack_half, unpack_seeded

VERSION = 3

LARGER_THAN_CACHES = 96 << 20
"""Bytes that the operands of one kind take together."""

GALOIS = 5
"""The rotation that is timed."""

SAMPLES = 3
"""Numbers of limbs at which key switches are timed; between them the time is interpolated."""


@dataclass(frozen=True)
class Speed:
    """Seconds on one thread, for one ring.

    Attributes:
        limbs: numbers of limbs at which the next three were timed, ascending.
        key_switches: a full rotation.
        hoisted: each further rotation of one decomposition.
        tensors: one tensor product of a long sum.
        scatter: one tensor product accumulated into a scatter sum, at the top level.
        rescale: dropping one prime, at the top level.
        encode: one encoding, at the top level.
        copy: copying one limb.
        touch: writing one limb of memory that the process has not used yet.
        expand: unpacking a seeded ciphertext of the top level and expanding its seed.
        parallel: speed-up of the threads over one.
    """

    limbs: tuple[int, ...]
    key_switches: tuple[float, ...]
    hoisted: tuple[float, ...]
    tensors: tuple[float, ...]
    scatter: float
    rescale: float
    encode: float
    copy: float
    touch: float
    expand: float
    parallel: float

    def key_switch(self, limbs: int) -> float:
        """A full rotation of this many limbs."""
        return float(np.interp(limbs, self.limbs, self.key_switches))

    def further(self, limbs: int) -> float:
        """Each further rotation of one decomposition."""
        return float(np.interp(limbs, self.limbs, self.hoisted))

    def rotations(self, count: int, limbs: int) -> float:
        """`count` rotations of one ciphertext, decomposed once."""
        return self.key_switch(limbs) + (count - 1) * self.further(limbs) if count > 0 else 0.0

    def tensor(self, limbs: int) -> float:
        """One tensor product of a long sum."""
        return float(np.interp(limbs, self.limbs, self.tensors))


def _timed(run: Callable[[], object], seconds: float = 0.05) -> float:
    """The median of several runs, the first not counted."""
    run()
    times: list[float] = []
    until = time.perf_counter() + seconds
    while len(times) < 3 or (time.perf_counter() < until and len(times) < 50):
        start = time.process_time()
        run()
        times.append(time.process_time() - start)
    return float(np.median(times))


def _in_turn(engine: Engine, *shape: int) -> Iterator[Limbs]:
    """Residues of a shape (..., N) without end, from more arrays than caches hold."""
    size = 8 * engine.parameters.ring_dimension * math.prod(shape)
    return cycle([_residues(engine, *shape) for _ in range(1 + LARGER_THAN_CACHES // size)])


def _residues(engine: Engine, *shape: int) -> NDArray[np.float64]:
    # Small residues are valid modulo every prime, and arithmetic takes as long on them.
    return np.ones((*shape, engine.parameters.ring_dimension))


def _at(engine: Engine, limbs: int) -> tuple[float, float, float]:
    """Seconds of a full rotation, of a further one, and of a tensor product at this many limbs."""
    p, ring = engine.parameters, engine.ring
    a = _residues(engine, 2, limbs)
    keys = _in_turn(engine, p.digits(limbs), 2, limbs + len(p.special_primes))
    factors = _in_turn(engine, 2, limbs)
    digits = ring.decompose(a[1])
    return (
        _timed(lambda: ring.key_switch(a[1], next(keys), a[0], None, GALOIS, False, 1)),
        _timed(lambda: ring.key_switch_digits(digits, next(keys), a[0], None, GALOIS)),
        _timed(lambda: ring.tensor([a] * 8, [next(factors) for _ in range(8)], 1)) / 8,
    )


def _parallel(engine: Engine, threads: int) -> float:
    """Speed-up of this many threads: how many cores they have, less what sharing caches and memory costs each."""
    cores = min(threads, usable_cores())
    if cores == 1:
        return 1.0
    p, top = engine.parameters, len(engine.parameters.primes)
    a = _residues(engine, 2, top)
    keys = [_in_turn(engine, p.digits(top), 2, top + len(p.special_primes)) for _ in range(cores)]

    def rotate(worker: int) -> None:
        for _ in range(4):
            engine.ring.key_switch(a[1], next(keys[worker]), a[0], None, GALOIS, False, 1)

    with ThreadPoolExecutor(cores) as pool:
        alone = _timed(lambda: list(pool.map(rotate, range(1))))
        together = _timed(lambda: list(pool.map(rotate, range(cores))))
    return max(1.0, min(float(cores), cores * cores * alone / together))


def measure(engine: Engine, threads: int) -> Speed:
    """Time the engine on this machine: one to two seconds."""
    p, ring = engine.parameters, engine.ring
    top = len(p.primes)
    samples = sorted({int(limbs) for limbs in np.linspace(min(2, top), top, SAMPLES)})
    switches, hoisted, tensors = zip(*(_at(engine, limbs) for limbs in samples), strict=True)
    a = _residues(engine, 2, top)
    packed = pack_half(engine, a[0])
    sums = [_residues(engine, 3, top) for _ in range(1 + LARGER_THAN_CACHES // (24 * top * p.ring_dimension))]
    copied = _in_turn(engine, 2, top)
    pieces = 1 + LARGER_THAN_CACHES // (16 * top * p.ring_dimension)
    return Speed(
        limbs=tuple(samples),
        key_switches=switches,
        hoisted=hoisted,
        tensors=tensors,
        scatter=_timed(lambda: ring.accumulate_scatter(sums, [[a] * len(sums)] * GROUP, [[a]] * GROUP, 1))
        / (len(sums) * GROUP),
        rescale=_timed(lambda: ring.divide(a, 1, 1)),
        encode=_timed(lambda: engine.encode(np.ones(p.slots, complex), p.scales[-1], top)),
        copy=_timed(lambda: np.ascontiguousarray(next(copied)[:, : top - 1])) / (2 * max(1, top - 1)),
        touch=_timed(lambda: [_residues(engine, 2, top) for _ in range(pieces)]) / (pieces * 2 * top),
        expand=_timed(lambda: unpack_seeded(engine, packed, bytes(SEED_BYTES), top, 1.0)),
        parallel=_parallel(engine, threads),
    )


def _cache_file() -> Path:
    root = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(root) / "cipherlens" / "speed.json"


def _from_cache(stored: dict[str, object]) -> Speed:
    """A remembered speed. Raises TypeError or ValueError when it is none."""
    lists = {name: tuple(value) for name, value in stored.items() if isinstance(value, list)}
    speed = Speed(**{**stored, **lists})  # type: ignore[arg-type]
    if not len(speed.limbs) == len(speed.key_switches) == len(speed.hoisted) == len(speed.tensors) > 0:
        raise ValueError("a damaged cache")
    return speed


def speed(engine: Engine, threads: int) -> Speed:
    """The remembered speed for these parameters, kernels and threads, measured first when there is none."""
    p = engine.parameters
    name = f"{VERSION}:{p.id}:{engine.kernel}:{threads}:{len(available_kernels())}"
    path = _cache_file()
    try:
        known = json.loads(path.read_text())
        return _from_cache(known[name])
    except (OSError, ValueError, KeyError, TypeError):
        known = {}
    measured = measure(engine, threads)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=path.parent, delete=False) as file:
            json.dump({**(known if isinstance(known, dict) else {}), name: asdict(measured)}, file)
        os.replace(file.name, path)
    except OSError:
        return measured  # a cache that cannot be written costs a second next time, nothing else
    return measured
