"""`--server URL`: where it points, how to get in, and `train` and `classify` done there with the files of this machine."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cipherlens.cli.failures import Terminated
from cipherlens.cli.options import check_output, different_files
from cipherlens.cli.output import Bar, Output, plural, size
from cipherlens.errors import InputError, ServerError

if TYPE_CHECKING:
    from cipherlens.client.jobs import Job
    from cipherlens.client.publishing import PublishingConnection
    from cipherlens.client.transfer import RemoteFile

TOKEN_VARIABLE = "CIPHERLENS_TOKEN"
LONGEST_TOKEN = 4096

ServerUrl = Annotated[
    str | None,
    typer.Option("--server", metavar="URL", show_default=False, help="Have the server at this address do it."),
]
Server = Annotated[str, typer.Option("--server", metavar="URL", help="The server's address.")]
TokenFile = Annotated[
    Path | None,
    typer.Option(
        "--token-file", show_default=False, help=f"A file whose first line is the token; else ${TOKEN_VARIABLE}."
    ),
]
StoredSet = Annotated[
    str | None,
    typer.Option(
        "--data-set", metavar="ID", show_default=False,
        help="Instead of --data: a data set of the server, with all that contributors have added to it.",
    ),
]  # fmt: skip
InsecureHttp = Annotated[
    bool, typer.Option("--insecure-http", help="Send the token over http:// beyond this machine; in your own network.")
]


@dataclass(frozen=True)
class Remote:
    """Where `--server` points, and how to get in.

    Attributes:
        url: of the server.
        token_file: its first line is the token; None for the variable CIPHERLENS_TOKEN.
        insecure_http: whether http:// will do beyond this machine.
    """

    url: str
    token_file: Path | None
    insecure_http: bool

    @classmethod
    def of(
        cls, url: str | None, token_file: Path | None, insecure_http: bool, threads: int | None = None
    ) -> Remote | None:
        """What the options say, None without `--server`. Raises InputError for options that do not go together.

        threads: of a command that the server does instead of this machine.
        """
        if url is None:
            if token_file is not None or insecure_http:
                raise InputError("--token-file and --insecure-http are for a server; give its address with --server")
            return None
        if threads is not None:
            raise InputError("--threads is for this machine, and --server works on another; leave one of them away")
        return cls(url, token_file, insecure_http)

    def connect(self) -> PublishingConnection:
        """Raises InputError for an address or token that is none."""
        from cipherlens.client import connect

        return connect(self.url, self._token(), insecure_http=self.insecure_http)

    def _token(self) -> str:
        if self.token_file is None:
            token = os.environ.get(TOKEN_VARIABLE, "").strip()
            if not token:
                raise InputError(f"{self.url} asks for a token; give --token-file, or set {TOKEN_VARIABLE}")
            return token
        try:
            with self.token_file.open("rb") as file:
                line = file.readline(LONGEST_TOKEN)
        except OSError as error:
            raise InputError(f"the token file {self.token_file} cannot be read ({error.strerror}); check it") from None
        return line.decode("ascii", "replace").strip()


def one_source(data: list[Path] | None, data_set: str | None) -> None:
    """Raises InputError unless one of --data and --data-set is given."""
    if bool(data) == (data_set is not None):
        raise InputError("give either --data with files, or --data-set with the id of a data set on the server")


def labelled_images(
    server: PublishingConnection, data: list[Path] | None, data_set: str | None, output: Output
) -> Sequence[Path | RemoteFile]:
    """The files of this machine, or those that a data set has at this moment, and says how many that are.

    Raises InputError for a file that is given twice, and ServerError.
    """
    if data_set is None:
        return different_files(data or [])
    files = server.data_set_files(data_set)
    images = sum(file.images or 0 for file in files)
    output.note(
        f"data set {data_set} as it is now: {plural(len(files), 'file')} with {plural(images, 'image')}; "
        "what is added from here on does not count"
    )
    return files


def train_remotely(
    remote: Remote, data: list[Path] | None, data_set: str | None, evaluation_keys: Path, out: Path, output: Output
) -> None:
    """Upload what is missing, train there, and fetch the model. Raises InputError, FormatError and ServerError."""
    from cipherlens.learning.results import TrainedModel
    from cipherlens.wire.container import Kind

    check_output(out, [*(data or []), evaluation_keys, remote.token_file], Kind.MODEL)
    with remote.connect() as server:
        parts = labelled_images(server, data, data_set, output)
        with output.progress("reading") as bar:
            job = server.start_fit(parts, evaluation_keys, progress=bar.share)
            fetch(server, job, "model", out, output, bar)
    model = TrainedModel.load(out)
    images, written = int(model.counts.sum()), size(out.stat().st_size)
    output.facts([(str(out), f"{model.task.spec.kind} on {plural(images, 'image')}, {written}, encrypted")])
    _finish(output, "train", remote, out, job, model.task.id, model.key_id, images)


def classify_remotely(
    remote: Remote, model: Path, data: Path, evaluation_keys: Path, out: Path, output: Output
) -> None:
    """Upload what is missing, classify there, and fetch the reply. Raises InputError, FormatError and ServerError."""
    from cipherlens.learning.results import Reply
    from cipherlens.wire.container import Kind

    check_output(out, [model, data, evaluation_keys, remote.token_file], Kind.REPLY)
    with remote.connect() as server, output.progress("reading") as bar:
        job = server.start_predict(model, data, evaluation_keys, progress=bar.share)
        fetch(server, job, "reply", out, output, bar)
    reply = Reply.load(out)
    written = size(out.stat().st_size)
    output.facts([(str(out), f"scores of {plural(reply.images, 'image')}, {written}, encrypted")])
    _finish(output, "classify", remote, out, job, reply.task.id, reply.key_id, reply.images)


def fetch(server: PublishingConnection, job: Job, kind: str, out: Path, output: Output, bar: Bar) -> None:
    """Wait for a job and write its result. Raises ServerError when there is none, or one of another kind."""
    with _resumable(job, output):
        result = server.wait(job, progress=bar.share)
        if result.kind != kind:
            raise ServerError(f"the server's job {job.id} gave a {result.kind} and no {kind}; tell the provider")
        server.download(result, out, progress=bar.share)


@contextmanager
def _resumable(job: Job, output: Output) -> Iterator[None]:
    """Say, on an interruption, that the job goes on."""
    try:
        yield
    except (KeyboardInterrupt, Terminated):
        output.note(
            f"the server's job {job.id} goes on; run the same command again, here or elsewhere, to fetch its result"
        )
        raise


def _finish(
    output: Output, name: str, remote: Remote, out: Path, job: Job, task_id: str, key_id: str, images: int
) -> None:
    """What both commands say of their run."""
    output.facts([("done", f"in {output.seconds:.1f} s by {remote.url}, job {job.id}")])
    output.finish(
        {
            "command": name,
            "out": str(out),
            "task_id": task_id,
            "key_id": key_id,
            "images": images,
            "bytes": out.stat().st_size,
            "server": remote.url,
            "job_id": job.id,
        }
    )
