"""Reading a cipherlens file from outside: everything is checked before anything large is allocated."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Collection, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cipherlens.errors import FormatError, InputError
from cipherlens.wire.fields import Json
from cipherlens.wire.layout import LARGEST_HEADER, LENGTH_BYTES, DType, Kind, Layout, parse

CHUNK = 1 << 22


class Reader:
    """An open file, closed by `close` or by leaving its `with` block. Threads may read from it side by side.

    Attributes:
        name: of the file, for messages.
        kind: what it holds.
        header: the kind's fields, untrusted: read them with `cipherlens.wire.fields`.
        shapes: the shape of each tensor, in the order in which they lie in the file.
        dtypes: the dtype of each tensor, little-endian.
        body_sha256: 64 hexadecimal digits; what `verify` compares the body with.
    """

    def __init__(self, file: int, name: str, start: int, layout: Layout) -> None:
        """Use `Reader.open`."""
        self._file, self.name, self._start, self._layout = file, name, start, layout
        self.kind: Kind = layout.kind
        self.header: Mapping[str, Json] = layout.header
        self.body_sha256 = layout.body_sha256
        self.shapes: dict[str, tuple[int, ...]] = {key: tensor.shape for key, tensor in layout.tensors.items()}
        self.dtypes: dict[str, DType] = {key: tensor.dtype for key, tensor in layout.tensors.items()}

    @classmethod
    def open(
        cls, path: str | os.PathLike[str], expected: Kind | Collection[Kind] | None, *, verify: bool = True
    ) -> Reader:
        """Open a file and check its outer shape.

        Args:
            path: of the file.
            expected: the kind or kinds that will do; None for any.
            verify: whether to compare the body with its SHA-256 now, which reads the whole file.

        Raises:
            InputError: there is no such file, or it cannot be read.
            FormatError: it is none of Cipherlens, of a newer format, of another kind, truncated or altered.
        """
        name = Path(path).name
        file = _open_regular(path)
        try:
            layout, start = _read_layout(file, name)
            _check_kind(layout.kind, expected, name)
        except BaseException:
            os.close(file)
            raise
        reader = cls(file, name, start, layout)  # which closes the file from here on
        try:
            if verify:
                reader.verify_body()
        except BaseException:
            reader.close()
            raise
        return reader

    def __enter__(self) -> Reader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __del__(self) -> None:
        self.close()  # for those who read rows as long as they live

    def close(self) -> None:
        """Close the file; once more does nothing."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def read(self, name: str, start: int = 0, stop: int | None = None) -> NDArray[Any]:
        """Rows start ... stop - 1 of a tensor, all of them by default, as a new array in the machine's byte order.

        Raises:
            FormatError: the file has no such tensor, or became shorter.
            InputError: rows that the tensor does not have.
        """
        tensor = self._layout.tensors.get(name)
        if tensor is None:
            raise FormatError(f"{self.name} holds no tensor {name!r}; it is damaged or was not written by Cipherlens")
        stop = tensor.shape[0] if stop is None else stop
        if not 0 <= start <= stop <= tensor.shape[0]:
            raise InputError(f"{name!r} of {self.name} has {tensor.shape[0]} rows, not {start} ... {stop}")
        rows = np.empty((stop - start, *tensor.shape[1:]), tensor.dtype)
        if rows.size:
            offset = self._start + tensor.begin + start * tensor.row_bytes
            view = rows.data.cast("B")
            for done in range(0, len(view), CHUNK):
                part = view[done : done + CHUNK]
                part[:] = self._pread(len(part), offset + done)
        return rows.astype(tensor.dtype.newbyteorder("="), copy=False)

    def expect(self, name: str, dtype: Any, shape: tuple[int | None, ...]) -> tuple[int, ...]:
        """Check a tensor's dtype and shape, None standing for any extent, and return its shape.

        Raises:
            FormatError: it is missing or differs.
        """
        found = self.shapes.get(name)
        if found is None:
            raise FormatError(f"{self.name} holds no tensor {name!r}; it is damaged or was not written by Cipherlens")
        same = len(found) == len(shape) and all(w in (None, f) for w, f in zip(shape, found, strict=True))
        if self.dtypes[name] != np.dtype(dtype).newbyteorder("<") or not same:
            wanted = ", ".join("any" if extent is None else str(extent) for extent in shape)
            raise FormatError(
                f"the tensor {name!r} of {self.name} is {self.dtypes[name]} {list(found)} and should be "
                f"{np.dtype(dtype)} [{wanted}]"
            )
        return found

    def expect_only(self, names: Collection[str]) -> None:
        """Check that the file holds no tensor besides these.

        Raises:
            FormatError: it does.
        """
        extra = sorted(set(self.shapes) - set(names))
        if extra:
            raise FormatError(f"{self.name} holds a tensor {extra[0]!r} that does not belong into {self.kind.words}")

    def verify_body(self) -> None:
        """Compare the body with its SHA-256, in constant memory.

        Raises:
            FormatError: it differs.
        """
        digest = hashlib.sha256()
        end = self._start + self._layout.body_bytes
        for offset in range(self._start, end, CHUNK):
            digest.update(self._pread(min(CHUNK, end - offset), offset))
        if digest.hexdigest() != self._layout.body_sha256:
            raise FormatError(f"{self.name} was altered: its body does not match its SHA-256; fetch or create it again")

    def _pread(self, length: int, offset: int) -> bytes:
        return _pread(self._file, length, offset, self.name)


def _pread(file: int, length: int, offset: int, name: str) -> bytes:
    try:
        data = os.pread(file, length, offset)
        while len(data) < length and (more := os.pread(file, length - len(data), offset + len(data))):
            data += more
    except OSError as error:
        raise InputError(f"{name} cannot be read: {error.strerror}") from None
    if len(data) != length:
        raise FormatError(f"{name} became shorter while it was read; fetch or create it again")
    return data


def _open_regular(path: str | os.PathLike[str]) -> int:
    try:
        # Without O_NONBLOCK, opening a named pipe would wait for a writer.
        file = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    except FileNotFoundError:
        raise InputError(f"there is no file {path}") from None
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be opened: {getattr(error, 'strerror', None) or error}") from None
    mode = os.fstat(file).st_mode
    if not stat.S_ISREG(mode):
        os.close(file)
        raise InputError(f"{path} is {'a folder' if stat.S_ISDIR(mode) else 'not a regular file'}; name a file")
    return file


def _read_layout(file: int, name: str) -> tuple[Layout, int]:
    """The checked header, and where the body starts."""
    size = os.fstat(file).st_size
    if size < LENGTH_BYTES + 2:
        raise FormatError(f"{name} has {size} bytes and is no Cipherlens file; it may have been truncated")
    length = int.from_bytes(_pread(file, LENGTH_BYTES, 0, name), "little")
    if length > LARGEST_HEADER:
        raise FormatError(
            f"{name} is no Cipherlens file: its header would take {length} bytes, and {LARGEST_HEADER} is the most"
        )
    start = LENGTH_BYTES + length
    if start > size:
        raise FormatError(f"{name} was truncated: it has {size} bytes and its header alone takes {start}")
    layout = parse(_pread(file, length, LENGTH_BYTES, name), name)
    if start + layout.body_bytes != size:
        how = "was truncated" if size < start + layout.body_bytes else "was altered"
        raise FormatError(
            f"{name} {how}: its header describes {start + layout.body_bytes} bytes and it has {size}; "
            "fetch or create it again"
        )
    return layout, start


def _check_kind(kind: Kind, expected: Kind | Collection[Kind] | None, name: str) -> None:
    wanted = [expected] if isinstance(expected, Kind) else expected
    if wanted is not None and kind not in wanted:
        words = " or ".join(sorted(Kind(k).words for k in wanted))
        raise FormatError(f"{name} holds {kind.words}, but should hold {words}; name the right file")
