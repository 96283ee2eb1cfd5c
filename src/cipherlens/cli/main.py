"""The entry point: runs one command and turns whatever happens into an exit status."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from io import TextIOWrapper


def main(arguments: Sequence[str]) -> int:
    """Run `cipherlens` with these arguments; returns the exit status.

    0 success; 1 a refusal or failure, explained in one sentence on stderr; 2 arguments that make no command;
    130 interrupted, 143 and 129 ended by SIGTERM and SIGHUP. `recompute` and `doctor` use 1 for a result that differs
    and for kernels that fail.
    """
    from cipherlens.cli.failures import INTERRUPTED, end_cleanly_on_signals, report

    as_json = "--json" in arguments
    try:
        end_cleanly_on_signals()
        from cipherlens.cli.app import run_command

        status = run_command(list(arguments) or ["--help"])
        if status == INTERRUPTED:  # while arguments were read, of which Typer says nothing
            raise KeyboardInterrupt
        sys.stdout.flush()
        return status
    except SystemExit:
        raise
    except BaseException as error:
        return report(error, as_json)


def run() -> None:
    """Run `cipherlens` with the process's arguments, and exit."""
    _open_missing_streams()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):  # a terminal that cannot show a character is no reason to fail
            stream.reconfigure(errors="backslashreplace")
    sys.exit(main(sys.argv[1:]))


def _open_missing_streams() -> None:
    """Give whoever closed stdin, stdout or stderr a null device: there is none to read or write, which is no failure.

    In the order of their numbers, of which the system gives the lowest that is free: a file that is opened later cannot be
    mistaken for one of them.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            null = os.open(os.devnull, os.O_RDWR)
            setattr(sys, name, os.fdopen(null, mode, encoding="utf-8", closefd=False))


if __name__ == "__main__":
    run()
