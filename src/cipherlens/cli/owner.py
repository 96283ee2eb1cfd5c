"""`cipherlens keys create` and `cipherlens encrypt`: the owner's and the contributors' side."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cipherlens.cli.options import Json, PassphraseFile, SkipBroken, TaskFile, Threads, check_output, command
from cipherlens.cli.output import Output, plural, size
from cipherlens.cli.passphrase import new_passphrase, passphrase_of
from cipherlens.cli.remote import InsecureHttp, Remote, ServerUrl, TokenFile
from cipherlens.cli.transfers import DataSet, send_written
from cipherlens.errors import InputError, KeyMismatch

if TYPE_CHECKING:
    from cipherlens.client.connection import Connection
    from cipherlens.owner.encryption import Encryptor
    from cipherlens.planning.task import Task

keys_app = typer.Typer(help="Make the keys of a task, and replace them.")


@keys_app.command("create")
@command
def create(
    task: TaskFile,
    out: Annotated[Path, typer.Option("--out", help="The folder to write secret.cl, public.cl and evaluation.cl to.")],
    passphrase_file: PassphraseFile = None,
    no_passphrase: Annotated[
        bool, typer.Option("--no-passphrase", help="Leave secret.cl readable to whoever gets the file.")
    ] = False,
    server: ServerUrl = None,
    token_file: TokenFile = None,
    insecure_http: InsecureHttp = False,
    threads: Threads = None,
    as_json: Json = False,
) -> None:
    """Create the secret, public and evaluation keys of a task.

    secret.cl stays with you: whoever has it (and its passphrase) reads everything. public.cl is for contributors;
    evaluation.cl is for the server and safe to publish. Evaluation keys together with decryptions are not: never
    pass on what you decrypted in full precision. With --server, evaluation.cl is uploaded there, and nothing else.
    """
    from cipherlens.owner import Keys
    from cipherlens.owner.keys import EVALUATION, PUBLIC, SECRET, refuse_existing
    from cipherlens.planning.task import Task

    output = Output(as_json)
    remote = Remote.of(server, token_file, insecure_http)
    connection = None if remote is None else remote.connect()
    refuse_existing(out)
    check_output((out if out.is_dir() else out.parent) / ".cipherlens")
    planned = Task.load(task)
    passphrase = new_passphrase(passphrase_file, no_passphrase)
    with output.progress("creating keys") as bar:
        keys = Keys.create(planned, threads=threads, progress=bar.count)
        bar.stage("writing keys")
        keys.save(out, passphrase)
    sizes = {name: (out / name).stat().st_size for name in (SECRET, PUBLIC, EVALUATION)}
    guarded = "protected by the passphrase" if passphrase is not None else "NOT protected by a passphrase"
    output.facts(
        [
            (str(out / SECRET), f"{size(sizes[SECRET])}  stays with you, {guarded}"),
            (str(out / PUBLIC), f"{size(sizes[PUBLIC])}  for contributors"),
            (str(out / EVALUATION), f"{size(sizes[EVALUATION])}  for the server"),
        ]
    )
    sent: dict[str, object] = {}
    if remote is not None and connection is not None:
        sent = send_written(remote, connection, out / EVALUATION, output)
    output.finish(
        {
            "command": "keys create",
            "out": str(out),
            "task_id": planned.public.id,
            "key_id": keys.secrets.secret.key_id,
            "passphrase": passphrase is not None,
            "evaluation_keys": len(keys.evaluation.keys),
            "bytes": sizes,
            **sent,
        }
    )


@command
def encrypt(
    task: TaskFile,
    keys: Annotated[Path, typer.Option("--keys", help="Your KEYS folder, or the owner's public.cl to contribute.")],
    images: Annotated[Path, typer.Option("--images", help="What to encrypt: as for `plan`.")],
    out: Annotated[Path, typer.Option("--out", help="The file of encrypted images to write.")],
    labels: Annotated[
        Path | None,
        typer.Option("--labels", show_default=False, help="A CSV file (file,label); by default one folder a class."),
    ] = None,
    no_labels: Annotated[bool, typer.Option("--no-labels", help="Send no labels, as for images to classify.")] = False,
    passphrase_file: PassphraseFile = None,
    server: ServerUrl = None,
    data_set: DataSet = None,
    token_file: TokenFile = None,
    insecure_http: InsecureHttp = False,
    skip_broken: SkipBroken = False,
    threads: Threads = None,
    as_json: Json = False,
) -> None:
    """Encrypt images, with the owner's keys or with public.cl alone.

    Labels go along in the clear, as class numbers without their names. File names are sealed for the owner and come
    back with the reply. The number of images, the size of the file and the time of its sending are visible. With
    --server, the file is uploaded once it is written.
    """
    from cipherlens.cli.sources import left_out, open_images, open_labels
    from cipherlens.features.images import ImageSource
    from cipherlens.owner.encryption import encrypt_images, prepare
    from cipherlens.owner.keys import EVALUATION, PUBLIC, SECRET
    from cipherlens.planning.task import Task
    from cipherlens.wire.container import Kind

    output = Output(as_json)
    remote = Remote.of(server, token_file, insecure_http)
    connection = _connected(remote, out, data_set)
    if labels is not None and no_labels:
        raise InputError("--labels and --no-labels exclude each other; give one of them")
    held = [keys / name for name in (SECRET, PUBLIC, EVALUATION)] if keys.is_dir() else [keys]
    check_output(out, [task, images, labels, passphrase_file, token_file, *held], Kind.IMAGES)
    planned = Task.load(task)
    encryptor, sealing_key = _encryptor(planned, keys, passphrase_file)
    source = open_images(
        images, labels, output, table=planned.feature_map.base.kind == "table", skip_broken=skip_broken
    )
    in_folders = isinstance(source, ImageSource) and source.classes is not None
    labelled = not no_labels and (labels is not None or in_folders)
    prepared = prepare(planned, source, open_labels(source, labels), labelled)
    if data_set is not None and prepared.numbers is None:
        raise InputError("a data set takes images with labels; give --labels, or one folder a class")
    seen = "no labels; no names"
    if prepared.numbers is not None:
        seen = f"{plural(len(prepared.numbers), 'label')}; no names"
    with output.progress("encrypting") as bar:
        encrypt_images(planned, encryptor, sealing_key, prepared, path=out, threads=threads, progress=bar.count)
    written = out.stat().st_size
    count = planned.public.circuit.layout.ciphertexts(prepared.images)
    output.facts(
        [
            (str(out), f"{plural(prepared.images, 'image')} in {plural(count, 'ciphertext')}, {size(written)}"),
            ("the server will see in the clear", seen),
        ]
    )
    sent: dict[str, object] = {}
    if remote is not None and connection is not None:
        sent = send_written(remote, connection, out, output, data_set)
    output.finish(
        {
            "command": "encrypt",
            "out": str(out),
            "task_id": planned.public.id,
            "key_id": encryptor.key_id,
            "images": prepared.images,
            "ciphertexts": count,
            "bytes": written,
            "contributor": not encryptor.seeded,
            "visible": {"labels": 0 if prepared.numbers is None else len(prepared.numbers), "names": 0},
            **left_out(source),
            **sent,
        }
    )


def _connected(remote: Remote | None, out: Path, data_set: str | None) -> Connection | None:
    """A connection for the upload to come. Raises InputError for what would fail, or be sent a second time, by then."""
    if remote is None:
        if data_set is not None:
            raise InputError("--data-set is on a server; give its address with --server")
        return None
    from cipherlens.client.connection import check_id

    connection = remote.connect()
    if data_set is not None:
        check_id(data_set)
    if out.exists():
        raise InputError(
            f"{out} exists, and images that are encrypted again are other bytes, which would count twice; send this file "
            "with `cipherlens upload`, or name another one"
        )
    return connection


def _encryptor(task: Task, keys: Path, passphrase_file: Path | None) -> tuple[Encryptor, bytes]:
    """What encrypts, and the key that seals names: the owner's from a folder, a contributor's from public.cl."""
    from cipherlens.owner import ContributorKeys, OwnerSecrets
    from cipherlens.owner.encryption import PublicEncryptor, SecretEncryptor
    from cipherlens.owner.keys import PUBLIC, SECRET
    from cipherlens.scheme.engine import Engine

    if not keys.is_dir():
        public = ContributorKeys.load(task, keys)
        return PublicEncryptor(Engine(task.public.parameters), public.public), public.sealing_key
    if not (keys / SECRET).exists():
        raise InputError(f"{keys} holds no {SECRET}; to contribute to the owner's data give {keys / PUBLIC} itself")
    secrets = OwnerSecrets.load(keys / SECRET, passphrase_of(keys / SECRET, passphrase_file))
    public = ContributorKeys.load(task, keys / PUBLIC)
    if secrets.task.id != task.public.id:
        raise KeyMismatch(f"the keys in {keys} were made for another task; use the task that they were made for")
    if secrets.secret.key_id != public.public.key_id:
        raise KeyMismatch(f"the files in {keys} belong to different key pairs; do not mix key folders")
    return SecretEncryptor(secrets.secret), public.sealing_key
