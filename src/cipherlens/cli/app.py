"""Every command under its name."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from typer.main import get_command

from cipherlens import __version__
from cipherlens.cli.decrypting import decrypt
from cipherlens.cli.deleting import delete, receipt_app, stored
from cipherlens.cli.doctor import doctor
from cipherlens.cli.inspecting import inspect
from cipherlens.cli.options import Json, Threads, command
from cipherlens.cli.output import Output
from cipherlens.cli.owner import encrypt, keys_app
from cipherlens.cli.planning import plan
from cipherlens.cli.publishing import publish, release, scoreboard, submissions, submit
from cipherlens.cli.rotating import switch
from cipherlens.cli.server import classify, recompute, train
from cipherlens.cli.serving import audit_app, serve, token_app
from cipherlens.cli.tenants import tenant_app
from cipherlens.cli.transfers import download, jobs, upload

HELP = """Train and apply image classifiers on encrypted images.

The owner plans a task, makes keys and encrypts; a server without the secret key trains and classifies; the owner
decrypts.
"""

EPILOG = (
    "Not protected: the number and size of images, when they are sent, labels sent in the clear, and what owner and "
    "server learn together. Evaluation keys are safe to publish; evaluation keys together with decryptions are not."
)

app = typer.Typer(
    help=HELP,
    epilog=EPILOG,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"max_content_width": 110},
)


def _version(show: bool) -> None:
    if show:
        print(f"cipherlens {__version__}")
        raise typer.Exit


@app.callback()
def _main(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and exit.", is_eager=True, callback=_version)
    ] = False,
) -> None:
    """Options of `cipherlens` itself."""


@command
def demo(
    out: Annotated[Path, typer.Option("--out", help="The folder for summary.json and report.html.")] = Path(
        "demo-output"
    ),
    photo: Annotated[
        list[Path] | None,
        typer.Option("--photo", show_default=False, help="Pictures of your own to classify."),
    ] = None,
    more: Annotated[
        list[Path] | None, typer.Argument(metavar="[FILE]...", show_default=False, help="More pictures for --photo.")
    ] = None,
    threads: Threads = None,
    as_json: Json = False,
) -> None:
    """Train a cat classifier on encrypted photographs: owner, server and owner again in processes of their own."""
    from cipherlens.cli.demo import run_demo

    output = Output(as_json)
    output.finish({"command": "demo", **run_demo(out, [*(photo or []), *(more or [])], threads, output.console)})


OWNER, SERVER, EVERYBODY = "The owner and contributors", "The server", "Everybody"
TRAINERS = "Owners and trainers, with a server"

app.command(rich_help_panel=EVERYBODY)(demo)
app.command(rich_help_panel=OWNER)(plan)
app.add_typer(keys_app, name="keys", rich_help_panel=OWNER)
app.command(rich_help_panel=OWNER)(encrypt)
app.command(rich_help_panel=OWNER)(decrypt)
app.command(rich_help_panel=OWNER)(upload)
app.command(rich_help_panel=OWNER)(jobs)
app.command(rich_help_panel=OWNER)(stored)
app.command(rich_help_panel=OWNER)(download)
app.command(rich_help_panel=OWNER)(delete)
app.add_typer(receipt_app, name="receipt", rich_help_panel=OWNER)
app.command(rich_help_panel=SERVER)(train)
app.command(rich_help_panel=SERVER)(classify)
app.command(rich_help_panel=SERVER)(switch)
app.command(rich_help_panel=SERVER)(serve)
app.add_typer(token_app, name="token", rich_help_panel=SERVER)
app.add_typer(tenant_app, name="tenant", rich_help_panel=SERVER)
app.add_typer(audit_app, name="audit", rich_help_panel=SERVER)
for of_publications in (publish, submit, submissions, release, scoreboard):
    app.command(rich_help_panel=TRAINERS)(of_publications)
app.command(rich_help_panel=EVERYBODY)(recompute)
app.command(rich_help_panel=EVERYBODY)(inspect)
app.command(rich_help_panel=EVERYBODY)(doctor)


def run_command(arguments: list[str]) -> int:
    """Run one command; returns its exit status. Raises what Typer raises for arguments it does not understand."""
    status = get_command(app).main(arguments, prog_name="cipherlens", standalone_mode=False)
    return status if isinstance(status, int) else 0
