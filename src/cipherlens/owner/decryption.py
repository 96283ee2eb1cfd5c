"""Reading replies and models: only the key's owner can, and nothing that comes out here goes back to the server.

The level, scale and layout of everything decrypted come from the owner's own task; a file's header is believed in
nothing but the number of its images and the training images of each class.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from cipherlens.errors import FormatError, KeyMismatch
from cipherlens.learning.classifying import read_scores
from cipherlens.learning.residual import check_model, check_scores
from cipherlens.learning.results import Packed, Reply, TrainedModel, score_bytes, table_levels
from cipherlens.learning.task import PublicTask
from cipherlens.learning.twin import ClearModel, decide, finish
from cipherlens.owner.sealed import unseal_any
from cipherlens.owner.secret_key import SecretKey
from cipherlens.planning.task import PrivateNotes
from cipherlens.wire.fields import LARGEST_JSON_ITEMS, parse_json
from cipherlens.wire.packed import unpack_ciphertext

Floats = NDArray[np.float64]

NOISE = 2.0**-14
"""Standard deviation, generously, of a decrypted table's values: 2^-17.4 was measured at N = 2^14 with two classes."""


SHOWN = 20
"""Answers that a notebook shows."""


@dataclass(frozen=True, eq=False)
class Answers:
    """A decrypted reply.

    Attributes:
        files: names of the images, as the one who encrypted them gave them.
        classes: names of the classes.
        numbers: int64 (n,), the predicted class numbers.
        scores: float64 (n, k), the larger the likelier; two classes have a column each, one the negative of the other.
        model: the model's tables in the clear.
    """

    files: tuple[str, ...]
    classes: tuple[str, ...]
    numbers: NDArray[np.int64]
    scores: Floats
    model: ClearModel

    @property
    def labels(self) -> list[str]:
        """The predicted class of each image by name."""
        return [self.classes[number] for number in self.numbers]

    def __repr__(self) -> str:
        return f"Answers({len(self.files)} images, {len(self.classes)} classes)"

    def _repr_html_(self) -> str:
        """The first answers as a table: for the owner's own notebook."""
        head = "".join(f"<th>{escape(name)}</th>" for name in ("file", "prediction", *self.classes))
        rows = "".join(
            f"<tr><td>{escape(file)}</td><td>{escape(label)}</td>"
            + "".join(f"<td>{score:.3f}</td>" for score in scores)
            + "</tr>"
            for file, label, scores in islice(zip(self.files, self.labels, self.scores, strict=True), SHOWN)
        )
        return f"<p>{escape(repr(self))}</p><table><tr>{head}</tr>{rows}</table>"


def check_origin(what: str, task: PublicTask, key_id: str, own: PublicTask, own_key: str) -> None:
    """Raise KeyMismatch unless a file belongs to the owner's task and key."""
    if key_id != own_key:
        raise KeyMismatch(f"{what} is under another key; use the keys that its images were encrypted with")
    if task.id != own.id and task.origin == own.origin:
        raise KeyMismatch(f"{what} is of another recipe than the one that was stated; state the one you asked for")
    if task.id != own.id:
        raise KeyMismatch(f"{what} belongs to another task than these keys; use the keys that were made for its task")


def decrypt_model(
    secret: SecretKey, task: PublicTask, notes: PrivateNotes, tables: Mapping[str, Packed],
    counts: NDArray[np.int64], *, lowered: bool,
) -> ClearModel:  # fmt: skip
    """The model's tables in the clear, after every check of `cipherlens.learning.residual`.

    Raises:
        RangeError: the solve left its planned range and the model is worthless, or `lowered` and its scores may.
        FormatError: a table is not a ciphertext of the task's size.
    """
    circuit, spec = task.circuit, task.spec
    scales = {
        "weights": circuit.weight_scale,
        "right_hand_side": circuit.target_scale,
        "residual": circuit.residual_scale,
        "centres": circuit.target_scale,
    }
    levels = table_levels(task, lowered=lowered)
    if set(tables) != set(levels):
        raise FormatError("the model does not hold the tables of its learner")
    clear: dict[str, Floats] = {}
    for name, level in levels.items():
        ciphertext = unpack_ciphertext(secret.engine, tables[name], 2, level + 1, scales[name])
        slots = circuit.layout.table(secret.decrypt(ciphertext))
        clear[name] = np.ascontiguousarray(slots[:, : spec.columns].real)
    residual = clear["residual"] / spec.schedule.gram if spec.solves else np.zeros_like(clear["weights"])
    model = finish(spec, counts, clear["weights"], clear["right_hand_side"], residual, clear.get("centres"))
    check_model(model, counts, notes.moments, notes.signal, noise=NOISE)
    if lowered:  # a reply's: its scores were computed with these weights
        check_scores(spec, clear["weights"], clear["right_hand_side"], clear.get("centres"), circuit.largest_score)
    return model


def decrypt_reply(
    secret: SecretKey, sealing_keys: Sequence[bytes], task: PublicTask, notes: PrivateNotes, reply: Reply
) -> Answers:
    """Scores and predictions, after the model's checks.

    sealing_keys: the owner's X25519 private keys, 32 bytes each. Raises KeyMismatch, FormatError and RangeError.
    """
    check_origin("this reply", reply.task, reply.key_id, task, secret.key_id)
    model = decrypt_model(secret, task, notes, reply.tables, reply.counts, lowered=True)
    circuit = task.circuit
    count = circuit.layout.ciphertexts(reply.images)
    if reply.scores.shape != (count, score_bytes(task)):
        raise FormatError(f"the reply does not hold the scores of its {reply.images} images")
    blocks = []
    for packed in reply.scores:
        ciphertext = unpack_ciphertext(secret.engine, packed, 2, circuit.score_level + 1, circuit.score_scale)
        blocks.append(read_scores(circuit, secret.decrypt(ciphertext)))
    scores = model.finish_scores(np.concatenate(blocks)[: reply.images])
    files = read_names(unseal_any(sealing_keys, reply.names), reply.images)
    shown = np.concatenate([-scores, scores], axis=1) if scores.shape[1] == 1 else scores
    return Answers(files, notes.classes, decide(scores), shown, model)


def read_names(text: bytes, images: int) -> tuple[str, ...]:
    """Unsealed names. Raises FormatError unless there is one for each image."""
    # Names may hold commas and brackets: what counts against the limit is any of them.
    names = parse_json(text, "the sealed names", most=max(LARGEST_JSON_ITEMS, len(text)))
    found = [name for name in names if isinstance(name, str)] if isinstance(names, list) else []
    if not isinstance(names, list) or len(names) != images or len(found) != images:
        raise FormatError(f"the sealed names are not those of {images} images")
    return tuple(found)


def open_model(secret: SecretKey, task: PublicTask, notes: PrivateNotes, model: TrainedModel) -> ClearModel:
    """A trained model in the clear. Raises KeyMismatch, FormatError and RangeError."""
    check_origin("this model", model.task, model.key_id, task, secret.key_id)
    return decrypt_model(secret, task, notes, model.tables, model.counts, lowered=False)
