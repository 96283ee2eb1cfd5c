"""The process that answers requests: `python -m cipherlens.service.web SOCKET PIPE TOLD`, started by the supervisor."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Callable
from math import ceil

import uvicorn

from cipherlens.service.app import create_app
from cipherlens.service.database import Database
from cipherlens.service.logging import configure
from cipherlens.service.process import end_with_parent, read_settings
from cipherlens.service.protocol import http_protocol
from cipherlens.service.settings import Settings

LONGEST_HEADERS = 32 << 10
MOST_CONNECTIONS = 512


class _Server(uvicorn.Server):
    """Tells when it answers."""

    def __init__(self, config: uvicorn.Config, answering: Callable[[], None]) -> None:
        super().__init__(config)
        self._answering = answering

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets=sockets)
        self._answering()


def make_server(settings: Settings, database: Database, answering: Callable[[], None] = lambda: None) -> uvicorn.Server:
    """A server for the application; `run` it with its sockets. answering: called once it takes requests."""
    config = uvicorn.Config(
        create_app(settings, database, lambda: server.should_exit),
        http=http_protocol(settings.stall_seconds),
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        limit_concurrency=MOST_CONNECTIONS,
        h11_max_incomplete_event_size=LONGEST_HEADERS,
        timeout_keep_alive=ceil(settings.stall_seconds),
        timeout_graceful_shutdown=ceil(settings.grace_seconds),
        ssl_certfile=settings.tls_cert,
        ssl_keyfile=settings.tls_key,
    )
    server = _Server(config, answering)
    return server


def main(listening: str, pipe: str, told: str) -> None:
    """Answer requests on a socket that listens already, until SIGTERM. told: the pipe to write to once it does."""
    settings = read_settings()
    configure("web")
    end_with_parent(int(pipe))
    database = Database(settings.data, settings.database)
    make_server(settings, database, lambda: _tell(int(told))).run(sockets=[socket.socket(fileno=int(listening))])
    database.close()


def _tell(pipe: int) -> None:
    os.write(pipe, b"\n")
    os.close(pipe)


if __name__ == "__main__":
    main(*sys.argv[1:])
