"""What every engine benchmark shares: the rings, the operations, the record and the stop watch.

Standard library only and Python 3.10 or later, because each peer runs in an environment of its own.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

OPERATIONS = (
    "ntt",
    "encode",
    "encrypt",
    "encrypt_secret",
    "decrypt",
    "add",
    "multiply_plain",
    "multiply_relinearise",
    "rescale",
    "rotate",
    "rotate_hoisted",
    "rotate_double_hoisted",
)

OURS = "cipherlens"

PRIME_BITS = 50
"""Bits of every prime of Q, and of P where the library lets one choose."""

WARM_UPS = 2
FEWEST_RUNS, MOST_RUNS = 9, 101
WISHED_SECONDS, LONGEST_SECONDS = 0.6, 8.0


@dataclass(frozen=True)
class Ring:
    """Parameters of one column of the benchmark: Z[X]/(X^N + 1), `limbs` primes in Q, `special_limbs` in P."""

    dimension: int
    limbs: int
    special_limbs: int
    dnum: int


RINGS = (
    Ring(1 << 13, 3, 1, 3),
    Ring(1 << 14, 5, 1, 5),
    Ring(1 << 15, 12, 4, 3),
    Ring(1 << 16, 24, 8, 3),
)
"""log2(QP) = 200, 300, 800 and 1600 bits, inside the 128-bit table (214, 430, 868, 1747 bits)."""


@dataclass(frozen=True)
class Record:
    """One measurement: the seconds are None where the library has no such operation."""

    library: str
    version: str
    operation: str
    ring_dimension: int
    limbs: int
    special_limbs: int
    dnum: int
    threads: int
    median_seconds: float | None
    runs: int
    least_seconds: float | None = None


@dataclass(frozen=True)
class Timing:
    """Wall times of several runs: the median, the least, and how many there were."""

    median: float
    least: float
    runs: int


def is_ours(library: str) -> bool:
    """Whether a record belongs to this engine; kernels other than the best one carry a suffix to the name."""
    return library.lower().startswith(OURS)


def timed(call: Callable[[], object], prepare: Callable[[], object] | None = None) -> Timing:
    """Wall times of `call`, after untimed warm-up runs. `prepare` runs before each call, off the clock."""
    return timed_by_turns([call], prepare)[0]


def timed_by_turns(calls: Sequence[Callable[[], object]], prepare: Callable[[], object] | None = None) -> list[Timing]:
    """`timed` of several calls that take turns, so that a machine whose speed drifts is the same to all."""
    times: list[list[float]] = [[] for _ in calls]
    begun = time.perf_counter()
    for run in range(WARM_UPS + MOST_RUNS):
        for call, taken in zip(calls, times, strict=True):
            if prepare is not None:
                prepare()
            start = time.perf_counter()
            call()
            stop = time.perf_counter()
            if run >= WARM_UPS:
                taken.append(stop - start)
        elapsed, done = (time.perf_counter() - begun) / len(calls), len(times[0])
        if (done >= FEWEST_RUNS and elapsed > WISHED_SECONDS) or (done >= 3 and elapsed > LONGEST_SECONDS):
            break
    return [Timing(statistics.median(taken), min(taken), len(taken)) for taken in times]


class Recorder:
    """Collects the records of one library on one ring; operations never timed come out as None."""

    def __init__(self, library: str, version: str, ring: Ring, threads: int) -> None:
        self._identity = (library, version)
        self._ring = ring
        self._threads = threads
        self._measured: dict[str, Timing] = {}

    def time(
        self,
        operation: str,
        call: Callable[[], object],
        prepare: Callable[[], object] | None = None,
        *,
        subtract: float = 0.0,
        divide: int = 1,
    ) -> None:
        """Times `call`, takes `subtract` seconds off and divides by `divide`."""
        found = timed(call, prepare)
        median, least = (max(seconds - subtract, 0.0) / divide for seconds in (found.median, found.least))
        self.put(operation, Timing(median, least, found.runs))

    def put(self, operation: str, timing: Timing) -> None:
        """What was timed elsewhere. Raises ValueError for an operation outside `OPERATIONS`."""
        if operation not in OPERATIONS:
            raise ValueError(f"'{operation}' is not an operation of this benchmark; use one of {', '.join(OPERATIONS)}")
        self._measured[operation] = timing

    def records(self) -> list[Record]:
        """One record an operation, in the order of `OPERATIONS`."""
        library, version = self._identity
        ring, found = self._ring, self._measured
        return [
            Record(
                library=library,
                version=version,
                operation=operation,
                ring_dimension=ring.dimension,
                limbs=ring.limbs,
                special_limbs=ring.special_limbs,
                dnum=ring.dnum,
                threads=self._threads,
                median_seconds=found[operation].median if operation in found else None,
                runs=found[operation].runs if operation in found else 0,
                least_seconds=found[operation].least if operation in found else None,
            )
            for operation in OPERATIONS
        ]


def require_close(library: str, operation: str, found: float, expected: float, tolerance: float = 1e-3) -> None:
    """Raises ArithmeticError unless a decrypted slot is what the operation should give.

    A wrong result would mean that the time belongs to something else than the operation named.
    """
    if not abs(found - expected) <= tolerance:
        raise ArithmeticError(f"{library}: {operation} decrypts to {found}, expected {expected}; its time is not used")


def note(text: str) -> None:
    """A remark for the reader, on stderr, so that stdout stays JSON."""
    print(text, file=sys.stderr, flush=True)


def run_peer(measure: Callable[[Ring, int], list[Record]], description: str) -> None:
    """Command line of a peer: measures each ring asked for and prints all records as one JSON array.

    A ring that fails is reported on stderr and left out; the others are still measured.
    """
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--ring", type=int, action="append", help="log2 of a ring dimension (default: all)")
    chosen = parser.parse_args()
    records: list[Record] = []
    failures = 0
    for ring in RINGS:
        if chosen.ring and ring.dimension.bit_length() - 1 not in chosen.ring:
            continue
        try:
            records += measure(ring, chosen.threads)
        except (RuntimeError, ValueError, ArithmeticError, MemoryError) as error:
            failures += 1
            note(f"ring dimension {ring.dimension}: {type(error).__name__}: {error}")
    print(json.dumps([asdict(record) for record in records]))
    sys.exit(1 if failures and not records else 0)
