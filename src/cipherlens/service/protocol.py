"""HTTP on a connection, with bounds on the time that the head of a request may take, and that an answer may lie unread."""

from __future__ import annotations

import asyncio
from array import array
from contextlib import suppress
from fcntl import ioctl
from termios import TIOCOUTQ
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

from cipherlens.service.settings import SLOWEST


class PunctualProtocol(H11Protocol):
    """uvicorn's protocol bounds the time between requests, and this class that of a head which comes drop by drop, and
    of a client that does not read what it asked for: each would hold one of the connections that there are for all.

    Bodies are bounded by `cipherlens.service.guard`.
    """

    stall_seconds = 30.0

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._head: asyncio.TimerHandle | None = None
        self._unread: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """The first head is due from now on."""
        super().connection_made(transport)
        # Writing is paused as soon as the system takes no more, so that the time below runs for every byte that waits,
        # also for those of a connection that uvicorn has closed. (Not at 0 bytes: over TLS that would pause for ever.)
        transport.set_write_buffer_limits(high=1, low=0)
        self._expect_head()

    def data_received(self, data: bytes) -> None:
        """A head is due since its first byte, until it is whole."""
        super().data_received(data)
        if self.cycle is not None and not self.cycle.response_complete:
            self._forget_head()
        elif self._head is None:
            self._expect_head()

    def on_response_complete(self) -> None:
        """Between requests uvicorn's own time runs."""
        self._forget_head()
        super().on_response_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        """Nothing is due any more."""
        self._forget_head()
        self._forget_unread()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        """The client does not keep up; from now on it has to take some bytes in every stall's time."""
        super().pause_writing()
        self._expect_reading()

    def resume_writing(self) -> None:
        """Everything was taken."""
        self._forget_unread()
        super().resume_writing()

    def _expect_reading(self) -> None:
        def look() -> None:
            if before - self._waiting() < SLOWEST * self.stall_seconds:
                self.transport.abort()  # `close` would wait until everything was taken
            else:
                self._expect_reading()

        before = self._waiting()
        self._unread = self.loop.call_later(self.stall_seconds, look)

    def _waiting(self) -> int:
        """Bytes that the client has not taken, here and in the system's buffer, which lets more in only now and then."""
        system = array("i", [0])
        with suppress(OSError):
            ioctl(self.transport.get_extra_info("socket").fileno(), TIOCOUTQ, system)
        return self.transport.get_write_buffer_size() + system[0]

    def _forget_unread(self) -> None:
        if self._unread is not None:
            self._unread.cancel()
            self._unread = None

    def _expect_head(self) -> None:
        self._head = self.loop.call_later(self.stall_seconds, self.transport.abort)

    def _forget_head(self) -> None:
        if self._head is not None:
            self._head.cancel()
            self._head = None


def http_protocol(stall_seconds: float) -> type[asyncio.Protocol]:
    """The protocol's class with this bound, for `uvicorn.Config(http=...)`."""
    return type("BoundProtocol", (PunctualProtocol,), {"stall_seconds": stall_seconds})
