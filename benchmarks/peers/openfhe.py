"""OpenFHE through its own Python wheel, hybrid key switching, manual rescaling.

OpenFHE chooses P itself: primes of up to 60 bits, as many as one digit of Q needs. Their number is
read back from the size of a key. `Decrypt` includes decoding. Threads are OpenMP's (OMP_NUM_THREADS).
Run with `python -m peers.openfhe` from the folder above.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import os
from collections.abc import Callable
from typing import Any

from peers.common import PRIME_BITS, Record, Recorder, Ring, require_close, run_peer


def _special_limbs(fhe: Any, relinearisation_key: Any, ring: Ring) -> int:
    """Primes in P: the key is dnum pairs of polynomials modulo Q·P, 8 bytes a residue, and a short header."""
    size = len(fhe.Serialize(relinearisation_key, fhe.BINARY))
    return round(size / (ring.dnum * 2 * 8 * ring.dimension)) - ring.limbs


def measure(ring: Ring, threads: int) -> list[Record]:
    """All records of one ring; raises ValueError unless OMP_NUM_THREADS was set to `threads` at the start."""
    if os.environ.get("OMP_NUM_THREADS") != str(threads):
        raise ValueError(f"set OMP_NUM_THREADS={threads} before starting; OpenMP reads it when the library loads")
    fhe: Any = importlib.import_module("openfhe")
    numpy: Any = importlib.import_module("numpy")

    parameters = fhe.CCParamsCKKSRNS()
    parameters.SetSecurityLevel(fhe.HEStd_128_classic)
    parameters.SetSecretKeyDist(fhe.UNIFORM_TERNARY)
    parameters.SetRingDim(ring.dimension)
    parameters.SetBatchSize(ring.dimension // 2)
    parameters.SetMultiplicativeDepth(ring.limbs - 1)
    parameters.SetFirstModSize(PRIME_BITS)
    parameters.SetScalingModSize(PRIME_BITS)
    parameters.SetScalingTechnique(fhe.FIXEDMANUAL)
    parameters.SetKeySwitchTechnique(fhe.HYBRID)
    parameters.SetNumLargeDigits(ring.dnum)
    context = fhe.GenCryptoContext(parameters)
    for feature in (fhe.PKE, fhe.KEYSWITCH, fhe.LEVELEDSHE):
        context.Enable(feature)

    keys = context.KeyGen()
    context.EvalMultKeyGen(keys.secretKey)
    context.EvalRotateKeyGen(keys.secretKey, [1])
    special = _special_limbs(fhe, context.GetEvalMultKeyVector(keys.secretKey.GetKeyTag())[0], ring)
    own = Ring(ring.dimension, ring.limbs, special, ring.dnum)
    recorder = Recorder("OpenFHE", importlib.metadata.version("openfhe"), own, threads)

    values = (numpy.arange(ring.dimension // 2) % 100) / 100.0
    plain = context.MakeCKKSPackedPlaintext(values)
    encrypted, other = context.Encrypt(keys.publicKey, plain), context.Encrypt(keys.publicKey, plain)

    def slot(ciphertext: Any, index: int) -> float:
        return float(context.Decrypt(keys.secretKey, ciphertext).GetRealPackedValueArray()[index])

    transformed = context.MakeCKKSPackedPlaintext(values)
    recorder.time(
        "ntt",
        lambda: transformed.SetFormat(fhe.EVALUATION),
        lambda: transformed.SetFormat(fhe.COEFFICIENT),
    )
    recorder.time("encode", lambda: context.MakeCKKSPackedPlaintext(values))
    recorder.time("encrypt", lambda: context.Encrypt(keys.publicKey, plain))
    recorder.time("decrypt", lambda: context.Decrypt(keys.secretKey, encrypted))
    require_close("OpenFHE", "decrypt", slot(encrypted, 7), 0.07)

    cases: tuple[tuple[str, Callable[[], Any], float], ...] = (
        ("add", lambda: context.EvalAdd(encrypted, other), 0.14),
        ("multiply_plain", lambda: context.EvalMult(encrypted, plain), 0.07 * 0.07),
        ("multiply_relinearise", lambda: context.EvalMult(encrypted, other), 0.07 * 0.07),
        ("rotate", lambda: context.EvalRotate(encrypted, 1), 0.08),
    )
    for operation, call, expected in cases:
        require_close("OpenFHE", operation, slot(call(), 7), expected)
        recorder.time(operation, call)

    product = context.EvalMult(encrypted, other)
    require_close("OpenFHE", "rescale", slot(context.Rescale(product), 7), 0.07 * 0.07)
    recorder.time("rescale", lambda: context.Rescale(product))

    digits = context.EvalFastRotationPrecompute(encrypted)
    order = 2 * ring.dimension

    def hoisted() -> Any:
        return context.EvalFastRotation(encrypted, 1, order, digits)

    require_close("OpenFHE", "rotate_hoisted", slot(hoisted(), 7), 0.08)
    recorder.time("rotate_hoisted", hoisted)
    fhe.ClearEvalMultKeys()
    context.ClearEvalAutomorphismKeys()
    fhe.ReleaseAllContexts()
    return recorder.records()


if __name__ == "__main__":
    run_peer(measure, "OpenFHE")
