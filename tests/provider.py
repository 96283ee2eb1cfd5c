"""A running `cipherlens serve`, that tests of the owner's side speak with."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from cli_workflow import environment

import cipherlens as cl
from cipherlens.client.connection import Connection


@dataclass(frozen=True)
class Provider:
    """A running `cipherlens serve`: its address, its folder, and a file with an owner's token."""

    url: str
    data: Path
    token_file: Path

    @property
    def options(self) -> list[str]:
        return ["--server", self.url, "--token-file", str(self.token_file)]

    def connect(self) -> Connection:
        return cl.connect(self.url, self.token_file.read_text().strip())

    def token(self, *options: str) -> str:
        """A new token, as the provider's command makes it."""
        made = ["cipherlens", "token", "create", "--data", str(self.data), *options]
        surroundings = environment(self.data.parent / "cache")
        return subprocess.run(made, env=surroundings, capture_output=True, text=True, check=True).stdout


@contextmanager
def provided(folder: Path) -> Iterator[Provider]:
    """Serve on loopback from a folder, with one owner."""
    for module in ("fastapi", "uvicorn", "sqlalchemy"):
        pytest.importorskip(module, reason="pip install 'cipherlens[service]' brings the server")
    serve = ["cipherlens", "serve", "--data", str(folder / "data"), "--port", "0", "--json"]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            serve, env=environment(folder / "cache"), stdout=subprocess.PIPE, stderr=log, text=True
        )
    assert process.stdout is not None
    try:
        said = process.stdout.readline()
        assert said, (folder / "log").read_text()
        provider = Provider(json.loads(said)["url"], folder / "data", folder / "token")
        provider.token_file.write_text(provider.token("--tenant", "owner"))
        yield provider
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)
        process.stdout.close()
