"""What a task will cost, said before anything is paid."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from cipherlens.learning.circuit import Circuit
from cipherlens.learning.encrypted_images import row_bytes
from cipherlens.learning.results import score_bytes
from cipherlens.learning.task import PublicTask
from cipherlens.learning.training import GROUP
from cipherlens.planning.calibration import Speed
from cipherlens.scheme.keys import KeyRequest

HASHING = 700e6
"""Bytes of a file that are read and checked against its hash in a second."""

BASE_MEMORY = 80e6
"""Bytes of an interpreter with the libraries."""

WITHIN = 0.85
"""Speed-up of threads that share one key switch, as in the solve's chains, over that of threads with one each."""

UNCOUNTED = 1.08
"""What training takes beyond the operations that are counted: memory traffic between them, and Python."""


@dataclass(frozen=True)
class Cost:
    """A forecast.

    Attributes:
        ring_dimension, levels, security_margin_bits: of the parameters.
        images: training images. queries: images to classify.
        key_switches: in training.
        train_seconds, classify_seconds: the server's, reading and writing included.
        memory_bytes: the server's peak, in training or in classifying.
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


@dataclass(frozen=True)
class Stages:
    """Work of one training, stage by stage, counted as in `cipherlens.learning.training`.

    Attributes:
        hoisted: key switches of rotating the images, each ciphertext decomposed once.
        full: key switches of relinearising, folding, spreading and gathering at the top.
        solve: key switches of the solve and its residual, at falling levels.
    """

    hoisted: int
    full: int
    solve: int

    @property
    def total(self) -> int:
        """All key switches."""
        return self.hoisted + self.full + self.solve


def count_key_switches(circuit: Circuit, ciphertexts: int) -> Stages:
    """Key switches of training on this many ciphertexts."""
    spec, folds, tables = circuit.spec, _folds(circuit), _tables(circuit)
    # Class sums: each column folded, gathered by a rotation for each but the first, and made real.
    full = tables * folds * spec.columns + tables * spec.columns
    if not spec.solves:
        return Stages(0, full, 0)
    spread = 2 if spec.columns > 1 else 1
    full += (spec.dimension // 2 + 1) * (1 + folds * spread)
    outer = 2 * (circuit.giant - 1 + circuit.baby - 1) + 2
    steps = spec.schedule.products + 1
    return Stages(ciphertexts * _rotations(circuit), full, steps * (outer + _rotations(circuit) - 1))


def _folds(circuit: Circuit) -> int:
    return circuit.layout.batch.bit_length() - 1


def _tables(circuit: Circuit) -> int:
    """Right-hand side, and centres where the learner has a bias."""
    return 1 if circuit.spec.kind == "ridge" else 2


def _rotations(circuit: Circuit) -> int:
    """Automorphisms of each ciphertext of images: baby steps, the first of which conjugates, and giant steps."""
    return circuit.baby + circuit.giant - 1


def _train_seconds(circuit: Circuit, ciphertexts: int, speed: Speed) -> float:
    """Arithmetic alone; memory that is new to the process is counted by `forecast`."""
    spec, half, folds, columns = circuit.spec, circuit.spec.dimension // 2, _folds(circuit), circuit.spec.columns
    top = circuit.top + 1
    tables = _tables(circuit) * columns

    def fold(limbs: int) -> float:
        return folds * (speed.key_switch(limbs) + 2 * limbs * speed.copy)

    # Read one after another, whatever the threads; so are class sums of a single column.
    serial = ciphertexts * speed.expand
    sums = ciphertexts * tables * (speed.encode + speed.tensor(top))
    sums += tables * (speed.rescale + fold(top - 1) + speed.key_switch(top - 1))
    if tables == 1:
        serial, sums = serial + sums, 0.0
    if not spec.solves:
        return serial + sums / speed.parallel
    images = ciphertexts * (speed.rotations(_rotations(circuit), top) + (half + 1) * speed.scatter)
    diagonal = speed.key_switch(top) + fold(top - 1) + speed.tensor(top - 1) + speed.rescale
    if columns > 1:
        diagonal += fold(top - 1)
    solve = 0.0
    for step in range(spec.schedule.products + 1):
        limbs = circuit.solve_level + 1 - step
        solve += speed.rotations(_rotations(circuit) - 1, limbs) + 2 * half * speed.tensor(limbs)
        solve += (2 * (circuit.giant + circuit.baby - 2) + 2) * speed.key_switch(limbs)
        if step:  # diagonals of the level above lose a prime, which copies them
            solve += (half + 1) * 2 * limbs * speed.copy
    work = (sums + images + (half + 1) * diagonal) / speed.parallel + solve / max(1.0, WITHIN * speed.parallel)
    return UNCOUNTED * (serial + work)


def _classify_seconds(circuit: Circuit, ciphertexts: int, speed: Speed) -> float:
    columns, period, folds = circuit.spec.columns, circuit.padded_columns, _folds(circuit)
    weights, scores = circuit.weight_level + 1, circuit.score_level + 1
    prepare = folds * speed.key_switch(weights)
    if columns > 1:
        masked = columns * (speed.encode + speed.tensor(weights)) + (folds + 1) * speed.key_switch(weights)
        prepare = (columns - 1) * speed.key_switch(weights) + period * masked
    one = speed.expand
    one += speed.rotations(period if columns > 1 else 0, scores + 1) + period * speed.tensor(scores + 1)
    one += (1 + len(circuit.score_shifts)) * speed.key_switch(scores)
    return (prepare + ciphertexts * one) / speed.parallel


def _key_bytes(circuit: Circuit, wanted: Collection[KeyRequest] | None = None) -> tuple[int, int]:
    """Evaluation keys in a file and in memory: those of the wanted numbers, at the level that the file has them at."""
    p, packed, expanded = circuit.parameters, 0, 0
    numbers = None if wanted is None else {request.number for request in wanted}
    for request in circuit.key_requests():
        if numbers is not None and request.number not in numbers:
            continue
        packed += p.switching_key_bytes(request.level)
        expanded += p.digits(request.level + 1) * 2 * (request.level + 1 + len(p.special_primes)) * 8 * p.ring_dimension
    return packed, expanded


def _memory(circuit: Circuit, ciphertexts: int, keys: int, threads: int) -> float:
    """Everything that training holds at some time: what it frees is scattered and stays with the process."""
    p, half = circuit.parameters, circuit.spec.dimension // 2
    limb, top = 8 * p.ring_dimension, circuit.top + 1
    at_work = threads * 4 * p.digits(top) * (top + len(p.special_primes)) * limb
    # Class sums; beside them those of a group of images, and both added, then finished.
    columns = 4 * _tables(circuit) * circuit.spec.columns * 2 * top * limb
    memory = BASE_MEMORY + keys + at_work + columns
    if circuit.spec.solves:
        sums = (half + 1) * 3 * top * limb
        # Rotated images, and again rearranged for the sums; diagonals, and again without their last primes.
        rotated = min(GROUP, ciphertexts) * _rotations(circuit) * 2 * top * limb
        diagonals = (half + 1) * 2 * (circuit.sum_level + 1) * limb
        memory += sums + 2 * rotated + 2 * diagonals
    else:
        memory += min(GROUP, ciphertexts) * 2 * top * limb
    return memory


def training_memory(task: PublicTask, images: int, threads: int) -> int:
    """Bytes that training on `images` images takes at most, beside their labels and names."""
    circuit = task.circuit
    return int(_memory(circuit, circuit.layout.ciphertexts(images), _key_bytes(circuit)[1], threads))


def classifying_memory(task: PublicTask, threads: int) -> int:
    """Bytes that classifying to a file takes at most, beside the images' labels and names, however many they are."""
    circuit, p = task.circuit, task.parameters
    limb, weights, columns = 8 * p.ring_dimension, circuit.weight_level + 1, circuit.spec.columns
    keys = _key_bytes(circuit, circuit.score_requests())[1]
    at_work = threads * 5 * p.digits(weights) * (weights + len(p.special_primes)) * limb
    polynomials = circuit.padded_columns * 2 * weights  # the model made ready
    if columns > 1:
        polynomials += columns * 2 * weights  # its columns one by one, each thread with a mask for each of them
        polynomials += threads * columns * weights
    # Each thread's ciphertext: read, expanded, rotated for each column, and its product of three polynomials.
    polynomials += threads * (4 * (circuit.top + 1) + (2 * circuit.padded_columns + 3) * weights)
    return int(BASE_MEMORY + keys + at_work + polynomials * limb)


def forecast(task: PublicTask, images: int, queries: int, speed: Speed, threads: int) -> Cost:
    """Seconds, bytes and key switches for `images` training images and `queries` queries."""
    circuit, p = task.circuit, task.parameters
    ciphertexts, asked = circuit.layout.ciphertexts(images), circuit.layout.ciphertexts(queries)
    packed, expanded = _key_bytes(circuit)
    training = training_memory(task, images, threads)

    def fresh(size: float) -> float:
        return size / (8 * p.ring_dimension) * speed.touch  # the threads of a process wait for each other here

    def reading(packed_read: int, expanded_read: int) -> float:
        # The whole file is hashed. A key that is read is unpacked and its seed expanded as an image is.
        unpacking = packed_read / p.ciphertext_bytes(circuit.top, 1) * speed.expand / speed.parallel
        return speed.start + packed / HASHING + unpacking + fresh(expanded_read)

    # Each page is new to the process once: what is freed is used again.
    working = fresh(training - BASE_MEMORY - expanded)
    upload = sum(row_bytes(task, True))
    return Cost(
        p.ring_dimension,
        circuit.top,
        p.security_margin_bits,
        images,
        queries,
        count_key_switches(circuit, ciphertexts).total,
        reading(packed, expanded)
        + working
        + ciphertexts * upload / HASHING
        + _train_seconds(circuit, ciphertexts, speed),
        reading(*_key_bytes(circuit, circuit.score_requests()))
        + asked * upload / HASHING
        + _classify_seconds(circuit, asked, speed),
        max(training, classifying_memory(task, threads)),
        packed,
        upload / circuit.layout.images,
        score_bytes(task) / circuit.layout.images,
    )
