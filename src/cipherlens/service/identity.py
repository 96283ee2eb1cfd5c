"""The service's Ed25519 key: made at the first start, for signing receipts. It decrypts nothing."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from cipherlens.errors import InputError
from cipherlens.service.pieces import Incoming
from cipherlens.service.schemas import IdentityInfo
from cipherlens.wire.receipt import Receipt, SignedReceipt, public_pem, service_id

NAME = "identity.pem"


class Identity:
    """Who this service is. Its `repr` shows nothing of the key."""

    def __init__(self, key: Ed25519PrivateKey) -> None:
        self._key = key

    @classmethod
    def open(cls, data: Path) -> Identity:
        """The key in this folder, made when there is none, with mode 0600.

        Raises:
            InputError: the file is there and holds something else.
        """
        path = data / NAME
        try:
            content = path.read_bytes()
        except FileNotFoundError:
            key = Ed25519PrivateKey.generate()
            with Incoming(path) as incoming:
                incoming.write(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
                incoming.keep()
            return cls(key)
        try:
            found = load_pem_private_key(content, None)
        except (ValueError, TypeError):
            found = None
        if not isinstance(found, Ed25519PrivateKey):
            raise InputError(f"{path} holds no Ed25519 key; put the one of the backup there")
        return cls(found)

    @cached_property
    def info(self) -> IdentityInfo:
        """The public half."""
        public = self._key.public_key()
        return IdentityInfo(service=service_id(public), public_key=public_pem(public))

    def sign(self, receipt: Receipt) -> SignedReceipt:
        """Sign a receipt of this service."""
        return SignedReceipt.sign(receipt, self._key)
