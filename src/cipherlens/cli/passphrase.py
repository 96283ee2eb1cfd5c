"""The passphrase of a secret key: from a file, or asked for on a terminal. Never an argument or a variable."""

from __future__ import annotations

import getpass
import sys
from pathlib import Path

from cipherlens.errors import InputError, KeyMismatch

LONGEST = 4096
FILE_OPTION = "--passphrase-file"


def passphrase_from_file(path: Path) -> bytes:
    """The first line, without its end. Raises InputError for a file that is missing, and KeyMismatch for an empty line."""
    try:
        with path.open("rb") as file:
            line = file.readline(LONGEST + 2).rstrip(b"\r\n")
    except OSError as error:
        raise InputError(f"the passphrase file {path} cannot be read ({error.strerror}); check the path") from None
    if len(line) > LONGEST:
        raise InputError(f"the first line of {path} is longer than {LONGEST} bytes, so it is no passphrase; check it")
    if not line:
        raise KeyMismatch(f"the first line of {path} is empty; write a passphrase into it, or use --no-passphrase")
    return line


def new_passphrase(path: Path | None, none: bool, *, option: str = FILE_OPTION) -> bytes | None:
    """The passphrase for a new key: from a file (which `option` named), None if none is wanted, else asked for twice.

    Raises:
        InputError: both or, without a terminal, neither are given.
        KeyMismatch: an empty passphrase, or two that differ.
    """
    if path is not None and none:
        raise InputError(f"{option} and --no-passphrase exclude each other; give one of them")
    if none:
        return None
    if path is not None:
        return passphrase_from_file(path)
    _need_terminal("choose a passphrase", f"{option} or --no-passphrase")
    first = _typed("New passphrase for the secret key: ", option)
    if not first:
        raise KeyMismatch("the passphrase is empty; choose one, or use --no-passphrase")
    if _typed("The same again: ", option) != first:
        raise KeyMismatch("the two passphrases differ; try again")
    return first


def passphrase_of(secret: Path, path: Path | None) -> bytes | None:
    """The passphrase of an existing secret key file, None when it has none.

    Raises:
        InputError: no file or no terminal to take it from.
        FormatError: `secret` is no secret key file.
        KeyMismatch: an empty passphrase.
    """
    from cipherlens.wire.container import Kind, Reader, header_bool

    with Reader.open(secret, Kind.SECRET_KEY) as reader:
        wrapped = header_bool(reader.header, "wrapped")
    if not wrapped:
        return None
    if path is not None:
        return passphrase_from_file(path)
    _need_terminal(f"ask for the passphrase of {secret}", FILE_OPTION)
    return _typed(f"Passphrase of {secret}: ", FILE_OPTION)


def _typed(prompt: str, option: str) -> bytes:
    """What somebody types, unseen. Raises InputError when the input ends first, or is not in the terminal's encoding."""
    try:
        return getpass.getpass(prompt).encode()
    except EOFError:
        raise InputError(f"no passphrase was typed; run the command again, or give {option}") from None
    except UnicodeError:
        raise InputError(
            f"the passphrase is not in this terminal's encoding; put it into a file and give {option}"
        ) from None


def _need_terminal(what: str, options: str) -> None:
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise InputError(f"there is no terminal to {what}; give {options}")
