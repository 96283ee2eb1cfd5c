"""A server with the service's HTTP face and faults on demand, in one process: what the client is tested against.

It keeps everything in memory and in one folder, knows one token, and computes with the library itself.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

import cipherlens as cl
from cipherlens.errors import CipherlensError
from cipherlens.learning.encrypted_images import EncryptedImages, check_images
from cipherlens.learning.results import TrainedModel
from cipherlens.wire.container import Reader
from cipherlens.wire.keys import read_evaluation_keys

if TYPE_CHECKING:
    from cipherlens.client.connection import Connection

PIECE = 4 << 20
TOKEN = "clt_" + "0" * 32 + "_" + "x" * 43

Reply = tuple[int, dict[str, str], bytes]


class Refused(Exception):
    """Answer with this status and sentence."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


@dataclass
class Fault:
    """What happens to the next requests that match.

    Attributes:
        match: of "METHOD /path".
        times: how many are left.
        action: a status to answer instead; "drop" before or "late" after the request is carried out; "flip" one bit of
            the answer; "more" bytes than asked for.
    """

    match: str
    times: int
    action: int | str


@dataclass
class FakeService:
    """The state of the server.

    Attributes:
        requests: "METHOD /path" of everything that arrived, in order.
        sent: every byte of every request's body, for looking for what must not be there.
        work: what a job does before it computes, with its values.
        usage: what is answered about the tenant's quota.
        retry_after: what faults say in this header.
        listed: entries of a list in one answer.
    """

    folder: Path
    requests: list[str] = field(default_factory=list)
    sent: list[bytes] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    files: dict[str, dict[str, Any]] = field(default_factory=dict)
    pieces: dict[str, bytes] = field(default_factory=dict)
    datasets: dict[str, list[str]] = field(default_factory=dict)
    keys: dict[str, tuple[str, str]] = field(default_factory=dict)
    jobs: dict[str, dict[str, Any]] = field(default_factory=dict)
    work: Callable[[dict[str, Any]], None] = lambda job: None
    usage: dict[str, Any] = field(default_factory=dict)
    url: str = ""
    retry_after: str | None = None
    listed: int = 200
    lock: threading.RLock = field(default_factory=threading.RLock)

    def fail(self, match: str, action: int | str, times: int = 1) -> None:
        self.faults.append(Fault(match, times, action))

    def count(self, pattern: str) -> int:
        return sum(re.fullmatch(pattern, request) is not None for request in self.requests)

    def fault(self, request: str) -> int | str | None:
        for fault in self.faults:
            if fault.times and re.fullmatch(fault.match, request):
                fault.times -= 1
                return fault.action
        return None

    # ---- the calls -----------------------------------------------------------------------------------------------

    def answer(self, method: str, path: str, headers: dict[str, str], body: bytes) -> Reply:
        if headers.get("authorization") != f"Bearer {TOKEN}":
            raise Refused(401, "no")
        path, _, query = path.partition("?")
        asked = dict(parse_qsl(query, strict_parsing=bool(query)))
        for pattern, call in ROUTES.items():
            if match := re.fullmatch(pattern, f"{method} {path}"):
                with self.lock:
                    return call(self, *match.groups(), headers=headers, body=body, **asked)
        raise Refused(404, "there is no such call")

    def announce(self, *, headers: dict[str, str], body: bytes) -> Reply:
        wanted = json.loads(body)
        if set(wanted) != {"kind", "size", "sha256", "header", "pieces"}:
            raise Refused(422, "not the fields of a file")
        header = base64.b64decode(wanted["header"])
        if int.from_bytes(header[:8], "little") != len(header) - 8 or wanted["kind"] not in (
            "images",
            "evaluation_keys",
        ):
            raise Refused(422, "this header cannot be taken")
        known = [file_id for file_id, file in self.files.items() if file["sha256"] == wanted["sha256"]]
        file_id = known[0] if known else secrets.token_hex(16)
        file = self.files.setdefault(file_id, {**wanted, "state": "uploading"})
        missing = [i for i, digest in enumerate(file["pieces"]) if digest not in self.pieces]
        missing = [] if file["state"] == "ready" else missing
        return as_json({"file_id": file_id, "state": file["state"], "missing": missing})

    def piece(self, file_id: str, index: str, *, headers: dict[str, str], body: bytes) -> Reply:
        if hashlib.sha256(body).hexdigest() != self.file(file_id)["pieces"][int(index)]:
            raise Refused(400, "these bytes are not that piece")
        self.pieces[hashlib.sha256(body).hexdigest()] = body
        return 204, {}, b""

    def complete(self, file_id: str, *, headers: dict[str, str], body: bytes) -> Reply:
        file = self.file(file_id)
        if file["state"] != "ready":
            if any(digest not in self.pieces for digest in file["pieces"]):
                raise Refused(409, "a piece is missing")
            whole = b"".join(self.pieces[digest] for digest in file["pieces"])
            self.path(file_id).write_bytes(whole)
            with Reader.open(self.path(file_id), None) as reader, suppress(CipherlensError):  # keys are no images
                file["images"] = check_images(reader).images
            if hashlib.sha256(whole).hexdigest() != file["sha256"]:
                raise Refused(422, "another hash")
            file["state"] = "ready"
        return self.info(file_id, headers=headers, body=body)

    def info(self, file_id: str, *, headers: dict[str, str], body: bytes) -> Reply:
        return as_json(self.described(file_id))

    def get(self, file_id: str, *, headers: dict[str, str], body: bytes) -> Reply:
        self.file(file_id)
        whole = self.path(file_id).read_bytes()
        if match := re.fullmatch(r"bytes=(\d+)-(\d+)", headers.get("range", "")):
            first, last = int(match[1]), min(int(match[2]), len(whole) - 1)
            return 206, {"Content-Range": f"bytes {first}-{last}/{len(whole)}"}, whole[first : last + 1]
        return 200, {}, whole

    def delete(self, file_id: str, *, headers: dict[str, str], body: bytes) -> Reply:
        self.file(file_id)
        del self.files[file_id]
        return 204, {}, b""

    def new_dataset(self, *, headers: dict[str, str], body: bytes) -> Reply:
        ids = json.loads(body)["file_ids"]
        for file_id in ids:
            self.file(file_id)
        known = self.repeated(headers, body)
        if known is None:
            known = secrets.token_hex(16)
            self.keys[headers["idempotency-key"]] = (body.decode(), known)
            self.datasets[known] = ids
        return self.dataset(known, headers=headers, body=body)

    def dataset(self, dataset_id: str, *, headers: dict[str, str], body: bytes) -> Reply:
        ids = self.held(dataset_id)
        images = sum(self.file(file_id)["images"] for file_id in ids)
        return as_json({"dataset_id": dataset_id, "images": images, "file_ids": ids})

    def dataset_files(self, dataset_id: str, *, headers: dict[str, str], body: bytes) -> Reply:
        return as_json({"files": [self.described(file_id) for file_id in self.held(dataset_id)]})

    def append(self, dataset_id: str, *, headers: dict[str, str], body: bytes) -> Reply:
        file_id = json.loads(body)["file_id"]
        if file_id not in self.held(dataset_id):
            self.datasets[dataset_id].append(file_id)
        return self.dataset(dataset_id, headers=headers, body=body)

    def delete_dataset(self, dataset_id: str, *, headers: dict[str, str], body: bytes) -> Reply:
        self.held(dataset_id)
        del self.datasets[dataset_id]
        return 204, {}, b""

    def submit(self, *, headers: dict[str, str], body: bytes) -> Reply:
        known = self.repeated(headers, body)
        if known is None:
            known = secrets.token_hex(16)
            self.keys[headers["idempotency-key"]] = (body.decode(), known)
            recipe = json.loads(body)
            self.jobs[known] = {
                "job_id": known, "kind": recipe["kind"], "state": "queued", "stage": "queued", "progress": 0.0,
                "estimate_seconds": None, "result_file_id": None, "error": None,
                "created": time.time(),
            }  # fmt: skip
            threading.Thread(target=self.run, args=(self.jobs[known], recipe), daemon=True).start()
        return as_json({"job_id": known})

    def repeated(self, headers: dict[str, str], body: bytes) -> str | None:
        """The id that the same request got before."""
        before, known = self.keys.get(headers["idempotency-key"], (None, None))
        if before is not None and before != body.decode():
            raise Refused(409, "this key belongs to another request")
        return known

    def list_files(self, *, headers: dict[str, str], body: bytes, sha256: str = "", before: str = "") -> Reply:
        there = [self.described(i) for i, file in self.files.items() if sha256 in ("", file["sha256"])]
        return self.portion("files", there, before)

    def list_datasets(self, *, headers: dict[str, str], body: bytes, before: str = "") -> Reply:
        there = [{"dataset_id": i, "images": len(ids), "file_ids": ids} for i, ids in self.datasets.items()]
        return self.portion("datasets", there, before)

    def list_jobs(self, *, headers: dict[str, str], body: bytes, before: str = "") -> Reply:
        return self.portion("jobs", list(self.jobs.values()), before)

    def portion(self, name: str, oldest_first: list[dict[str, Any]], before: str) -> Reply:
        """Newest first, from the place that the cursor names."""
        stop = int(before, 16) if before else len(oldest_first)
        start = max(0, stop - self.listed)
        return as_json({name: oldest_first[start:stop][::-1], "next": f"{start:048x}" if start else None})

    def job(self, job_id: str, *, headers: dict[str, str], body: bytes) -> Reply:
        if job_id not in self.jobs:
            raise Refused(404, "there is no such job here for this token")
        return as_json(self.jobs[job_id])

    def cancel(self, job_id: str, *, headers: dict[str, str], body: bytes) -> Reply:
        if self.jobs[job_id]["state"] in ("queued", "running"):
            self.jobs[job_id].update(state="cancelled", stage="cancelled")
        return as_json(self.jobs[job_id])

    def quota(self, *, headers: dict[str, str], body: bytes) -> Reply:
        return as_json(self.usage)

    # ---- inside --------------------------------------------------------------------------------------------------

    def file(self, file_id: str) -> dict[str, Any]:
        if file_id not in self.files:
            raise Refused(404, "there is no such file here for this token")
        return self.files[file_id]

    def described(self, file_id: str) -> dict[str, Any]:
        file = self.file(file_id)
        about = {name: file[name] for name in ("kind", "state", "size", "sha256")}
        return {"file_id": file_id, "images": file.get("images"), **about}

    def held(self, dataset_id: str) -> list[str]:
        if dataset_id not in self.datasets:
            raise Refused(404, "there is no such data set here for this token")
        return self.datasets[dataset_id]

    def path(self, file_id: str) -> Path:
        return self.folder / f"{file_id}.cl"

    def run(self, job: dict[str, Any], recipe: dict[str, str]) -> None:
        job.update(state="running", stage="reading keys")
        result_id = secrets.token_hex(16)
        path = self.path(result_id)
        try:
            self.work(job)
            keys = read_evaluation_keys(self.path(recipe["keys_file_id"]))

            def progress(stage: str, share: float) -> None:
                job.update(stage=stage, progress=share)

            if recipe["kind"] == "train":
                sets = [EncryptedImages.load(self.path(i)) for i in self.datasets[recipe["dataset_id"]]]
                kind, result = "model", cl.server.train(sets, keys, threads=1, progress=progress)
            else:
                model = TrainedModel.load(self.path(recipe["model_file_id"]))
                query = EncryptedImages.load(self.path(recipe["query_file_id"]))
                kind, result = "reply", cl.server.classify(model, query, keys, threads=1, progress=progress)
            result.save(path)
        except CipherlensError as error:
            job.update(state="failed", error={"kind": type(error).__name__, "message": str(error)})
            return
        whole = path.read_bytes()
        values = {"kind": kind, "state": "ready", "size": len(whole), "sha256": hashlib.sha256(whole).hexdigest()}
        if job["state"] == "running":
            self.files[result_id] = {**values, "pieces": []}
            job.update(state="done", stage="done", progress=1.0, result_file_id=result_id)


def as_json(values: dict[str, Any]) -> Reply:
    return 200, {"Content-Type": "application/json"}, json.dumps(values).encode()


ID = "([0-9a-f]{32})"
ROUTES: dict[str, Callable[..., Reply]] = {
    "POST /v1/files": FakeService.announce,
    "GET /v1/files": FakeService.list_files,
    f"PUT /v1/files/{ID}/pieces/([0-9]+)": FakeService.piece,
    f"POST /v1/files/{ID}/complete": FakeService.complete,
    f"GET /v1/files/{ID}/info": FakeService.info,
    f"GET /v1/files/{ID}": FakeService.get,
    f"DELETE /v1/files/{ID}": FakeService.delete,
    "POST /v1/datasets": FakeService.new_dataset,
    "GET /v1/datasets": FakeService.list_datasets,
    f"GET /v1/datasets/{ID}": FakeService.dataset,
    f"GET /v1/datasets/{ID}/files": FakeService.dataset_files,
    f"POST /v1/datasets/{ID}/append": FakeService.append,
    f"DELETE /v1/datasets/{ID}": FakeService.delete_dataset,
    "POST /v1/jobs": FakeService.submit,
    "GET /v1/jobs": FakeService.list_jobs,
    f"GET /v1/jobs/{ID}": FakeService.job,
    f"POST /v1/jobs/{ID}/cancel": FakeService.cancel,
    "GET /v1/usage": FakeService.quota,
}


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    service: FakeService

    def log_message(self, format: str, *args: object) -> None:
        pass

    def handle_any(self) -> None:
        request = f"{self.command} {self.path}"
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.service.requests.append(request)
        self.service.sent.append(body)
        fault = self.service.fault(request)
        if fault == "drop":
            self.close_connection = True
            return
        headers = {name.lower(): value for name, value in self.headers.items()}
        try:
            if isinstance(fault, int):
                raise Refused(fault, "a fault on demand")
            if request.endswith("/events"):
                self.events(self.path.split("/")[-2])
                return
            status, more, content = self.service.answer(self.command, self.path, headers, body)
        except Refused as refusal:
            status, more = refusal.status, {"Content-Type": "application/json"}
            content = json.dumps({"error": {"kind": "Refused", "message": str(refusal)}}).encode()
            if self.service.retry_after is not None:
                more["Retry-After"] = self.service.retry_after
        if fault == "late":
            self.close_connection = True
            return
        if fault == "flip":
            content = bytes([content[0] ^ 1]) + content[1:]
        if fault == "more":
            content += content[:1] * (1 + (17 << 20))
        self.send_response(status)
        for name, value in more.items():
            self.send_header(name, value)
        if status != 204:
            self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_PUT = do_POST = do_DELETE = handle_any

    def events(self, job_id: str) -> None:
        """The job whenever it changes, until it has ended, and a comment first."""
        self.close_connection = True
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.end_headers()
        self.wfile.write(b": hello\n\n")
        last, limit = "", time.monotonic() + 30
        while time.monotonic() < limit:
            text = json.dumps(self.service.jobs[job_id])
            if text != last:
                self.wfile.write(f"event: job\ndata: {text}\n\n".encode())
                last = text
            if json.loads(text)["state"] in ("done", "failed", "cancelled"):
                return
            time.sleep(0.01)


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients break off on purpose."""


@contextmanager
def running(folder: Path) -> Iterator[FakeService]:
    """A server on loopback."""
    folder.mkdir(parents=True, exist_ok=True)
    service = FakeService(folder)
    server = _Server(("127.0.0.1", 0), type("BoundHandler", (Handler,), {"service": service}))
    service.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield service
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def connection_to(url: str, token: str = TOKEN) -> Connection:
    """A connection that waits between retries for next to nothing."""
    from cipherlens.client.connection import Connection
    from cipherlens.client.http import Http, Patience

    return Connection(
        Http(url, token, patience=Patience(first=0.001, longest=0.01), sleep=lambda s: time.sleep(s / 20))
    )
