"""What the operator decides when the service is started."""

from __future__ import annotations

import ssl
from ipaddress import ip_address
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_serializer

from cipherlens.errors import InputError

PIECE_BYTES = 4 << 20
"""Files travel in pieces of this size; the last one may be shorter."""

SLOWEST = 8192
"""Bytes a second, on average, that a client must send of a body and take of an answer, after a first stall's time."""

LOOPBACK_NAMES = ("localhost",)


class Settings(BaseModel):
    """One service.

    Attributes:
        data: the folder that holds everything, or what is not elsewhere.
        database: URL of a PostgreSQL database; None for SQLite in the folder. May hold a password.
        storage: URL of a bucket for whole files, s3://BUCKET/PREFIX; None for the folder.
        cache_bytes: what local copies of them may take together; those that are being read stay beyond that.
        host, port: where to listen; port 0 lets the system choose.
        workers: jobs that are computed side by side, each in a process of its own.
        threads: of each worker; None shares the usable cores among the workers.
        cluster: name of a cluster that computes shards of each job, as `cipherlens.server.open_cluster` takes it.
        tls_cert, tls_key: PEM files; both or neither.
        insecure_http: listen beyond loopback without TLS, behind a proxy that adds it for instance.
        quota_bytes: what a new tenant may store. quota_jobs: what it may have queued and running together.
        quota_memory: what one job may take, by forecast.
        lease_seconds: after so long without a sign of life a worker's job is given to another.
        checkpoint_seconds: work between two checkpoints of a training.
        stall_seconds: how long a client may send nothing in mid-request, take nothing of an answer, or leave a connection
            idle.
        grace_seconds: how long requests that are under way may go on once the service is to stop.
        retention_days: files older than that are deleted with everything derived; None keeps them. Tenants may have a
            limit of their own.
        sweep_seconds: between two looks at what has to go.
        upload_days: an upload that nobody touched for so long is forgotten.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    data: Path
    database: SecretStr | None = None
    storage: str | None = None
    cache_bytes: int = Field(default=20_000_000_000, ge=0)
    host: str = "127.0.0.1"
    port: int = Field(default=8750, ge=0, le=65535)
    workers: int = Field(default=1, ge=1, le=1024)
    threads: int | None = Field(default=None, ge=1)
    cluster: str | None = None
    tls_cert: Path | None = None
    tls_key: Path | None = None
    insecure_http: bool = False
    quota_bytes: int = Field(default=200_000_000_000, ge=0)
    quota_jobs: int = Field(default=64, ge=0)
    quota_memory: int = Field(default=16_000_000_000, ge=0)
    lease_seconds: float = Field(default=10.0, gt=0)
    checkpoint_seconds: float = Field(default=30.0, ge=0)
    stall_seconds: float = Field(default=30.0, gt=0)
    grace_seconds: float = Field(default=10.0, ge=0)
    upload_days: float = Field(default=7.0, gt=0)
    retention_days: float | None = Field(default=None, gt=0)
    sweep_seconds: float = Field(default=60.0, gt=0)

    @field_serializer("database", when_used="json")
    def _shown(self, secret: SecretStr | None) -> str | None:
        """In JSON the URLs stand as they are: it goes to the service's own processes, by a pipe."""
        return None if secret is None else secret.get_secret_value()

    def check_listening(self) -> None:
        """Refuse to send tokens over a network in the clear, and TLS that could not be spoken.

        Raises:
            InputError: half of a TLS pair, files that are no certificate and its key, or a host beyond loopback without TLS
                and without `insecure_http`.
        """
        if (self.tls_cert is None) != (self.tls_key is None):
            raise InputError("a certificate and its key belong together; give both --tls-cert and --tls-key")
        for path in (self.tls_cert, self.tls_key):
            if path is not None and not path.is_file():
                raise InputError(f"there is no file {path}; name a PEM file")
        if self.tls_cert is not None and self.tls_key is not None:
            _check_pair(self.tls_cert, self.tls_key)
        if self.tls_cert is None and not self.insecure_http and not is_loopback(self.host):
            raise InputError(
                f"listening on {self.host} without TLS would send tokens in the clear; give --tls-cert and --tls-key, "
                "or --insecure-http behind a proxy that adds TLS"
            )


def _check_pair(cert: Path, key: Path) -> None:
    """Raise InputError unless these can be loaded as a certificate chain and its key, with nobody to be asked."""

    def refuse() -> str:
        raise InputError(
            f"the key {key} is encrypted, and nobody is there to type its passphrase when the service starts; name a "
            "copy without one, as `openssl pkey` writes it"
        )

    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(cert, key, password=refuse)
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            raise InputError(
                f"the key {key} is not that of the certificate {cert}; name the two that belong together"
            ) from None
        raise InputError(
            f"{cert} and {key} are no certificate chain and its key in PEM; give the first as --tls-cert and the second "
            "as --tls-key"
        ) from None
    except OSError as error:
        raise InputError(f"{cert} or {key} cannot be read ({error.strerror}); check who may") from None


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach the address."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host in LOOPBACK_NAMES
