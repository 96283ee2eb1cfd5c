"""The machine that benchmarks run on: its name, its kernels, what its arithmetic, memory and second core give at most."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import tempfile
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from peers.common import timed

from cipherlens._evaluator import available_kernels

HERE = Path(__file__).resolve().parent
QUIET_LOAD = 0.3


def default_kernels() -> list[str]:
    """AVX2, which most machines have, and the best of this one: what docs/benchmarks.md shows."""
    names = available_kernels()
    return [name for name in dict.fromkeys(("avx2", names[0])) if name in names]


def describe() -> str:
    """Processor, cores this process may use, and the day, in one line."""
    name = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        facts = dict(line.split(":", 1) for line in cpuinfo.read_text().splitlines() if ":" in line)
        facts = {key.strip(): value.strip() for key, value in facts.items()}
        if "model name" in facts:
            name = f"{facts['model name']} (family {facts.get('cpu family', '?')})"
            flags = facts.get("flags", "").split()
            name += ", AVX-512" if "avx512f" in flags else ", AVX2" if "avx2" in flags else ""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{name}, {cores} cores, {datetime.now(UTC):%Y-%m-%d}"


def disturbances() -> list[str]:
    """A remark if other programs are computing."""
    if hasattr(os, "getloadavg") and (load := os.getloadavg()[0]) > QUIET_LOAD:
        return [f"other programs were computing at the start (load average {load:.1f}): times may be too long"]
    return []


@cache
def _peak() -> Path:
    """benchmarks/peak.cpp, compiled."""
    program = Path(tempfile.mkdtemp()) / "peak"
    compiler = os.environ.get("CXX", "c++")
    source = [compiler, "-O2", "-std=c++20", "-pthread", str(HERE / "peak.cpp"), "-o", str(program)]
    subprocess.run(source, check=True)
    return program


def _ask_peak(what: str) -> Any:
    return json.loads(subprocess.run([_peak(), what], check=True, capture_output=True).stdout)


def peak_rates() -> dict[str, float]:
    """Fused multiply-adds of vectors that one core starts in a second, by kernel; empty where the machine is no x86."""
    rates: dict[str, float] = _ask_peak("rates")
    return rates


def two_thread_gain() -> tuple[float, float]:
    """How many times as fast two threads finish the same arithmetic on registers alone, by turns with one thread.

    The median of 200 pairs, and what nine of ten reach. Far less than 2 where both are hyperthreads of one core, as those
    of a virtual machine may be at times.
    """
    found = _ask_peak("threads")
    return found["median"], found["ninth_of_ten"]


def copy_bandwidth() -> float:
    """Bytes read and written in a second by a copy far larger than the caches."""
    source = np.ones(1 << 25)
    target = np.empty_like(source)
    return 2 * source.nbytes / timed(lambda: np.copyto(target, source)).median
