"""Whether a result is what its inputs give: part by part for the explanation, byte by byte for the verdict."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cipherlens.learning.results import Packed, Reply, TrainedModel
from cipherlens.wire.disk import file_sha256


@dataclass(frozen=True)
class Verdict:
    """The outcome of a comparison.

    Attributes:
        identical: whether every byte of the file agrees.
        differing: which parts do not.
        sha256, recomputed_sha256: of the file and of the one computed again, 64 hexadecimal digits.
    """

    identical: bool
    differing: tuple[str, ...]
    sha256: str
    recomputed_sha256: str


def compare(path: Path, claimed: Reply | TrainedModel, again: Reply | TrainedModel) -> Verdict:
    """Compare a file, already loaded as `claimed`, with what was computed again."""
    differing = [name for name, equal in _parts(claimed, again).items() if not equal]
    with tempfile.TemporaryDirectory(prefix="cipherlens-") as folder:
        copy = Path(folder) / "again.cl"
        again.save(copy)
        digests = file_sha256(path), file_sha256(copy)
    identical = digests[0] == digests[1]
    if not identical and not differing:
        differing.append("header")
    return Verdict(identical, tuple(differing), *digests)


def _parts(claimed: Reply | TrainedModel, again: Reply | TrainedModel) -> dict[str, bool]:
    parts = {
        "task": claimed.task.id == again.task.id,
        "key": claimed.key_id == again.key_id,
        "counts": np.array_equal(claimed.counts, again.counts),
        **_tables(claimed.tables, again.tables),
    }
    if isinstance(claimed, Reply) and isinstance(again, Reply):
        parts["images"] = claimed.images == again.images
        parts["scores"] = np.array_equal(claimed.scores, again.scores)
        parts["names"] = claimed.names == again.names
    return parts


def _tables(claimed: Mapping[str, Packed], again: Mapping[str, Packed]) -> dict[str, bool]:
    names = sorted(set(claimed) | set(again))
    return {name: name in claimed and name in again and np.array_equal(claimed[name], again[name]) for name in names}
