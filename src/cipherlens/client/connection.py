"""A connection to a server: upload, train, classify, download. What is asked again goes on where it stopped."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeAlias

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from cipherlens.client.deletion import Deletion, DeletionPlan, order_deletion, plan_deletion, read_receipt
from cipherlens.client.http import Http
from cipherlens.client.jobs import DONE, Job, idempotency_key
from cipherlens.client.stored import DataSet, Usage
from cipherlens.client.transfer import (
    Progress,
    RemoteFile,
    describe,
    described,
    download,
    find,
    is_hex,
    read_id,
    read_manifest,
    sha256_of,
    upload,
)
from cipherlens.errors import FormatError, InputError, KeyMismatch, SecurityError, ServerError
from cipherlens.learning.encrypted_images import EncryptedImages
from cipherlens.learning.results import Reply, TrainedModel
from cipherlens.scheme.keys import EvaluationKeys, KeyChange
from cipherlens.wire.container import Kind, Reader
from cipherlens.wire.key_change import check_key_change, write_key_change
from cipherlens.wire.keys import write_evaluation_keys
from cipherlens.wire.receipt import SignedReceipt, read_public_key

POLL_SECONDS = 0.5
"""Between two questions about a job, when the server's stream of events has ended early."""

MOST_PORTIONS = 100_000
"""Answers to one list. Only a server that means harm has more, and memory has an end."""

CURSOR_DIGITS = 48
"""Hexadecimal digits with which a list goes on. They go into an address, so nothing else is taken."""

MOST_ATTEMPTS = 1000
"""Requests of the same inputs that may have ended without a result."""


FilePath: TypeAlias = str | os.PathLike[str]
Images: TypeAlias = EncryptedImages | FilePath | RemoteFile
Labelled: TypeAlias = Images | Sequence[Images] | DataSet
KeysLike: TypeAlias = EvaluationKeys | FilePath | RemoteFile
ModelLike: TypeAlias = TrainedModel | FilePath | RemoteFile


class Connection:
    """A server, with one token. Made by `cipherlens.connect`; threads may use it side by side.

    Every method raises ServerError when the server refuses, fails or is out of reach. Images, keys and models are paths
    of files, objects in memory, or `RemoteFile`s that are on the server already.
    """

    def __init__(self, http: Http) -> None:
        """http: address, token and patience."""
        self._http = http

    def __repr__(self) -> str:
        return f"Connection({self._http!r})"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close it; jobs on the server go on."""
        self._http.close()

    # ---- files ---------------------------------------------------------------------------------------------------

    def upload(self, images: Images, *, progress: Progress | None = None) -> RemoteFile:
        """Send encrypted images; pieces that the server has already are not sent again.

        progress: called with a stage and the share of it that is done. Raises InputError and FormatError for files that
        cannot be read, or that a server is never given.
        """
        return self._upload(images, Kind.IMAGES, progress)

    def upload_keys(self, keys: KeysLike, *, progress: Progress | None = None) -> RemoteFile:
        """Send evaluation keys, once: the same keys are found again by their hash. As `upload`."""
        return self._upload(keys, Kind.EVALUATION_KEYS, progress)

    def download(self, file: RemoteFile, path: FilePath, *, progress: Progress | None = None) -> None:
        """Fetch a file: in place only when its SHA-256 is right and it holds what the server says.

        Raises InputError when it cannot be written.
        """
        download(self._http, file, Path(path), progress)

    def result(self, id: str, *, progress: Progress | None = None) -> RemoteFile:
        """The file of this id, or the result of the job of this id, which is waited for."""
        file = find(self._http, check_id(id))
        return self.wait(self.job(id), progress=progress) if file is None else file

    def delete(self, file: RemoteFile) -> None:
        """Delete a file on the server; one that is gone already is no failure."""
        self._http.json("DELETE", f"/v1/files/{file.id}", idempotent=True, expected=(404,))

    # ---- data sets -----------------------------------------------------------------------------------------------

    def create_data_set(self, files: Sequence[RemoteFile]) -> str:
        """A data set of uploaded images, which contributors may append to; returns its id. The same files give the same.

        Raises InputError for a file that is named twice.
        """
        return self._data_set("data set", files).id

    def data_set(self, data_set: str) -> DataSet:
        """A data set by its id, as it is now."""
        return DataSet.read(self._http.json("GET", f"/v1/datasets/{check_id(data_set)}", idempotent=True) or {})

    def data_set_files(self, data_set: str) -> list[RemoteFile]:
        """The files that a data set has now, also those of contributors, in the order in which they are trained on."""
        return [described(values) for values in self._list(f"/v1/datasets/{check_id(data_set)}/files", "files")]

    def append(self, data_set: str, images: Images, *, progress: Progress | None = None) -> None:
        """Upload images and append them to a data set; what is in it already stays where it is, and counts once."""
        file = self.upload(images, progress=progress)
        self._http.json("POST", f"/v1/datasets/{check_id(data_set)}/append", {"file_id": file.id}, idempotent=True)

    def delete_data_set(self, data_set: str) -> None:
        """Delete a data set; one that is gone already is no failure."""
        self._http.json("DELETE", f"/v1/datasets/{check_id(data_set)}", idempotent=True, expected=(404,))

    def rotate(
        self, data_set: str, switching_key: KeyChange | FilePath, *, keep_old: bool = False,
        progress: Progress | None = None,
    ) -> str:  # fmt: skip
        """Have the server take a data set to the new key that `switching_key` leads to; returns that key's id.

        All its files change at once, or none. The server deletes the switching key when the job ends, whatever becomes
        of it, and the old files unless `keep_old`. Asked again it goes on with the same job, and with nothing once the
        data set is under the new key. Raises KeyMismatch for a switching key that leads from another key.
        """
        with _on_disk(switching_key) as path:
            manifest = read_manifest(path, Kind.SWITCHING_KEY)
            with Reader.open(path, Kind.SWITCHING_KEY) as reader:
                change = check_key_change(reader)
            for attempt in range(MOST_ATTEMPTS):
                found = self._http.json("GET", f"/v1/datasets/{check_id(data_set)}", idempotent=True)
                if (key_id := read_id(found, "key_id")) == change.key_id:
                    return key_id
                if key_id != change.old_key_id:
                    raise KeyMismatch(f"the data set is under the key {key_id[:8]}, from which this one does not lead")
                file = upload(self._http, manifest, progress)
                body = {
                    "kind": "switch", "dataset_id": data_set, "switching_key_file_id": file.id, "keep_old": keep_old,
                }  # fmt: skip
                key = idempotency_key("switch", {"data_set": data_set, "key": file.sha256}, attempt)
                # 409: an earlier job's switching key, deleted since. 404: the end of another one's took this along.
                made = self._http.json("POST", "/v1/jobs", body, idempotent=True, key=key, expected=(404, 409))
                if made is not None:
                    self._end(self.job(read_id(made, "job_id")), progress)
                    return change.key_id
        raise ServerError(f"{MOST_ATTEMPTS} jobs with this switching key ended without success; ask the provider why")

    # ---- deleting with everything derived ------------------------------------------------------------------------

    def files(self) -> list[RemoteFile]:
        """The complete files of this token's tenant, newest first."""
        listed = self._list("/v1/files", "files")
        return [described(values) for values in listed if values.get("state") == "ready"]

    def find_files(self, path: FilePath) -> list[RemoteFile]:
        """The complete files with the bytes of a local one, newest first: one of each who has sent them.

        Raises InputError when the local file cannot be read.
        """
        listed = self._list(f"/v1/files?sha256={sha256_of(Path(path))}", "files")
        return [described(values) for values in listed if values.get("state") == "ready"]

    def data_sets(self) -> list[DataSet]:
        """The data sets of this token's tenant, newest first."""
        return [DataSet.read(values) for values in self._list("/v1/datasets", "datasets")]

    def plan_deletion(
        self, *, file: RemoteFile | None = None, data_set: str | None = None, key: str | None = None
    ) -> DeletionPlan:
        """What would go with one file, a data set and its files, or everything under a key; nothing is deleted yet.

        Models, replies and jobs that were made of it are part of it. Raises InputError unless one thing is named.
        """
        named = {"file": file.id if file is not None else None, "data_set": data_set, "key": key}
        given = [(kind, id) for kind, id in named.items() if id is not None]
        if len(given) != 1:
            raise InputError("name one thing to delete: a file, a data set or a key")
        kind, id = given[0]
        return plan_deletion(self._http, kind, check_id(id))

    def erase(self, plan: DeletionPlan) -> SignedReceipt:
        """Delete exactly what a plan shows, for good, and cancel the jobs in it; returns the server's receipt.

        The receipt is checked against the key that the server shows now; keep that key, and compare it over the years.
        """
        receipt = order_deletion(self._http, plan)
        self._check(receipt)
        return receipt

    def deletions(self) -> list[Deletion]:
        """The deletions of this token's tenant, also those by a retention limit, newest first."""
        return [Deletion.read(values) for values in self._list("/v1/deletions", "receipts")]

    def receipt(self, receipt_id: str) -> SignedReceipt:
        """A receipt of an earlier deletion, checked as `erase` does."""
        answer = self._http.json("GET", f"/v1/deletions/{check_id(receipt_id)}", idempotent=True)
        receipt = read_receipt(answer or {})
        self._check(receipt)
        return receipt

    def service_key(self) -> Ed25519PublicKey:
        """The public key that this server signs receipts with."""
        pem = (self._http.json("GET", "/v1/identity", idempotent=True) or {}).get("public_key")
        try:
            return read_public_key(pem.encode() if isinstance(pem, str) else b"")
        except FormatError:
            raise ServerError("the server shows no public key; check that it is a Cipherlens server") from None

    def usage(self) -> Usage:
        """What this token's tenant stores and may store."""
        return Usage.read(self._http.json("GET", "/v1/usage", idempotent=True) or {})

    # ---- jobs ----------------------------------------------------------------------------------------------------

    def start_fit(self, data: Labelled, keys: KeysLike, *, progress: Progress | None = None) -> Job:
        """Upload what is missing and queue a training; the same inputs give the same job, also from another machine."""
        sets = self._parts(data)
        if not sets:
            raise InputError("training needs at least one data set; give encrypted images")
        key_file = self.upload_keys(keys, progress=progress)
        files = [self.upload(images, progress=progress) for images in sets]
        inputs = {"data": [file.sha256 for file in files], "keys": key_file.sha256}
        # Not one that contributors append to: what is trained on is what was given, and nothing else.
        body = {"dataset_id": self._fixed_set("train", files), "keys_file_id": key_file.id}
        return self._start("train", inputs, body)

    def start_predict(
        self, model: ModelLike, images: Images, keys: KeysLike, *, progress: Progress | None = None
    ) -> Job:
        """Upload what is missing and queue a classification with a model that the server trained; as `start_fit`."""
        trained = self.find_model(model)
        key_file = self.upload_keys(keys, progress=progress)
        query = self.upload(images, progress=progress)
        inputs = {"model": trained.sha256, "data": query.sha256, "keys": key_file.sha256}
        body = {"model_file_id": trained.id, "query_file_id": query.id, "keys_file_id": key_file.id}
        return self._start("classify", inputs, body)

    def jobs(self) -> list[Job]:
        """The jobs of this token's tenant, newest first."""
        return [Job.read(values) for values in self._list("/v1/jobs", "jobs")]

    def job(self, job_id: str) -> Job:
        """One job, as it is now."""
        return Job.read(self._http.json("GET", f"/v1/jobs/{check_id(job_id)}", idempotent=True) or {})

    def watch(self, job: Job) -> Iterator[Job]:
        """The job whenever the server has something new to say of it, until it has ended. Breaks are bridged."""
        last: Job | None = None
        while True:
            for seen in chain((self.job(job.id) for _ in range(1)), self._events(job)):
                if seen != last:
                    last = seen
                    yield seen
                if seen.ended:
                    return
            self._http.pause(POLL_SECONDS)

    def wait(self, job: Job, *, progress: Progress | None = None) -> RemoteFile:
        """Watch a job to its end; returns its result. Raises ServerError when there is none."""
        done = self._end(job, progress)
        if done.result_id is None:
            raise ServerError(f"the server's job {job.id} ended without a result; ask the provider for the reason")
        return describe(self._http, done.result_id)

    def _end(self, job: Job, progress: Progress | None) -> Job:
        """Watch a job to its end. Raises ServerError unless it is done then."""
        last = job
        for last in self.watch(job):
            if progress is not None:
                progress(last.stage, last.progress)
        if last.state != DONE:
            why = f": {last.error}" if last.error else ""
            raise ServerError(f"the server's job {job.id} {last.state}{why}; running the same again starts a new one")
        return last

    def cancel(self, job: Job) -> None:
        """Have the server stop a job; one that has ended stays as it is."""
        self._http.json("POST", f"/v1/jobs/{job.id}/cancel", idempotent=True, expected=(409,))

    def fit(self, data: Labelled, keys: KeysLike, *, progress: Progress | None = None) -> RemoteFile:
        """Train on encrypted images; returns the encrypted model, which stays on the server for `predict`.

        data: images in one part or several, of one task and key; or a `DataSet` of the server, of which exactly the
        files that it has now are trained on, whatever is appended meanwhile. keys: the owner's evaluation keys.
        progress: called with a stage and the share of it that is done. Asked again for the same files, it goes on with
        the same job.
        """
        return self.wait(self.start_fit(data, keys, progress=progress), progress=progress)

    def predict(self, model: ModelLike, images: Images, keys: KeysLike, *, progress: Progress | None = None) -> Reply:
        """Classify encrypted images; returns the encrypted reply, for `Keys.decrypt`. Arguments as for `fit`.

        model: what `fit` gave, or a copy of a model that this server trained.
        """
        result = self.wait(self.start_predict(model, images, keys, progress=progress), progress=progress)
        with tempfile.TemporaryDirectory(prefix="cipherlens-") as folder:
            path = Path(folder) / "reply.cl"
            self.download(result, path, progress=progress)
            return Reply.load(path)

    def find_model(self, model: ModelLike) -> RemoteFile:
        """The server's own copy of a model, found by its hash.

        Raises ServerError when this server has not trained it, or has deleted it.
        """
        if isinstance(model, RemoteFile):
            return model
        with _on_disk(model) as path:
            with Reader.open(path, Kind.MODEL, verify=False) as reader:
                name = reader.name
            found = [file for file in self.find_files(path) if file.kind == Kind.MODEL.value]
        if not found:
            raise ServerError(
                f"{name} is no model that this server has trained for this token, or it was deleted there; train it with "
                "the same server first"
            )
        return found[0]

    # ---- inside --------------------------------------------------------------------------------------------------

    def _list(self, path: str, name: str) -> Iterator[dict[str, Any]]:
        """All that the server lists under a name, each portion of it asked for when it is needed. Raises ServerError."""
        following = path
        for _ in range(MOST_PORTIONS):
            answer = self._http.json("GET", following, idempotent=True) or {}
            listed, more = answer.get(name), answer.get("next")
            if not isinstance(listed, list) or not all(isinstance(values, dict) for values in listed):
                raise ServerError(f"the server does not list its {name}; check that it is a Cipherlens server")
            yield from listed
            if more is None:
                return
            if not is_hex(more, CURSOR_DIGITS):
                raise ServerError(f"the server does not say where its {name} go on; check its version")
            following = f"{path}{'&' if '?' in path else '?'}before={more}"
        raise ServerError(f"the server's list of {name} does not end; tell the provider")

    def _check(self, receipt: SignedReceipt) -> None:
        try:
            receipt.verify(self.service_key())
        except SecurityError as error:
            raise ServerError(f"the server's receipt does not hold: {error}") from None

    def _upload(self, what: Images | KeysLike, kind: Kind, progress: Progress | None) -> RemoteFile:
        if isinstance(what, RemoteFile):
            if what.kind != kind.value:
                raise FormatError(
                    f"that file on the server holds {what.kind}, but should hold {kind.words}; name another"
                )
            return what
        with _on_disk(what) as path:
            return upload(self._http, read_manifest(path, kind), progress)

    def _parts(self, data: Labelled) -> list[Images]:
        """What is to be trained on, part by part."""
        if isinstance(data, DataSet):
            return list(self.data_set_files(data.id))
        return list(data) if isinstance(data, Sequence) and not isinstance(data, str) else [data]

    def _fixed_set(self, purpose: str, files: Sequence[RemoteFile]) -> str:
        """A data set of exactly these files. Raises InputError for a file that is named twice."""
        return self._data_set(purpose, files, exactly=True).id

    def _data_set(self, purpose: str, files: Sequence[RemoteFile], *, exactly: bool = False) -> DataSet:
        """The data set that was first made of these files for a purpose; with `exactly` one that still has them alone."""
        if len({file.id for file in files}) != len(files):
            raise InputError("the same images are given twice, so they would count twice; give each once")
        inputs = {"purpose": purpose, "data": [file.sha256 for file in files]}
        body = {"file_ids": [file.id for file in files]}
        for attempt in range(MOST_ATTEMPTS):
            key = idempotency_key("data set", inputs, attempt)
            made = self._http.json("POST", "/v1/datasets", body, idempotent=True, key=key, expected=(409,))
            # It is listed like all others, so somebody may have appended to it, or taken it to another key.
            if made is not None and not (exactly and made.get("file_ids") != body["file_ids"]):
                return DataSet.read(made)
        raise ServerError(
            f"the server has no data set of exactly these images after {MOST_ATTEMPTS} tries; ask the provider for help"
        )

    def _start(self, kind: str, inputs: Mapping[str, object], body: Mapping[str, object]) -> Job:
        """The first job of these inputs that has, or may still have, a result; a new one when there is none.

        A new one is given back whatever becomes of it: one that fails at once is not started over and over.
        """
        newest = next((Job.read(values).created for values in self._list("/v1/jobs", "jobs")), 0.0)
        for attempt in range(MOST_ATTEMPTS):
            key = idempotency_key(kind, inputs, attempt)
            made = self._http.json(
                "POST", "/v1/jobs", {"kind": kind, **body}, idempotent=True, key=key, expected=(409,)
            )
            if made is None:  # the key belongs to files that have been deleted and uploaded again since
                continue
            job = self.job(read_id(made, "job_id"))
            if not job.ended or job.created > newest:
                return job
            if job.result_id is not None and find(self._http, job.result_id) is not None:
                return job
        raise ServerError(
            f"{MOST_ATTEMPTS} jobs of these inputs ended without a result; ask the provider for the reason"
        )

    def _events(self, job: Job) -> Iterable[Job]:
        for values in self._http.events(f"/v1/jobs/{job.id}/events"):
            if "state" in values:
                yield Job.read({"job_id": job.id, "kind": job.kind, **values})


@contextmanager
def _on_disk(what: Images | KeysLike | ModelLike | KeyChange) -> Iterator[Path]:
    """A path to it; something in memory is written beside other temporary files, as ciphertexts, and removed after."""
    if isinstance(what, str | os.PathLike):
        yield Path(what)
        return
    with tempfile.TemporaryDirectory(prefix="cipherlens-") as folder:
        path = Path(folder) / "upload.cl"
        if isinstance(what, EvaluationKeys):
            write_evaluation_keys(path, what)
        elif isinstance(what, KeyChange):
            write_key_change(path, what)
        elif isinstance(what, EncryptedImages | TrainedModel):
            what.save(path)
        else:
            raise InputError(f"a {type(what).__name__} cannot be uploaded; give a path, encrypted images or keys")
        yield path


def check_id(text: str) -> str:
    """An id from the user, which goes into an address. Raises InputError unless it is 32 hexadecimal digits."""
    if len(text) != 32 or not set(text) <= set("0123456789abcdef"):
        raise InputError(f"{text!r} is no id; ids of files, data sets and jobs are 32 hexadecimal digits")
    return text
