"""`cipherlens keys rotate` and `cipherlens switch`: new keys, and what was encrypted under the old ones taken along."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cipherlens.cli.options import Json, PassphraseFile, TaskFile, Threads, check_output, command
from cipherlens.cli.output import Output, plural, size
from cipherlens.cli.owner import keys_app
from cipherlens.cli.passphrase import new_passphrase, passphrase_of
from cipherlens.cli.remote import InsecureHttp, Remote, ServerUrl, TokenFile
from cipherlens.cli.transfers import send_written
from cipherlens.errors import InputError

SwitchingKeyFile = Annotated[Path, typer.Option("--switching-key", help="NEW/switching.cl, which `keys rotate` wrote.")]


@keys_app.command("rotate")
@command
def rotate(
    task: TaskFile,
    keys: Annotated[Path, typer.Option("--keys", help="The folder of the old keys, of which secret.cl is read.")],
    out: Annotated[Path, typer.Option("--out", help="The folder to write the new keys and switching.cl to.")],
    passphrase_file: PassphraseFile = None,
    new_passphrase_file: Annotated[
        Path | None,
        typer.Option(
            "--new-passphrase-file", show_default=False, help="A file whose first line is that of the new secret.cl."
        ),
    ] = None,
    no_passphrase: Annotated[
        bool, typer.Option("--no-passphrase", help="Leave the new secret.cl readable to whoever gets the file.")
    ] = False,
    server: ServerUrl = None,
    token_file: TokenFile = None,
    insecure_http: InsecureHttp = False,
    threads: Threads = None,
    as_json: Json = False,
) -> None:
    """Replace the keys of a task: new keys, and a switching key that takes stored data to them.

    Rotation does not protect copies that somebody made under a key that has leaked: they stay readable with it. Whoever
    has switching.cl and the new secret key has the old one: delete switching.cl once everything is switched, and the old
    secret.cl when nothing under it is needed any more. Models and data sets can be switched; decrypt replies before. With
    --server, the new evaluation.cl is uploaded there; `switch --server` brings the switching key when it is needed.
    """
    from cipherlens.owner import Keys, OwnerSecrets
    from cipherlens.owner.keys import EVALUATION, PUBLIC, SECRET, SWITCHING, refuse_existing
    from cipherlens.planning.task import Task

    output = Output(as_json)
    remote = Remote.of(server, token_file, insecure_http)
    connection = None if remote is None else remote.connect()
    refuse_existing(out)
    check_output((out if out.is_dir() else out.parent) / ".cipherlens")
    planned = Task.load(task)
    old = OwnerSecrets.load(keys / SECRET, passphrase_of(keys / SECRET, passphrase_file))
    passphrase = new_passphrase(new_passphrase_file, no_passphrase, option="--new-passphrase-file")
    with output.progress("creating keys") as bar:
        new, change = Keys.create_successor(planned, old, threads=threads, progress=bar.count)
        bar.stage("writing keys")
        new.save(out, passphrase, change)
    sizes = {name: (out / name).stat().st_size for name in (SECRET, PUBLIC, EVALUATION, SWITCHING)}
    guarded = "protected by the passphrase" if passphrase is not None else "NOT protected by a passphrase"
    output.facts(
        [
            (str(out / SECRET), f"{size(sizes[SECRET])}  stays with you, {guarded}"),
            (str(out / PUBLIC), f"{size(sizes[PUBLIC])}  for contributors, instead of the old one"),
            (str(out / EVALUATION), f"{size(sizes[EVALUATION])}  for the server"),
            (str(out / SWITCHING), f"{size(sizes[SWITCHING])}  for the server, to be deleted after use"),
        ]
    )
    sent: dict[str, object] = {}
    if remote is not None and connection is not None:
        sent = send_written(remote, connection, out / EVALUATION, output)
    output.finish(
        {
            "command": "keys rotate",
            "out": str(out),
            "task_id": planned.public.id,
            "old_key_id": change.old_key_id,
            "key_id": change.key_id,
            "passphrase": passphrase is not None,
            "bytes": sizes,
            **sent,
        }
    )


@command
def switch(
    switching_key: SwitchingKeyFile,
    data: Annotated[
        Path | None,
        typer.Option("--data", show_default=False, help="Encrypted images, or an encrypted model, under the old key."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", show_default=False, help="The same under the new key, to write.")
    ] = None,
    server: ServerUrl = None,
    data_set: Annotated[
        str | None,
        typer.Option("--data-set", metavar="ID", show_default=False, help="With --server: a data set to switch there."),
    ] = None,
    keep_old: Annotated[
        bool, typer.Option("--keep-old", help="With --server: leave the files under the old key there.")
    ] = False,
    token_file: TokenFile = None,
    insecure_http: InsecureHttp = False,
    threads: Threads = None,
    as_json: Json = False,
) -> None:
    """Take encrypted images or a model to new keys, without decrypting anything.

    Runs on a machine that has no secret key. The same inputs give the same bytes everywhere: an owner who switches an
    own copy can compare. Labels and sealed names stay as they are. Delete the switching key afterwards. With --server,
    a machine that runs `cipherlens serve` takes all files of a data set at once, and deletes the old ones and the
    switching key itself.
    """
    output = Output(as_json)
    remote = Remote.of(server, token_file, insecure_http, threads)
    if remote is not None:
        if data_set is None or data is not None or out is not None:
            raise InputError("--server switches a data set that is there; name it with --data-set, without files")
        _switch_remotely(remote, data_set, switching_key, keep_old, output)
        return
    if data is None or out is None or data_set is not None or keep_old:
        raise InputError("give --data and --out to switch a file, or --server and --data-set for a data set there")
    _switch_file(data, switching_key, out, threads, output)


def _switch_remotely(remote: Remote, data_set: str, switching_key: Path, keep_old: bool, output: Output) -> None:
    with remote.connect() as server, output.progress("reading") as bar:
        before = server.data_set_files(data_set)
        key_id = server.rotate(data_set, switching_key, keep_old=keep_old, progress=bar.share)
        now = {file.id for file in server.data_set_files(data_set)}
        old = [file for file in before if file.id not in now]
        there = {file.id for file in server.files()} if old else set()
    kept = sum(file.id in there for file in old)
    gone = len(old) - kept
    facts = [(f"data set {data_set[:8]}", f"under the key {key_id[:8]}")]
    if not old:
        facts.append(("old files", "none: it was under that key already"))
    else:
        why = "" if keep_old or not kept else ": another data set, a publication or a job needs them, see `delete`"
        facts.append(("old files", f"{gone:,} deleted, {kept:,} kept under the old key{why}"))
    facts.append(("switching key", "deleted there"))
    output.facts(facts)
    output.finish(
        {
            "command": "switch", "server": remote.url, "data_set": data_set, "key_id": key_id, "old_files_deleted": gone,
            "old_files_kept": kept,
        }
    )  # fmt: skip


def _switch_file(data: Path, switching_key: Path, out: Path, threads: int | None, output: Output) -> None:
    from cipherlens.learning.encrypted_images import EncryptedImages
    from cipherlens.learning.results import TrainedModel
    from cipherlens.scheme.engine import Engine, usable_cores
    from cipherlens.server import switch_images, switch_model
    from cipherlens.wire.container import Kind, Reader
    from cipherlens.wire.key_change import read_key_change

    with Reader.open(data, (Kind.IMAGES, Kind.MODEL), verify=False) as reader:
        kind = reader.kind
    check_output(out, [data, switching_key], kind)
    with output.progress("reading") as bar:
        change = read_key_change(switching_key)
        engine = Engine(change.parameters)
        if kind is Kind.IMAGES:
            images = EncryptedImages.load(data)
            switch_images(images, change, path=out, threads=threads, progress=bar.share, engine=engine)
            task, what = images.task, plural(images.images, "image")
        else:
            model = TrainedModel.load(data)
            switch_model(model, change, threads=threads, engine=engine).save(out)
            task, what = model.task, f"{model.task.spec.kind} model"
    written = out.stat().st_size
    output.facts(
        [
            (str(out), f"{what} under the key {change.key_id[:8]}, {size(written)}"),
            ("done", f"in {output.seconds:.1f} s with {engine.kernel} kernels"),
        ]
    )
    output.finish(
        {
            "command": "switch",
            "out": str(out),
            "kind": kind.value,
            "task_id": task.id,
            "old_key_id": change.old_key_id,
            "key_id": change.key_id,
            "bytes": written,
            "kernel": engine.kernel,
            "threads": threads or usable_cores(),
        }
    )
