"""Taking stored ciphertexts to an owner's new secret key: the server's side. Nothing is decrypted on the way."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace

from cipherlens.errors import KeyMismatch
from cipherlens.learning.encrypted_images import EncryptedImages, Row, row_bytes, write_images
from cipherlens.learning.results import TrainedModel, table_levels
from cipherlens.learning.task import PublicTask
from cipherlens.learning.training import Progress
from cipherlens.scheme.engine import Engine, usable_cores
from cipherlens.scheme.evaluator import Evaluator
from cipherlens.scheme.keys import KeyChange
from cipherlens.wire.packed import pack_ciphertext, unpack_ciphertext


def switch_images(
    data: EncryptedImages,
    change: KeyChange,
    *,
    path: str | os.PathLike[str] | None = None,
    threads: int | None = None,
    progress: Progress | None = None,
    engine: Engine | None = None,
) -> EncryptedImages | None:
    """The same images under the new key: into a file, a few ciphertexts at a time, or into memory when no path is given.

    Labels and sealed names stay as they are. Seeds do not survive: both halves are stored, twice the size of images
    that the secret key encrypted. Each ciphertext bears the noise of one rotation more. Arguments as for `train`; the
    same inputs give the same bytes on every machine and with any number of threads.

    Raises:
        KeyMismatch: the switching key is for another old key or ring, or for lower levels.
        FormatError: a ciphertext that is not one.
    """
    _check(data.task, data.key_id, change, data.task.circuit.top)
    rows = _rows(
        data, change, Evaluator(engine or Engine(data.task.parameters), None, threads or usable_cores()), progress
    )
    if path is not None:
        write_images(path, data.task, change.key_id, data.images, False, data.labels, data.names, rows)
        return None
    return replace(data, key_id=change.key_id, seeded=False, rows=list(rows))


def switch_model(
    model: TrainedModel, change: KeyChange, *, threads: int | None = None, engine: Engine | None = None
) -> TrainedModel:
    """The same model under the new key, each table at its own level. Raises as `switch_images`."""
    levels = table_levels(model.task, lowered=False)
    _check(model.task, model.key_id, change, max(levels.values()))
    evaluator = Evaluator(engine or Engine(model.task.parameters), None, threads or usable_cores())
    tables = {}
    for name, level in levels.items():
        # A key switch leaves the scale alone, whatever it is.
        old = unpack_ciphertext(evaluator.engine, model.tables[name], 2, level + 1, 1.0)
        tables[name] = pack_ciphertext(evaluator.engine, evaluator.change_key(old, change))
    return replace(model, key_id=change.key_id, tables=tables)


def _check(task: PublicTask, key_id: str, change: KeyChange, level: int) -> None:
    if change.old_key_id != key_id:
        raise KeyMismatch("the switching key leads from another key pair than the one that this data is under")
    if change.parameters.id != task.parameters.id or change.level < level:
        raise KeyMismatch("the switching key was made for other parameters or levels; rotate the keys of this task")


def _rows(data: EncryptedImages, change: KeyChange, evaluator: Evaluator, progress: Progress | None) -> Iterator[Row]:
    half, count = row_bytes(data.task, seeded=False)[0], len(data.rows)

    def switched(single: Evaluator, index: int) -> Row:
        ciphertext = single.change_key(data.batch(single.engine, index).ciphertext, change)
        packed = pack_ciphertext(single.engine, ciphertext)
        return packed[:half], packed[half:]

    for start in range(0, count, evaluator.threads):  # so that only so many are in memory
        group = range(start, min(start + evaluator.threads, count))
        yield from evaluator.map(switched, group)
        if progress is not None:
            progress("switching", group.stop / count)
