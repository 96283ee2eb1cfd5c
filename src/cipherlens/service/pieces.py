"""Pieces of uploads, each under its SHA-256, and the files that they are put together to.

A name appears only when its content is whole and on the disk, so that a crash leaves nothing but nameless temporary
files, which are removed at the next start.
"""

from __future__ import annotations

import hashlib
import io
import os
import secrets
import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from cipherlens.service.errors import Incomplete, Invalid
from cipherlens.wire.disk import sync_folder

CHUNK = 1 << 20
TEMPORARY = ".part"
SUFFIX = ".cl"


@dataclass(frozen=True)
class Whole:
    """A whole file that is kept, and when it was written or read last, in seconds since 1970."""

    tenant_id: str
    file_id: str
    written: float


class Store:
    """The folders below one service's data. Tenants and spaces are ids that the service made itself."""

    def __init__(self, data: Path) -> None:
        self._root = data / "tenants"

    def make(self) -> None:
        """Make the folder that all others are in, so that backups find it from the first day."""
        make_folder(self._root)

    def path(self, tenant_id: str, file_id: str) -> Path:
        """Where a whole file is, or will be."""
        return self._root / tenant_id / "files" / f"{file_id}{SUFFIX}"

    def checkpoint(self, tenant_id: str, job_id: str) -> Path:
        """Where a job's checkpoint is, or will be."""
        return self._root / tenant_id / "checkpoints" / f"{job_id}.sums"

    def workshop(self, tenant_id: str, job_id: str) -> Path:
        """A folder for what a job makes before it counts; not there until the job makes it."""
        return self._root / tenant_id / "checkpoints" / job_id

    def forget_work(self, tenant_id: str, job_id: str) -> None:
        """Remove a job's checkpoint and workshop, where there are any."""
        self.checkpoint(tenant_id, job_id).unlink(missing_ok=True)
        shutil.rmtree(self.workshop(tenant_id, job_id), ignore_errors=True)

    def piece(self, tenant_id: str, space: str, digest: bytes) -> Path:
        """Where a piece is, or will be."""
        name = digest.hex()
        return self._root / tenant_id / "pieces" / space / name[:2] / name

    def missing(self, tenant_id: str, space: str, manifest: Sequence[bytes]) -> list[int]:
        """Indices of the pieces that are not here."""
        return [i for i, digest in enumerate(manifest) if not self.piece(tenant_id, space, digest).exists()]

    def remove_pieces(self, tenant_id: str, space: str, digests: Iterable[bytes]) -> None:
        """Forget pieces, those that are there."""
        for digest in digests:
            self.piece(tenant_id, space, digest).unlink(missing_ok=True)

    def assemble(self, tenant_id: str, space: str, manifest: Sequence[bytes], target: BinaryIO) -> str:
        """Write the pieces one after the other; returns the SHA-256 of the whole in hexadecimal.

        Raises:
            Incomplete: a piece is missing, or no longer what its name says; in that case it is removed.
        """
        whole = hashlib.sha256()
        for index, digest in enumerate(manifest):
            path, part = self.piece(tenant_id, space, digest), hashlib.sha256()
            try:
                with path.open("rb") as piece:
                    while chunk := piece.read(CHUNK):
                        part.update(chunk)
                        whole.update(chunk)
                        target.write(chunk)
            except FileNotFoundError:
                raise Incomplete(
                    f"piece {index} of {len(manifest)} is missing; ask again which are, and send them"
                ) from None
            if part.digest() != digest:
                path.unlink(missing_ok=True)
                raise Incomplete(f"piece {index} of {len(manifest)} was damaged on the server; send it again")
        return whole.hexdigest()

    def publish(self, tenant_id: str, file_id: str) -> None:
        """Bring a complete local file to where it is kept: here it is."""

    def hold(self, tenant_id: str, file_id: str, sha256: str) -> io.FileIO:
        """An open whole file. Raises FileNotFoundError."""
        return self.path(tenant_id, file_id).open("rb", buffering=0)

    def remove(self, tenant_id: str, file_id: str) -> None:
        """Remove a whole file, if it is there."""
        self.path(tenant_id, file_id).unlink(missing_ok=True)

    def stored(self) -> Iterator[Whole]:
        """Every whole file."""
        for path in self._whole_files():
            with suppress(FileNotFoundError):
                yield Whole(path.parts[-3], path.stem, path.stat().st_mtime)

    def _whole_files(self) -> Iterator[Path]:
        return self._root.glob(f"*/files/*{SUFFIX}")

    def checkpoints(self) -> Iterator[tuple[str, Path]]:
        """Every checkpoint: its job's id and path."""
        return ((path.stem, path) for path in self._root.glob("*/checkpoints/*.sums"))

    def workshops(self) -> Iterator[tuple[str, Path]]:
        """Every workshop: its job's id and path."""
        return ((path.name, path) for path in self._root.glob("*/checkpoints/*") if path.is_dir())

    def pieces(self, tenant_id: str | None = None) -> Iterator[tuple[str, str, Path]]:
        """Every piece, of one tenant or of all: tenant, space and path."""
        found = self._root.glob(f"{tenant_id or '*'}/pieces/*/*/*")
        return ((p.parts[-5], p.parts[-3], p) for p in found if p.suffix != TEMPORARY)

    def sync(self, tenant_id: str) -> None:
        """Make durable that a tenant's files and checkpoints are gone."""
        for folder in (self._root / tenant_id / "files", self._root / tenant_id / "checkpoints"):
            if folder.is_dir():
                sync_folder(folder)

    def remove_temporary(self) -> int:
        """Remove what a crash left half-written. Only for when nobody else is at work. Returns how many."""
        leftovers = [*self._root.glob(f"*/*/.*{TEMPORARY}"), *self._root.glob(f"*/pieces/*/*/.*{TEMPORARY}")]
        for path in leftovers:
            path.unlink(missing_ok=True)
        return len(leftovers)


class Incoming:
    """Bytes on their way to a name: `write`, then `keep`; leaving the block without `keep` removes them."""

    def __init__(self, target: Path) -> None:
        make_folder(target.parent)
        self._target = target
        self._temporary = target.with_name(f".{target.name}.{secrets.token_hex(6)}{TEMPORARY}")
        self.file: BinaryIO = os.fdopen(os.open(self._temporary, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600), "w+b")
        self._digest = hashlib.sha256()
        self.size = 0

    def __enter__(self) -> Incoming:
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self.file.close()  # writes what is still in its buffer, which may fail on a full disk
        finally:
            self._temporary.unlink(missing_ok=True)  # once kept it has its final name

    @property
    def path(self) -> Path:
        """Where the bytes are meanwhile."""
        return self._temporary

    def write(self, data: bytes) -> None:
        """Append bytes."""
        self._digest.update(data)
        self.size += len(data)
        self.file.write(data)

    def require(self, digest: bytes) -> None:
        """Raises Invalid unless what was written through `write` has this SHA-256."""
        if self._digest.digest() != digest:
            raise Invalid("these bytes are not the piece that the manifest names under this index; send the right ones")

    def keep(self) -> None:
        """Make the bytes durable under the target's name."""
        self.file.flush()
        os.fsync(self.file.fileno())
        os.replace(self._temporary, self._target)
        sync_folder(self._target.parent)


def make_folder(folder: Path) -> None:
    """A folder for the operator alone, and those above it, durable."""
    if folder.is_dir():
        return
    make_folder(folder.parent)
    folder.mkdir(mode=0o700, exist_ok=True)
    sync_folder(folder.parent)
