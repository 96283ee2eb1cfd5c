"""A server of its own for the service benchmark: started, asked for its memory, and stopped."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

STOP_SECONDS = 30.0
LOOK_SECONDS = 0.2


@dataclass
class Service:
    """A running `cipherlens serve`.

    Attributes:
        command: how to start cipherlens.
        folder: its data.
        url: where it listens.
        process: its first process, whose children are the others.
        peak_mb: the largest resident size of all its processes together that was seen, MB.
    """

    command: tuple[str, ...]
    folder: Path
    url: str
    process: subprocess.Popen[bytes]
    peak_mb: float = 0.0
    _stop: threading.Event = field(default_factory=threading.Event)

    def token(self, tenant: str) -> str:
        """A new tenant's token."""
        made = [*self.command, "token", "create", "--data", str(self.folder), "--tenant", tenant]
        shown = subprocess.run(made, check=True, capture_output=True, text=True).stdout
        return next(word for word in shown.split() if word.startswith("clt_"))

    def watch_memory(self) -> None:
        """Look at the memory until the server is stopped."""
        while not self._stop.wait(LOOK_SECONDS):
            self.peak_mb = max(self.peak_mb, resident_mb(self.process.pid))


@contextmanager
def running(command: Sequence[str], folder: Path, workers: int | None = None) -> Iterator[Service]:
    """A server on a free port of loopback, gone afterwards. Raises RuntimeError when it does not come up."""
    more = [] if workers is None else ["--workers", str(workers)]
    with (folder.parent / f"{folder.name}.log").open("wb") as log:
        process = subprocess.Popen(
            [*command, "serve", "--data", str(folder), "--port", "0", "--json", *more],
            stdout=subprocess.PIPE,
            stderr=log,
        )
    said = process.stdout.readline() if process.stdout is not None else b""
    if not said:
        process.wait(STOP_SECONDS)
        raise RuntimeError((folder.parent / f"{folder.name}.log").read_text()[-400:] or "the server did not come up")
    service = Service(tuple(command), folder, json.loads(said)["url"], process)
    watcher = threading.Thread(target=service.watch_memory, daemon=True)
    try:
        watcher.start()
        yield service
    finally:
        service._stop.set()
        if watcher.is_alive():
            watcher.join()
        process.send_signal(signal.SIGTERM)
        process.wait(STOP_SECONDS)


def resident_mb(root: int) -> float:
    """Resident memory of a process and all below it, MB, from /proc; shared pages count once a process."""
    parents: dict[int, list[int]] = {}
    sizes: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:  # it has ended
                continue
            parents.setdefault(int(fields[1]), []).append(int(entry.name))
            sizes[int(entry.name)] = int(fields[21]) * os.sysconf("SC_PAGE_SIZE")
    total, waiting = 0, [root]
    while waiting:
        pid = waiting.pop()
        total += sizes.get(pid, 0)
        waiting += parents.get(pid, [])
    return total / 1e6
