"""The process that answers requests: `python -m cipherlens.service.web SOCKET PIPE`, started by the supervisor."""

from __future__ import annotations

import socket
import sys
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


def make_server(settings: Settings, database: Database) -> uvicorn.Server:
    """A server for the application; `run` it with its sockets."""
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
    server = uvicorn.Server(config)
    return server


def main(listening: str, pipe: str) -> None:
    """Answer requests on a socket that listens already, until SIGTERM."""
    settings = read_settings()
    configure("web")
    end_with_parent(int(pipe))
    database = Database(settings.data, settings.database)
    make_server(settings, database).run(sockets=[socket.socket(fileno=int(listening))])
    database.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
