"""The owner's side of sealing: opening what was sealed for the owner, and wrapping secrets in a passphrase."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from cipherlens.errors import FormatError, KeyMismatch
from cipherlens.wire.sealed import LENGTH_BYTES, NONCE, PUBLIC_BYTES, sealing_cipher

MAGIC = b"CLW1"
SALT_BYTES = 16
TAG_BYTES = 16
HEAD_BYTES = len(MAGIC) + 3 + SALT_BYTES

DEFAULT_COST = 17
"""log2 of scrypt's n: with r = 8, 128 MB of memory and about half a second."""
COSTS = range(14, 20)
"""What is accepted on reading, up to 512 MB: a file cannot make its reader run out of memory."""
BLOCK_SIZE = 8
PARALLEL = 1


def new_sealing_keys() -> tuple[bytes, bytes]:
    """A fresh X25519 pair: the private and the public key, 32 bytes each."""
    private = X25519PrivateKey.generate()
    return private.private_bytes_raw(), private.public_key().public_bytes_raw()


def unseal(private_key: bytes, sealed: bytes) -> bytes:
    """Open what `cipherlens.wire.sealed.seal` made.

    Raises:
        KeyMismatch: it was sealed for another key, or altered.
    """
    refusal = KeyMismatch("the sealed names were made for another key or altered; use the keys they were made with")
    private = X25519PrivateKey.from_private_bytes(private_key)
    fresh_public = sealed[:PUBLIC_BYTES]
    try:
        shared = private.exchange(X25519PublicKey.from_public_bytes(fresh_public))
        cipher = sealing_cipher(shared, fresh_public, private.public_key().public_bytes_raw())
        padded = cipher.decrypt(NONCE, sealed[PUBLIC_BYTES:], None)
    except (ValueError, InvalidTag):  # too short, a point of small order, or another key
        raise refusal from None
    length = int.from_bytes(padded[:LENGTH_BYTES], "little")
    if len(padded) < LENGTH_BYTES + length:
        raise refusal
    return padded[LENGTH_BYTES : LENGTH_BYTES + length]


def unseal_any(private_keys: Sequence[bytes], sealed: bytes) -> bytes:
    """Open what was sealed for any of these keys: names stay as they were sealed when their images get a new key.

    Raises:
        KeyMismatch: it was sealed for another key, or altered.
    """
    for private_key in private_keys[:-1]:
        with suppress(KeyMismatch):
            return unseal(private_key, sealed)
    return unseal(private_keys[-1], sealed)


def wrap(secret: bytes, passphrase: bytes, cost: int = DEFAULT_COST, *, context: bytes = b"") -> bytes:
    """Encrypt a secret with a passphrase: scrypt, then ChaCha20-Poly1305.

    The result is "CLW1" | log2 n, r, p (one byte each) | salt (16 bytes) | ciphertext with its tag; what stands before
    the ciphertext is authenticated with it. The key serves one message, as the salt is fresh, so the nonce is zero.

    Args:
        secret: any length.
        passphrase: any length but zero.
        cost: log2 of scrypt's n, 14 ... 19.
        context: what stands beside the secret in the clear and must not be exchanged; authenticated with it.

    Raises:
        KeyMismatch: an empty passphrase.
    """
    if not passphrase:
        raise KeyMismatch("the passphrase is empty; choose one, or say that you want none")
    head = MAGIC + bytes((cost, BLOCK_SIZE, PARALLEL)) + os.urandom(SALT_BYTES)
    return head + _cipher(head, passphrase).encrypt(NONCE, secret, head + context)


def unwrap(wrapped: bytes, passphrase: bytes, *, context: bytes = b"") -> bytes:
    """The inverse of `wrap`, with the same context.

    Raises:
        FormatError: no wrapped secret, or with a cost that is not accepted.
        KeyMismatch: the wrong passphrase, or altered bytes.
    """
    head, body = wrapped[:HEAD_BYTES], wrapped[HEAD_BYTES:]
    if len(body) < TAG_BYTES or not head.startswith(MAGIC):
        raise FormatError("this is no secret wrapped in a passphrase; the file is damaged or of another kind")
    cost, block_size, parallel = head[len(MAGIC) : len(MAGIC) + 3]
    if cost not in COSTS or (block_size, parallel) != (BLOCK_SIZE, PARALLEL):
        raise FormatError(
            f"the wrapped secret asks for scrypt with n = 2^{cost}, r = {block_size}, p = {parallel}, which is not "
            f"accepted; n = 2^{COSTS[0]} ... 2^{COSTS[-1]}, r = {BLOCK_SIZE}, p = {PARALLEL} are"
        )
    try:
        return _cipher(head, passphrase).decrypt(NONCE, body, head + context)
    except InvalidTag:
        raise KeyMismatch("the passphrase is wrong, or the secret key file was altered; try again") from None


def _cipher(head: bytes, passphrase: bytes) -> ChaCha20Poly1305:
    kdf = Scrypt(head[-SALT_BYTES:], 32, n=1 << head[len(MAGIC)], r=BLOCK_SIZE, p=PARALLEL)
    return ChaCha20Poly1305(kdf.derive(passphrase))
