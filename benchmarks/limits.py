"""How far the engine is from what arithmetic units and memory allow: benchmarks/results/limits.json.

    python benchmarks/limits.py [--kernel avx2 …]

The arithmetic limit is the rate at which one core starts fused multiply-adds, measured by benchmarks/peak.cpp on
registers alone. Against it stand the multiplications, fused or not, that the kernels' source asks for; additions are not
counted, because many processors have other units for them. The memory limit is the speed of a large copy; against it
stand the bytes that an operation must read or write at least once.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from machine import copy_bandwidth, default_kernels, peak_rates
from ours import parameters
from peers.common import RINGS, Ring, timed

from cipherlens.owner.secret_key import SecretKey
from cipherlens.scheme.engine import Engine
from cipherlens.scheme.evaluator import Evaluator
from cipherlens.scheme.keys import RELINEARISATION, KeyRequest, rotation

HERE = Path(__file__).resolve().parent
LANES = {"avx2": 4, "avx512": 8}

# Multiplications, fused or not, in core/kernels: of a modular product 4 and of a reduction 2.
FORWARD = 18 / 4
"""A butterfly of a forward transform: four of them share 4 products and 1 reduction."""
INVERSE = 20 / 4
"""A butterfly of an inverse transform: four of them share 4 products and 2 reductions."""
FORWARD_END, INVERSE_END = 2, 3
"""More for each coefficient at the end: a reduction; half a product and half a reduction for the factor."""
TERM, LAZY_END, SUM_END = 2, 4, 6
"""A term of a sum of products, and its end for each coefficient: not canonical, and canonical."""
PRODUCT = 6
"""A product with its reduction."""


@dataclass(frozen=True)
class Work:
    """What an operation does at least: multiplications a coefficient, and limbs read or written."""

    multiplications: float
    limbs: int

    def __add__(self, other: Work) -> Work:
        return Work(self.multiplications + other.multiplications, self.limbs + other.limbs)


def works(ring: Ring, digit: int) -> dict[str, Work]:
    """The work of each operation measured, by its name in engine.json."""
    limbs, special, digits = ring.limbs, ring.special_limbs, -(-ring.limbs // digit)
    log, width = ring.dimension.bit_length() - 1, limbs + special
    forward, inverse = FORWARD * log / 2 + FORWARD_END, INVERSE * log / 2 + INVERSE_END
    converted = digits * width - limbs
    decompose = Work(limbs * inverse + converted * (digit * TERM + LAZY_END + forward), limbs)
    switch = Work(2 * width * (digits * TERM + SUM_END), 2 * digits * width)
    divide = Work(2 * special * inverse + 2 * limbs * (special * TERM + LAZY_END + forward + PRODUCT), 2 * limbs)
    tensor = Work(limbs * (2 * PRODUCT + 2 * TERM + SUM_END), 3 * limbs)
    return {
        "ntt": Work(limbs * forward, 2 * limbs),
        "multiply_relinearise": tensor + decompose + switch + divide,
        "rotate": decompose + switch + divide + Work(0, limbs),
        "rotate_hoisted": switch + divide + Work(0, digits * width + limbs),
    }


def measure(ring: Ring, kernel: str, peak: float | None, bandwidth: float) -> list[dict[str, Any]]:
    """Every operation on one ring against both limits, on one thread."""
    p = parameters(ring)
    engine = Engine(p, kernel)
    secret, step = SecretKey.create(engine), rotation(p, 1)
    evaluator = Evaluator(
        engine, secret.evaluation_keys([KeyRequest(RELINEARISATION, p.top_level), KeyRequest(step, p.top_level)])
    )
    a = secret.encrypt(evaluator.encode(np.ones(p.slots), p.top_level))
    first, every, digits = a.data[0], list(range(ring.limbs)), engine.ring.decompose(a.data[1])
    calls: dict[str, Callable[[], object]] = {
        "ntt": lambda: engine.ring.ntt(first, every),
        "multiply_relinearise": lambda: evaluator.multiply(a, a, rescale=False),
        "rotate": lambda: evaluator.rotate(a, 1),
        "rotate_hoisted": lambda: engine.ring.key_switch_digits(digits, evaluator.key(step), a.data[0], None, step),
    }
    found = []
    for operation, work in works(ring, p.digit).items():
        seconds = timed(calls[operation]).median
        multiplications, bytes_moved = work.multiplications * ring.dimension, 8 * work.limbs * ring.dimension
        found.append({
            "operation": operation, "ring_dimension": ring.dimension, "limbs": ring.limbs,
            "special_limbs": ring.special_limbs, "kernel": kernel, "milliseconds": 1e3 * seconds,
            "multiplications": multiplications, "bytes": bytes_moved,
            "share_of_peak": None if peak is None else multiplications / LANES[kernel] / peak / seconds,
            "share_of_bandwidth": bytes_moved / bandwidth / seconds,
            "peak_per_second": peak, "copy_gb_per_second": bandwidth / 1e9,
        })  # fmt: skip
    return found


def main() -> None:
    """Measure every kernel and ring, print a line each and write limits.json."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--kernel", action="append", help="may be repeated (default: avx2 and the best)")
    parser.add_argument("--results", type=Path, default=HERE / "results", help="folder to write to")
    chosen = parser.parse_args()
    rates, bandwidth = peak_rates(), copy_bandwidth()
    records = [
        record
        for kernel in chosen.kernel or default_kernels()
        for ring in RINGS
        for record in measure(ring, kernel, rates.get(kernel), bandwidth)
    ]
    for r in records:
        share = "–" if r["share_of_peak"] is None else f"{r['share_of_peak']:.0%}"
        print(
            f"{r['kernel']} 2^{r['ring_dimension'].bit_length() - 1} {r['operation']}: {r['milliseconds']:.3g} ms, "
            f"{share} of peak, {r['share_of_bandwidth']:.0%} of bandwidth"
        )
    chosen.results.mkdir(parents=True, exist_ok=True)
    (chosen.results / "limits.json").write_text(json.dumps(records, indent=1) + "\n")


if __name__ == "__main__":
    main()
