"""Clients that mean no good: slow ones, many, lying ones, and what they send that is no request."""

from __future__ import annotations

import gzip
import json
import select
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from service_world import Material, Owner, Service, client, make_material, manifest, serving, split, token

DOCUMENT = Path(__file__).resolve().parents[1] / "docs" / "openapi.json"
TAKING_JSON = sorted(
    path
    for path, methods in json.loads(DOCUMENT.read_text(encoding="utf-8"))["paths"].items()
    if "application/json" in methods.get("post", {}).get("requestBody", {}).get("content", {})
)

IDLE = 300
"""Connections that somebody opens and leaves."""

STALL = 1.5
ESTABLISHED = "01"
"""As the kernel lists it."""


@pytest.fixture(scope="module")
def material(tmp_path_factory: pytest.TempPathFactory) -> Material:
    return make_material(tmp_path_factory.mktemp("material") / "files", images=512)


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with serving(tmp_path_factory.mktemp("service") / "data", stall_seconds=STALL) as running:
        yield running


@pytest.fixture(scope="module")
def secret(service: Service) -> str:
    return token(service.data)


@pytest.fixture
def owner(service: Service, secret: str) -> Iterator[Owner]:
    with client(service.url, secret) as connected:
        yield connected


@pytest.fixture(autouse=True)
def unharmed(service: Service) -> Iterator[None]:
    """Whatever happens, the same process goes on, and nothing was a surprise to it."""
    before = service.children("web")
    yield
    assert service.children("web") == before
    assert [line for line in service.log().splitlines() if '"defect"' in line] == []


def connect(service: Service, seconds: float = 60.0) -> socket.socket:
    address = urlsplit(service.url)
    return socket.create_connection((address.hostname, address.port or 0), timeout=seconds)


def raw(service: Service, *parts: bytes, pause: float = 0.0, seconds: float = 60.0) -> bytes:
    """Everything that is answered to these bytes until the service closes the connection."""
    answer = b""
    with connect(service, seconds) as connection:
        try:
            for part in parts:
                connection.sendall(part)
                if select.select([connection], [], [], pause)[0]:
                    break  # it does not want to hear the rest
            while chunk := connection.recv(1 << 16):
                answer += chunk
        except ConnectionError:
            pass
        return answer


def status(answer: bytes) -> int:
    """Of the first answer; 0 when there is none."""
    return int(answer.split(b" ", 2)[1]) if answer.startswith(b"HTTP/1.1 ") else 0


# ---- slow, large and many --------------------------------------------------------------------------------------------


def test_oversized_headers(service: Service, owner: Owner) -> None:
    for head in (b"GET /" + b"a" * 100_000, b"GET / HTTP/1.1\r\nX: " + b"a" * 100_000):
        assert raw(service, head).split(b"\r\n")[0] in (b"HTTP/1.1 400 Bad Request", b"")
    many = (
        b"GET /nothing HTTP/1.1\r\nHost: a\r\nConnection: close\r\n"
        + b"".join(b"X%d: a\r\n" % i for i in range(10_000))
        + b"\r\n"
    )
    assert raw(service, many).split(b"\r\n")[0] in (b"HTTP/1.1 400 Bad Request", b"HTTP/1.1 404 Not Found", b"")
    assert owner.done("GET", "/v1/jobs") is not None


def test_slow_clients_are_let_go(service: Service, secret: str, owner: Owner) -> None:
    head = (
        b"POST /v1/datasets HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nAuthorization: Bearer "
        + secret.encode() + b"\r\nContent-Length: 1000\r\n\r\n"
    )  # fmt: skip
    started = time.monotonic()
    assert b" 408 " in raw(service, head, b"{").split(b"\r\n")[0]  # nothing more comes
    drip = raw(service, head, *[b" "] * 8, pause=0.3)  # something comes, but too little
    assert b" 408 " in drip.split(b"\r\n")[0]
    assert raw(service, b"GET /v1/jobs HTTP/1.1\r\nX-Slow: ") == b""  # the head itself does not come
    assert time.monotonic() - started < 60
    assert owner.done("GET", "/v1/jobs") is not None


def test_a_head_that_drips(service: Service, owner: Owner) -> None:
    """Each byte comes in time, and the whole does not."""
    started = time.monotonic()
    assert raw(service, b"GET /v1/jobs HTTP/1.1\r\nX-Slow: ", *[b"a"] * 400, pause=0.2) == b""
    assert time.monotonic() - started < 60  # 400 bytes would take 80 s
    assert owner.done("GET", "/v1/jobs") is not None


def is_open(*ports: int) -> bool:
    """Whether the end of a connection that has the first of these ports is still somebody's."""
    lines = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return [f"{port:04X}" for port in ports] in [
        [address.rpartition(":")[2] for address in line[1:3]] for line in lines if line[3] == ESTABLISHED
    ]


def test_a_client_that_does_not_read_is_let_go(service: Service, secret: str, owner: Owner, material: Material) -> None:
    """It asks for more than the system takes into its buffers, and then looks away."""
    file_id = owner.upload(material.keys, "evaluation_keys")
    ask = f"GET /v1/files/{file_id} HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {secret}\r\n\r\n".encode()
    with connect(service) as connection:
        ends = connection.getpeername()[1], connection.getsockname()[1]
        connection.sendall(ask * 8)
        assert is_open(*ends)
        deadline = time.monotonic() + 10 * STALL
        while is_open(*ends) and time.monotonic() < deadline:
            time.sleep(0.1)
        assert not is_open(*ends)
    with connect(service) as connection:  # one that reads slowly is none of these
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 16)
        connection.sendall(ask)
        started, received = time.monotonic(), 0
        while time.monotonic() < started + 1.5 * STALL:
            received += len(connection.recv(1 << 15))
            time.sleep(0.05)
        size = material.keys.stat().st_size
        while received < size:
            chunk = connection.recv(1 << 20)
            assert chunk
            received += len(chunk)


def test_as_many_files_as_the_system_allows(service: Service) -> None:
    """A data set has up to a thousand, and the limit that shells set is often not more."""
    for pid in service.children("web") + service.children("worker"):
        limits = Path(f"/proc/{pid}/limits").read_text()
        soft, hard = next(line.split()[3:5] for line in limits.splitlines() if line.startswith("Max open files"))
        assert soft == hard


def test_idle_connections_do_not_keep_others_out(service: Service, owner: Owner, material: Material) -> None:
    with ExitStack() as stack:
        idle = [stack.enter_context(connect(service)) for _ in range(IDLE)]
        for number, connection in enumerate(idle):  # nothing, a part of a head, a head without its body
            connection.sendall(
                (b"", b"GET / HT", b"POST /v1/jobs HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n")[number % 3]
            )
        file_id = owner.upload(material.parts[0])
        assert owner.download(file_id) == material.parts[0].read_bytes()
        deadline = time.monotonic() + 60  # all of them are let go, some with an answer
        for connection in idle:
            connection.settimeout(max(0.1, deadline - time.monotonic()))
            try:
                while connection.recv(1 << 16):
                    pass
            except ConnectionError:
                pass
    owner.done("DELETE", f"/v1/files/{file_id}")


def test_memory_does_not_grow_with_what_is_sent(service: Service, owner: Owner, material: Material) -> None:
    pieces = split(material.keys.read_bytes())
    for part in material.parts:
        owner.upload(part)
    pid = service.children("web")[0]

    def peak() -> int:
        status = Path(f"/proc/{pid}/status").read_text()
        return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM")) * 1024

    before = peak()
    file_id = owner.upload(material.keys, "evaluation_keys")

    def send() -> None:
        for _ in range(6):
            owner.done("PUT", f"/v1/files/{file_id}/pieces/0", content=pieces[0])
            owner.download(file_id)

    threads = [threading.Thread(target=send) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert peak() - before < 24 << 20


# ---- what is no request ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "target",
    [
        b"/v1/files/../../../../etc/passwd",
        b"/v1/files/%2e%2e/%2e%2e/service.sqlite3",
        b"/v1/files/%2e%2e%2f%2e%2e%2fservice.sqlite3/info",
        b"/v1/files/..%5c..%5cservice.sqlite3",
        b"/v1/files/%252e%252e%252fservice.sqlite3",
        b"/v1/files/" + b"0" * 32 + b"%00.cl",
        b"/v1/files/" + b"0" * 32 + b"/pieces/..%2f..%2f0",
        b"/v1/files/%ff%fe%c0%ae%c0%ae",
        b"/v1/files/" + b"a" * 20_000,
        b"/page.css/../../../pyproject.toml",
        b"/..%2fpage%2f__init__.py",
        b"//etc/passwd",
        b"http://elsewhere/v1/files",
        b"*",
        b"/v1/files;x=../..",
        b"/v1/files?" + b"&".join(b"a=%d" % i for i in range(2000)),
    ],
)
def test_targets_that_lead_nowhere(service: Service, secret: str, target: bytes) -> None:
    """As they are on the wire, where no client has tidied them up."""
    answer = raw(
        service, b"GET " + target + b" HTTP/1.1\r\nHost: a\r\nConnection: close\r\nAuthorization: Bearer "
        + secret.encode() + b"\r\n\r\n",
    )  # fmt: skip
    if target == b"http://elsewhere/v1/files":  # a list of files, the host unread
        assert status(answer) in (200, 404)
    elif target.startswith(b"/v1/files?"):  # the list as well, and what it cannot be asked for
        assert status(answer) == 422
    else:
        assert status(answer) in (400, 404)
    assert b"root:" not in answer and b"SQLite" not in answer and b"cipherlens" not in answer


@pytest.mark.parametrize(
    "request_",
    [
        b"GET / HTTP/x.y\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(200),  # TLS, to a port without it
        b"GET /v1/jobs HTTP/1.1\r\nHost: a\r\nX: a\0b\r\n\r\n",
        b"GET /v1/jobs HTTP/1.1\r\nHost: a\r\nX : a\r\n\r\n",
        b"POST /v1/jobs HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST /v1/jobs HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        b"POST /v1/jobs HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n",
        b"POST /v1/jobs HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
        b"POST /v1/jobs HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999999999999999\r\n\r\n",
        b"POST /v1/jobs HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n",
        b"POST /v1/jobs HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1;" + b"x" * 100_000,
        b"BREW /v1/jobs HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
    ],
)
def test_what_is_no_request(service: Service, request_: bytes) -> None:
    answer = raw(service, request_)
    assert status(answer) in (0, 400, 401, 404, 405, 413), answer
    assert answer.count(b"HTTP/1.1 ") <= 1  # never taken for two requests


def test_compressed_bodies_are_not_unpacked(owner: Owner, material: Material) -> None:
    bomb = gzip.compress(bytes(64 << 20))
    announced = owner.done("POST", "/v1/files", json=manifest(material.foreign, "images"))
    piece = f"/v1/files/{announced['file_id']}/pieces/0"
    for encoding in ("gzip", "br", "identity, gzip", "GZIP", "x" * 1000):
        for method, path in (("PUT", piece), *(("POST", path) for path in TAKING_JSON)):
            answer = owner.ask(method, path, content=bomb, headers={"Content-Encoding": encoding})
            assert answer.status_code == 415, answer.text
    for header in ("Content-Type", "Accept-Encoding"):
        answer = owner.ask("POST", "/v1/jobs", content=bomb[:60_000], headers={header: "gzip", "Idempotency-Key": "b"})
        assert answer.status_code in (400, 422), answer.text
    assert owner.ask("PUT", piece, content=bomb[:1000]).status_code == 400


@pytest.mark.parametrize("path", TAKING_JSON)
def test_json_bombs(owner: Owner, path: str) -> None:
    deep = 20_000
    bombs = [
        b"[" * 60_000, b"[" * deep + b"]" * deep, b'{"a":' * deep + b"1" + b"}" * deep, b'{"size": ' + b"9" * 60_000 + b"}",
        b'{"size": 1e999999999}', b'{"size": NaN}', b'{"size": -Infinity}', b'{"kind": "\\ud800"}', b'{"id": "\\u0000"}',
        b'{"kind": "train", "kind": "train"}', b'{"file_ids": [' + b"{}," * 20_000 + b"{}]}", b"\xff\xfe{\0}\0", b"",
        b'{"' + b"a" * 60_000 + b'": 1}', b'{"__proto__": {"a": 1}}',
    ]  # fmt: skip
    headers = {"Content-Type": "application/json", "Idempotency-Key": "bomb"}
    for bomb in bombs:
        answer = owner.ask("POST", path.replace("{dataset_id}", "0" * 32), content=bomb, headers=headers)
        assert 400 <= answer.status_code < 500, answer.text
        assert len(answer.content) < 2000  # nothing of it is sent back at length


# ---- again and at once -----------------------------------------------------------------------------------------------


def test_replays_at_once(service: Service, secret: str, material: Material) -> None:
    """The same announcement, pieces, completion and job from many sides at the same time: one file, one job."""

    def replay(_: int) -> tuple[str, str]:
        with client(service.url, secret) as owner:
            keys = owner.upload(material.keys, "evaluation_keys")
            parts = [owner.upload(part) for part in material.parts]
            made = owner.done("POST", "/v1/datasets", json={"file_ids": parts}, headers={"Idempotency-Key": "at-once"})
            return made["dataset_id"], owner.submit(
                "at-once", kind="train", dataset_id=made["dataset_id"], keys_file_id=keys
            )

    with ThreadPoolExecutor(8) as pool:
        made = set(pool.map(replay, range(8)))
    assert len(made) == 1
    [(_, job)] = made
    with client(service.url, secret) as owner:
        assert owner.download(owner.wait(job, 300)["result_file_id"]) == material.model
        assert len(owner.done("GET", "/v1/jobs")["jobs"]) == 1
        body = {"kind": "train", "dataset_id": "0" * 32, "keys_file_id": "0" * 32}
        other = owner.ask("POST", "/v1/jobs", json=body, headers={"Idempotency-Key": "at-once"})
        assert (other.status_code, other.json()["error"]["kind"]) == (409, "Conflict")
