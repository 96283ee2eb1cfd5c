"""Measures this engine and the peer libraries side by side: `make bench-engine`, `python benchmarks/engine.py`.

It runs benchmarks/ours.py, where the numbers of threads take turns, and then each peer that benchmarks/peers/setup.py
could install, all as subprocesses that print JSON, several times over: a machine's speed drifts by more than the ratios
that matter, and memory lies better in one process than in the next. It writes into benchmarks/results/: engine.json (the records:
medians of the passes), engine.md (the tables for the documentation), engine.png and engine.svg.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import machine
import plotting
from peers import tables
from peers.common import Record
from rich.console import Console

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results"
STATUS = HERE.parent / ".venv-peers" / "status.json"
LONGEST_SECONDS = 1800


@dataclass(frozen=True)
class Peer:
    """A peer's module under peers/ and whether it can use more than one thread."""

    name: str
    parallel: bool


PEERS = (Peer("seal", parallel=False), Peer("lattigo", parallel=False), Peer("openfhe", parallel=True))


class MeasurementError(Exception):
    """A benchmark subprocess did not deliver records; the message is its last line or the reason."""


def parse_records(text: str) -> list[Record]:
    """Records of a JSON array; raises MeasurementError where it is not one of records."""
    try:
        return [Record(**fields) for fields in json.loads(text)]
    except (ValueError, TypeError) as error:
        raise MeasurementError(f"no JSON array of records on stdout ({error})") from error


def measure_in_subprocess(command: Sequence[str], threads: int, console: Console) -> list[Record]:
    """Runs a benchmark with a peer's thread count in its environment and returns its records; its stderr becomes notes."""
    count = str(threads)
    environment = os.environ | {"OMP_NUM_THREADS": count, "GOMAXPROCS": count, "OPENBLAS_NUM_THREADS": "1"}
    try:
        done = subprocess.run(
            list(command),
            cwd=HERE,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=LONGEST_SECONDS,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise MeasurementError(str(error)) from error
    remarks = [line for line in done.stderr.splitlines() if line.strip()]
    if done.returncode != 0:
        raise MeasurementError(remarks[-1] if remarks else f"exit status {done.returncode}")
    for line in remarks:
        console.print(f"  {line}", style="dim", markup=False, highlight=False)
    return parse_records(done.stdout)


def measure_ours(threads: Sequence[int], console: Console, kernel: str) -> list[Record]:
    """Records of this engine with each number of threads, from benchmarks/ours.py, on the kernel named."""
    script = HERE / "ours.py"
    if not script.is_file():
        raise MeasurementError("benchmarks/ours.py is missing")
    counts = [str(count) for count in threads]
    return measure_in_subprocess(
        [sys.executable, str(script), "--threads", *counts, "--kernel", kernel], max(threads), console
    )


def measure_peer(peer: Peer, python: str, threads: int, console: Console) -> list[Record]:
    """Records of one peer, from its own environment's Python."""
    return measure_in_subprocess([python, "-m", f"peers.{peer.name}", "--threads", str(threads)], threads, console)


def installed_peers() -> dict[str, dict[str, Any]]:
    """What peers/setup.py wrote down, by peer; empty before its first run."""
    if not STATUS.is_file():
        return {}
    status: dict[str, dict[str, Any]] = json.loads(STATUS.read_text())
    return status


def one_pass(
    threads: Sequence[int], kernels: Sequence[str], peers: Mapping[Peer, str], console: Console
) -> tuple[list[Record], list[str]]:
    """Each engine once for each number of threads, and one remark for each that could not be measured."""
    records: list[Record] = []
    remarks: list[str] = []
    every = ", ".join(str(count) for count in threads)
    runs = [
        (f"cipherlens ({kernel}), threads: {every}", partial(measure_ours, threads, console, kernel))
        for kernel in kernels
    ]
    for count in threads:
        for peer, python in peers.items():
            if count == 1 or peer.parallel:
                measure = partial(measure_peer, peer, python, count, console)
                runs.append((f"{peer.name}, threads: {count}", measure))
    for name, run in runs:
        console.print(name)
        try:
            records += run()
        except MeasurementError as failure:
            remarks.append(f"{name}: {failure}")
    return records, remarks


def combine(records: Sequence[Record]) -> list[Record]:
    """One record for each thing measured, in the order of first sight: the median of its passes, the least, and all runs."""
    same: dict[Record, list[Record]] = {}
    for record in records:
        same.setdefault(replace(record, median_seconds=None, runs=0, least_seconds=None), []).append(record)
    combined = []
    for what, passes in same.items():
        seconds = [record.median_seconds for record in passes if record.median_seconds is not None]
        least = [record.least_seconds for record in passes if record.least_seconds is not None]
        runs = sum(record.runs for record in passes)
        median = statistics.median(seconds) if seconds else None
        combined.append(replace(what, median_seconds=median, runs=runs, least_seconds=min(least, default=None)))
    return combined


def measure_all(
    threads: Sequence[int], kernels: Sequence[str], passes: int, console: Console
) -> tuple[list[Record], list[str]]:
    """All records, and one remark for each thing that could not be measured."""
    remarks: dict[str, None] = {}
    remarks |= dict.fromkeys(machine.disturbances())
    status, peers = installed_peers(), dict[Peer, str]()
    for peer in PEERS:
        python = status.get(peer.name, {}).get("python")
        if python is None:
            reason = status.get(peer.name, {}).get("message", "not set up; run `make bench-peers`")
            remarks[f"{peer.name}: not measured: {reason}"] = None
        else:
            peers[peer] = python
    records: list[Record] = []
    gains: list[tuple[float, float]] = []
    for number in range(passes):
        console.print(f"pass {number + 1} of {passes}")
        if 2 in threads:
            gains.append(machine.two_thread_gain())
        found, failures = one_pass(threads, kernels, peers, console)
        records += found
        remarks |= dict.fromkeys(failures)
    if gains:
        median, most = (statistics.median(column) for column in zip(*gains, strict=True))
        remarks[
            f"arithmetic on registers alone was {median:.2f} times as fast on two threads of this machine as on one (200 "
            f"pairs by turns, median of {passes} passes; nine pairs of ten reached {most:.2f}). Both cores of a virtual "
            "machine may be hyperthreads of one from one minute to the next, which gives 1.1 to 1.2: medians show it, "
            "the fastest runs do not"
        ] = None
    return combine(records), list(remarks)


def write(records: Sequence[Record], remarks: Sequence[str], where: str, folder: Path) -> list[Path]:
    """Writes engine.json, engine.md and the plot; returns what was written."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / "engine.json", folder / "engine.md"]
    lines = ",\n".join(json.dumps(asdict(record)) for record in records)
    paths[0].write_text(f"[\n{lines}\n]\n")
    paths[1].write_text(tables.markdown(records, remarks, where))
    return paths + plotting.draw(records, folder, where)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="Measures the engine beside the peer libraries.")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2], help="thread counts (default: 1 2)")
    parser.add_argument(
        "--kernel", action="append", help="a kernel of ours, may be repeated (default: avx2 and the best)"
    )
    parser.add_argument("--passes", type=int, default=3, help="how often everything is measured (default: 3)")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder to write to")
    parser.add_argument("--remark", default="", help="words added to the line that names machine and day")
    chosen = parser.parse_args()
    console = Console()
    records, remarks = measure_all(chosen.threads, chosen.kernel or machine.default_kernels(), chosen.passes, console)
    if not records:
        console.print("\n".join([*remarks, "Nothing was measured; engine.json is left as it was."]), markup=False)
        sys.exit(1)
    where = "; ".join(part for part in (machine.describe(), chosen.remark) if part)
    paths = write(records, remarks, where, chosen.results)
    tables.show(records, remarks, where, console)
    for path in paths:
        console.print(f"wrote {path}", markup=False, highlight=False)


if __name__ == "__main__":
    main()
