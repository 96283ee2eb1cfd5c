"""The audit log: who did what and when, one JSON object a line, only ever appended to.

Each record holds the SHA-256 of the line before it, so that a line which is altered or removed is noticed. What chains
cannot show is that the newest lines were cut off: note the head (`cipherlens audit verify` prints it) elsewhere, and give
it to a later check. Records hold ids, actions and outcomes, and no names, labels, scores, keys or tokens.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from cipherlens.errors import CipherlensError, InputError, SecurityError
from cipherlens.service.ownership import give_to_owner
from cipherlens.wire.container import canonical_json, parse_json_object
from cipherlens.wire.disk import sync_folder

CURRENT, LOCK = "audit.jsonl", "audit.lock"
ROTATE_BYTES = 16 << 20
LONGEST_LINE = 4096
FIRST_LINK = "0" * 64
OPERATOR = "operator"


@dataclass(frozen=True)
class Head:
    """The newest record: its number, counted from 1, and the SHA-256 of its line. Number 0 stands for none yet."""

    number: int = 0
    sha256: str = FIRST_LINK


@dataclass(frozen=True)
class Verified:
    """A chain without a gap. first: the number of its first record, above 1 when older files were taken away."""

    first: int
    head: Head
    files: int


class Audit:
    """The log of one service's folder. Processes and threads may append side by side."""

    def __init__(self, data: Path, rotate_bytes: int = ROTATE_BYTES) -> None:
        """rotate_bytes: a file of so many bytes gets a name of its own, and the chain goes on in a new one."""
        self._data, self._rotate = data, rotate_bytes
        self._thread = threading.Lock()

    def append(self, action: str, *, tenant: str | None, token: str | None, object: str | None, outcome: str) -> None:
        """Write a record; when this returns it is on the disk.

        Args:
            action: what was asked for, as method and route or as a verb of the service.
            tenant, token: ids of who asked; None for the operator and the service itself.
            object: id of what it was about.
            outcome: HTTP status, or a word.
        """
        with self._thread, self._locked():
            head, size = self._tail()
            if size >= self._rotate:
                os.rename(self._data / CURRENT, self._data / f"audit-{head.number:012d}.jsonl")
                sync_folder(self._data)
            record = {
                "number": head.number + 1, "previous": head.sha256, "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
                "actor": token or OPERATOR, "tenant": tenant, "action": action, "object": object, "outcome": outcome,
            }  # fmt: skip
            file = self._open(CURRENT, os.O_WRONLY | os.O_APPEND)
            try:
                _write(file, canonical_json(record).encode() + b"\n")
                os.fsync(file)
            finally:
                os.close(file)
            if head.number == 0 or size >= self._rotate:
                sync_folder(self._data)

    def head(self) -> Head:
        """The newest record. Raises SecurityError when the file ends in something else."""
        with self._thread, self._locked():
            return self._tail()[0]

    def verify(self, known: Head | None = None) -> Verified:
        """Follow the whole chain.

        known: a head of earlier, which must be part of it.

        Raises:
            InputError: there is no audit log.
            SecurityError: a record was altered, removed or put in, or the known head is missing.
        """
        head, first, seen = Head(), 0, known is None or known == Head()
        with self._thread, self._locked():
            files = self._files()
            self._tail()  # drops a line that a crash left unfinished, which nobody was told of
        if not files:
            raise InputError(f"{self._data} holds no audit log; name the folder of a service")
        for path in files:
            with path.open("rb") as lines:
                for line in iter(lambda: lines.readline(LONGEST_LINE), b""):
                    number, previous = _links(line, path, head.number + 1)
                    if first == 0:
                        first, head = number, Head(number - 1, previous)
                    if (number, previous) != (head.number + 1, head.sha256):
                        raise SecurityError(
                            f"the audit log has a break after record {head.number} in {path.name}: what follows is number "
                            f"{number}; records were altered, removed or put in"
                        )
                    head = Head(number, _sha256(line))
                    seen = seen or head == known
        if not seen:
            raise SecurityError(
                "the audit log is whole, but does not hold the record that was noted; it was cut off or written anew"
            )
        return Verified(first, head, len(files))

    def _files(self) -> list[Path]:
        """All files of the chain, oldest first."""
        current = self._data / CURRENT
        return [*sorted(self._data.glob("audit-*.jsonl")), *([current] if current.exists() else [])]

    def _tail(self) -> tuple[Head, int]:
        """The newest record, and the size of the file that is appended to."""
        current = self._data / CURRENT
        size = _whole_lines(current) if current.exists() else 0
        if size:
            return _last(current, size), size
        older = sorted(self._data.glob("audit-*.jsonl"))
        return (_last(older[-1], older[-1].stat().st_size) if older else Head()), 0

    def _open(self, name: str, flags: int) -> int:
        """A file of the folder, which an operator's command may be the first to need: the service has to open it, too."""
        file = os.open(self._data / name, os.O_CREAT | flags, 0o600)
        try:
            give_to_owner(file, self._data)
        except BaseException:
            os.close(file)
            raise
        return file

    @contextmanager
    def _locked(self) -> Iterator[None]:
        lock = self._open(LOCK, os.O_RDWR)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
        finally:
            os.close(lock)


def _whole_lines(path: Path) -> int:
    """The size of a file up to its last line's end; what a crash left behind it is cut off: it was never answered."""
    with path.open("r+b") as file:
        size = file.seek(0, os.SEEK_END)
        start = file.seek(max(0, size - LONGEST_LINE))
        whole = start + file.read().rfind(b"\n") + 1
        if whole != size:
            file.truncate(whole)
            os.fsync(file.fileno())
    return whole


def _last(path: Path, size: int) -> Head:
    with path.open("rb") as file:
        file.seek(max(0, size - 2 * LONGEST_LINE))
        line = file.read().splitlines(keepends=True)[-1]
    return Head(_links(line, path, None)[0], _sha256(line))


def _links(line: bytes, path: Path, expected: int | None) -> tuple[int, str]:
    """A record's number, and the hash that it holds. Raises SecurityError for what is no record."""
    try:
        record = parse_json_object(line, "the record")
        number, previous = record["number"], record["previous"]
    except (CipherlensError, KeyError):
        number = previous = None
    if type(number) is not int or not isinstance(previous, str) or not line.endswith(b"\n"):
        place = "its last record" if expected is None else f"record {expected}"
        raise SecurityError(f"the audit log {path.name} is damaged: {place} cannot be read")
    return number, previous


def _sha256(line: bytes) -> str:
    return hashlib.sha256(line).hexdigest()


def _write(file: int, line: bytes) -> None:
    while line:
        line = line[os.write(file, line) :]
