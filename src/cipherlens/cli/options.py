"""Options that several commands share, and checks of the paths they are given."""

from __future__ import annotations

import functools
import os
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Annotated, ParamSpec

import typer

from cipherlens.cli.failures import report
from cipherlens.errors import InputError

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else on stdout.")]
Threads = Annotated[
    int | None, typer.Option("--threads", min=1, show_default=False, help="Threads; by default all usable cores.")
]
TaskFile = Annotated[Path, typer.Option("--task", help="The private task file that `plan` wrote.")]
KeyFolder = Annotated[Path, typer.Option("--keys", help="The folder that `keys create` wrote.")]
PassphraseFile = Annotated[
    Path | None,
    typer.Option("--passphrase-file", show_default=False, help="A file whose first line is the passphrase."),
]
EvaluationKeysFile = Annotated[
    Path, typer.Option("--evaluation-keys", help="KEYS/evaluation.cl, which the owner gave to the server.")
]
SkipBroken = Annotated[bool, typer.Option("--skip-broken", help="Name images that cannot be read, and go on.")]

P = ParamSpec("P")


def command(function: Callable[P, int | None]) -> Callable[P, int]:
    """A command that answers every exception with one sentence, and returns its exit status.

    Exceptions are met here and not further up, where Typer's versions treat them in different ways.
    """

    @functools.wraps(function)
    def guarded(*args: P.args, **kwargs: P.kwargs) -> int:
        try:
            return function(*args, **kwargs) or 0
        except (SystemExit, typer.Exit):
            raise
        except BaseException as error:
            return report(error, bool(kwargs.get("as_json")))

    return guarded


def check_output(path: Path, inputs: Iterable[Path] = ()) -> None:
    """Make sure, before anything is computed, that a file can be written and is none of the inputs.

    Raises:
        InputError: it cannot, or would replace an input.
    """
    target = Path(os.path.realpath(path))
    if any(Path(os.path.realpath(source)) == target for source in inputs):
        raise InputError(f"{path} is also an input, which would be lost; name another file to write to")
    if target.is_dir():
        raise InputError(f"{path} is a folder; name a file to write to")
    try:
        with tempfile.TemporaryFile(dir=target.parent):
            pass
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise InputError(f"{path} cannot be written ({reason}); choose a folder that exists and is writable") from None


def different_files(paths: Iterable[Path]) -> list[Path]:
    """The paths. Raises InputError when one file is named twice: its images would count twice."""
    listed = list(paths)
    seen: set[str] = set()
    for path in listed:
        real = os.path.realpath(path)
        if real in seen:
            raise InputError(f"{path} is given twice, so its images would count twice; give each file once")
        seen.add(real)
    return listed
