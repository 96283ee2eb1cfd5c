"""How far a rotation is from what the machine's arithmetic units and memory allow: benchmarks/results/limits.json.

    python benchmarks/limits.py [--kernel avx2]

The arithmetic limit counts the transforms and products of one rotation at the rates that the same kernels reach on data
in the first-level cache. The memory limit is the time to read the key once and to write the result once at the speed of
a large copy. What a rotation takes beyond the larger of the two is what is left to gain.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
from ours import parameters
from peers.common import RINGS, Ring, median_seconds

from cipherlens.owner.secret_key import SecretKey
from cipherlens.scheme.engine import Engine, choose_kernel
from cipherlens.scheme.evaluator import Evaluator
from cipherlens.scheme.keys import KeyRequest, rotation
from cipherlens.scheme.parameters import Parameters

RESULTS = Path(__file__).resolve().parent / "results"
CACHED = 1 << 12
"""Coefficients whose limb (32 KiB) stays in the first-level cache."""


def cached_rates(kernel: str) -> tuple[float, float]:
    """Seconds of one butterfly of a transform, and of one term of a sum of products, on cached data."""
    p = Parameters.generate(CACHED, 1, scale_bits=34, first_bits=35, special=1, special_bits=35, digit=1)
    ring = Engine(p, kernel).ring
    limb = np.ones((1, CACHED))
    call, _ = median_seconds(lambda: ring.ntt(limb[:0], []))  # what calling costs
    transform, _ = median_seconds(lambda: ring.ntt(limb, [0]))
    butterflies = CACHED // 2 * (CACHED.bit_length() - 1)
    terms = 8
    pair = np.ones((2, 1, CACHED))
    few, _ = median_seconds(lambda: ring.multiply_scalars([pair] * terms, [[3.0]] * terms))
    more, _ = median_seconds(lambda: ring.multiply_scalars([pair] * 2 * terms, [[3.0]] * 2 * terms))
    return (transform - call) / butterflies, (more - few) / (2 * terms * CACHED)


def copy_bandwidth() -> float:
    """Bytes read and written in a second by a copy far larger than the caches."""
    source = np.ones(1 << 25)
    target = np.empty_like(source)
    seconds, _ = median_seconds(lambda: np.copyto(target, source))
    return 2 * source.nbytes / seconds


def measure(ring: Ring, kernel: str, butterfly: float, term: float, bandwidth: float) -> dict[str, Any]:
    """One rotation against both limits, in milliseconds."""
    p = parameters(ring)
    n, limbs, special, digits = ring.dimension, ring.limbs, ring.special_limbs, p.digits(ring.limbs)
    engine = Engine(p, kernel)
    secret = SecretKey.create(engine)
    evaluator = Evaluator(engine, secret.evaluation_keys([KeyRequest(rotation(p, 1), p.top_level)]))
    ciphertext = secret.encrypt(evaluator.encode(np.ones(p.slots), p.top_level))
    seconds, _ = median_seconds(lambda: evaluator.rotate(ciphertext, 1))
    width = limbs + special
    transforms = limbs + (digits * width - limbs) + 2 * special + 2 * limbs
    conversions = (digits * width - limbs) * p.digit + 2 * limbs * special
    products = 2 * digits * width
    arithmetic = n * (transforms * (n.bit_length() - 1) / 2 * butterfly + (conversions + products) * term)
    memory = 8 * n * (2 * digits * width + 4 * limbs) / bandwidth
    return {
        "ring_dimension": n, "limbs": limbs, "special_limbs": special, "kernel": kernel,
        "transforms": transforms, "product_terms": conversions + products,
        "rotate_ms": 1e3 * seconds, "arithmetic_limit_ms": 1e3 * arithmetic, "memory_limit_ms": 1e3 * memory,
        "butterfly_ns": 1e9 * butterfly, "term_ns": 1e9 * term, "copy_gb_per_second": bandwidth / 1e9,
    }  # fmt: skip


def main() -> None:
    """Measure every ring, print a line each and write limits.json."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kernel", default=choose_kernel())
    kernel = parser.parse_args().kernel
    butterfly, term = cached_rates(kernel)
    bandwidth = copy_bandwidth()
    records = [measure(ring, kernel, butterfly, term, bandwidth) for ring in RINGS]
    for r in records:
        print(
            f"2^{r['ring_dimension'].bit_length() - 1}: {r['rotate_ms']:.2f} ms; arithmetic {r['arithmetic_limit_ms']:.2f}, "
            f"memory {r['memory_limit_ms']:.2f}"
        )
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "limits.json").write_text(json.dumps(records, indent=1) + "\n")


if __name__ == "__main__":
    main()
