"""Options that several commands share, and checks of the paths they are given."""

from __future__ import annotations

import functools
import os
import re
import tempfile
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ParamSpec

import typer

from cipherlens.cli.failures import report
from cipherlens.errors import CipherlensError, InputError

if TYPE_CHECKING:
    from cipherlens.wire.container import Kind

MOST_THREADS = 1024

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else on stdout.")]
Threads = Annotated[
    int | None,
    typer.Option(
        "--threads", min=1, max=MOST_THREADS, show_default=False, help="Threads; by default all usable cores."
    ),
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
ClusterName = Annotated[
    str | None,
    typer.Option(
        "--cluster",
        metavar="ray[://HOST:PORT]",
        show_default=False,
        help="Share the work among the machines of a Ray cluster; without an address, start Ray on this one.",
    ),
]
SkipBroken = Annotated[bool, typer.Option("--skip-broken", help="Name images that cannot be read, and go on.")]

_SIZE = re.compile(r"([0-9]{1,15}(?:\.[0-9]{1,15})?) ?([kmgt]?b?)", re.ASCII | re.IGNORECASE)
_UNITS = {name + byte: 1000**power for power, name in enumerate(("", "k", "m", "g", "t")) for byte in ("", "b")}

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
        except KeyboardInterrupt as error:
            raise SystemExit(report(error, bool(kwargs.get("as_json")))) from None
        except BaseException as error:
            return report(error, bool(kwargs.get("as_json")))

    return guarded


def bytes_of(text: str, option: str) -> int:
    """Bytes that a size such as 500GB or 1.5TB names, in powers of a thousand. Raises InputError for what is none."""
    match = _SIZE.fullmatch(text.strip())
    count = int(float(match[1]) * _UNITS[match[2].lower()]) if match else 0
    if not match or count >= 1 << 63:
        raise InputError(f"{option} is a size such as 500GB or 2TB, not {text!r}")
    return count


def check_output(
    path: Path, inputs: Iterable[Path | None] = (), kind: Kind | None = None, suffixes: Sequence[str] = ()
) -> None:
    """Make sure, before anything is computed, that a file can be written and that nothing is lost by it.

    Args:
        path: what is to be written.
        inputs: files, and folders of files, that it must not replace.
        kind: of the Cipherlens file that is written: only one of the same kind may be replaced, or an empty file.
        suffixes: of other files that may be replaced, as ".csv".

    Raises:
        InputError: it cannot be written, or would replace an input or a file of another kind.
    """
    target = Path(os.path.realpath(path))
    for source in inputs:
        held = None if source is None else Path(os.path.realpath(source))
        if held is not None and (held == target or (target.exists() and held in target.parents)):
            raise InputError(f"{path} is also an input, which would be lost; name another file to write to")
    if target.is_dir():
        raise InputError(f"{path} is a folder; name a file to write to")
    if target.exists() and not target.is_file():
        raise InputError(f"{path} is a device or a pipe; name a file to write to")
    if target.exists() and target.stat().st_size > 0:
        found = _kind_of(target)
        if found is not None and found is not kind:
            raise InputError(f"{path} holds {found.words}, which would be lost; name another file to write to")
        if found is None and target.suffix.lower() not in suffixes:
            raise InputError(f"{path} holds something else, which would be lost; name another file, or remove it first")
    try:
        with tempfile.TemporaryFile(dir=target.parent):
            pass
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise InputError(f"{path} cannot be written ({reason}); choose a folder that exists and is writable") from None


def _kind_of(path: Path) -> Kind | None:
    """What a file holds by its header, None when it is no Cipherlens file."""
    from cipherlens.wire.container import Reader

    try:
        with Reader.open(path, None, verify=False) as reader:
            return reader.kind
    except (CipherlensError, OSError):
        return None


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
