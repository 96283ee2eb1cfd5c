"""Microsoft SEAL 4 through TenSEAL's `tenseal.sealapi`.

SEAL decomposes into single primes and has one special prime, always: dnum = limbs, P = one prime. Its own table
stops at ring dimension 2^15, so that at 2^16 only the NTT, which carries no security, is timed. It has no hoisting
and no threads. Run with `python -m peers.seal` from the folder above.
"""

from __future__ import annotations

import importlib
import importlib.metadata
from collections.abc import Callable
from typing import Any

from peers.common import PRIME_BITS, Record, Recorder, Ring, note, require_close, run_peer, timed

LARGEST_SECURE_RING = 1 << 15
SCALE = 2.0**40
ONE_STEP = 3
"""Galois element of a rotation by one slot."""


def measure(ring: Ring, threads: int) -> list[Record]:
    """All records of one ring; raises ValueError for more than one thread."""
    if threads != 1:
        raise ValueError("SEAL computes on one thread")
    seal: Any = importlib.import_module("tenseal.sealapi")
    secure = ring.dimension <= LARGEST_SECURE_RING
    own = Ring(ring.dimension, ring.limbs, 1, ring.limbs)
    recorder = Recorder("SEAL", f"4 (tenseal {importlib.metadata.version('tenseal')})", own, threads)

    parameters = seal.EncryptionParameters(seal.SCHEME_TYPE.CKKS)
    parameters.set_poly_modulus_degree(ring.dimension)
    parameters.set_coeff_modulus(seal.CoeffModulus.Create(ring.dimension, [PRIME_BITS] * (ring.limbs + 1)))
    security = seal.SEC_LEVEL_TYPE.TC128 if secure else seal.SEC_LEVEL_TYPE.NONE
    context = seal.SEALContext(parameters, True, security)
    if not context.parameters_set():
        raise RuntimeError(f"SEAL refuses the parameters: {context.parameters_error_message()}")

    keys = seal.KeyGenerator(context)
    public, relinearisation, galois = seal.PublicKey(), seal.RelinKeys(), seal.GaloisKeys()
    keys.create_public_key(public)
    encoder, evaluator = seal.CKKSEncoder(context), seal.Evaluator(context)
    encryptor, decryptor = seal.Encryptor(context, public), seal.Decryptor(context, keys.secret_key())
    values = [(i % 100) / 100 for i in range(ring.dimension // 2)]
    plain, encrypted, other, result = seal.Plaintext(), seal.Ciphertext(), seal.Ciphertext(), seal.Ciphertext()
    encoder.encode(values, SCALE, plain)
    encryptor.encrypt(plain, encrypted)

    # Both polynomials of a ciphertext are transformed; a record is one polynomial.
    recorder.time(
        "ntt",
        lambda: evaluator.transform_to_ntt_inplace(encrypted),
        lambda: evaluator.transform_from_ntt_inplace(encrypted),
        divide=2,
    )
    if not secure:
        note(f"SEAL: ring dimension {ring.dimension} is above its table; NTT only")
        return recorder.records()

    def slot(ciphertext: Any, index: int) -> float:
        decrypted = seal.Plaintext()
        decryptor.decrypt(ciphertext, decrypted)
        return float(encoder.decode_double(decrypted)[index])

    # A refused scale fails after the list has been converted and before any transform: the binding's share.
    def convert_only() -> None:
        try:
            encoder.encode(values, -1.0, seal.Plaintext())
        except ValueError:
            return
        raise RuntimeError("SEAL accepted a negative scale; the cost of list conversion cannot be measured")

    conversion = timed(convert_only).median
    recorder.time("encode", lambda: encoder.encode(values, SCALE, plain), subtract=conversion)
    recorder.time("encrypt", lambda: encryptor.encrypt(plain, encrypted))
    decrypted = seal.Plaintext()
    recorder.time("decrypt", lambda: decryptor.decrypt(encrypted, decrypted))
    require_close("SEAL", "decrypt", slot(encrypted, 7), values[7])

    # In place where SEAL can, so that no time goes into copies; each first call is checked, further ones only timed.
    keys.create_galois_keys([ONE_STEP], galois)
    encryptor.encrypt(plain, other)

    def reset_scale() -> None:
        result.scale = SCALE

    cases: tuple[tuple[str, Callable[[], object], float], ...] = (
        ("add", lambda: evaluator.add_inplace(result, other), 2 * values[7]),
        ("multiply_plain", lambda: evaluator.multiply_plain_inplace(result, plain), values[7] ** 2),
        ("rotate", lambda: evaluator.rotate_vector_inplace(result, 1, galois), values[8]),
    )
    for operation, call, expected in cases:
        encryptor.encrypt(plain, result)
        call()
        require_close("SEAL", operation, slot(result, 7), expected)
        recorder.time(operation, call, reset_scale)

    keys.create_relin_keys(relinearisation)

    def multiply_relinearise() -> None:
        evaluator.multiply(encrypted, other, result)
        evaluator.relinearize_inplace(result, relinearisation)

    recorder.time("multiply_relinearise", multiply_relinearise)
    require_close("SEAL", "multiply_relinearise", slot(result, 7), values[7] ** 2)
    rescaled = seal.Ciphertext()
    recorder.time("rescale", lambda: evaluator.rescale_to_next(result, rescaled))
    require_close("SEAL", "rescale", slot(rescaled, 7), values[7] ** 2)
    return recorder.records()


if __name__ == "__main__":
    run_peer(measure, "SEAL 4 (TenSEAL)")
