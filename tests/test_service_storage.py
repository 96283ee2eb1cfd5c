"""Whole files in a bucket. moto's server stands in for S3: it speaks the protocol, and keeps everything in memory."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from moto.server import ThreadedMotoServer
from postgresql import Cluster
from rotation_world import Bench, look, make_world
from service_killer import session
from service_world import Material, Owner, client, in_process, make_material, serving, token

from cipherlens.cli.main import main
from cipherlens.errors import InputError
from cipherlens.service.database import Database
from cipherlens.service.errors import Unavailable
from cipherlens.service.jobs import Jobs
from cipherlens.service.pieces import Store
from cipherlens.service.settings import Settings
from cipherlens.service.storage import open_store
from cipherlens.service.sweep import Sweeper

BUCKET = "ciphertexts"
URL = f"s3://{BUCKET}/service"


@pytest.fixture(scope="module")
def material(tmp_path_factory: pytest.TempPathFactory) -> Material:
    return make_material(tmp_path_factory.mktemp("material") / "files", images=512)


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    running = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    running.start()
    host, port = running.get_host_and_port()
    yield f"http://{host}:{port}"
    running.stop()


@pytest.fixture
def bucket(server: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """An empty bucket, which this process and its children find as they would find a real one."""
    for name, value in {
        "AWS_ENDPOINT_URL": server, "AWS_ACCESS_KEY_ID": "an-id", "AWS_SECRET_ACCESS_KEY": "a-word",
        "AWS_DEFAULT_REGION": "us-east-1", "AWS_CONFIG_FILE": "/dev/null", "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
        "NO_PROXY": "127.0.0.1",
    }.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    found = boto3.resource("s3").create_bucket(Bucket=BUCKET)
    yield found
    found.objects.all().delete()
    found.delete()
    found.meta.client.close()


def names(bucket: Any) -> list[str]:
    return sorted(entry.key for entry in bucket.objects.all())


def copies(data: Path) -> list[Path]:
    return sorted(data.glob("tenants/*/files/*"))


@pytest.fixture
def world(tmp_path: Path, bucket: Any) -> Iterator[tuple[Path, Database, Owner]]:
    """A service in this process whose copies may take 1 byte: only what is being read stays."""
    data = tmp_path / "data"
    secret = token(data)
    database = Database(data)
    with in_process(Settings(data=data, storage=URL, cache_bytes=1), database) as http:
        yield data, database, Owner(http, secret)
    database.close()


def test_files_are_in_the_bucket(world: tuple[Path, Database, Owner], bucket: Any, material: Material) -> None:
    data, _, owner = world
    ids = [owner.upload(material.keys, "evaluation_keys"), owner.upload(material.parts[0])]
    tenant = next((data / "tenants").glob("*/files")).parent.name
    assert names(bucket) == sorted(f"service/{tenant}/{file_id}.cl" for file_id in ids)
    assert [path.stem for path in copies(data)] == ids[1:]  # the other one had to go
    assert owner.download(ids[0]) == material.keys.read_bytes()
    part = owner.ask("GET", f"/v1/files/{ids[1]}", headers={"Range": "bytes=5-9"})
    assert part.content == material.parts[0].read_bytes()[5:10]
    for file_id in ids:
        owner.done("DELETE", f"/v1/files/{file_id}")
    assert names(bucket) == []
    assert copies(data) == []


def test_a_file_that_storage_changed_is_not_given_out(
    world: tuple[Path, Database, Owner], bucket: Any, material: Material
) -> None:
    data, _, owner = world
    file_id = owner.upload(material.parts[0])
    (name,) = names(bucket)
    content = bytearray(material.parts[0].read_bytes())
    content[-1] ^= 1
    bucket.put_object(Key=name, Body=bytes(content))
    assert owner.download(file_id) == material.parts[0].read_bytes()  # the copy is good
    copies(data)[0].unlink()
    answer = owner.ask("GET", f"/v1/files/{file_id}")
    assert (answer.status_code, answer.json()["error"]["kind"]) == (410, "Gone")
    bucket.Object(name).delete()
    answer = owner.ask("GET", f"/v1/files/{file_id}")
    assert (answer.status_code, answer.json()["error"]["kind"]) == (410, "Gone")
    assert copies(data) == []
    owner.done("DELETE", f"/v1/files/{file_id}")
    assert owner.download(owner.upload(material.parts[0])) == material.parts[0].read_bytes()


def test_nothing_is_ready_that_storage_does_not_have(
    world: tuple[Path, Database, Owner], bucket: Any, material: Material
) -> None:
    _, _, owner = world
    bucket.delete()
    with pytest.raises(AssertionError, match="Unavailable"):
        owner.upload(material.parts[0])
    bucket.create()
    file_id = owner.upload(material.parts[0])  # no piece is sent twice: they are still here
    assert len(names(bucket)) == 1
    assert owner.done("GET", f"/v1/files/{file_id}/info")["state"] == "ready"


def test_copies_in_use_stay(tmp_path: Path, bucket: Any) -> None:
    store = open_store(tmp_path, URL, 5)
    contents = {f"{i:032x}": bytes([i]) * 4 for i in range(3)}
    for file_id, content in contents.items():
        path = store.path("tenant", file_id)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    first, second, third = contents
    held = store.hold("tenant", first, hashlib.sha256(contents[first]).hexdigest())
    store.publish("tenant", second)
    assert [path.stem for path in copies(tmp_path)] == [first, second, third]  # the others are not in the bucket yet
    store.publish("tenant", first)
    store.publish("tenant", third)
    assert [path.stem for path in copies(tmp_path)] == [first, third]
    held.close()
    with store.hold("tenant", second, hashlib.sha256(contents[second]).hexdigest()) as again:
        assert again.read() == contents[second]
        assert store.path("tenant", second).exists()
        assert [path.stem for path in copies(tmp_path)] == [second]


def test_a_service_on_another_machine(tmp_path: Path, bucket: Any, material: Material) -> None:
    """Trained by one, with the smallest cache; then the folder is lost, all but the database, and nothing is missed."""
    with serving(tmp_path / "data", storage=URL, cache_bytes=1) as service:
        secret = token(service.data)
        with client(service.url, secret, patience=30) as owner:
            session(owner, material, "first")
            assert names(bucket) == []
            file_id = owner.upload(material.parts[0])
        service.stop()
        for path in copies(service.data):
            path.unlink()
        service.start()
        with client(service.url, secret, patience=30) as owner:
            assert owner.download(file_id) == material.parts[0].read_bytes()
        assert "a-word" not in service.log()


def test_a_database_and_a_bucket_are_restored(
    tmp_path: Path, bucket: Any, postgresql: Cluster, material: Material
) -> None:
    """From a dump and a copy of the objects, beside an empty folder; what came later is removed or was never there."""
    data, first = tmp_path / "data", postgresql.new_database()
    settings = Settings(data=data, database=first, storage=URL, cache_bytes=1)
    database = Database(data, first)
    secret = token(data, url=first)
    with in_process(settings, database) as http:
        kept = Owner(http, secret).upload(material.parts[0])
        second = postgresql.copy(first)
        Owner(http, secret).upload(material.parts[1])  # later than the dump, earlier than the copy of the bucket
    database.close()
    for name in names(bucket):
        bucket.Object(name.replace("service/", "restored/")).copy_from(CopySource=f"{BUCKET}/{name}")
    url = f"s3://{BUCKET}/restored"
    settings = Settings(data=tmp_path / "restored", database=second, storage=url, cache_bytes=1)
    restored = Database(settings.data, second)
    Sweeper(restored, store := open_store(settings.data, url, 1), Jobs(restored, store, 10), settings).start()
    assert [name.split("/")[-1] for name in names(bucket) if name.startswith("restored/")] == [f"{kept}.cl"]
    with in_process(settings, restored) as http:
        assert Owner(http, secret).download(kept) == material.parts[0].read_bytes()
    restored.close()


def test_a_job_waits_for_storage(
    tmp_path: Path, bucket: Any, material: Material, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An outage costs a job time. All servers of this process have the same buckets."""
    gate = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    gate.start()
    port = gate.get_host_and_port()[1]
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{port}")
    with serving(tmp_path / "data", storage=URL) as service, client(service.url, token(service.data)) as owner:
        file_id, keys = owner.upload(material.parts[0]), owner.upload(material.keys, "evaluation_keys")
        dataset = owner.done("POST", "/v1/datasets", json={"file_ids": [file_id]})["dataset_id"]
        for copy in copies(service.data):
            copy.unlink()
        gate.stop()
        job = owner.submit("t", kind="train", dataset_id=dataset, keys_file_id=keys)
        deadline = time.monotonic() + 60
        while '"given back"' not in service.log():
            assert time.monotonic() < deadline
            time.sleep(0.05)
        gate = ThreadedMotoServer(ip_address="127.0.0.1", port=port, verbose=False)
        gate.start()
        assert owner.wait(job)["state"] == "done"
    gate.stop()


def test_a_data_set_goes_over_to_a_new_key(tmp_path: Path, bucket: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The storage fails when the second result is brought to it: nothing has changed, and the next worker goes on."""
    rotation = make_world(tmp_path)
    bench = Bench(tmp_path, rotation, URL)
    publish, calls = bench.store.publish, list[str]()

    def failing(tenant_id: str, file_id: str) -> None:
        calls.append(file_id)
        if len(calls) == 2:
            raise Unavailable("the service's storage does not answer; try again later")
        publish(tenant_id, file_id)

    monkeypatch.setattr(bench.store, "publish", failing)
    with pytest.raises(Unavailable):
        bench.work(bench.claim())
    assert {name.split("/")[-1].removesuffix(".cl") for name in names(bucket)} == {*bench.files, bench.key}
    assert bench.state() == ("running", rotation.old_id, [part.read_bytes() for part in rotation.parts[:2]])
    bench.jobs.bury("worker", "worker-1")
    assert bench.work(bench.claim())
    assert len(calls) == 4
    assert bench.state() == ("done", rotation.new_id, list(rotation.switched[:2]))
    bench.tidy()
    with bench.owner() as owner:
        kept = look(owner, bench.data_set)["file_ids"]
    assert sorted(name.split("/")[-1] for name in names(bucket)) == sorted(f"{file_id}.cl" for file_id in kept)
    bench.database.close()


def test_the_sweep_tidies_the_bucket(world: tuple[Path, Database, Owner], bucket: Any, material: Material) -> None:
    data, database, owner = world
    owner.upload(material.parts[0])
    kept = names(bucket)
    tenant = kept[0].split("/")[1]
    bucket.put_object(Key=f"service/{tenant}/{'0' * 32}.cl", Body=b"left by a crash")
    bucket.put_object(Key="elsewhere/of-others.cl", Body=b"not the service's")
    store = open_store(data, URL, 1)
    Sweeper(database, store, Jobs(database, store, 10), Settings(data=data)).start()
    assert names(bucket) == ["elsewhere/of-others.cl", *kept]


def test_files_of_another_database_are_left_alone(
    tmp_path: Path, world: tuple[Path, Database, Owner], material: Material
) -> None:
    """A new database beside old files is a mistake, and no reason to remove them."""
    data, _, owner = world
    owner.upload(material.parts[0])
    empty = Database(tmp_path)
    for store in (Store(data), open_store(data, URL, 1), open_store(tmp_path / "elsewhere", URL, 1)):
        with pytest.raises(InputError, match="belong together"):
            Sweeper(empty, store, Jobs(empty, store, 10), Settings(data=tmp_path / "other")).start()
    assert len(copies(data)) == 1
    empty.close()


@pytest.mark.parametrize(
    "url", ["file:///tmp/x", "gs://bucket", "memory://x", "bucket", "s3://", "s3://id:word@bucket", "s3://b?key=word"]
)
def test_other_storage_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str], url: str) -> None:
    assert main(("serve", "--data", str(tmp_path / "data"), "--port", "0", "--storage", url)) == 1
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert "s3://BUCKET/PREFIX" in said
    assert "word" not in said
