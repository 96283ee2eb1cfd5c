"""How fast this machine is: a few operations of the engine, timed once and remembered."""

from __future__ import annotations

import json
import os
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from cipherlens._evaluator import available_kernels
from cipherlens.scheme.engine import Engine
from cipherlens.scheme.types import Limbs

VERSION = 1


@dataclass(frozen=True)
class Speed:
    """Seconds on one thread, for one ring.

    Attributes:
        key_switch: a full rotation at the top level.
        low_key_switch: a full rotation with two limbs.
        hoisted: each further rotation of one decomposition, at the top level.
        scatter: one tensor product accumulated into a scatter sum, at the top level.
        tensor: one tensor product of a long sum, at the top level.
        encode: one encoding.
        expand: reading one seeded ciphertext: unpacking and expanding its seed.
        parallel: speed-up of two threads over one.
    """

    key_switch: float
    low_key_switch: float
    hoisted: float
    scatter: float
    tensor: float
    encode: float
    expand: float
    parallel: float


def _timed(run: Callable[[], object], seconds: float = 0.06) -> float:
    """The median of several runs, the first not counted."""
    run()
    times: list[float] = []
    until = time.perf_counter() + seconds
    while len(times) < 3 or (time.perf_counter() < until and len(times) < 50):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return float(np.median(times))


def measure(engine: Engine, threads: int) -> Speed:
    """Time the engine on this machine: about a second."""
    from cipherlens.scheme.expansion import SeedUse, expand

    p, ring = engine.parameters, engine.ring
    limbs = len(p.primes)

    def noise(*shape: int) -> Limbs:
        # Small residues are valid modulo every prime, and arithmetic takes as long on them.
        return np.ones((*shape, p.ring_dimension))

    key = noise(p.digits(limbs), 2, limbs + len(p.special_primes))
    a, low = noise(2, limbs), noise(2, 2)
    digits = ring.decompose(a[1])
    galois = 5

    def hoisted() -> Limbs:
        return ring.mod_down(ring.inner_product(digits, key), a[0], None, galois)

    group = 4
    sums = [np.zeros((3, limbs, p.ring_dimension)) for _ in range(8)]
    packed = ring.pack(a[0], list(range(limbs)))
    unpack_from = np.frombuffer(packed, np.uint8)

    def expand_one() -> None:
        ring.unpack(unpack_from, list(range(limbs)))
        expand(ring, bytes(32), SeedUse.CIPHERTEXT, 0, range(limbs))

    rotate = _timed(lambda: ring.key_switch(a[1], key, a[0], None, galois, False, 1))
    several = _timed(lambda: ring.key_switch(a[1], key, a[0], None, galois, False, threads)) if threads > 1 else rotate
    return Speed(
        key_switch=rotate,
        low_key_switch=_timed(lambda: ring.key_switch(low[1], key, low[0], None, galois, False, 1)),
        hoisted=_timed(hoisted),
        scatter=_timed(lambda: ring.accumulate_scatter(sums, [[a] * 4] * group, [[a] * 2] * group, 1)) / (8 * group),
        tensor=_timed(lambda: ring.tensor([a] * 8, [a] * 8, 1)) / 8,
        encode=_timed(lambda: engine.encode(np.ones(p.slots, complex), p.scales[-1], limbs)),
        expand=_timed(expand_one),
        parallel=max(1.0, min(float(threads), rotate / several)),
    )


def _cache_file() -> Path:
    root = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(root) / "cipherlens" / "speed.json"


def speed(engine: Engine, threads: int) -> Speed:
    """The remembered speed for these parameters, kernels and threads, measured first when there is none."""
    p = engine.parameters
    name = f"{VERSION}:{p.id}:{engine.kernel}:{threads}:{len(available_kernels())}"
    path = _cache_file()
    try:
        known = json.loads(path.read_text())
        return Speed(**known[name])
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
