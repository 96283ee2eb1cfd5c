"""Runs `cipherlens` commands as processes of their own, timed from start to exit, watched where that matters."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cipherlens.errors import CipherlensError

PROGRAM = "cipherlens.cli.main"
"""The module whose `__main__` is the command line."""


@dataclass(frozen=True)
class Watch:
    """What a watched process did.

    Attributes:
        opened: real paths of all files it opened, in the order of their first opening.
        modules: names of the modules it loaded.
        peak_bytes: its largest resident size, None where the system does not tell.
    """

    opened: tuple[str, ...]
    modules: tuple[str, ...]
    peak_bytes: int | None


@dataclass(frozen=True)
class Run:
    """One finished command.

    Attributes:
        command: as a user would type it.
        seconds: wall time, process start to exit.
        answer: the JSON object that it printed.
        refusal: its one sentence if it failed, else None.
        watch: what it did, if it was watched.
    """

    command: str
    seconds: float
    answer: dict[str, Any]
    refusal: str | None
    watch: Watch | None


def run(arguments: Sequence[str], folder: Path, record: Path | None = None) -> Run:
    """Run one command in a folder, with paths relative to it; `record` watches it and names the file of the record.

    A refusal is a result, not an exception; see `must_run`. Raises CipherlensError when the command cannot be started
    or answers with something else than JSON.
    """
    full = [*arguments, "--json"]
    if record is None:
        program = [sys.executable, "-m", PROGRAM, *full]
    else:
        watched = Path(__file__).with_name("watched.py")
        program = [sys.executable, "-P", str(watched), str(record.resolve()), PROGRAM, *full]
    started = time.perf_counter()
    try:
        done = subprocess.run(program, cwd=folder, capture_output=True, text=True, encoding="utf-8", check=False)
    except OSError as error:
        raise CipherlensError(f"the command '{arguments[0]}' could not be started: {error.strerror}") from None
    seconds = time.perf_counter() - started
    words = done.stderr.strip().splitlines() or [f"it ended with status {done.returncode}"]
    try:
        answer = json.loads(done.stdout)
    except ValueError:
        answer = {}
    if not isinstance(answer, dict) or (not answer and done.returncode == 0):
        raise CipherlensError(f"the command '{arguments[0]}' did not answer in JSON; its last line was: {words[-1]}")
    refusal = None
    if done.returncode != 0:
        told = answer.get("error")
        refusal = str(told["message"]) if isinstance(told, dict) and "message" in told else words[-1]
    return Run(" ".join(["cipherlens", *arguments]), seconds, answer, refusal, _read(record))


def must_run(arguments: Sequence[str], folder: Path, record: Path | None = None) -> Run:
    """As `run`. Raises CipherlensError with the command's own sentence when it fails."""
    done = run(arguments, folder, record)
    if done.refusal is not None:
        raise CipherlensError(f"'cipherlens {arguments[0]}' stopped the demonstration: {done.refusal}")
    return done


def _read(record: Path | None) -> Watch | None:
    if record is None or not record.is_file():
        return None
    found = json.loads(record.read_text(encoding="utf-8"))
    record.unlink()
    return Watch(tuple(found["opened"]), tuple(found["modules"]), found["peak_bytes"])


def within(path: str, folder: Path) -> bool:
    """Whether a real path lies in a folder."""
    root = os.path.realpath(folder)
    return os.path.commonpath([root, path]) == root if os.path.isabs(path) else False
