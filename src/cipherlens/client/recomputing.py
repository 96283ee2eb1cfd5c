"""What an owner does with a submission before anything of it is decrypted: compute it again, from files of its own."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from cipherlens.client.transfer import Progress
from cipherlens.errors import SecurityError
from cipherlens.learning.encrypted_images import EncryptedImages
from cipherlens.learning.recipes import Recipe
from cipherlens.learning.results import Reply, TrainedModel
from cipherlens.scheme.engine import Engine
from cipherlens.scheme.keys import EvaluationKeys
from cipherlens.server import classify, train
from cipherlens.server.comparing import compare


@dataclass(frozen=True, eq=False)
class Recomputed:
    """A submission whose reply was computed again, byte for byte: what `release` asks for.

    `PublishingConnection.recompute` makes it, and nothing else should.

    Attributes:
        publication_id, number: of the submission.
        recipe: which it is trained by; `Keys.decrypt` takes it beside the reply.
        reply: as it was computed here.
    """

    publication_id: str
    number: int
    recipe: Recipe
    reply: Reply


def recompute(
    recipe: Recipe,
    data: Sequence[EncryptedImages],
    holdout: EncryptedImages,
    keys: EvaluationKeys,
    fetch_model: Callable[[Path], bool],
    fetch_reply: Callable[[Path], bool],
    *,
    threads: int | None = None,
    progress: Progress | None = None,
) -> Reply:
    """Train by the recipe and classify the hold-out, here, and compare both results with the server's.

    data, holdout, keys: the owner's own copies, never those of the server. fetch_model, fetch_reply: write the server's
    file to a path; False when the server has none any more. Without its model, which a trainer may delete, the reply is
    still compared, with one of a model computed here.

    Raises:
        SecurityError: a result differs in any byte, so that decrypting it could give the secret key away.
        PlanError, KeyMismatch, InputError, FormatError: as `cipherlens.server.train`.
    """
    report: Progress = progress or (lambda stage, share: None)
    engine = Engine(data[0].task.parameters)
    model = train(
        data, keys, threads=threads, engine=engine, recipe=recipe,
        progress=lambda stage, share: report(f"training again, {stage}", share),
    )  # fmt: skip
    reply = classify(
        model, holdout, keys, threads=threads, engine=engine,
        progress=lambda _, share: report("classifying again", share),
    )  # fmt: skip
    with tempfile.TemporaryDirectory(prefix="cipherlens-") as folder:
        path = Path(folder) / "model.cl"
        if fetch_model(path):
            _require_same("model", path, TrainedModel.load(path), model)
        path = Path(folder) / "reply.cl"
        if not fetch_reply(path):
            raise SecurityError("the server has no reply of this submission any more, so there is nothing to vouch for")
        _require_same("reply", path, Reply.load(path), reply)
    return reply


def _require_same(what: str, path: Path, claimed: Reply | TrainedModel, again: Reply | TrainedModel) -> None:
    verdict = compare(path, claimed, again)
    if not verdict.identical:
        raise SecurityError(
            f"the server's {what} is not what your data, hold-out and keys give ({', '.join(verdict.differing)}); do not "
            "decrypt its reply and release nothing: check that the files are those you published, else do not trust the "
            "server"
        )
