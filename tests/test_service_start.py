"""The start of a service: TLS that could not be spoken, and what is said when."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest
from service_world import serving
from test_client_tls import self_signed

from cipherlens.cli.main import main
from cipherlens.service.settings import Settings

FAILING = """
import sys
from cipherlens.errors import ServerError
from cipherlens.service import supervisor
from cipherlens.service.process import read_settings
settings, supervisor.START_SECONDS, sys.executable = read_settings(), 2.0, sys.argv[1]
try:
    supervisor.Supervisor(settings).run(lambda url: print("listening", flush=True))
except ServerError as error:
    print(error)
"""


def pair(folder: Path) -> tuple[Path, Path]:
    """A certificate and its key, in a file each."""
    folder.mkdir()
    key, mark, certificate = self_signed(folder).read_text().partition("-----BEGIN CERTIFICATE-----")
    (folder / "c.pem").write_text(mark + certificate)
    (folder / "k.pem").write_text(key)
    return folder / "c.pem", folder / "k.pem"


def encrypted(key: Path) -> Path:
    """The same key under a passphrase."""
    from cryptography.hazmat.primitives import serialization as s

    opened = s.load_pem_private_key(key.read_bytes(), None)
    sealed = s.BestAvailableEncryption(b"under the doormat")
    key.with_name("sealed.pem").write_bytes(
        opened.private_bytes(s.Encoding.PEM, s.PrivateFormat.PKCS8, sealed)  # type: ignore[union-attr]
    )
    return key.with_name("sealed.pem")


def test_a_pair_that_cannot_be_used(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cert, key = pair(tmp_path / "one")
    _, other = pair(tmp_path / "other")
    (tmp_path / "text.pem").write_text("no PEM")
    for given, words in (
        ((key, cert), "are no certificate chain and its key in PEM; give the first as --tls-cert"),
        ((tmp_path / "text.pem", key), "are no certificate chain and its key in PEM"),
        ((cert, tmp_path / "text.pem"), "are no certificate chain and its key in PEM"),
        ((cert, other), "is not that of the certificate"),
        ((cert, encrypted(key)), "is encrypted, and nobody is there to type its passphrase"),
    ):
        files = ("--tls-cert", str(given[0]), "--tls-key", str(given[1]))
        assert main(("serve", "--data", str(tmp_path / "data"), "--port", "0", *files)) == 1
        said = capsys.readouterr()
        assert words in said.err
        assert (said.out, said.err.count("\n")) == ("", 1)
    Settings(data=tmp_path, tls_cert=cert, tls_key=key).check_listening()
    assert not (tmp_path / "data").exists()


def test_a_good_pair(tmp_path: Path) -> None:
    cert, key = pair(tmp_path / "one")
    with serving(tmp_path / "data", tls_cert=cert, tls_key=key) as service:
        assert service.url.startswith("https://")
        assert httpx.get(f"{service.url}/healthz", verify=False, trust_env=False, timeout=5).is_success


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("exit 1", "the service's web process ends as soon as it is started; the log says why"),
        ("exec sleep 60", "the service's web process does not answer 2 seconds after its start"),
    ],
)
def test_nothing_is_said_to_listen_before_it_answers(tmp_path: Path, body: str, words: str) -> None:
    python = tmp_path / "python"
    python.write_text(f"#!/bin/sh\n{body}\n")
    python.chmod(0o700)
    settings, begun = Settings(data=tmp_path / "data", port=0), time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", FAILING, python], input=settings.model_dump_json(), capture_output=True, text=True,
        timeout=60, check=False,
    )  # fmt: skip
    assert done.stdout.startswith(words), done.stderr
    assert time.monotonic() - begun < 30
