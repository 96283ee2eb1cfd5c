"""The one module that touches httpx: requests with bounded answers, retries, and errors in one sentence.

Retries wait between half and all of a time that doubles (exponential back-off with jitter: M. Brooker, "Exponential
Backoff And Jitter", AWS Architecture Blog, 2015). Only calls that the caller names idempotent are retried.
"""

from __future__ import annotations

import ipaddress
import json
import random
import ssl
import threading
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import SplitResult, urlsplit

from cipherlens import __version__
from cipherlens.errors import InputError, ServerError

try:
    import httpx
except ModuleNotFoundError:
    raise InputError(
        "speaking with a server needs the Python package httpx, which is not installed; "
        "run: pip install 'cipherlens[client]'"
    ) from None

LARGEST_ANSWER = 16 << 20
"""Bytes of JSON that a server may answer; whatever is longer is no answer of Cipherlens."""

LARGEST_EVENT = 1 << 20
LONGEST_REFUSAL = 1 << 16

TRANSIENT = frozenset({408, 425, 429, 500, 502, 503, 504})
"""Statuses after which the same idempotent call may succeed."""

QUIET_SECONDS = 45.0
"""A stream of events that says nothing for so long is opened again."""


@dataclass(frozen=True)
class Patience:
    """How often an idempotent call is tried, and how long it waits in between.

    Attributes:
        tries: in all, once the server has answered anything.
        first_tries: before it ever has, when the address may simply be wrong.
        first, longest: seconds before the second try, and at most before any.
        asked: seconds to wait in all where the server says how long; only beyond that such answers count as tries.
    """

    tries: int = 8
    first_tries: int = 3
    first: float = 0.25
    longest: float = 10.0
    asked: float = 3600.0

    def pause(self, attempt: int, asked: float | None) -> float:
        """Seconds to wait after a failed attempt, counted from 1; `asked` is what the server wants."""
        if asked is not None:
            return min(max(asked, self.first), 6 * self.longest)
        return min(self.longest, self.first * 2.0 ** (attempt - 1)) * random.uniform(0.5, 1.0)


@dataclass(frozen=True)
class Answer:
    """What a server answered: status, headers by lower-case name, and the body, within its bound."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Http:
    """A server's address and a token. Threads may call it side by side."""

    def __init__(
        self,
        url: str,
        token: str,
        *,
        insecure_http: bool = False,
        patience: Patience | None = None,
        sleep: Callable[[float], object] | None = None,
    ) -> None:
        """Nothing is sent yet.

        Args:
            url: https://host[:port][/path]; http:// for loopback addresses alone.
            token: as `cipherlens token create` printed it.
            insecure_http: send the token over http:// to any address.
            patience: of idempotent calls.
            sleep: waits; None for a wait that `close` ends.

        Raises:
            InputError: no such address or token, or http:// to another machine.
        """
        parts = _checked_url(url, insecure_http)
        self._where = parts.netloc
        self._closed = threading.Event()
        self._patience, self._sleep = patience or Patience(), sleep or self._closed.wait
        self._reached = False
        self._client = httpx.Client(
            base_url=url.rstrip("/"),
            headers={
                "Authorization": f"Bearer {_checked_token(token)}",
                "User-Agent": f"cipherlens/{__version__}",
                # An answer that unpacks itself would have no bound.
                "Accept-Encoding": "identity",
            },
            timeout=httpx.Timeout(60.0, connect=10.0),
            limits=httpx.Limits(max_connections=8),
            # Plain http never becomes TLS here, and reading all trusted certificates takes a while.
            verify=ssl.create_default_context() if parts.scheme == "https" else False,
            trust_env=not _is_loopback(parts.hostname or ""),  # a proxy's loopback is not ours
            follow_redirects=False,  # the token goes to nobody else
        )

    def __repr__(self) -> str:
        return f"Http({self._where})"

    def __reduce__(self) -> tuple[object, ...]:
        raise TypeError("a connection holds a token and is never pickled; connect again instead")

    def close(self) -> None:
        """Close all connections; calls that are under way in other threads fail."""
        self._closed.set()
        self._client.close()

    def json(
        self,
        method: str,
        path: str,
        body: Mapping[str, object] | None = None,
        *,
        idempotent: bool,
        key: str | None = None,
        expected: Collection[int] = (),
    ) -> dict[str, Any] | None:
        """Call with JSON, and give the JSON object that comes back, {} for an empty answer; None for an `expected` refusal.

        Args:
            method, path: of the call.
            body: what to send.
            idempotent: whether sending it twice does no more than sending it once, so that it may be retried.
            key: the Idempotency-Key that makes it so.
            expected: statuses from 400 on that are no failure.

        Raises:
            ServerError: no answer, a refusal, or an answer that is none of Cipherlens.
        """
        headers = {} if key is None else {"Idempotency-Key": key}
        if body is not None:
            headers["Content-Type"] = "application/json"
        content = None if body is None else json.dumps(body, separators=(",", ":")).encode()
        answer = self.call(method, path, content, headers, idempotent=idempotent, expected=expected)
        if answer.status >= 400:
            return None
        return self._object(answer.body) if answer.body else {}

    def call(
        self,
        method: str,
        path: str,
        content: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        *,
        idempotent: bool,
        expected: Collection[int] = (),
        most: int = LARGEST_ANSWER,
    ) -> Answer:
        """Call with bytes; an answer of more than `most` bytes is refused. Other arguments and errors as for `json`."""
        attempt, waited = 0, 0.0
        while True:
            attempt += 1
            asked = None
            try:
                answer = self._once(method, path, content, headers or {}, most)
            except httpx.TransportError as error:
                failure, again = self._unreachable(error)
            else:
                self._reached = True
                if answer.status < 300 or answer.status in expected:
                    return answer
                failure, again = self._refusal(answer), answer.status in TRANSIENT
                asked = _seconds(answer.headers.get("retry-after"))
            tries = self._patience.tries if self._reached else self._patience.first_tries
            if not (again and idempotent) or attempt >= tries:
                raise failure from None
            pause = self._patience.pause(attempt, asked)
            if asked is not None and waited < self._patience.asked:
                attempt -= 1  # it is at work on something that takes its time, such as putting a large file together
                waited += pause
            self._sleep(pause)
            if self._closed.is_set():
                raise failure from None

    def events(self, path: str) -> Iterator[dict[str, Any]]:
        """Objects of a stream of server-sent events, until it ends or breaks; what was missed is the caller's to ask.

        Raises:
            ServerError: an event that is none of Cipherlens.
        """
        timeout = httpx.Timeout(60.0, connect=10.0, read=QUIET_SECONDS)
        try:
            with self._client.stream("GET", path, headers={"Accept": "text/event-stream"}, timeout=timeout) as response:
                if response.status_code != 200:
                    return
                for data in self._event_data(response.iter_raw()):
                    yield self._object(data)
        except httpx.TransportError:
            return

    def pause(self, seconds: float) -> None:
        """Wait."""
        self._sleep(seconds)

    def _event_data(self, chunks: Iterator[bytes]) -> Iterator[bytes]:
        """The data of each event (WHATWG HTML, section 9.2); comments and other fields are skipped."""
        rest, data = b"", b""
        for chunk in chunks:
            *lines, rest = (rest + chunk).replace(b"\r\n", b"\n").split(b"\n")
            for line in lines:
                if line.startswith(b"data:"):
                    data += line[5:]
                elif not line and data:
                    yield data
                    data = b""
            if len(rest) + len(data) > LARGEST_EVENT:
                raise ServerError(
                    f"the server at {self._where} sent an endless event; check that it is a Cipherlens one"
                )

    def _once(self, method: str, path: str, content: bytes | None, headers: Mapping[str, str], most: int) -> Answer:
        with self._client.stream(method, path, content=content, headers=dict(headers)) as response:
            # A refusal has a sentence, however few bytes were asked for.
            most = most if response.status_code < 300 else max(most, LONGEST_REFUSAL)
            body = bytearray()
            for chunk in response.iter_raw():
                body += chunk
                if len(body) > most:
                    raise ServerError(
                        f"the server at {self._where} answered more than the {most} bytes that were asked for; "
                        "check that it is a Cipherlens server"
                    )
            return Answer(response.status_code, {k.lower(): v for k, v in response.headers.items()}, bytes(body))

    def _object(self, text: bytes) -> dict[str, Any]:
        try:
            values = json.loads(text)
        except (ValueError, RecursionError):
            values = None
        if not isinstance(values, dict):
            raise ServerError(f"what {self._where} answered is no JSON object; check that it is a Cipherlens server")
        return values

    def _unreachable(self, error: httpx.TransportError) -> tuple[ServerError, bool]:
        """The failure, and whether waiting may help."""
        cause: BaseException | None = error
        while cause is not None:
            if isinstance(cause, ssl.SSLError):
                return self._no_tls(cause), False
            cause = cause.__cause__ or cause.__context__
        if isinstance(error, httpx.TimeoutException):
            words = "did not answer in time"
        elif isinstance(error, httpx.ConnectError):
            words = f"could not be reached ({_short(str(error)) or 'no connection'})"
        else:
            words = f"broke the connection off ({_short(str(error)) or type(error).__name__})"
        return ServerError(
            f"the server at {self._where} {words}; check the address and the network, then run the same again: "
            "it goes on where it stopped"
        ), True

    def _no_tls(self, error: ssl.SSLError) -> ServerError:
        if isinstance(error, ssl.SSLCertVerificationError):
            return ServerError(
                f"the certificate of {self._where} is not trusted ({_short(error.verify_message)}), so nothing was sent; "
                "if it is your provider's own, name it in SSL_CERT_FILE"
            )
        return ServerError(
            f"no TLS connection to {self._where} ({_short(error.reason or str(error))}), so nothing was sent; check "
            "that the address and port are those of an https server"
        )

    def _refusal(self, answer: Answer) -> ServerError:
        said = _message(answer.body)
        if answer.status == 401:
            return ServerError(
                f"the server at {self._where} does not accept this token (401); it may be mistyped or revoked: ask the "
                "provider for a new one"
            )
        if answer.status < 400:
            return ServerError(
                f"the server at {self._where} sends us elsewhere ({answer.status}), and the token goes to nobody else; "
                "ask the provider for the right address"
            )
        words = {
            404: "has no such thing, or not for this token",
            409: "refuses what contradicts an earlier request",
            413: "refuses what is too large or above the quota",
            429: "has enough to do for this token",
        }.get(answer.status, "refused" if answer.status < 500 else "failed")
        return ServerError(f"the server at {self._where} {words} ({answer.status}){f': {said}' if said else ''}")


def _checked_url(url: str, insecure_http: bool) -> SplitResult:
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        raise InputError(f"{url!r} is no address; give one like https://host:8443") from None
    if parts.scheme not in ("http", "https") or not host or parts.query or parts.fragment:
        raise InputError(f"{url!r} is no address of a server; give one like https://host:8443")
    if parts.username is not None or parts.password is not None:
        raise InputError("a server's address holds no user or password; give the token with a file or a variable")
    if parts.scheme == "http" and not (insecure_http or _is_loopback(host)):
        raise InputError(
            f"http://{parts.netloc} would send the token unencrypted; use https://, or say that the network is your own "
            "with --insecure-http (insecure_http=True)"
        )
    return parts


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _checked_token(token: str) -> str:
    """The token. Its own text never goes into a message."""
    if not token or not token.isascii() or not token.isprintable() or " " in token:
        raise InputError("the token is empty or holds characters that no token has; give it as the provider showed it")
    return token


def _seconds(text: str | None) -> float | None:
    return float(text) if text is not None and text.isascii() and text.isdecimal() and len(text) < 6 else None


def _message(body: bytes) -> str:
    """The sentence of a refusal, from outside: one line, not too long."""
    try:
        error = json.loads(body)["error"]
        message = error["message"]
    except (ValueError, RecursionError, KeyError, TypeError, IndexError):
        return ""
    return _short(message) if isinstance(message, str) else ""


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= 400 else f"{line[:399]}…"
