"""What a task will cost, said before anything is paid."""

from __future__ import annotations

from dataclasses import dataclass
from math import log2

from cipherlens.learning.circuit import Circuit
from cipherlens.learning.encrypted_images import row_bytes
from cipherlens.learning.results import score_bytes
from cipherlens.learning.task import PublicTask
from cipherlens.learning.training import GROUP
from cipherlens.planning.calibration import Speed

START_SECONDS = 0.6
"""Starting an interpreter and loading the libraries: part of every command."""

KEY_READING = 150e6
"""Bytes of packed evaluation keys that are read, checked and expanded in a second, on two cores."""


@dataclass(frozen=True)
class Cost:
    """A forecast.

    Attributes:
        ring_dimension, levels, security_margin_bits: of the parameters.
        images: training images. queries: images to classify.
        key_switches: in training.
        train_seconds, classify_seconds: the server's, reading and writing included.
        memory_bytes: the server's peak.
        evaluation_key_bytes: to upload once. image_bytes: to upload for each image.
        reply_bytes: to download for each query.
    """

    ring_dimension: int
    levels: int
    security_margin_bits: float
    images: int
    queries: int
    key_switches: int
    train_seconds: float
    classify_seconds: float
    memory_bytes: int
    evaluation_key_bytes: int
    image_bytes: float
    reply_bytes: float

    def __str__(self) -> str:
        return "\n".join(
            (
                f"ring          2^{self.ring_dimension.bit_length() - 1}, {self.levels} levels, 128-bit security with "
                f"{self.security_margin_bits:.0f} bits to spare",
                f"train         {self.train_seconds:.1f} s for {self.images} images, {self.key_switches} key switches",
                f"classify      {self.classify_seconds:.1f} s for {self.queries} images",
                f"memory        {self.memory_bytes / 1e6:.0f} MB on the server",
                f"upload        {self.evaluation_key_bytes / 1e6:.0f} MB of keys once, {self.image_bytes / 1e3:.1f} kB "
                "an image",
                f"download      {self.reply_bytes / 1e3:.2f} kB an image",
            )
        )


def key_switches(circuit: Circuit, ciphertexts: int) -> dict[str, int]:
    """Key switches of training by kind: "hoisted" and "full" at the top, "solve" in the solve's steps."""
    spec, layout = circuit.spec, circuit.layout
    folds = int(log2(layout.batch))
    tables = spec.columns * (1 if spec.kind == "ridge" else 2)
    full = tables * folds + (tables - len({1, 2} & {tables // spec.columns}) + 2)
    hoisted = solve = 0
    if spec.solves:
        hoisted = ciphertexts * (circuit.baby + circuit.giant - 1)
        full += (spec.dimension // 2 + 1) * (1 + folds * (2 if spec.columns > 1 else 1))
        outer = 2 * (circuit.giant - 1 + circuit.baby - 1) + 2
        solve = (spec.schedule.products + 1) * (outer + circuit.baby + circuit.giant - 2)
    return {"hoisted": hoisted, "full": full, "solve": solve}


def forecast(task: PublicTask, images: int, queries: int, speed: Speed, threads: int) -> Cost:
    """Seconds, bytes and key switches for `images` training images and `queries` queries."""
    circuit, spec, p = task.circuit, task.spec, task.parameters
    ciphertexts, asked = circuit.layout.ciphertexts(images), circuit.layout.ciphertexts(queries)
    counts = key_switches(circuit, ciphertexts)
    half = spec.dimension // 2
    limbs = circuit.top + 1
    keys = sum(p.switching_key_bytes(request.level) for request in circuit.key_requests())
    speed_up = speed.parallel
    level_share = 0.6  # the solve runs at falling levels: its operations take this share of those at the top

    train = ciphertexts * (speed.expand + spec.columns * speed.encode) + counts["full"] * speed.key_switch * 0.95
    if spec.solves:
        train += counts["hoisted"] * speed.hoisted + ciphertexts * 0.4 * speed.key_switch
        train += ciphertexts * (half + 1) * speed.scatter
        steps = spec.schedule.products + 1
        train += level_share * (counts["solve"] * speed.key_switch * 0.8 + steps * 2 * half * speed.tensor)
    columns = circuit.padded_columns
    folds = len(circuit.score_shifts)
    share = 3 / limbs
    hoisted_share = share * speed.hoisted / speed.key_switch
    one = speed.expand + speed.low_key_switch * (1.5 + folds) + columns * speed.low_key_switch * max(0.3, hoisted_share)
    classify = asked * one + columns * (spec.columns * speed.encode + folds * speed.low_key_switch)
    reading = START_SECONDS + keys / KEY_READING

    limb = 8 * p.ring_dimension
    key_memory = sum(
        p.digits(r.level + 1) * 2 * (r.level + 1 + len(p.special_primes)) * limb for r in circuit.key_requests()
    )
    memory = 150e6 + key_memory
    if spec.solves:
        memory += (half + 1) * 3 * limbs * limb  # scatter sums
        memory += GROUP * (circuit.baby + circuit.giant) * 2 * limbs * limb  # rotations of a group
    return Cost(
        p.ring_dimension,
        circuit.top,
        p.security_margin_bits,
        images,
        queries,
        sum(counts.values()),
        reading + train / speed_up,
        reading + classify / speed_up,
        int(memory),
        keys,
        sum(row_bytes(task, True)) / circuit.layout.images,
        score_bytes(task) / circuit.layout.images,
    )
