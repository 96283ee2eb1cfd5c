"""What each kind of file holds: lines for people, facts for programs, and where its packed residues lie."""

from __future__ import annotations

import stat
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from cipherlens.cli.output import plural, size
from cipherlens.learning.encrypted_images import EncryptedImages
from cipherlens.learning.results import Reply, TrainedModel, table_levels
from cipherlens.learning.task import PublicTask
from cipherlens.scheme.parameters import Parameters
from cipherlens.wire.container import Kind, Reader, header_bool, header_hex
from cipherlens.wire.key_change import check_key_change
from cipherlens.wire.keys import list_evaluation_keys, read_public_key

Lines = list[tuple[str, str]]


@dataclass(frozen=True)
class Packed:
    """Rows of packed residues, read when they are checked.

    Attributes:
        prime_indices: the prime of each limb of a row.
        rows: how many there are.
        read: gives them, uint8 each.
    """

    prime_indices: Sequence[int]
    rows: int
    read: Callable[[], Iterable[NDArray[Any]]]


@dataclass(frozen=True)
class Contents:
    """A file, its outer shape and header already checked.

    Attributes:
        kind: what it holds.
        parameters: its ring, inside the security table.
        lines: names and values for people.
        facts: the same for programs.
        packed: everything packed in it.
    """

    kind: Kind
    parameters: Parameters
    lines: Lines
    facts: dict[str, object]
    packed: list[Packed]


def read_contents(path: Path) -> Contents:
    """Open a file of any kind.

    Raises:
        InputError: there is no such file.
        FormatError, SecurityError: it is none of Cipherlens, damaged, or above the security table.
    """
    with Reader.open(path, None, verify=False) as reader:
        kind = reader.kind
    readers: dict[Kind, Callable[[Path], Contents]] = {
        Kind.TASK: _task,
        Kind.PUBLIC_TASK: _task,
        Kind.SECRET_KEY: _secret_key,
        Kind.PUBLIC_KEY: _public_key,
        Kind.EVALUATION_KEYS: _evaluation_keys,
        Kind.SWITCHING_KEY: _switching_key,
        Kind.IMAGES: _images,
        Kind.MODEL: _model,
        Kind.REPLY: _reply,
    }
    return readers[kind](path)


def _of_task(task: PublicTask) -> tuple[Lines, dict[str, object]]:
    spec = task.spec
    solve = f", ridge {spec.ridge:g}, {spec.steps} steps, eigenvalues up to {spec.upper:.3g}" if spec.solves else ""
    lines = [
        ("learner", f"{spec.kind}, {plural(spec.classes, 'class')}, {spec.dimension} columns{solve}"),
        ("task", task.id),
    ]
    return lines, {"task_id": task.id, "learner": asdict(spec)}


def _of_counts(counts: Iterable[int]) -> tuple[str, str]:
    return ("trained on", ", ".join(f"{plural(n, 'image')} of class {c}" for c, n in enumerate(counts)))


def _task(path: Path) -> Contents:
    with Reader.open(path, (Kind.TASK, Kind.PUBLIC_TASK)) as reader:
        task = PublicTask.from_dict(reader.header.get("task"))
        kind = reader.kind
    lines, facts = _of_task(task)
    if kind is Kind.TASK:
        lines.append(("private", "feature map and class names, for the owner and contributors; not for the server"))
    return Contents(kind, task.parameters, lines, facts, [])


def _secret_key(path: Path) -> Contents:
    with Reader.open(path, Kind.SECRET_KEY) as reader:
        task = PublicTask.from_dict(reader.header.get("task"))
        key_id, wrapped = header_hex(reader.header, "key_id", 32), header_bool(reader.header, "wrapped")
    lines, facts = _of_task(task)
    mode = stat.S_IMODE(path.stat().st_mode)
    others = "readable to its owner alone" if not mode & 0o077 else "readable to OTHERS on this machine"
    guarded = "protected by a passphrase" if wrapped else "NOT protected by a passphrase"
    lines += [("key", key_id), ("file", f"{guarded}; mode {mode:04o}, {others}")]
    return Contents(
        Kind.SECRET_KEY,
        task.parameters,
        lines,
        {**facts, "key_id": key_id, "passphrase": wrapped, "mode": f"{mode:04o}"},
        [],
    )


def _public_key(path: Path) -> Contents:
    key, sealing = read_public_key(path)
    p = key.parameters
    indices = range(len(p.primes) + len(p.special_primes))

    def half() -> Iterable[NDArray[Any]]:
        with Reader.open(path, Kind.PUBLIC_KEY, verify=False) as reader:
            return [reader.read("half")]

    lines = [("key", key.key_id), ("sealing key", sealing.hex())]
    facts: dict[str, object] = {"key_id": key.key_id, "sealing_key": sealing.hex()}
    return Contents(Kind.PUBLIC_KEY, p, lines, facts, [Packed(indices, 1, half)])


def _evaluation_keys(path: Path) -> Contents:
    listing = list_evaluation_keys(path)
    p = listing.parameters
    chain = len(p.primes)
    special = range(chain, chain + len(p.special_primes))

    def rows(number: int) -> Iterable[NDArray[Any]]:
        with Reader.open(path, Kind.EVALUATION_KEYS, verify=False) as reader:
            yield from reader.read(f"key.{number}")

    packed = [
        Packed([*range(level + 1), *special], p.digits(level + 1), partial(rows, number))
        for number, level in listing.levels.items()
    ]
    by_level: dict[int, int] = {}
    for level in listing.levels.values():
        by_level[level] = by_level.get(level, 0) + 1
    said = ", ".join(f"{count} to level {level}" for level, count in sorted(by_level.items(), reverse=True))
    relinearisation = "relinearisation and " if 0 in listing.levels else ""
    automorphisms = len(listing.levels) - (0 in listing.levels)
    lines = [
        ("key", listing.key_id),
        ("keys", f"{relinearisation}{plural(automorphisms, 'automorphism')}: {said}"),
    ]
    facts: dict[str, object] = {"key_id": listing.key_id, "keys": {str(n): v for n, v in listing.levels.items()}}
    return Contents(Kind.EVALUATION_KEYS, p, lines, facts, packed)


def _switching_key(path: Path) -> Contents:
    with Reader.open(path, Kind.SWITCHING_KEY) as reader:
        about = check_key_change(reader)
    p, chain = about.parameters, len(about.parameters.primes)

    def rows() -> Iterable[NDArray[Any]]:
        with Reader.open(path, Kind.SWITCHING_KEY, verify=False) as reader:
            yield from reader.read("key")

    indices = [*range(about.level + 1), *range(chain, chain + len(p.special_primes))]
    lines = [
        ("from key", about.old_key_id),
        ("to key", about.key_id),
        ("level", f"{about.level} and below"),
        ("secrecy", "with the new secret key it gives the old one; delete it once everything is switched"),
    ]
    facts: dict[str, object] = {"old_key_id": about.old_key_id, "key_id": about.key_id, "level": about.level}
    return Contents(Kind.SWITCHING_KEY, p, lines, facts, [Packed(indices, p.digits(about.level + 1), rows)])


def _images(path: Path) -> Contents:
    images = EncryptedImages.load(path)
    lines, facts = _of_task(images.task)
    indices = range(images.task.circuit.top + 1)

    def row(index: int) -> Iterable[NDArray[Any]]:
        message, other = images.rows[index]
        return [message] if images.seeded else [message, other]

    packed = [Packed(indices, 1 if images.seeded else 2, partial(row, i)) for i in range(len(images.rows))]
    made = "made with the owner's secret key" if images.seeded else "made with the public key, or switched to this key"
    lines += [
        ("key", images.key_id),
        ("images", f"{plural(len(images), 'image')} in {plural(len(images.rows), 'ciphertext')}, {made}"),
        ("level", f"{images.task.circuit.top}, {size(images.nbytes)} of ciphertexts and sealed names"),
    ]
    labels = None
    if images.labels is not None:
        labels = images.counts().tolist()
        lines.append(("in the clear", ", ".join(f"{plural(n, 'label')} {c}" for c, n in enumerate(labels))))
    else:
        lines.append(("in the clear", "no labels"))
    facts |= {
        "key_id": images.key_id,
        "images": len(images),
        "ciphertexts": len(images.rows),
        "seeded": images.seeded,
        "labels": labels,
        "level": images.task.circuit.top,
    }
    return Contents(Kind.IMAGES, images.task.parameters, lines, facts, packed)


def _tables(
    task: PublicTask, tables: Mapping[str, NDArray[Any]], lowered: bool
) -> tuple[Lines, dict[str, int], list[Packed]]:
    levels = table_levels(task, lowered=lowered)

    def table(name: str) -> Iterable[NDArray[Any]]:
        return [tables[name]]

    packed = [Packed(list(range(level + 1)) * 2, 1, partial(table, name)) for name, level in levels.items()]
    return [("tables", ", ".join(f"{name} at level {level}" for name, level in levels.items()))], levels, packed


def _model(path: Path) -> Contents:
    model = TrainedModel.load(path)
    lines, facts = _of_task(model.task)
    counts = model.counts.tolist()
    said, levels, packed = _tables(model.task, model.tables, lowered=False)
    lines += [("key", model.key_id), _of_counts(counts), *said]
    facts |= {"key_id": model.key_id, "counts": counts, "levels": levels}
    return Contents(Kind.MODEL, model.task.parameters, lines, facts, packed)


def _reply(path: Path) -> Contents:
    reply = Reply.load(path)
    lines, facts = _of_task(reply.task)
    counts = reply.counts.tolist()
    said, levels, packed = _tables(reply.task, reply.tables, lowered=True)
    level = reply.task.circuit.score_level
    packed.append(Packed(list(range(level + 1)) * 2, len(reply.scores), lambda: reply.scores))
    lines += [
        ("key", reply.key_id),
        (
            "images",
            f"scores of {plural(reply.images, 'image')} in {plural(len(reply.scores), 'ciphertext')} at level {level}",
        ),
        _of_counts(counts),
        *said,
    ]
    facts |= {"key_id": reply.key_id, "counts": counts, "images": reply.images, "levels": {**levels, "scores": level}}
    return Contents(Kind.REPLY, reply.task.parameters, lines, facts, packed)
