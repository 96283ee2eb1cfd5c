"""Files of one owner, a real service in processes of its own, and a plain HTTP client: what the service's tests share."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from pydantic import SecretStr
from structlog.testing import capture_logs

import cipherlens as cl
from cipherlens.owner.keys import Keys
from cipherlens.service.database import Database
from cipherlens.service.settings import PIECE_BYTES, Settings
from cipherlens.service.tokens import Scope, create_token
from cipherlens.service.web import make_server
from cipherlens.wire.keys import write_evaluation_keys

FEATURES = 30
SECRET_WORDS = ("northern-goldfinch", "upland-sandpiper")
"""Class names: they never reach the service."""


@dataclass(frozen=True)
class Material:
    """Encrypted files of one task and key, and what an undisturbed server makes of them.

    Attributes:
        parts: labelled images in several files. query: unlabelled ones. keys: evaluation keys.
        model: bytes of the model trained on all parts in their order. reply: bytes of its answer to the query.
        foreign: labelled images of another task and key; foreign_keys: its evaluation keys.
    """

    parts: tuple[Path, ...]
    query: Path
    keys: Path
    model: bytes
    reply: bytes
    foreign: Path
    foreign_keys: Path


def rows(count: int, seed: int) -> tuple[Any, list[str]]:
    """A table of two classes and their names."""
    rng = np.random.default_rng(seed)
    numbers = np.arange(count) % 2
    centres = np.random.default_rng(7).normal(size=(2, FEATURES))
    return rng.normal(size=(count, FEATURES)) + centres[numbers], [SECRET_WORDS[n] for n in numbers]


def make_material(folder: Path, images: int = 2048, parts: int = 2) -> Material:
    """Plan, make keys, encrypt, and compute what the service is to compute."""
    folder.mkdir(parents=True)
    table, labels = rows(images, 1)
    task = cl.plan(table[:240], labels[:240], features="table", threads=1, steps=2, dimension=32)
    keys = Keys.create(task, threads=2)
    size = images // parts
    paths = [folder / f"part{i}.cl" for i in range(parts)]
    for i, path in enumerate(paths):
        part = slice(i * size, (i + 1) * size)
        keys.encrypt(table[part], labels[part]).save(path)
    keys.encrypt(rows(40, 2)[0]).save(folder / "query.cl")
    write_evaluation_keys(folder / "keys.cl", keys.evaluation)
    model = cl.server.train([_images(path) for path in paths], keys.evaluation)
    model.save(folder / "model.cl")
    cl.server.classify(model, _images(folder / "query.cl"), keys.evaluation).save(folder / "reply.cl")
    other = cl.plan(table[:240], labels[:240], features="table", threads=1, steps=2, dimension=32)
    foreign = Keys.create(other, threads=2)
    foreign.encrypt(table[:64], labels[:64]).save(folder / "foreign.cl")
    write_evaluation_keys(folder / "foreign-keys.cl", foreign.evaluation)
    return Material(
        tuple(paths), folder / "query.cl", folder / "keys.cl", (folder / "model.cl").read_bytes(),
        (folder / "reply.cl").read_bytes(), folder / "foreign.cl", folder / "foreign-keys.cl",
    )  # fmt: skip


def _images(path: Path) -> Any:
    from cipherlens.learning.encrypted_images import EncryptedImages

    return EncryptedImages.load(path)


def token(data: Path, tenant: str = "clinic", dataset: str | None = None, url: SecretStr | None = None) -> str:
    """A new token, as the operator makes it. url: of the database, None for the one in the folder."""
    data.mkdir(parents=True, exist_ok=True)
    database = Database(data, url)
    scope = Scope.OWNER if dataset is None else Scope.CONTRIBUTOR
    made = create_token(database, Settings(data=data), tenant, scope, dataset)
    database.close()
    return made


# ---- a client -------------------------------------------------------------------------------------------------------


def manifest(path: Path, kind: str) -> dict[str, Any]:
    """What announces a file."""
    content = path.read_bytes()
    return {
        "kind": kind,
        "size": len(content),
        "sha256": hashlib.sha256(content).hexdigest(),
        "header": base64.b64encode(content[: 8 + int.from_bytes(content[:8], "little")]).decode(),
        "pieces": [hashlib.sha256(p).hexdigest() for p in split(content)],
    }


def split(content: bytes) -> list[bytes]:
    """A file's pieces."""
    return [content[i : i + PIECE_BYTES] for i in range(0, len(content), PIECE_BYTES)]


class Impatient(AssertionError):
    """Something did not happen in time."""


class Owner:
    """A plain client of the HTTP face. With `patience` it repeats what fails because the service is being killed."""

    def __init__(self, http: httpx.Client, token: str, patience: float = 0.0) -> None:
        self.http, self._token, self._patience = http, token, patience

    def ask(self, method: str, path: str, **more: Any) -> httpx.Response:
        """One request, with the token."""
        headers = {"Authorization": f"Bearer {self._token}", **more.pop("headers", {})}
        deadline = time.monotonic() + self._patience
        while True:
            try:
                return self.http.request(method, path, headers=headers, **more)
            except httpx.TransportError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.05)

    def done(self, method: str, path: str, **more: Any) -> Any:
        """A request that succeeds; its JSON."""
        answer = self.ask(method, path, **more)
        assert answer.is_success, f"{method} {path}: {answer.status_code} {answer.text}"
        return answer.json() if answer.content else None

    def upload(self, path: Path, kind: str = "images") -> str:
        """Announce, send what is missing, complete; again until nothing is missing. Returns the id."""
        announced, pieces = manifest(path, kind), split(path.read_bytes())
        while True:
            declared = self.done("POST", "/v1/files", json=announced)
            file_id = str(declared["file_id"])
            for index in declared["missing"]:
                self.done("PUT", f"/v1/files/{file_id}/pieces/{index}", content=pieces[index])
            answer = self.ask("POST", f"/v1/files/{file_id}/complete")
            if answer.is_success:
                return file_id
            assert answer.json()["error"]["kind"] in ("Incomplete", "Busy"), answer.text
            time.sleep(0.01)

    def submit(self, key: str, **recipe: str) -> str:
        """A job's id."""
        return str(self.done("POST", "/v1/jobs", json=recipe, headers={"Idempotency-Key": key})["job_id"])

    def wait(self, job_id: str, seconds: float = 60.0) -> dict[str, Any]:
        """The job once it has ended."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            job: dict[str, Any] = self.done("GET", f"/v1/jobs/{job_id}")
            if job["finished"] is not None:
                return job
            time.sleep(0.05)
        raise Impatient(f"the job is still {job['state']}: {job['stage']} {job['progress']}")

    def download(self, file_id: str) -> bytes:
        """A file."""
        answer = self.ask("GET", f"/v1/files/{file_id}")
        assert answer.is_success, answer.text
        return answer.content


@contextmanager
def in_process(settings: Settings, database: Database) -> Iterator[httpx.Client]:
    """Only the part that answers requests, in a thread of this process, and a client for it."""
    listening = socket.create_server(("127.0.0.1", 0))
    server = make_server(settings, database)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
    thread.start()
    try:
        url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        with capture_logs(), httpx.Client(base_url=url, timeout=30, trust_env=False) as http:
            yield http
    finally:
        server.should_exit = True
        thread.join()
        listening.close()


# ---- a service ------------------------------------------------------------------------------------------------------

RUN = """
from cipherlens.service.process import read_settings
from cipherlens.service.supervisor import Supervisor
Supervisor(read_settings()).run(lambda url: print(url, flush=True))
"""


class Service:
    """A service on a folder, in processes of its own, that can be killed and started again on the same port."""

    def __init__(self, data: Path, **settings: Any) -> None:
        self.data, self._settings = data, settings
        self._log = data.parent / f"{data.name}.log"
        self.url = ""
        self.start()

    def start(self) -> None:
        """Start it, on the port that it had before."""
        port = int(self.url.rpartition(":")[2]) if self.url else 0
        settings = Settings(**{"data": self.data, "port": port, "threads": 2, **self._settings})
        with self._log.open("ab") as log:
            self.process = subprocess.Popen([sys.executable, "-c", RUN], stdin=-1, stdout=-1, stderr=log, text=True)
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        with self.process.stdin as stdin:
            stdin.write(settings.model_dump_json())
        self.url = self.process.stdout.readline().strip()
        assert self.url, self.log()

    def log(self) -> str:
        """Everything it logged."""
        return self._log.read_text()

    def children(self, role: str) -> list[int]:
        """Process ids of the web process or of the workers."""
        found = []
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
                command = (folder / "cmdline").read_bytes().split(b"\0")
            except (OSError, ValueError):
                continue
            if parent == self.process.pid and f"cipherlens.service.{role}".encode() in command:
                found.append(int(folder.name))
        return found

    def kill(self, role: str) -> None:
        """kill -9 of the `web` process, a `worker`, the `supervisor`, or `all` of them; not a word before."""
        victims = self.children("web") + self.children("worker") if role == "all" else []
        victims += self.children(role) if role in ("web", "worker") else []
        victims += [self.process.pid] if role in ("supervisor", "all") else []
        for victim in victims:
            with suppress_gone():
                os.kill(victim, signal.SIGKILL)
        if role in ("supervisor", "all"):
            self._reap()

    def stop(self) -> int:
        """SIGTERM; the exit status."""
        if self.process.poll() is None:
            self.process.terminate()
        return self._reap()

    def _reap(self) -> int:
        status = self.process.wait(timeout=60)
        if self.process.stdout is not None:
            self.process.stdout.close()
        return status


@contextmanager
def suppress_gone() -> Iterator[None]:
    """A process may have ended by itself."""
    try:
        yield
    except ProcessLookupError:
        return


@contextmanager
def serving(data: Path, **settings: Any) -> Iterator[Service]:
    """A service that is stopped at the end."""
    service = Service(data, **settings)
    try:
        yield service
    finally:
        if service.process.poll() is None:
            service.stop()


@contextmanager
def client(url: str, token: str, patience: float = 0.0) -> Iterator[Owner]:
    """An owner of that service."""
    with httpx.Client(base_url=url, timeout=30, trust_env=False) as http:
        yield Owner(http, token, patience)


def log_lines(service: Service) -> Sequence[dict[str, Any]]:
    """The log, line by line."""
    return [json.loads(line) for line in service.log().splitlines() if line.strip()]
