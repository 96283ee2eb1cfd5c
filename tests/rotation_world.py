"""What tests of key rotation share: keys, files, what they are switched to, and a service's job by hand."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from service_world import Owner, in_process, rows, token

import cipherlens as cl
from cipherlens.learning.encrypted_images import EncryptedImages
from cipherlens.owner.keys import Keys
from cipherlens.scheme.keys import KeyChange
from cipherlens.service.audit import Audit
from cipherlens.service.database import Database
from cipherlens.service.deletion import Deletions
from cipherlens.service.identity import Identity
from cipherlens.service.jobs import Claim, Jobs
from cipherlens.service.settings import Settings
from cipherlens.service.storage import open_store
from cipherlens.service.sweep import Sweeper
from cipherlens.service.switching import Switching
from cipherlens.wire.key_change import write_key_change


@dataclass(frozen=True)
class World:
    """Old and new keys of a task, images of the owner and of contributors in files, and what they are switched to."""

    old: Keys
    new: Keys
    change: KeyChange
    parts: tuple[Path, ...]
    switched: tuple[bytes, ...]
    key: Path

    @property
    def old_id(self) -> str:
        return self.change.old_key_id

    @property
    def new_id(self) -> str:
        return self.change.key_id


def make_world(folder: Path) -> World:
    """A small world below a folder."""
    table, labels = rows(1024, 1)
    task = cl.plan(table[:240], labels[:240], features="table", threads=1, steps=2, dimension=32)
    old = Keys.create(task, threads=2)
    new, change = Keys.create_successor(task, old.secrets, threads=2)
    write_key_change(folder / "switching.cl", change)
    parts, switched = [], []
    for i, part in enumerate(slice(start, start + 256) for start in range(0, 1024, 256)):
        encrypting = old if i % 2 == 0 else old.public
        path = folder / f"part{i}.cl"
        encrypting.encrypt(table[part], labels[part]).save(path)
        parts.append(path)
        cl.server.switch_images(EncryptedImages.load(path), change, path=folder / "switched.cl")
        switched.append((folder / "switched.cl").read_bytes())
    return World(old, new, change, tuple(parts), tuple(switched), folder / "switching.cl")


def mark(path: Path) -> bytes:
    """Bytes from the middle of a file's body, which occur nowhere else."""
    data = path.read_bytes()
    return data[len(data) // 2 : len(data) // 2 + 48]


def somewhere(data: Path, what: bytes) -> list[str]:
    """Files below a service's folder that hold these bytes."""
    return [path.name for path in data.rglob("*") if path.is_file() and what in path.read_bytes()]


def look(owner: Owner, data_set: str) -> dict[str, Any]:
    found: dict[str, Any] = owner.done("GET", f"/v1/datasets/{data_set}")
    return found


class Bench:
    """A database and store with one data set, and a switching job in the queue; workers are called by hand."""

    def __init__(self, folder: Path, world: World, storage: str | None = None) -> None:
        self.data, self.world = folder / "data", world
        self.secret = token(self.data)
        self.settings = Settings(data=self.data, storage=storage, cache_bytes=1)
        self.database, self.store = Database(self.data), open_store(self.data, storage, 1)
        self.jobs = Jobs(self.database, self.store, 10.0)
        with in_process(self.settings, self.database) as http:
            owner = Owner(http, self.secret)
            self.files = [owner.upload(part) for part in world.parts[:2]]
            self.data_set = str(owner.done("POST", "/v1/datasets", json={"file_ids": self.files})["dataset_id"])
            self.submit(owner)

    def submit(self, owner: Owner, key: str = "switch") -> None:
        self.key = owner.upload(self.world.key, "switching_key")
        self.job = owner.submit(key, kind="switch", dataset_id=self.data_set, switching_key_file_id=self.key)

    @contextmanager
    def owner(self) -> Iterator[Owner]:
        with in_process(self.settings, self.database) as http:
            yield Owner(http, self.secret)

    def claim(self) -> Claim:
        claim = self.jobs.claim("worker-1")
        assert claim is not None and claim.job_id == self.job
        return claim

    def work(self, claim: Claim, progress: Callable[[str, float], None] = lambda stage, share: None) -> bool:
        deletions = Deletions(self.database, self.store, Identity.open(self.data), Audit(self.data))
        return Switching(self.database, self.store, self.jobs, deletions, 1).run(claim, progress)

    def state(self) -> tuple[str, str, list[bytes]]:
        """The job's state, the data set's key, and the bytes of its files."""
        with self.owner() as owner:
            job = owner.done("GET", f"/v1/jobs/{self.job}")
            data_set = look(owner, self.data_set)
            return job["state"], data_set["key_id"], [owner.download(i) for i in data_set["file_ids"]]

    def tidy(self) -> None:
        """What the start of a service does."""
        Sweeper(self.database, self.store, self.jobs, self.settings).start()

    def there(self) -> set[str]:
        """Files in the tenant's folder, by name."""
        return {whole.file_id for whole in self.store.stored()}
