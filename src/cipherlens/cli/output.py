"""What a command prints: lines for people or one JSON object on stdout, notes and a progress bar on stderr."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from cipherlens.cli.failures import visible

NOT_A_TERMINAL_WIDTH = 160
"""Columns of tables that go into a file or a pipe."""


def size(count: float) -> str:
    """Bytes in words: 1.2 MB."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if count < 1000 or unit == "GB":
            break
        count /= 1000
    return f"{count:.0f} {unit}" if unit == "bytes" else f"{count:.1f} {unit}"


def plural(count: int, noun: str) -> str:
    """1 image, 2 images, 2 classes, 2 replies."""
    if count == 1:
        return f"{count:,} {noun}"
    if noun.endswith("y"):
        return f"{count:,} {noun[:-1]}ies"
    return f"{count:,} {noun}{'es' if noun.endswith('s') else 's'}"


def moment(seconds: float) -> str:
    """A time in seconds since 1970 in words."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def peak_memory() -> int | None:
    """The largest resident size of this process so far in bytes (VmHWM), None where the system does not tell."""
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:
        return None
    found = [line.split()[1] for line in status.splitlines() if line.startswith("VmHWM:")]
    return int(found[0]) * 1024 if found else None


class Bar:
    """A progress bar with an estimate; on anything but a terminal it prints nothing."""

    def __init__(self, progress: Progress | None, task: TaskID | None) -> None:
        self._progress, self._task = progress, task

    def share(self, stage: str, share: float) -> None:
        """The share of all work that is done, 0 to 1."""
        self._update(stage, share)

    def count(self, done: int, total: int) -> None:
        """So many of so many items are done."""
        self._update(None, done / total if total else 1.0)

    def stage(self, words: str) -> None:
        """Another stage, of unknown length."""
        self._update(words, None)

    def _update(self, words: str | None, share: float | None) -> None:
        if self._progress is None or self._task is None:
            return
        if words is not None:
            self._progress.update(self._task, description=words)
        if share is not None:
            self._progress.update(self._task, total=1.0, completed=share)


@dataclass(frozen=True)
class Output:
    """One command's output.

    Attributes:
        as_json: print one JSON object at the end and nothing else on stdout.
        started: when the command began.
    """

    as_json: bool
    started: float = field(default_factory=time.perf_counter)

    @property
    def seconds(self) -> float:
        """Since the command began."""
        return time.perf_counter() - self.started

    @property
    def console(self) -> Console:
        """Where to print for people: stdout, or stderr when stdout is for a program."""
        stream = sys.stderr if self.as_json else sys.stdout
        return Console(
            file=stream, width=None if stream.isatty() else NOT_A_TERMINAL_WIDTH, highlight=False, soft_wrap=True
        )

    def say(self, text: str) -> None:
        """A line for people, on stdout."""
        if not self.as_json:
            print(visible(text))

    def note(self, text: str) -> None:
        """A line for people that is no result, on stderr."""
        print(visible(text), file=sys.stderr)

    def facts(self, rows: Iterable[tuple[str, str]]) -> None:
        """Names and values, aligned, on stdout."""
        listed = list(rows)
        width = max((len(name) for name, _ in listed), default=0)
        for name, value in listed:
            self.say(f"{name:<{width}}  {value}".rstrip())

    def table(self, heads: Sequence[str], rows: Iterable[Sequence[str]], title: str) -> None:
        """A table on stdout; every column but the first to the right."""
        if self.as_json:
            return
        table = Table(title=title, title_justify="left")
        for number, head in enumerate(heads):
            table.add_column(Text(visible(head)), justify="right" if number else "left")
        for row in rows:
            table.add_row(*(Text(visible(cell)) for cell in row))
        self.console.print(table)

    def finish(self, result: Mapping[str, object]) -> None:
        """The end of a command: with `as_json`, its only line on stdout."""
        if self.as_json:
            full = {**result, "seconds": round(self.seconds, 3), "peak_memory_bytes": peak_memory()}
            print(json.dumps(full, allow_nan=False))

    @contextmanager
    def progress(self, stage: str) -> Iterator[Bar]:
        """A progress bar on stderr while the block runs, gone afterwards; only on a terminal."""
        console = Console(stderr=True)
        if not (sys.stderr.isatty() and console.is_terminal):
            yield Bar(None, None)
            return
        columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
        with Progress(*columns, console=console, transient=True) as progress:
            yield Bar(progress, progress.add_task(stage, total=None))
