"""`cipherlens upload` and `jobs`, and what `--server` of the owner's commands sends and fetches."""

from __future__ import annotations

import os
import shlex
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cipherlens.cli.options import Json, check_output, command, different_files
from cipherlens.cli.output import Bar, Output, moment, plural, size
from cipherlens.cli.remote import InsecureHttp, Remote, Server, TokenFile
from cipherlens.errors import InputError, ServerError

if TYPE_CHECKING:
    from cipherlens.client.connection import Connection
    from cipherlens.client.transfer import RemoteFile
    from cipherlens.wire.container import Kind

DataSet = Annotated[
    str | None,
    typer.Option("--data-set", metavar="ID", show_default=False, help="With --server: add the images to it."),
]
Save = Annotated[
    Path | None,
    typer.Option("--save", show_default=False, help="With --server: keep what was fetched in this file."),
]


@command
def upload(
    server: Server,
    files: Annotated[
        list[Path],
        typer.Argument(metavar="FILE...", show_default=False, help="Encrypted images, or KEYS/evaluation.cl."),
    ],
    data_set: DataSet = None,
    new_data_set: Annotated[
        bool, typer.Option("--new-data-set", help="Make a data set of the images, and print its id.")
    ] = False,
    token_file: TokenFile = None,
    insecure_http: InsecureHttp = False,
    as_json: Json = False,
) -> None:
    """Upload encrypted images and evaluation keys to a server.

    Only what the server lacks is sent: after an interruption the same command goes on, and what is there stays as it is,
    in data sets too. A contributor's token is made for a data set, and adds images to it.
    """
    from cipherlens.wire.container import Kind

    output = Output(as_json)
    if data_set is not None and new_data_set:
        raise InputError("--data-set and --new-data-set exclude each other; give one of them")
    kinds = _kinds(files)
    if (data_set is not None or new_data_set) and Kind.IMAGES not in kinds.values():
        raise InputError("a data set is made of encrypted images; name files that `encrypt` wrote")
    with Remote(server, token_file, insecure_http).connect() as connection, output.progress("reading") as bar:
        sent = _send(connection, kinds, data_set, bar)
        images = [file for file in sent if file.kind == Kind.IMAGES.value]
        if new_data_set:
            data_set = connection.create_data_set(images)
    output.facts((str(path), f"{size(file.size)}, file {file.id}") for path, file in zip(files, sent, strict=True))
    if data_set is not None:
        output.say(f"data set {data_set}: {plural(len(images), 'file')} of these")
    output.finish(
        {
            "command": "upload",
            "server": server,
            "files": [
                {"file": str(path), "file_id": file.id, "kind": file.kind, "bytes": file.size, "sha256": file.sha256}
                for path, file in zip(files, sent, strict=True)
            ],
            "data_set": data_set,
        }
    )


@command
def jobs(
    server: Server, token_file: TokenFile = None, insecure_http: InsecureHttp = False, as_json: Json = False
) -> None:
    """The jobs of a server, newest first, from whichever machine they were asked for: `decrypt --server` takes their ids."""
    output = Output(as_json)
    with Remote(server, token_file, insecure_http).connect() as connection:
        listed = connection.jobs()
    rows = [(j.id, j.kind, j.state, f"{j.progress:.0%}", j.result_id or "", moment(j.created)) for j in listed]
    output.table(("job", "kind", "state", "progress", "result", "queued"), rows, "Jobs, newest first")
    for job in listed:
        if job.error is not None:
            output.say(f"{job.id}: {job.error}")
    output.finish({"command": "jobs", "jobs": [asdict(job) for job in listed]})


@command
def download(
    server: Server,
    data_set: Annotated[str, typer.Option("--data-set", metavar="ID", help="As `stored` shows it.")],
    out: Annotated[Path, typer.Option("--out", help="The folder to write to: 0001.cl, 0002.cl and so on.")],
    token_file: TokenFile = None,
    insecure_http: InsecureHttp = False,
    as_json: Json = False,
) -> None:
    """Fetch the files of a data set, also those that contributors added, in the order in which they are trained on.

    `recompute` and `release` take them as --data. They are what the server says contributors sent: have each contributor
    compare the SHA-256, since a forged file makes a model that gives away the secret key. The same command again fetches
    what is missing.
    """
    output = Output(as_json)
    with Remote(server, token_file, insecure_http).connect() as connection:
        files = connection.data_set_files(data_set)
        paths = [out / f"{number:04}.cl" for number in range(1, len(files) + 1)]
        missing = [(file, path) for file, path in zip(files, paths, strict=True) if not _is_there(file, path)]
        try:
            out.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"{out} cannot be made ({error.strerror}); name another folder") from None
        with output.progress("asking") as bar:
            for file, path in missing:
                connection.download(file, path, progress=bar.share)
    output.facts(
        (str(path), f"{size(file.size)}, SHA-256 {file.sha256}") for path, file in zip(paths, files, strict=True)
    )
    output.finish(
        {
            "command": "download", "server": server, "data_set": data_set,
            "files": [{"file": str(path), **asdict(file)} for path, file in zip(paths, files, strict=True)],
        }
    )  # fmt: skip


def _is_there(file: RemoteFile, path: Path) -> bool:
    """Whether the path has the file's bytes already. Raises InputError when it has others, which would be lost."""
    from cipherlens.client.transfer import sha256_of

    if not os.path.lexists(path):
        return False
    if sha256_of(path) != file.sha256:
        raise InputError(f"{path} holds other bytes than the server's file; name an empty folder")
    return True


def _kinds(paths: Sequence[Path]) -> dict[Path, Kind]:
    """What each file holds, before the first byte is sent. Raises InputError and FormatError."""
    from cipherlens.wire.container import Kind, Reader

    found = {}
    for path in different_files(paths):
        with Reader.open(path, (Kind.IMAGES, Kind.EVALUATION_KEYS), verify=False) as reader:
            found[path] = reader.kind
    return found


def _send(connection: Connection, files: Mapping[Path, Kind], data_set: str | None, bar: Bar) -> list[RemoteFile]:
    """Upload files of images and evaluation keys, and append the images to a data set if one is named.

    Uploads go on where they stopped, and a file that is in the data set already stays where it is. Raises InputError,
    FormatError and ServerError.
    """
    from cipherlens.wire.container import Kind

    sent = []
    for path, kind in files.items():
        images = kind is Kind.IMAGES
        file = (connection.upload if images else connection.upload_keys)(path, progress=bar.share)
        if images and data_set is not None:
            connection.append(data_set, file)
        sent.append(file)
    return sent


def send_written(
    remote: Remote, connection: Connection, path: Path, output: Output, data_set: str | None = None
) -> dict[str, object]:
    """Upload what a command has just written; if that fails, say how to go on without making it anew.

    Returns what `--json` says of it. Raises InputError, FormatError and ServerError.
    """
    again = ["cipherlens", "upload", str(path), "--server", remote.url]
    again += [] if data_set is None else ["--data-set", data_set]
    try:
        with connection, output.progress("reading") as bar:
            (file,) = _send(connection, _kinds([path]), data_set, bar)
    except BaseException:  # signals too
        output.note(f"{path} is written; this sends what is missing of it: {shlex.join(again)}")
        raise
    output.facts([("uploaded", f"to {remote.url}, file {file.id}")])
    return {"server": remote.url, "file_id": file.id, "data_set": data_set}


@contextmanager
def result_file(
    remote: Remote | None, given: Path, kind: str | None, save: Path | None, output: Output
) -> Iterator[Path]:
    """A file to work on: `given` itself, or with `--server` the file or job's result of that id, fetched and disconnected.

    Nothing is sent any more once the block runs. If the block fails, what was fetched is kept: a second download would
    tell the server that its answer made trouble.

    Args:
        remote: None for a local file.
        given: a path, or the id of a file or job.
        kind: what it must be, None for anything.
        save: where to keep it; None for a temporary place.

    Raises:
        InputError: `--save` without a server, or where nothing can be written, or no id.
        ServerError: refused, out of reach, without a result, or with one of another kind.
    """
    if remote is None:
        if save is not None:
            raise InputError("--save is for what a server sends; give its address with --server")
        yield given
        return
    from cipherlens.wire.container import Kind

    connection = remote.connect()
    if save is not None:
        check_output(save, [remote.token_file], None if kind is None else Kind(kind))
    folder = Path(tempfile.mkdtemp(prefix="cipherlens-")) if save is None else save.parent
    path = folder / f"{given.name}.cl" if save is None else save
    fetched = False
    try:
        with connection, output.progress("asking") as bar:
            file = connection.result(str(given), progress=bar.share)
            if kind not in (None, file.kind):
                raise ServerError(f"{given} is of the kind {file.kind} on the server; name one of the kind {kind}")
            connection.download(file, path, progress=bar.share)
        fetched = True
        yield path
    except BaseException:
        if fetched:
            output.note(f"what the server sent is kept in {path}; go on with that file, and do not fetch it again")
        elif save is None:
            folder.rmdir()
        raise
    if save is None:
        path.unlink()
        folder.rmdir()
