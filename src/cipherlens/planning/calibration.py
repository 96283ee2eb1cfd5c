"""How fast this machine is: a few operations of the engine, timed once and remembered.

Processor time is measured, not wall time, so that other programs do not spoil a forecast for a quiet machine. Keys and
sums are taken in turn from more memory than caches hold: in training every key switch reads another key, and that
takes as long as its arithmetic. What is remembered holds for all parameters of one shape: the arithmetic takes as long
modulo one prime as modulo another.
"""

from __future__ import annotations

import json
import math
import mmap
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, fields
from itertools import chain
from pathlib import Path

import numpy as np

from cipherlens._evaluator import available_kernels
from cipherlens.learning.training import GROUP
from cipherlens.scheme.engine import Engine, usable_cores
from cipherlens.scheme.expansion import SEED_BYTES
from cipherlens.scheme.parameters import Parameters
from cipherlens.scheme.types import Limbs
from cipherlens.wire.packed import pack_half, unpack_seeded

VERSION = 7

BUDGET = 1.5
"""Seconds after which what is still to be timed runs twice and no longer, so that all of it takes less than two on a
machine that is not hopelessly busy. A quiet one is done before."""

EACH = 0.025
"""Processor seconds for each operation, budget permitting."""

LARGER_THAN_CACHES = 64 << 20
"""Bytes that the operands of one kind take together."""

TOUCHED = 16 << 20
"""Bytes of new memory that are written at a time."""

KEPT = 4
"""Results that are kept while others are computed. Before times count there is memory for as many: the first touch of a
page is counted by itself, and on a virtual machine can take ten times as long as the arithmetic on it."""

MOST_SUMS = 24
"""Scatter sums that are timed together."""

GALOIS = 5
"""The rotation that is timed."""

USUAL_START = 0.4
"""Seconds of starting a command, where it cannot be tried."""

RUNS = 8
"""Runs on one thread, and on all of them, of which the least count."""

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
        start: starting a command that trains or classifies, until it has its libraries and tables.
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
    start: float

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


class _Stopwatch:
    """Times operations until its budget is spent."""

    def __init__(self) -> None:
        self.deadline = time.perf_counter() + BUDGET

    def timed(self, run: Callable[[], object], warm_up: int = 1) -> float:
        """Processor seconds: the median of several runs after those that do not count."""
        for _ in range(warm_up):
            run()
        times: list[float] = []
        while not times or (
            time.perf_counter() < self.deadline and (len(times) < 3 or (sum(times) < EACH and len(times) < 50))
        ):
            start = time.process_time()
            run()
            times.append(time.process_time() - start)
        return float(np.median(times))

    def least(self, run: Callable[[], object]) -> float:
        """Processor seconds: the least of several runs. A ratio of two medians of so few would be anything."""
        times: list[float] = []
        while len(times) < 2 or (time.perf_counter() < self.deadline and len(times) < RUNS):
            start = time.process_time()
            run()
            times.append(time.process_time() - start)
        return min(times)


class _Operands:
    """Residues of any shape (..., N), one after another out of more memory than caches hold."""

    def __init__(self, engine: Engine, largest: int) -> None:
        """largest: limbs of the largest operand."""
        self.n = engine.parameters.ring_dimension
        self.memory = np.ones(max(LARGER_THAN_CACHES // 8, 2 * largest * self.n))
        self.at = 0

    def take(self, *shape: int) -> Limbs:
        """The next one. Small residues are valid modulo every prime, and arithmetic takes as long on them."""
        size = math.prod(shape) * self.n
        if self.at + size > self.memory.size:
            self.at = 0
        found = self.memory[self.at : self.at + size].reshape(*shape, self.n)
        self.at += size
        return found


def _at(engine: Engine, limbs: int, operands: _Operands, watch: _Stopwatch) -> tuple[float, float, float]:
    """Seconds of a full rotation, of a further one, and of a tensor product at this many limbs."""
    p, ring, take = engine.parameters, engine.ring, operands.take
    key = (p.digits(limbs), 2, limbs + len(p.special_primes))
    digits = ring.decompose(take(limbs))
    kept: deque[Limbs] = deque(maxlen=KEPT)  # results too are written to memory that no cache holds

    def kept_of(compute: Callable[[], Limbs]) -> float:
        return watch.timed(lambda: kept.append(compute()), KEPT + 1)

    return (
        kept_of(lambda: ring.key_switch(take(limbs), take(*key), take(limbs), None, GALOIS, False, 1)),
        kept_of(lambda: ring.key_switch_digits(digits, take(*key), take(limbs), None, GALOIS)),
        kept_of(lambda: ring.tensor([take(2, limbs) for _ in range(8)], [take(2, limbs) for _ in range(8)], 1)) / 8,
    )


def _scatter(engine: Engine, operands: _Operands, watch: _Stopwatch) -> float:
    """Seconds of one tensor product accumulated into a scatter sum: sums and rotated images all lie in memory."""
    p, top = engine.parameters, len(engine.parameters.primes)
    count = max(2, min(MOST_SUMS, LARGER_THAN_CACHES // (24 * top * p.ring_dimension)))
    g = math.isqrt(count)
    sums = list(np.ones((count, 3, top, p.ring_dimension)))
    babies, giants = (
        [[operands.take(2, top) for _ in range(number)] for _ in range(GROUP)] for number in (g, (count - 1) // g + 1)
    )
    return watch.timed(lambda: engine.ring.accumulate_scatter(sums, babies, giants, 1)) / (count * GROUP)


def _touch() -> None:
    """Write memory that the process gets for it, and gives back: an allocator would hand out what was freed before."""
    with mmap.mmap(-1, TOUCHED, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as memory:
        np.frombuffer(memory, np.float64)[:] = 1.0


def _parallel(engine: Engine, threads: int, operands: _Operands, watch: _Stopwatch) -> float:
    """Speed-up of this many threads: how many cores they have, less what sharing caches and memory costs each."""
    cores = min(threads, usable_cores())
    if cores == 1:
        return 1.0
    p, top = engine.parameters, len(engine.parameters.primes)
    a = np.ones((2, top, p.ring_dimension))
    key = (p.digits(top), 2, top + len(p.special_primes))

    def rotate(_: int) -> None:
        for _ in range(4):
            engine.ring.key_switch(a[1], operands.take(*key), a[0], None, GALOIS, False, 1)

    with ThreadPoolExecutor(cores) as pool:
        alone = watch.least(lambda: list(pool.map(rotate, range(1))))
        together = watch.least(lambda: list(pool.map(rotate, range(cores))))
    return max(1.0, min(float(cores), cores * cores * alone / together))


def _start(parameters: Parameters) -> float:
    """Processor seconds of a process that loads what the server's commands load, and of making a ring's tables."""
    began = time.process_time()
    Engine(parameters)
    tables = time.process_time() - began
    load = [sys.executable, "-P", "-c", "import cipherlens.cli.app, cipherlens.server"]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    try:
        subprocess.run(load, stdin=subprocess.DEVNULL, capture_output=True, check=True, timeout=10)
    except (OSError, subprocess.SubprocessError):  # Python is a part of another program here
        return USUAL_START + tables
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return tables + after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def measure(engine: Engine, threads: int) -> Speed:
    """Time the engine on this machine: at most two seconds."""
    watch = _Stopwatch()
    p, ring = engine.parameters, engine.ring
    n, top = p.ring_dimension, len(p.primes)
    operands = _Operands(engine, 2 * p.digits(top) * (top + len(p.special_primes)))
    samples = sorted({int(limbs) for limbs in np.linspace(min(2, top), top, SAMPLES)})
    switches, hoisted, tensors = zip(*(_at(engine, limbs, operands, watch) for limbs in samples), strict=True)
    a = np.ones((2, top, n))
    packed = pack_half(engine, a[0])
    return Speed(
        limbs=tuple(samples),
        key_switches=switches,
        hoisted=hoisted,
        tensors=tensors,
        scatter=_scatter(engine, operands, watch),
        rescale=watch.timed(lambda: ring.divide(a, 1, 1)),
        encode=watch.timed(lambda: engine.encode(np.ones(p.slots, complex), p.scales[-1], top)),
        copy=watch.timed(lambda: operands.take(2, top)[:, 1:].copy()) / (2 * max(1, top - 1)),
        touch=watch.timed(_touch) * 8 * n / TOUCHED,
        expand=watch.timed(lambda: unpack_seeded(engine, packed, bytes(SEED_BYTES), top, 1.0)),
        parallel=_parallel(engine, threads, operands, watch),
        start=_start(p),
    )


def _cache_file() -> Path:
    root = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(root) / "cipherlens" / "speed.json"


_LISTS = ("limbs", "key_switches", "hoisted", "tensors")


def _from_cache(stored: object) -> Speed:
    """A remembered speed. Raises ValueError when it is none."""
    if not isinstance(stored, dict) or stored.keys() != {field.name for field in fields(Speed)}:
        raise ValueError("a damaged cache")
    lists = {name: tuple(value) for name, value in stored.items() if isinstance(value, list)}
    numbers = {name: value for name, value in stored.items() if name not in lists}
    if lists.keys() != set(_LISTS) or len({len(one) for one in lists.values()}) != 1 or not lists["limbs"]:
        raise ValueError("a damaged cache")
    if not all(_is_positive(number) for number in (*chain(*lists.values()), *numbers.values())):
        raise ValueError("a damaged cache")
    return Speed(**lists, **numbers)  # type: ignore[arg-type]


def _is_positive(number: object) -> bool:
    return isinstance(number, int | float) and not isinstance(number, bool) and math.isfinite(number) and number > 0


def speed(engine: Engine, threads: int) -> Speed:
    """The remembered speed for parameters of this shape, kernels and threads, measured first when there is none."""
    p = engine.parameters
    shape = f"{p.ring_dimension}:{len(p.primes)}:{len(p.special_primes)}:{p.digit}"
    name = f"{VERSION}:{shape}:{engine.kernel}:{threads}:{len(available_kernels())}"
    path = _cache_file()
    try:
        known = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        known = {}
    if not isinstance(known, dict):
        known = {}
    try:
        return _from_cache(known.get(name))
    except ValueError:
        measured = measure(engine, threads)
    _remember(path, {**known, name: asdict(measured)})
    return measured


def _remember(path: Path, known: dict[str, object]) -> None:
    """Replace the cache. One that cannot be written costs a second next time, nothing else."""
    temporary: str | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=path.parent, delete=False, encoding="utf-8") as file:
            temporary = file.name
            json.dump(known, file)
        os.replace(temporary, path)
    except OSError:
        return
    finally:
        if temporary is not None:
            Path(temporary).unlink(missing_ok=True)
