"""`cipherlens serve` and `cipherlens token`: the provider's side over a network."""

from __future__ import annotations

from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cipherlens.cli.options import ClusterName, Json, Threads, bytes_of, command
from cipherlens.cli.output import Output
from cipherlens.errors import InputError

if TYPE_CHECKING:
    from pydantic import SecretStr

    from cipherlens.service.audit import Head
    from cipherlens.service.database import Database

DataFolder = Annotated[Path, typer.Option("--data", help="The service's folder; made when it does not exist.")]

Retention = Annotated[
    float | None,
    typer.Option(
        "--retention-days",
        show_default=False,
        help="Delete files, and all that was made of them, after so long.",
    ),
]

DatabaseUrl = Annotated[
    str | None,
    typer.Option(
        "--database", show_default=False, envvar="CIPHERLENS_DATABASE", show_envvar=True,
        help="PostgreSQL instead of SQLite in the folder: postgresql://USER@HOST/NAME.",
    ),
]  # fmt: skip

LONGEST_DAYS = 36_500

audit_app = typer.Typer(help="The audit log: who did what and when.", no_args_is_help=True)
token_app = typer.Typer(help="Tokens: what owners and contributors show to the service.", no_args_is_help=True)


class TokenScope(StrEnum):
    """What a token is for."""

    OWNER = "owner"
    CONTRIBUTOR = "contributor"
    TRAINER = "trainer"


@command
def serve(
    data: DataFolder,
    database: DatabaseUrl = None,
    storage: Annotated[
        str | None,
        typer.Option("--storage", show_default=False, help="Keep whole files in a bucket: s3://BUCKET/PREFIX."),
    ] = None,
    host: Annotated[str, typer.Option("--host", help="Where to listen.")] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="0: any free one.")] = 8750,
    workers: Annotated[int, typer.Option("--workers", min=1, max=1024, help="Jobs to compute side by side.")] = 1,
    tls_cert: Annotated[
        Path | None, typer.Option("--tls-cert", show_default=False, help="Certificate chain, a PEM file.")
    ] = None,
    tls_key: Annotated[Path | None, typer.Option("--tls-key", show_default=False, help="Its key, a PEM file.")] = None,
    insecure_http: Annotated[
        bool, typer.Option("--insecure-http", help="Listen beyond loopback without TLS, behind a proxy that adds it.")
    ] = False,
    cluster: ClusterName = None,
    job_memory: Annotated[
        str, typer.Option("--job-memory", metavar="SIZE", help="Refuse jobs that would take more, by forecast.")
    ] = "16GB",
    upload_days: Annotated[
        float, typer.Option("--upload-days", help="Forget an upload that nobody touched for so long.")
    ] = 7.0,
    retention_days: Retention = None,
    threads: Threads = None,
    as_json: Json = False,
) -> None:
    """Run the service: owners upload, train and classify over a network. It holds nothing that could decrypt.

    Everything lies in one folder. It can be killed at any moment: whatever it confirmed is there after the next start,
    and jobs go on. Its log goes to stderr.
    """
    from cipherlens.server.cluster import check_cluster
    from cipherlens.service.settings import Settings
    from cipherlens.service.supervisor import Supervisor

    output = Output(as_json)
    if cluster is not None:
        check_cluster(cluster)
    settings = Settings(
        data=data.absolute(), database=_secret(database), storage=storage, host=host, port=port, workers=workers,
        threads=threads, cluster=cluster, tls_cert=_absolute(tls_cert), tls_key=_absolute(tls_key),
        insecure_http=insecure_http, quota_memory=bytes_of(job_memory, "--job-memory"),
        upload_days=_length(upload_days, "--upload-days"), retention_days=days_of(retention_days),
    )  # fmt: skip

    def listening(url: str) -> None:
        output.say(f"listening on {url}")
        output.finish({"command": "serve", "url": url})
        _flush()

    Supervisor(settings).run(listening)


@token_app.command("create")
@command
def create(
    data: DataFolder,
    tenant: Annotated[str, typer.Option("--tenant", help="Whose it is; a new name makes a new tenant.")],
    scope: Annotated[
        TokenScope,
        typer.Option("--scope", help="All of the tenant's; adding to one data set; or training on one publication."),
    ] = TokenScope.OWNER,
    dataset: Annotated[
        str | None, typer.Option("--dataset", show_default=False, help="The data set that a contributor adds to.")
    ] = None,
    publication: Annotated[
        str | None, typer.Option("--publication", show_default=False, help="The publication that a trainer trains on.")
    ] = None,
    note: Annotated[str, typer.Option("--note", help="Who got it, for your list.")] = "",
    expires_days: Annotated[
        float | None,
        typer.Option("--expires-days", show_default=False, help="It counts for nothing after so long."),
    ] = None,
    retention_days: Retention = None,
    database: DatabaseUrl = None,
    as_json: Json = False,
) -> None:
    """Make a token. It is shown once: only its hash is stored.

    --retention-days is the limit of the whole tenant from now on, in place of the one of `serve`.
    """
    from cipherlens.service.database import Database
    from cipherlens.service.pieces import make_folder
    from cipherlens.service.settings import Settings
    from cipherlens.service.tokens import Scope, create_token

    output = Output(as_json)
    days, life = days_of(retention_days), days_of(expires_days, "--expires-days")
    make_folder(data.absolute())
    opened = Database(data.absolute(), _secret(database))
    token = create_token(
        opened,
        Settings(data=data.absolute()),
        tenant,
        Scope(scope.value),
        dataset,
        note,
        days,
        publication_id=publication,
        expires_days=life,
    )
    opened.close()
    output.say(token)
    output.finish({"command": "token create", "tenant": tenant, "scope": scope.value, "token": token})


@token_app.command("list")
@command
def list_(data: DataFolder, database: DatabaseUrl = None, as_json: Json = False) -> None:
    """All tokens by their ids; none can be shown again."""
    from dataclasses import asdict

    from cipherlens.service.tokens import list_tokens

    output = Output(as_json)
    opened = existing_database(data, database)
    tokens = list_tokens(opened)
    opened.close()
    rows = [
        (
            t.token_id,
            t.tenant,
            t.scope,
            t.dataset_id or t.publication_id or "",
            t.note,
            _day(t.created),
            _day(t.expires),
            _day(t.revoked),
        )
        for t in tokens
    ]
    output.table(("id", "tenant", "scope", "only for", "note", "created", "expires", "revoked"), rows, "Tokens")
    output.finish({"command": "token list", "tokens": [asdict(token) for token in tokens]})


@token_app.command("revoke")
@command
def revoke(
    data: DataFolder,
    token_id: Annotated[str, typer.Argument(metavar="ID", show_default=False, help="As `token list` shows it.")],
    database: DatabaseUrl = None,
    as_json: Json = False,
) -> None:
    """From now on a token counts for nothing, in running uploads too."""
    from cipherlens.service.settings import Settings
    from cipherlens.service.tokens import revoke_token

    output = Output(as_json)
    opened = existing_database(data, database)
    revoke_token(opened, Settings(data=data.absolute()), token_id)
    opened.close()
    output.say(f"{token_id} is revoked")
    output.finish({"command": "token revoke", "token_id": token_id})


@audit_app.command("verify")
@command
def verify(
    data: DataFolder,
    head: Annotated[
        str | None,
        typer.Option("--head", metavar="NUMBER:SHA256", show_default=False, help="A head that you noted earlier."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Check that no record of the audit log was altered or removed; prints its head, to be noted elsewhere."""
    from cipherlens.service.audit import Audit

    output = Output(as_json)
    found = Audit(_served(data)).verify(_head(head))
    if found.first > 1:
        output.say(f"begins with record {found.first}; older files are not here")
    output.say(
        f"{found.head.number - found.first + 1} records in one chain; head {found.head.number}:{found.head.sha256}"
    )
    output.finish(
        {
            "command": "audit verify", "first": found.first, "records": found.head.number - found.first + 1,
            "head": f"{found.head.number}:{found.head.sha256}",
        }
    )  # fmt: skip


def _head(text: str | None) -> Head | None:
    from cipherlens.service.audit import Head

    if text is None:
        return None
    number, _, sha256 = text.partition(":")
    if not (number.isascii() and number.isdigit() and len(number) < 19 and len(sha256) == 64):
        raise InputError("a head is NUMBER:SHA256, as `cipherlens audit verify` printed it")
    return Head(int(number), sha256)


def days_of(days: float | None, option: str = "--retention-days") -> float | None:
    """A length of time, if one was given. Raises InputError for what is none."""
    return None if days is None else _length(days, option)


def _length(days: float, option: str) -> float:
    if not 0 < days <= LONGEST_DAYS:
        raise InputError(f"{option} is a number of days, more than 0 and at most {LONGEST_DAYS}, not {days}")
    return days


def _served(data: Path) -> Path:
    """The folder of a service, wherever its database is. Raises InputError."""
    from cipherlens.service.audit import CURRENT

    if not (data / CURRENT).is_file():
        raise InputError(f"{data} is no service's folder; `cipherlens serve` or `token create` makes one")
    return data.absolute()


def existing_database(data: Path, url: str | None) -> Database:
    """The database of a service that has one. Raises InputError."""
    from cipherlens.service.database import NAME, Database

    if url is None and not (data / NAME).is_file():
        raise InputError(f"{data} is no service's folder; `cipherlens serve` or `token create` makes one")
    return Database(data.absolute(), _secret(url))


def _secret(url: str | None) -> SecretStr | None:
    from pydantic import SecretStr

    return None if url is None else SecretStr(url)


def _absolute(path: Path | None) -> Path | None:
    return None if path is None else path.absolute()


def _day(moment: float | None) -> str:
    return "" if moment is None else datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%d %H:%M")


def _flush() -> None:
    import sys

    sys.stdout.flush()
