"""Whole files in S3, or what speaks its protocol; the local folder keeps copies for reading, up to a bound.

A file goes to the storage before the database says that it is ready. Pieces and checkpoints stay local.
"""

from __future__ import annotations

import fcntl
import hashlib
import io
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from cipherlens.errors import InputError
from cipherlens.service.errors import Gone, Unavailable
from cipherlens.service.logging import defect
from cipherlens.service.pieces import CHUNK, SUFFIX, Incoming, Store, Whole, make_folder

BLOCK = 8 << 20
"""Bytes that are asked for at once."""


def open_store(data: Path, url: str | None, cache_bytes: int) -> Store:
    """Where files are kept: in the folder, or by this URL. Raises InputError for a URL of another kind."""
    return Store(data) if url is None else ObjectStore(data, url, cache_bytes)


class ObjectStore(Store):
    """A store whose whole files are in a bucket, under `PREFIX/TENANT/FILE.cl`."""

    def __init__(self, data: Path, url: str, cache_bytes: int) -> None:
        """url: s3://BUCKET/PREFIX. cache_bytes: what local copies may take together.

        Raises:
            InputError: a URL of another kind, or s3fs is not installed.
        """
        super().__init__(data)
        parts = urlsplit(url)
        if parts.scheme != "s3" or not parts.netloc or "@" in parts.netloc or parts.query or parts.fragment:
            raise InputError(
                "storage is the service's folder, or s3://BUCKET/PREFIX without any credentials; give that"
            )
        try:
            from botocore.exceptions import BotoCoreError, ClientError  # type: ignore[import-untyped]
            from s3fs import S3FileSystem  # type: ignore[import-untyped]
        except ModuleNotFoundError:
            raise InputError("object storage needs s3fs; pip install 'cipherlens[service,storage]'") from None
        self._failures = (OSError, BotoCoreError, ClientError)
        self._bucket: Any = S3FileSystem(use_listings_cache=False, skip_instance_cache=True)
        self._prefix, self._most = f"{parts.netloc}{parts.path}".rstrip("/"), cache_bytes

    def publish(self, tenant_id: str, file_id: str) -> None:
        """Bring a complete local file to the storage. Raises Unavailable."""
        with self._asking():
            self._bucket.put_file(str(self.path(tenant_id, file_id)), self._remote(tenant_id, file_id))
        self._trim(keep=self.path(tenant_id, file_id))

    def hold(self, tenant_id: str, file_id: str, sha256: str) -> io.FileIO:
        """An open whole file, fetched and checked if it is not here; `path` is there as long as it is open.

        Raises:
            Unavailable: the storage does not answer.
            Gone: it lost the file, or has other bytes.
        """
        path = self.path(tenant_id, file_id)
        while True:
            try:
                opened = path.open("rb", buffering=0)
            except FileNotFoundError:
                self._fetch(path, self._remote(tenant_id, file_id), sha256)
                continue
            fcntl.flock(opened, fcntl.LOCK_SH)
            if os.fstat(opened.fileno()).st_nlink:  # else another process removed it in between
                os.utime(opened.fileno())
                return opened
            opened.close()

    def remove(self, tenant_id: str, file_id: str) -> None:
        """Remove a file and its local copy. Raises Unavailable."""
        super().remove(tenant_id, file_id)
        with self._asking():  # S3 removes what is not there, too
            self._bucket.rm_file(self._remote(tenant_id, file_id))

    def stored(self) -> Iterator[Whole]:
        """Every whole file, here or in the storage. Raises Unavailable."""
        with self._asking():
            found = self._bucket.find(self._prefix, detail=True)
        for name, about in found.items():
            tenant_id, _, rest = name.removeprefix(f"{self._prefix}/").partition("/")
            if rest.endswith(SUFFIX) and "/" not in rest:
                yield Whole(tenant_id, rest.removesuffix(SUFFIX), about["LastModified"].timestamp())
        yield from super().stored()

    def _remote(self, tenant_id: str, file_id: str) -> str:
        return f"{self._prefix}/{tenant_id}/{file_id}{SUFFIX}"

    def _fetch(self, path: Path, remote: str, sha256: str) -> None:
        # One at a time, or the second would put its copy in place of the one that whoever fetched first reads.
        make_folder(path.parent)
        with (self._root / f"fetching-{path.stem[0]}").open("wb") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if path.exists():
                return
            with Incoming(path) as incoming:
                if self._copy(remote, incoming) != sha256:
                    raise Gone("the service's storage changed this file; delete it and send it again")
                incoming.keep()
        self._trim(keep=path)

    def _copy(self, remote: str, incoming: Incoming) -> str:
        digest = hashlib.sha256()
        with self._asking():
            try:
                with self._bucket.open(remote, "rb", block_size=BLOCK) as source:
                    while chunk := source.read(CHUNK):
                        digest.update(chunk)
                        incoming.file.write(chunk)
            except FileNotFoundError:
                raise Gone("the service's storage lost this file; delete it and send it again") from None
        return digest.hexdigest()

    def _trim(self, keep: Path) -> None:
        """Remove the local copies that were not read for longest, until the others keep to the bound."""
        copies = []
        for path in self._whole_files():
            with suppress(FileNotFoundError):  # other processes remove some, too
                about = path.stat()
                copies.append((about.st_mtime, about.st_size, path))
        excess = sum(size for _, size, _ in copies) - self._most
        for _, size, path in sorted(copies):
            if excess > 0 and path != keep and self._let_go(path, size):
                excess -= size

    def _let_go(self, path: Path, size: int) -> bool:
        """Remove one copy, unless somebody reads it or the storage does not have it yet."""
        try:
            copy = path.open("rb")
        except FileNotFoundError:
            return True
        with copy:
            try:
                fcntl.flock(copy, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return False
            with self._asking():
                remote = self._remote(path.parts[-3], path.stem)
                if not self._bucket.exists(remote) or self._bucket.info(remote)["size"] != size:
                    return False
            path.unlink(missing_ok=True)
            return True

    @contextmanager
    def _asking(self) -> Iterator[None]:
        try:
            yield
        except self._failures as error:
            defect("storage", error)
            raise Unavailable("the service's storage does not answer; try again later") from None
