"""`cipherlens delete`, `stored` and `receipt`: what an owner has on a server, and how it goes for good."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cipherlens.cli.options import Json, check_output, command
from cipherlens.cli.output import Output, moment, plural, size
from cipherlens.cli.remote import InsecureHttp, Remote, Server, TokenFile
from cipherlens.errors import InputError

if TYPE_CHECKING:
    from cipherlens.client.connection import Connection
    from cipherlens.client.deletion import DeletionPlan
    from cipherlens.client.transfer import RemoteFile
    from cipherlens.wire.receipt import SignedReceipt

WORDS = {
    "evaluation_keys": "evaluation key file", "switching_key": "switching key", "images": "image file",
    "model": "model", "reply": "reply", "upload": "unfinished upload", "data_set": "data set", "job": "job",
}  # fmt: skip

receipt_app = typer.Typer(help="Receipts of deletions: list, fetch and verify them.", no_args_is_help=True)


@command
def delete(
    server: Server,
    data: Annotated[
        Path | None,
        typer.Option("--data", show_default=False, help="A local copy of the file to delete there, found by its hash."),
    ] = None,
    data_set: Annotated[
        str | None, typer.Option("--data-set", metavar="ID", show_default=False, help="A data set and its files.")
    ] = None,
    evaluation_keys: Annotated[
        Path | None,
        typer.Option(
            "--evaluation-keys", show_default=False, help="KEYS/evaluation.cl: everything under this key pair."
        ),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Delete without asking.")] = False,
    receipt: Annotated[
        Path | None, typer.Option("--receipt", show_default=False, help="Where to write the server's receipt.")
    ] = None,
    token_file: TokenFile = None,
    insecure_http: InsecureHttp = False,
    as_json: Json = False,
) -> None:
    """Delete on a server, for good, with everything that was made of it: models, replies, jobs.

    Shows first what will go, and asks. Jobs that are still at work on it are cancelled. The server signs a receipt once
    the bytes are gone from its disk.
    """
    output = Output(as_json)
    if receipt is not None:
        check_output(receipt, suffixes=(".json",))
    with Remote(server, token_file, insecure_http).connect() as connection:
        plan = _plan(connection, data, data_set, evaluation_keys, output)
        _show(output, plan)
        if not yes and not _confirmed("Delete all of this for good?"):
            raise InputError("nothing was deleted; say yes, or give --yes, to delete")
        signed = connection.erase(plan)
    if receipt is not None:
        receipt.write_bytes(signed.to_bytes())
        output.say(f"the receipt is in {receipt}")
    else:
        output.say(f"the receipt is {signed.receipt.id}; `cipherlens receipt fetch` writes it into a file")
    output.finish({"command": "delete", **_facts(signed)})


@command
def stored(
    server: Server, token_file: TokenFile = None, insecure_http: InsecureHttp = False, as_json: Json = False
) -> None:
    """What a server keeps for you: files, data sets, and how much room is left."""
    from dataclasses import asdict

    output = Output(as_json)
    with Remote(server, token_file, insecure_http).connect() as connection:
        files, sets, usage = connection.files(), connection.data_sets(), connection.usage()
    rows = [(f.id, f.kind.replace("_", " "), size(f.size), f.sha256[:16]) for f in files]
    output.table(("file", "kind", "size", "SHA-256"), rows, "Files, newest first")
    held = [(found.id, f"{found.images:,}", str(found.files)) for found in sets]
    output.table(("data set", "images", "files"), held, "Data sets, newest first")
    days = usage.retention_days
    kept = "kept until you delete it" if days is None else f"kept for {days:g} days"
    output.say(f"{size(usage.stored)} of {size(usage.quota)}, {kept}")
    output.finish(
        {
            "command": "stored", "files": [asdict(file) for file in files], "data_sets": [asdict(s) for s in sets],
            "usage": asdict(usage),
        }
    )  # fmt: skip


@receipt_app.command("list")
@command
def list_(
    server: Server, token_file: TokenFile = None, insecure_http: InsecureHttp = False, as_json: Json = False
) -> None:
    """All deletions, newest first, also those that a retention limit caused."""
    from dataclasses import asdict

    output = Output(as_json)
    with Remote(server, token_file, insecure_http).connect() as connection:
        listed = connection.deletions()
    rows = [(d.id, d.reason, str(d.objects), size(d.size), moment(d.requested)) for d in listed]
    output.table(("receipt", "reason", "objects", "size", "when"), rows, "Deletions, newest first")
    output.finish({"command": "receipt list", "receipts": [asdict(deletion) for deletion in listed]})


@receipt_app.command("fetch")
@command
def fetch(
    server: Server,
    receipt_id: Annotated[str, typer.Argument(metavar="ID", show_default=False, help="As `receipt list` shows it.")],
    out: Annotated[Path, typer.Option("--out", help="The file to write.")],
    token_file: TokenFile = None,
    insecure_http: InsecureHttp = False,
    as_json: Json = False,
) -> None:
    """Fetch a receipt into a file."""
    output = Output(as_json)
    check_output(out, suffixes=(".json",))
    with Remote(server, token_file, insecure_http).connect() as connection:
        signed = connection.receipt(receipt_id)
    out.write_bytes(signed.to_bytes())
    output.say(f"{out}: {_sentence(signed)}")
    output.finish({"command": "receipt fetch", "out": str(out), **_facts(signed)})


@receipt_app.command("key")
@command
def key(
    server: Server,
    out: Annotated[Path, typer.Option("--out", help="The PEM file to write.")],
    token_file: TokenFile = None,
    insecure_http: InsecureHttp = False,
    as_json: Json = False,
) -> None:
    """Fetch the public key that a server signs with. Keep it: receipts are checked against it without the server."""
    from cipherlens.wire.receipt import public_pem, service_id

    output = Output(as_json)
    check_output(out)
    with Remote(server, token_file, insecure_http).connect() as connection:
        public = connection.service_key()
    out.write_text(public_pem(public))
    output.say(f"{out}: the key of service {service_id(public)}")
    output.finish({"command": "receipt key", "out": str(out), "service": service_id(public)})


@receipt_app.command("verify")
@command
def verify(
    file: Annotated[Path, typer.Argument(metavar="FILE", show_default=False, help="A receipt.")],
    server_key: Annotated[
        Path | None,
        typer.Option("--server-key", show_default=False, help="The server's public key, kept since `receipt key`."),
    ] = None,
    server: Annotated[
        str | None, typer.Option("--server", metavar="URL", show_default=False, help="Ask this server for its key.")
    ] = None,
    token_file: TokenFile = None,
    insecure_http: InsecureHttp = False,
    as_json: Json = False,
) -> None:
    """Check that a receipt is the server's and unaltered; with --server-key offline."""
    from cipherlens.wire.receipt import SignedReceipt, read_public_key

    output = Output(as_json)
    if (server_key is None) == (server is None):
        raise InputError("a receipt is checked against one key; give --server-key FILE or --server URL")
    signed = SignedReceipt.from_bytes(_read(file))
    if server_key is not None:
        public = read_public_key(_read(server_key))
    else:
        with Remote(server or "", token_file, insecure_http).connect() as connection:
            public = connection.service_key()
    signed.verify(public)
    output.say(f"genuine: {_sentence(signed)}")
    output.finish({"command": "receipt verify", "genuine": True, **_facts(signed)})


def _plan(
    connection: Connection, data: Path | None, data_set: str | None, evaluation_keys: Path | None, output: Output
) -> DeletionPlan:
    if sum(given is not None for given in (data, data_set, evaluation_keys)) != 1:
        raise InputError("name one thing to delete: --data, --data-set or --evaluation-keys")
    if data_set is not None:
        return connection.plan_deletion(data_set=data_set)
    if data is not None:
        return connection.plan_deletion(file=_same_file(connection, data, output))
    from cipherlens.wire.container import Kind, Reader, header_hex

    with Reader.open(evaluation_keys or Path(), Kind.EVALUATION_KEYS, verify=False) as reader:
        return connection.plan_deletion(key=header_hex(reader.header, "key_id"))


def _same_file(connection: Connection, path: Path, output: Output) -> RemoteFile:
    found = connection.find_files(path)
    if not found:
        raise InputError(f"the server holds no file with the bytes of {path}; `cipherlens stored` lists what it holds")
    if more := len(found) - 1:
        output.note(
            f"{plural(more, 'more file')} there with these bytes, from other senders: run the same again for the next"
        )
    return found[0]


def _show(output: Output, plan: DeletionPlan) -> None:
    counts = Counter(thing.kind for thing in plan.objects)
    held = {kind: sum(thing.size or 0 for thing in plan.objects if thing.kind == kind) for kind in counts}
    for kind, count in counts.items():
        output.note(
            f"will go: {plural(count, WORDS.get(kind, kind))}" + (f", {size(held[kind])}" if held[kind] else "")
        )
    if plan.unfinished:
        output.note(f"will be cancelled: {plural(plan.unfinished, 'job')} of these")
    if plan.shrunk:
        output.note(f"will lose files and stay: {plural(plan.shrunk, 'data set')}")
    if plan.withdrawn:
        output.note(
            f"will be withdrawn: {plural(plan.withdrawn, 'publication')}, and trainers' unfinished jobs be cancelled"
        )


def _confirmed(question: str) -> bool:
    """Whether the answer on stdin is yes; no answer is none. (Typer's own question makes Ctrl-C and a missing stdin one.)"""
    print(f"{question} [y/N]: ", end="", file=sys.stderr, flush=True)
    answer = sys.stdin.readline() if sys.stdin is not None else ""
    return answer.strip().lower() in ("y", "yes")


def _facts(signed: SignedReceipt) -> dict[str, object]:
    receipt = signed.receipt
    return {
        "receipt_id": receipt.id, "service": receipt.service, "objects": len(receipt.objects), "bytes": receipt.size,
        "erased": receipt.erased, "reason": receipt.reason,
    }  # fmt: skip


def _sentence(signed: SignedReceipt) -> str:
    receipt = signed.receipt
    return (
        f"{plural(len(receipt.objects), 'object')} with {size(receipt.size)} were gone from service {receipt.service} on "
        f"{moment(receipt.erased)}"
    )


def _read(path: Path) -> bytes:
    from cipherlens.wire.receipt import LARGEST_RECEIPT

    try:
        with path.open("rb") as file:
            return file.read(LARGEST_RECEIPT + 1)
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}); check the path") from None
