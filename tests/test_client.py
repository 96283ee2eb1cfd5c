"""The owner's side of the wire, against a server that fails on demand."""

from __future__ import annotations

import json
import pickle
import signal
import socket
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cli_workflow import CLASSES, EVALUATION, Workflow, environment
from fake_service import PIECE, TOKEN, FakeService, connection_to, running

import cipherlens as cl
from cipherlens.errors import CipherlensError, FormatError, InputError, ServerError
from cipherlens.learning.encrypted_images import EncryptedImages
from cipherlens.learning.results import TrainedModel
from cipherlens.wire.container import Kind, Writer
from cipherlens.wire.keys import read_evaluation_keys

pytest.importorskip("httpx", reason="pip install 'cipherlens[client]' brings httpx")

from cipherlens.client.connection import Connection
from cipherlens.client.http import Http, Patience
from cipherlens.client.jobs import Job, idempotency_key
from cipherlens.client.transfer import RemoteFile

ID = "0123456789abcdef" * 2


@pytest.fixture
def service(tmp_path: Path) -> Iterator[FakeService]:
    with running(tmp_path / "server") as service:
        yield service


@pytest.fixture
def server(service: FakeService) -> Iterator[Connection]:
    with connection_to(service.url) as connection:
        yield connection


# ---- the whole way --------------------------------------------------------------------------------------------------


def test_results_are_those_of_the_file_workflow(work: Workflow, server: Connection, tmp_path: Path) -> None:
    stages: list[tuple[str, float]] = []
    model = server.fit(work / "data.cl", work / EVALUATION, progress=lambda stage, share: stages.append((stage, share)))
    server.download(model, tmp_path / "model.cl")
    assert (tmp_path / "model.cl").read_bytes() == (work / "model.cl").read_bytes()
    assert {"uploading", "uploading keys"} <= {stage for stage, _ in stages}
    assert all(0 <= share <= 1 for _, share in stages)
    reply = server.predict(model, work / "query.cl", work / EVALUATION)
    reply.save(tmp_path / "reply.cl")
    assert (tmp_path / "reply.cl").read_bytes() == (work / "reply.cl").read_bytes()
    answers = cl.owner.OwnerSecrets.load(work / "KEYS" / "secret.cl").decrypt(reply)
    assert set(answers.labels) <= set(CLASSES)
    assert [path for path in tmp_path.iterdir() if path.name.endswith(".part")] == []


def test_objects_in_memory_are_the_same_as_their_files(
    work: Workflow, service: FakeService, server: Connection
) -> None:
    data, query = EncryptedImages.load(work / "data.cl"), EncryptedImages.load(work / "query.cl")
    keys = read_evaluation_keys(work / EVALUATION)
    server.fit([data], keys)
    puts = service.count("PUT .*")
    reply = server.predict(TrainedModel.load(work / "model.cl"), query, keys)
    assert reply.images == query.images
    model = server.fit(str(work / "data.cl"), work / EVALUATION)
    server.predict(model, work / "query.cl", work / EVALUATION)
    assert len(service.jobs) == 2
    assert service.count("PUT .*") == puts + 1  # the query; keys and images are found by their hashes


def test_a_model_is_found_by_its_bytes(work: Workflow, server: Connection) -> None:
    with pytest.raises(ServerError, match=r"model.cl is no model that this server has trained"):
        server.start_predict(work / "model.cl", work / "query.cl", work / EVALUATION)
    model = server.fit(work / "data.cl", work / EVALUATION)
    assert server.find_model(work / "model.cl") == model
    server.delete(model)
    server.delete(model)  # once more is no failure
    with pytest.raises(ServerError, match="deleted"):
        server.find_model(work / "model.cl")


def test_data_sets(work: Workflow, service: FakeService, server: Connection) -> None:
    file = server.upload(work / "data.cl")
    data_set = server.create_data_set([file])
    assert server.create_data_set([file]) == data_set
    server.append(data_set, file)
    assert service.datasets[data_set] == [file.id]  # it stays where it is
    server.fit(file, work / EVALUATION)
    assert [file.id] in service.datasets.values()  # and not what was appended to
    with pytest.raises(InputError, match="given twice"):
        server.create_data_set([file, file])
    server.delete_data_set(data_set)
    server.delete_data_set(data_set)
    with pytest.raises(InputError, match="32 hexadecimal digits"):
        server.append("../files", file)
    with pytest.raises(InputError, match="at least one"):
        server.start_fit([], work / EVALUATION)


# ---- interruptions --------------------------------------------------------------------------------------------------


def test_an_upload_goes_on_where_it_stopped(work: Workflow, service: FakeService, server: Connection) -> None:
    pieces = -(-(work / EVALUATION).stat().st_size // PIECE)
    assert pieces >= 3
    service.fail("PUT .*/pieces/1", 403, times=1)
    with pytest.raises(ServerError, match="403"):
        server.upload_keys(work / EVALUATION)
    arrived = len(service.pieces)
    assert arrived < pieces
    first = service.count("PUT .*")
    with connection_to(service.url) as elsewhere:
        elsewhere.upload_keys(work / EVALUATION)
    assert service.count("PUT .*") - first == pieces - arrived
    server.upload_keys(work / EVALUATION)
    assert service.count("PUT .*") - first == pieces - arrived


@pytest.mark.parametrize("action", ["late", 503])
def test_idempotent_calls_are_tried_again(
    work: Workflow, service: FakeService, server: Connection, action: int | str, tmp_path: Path
) -> None:
    for call in ("POST /v1/files", "PUT .*", "POST .*/complete", "POST /v1/datasets", "POST /v1/jobs", "GET .*"):
        service.fail(call, action, times=2)
    server.jobs()  # the first answer decides how patient the rest is
    server.download(server.fit(work / "data.cl", work / EVALUATION), tmp_path / "model.cl")
    assert (tmp_path / "model.cl").read_bytes() == (work / "model.cl").read_bytes()
    assert len(service.jobs) == 1
    assert len(service.datasets) == 1


@pytest.mark.parametrize("action", ["drop", "late", 503])
def test_appending_is_repeated_and_counts_once(
    work: Workflow, service: FakeService, server: Connection, action: int | str
) -> None:
    data_set = server.create_data_set([server.upload(work / "query.cl")])
    file = server.upload(work / "data.cl")
    service.fail("POST .*/append", action, times=1)
    server.append(data_set, file)
    assert service.count("POST .*/append") == 2
    assert service.datasets[data_set].count(file.id) == 1


def test_patience_ends(work: Workflow, service: FakeService) -> None:
    pauses: list[float] = []
    http = Http(service.url, TOKEN, sleep=pauses.append)
    http.json("GET", "/v1/jobs", idempotent=True)
    service.fail("GET .*", 503, times=100)
    with pytest.raises(ServerError, match="503"):
        http.json("GET", "/v1/jobs", idempotent=True)
    http.close()
    assert len(pauses) == Patience().tries - 1
    assert all(0 < pause <= Patience().longest for pause in pauses)
    assert pauses[-1] > pauses[0]
    assert Patience().pause(1, 7.0) == 7.0


def test_a_server_that_says_how_long_is_waited_for(work: Workflow, service: FakeService) -> None:
    """Longer than one that just fails, and not for ever."""
    pauses: list[float] = []
    service.retry_after = "1"
    service.fail("GET .*", 503, times=1000)
    http = Http(service.url, TOKEN, patience=Patience(asked=100.0), sleep=pauses.append)
    with pytest.raises(ServerError, match="503"):
        http.json("GET", "/v1/jobs", idempotent=True)
    http.close()
    assert pauses == [1.0] * (100 + Patience().tries - 1)


def test_the_same_inputs_are_the_same_job(work: Workflow, service: FakeService, server: Connection) -> None:
    gate = threading.Event()
    service.work = lambda job: gate.wait(20) and None
    first = server.start_fit(work / "data.cl", work / EVALUATION)
    with connection_to(service.url) as elsewhere:
        assert elsewhere.start_fit(work / "data.cl", work / EVALUATION).id == first.id
    gate.set()
    result = server.wait(first)
    assert server.fit(work / "data.cl", work / EVALUATION) == result
    assert server.job(first.id).result_id == result.id
    assert [job.id for job in server.jobs()] == [first.id]


def test_a_job_without_a_result_is_started_anew(work: Workflow, service: FakeService, server: Connection) -> None:
    def refuse(job: dict[str, Any]) -> None:
        raise FormatError("the disk was\neaten")

    service.work = refuse
    with pytest.raises(ServerError, match="failed: the disk was eaten; running the same again"):
        server.fit(work / "data.cl", work / EVALUATION)
    gate = threading.Event()
    service.work = lambda job: gate.wait(20) and None
    cancelled = server.start_fit(work / "data.cl", work / EVALUATION)
    server.cancel(cancelled)
    gate.set()
    assert list(server.watch(cancelled))[-1].state == "cancelled"
    with pytest.raises(ServerError, match="cancelled"):
        server.wait(cancelled)
    model = server.fit(work / "data.cl", work / EVALUATION)
    server.delete(model)
    assert server.fit(work / "data.cl", work / EVALUATION).sha256 == model.sha256
    for file_id in list(service.files):  # the same bytes under new ids are another request for the server
        del service.files[file_id]
    assert server.fit(work / "data.cl", work / EVALUATION).sha256 == model.sha256


def test_watching_bridges_breaks(work: Workflow, service: FakeService, server: Connection) -> None:
    steps = [threading.Event() for _ in range(2)]

    def advance(job: dict[str, Any]) -> None:
        job.update(stage="[bold]scatter", progress=0.25)
        steps[0].wait(20)
        job.update(stage="solving", progress=0.5)
        steps[1].wait(20)

    service.work = advance
    service.fail("GET .*/events", "drop", times=2)
    job = server.start_fit(work / "data.cl", work / EVALUATION)
    shares = []
    for seen in server.watch(job):
        shares.append((seen.stage, seen.progress))
        if seen.progress == 0.25:
            steps[0].set()
        if seen.progress == 0.5:
            steps[1].set()
    assert ("running", 0.25) in shares  # a stage that is no plain text is not shown
    assert ("solving", 0.5) in shares
    assert shares[-1] == ("done", 1.0)
    assert len(shares) == len(set(shares))


def test_a_piece_that_the_server_loses_is_sent_again(work: Workflow, service: FakeService, server: Connection) -> None:
    service.fail("POST .*/complete", 409, times=1)
    server.upload(work / "data.cl")
    assert service.count("POST /v1/files") == 2
    service.fail("POST .*/complete", 409, times=100)
    with pytest.raises(ServerError, match="lost pieces"):
        server.upload(work / "query.cl")


# ---- downloads ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("action", "words"), [("flip", "SHA-256"), ("more", "more than"), (416, "416")])
def test_a_download_is_whole_or_not_at_all(
    work: Workflow, service: FakeService, server: Connection, tmp_path: Path, action: int | str, words: str
) -> None:
    model = server.fit(work / "data.cl", work / EVALUATION)
    (tmp_path / "model.cl").write_text("what was here before")
    service.fail(f"GET /v1/files/{model.id}", action, times=1)
    with pytest.raises(ServerError, match=words):
        server.download(model, tmp_path / "model.cl")
    assert (tmp_path / "model.cl").read_text() == "what was here before"
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["model.cl"]
    server.download(model, tmp_path / "model.cl")
    assert (tmp_path / "model.cl").read_bytes() == (work / "model.cl").read_bytes()


def test_what_is_no_file_of_the_kind_is_not_kept(
    work: Workflow, service: FakeService, server: Connection, tmp_path: Path
) -> None:
    file = server.upload(work / "data.cl")
    with pytest.raises(ServerError, match="not kept"):
        server.download(RemoteFile(file.id, "model", file.size, file.sha256), tmp_path / "model.cl")
    with pytest.raises(ServerError, match="not kept"):
        server.download(RemoteFile(file.id, "nonsense", file.size, file.sha256), tmp_path / "model.cl")
    with pytest.raises(InputError, match="cannot be written"):
        server.download(file, tmp_path / "nowhere" / "data.cl")
    assert not (tmp_path / "model.cl").exists()


MEMORY = """
import resource, sys
from pathlib import Path
import cipherlens as cl
url, token, folder = sys.argv[1:]
def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
with cl.connect(url, token) as server:
    server.download(server.upload(Path(folder) / "small.cl"), Path(folder) / "small.back.cl")
    before = peak()
    server.download(server.upload(Path(folder) / "large.cl"), Path(folder) / "large.back.cl")
    print(peak() - before)
"""


def test_memory_does_not_grow_with_a_file(service: FakeService, tmp_path: Path) -> None:
    for name, pieces in (("small.cl", 4), ("large.cl", 20)):
        with Writer(tmp_path / name, Kind.IMAGES, {}, {"message": (np.uint8, (pieces, PIECE))}) as writer:
            for number in range(pieces):
                writer.write("message", np.full((1, PIECE), number, np.uint8))
    command = [sys.executable, "-c", MEMORY, service.url, TOKEN, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    assert int(done.stdout) < 24 << 10  # kilobytes; the file has 80 MiB
    assert (tmp_path / "large.back.cl").read_bytes() == (tmp_path / "large.cl").read_bytes()


# ---- what leaves, and what never does -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["KEYS/secret.cl", "KEYS/public.cl", "task.cl", "task.public.cl", "model.cl", "reply.cl"]
)
def test_only_ciphertexts_and_evaluation_keys_leave(
    work: Workflow, service: FakeService, server: Connection, name: str
) -> None:
    for send in (server.upload, server.upload_keys):
        with pytest.raises(InputError, match="never given"):
            send(work / name)
    assert service.requests == []


def test_other_files_and_objects_are_refused(work: Workflow, service: FakeService, server: Connection) -> None:
    with pytest.raises(FormatError, match="should hold evaluation keys"):
        server.upload_keys(work / "data.cl")
    with pytest.raises(FormatError, match="Cipherlens"):
        server.upload(next((work / "train").rglob("*.png")))
    with pytest.raises(InputError, match="cannot be read"):
        server.upload(work / "nowhere.cl")
    task = cl.owner.Keys.load(cl.owner.keys.Task.load(work / "task.cl"), work / "KEYS")
    for private in (task, task.secrets, task.task):
        with pytest.raises(InputError, match="cannot be uploaded"):
            server.upload(private)  # type: ignore[arg-type]
    assert service.requests == []


def test_nothing_that_is_sent_holds_names_or_secrets(work: Workflow, service: FakeService, server: Connection) -> None:
    model = server.fit(work / "data.cl", work / EVALUATION)
    reply = server.predict(model, work / "query.cl", work / EVALUATION)
    before = len(service.requests)
    secrets = cl.owner.OwnerSecrets.load(work / "KEYS" / "secret.cl")
    secrets.decrypt(reply)
    secret = (secrets.secret.coefficients[:64] + 1).astype(np.uint8).tobytes()
    sent = b"".join(service.sent)
    for private in (*(name.encode() for name in CLASSES), b"holiday-snapshot", secret, secrets.sealing_private):
        assert private not in sent
    assert len(service.requests) == before


def test_the_client_loads_nothing_that_decrypts() -> None:
    code = (
        "import sys, cipherlens as cl; cl.connect('http://127.0.0.1:1', 'token').close();"
        "import cipherlens.cli.remote;"
        "print([m for m in sys.modules if m.startswith(('cipherlens.owner', 'cipherlens._secret', 'PIL', 'onnx'))])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_token_is_never_shown(service: FakeService) -> None:
    wrong = "clt_very_secret"
    with connection_to(service.url, wrong) as connection:
        assert wrong not in repr(connection)
        with pytest.raises(TypeError, match="never pickled"):
            pickle.dumps(connection)
        with pytest.raises(ServerError, match="does not accept this token") as caught:
            connection.jobs()
    assert wrong not in "".join(traceback.format_exception(caught.value))


# ---- refusals -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "url",
    [
        "ftp://host",
        "host:80",
        "https://",
        "https://host/?a=b",
        "https://me:word@host",
        "http://h:x",
        "http://example.org",
    ],
)
def test_addresses_that_are_none(url: str) -> None:
    with pytest.raises(InputError) as caught:
        cl.connect(url, TOKEN)
    assert "word" not in str(caught.value).replace("password", "")


@pytest.mark.parametrize("token", ["", "with space", "zeilen\numbruch", "schlüssel"])
def test_tokens_that_are_none(token: str) -> None:
    with pytest.raises(InputError, match="token"):
        cl.connect("https://example.org", token)


def test_plain_http_beyond_this_machine_has_to_be_said() -> None:
    cl.connect("http://example.org", TOKEN, insecure_http=True).close()
    cl.connect("http://localhost:1", TOKEN).close()
    cl.connect("http://[::1]:1/below", TOKEN).close()


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (400, "refused (400): a fault on demand"),
        (404, "has no such thing, or not for this token (404)"),
        (409, "contradicts an earlier request (409)"),
        (413, "too large or above the quota (413)"),
        (500, "failed (500)"),
        (307, "sends us elsewhere (307)"),
    ],
)
def test_refusals_are_one_sentence(service: FakeService, server: Connection, status: int, words: str) -> None:
    service.fail("GET .*", status, times=100)
    with pytest.raises(ServerError) as caught:
        server.jobs()
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_server_that_is_not_there() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        with (
            connection_to(f"http://127.0.0.1:{taken.getsockname()[1]}") as connection,
            pytest.raises(ServerError, match=r"could not be reached .* run the same again"),
        ):
            connection.jobs()
    with connection_to("https://localhost.invalid") as connection, pytest.raises(ServerError, match="reached"):
        connection.jobs()


@pytest.mark.parametrize(
    "body", [b"<html>", b"[1]", b"[" * 100_000, b'{"jobs": 3}', b'{"jobs": [{"state": "odd"}]}', b""]
)
def test_answers_that_are_none(body: bytes, service: FakeService, server: Connection) -> None:
    service.answer = lambda *_: (200, {}, body)  # type: ignore[method-assign]
    with pytest.raises(ServerError, match="Cipherlens server"):
        server.jobs()


@pytest.mark.parametrize(
    "answer",
    [
        {"file_id": "../../etc", "state": "uploading", "missing": []},
        {"file_id": ID, "state": "uploading", "missing": [-1]},
        {"file_id": ID, "state": "uploading", "missing": "all"},
        {"file_id": ID, "state": "uploading", "missing": [10**9]},
    ],
)
def test_a_server_cannot_lead_an_upload_astray(
    work: Workflow, service: FakeService, server: Connection, answer: dict[str, object]
) -> None:
    service.answer = lambda *_: (200, {}, json.dumps(answer).encode())  # type: ignore[method-assign]
    with pytest.raises(ServerError):
        server.upload(work / "query.cl")
    assert service.requests == ["POST /v1/files"]


def test_jobs_are_read_with_care() -> None:
    values: dict[str, Any] = {"job_id": ID, "state": "running", "progress": 7, "stage": "\x1b[2J", "error": None}
    job = Job.read(values)
    assert (job.stage, job.progress, job.estimate_seconds, job.ended) == ("running", 1.0, None, False)
    for wrong in ({"progress": "x"}, {"progress": float("nan")}, {"progress": True}):
        assert Job.read(values | wrong).progress == 0.0
    with pytest.raises(ServerError):
        Job.read(values | {"result_file_id": "x"})


def test_keys_of_requests_depend_on_every_input() -> None:
    one = idempotency_key("train", {"data": ["a", "b"], "keys": "c"}, 0)
    assert one == idempotency_key("train", {"keys": "c", "data": ["a", "b"]}, 0)
    others = [
        idempotency_key("classify", {"data": ["a", "b"], "keys": "c"}, 0),
        idempotency_key("train", {"data": ["ab"], "keys": "c"}, 0),
        idempotency_key("train", {"data": ["a", "b"], "keys": "d"}, 0),
        idempotency_key("train", {"data": ["a", "b"], "keys": "c"}, 1),
    ]
    assert len({one, *others}) == 5


# ---- commands -------------------------------------------------------------------------------------------------------


def command(service: FakeService, tmp_path: Path, *arguments: str | Path) -> list[str]:
    (tmp_path / "token").write_text(f"{TOKEN}\n")
    remote = ["--server", service.url, "--token-file", str(tmp_path / "token")]
    return ["cipherlens", *map(str, arguments), *remote]


def test_commands_do_with_a_server_what_they_do_with_files(
    work: Workflow, service: FakeService, tmp_path: Path
) -> None:
    train = command(service, tmp_path, "train", "--data", "data.cl", "--evaluation-keys", work / EVALUATION)
    done = work.run(*train[1:], "--out", tmp_path / "model.cl", "--json")
    assert (tmp_path / "model.cl").read_bytes() == (work / "model.cl").read_bytes()
    facts = json.loads(done.stdout)
    assert (facts["images"], facts["server"], facts["command"]) == (240, service.url, "train")
    again = json.loads(work.run(*train[1:], "--out", tmp_path / "model.cl", "--json").stdout)
    assert again["job_id"] == facts["job_id"]
    classify = command(
        service, tmp_path, "classify", "--model", tmp_path / "model.cl", "--data", "query.cl", "--evaluation-keys",
        work / EVALUATION, "--out", tmp_path / "reply.cl",
    )  # fmt: skip
    said = work.run(*classify[1:]).stdout
    assert (tmp_path / "reply.cl").read_bytes() == (work / "reply.cl").read_bytes()
    assert "scores of 16 images" in said
    assert service.url in said


def test_an_interrupted_command_goes_on_with_the_same_job(work: Workflow, service: FakeService, tmp_path: Path) -> None:
    gate, started = threading.Event(), threading.Event()

    def hold(job: dict[str, Any]) -> None:
        started.set()
        gate.wait(30)

    service.work = hold
    train = command(
        service, tmp_path, "train", "--data", "data.cl", "--evaluation-keys", work / EVALUATION, "--out", tmp_path / "model.cl"
    )  # fmt: skip
    surroundings = environment(work / "cache")
    process = subprocess.Popen(train, cwd=work.root, env=surroundings, stderr=subprocess.PIPE, text=True)
    assert started.wait(30)
    wait_until(lambda: service.count("GET .*/events") > 0)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "run the same command again" in said
    assert not (tmp_path / "model.cl").exists()
    gate.set()
    work.run(*train[1:])
    assert (tmp_path / "model.cl").read_bytes() == (work / "model.cl").read_bytes()
    assert len(service.jobs) == 1


def wait_until(true: Callable[[], bool]) -> None:
    limit = time.monotonic() + 30
    while not true():
        assert time.monotonic() < limit
        time.sleep(0.01)


def test_commands_say_what_is_wrong(work: Workflow, service: FakeService, tmp_path: Path) -> None:
    files = ("train", "--data", "data.cl", "--evaluation-keys", work / EVALUATION, "--out", tmp_path / "model.cl")
    cases: dict[str, tuple[str | Path, ...]] = {
        "asks for a token": ("--server", service.url),
        "cannot be read": ("--server", service.url, "--token-file", tmp_path / "nothing"),
        "give its address with --server": ("--token-file", tmp_path / "token"),
        "leave one of them away": ("--server", service.url, "--threads", "2"),
        "unencrypted": ("--server", "http://example.org", "--token-file", tmp_path / "token"),
        "does not accept this token": ("--server", service.url, "--token-file", tmp_path / "wrong"),
    }
    (tmp_path / "token").write_text(TOKEN)
    (tmp_path / "wrong").write_text("clt_wrong")
    for words, options in cases.items():
        done = work.run(*files, *options, ok=False)
        assert done.returncode == 1
        assert words in done.stderr
        assert done.stderr.count("\n") == 1
        assert TOKEN not in done.stderr


def test_missing_httpx_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith("cipherlens.client.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "httpx", None)
    with pytest.raises(CipherlensError, match=r"pip install 'cipherlens\[client\]'"):
        cl.connect("http://localhost", TOKEN)
