"""Writing a cipherlens file: streamed, and all or nothing."""

from __future__ import annotations

import errno
import hashlib
import os
import secrets
import shutil
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cipherlens.errors import InputError
from cipherlens.wire.disk import sync_folder
from cipherlens.wire.layout import UNSET_DIGEST, Kind, compose, place

CHUNK = 1 << 22
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class NoRoom(InputError):
    """The disk has no room for a file."""


class Writer:
    """A context manager that writes one file, whose old version stays until the new one is complete on the disk.

    The rows of each tensor are given in order, those of different tensors in any order among each other. Leaving the
    block normally puts the file in place; leaving it by an exception (Ctrl-C included) removes what was written. The
    data lies in a hidden file in the same folder meanwhile.

    Attributes:
        path: where the file will be.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        kind: Kind,
        header: Mapping[str, object],
        shapes: Mapping[str, tuple[Any, tuple[int, ...]]],
        *,
        private: bool = False,
    ) -> None:
        """Open the file.

        Args:
            path: where to; a symbolic link is followed.
            kind: what it holds.
            header: the kind's fields, made of what JSON knows.
            shapes: for each tensor its dtype (uint8, int8, int32, int64, float32 or float64) and its shape.
            private: readable by its owner alone (mode 0600).

        Raises:
            NoRoom: there is no space for the file.
            InputError: the folder does not exist or is not writable, the path is no regular file, or a shape or dtype
                cannot be stored.
        """
        self.path = Path(path)
        self._kind, self._header = kind, dict(header)
        self._tensors = place(shapes)
        self._written = dict.fromkeys(self._tensors, 0)
        self._start = len(compose(kind, self._header, self._tensors, UNSET_DIGEST))
        self._body = max((tensor.end for tensor in self._tensors.values()), default=0)
        self._target = Path(os.path.realpath(self.path))
        if self._target.exists() and not self._target.is_file():
            what = "a folder" if self._target.is_dir() else "not a regular file"
            raise InputError(f"{self.path} is {what}; name a file to write to")
        self._check_space()
        self._temporary = self._target.with_name(f".{self._target.name}.{secrets.token_hex(6)}.part")
        try:
            flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
            self._file = os.open(self._temporary, flags, 0o600 if private else 0o666)
        except OSError as error:
            raise self._failure(error) from None

    def __enter__(self) -> Writer:
        return self

    def write(self, name: str, rows: NDArray[Any]) -> None:
        """Append rows to a tensor.

        Args:
            name: of the tensor.
            rows: (any number, *the tensor's other axes), of the tensor's dtype.

        Raises:
            InputError: rows of another dtype or shape, or more of them than announced.
            NoRoom: the disk is full.
        """
        tensor = self._tensors[name]
        if rows.dtype.newbyteorder("<") != tensor.dtype or rows.shape[1:] != tensor.shape[1:] or rows.ndim == 0:
            raise InputError(
                f"rows of {name!r} are {rows.dtype} {rows.shape[1:]} but were announced as "
                f"{tensor.dtype} {tensor.shape[1:]}"
            )
        first, last = self._written[name], self._written[name] + rows.shape[0]
        if last > tensor.shape[0]:
            raise InputError(f"{name!r} was announced with {tensor.shape[0]} rows and would get {last}")
        if rows.size:
            data = np.ascontiguousarray(rows, tensor.dtype).data.cast("B")
            self._pwrite(data, self._start + tensor.begin + first * tensor.row_bytes)
        self._written[name] = last

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if error is None:
                self._commit()
        finally:
            try:
                os.close(self._file)
            finally:
                self._temporary.unlink(missing_ok=True)  # after a commit it has its final name

    def _commit(self) -> None:
        for name, tensor in self._tensors.items():
            if self._written[name] != tensor.shape[0]:
                raise InputError(
                    f"{name!r} was announced with {tensor.shape[0]} rows but got {self._written[name]}; "
                    f"{self.path} was not written"
                )
        try:
            digest = hashlib.sha256()
            for offset in range(self._start, self._start + self._body, CHUNK):
                digest.update(os.pread(self._file, min(CHUNK, self._start + self._body - offset), offset))
            start = compose(self._kind, self._header, self._tensors, digest.hexdigest())
            self._pwrite(memoryview(start), 0)
            os.fsync(self._file)
            os.replace(self._temporary, self._target)
            sync_folder(self._target.parent)
        except OSError as error:
            raise self._failure(error) from None

    def _pwrite(self, data: memoryview, offset: int) -> None:
        try:
            while data:
                count = os.pwrite(self._file, data, offset)
                data, offset = data[count:], offset + count
        except OSError as error:
            raise self._failure(error) from None

    def _check_space(self) -> None:
        try:
            free = shutil.disk_usage(self._target.parent).free
        except OSError as error:
            raise self._failure(error) from None
        if free < self._start + self._body:
            raise NoRoom(
                f"{self.path} needs {(self._start + self._body) / 1e6:,.1f} MB and its disk has {free / 1e6:,.1f} MB "
                "free; make room or write elsewhere"
            )

    def _failure(self, error: OSError) -> InputError:
        if error.errno in FULL:
            return NoRoom(
                f"{self.path} cannot be written: the disk has no room for {(self._start + self._body) / 1e6:,.1f} MB; make "
                "room or write elsewhere"
            )
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            reason = f"the folder {self._target.parent} is not writable; choose another"
        elif error.errno in (errno.ENOENT, errno.ENOTDIR):
            reason = f"there is no folder {self._target.parent}; create it first"
        else:
            reason = f"{os.strerror(error.errno) if error.errno else error}; choose another place"
        return InputError(f"{self.path} cannot be written: {reason}")
