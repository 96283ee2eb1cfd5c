"""The owner's side of the wire: files up, jobs, results down. It holds no secret key and imports nothing that decrypts.

What is sent depends on files and clear settings alone, never on a decryption: decrypting is for afterwards and elsewhere
(`cipherlens.owner`), and nothing here is told how it went. The one exception is `release`: whole percents, once for each
submission, and only with the proof that its reply was recomputed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cipherlens.errors import InputError

if TYPE_CHECKING:
    from cipherlens.client.publishing import PublishingConnection

__all__ = ["connect"]


def connect(url: str, token: str, *, insecure_http: bool = False) -> PublishingConnection:
    """A connection to a server that `cipherlens serve` runs. Nothing is sent before it is used.

    Args:
        url: https://host[:port]; http:// for loopback addresses alone.
        token: what the provider gave you; kept in memory only, and never shown.
        insecure_http: send the token over http:// to any address, in a network that is all your own.

    Raises:
        InputError: no such address or token, http:// to another machine, or httpx is not installed.
    """
    try:
        from cipherlens.client.http import Http
        from cipherlens.client.publishing import PublishingConnection
    except ModuleNotFoundError as error:
        if error.name != "httpx":
            raise
        raise InputError(
            "speaking with a server needs the Python package httpx, which is not installed; "
            "run: pip install 'cipherlens[client]'"
        ) from None
    return PublishingConnection(Http(url, token, insecure_http=insecure_http))
