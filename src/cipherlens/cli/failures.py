"""From an exception to one sentence and an exit status. A traceback is for defects, and only when asked for."""

from __future__ import annotations

import errno
import json
import os
import signal
import sys
import traceback
from contextlib import suppress
from dataclasses import dataclass
from types import FrameType

from cipherlens.errors import CipherlensError

TRACEBACK_VARIABLE = "CIPHERLENS_TRACEBACK"

FAILED, MISUSED, INTERRUPTED = 1, 2, 130
SIGNALLED = 128
"""Plus the number of the signal that ended a command."""

EXTRAS = {
    "typer": "cli",
    "rich": "cli",
    "PIL": "images",
    "onnxruntime": "lite0",
    "sklearn": "sklearn",
    "matplotlib": "report",
    **dict.fromkeys(("fastapi", "prometheus_client", "pydantic", "sqlalchemy", "structlog", "uvicorn"), "service"),
    "httpx": "client",
}
"""Which extra of the package brings an optional module."""


@dataclass(frozen=True)
class Failure:
    """What is said of an exception.

    Attributes:
        kind: the exception's class, for programs.
        sentence: one line for people.
        status: exit status.
    """

    kind: str
    sentence: str
    status: int = FAILED


class Terminated(BaseException):
    """A signal asked the process to end: what is half-written is removed on the way out."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def end_cleanly_on_signals() -> None:
    """From now on SIGTERM and SIGHUP raise `Terminated` in the main thread, as Ctrl-C raises KeyboardInterrupt."""

    def end(number: int, _: FrameType | None) -> None:
        raise Terminated(number)

    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is signal.SIG_DFL:  # nohup ignores SIGHUP, and means it
            signal.signal(number, end)


def describe(error: BaseException) -> Failure:
    """The sentence and exit status of any exception."""
    kind = type(error).__name__
    if isinstance(error, CipherlensError):
        return Failure(kind, str(error))
    if isinstance(error, KeyboardInterrupt):
        return Failure("Interrupted", "interrupted; nothing half-written was left", INTERRUPTED)
    if isinstance(error, Terminated):
        name = signal.Signals(error.number).name
        return Failure("Terminated", f"ended by {name}; nothing half-written was left", SIGNALLED + error.number)
    if isinstance(error, MemoryError):
        return Failure(
            "OutOfMemory",
            "the memory of this machine did not suffice; close other programs, use fewer threads, or plan a smaller "
            "task (`cipherlens plan` says how much memory a task takes)",
        )
    if isinstance(error, ModuleNotFoundError) and (name := (error.name or "").split(".")[0]) in EXTRAS:
        return Failure(
            "MissingExtra",
            f"this command needs the Python package {name}, which is not installed; "
            f"run: pip install 'cipherlens[{EXTRAS[name]}]'",
        )
    if isinstance(error, OSError):
        return Failure("OSError", _system_error(error))
    words = getattr(error, "format_message", None)
    if callable(words):  # what Typer raises for arguments that it does not understand
        return Failure("UsageError", f"{words().rstrip('.')}; `cipherlens --help` lists what there is", MISUSED)
    return Failure(
        "Defect",
        f"an unexpected {kind} stopped this command, which is a defect in Cipherlens; run it again with "
        f"{TRACEBACK_VARIABLE}=1 and report what it prints",
    )


def _system_error(error: OSError) -> str:
    reason = error.strerror or type(error).__name__
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return f"the disk is full ({reason}); make room or write elsewhere"
    named = f"{os.fsdecode(error.filename)}: " if isinstance(error.filename, str | bytes) else ""
    return f"{named}{reason}; check the path and its permissions"


def visible(text: str) -> str:
    """Text from elsewhere on one line, fit for a terminal.

    A file's name may hold escape sequences, bytes that are no Unicode, or a line break and then what looks like ours.
    """
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def report(error: BaseException, as_json: bool) -> int:
    """Say what happened, on stderr in one line and with `as_json` on stdout as an object; returns the exit status."""
    if os.environ.get(TRACEBACK_VARIABLE):
        traceback.print_exception(error)
    if isinstance(error, BrokenPipeError):
        _close_stdout()  # whoever read our output has enough of it
        return FAILED
    failure = describe(error)
    sentence = visible(" ".join(failure.sentence.split()))
    sys.stderr.write(f"cipherlens: {sentence}\n")
    try:
        if as_json:
            sys.stdout.write(json.dumps({"error": {"kind": failure.kind, "message": sentence}}) + "\n")
        sys.stdout.flush()
    except OSError:  # nothing can be written there, which is perhaps what was to be said
        _close_stdout()
    return failure.status


def _close_stdout() -> None:
    """Throw away what stdout still holds, or Python would complain once more at its end."""
    with suppress(OSError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
