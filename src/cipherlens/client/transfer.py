"""Files up and down in pieces. What has arrived is asked from the server, so nothing is kept beside the file itself."""

from __future__ import annotations

import base64
import hashlib
import os
import secrets
import sys
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cipherlens.client.http import Http
from cipherlens.errors import FormatError, InputError, ServerError
from cipherlens.wire.container import Reader
from cipherlens.wire.disk import file_sha256, sync_folder
from cipherlens.wire.layout import LARGEST_HEADER, LENGTH_BYTES, Kind, parse

PIECE = 4 << 20
SIDE_BY_SIDE = 3
"""Pieces on their way at once, which is also how many are in memory."""

ROUNDS = 3
"""How often a file is announced before a server that loses pieces of it is given up."""

MAY_LEAVE = (Kind.EVALUATION_KEYS, Kind.SWITCHING_KEY, Kind.IMAGES)
"""Files that a server is given. Keys that decrypt, tasks with their statistics, replies and models stay here."""

Progress = Callable[[str, float], None]
"""Called with a stage and the share of it that is done."""


@dataclass(frozen=True)
class RemoteFile:
    """A complete file on the server.

    Attributes:
        id: its name there, 32 hexadecimal digits.
        kind: evaluation_keys, switching_key, images, model or reply.
        size: bytes.
        sha256: of the whole file, 64 hexadecimal digits.
        images: how many it holds, as the server says; None for files of another kind.
    """

    id: str
    kind: str
    size: int
    sha256: str
    images: int | None = None


@dataclass(frozen=True)
class Manifest:
    """What is said of a local file before any of it is sent.

    Attributes:
        path: of the file.
        kind: what it holds.
        size: bytes.
        sha256: of the whole file.
        header: its first bytes, length and header.
        pieces: SHA-256 of each piece.
    """

    path: Path
    kind: Kind
    size: int
    sha256: str
    header: bytes
    pieces: tuple[str, ...]

    def to_json(self) -> dict[str, object]:
        """The body of the call that announces the file."""
        return {
            "kind": self.kind.value,
            "size": self.size,
            "sha256": self.sha256,
            "header": base64.b64encode(self.header).decode(),
            "pieces": list(self.pieces),
        }


def read_manifest(path: Path, expected: Kind | None = None) -> Manifest:
    """Read a file once, a piece at a time.

    Args:
        path: of a file that may leave this machine.
        expected: what it must hold; None for anything that may leave.

    Raises:
        InputError: there is no such file, or it holds what a server is never given.
        FormatError: it is none of Cipherlens, or of another kind.
    """
    try:
        with path.open("rb") as file:
            header, kind = _read_header(file, path)
            _check_kind(kind, expected, path)
            file.seek(0)
            whole, pieces, size = hashlib.sha256(), [], 0
            while piece := file.read(PIECE):
                whole.update(piece)
                pieces.append(hashlib.sha256(piece).hexdigest())
                size += len(piece)
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}); check the path") from None
    return Manifest(path, kind, size, whole.hexdigest(), header, tuple(pieces))


def sha256_of(path: Path) -> str:
    """SHA-256 of a file, 64 hexadecimal digits. Raises InputError when it cannot be read."""
    try:
        return file_sha256(path)
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}); check the path") from None


def upload(http: Http, manifest: Manifest, progress: Progress | None = None) -> RemoteFile:
    """Announce a file, send the pieces that the server lacks, and have it put together.

    Every call is idempotent: after an interruption the same call sends only what is missing.

    Raises:
        ServerError: refused, or out of reach.
        InputError: the file changed meanwhile.
    """
    for _ in range(ROUNDS):
        announced = http.json("POST", "/v1/files", manifest.to_json(), idempotent=True)
        file_id, missing = read_id(announced, "file_id"), _missing(announced, len(manifest.pieces))
        _send(http, manifest, file_id, missing, progress)
        # A piece may be missing again: damaged on the server's disk, or removed because nobody touched it for long.
        done = http.json("POST", f"/v1/files/{file_id}/complete", idempotent=True, expected=(409,))
        if done is not None:
            return RemoteFile(file_id, manifest.kind.value, manifest.size, manifest.sha256, _images(done))
    raise ServerError(f"the server lost pieces of {manifest.path} {ROUNDS} times; tell the provider")


def _send(http: Http, manifest: Manifest, file_id: str, missing: list[int], progress: Progress | None) -> None:
    stage = "uploading" if manifest.kind is Kind.IMAGES else "uploading keys"
    total = len(manifest.pieces)
    done = total - len(missing)

    def send(index: int) -> None:
        try:
            with manifest.path.open("rb") as file:
                file.seek(index * PIECE)
                piece = file.read(PIECE)
        except OSError as error:
            raise InputError(f"{manifest.path} cannot be read any more ({error.strerror}); check the path") from None
        if hashlib.sha256(piece).hexdigest() != manifest.pieces[index]:
            raise InputError(f"{manifest.path} changed while it was uploaded; run the same again")
        headers = {"Content-Type": "application/octet-stream"}
        http.call("PUT", f"/v1/files/{file_id}/pieces/{index}", piece, headers, idempotent=True)

    pool = ThreadPoolExecutor(SIDE_BY_SIDE)
    try:
        for job in [pool.submit(send, index) for index in missing]:
            job.result()
            done += 1
            if progress is not None:
                progress(stage, done / total)
    finally:
        # Ctrl-C and signals do not wait for pieces that a slow network holds; closing the connection ends them.
        pool.shutdown(wait=isinstance(sys.exception(), Exception | None), cancel_futures=True)


def find(http: Http, file_id: str) -> RemoteFile | None:
    """What the server says of one of its files, None if it has none of this id. Raises ServerError."""
    return _described(file_id, http.json("GET", f"/v1/files/{file_id}/info", idempotent=True, expected=(404,)))


def describe(http: Http, file_id: str) -> RemoteFile:
    """As `find`, of a file that must be there. Raises ServerError when it is not."""
    file = _described(file_id, http.json("GET", f"/v1/files/{file_id}/info", idempotent=True))
    if file is None:
        raise ServerError("the server has no such file any more")
    return file


def _described(file_id: str, values: dict[str, Any] | None) -> RemoteFile | None:
    return None if values is None else _file(file_id, values)


def _file(file_id: str, values: Mapping[str, Any]) -> RemoteFile:
    kind, size, sha256 = values.get("kind"), values.get("size"), values.get("sha256")
    if not isinstance(kind, str) or type(size) is not int or size < 0 or not is_hex(sha256, 64):
        raise ServerError("the server does not describe its file with kind, size and sha256; check its version")
    return RemoteFile(file_id, kind, size, str(sha256), _images(values))


def _images(values: Mapping[str, Any]) -> int | None:
    images = values.get("images")
    if images is not None and (type(images) is not int or not 0 <= images < 1 << 62):
        raise ServerError("the server does not say how many images its file holds; check its version")
    return images


def described(values: Mapping[str, Any]) -> RemoteFile:
    """A file out of a list. Raises ServerError when it is none."""
    return _file(read_id(values, "file_id"), values)


def download(http: Http, file: RemoteFile, path: Path, progress: Progress | None = None) -> None:
    """Fetch a file by ranges into its place: whole and with the right SHA-256, or not at all.

    Raises:
        ServerError: refused, out of reach, or not the bytes that the server described.
        InputError: the file cannot be written.
    """
    target = Path(os.path.realpath(path))
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(6)}.part")
    try:
        try:
            with temporary.open("xb") as out:
                digest = _fetch(http, file, out, progress)
                out.flush()
                os.fsync(out.fileno())
            if digest != file.sha256:
                raise ServerError(
                    f"what came for {path} does not have the SHA-256 that the server gave, so it was not kept; run the "
                    "same again, and tell the provider if it stays so"
                )
            _check_contents(temporary, file.kind)
            os.replace(temporary, target)
            sync_folder(target.parent)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise InputError(f"{path} cannot be written ({error.strerror}); make room or choose another place") from None


def _check_contents(path: Path, kind: str) -> None:
    """Raises ServerError unless the file is whole and of the kind that the server says."""
    try:
        Reader.open(path, Kind(kind)).close()
    except (FormatError, ValueError) as error:
        raise ServerError(f"the server sent what is no file of Cipherlens, so it was not kept: {error}") from None


def _fetch(http: Http, file: RemoteFile, out: Any, progress: Progress | None) -> str:
    """Write all ranges in order; returns their SHA-256."""
    digest, start = hashlib.sha256(), 0
    while start < file.size:
        stop = min(start + PIECE, file.size)
        headers = {"Range": f"bytes={start}-{stop - 1}"}
        answer = http.call("GET", f"/v1/files/{file.id}", None, headers, idempotent=True, most=stop - start)
        if len(answer.body) != stop - start or (answer.status != 206 and stop - start != file.size):
            raise ServerError(
                f"the server answered {len(answer.body)} bytes for a range of {stop - start}; run the same again"
            )
        out.write(answer.body)
        digest.update(answer.body)
        start = stop
        if progress is not None:
            progress("downloading", start / file.size)
    return digest.hexdigest()


def read_id(values: Mapping[str, Any] | None, name: str) -> str:
    """An id from a server's answer. It goes into addresses, so it must be 32 hexadecimal digits. Raises ServerError."""
    value = (values or {}).get(name)
    if not is_hex(value, 32):
        raise ServerError(f"the server's answer holds no {name}; check that it is a Cipherlens server of this version")
    return str(value)


def is_hex(value: object, digits: int) -> bool:
    """Whether something from outside is text of so many hexadecimal digits."""
    return isinstance(value, str) and len(value) == digits and set(value) <= set("0123456789abcdef")


def _missing(values: Mapping[str, Any] | None, pieces: int) -> list[int]:
    missing = (values or {}).get("missing")
    if not isinstance(missing, list) or not all(type(i) is int and 0 <= i < pieces for i in missing):
        raise ServerError("the server does not say which pieces it lacks; check that it is a Cipherlens server")
    return sorted(set(missing))


def _read_header(file: Any, path: Path) -> tuple[bytes, Kind]:
    start = file.read(LENGTH_BYTES)
    length = int.from_bytes(start, "little")
    if len(start) < LENGTH_BYTES or length > LARGEST_HEADER:
        raise FormatError(f"{path} is no Cipherlens file; name one that `encrypt` or `keys create` wrote")
    text = file.read(length)
    if len(text) < length:
        raise FormatError(f"{path} was truncated: its header alone takes {LENGTH_BYTES + length} bytes")
    return start + text, parse(text, path.name).kind


def _check_kind(kind: Kind, expected: Kind | None, path: Path) -> None:
    if kind not in MAY_LEAVE:
        raise InputError(
            f"{path} holds {kind.words}, which a server is never given; upload encrypted images or evaluation keys"
        )
    if expected is not None and kind is not expected:
        raise FormatError(f"{path} holds {kind.words}, but should hold {expected.words}; name the right file")
