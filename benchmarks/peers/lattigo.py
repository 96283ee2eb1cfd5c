"""Lattigo 6 through the C functions of the shared library inside the `orion-fhe` package.

Only that library is loaded, never the package. Function names and signatures are those of its `lattigo-linux.h`.
It exports no NTT and no hoisted rotation, and an evaluator computes on one goroutine.
Run with `python -m peers.lattigo` from the folder above, GOMAXPROCS=1.
"""

from __future__ import annotations

import ctypes
import importlib.metadata
import importlib.util
import sys
import threading
from collections.abc import Callable
from pathlib import Path

from peers.common import PRIME_BITS, Record, Recorder, Ring, note, require_close, run_peer, timed

LIBRARY_NAMES = {"linux": "lattigo-linux.so", "darwin": "lattigo-mac.dylib", "win32": "lattigo-windows.dll"}
SCALE = 1 << PRIME_BITS
"""As large as a prime: Lattigo rescales only while the scale stays above half the default one."""

KEY_STEPS = (
    "NewKeyGenerator",
    "GenerateSecretKey",
    "GeneratePublicKey",
    "GenerateRelinearizationKey",
    "GenerateEvaluationKeys",
    "NewEncoder",
    "NewEncryptor",
    "NewDecryptor",
    "NewEvaluator",
)


class _Floats(ctypes.Structure):
    _fields_ = (("data", ctypes.POINTER(ctypes.c_float)), ("length", ctypes.c_ulong))


def load() -> ctypes.CDLL:
    """The shared library with its signatures declared; raises RuntimeError where the package does not hold it."""
    package = importlib.util.find_spec("orion")
    name = LIBRARY_NAMES.get(sys.platform, "")
    for folder in (package.submodule_search_locations or []) if package else []:
        path = Path(folder) / "backend" / "lattigo" / name
        if name and path.is_file():
            library = ctypes.CDLL(str(path))
            number, array = ctypes.c_int, ctypes.POINTER(ctypes.c_int)
            text = ctypes.c_char_p
            library.NewScheme.argtypes = [number, array, number, array, number, number, number, text, text, text]
            library.NewScheme.restype = None
            library.Encode.argtypes = [ctypes.POINTER(ctypes.c_float), number, number, ctypes.c_ulong]
            library.Decode.restype = _Floats
            library.SetCiphertextScale.argtypes = [number, ctypes.c_ulong]
            library.SetCiphertextScale.restype = None
            library.GetCiphertextLevel.argtypes = [ctypes.c_longlong]
            library.FreeCArray.argtypes = [ctypes.c_void_p]
            library.FreeCArray.restype = None
            for void in (*KEY_STEPS, "DeleteScheme", "DeletePlaintext", "DeleteCiphertext"):
                getattr(library, void).restype = None
            return library
    raise RuntimeError(f"the orion-fhe package holds no Lattigo library for {sys.platform}")


def measure(ring: Ring, threads: int) -> list[Record]:
    """All records of one ring; raises ValueError for more than one thread."""
    if threads != 1:
        raise ValueError("a Lattigo evaluator computes on one thread")
    library = load()
    recorder = Recorder("Lattigo", f"6 (orion-fhe {importlib.metadata.version('orion-fhe')})", ring, threads)
    slots, top = ring.dimension // 2, ring.limbs - 1

    q = (ctypes.c_int * ring.limbs)(*[PRIME_BITS] * ring.limbs)
    p = (ctypes.c_int * ring.special_limbs)(*[PRIME_BITS] * ring.special_limbs)
    nonzero = 2 * ring.dimension // 3  # the weight of a uniform ternary secret
    logarithm = ring.dimension.bit_length() - 1
    library.NewScheme(logarithm, q, ring.limbs, p, ring.special_limbs, PRIME_BITS, nonzero, b"standard", b"", b"none")
    for step in KEY_STEPS:
        getattr(library, step)()

    values = (ctypes.c_float * slots)(*[(i % 100) / 100 for i in range(slots)])
    plain = library.Encode(values, slots, top, SCALE)
    first, second = library.Encrypt(plain), library.Encrypt(plain)

    def slot(ciphertext: int, index: int) -> float:
        decrypted = library.Decrypt(ciphertext)
        decoded = library.Decode(decrypted)
        found = float(decoded.data[index])
        library.FreeCArray(ctypes.cast(decoded.data, ctypes.c_void_p))
        library.DeletePlaintext(decrypted)
        return found

    # What a call costs before Lattigo does anything: this one looks a handle up and returns a number.
    overhead = timed(lambda: library.GetCiphertextLevel(first)).median
    note(f"Lattigo: {overhead * 1e6:.2f} microseconds a call taken off at ring dimension {ring.dimension}")

    made: list[int] = []

    def drop_plaintext() -> None:
        while made:
            library.DeletePlaintext(made.pop())

    def drop_ciphertext() -> None:
        while made:
            library.DeleteCiphertext(made.pop())

    recorder.time(
        "encode",
        lambda: made.append(library.Encode(values, slots, top, SCALE)),
        drop_plaintext,
        subtract=overhead,
    )
    drop_plaintext()
    recorder.time("encrypt", lambda: made.append(library.Encrypt(plain)), drop_ciphertext, subtract=overhead)
    drop_ciphertext()
    recorder.time("decrypt", lambda: made.append(library.Decrypt(first)), drop_plaintext, subtract=overhead)
    drop_plaintext()
    require_close("Lattigo", "decrypt", slot(first, 7), 0.07)

    def time_in_place(operation: str, call: Callable[[int], object], expected: float) -> None:
        # In place, so that no time goes into allocation; the first call is checked, further ones only timed.
        target = library.Encrypt(plain)
        call(target)
        require_close("Lattigo", operation, slot(target, 7), expected)
        recorder.time(
            operation,
            lambda: call(target),
            lambda: library.SetCiphertextScale(target, SCALE),
            subtract=overhead,
        )
        library.DeleteCiphertext(target)

    time_in_place("add", lambda target: library.AddCiphertext(target, second), 0.14)
    time_in_place("multiply_plain", lambda target: library.MulPlaintext(target, plain), 0.07 * 0.07)
    time_in_place("multiply_relinearise", lambda target: library.MulRelinCiphertext(target, second), 0.07 * 0.07)
    time_in_place("rotate", lambda target: library.Rotate(target, 1), 0.08)

    def product() -> None:
        drop_ciphertext()
        made.append(library.MulPlaintextNew(second, plain))

    product()
    library.Rescale(made[0])
    require_close("Lattigo", "rescale", slot(made[0], 7), 0.07 * 0.07)
    if library.GetCiphertextLevel(made[0]) != top - 1:
        raise ArithmeticError("Lattigo did not drop exactly one prime when rescaling; its time is not used")
    recorder.time("rescale", lambda: library.Rescale(made[0]), product, subtract=overhead)
    drop_ciphertext()
    library.DeleteScheme()
    return recorder.records()


def main() -> None:
    """Runs the benchmark on a thread of its own.

    Each call from C into Go asks for the bounds of the calling thread's stack. glibc answers for the first thread of
    a process by parsing its memory map (`pthread_getattr_np`), which takes longer the more is mapped: 53 microseconds
    with 140 mappings. For any other thread it knows the answer. So that cost is avoided, and what remains of a
    call's overhead, below a microsecond, is measured and taken off.
    """
    failure: list[int] = []

    def body() -> None:
        try:
            run_peer(measure, "Lattigo 6 (orion-fhe)")
        except SystemExit as stop:
            failure.append(stop.code if isinstance(stop.code, int) else 1)

    thread = threading.Thread(target=body)
    thread.start()
    thread.join()
    sys.exit(failure[0] if failure else 1)


if __name__ == "__main__":
    main()
