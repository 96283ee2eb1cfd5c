"""Receipts: what a service says it has deleted, signed with its Ed25519 key. Whoever has the public key checks them.

A receipt is JSON, `{"receipt": {...}, "signature": "..."}`. What is signed is the line `DOMAIN`, then the canonical JSON
of the inner object, so that no other text of the service can stand for a receipt.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_public_key

from cipherlens.errors import FormatError, SecurityError
from cipherlens.wire.fields import canonical_json, parse_json_object

DOMAIN = b"cipherlens deletion receipt 1\n"
FORMAT = 1
LARGEST_RECEIPT = 64 << 20
ID_DIGITS, DIGEST_DIGITS, SIGNATURE_DIGITS = 32, 64, 128
REASONS = ("request", "retention", "rotation")
KINDS = ("evaluation_keys", "switching_key", "images", "model", "reply", "upload", "data_set", "job")


@dataclass(frozen=True)
class Deleted:
    """One thing that is gone. Data sets and jobs are entries of a database, and have neither hash nor size.

    Attributes:
        kind: one of `KINDS`; an "upload" is a file that was not whole.
        size: bytes.
    """

    kind: str
    id: str
    sha256: str | None = None
    size: int | None = None


@dataclass(frozen=True)
class Receipt:
    """What was deleted, for whom and when. Times in seconds since 1970.

    Attributes:
        service: id of the key that signs.
        requested, erased: when it was decided, and when the last byte was gone.
    """

    id: str
    service: str
    tenant: str
    reason: str
    requested: int
    erased: int
    objects: tuple[Deleted, ...]

    @property
    def size(self) -> int:
        """Bytes of all files together."""
        return sum(thing.size or 0 for thing in self.objects)

    def to_dict(self) -> dict[str, Any]:
        """What is signed, as a JSON-able object."""
        values = asdict(self)
        return {"format": FORMAT, **values, "objects": [asdict(thing) for thing in self.objects]}

    @classmethod
    def from_dict(cls, values: object) -> Receipt:
        """The inverse, for untrusted JSON. Raises FormatError."""
        names = {"format", "id", "service", "tenant", "reason", "requested", "erased", "objects"}
        if not isinstance(values, dict) or set(values) != names or values["format"] != FORMAT:
            raise FormatError("this is no receipt of this version; check the file")
        times = values["requested"], values["erased"]
        listed = values["objects"]
        known = (
            all(_is_hex(values[name], ID_DIGITS) for name in ("id", "service", "tenant"))
            and all(type(time) is int and 0 <= time < 1 << 40 for time in times)
            and values["reason"] in REASONS
            and isinstance(listed, list)
        )
        if not known:
            raise FormatError("this receipt holds values that no service writes; check the file")
        objects = tuple(_deleted(thing) for thing in listed)
        return cls(values["id"], values["service"], values["tenant"], values["reason"], *times, objects)


@dataclass(frozen=True)
class SignedReceipt:
    """A receipt and its signature, 128 hexadecimal digits."""

    receipt: Receipt
    signature: str

    @classmethod
    def sign(cls, receipt: Receipt, key: Ed25519PrivateKey) -> SignedReceipt:
        """Sign a receipt."""
        return cls(receipt, key.sign(_message(receipt)).hex())

    @classmethod
    def from_bytes(cls, content: bytes) -> SignedReceipt:
        """A receipt from a file or an answer. Raises FormatError."""
        if len(content) > LARGEST_RECEIPT:
            raise FormatError(f"{len(content)} bytes are no receipt; check the file")
        return cls.from_dict(parse_json_object(content.strip(), "the receipt"))

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> SignedReceipt:
        """The same from a JSON object. Raises FormatError."""
        if set(values) != {"receipt", "signature"} or not _is_hex(values["signature"], SIGNATURE_DIGITS):
            raise FormatError("this is no signed receipt; check the file")
        return cls(Receipt.from_dict(values["receipt"]), values["signature"])

    def to_dict(self) -> dict[str, Any]:
        """A JSON-able object."""
        return {"receipt": self.receipt.to_dict(), "signature": self.signature}

    def to_bytes(self) -> bytes:
        """A file's content, one line."""
        return canonical_json(self.to_dict()).encode() + b"\n"

    def verify(self, key: Ed25519PublicKey) -> None:
        """Check that this service signed exactly this.

        Raises:
            SecurityError: another service's receipt, or an altered one.
        """
        if self.receipt.service != service_id(key):
            raise SecurityError(
                f"this receipt is of the service {self.receipt.service}, and the key of {service_id(key)}; use its key"
            )
        try:
            key.verify(bytes.fromhex(self.signature), _message(self.receipt))
        except InvalidSignature:
            raise SecurityError("the signature does not fit the receipt: it was altered, or forged") from None


def service_id(key: Ed25519PublicKey) -> str:
    """A service's name: the first 128 bits of the SHA-256 of its public key, in hexadecimal."""
    return hashlib.sha256(key.public_bytes(Encoding.Raw, PublicFormat.Raw)).hexdigest()[:ID_DIGITS]


def read_public_key(pem: bytes) -> Ed25519PublicKey:
    """A service's public key. Raises FormatError when it is none."""
    try:
        key = load_pem_public_key(pem)
    except ValueError:
        raise FormatError("this is no public key in PEM form; `cipherlens receipt key` fetches one") from None
    if not isinstance(key, Ed25519PublicKey):
        raise FormatError("this public key is not of Ed25519, which services sign with; use the service's own")
    return key


def public_pem(key: Ed25519PublicKey) -> str:
    """The same as text."""
    return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


def _message(receipt: Receipt) -> bytes:
    return DOMAIN + canonical_json(receipt.to_dict()).encode()


def _is_hex(value: object, digits: int) -> bool:
    return isinstance(value, str) and len(value) == digits and set(value) <= set("0123456789abcdef")


def _deleted(values: object) -> Deleted:
    if not isinstance(values, dict) or set(values) != {"kind", "id", "sha256", "size"}:
        raise FormatError("an object of this receipt is none; check the file")
    kind, sha256, size = values["kind"], values["sha256"], values["size"]
    entry = kind in ("data_set", "job")
    file = _is_hex(sha256, DIGEST_DIGITS) and type(size) is int and 0 <= size < 1 << 60
    if kind not in KINDS or not _is_hex(values["id"], ID_DIGITS) or not (sha256 is size is None if entry else file):
        raise FormatError("an object of this receipt holds values that no service writes; check the file")
    return Deleted(kind, values["id"], sha256, size)
