"""The client over TLS: certificates that are trusted, and those that are not."""

from __future__ import annotations

import datetime
import http.server
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from fake_service import FakeService, connection_to, running

from cipherlens.errors import ServerError

pytest.importorskip("httpx", reason="pip install 'cipherlens[client]' brings httpx")


@pytest.fixture
def service(tmp_path: Path) -> Iterator[FakeService]:
    with running(tmp_path / "server") as service:
        yield service


def self_signed(folder: Path) -> Path:
    """A certificate for 127.0.0.1 and its key in one PEM file."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "provider")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(1))
        .not_valid_after(now + datetime.timedelta(1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = folder / "provider.pem"
    pem.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        + certificate.public_bytes(serialization.Encoding.PEM)
    )
    return pem


class _Empty(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        content = b'{"jobs": []}'
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:
        pass


@contextmanager
def tls_server(pem: Path) -> Iterator[str]:
    class Quiet(http.server.ThreadingHTTPServer):
        def handle_error(self, request: Any, client_address: Any) -> None:
            """Clients that do not trust the certificate break off."""

    server = Quiet(("127.0.0.1", 0), _Empty)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield f"https://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def test_tls(service: FakeService, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pem = self_signed(tmp_path)
    with tls_server(pem) as url:
        with connection_to(url) as connection, pytest.raises(ServerError, match=r"not trusted .* SSL_CERT_FILE"):
            connection.jobs()
        monkeypatch.setenv("SSL_CERT_FILE", str(pem))
        with connection_to(url) as connection:
            assert connection.jobs() == []
    with (
        connection_to(service.url.replace("http:", "https:")) as connection,
        pytest.raises(ServerError, match="no TLS connection"),
    ):
        connection.jobs()
