"""Sealing bytes, such as file names, for the holder of a secret key. Opening them is in `cipherlens.owner.sealed`.

X25519 with a fresh key pair for each message, HKDF-SHA256, ChaCha20-Poly1305: the construction of RFC 9180's base mode
in its simplest form, with fixed algorithms and one message a key. A sealed message is

    fresh public key (32 bytes) | ChaCha20-Poly1305 of [length, 8 bytes little-endian | message | zeros] (with its tag)

under the key HKDF-SHA256(shared secret, salt = fresh public key | recipient's public key,
info = "cipherlens sealed 1") and a nonce of zeros. The zeros pad to a multiple of 256 bytes, so that the length says
little about single names.
"""

from __future__ import annotations

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from cipherlens.errors import FormatError

PUBLIC_BYTES = 32
LENGTH_BYTES = 8
PADDING = 256
NONCE = bytes(12)  # each key encrypts one message


def sealing_cipher(shared: bytes, fresh_public: bytes, recipient_public: bytes) -> ChaCha20Poly1305:
    """The cipher of one sealed message."""
    kdf = HKDF(SHA256(), 32, salt=fresh_public + recipient_public, info=b"cipherlens sealed 1")
    return ChaCha20Poly1305(kdf.derive(shared))


def seal(public_key: bytes, plaintext: bytes) -> bytes:
    """Encrypt a message that only the holder of the private key can open.

    Args:
        public_key: 32 bytes, X25519.
        plaintext: any length.

    Raises:
        FormatError: the key is no X25519 public key.
    """
    fresh = X25519PrivateKey.generate()
    try:
        shared = fresh.exchange(X25519PublicKey.from_public_bytes(public_key))
    except ValueError:  # another length, or a point of small order
        raise FormatError("the public key file holds no valid key for sealing names; fetch it again") from None
    fresh_public = fresh.public_key().public_bytes_raw()
    padded = len(plaintext).to_bytes(LENGTH_BYTES, "little") + plaintext
    padded += bytes(-len(padded) % PADDING)
    return fresh_public + sealing_cipher(shared, fresh_public, public_key).encrypt(NONCE, padded, None)
