"""Publishing to trainers: an owner publishes, trainers submit recipes, the owner releases scores.

Of everything that an owner decrypts, one number may leave: the share of right answers on the hold-out, rounded to whole
percents, and only of a submission that was recomputed here first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cipherlens.client.connection import (
    MOST_ATTEMPTS,
    POLL_SECONDS,
    Connection,
    FilePath,
    Images,
    KeysLike,
    Labelled,
    check_id,
)
from cipherlens.client.jobs import idempotency_key, read_number, read_sentence
from cipherlens.client.recomputing import Recomputed, recompute
from cipherlens.client.transfer import Progress, RemoteFile, find, read_id
from cipherlens.errors import CipherlensError, InputError, ServerError
from cipherlens.learning.encrypted_images import EncryptedImages
from cipherlens.learning.recipes import Envelope, Recipe
from cipherlens.scheme.engine import Engine
from cipherlens.scheme.keys import EvaluationKeys
from cipherlens.wire.keys import read_evaluation_keys

UNDER_WAY = ("training", "evaluating")
STATES = (*UNDER_WAY, "evaluated", "failed", "cancelled")
MOST_NUMBER = 10**9


@dataclass(frozen=True)
class Publication:
    """A published data set, as the server describes it.

    Attributes:
        id: 32 hexadecimal digits.
        classes, images, holdout_images: sizes.
        envelope: the recipes that it allows.
        trainers: names, all for the owner, a trainer's own for the trainer.
        submissions_each: how many submissions a trainer has.
        withdrawn: whether it takes none any more.
    """

    id: str
    classes: int
    images: int
    holdout_images: int
    envelope: Envelope
    trainers: tuple[str, ...]
    submissions_each: int
    withdrawn: bool

    @classmethod
    def read(cls, values: Mapping[str, Any]) -> Publication:
        """A publication from a server's answer. Raises ServerError when it is none."""
        bounds, names = values.get("envelope"), values.get("trainers")
        if not isinstance(bounds, dict) or not isinstance(names, list) or not all(isinstance(n, str) for n in names):
            raise _no("publication")
        learners = bounds.get("learners")
        if not isinstance(learners, list) or not all(isinstance(name, str) for name in learners):
            raise _no("publication")
        ridge = read_number(bounds.get("least_ridge")), read_number(bounds.get("most_ridge"))
        if ridge[0] is None or ridge[1] is None:
            raise _no("publication")
        steps = _whole(bounds, "least_steps"), _whole(bounds, "most_steps")
        return cls(
            read_id(values, "publication_id"), _whole(values, "classes"), _whole(values, "images"),
            _whole(values, "holdout_images"), Envelope(tuple(learners), steps, (ridge[0], ridge[1])),
            tuple(_line(name) for name in names), _whole(values, "submissions_each"), values.get("withdrawn") is not None,
        )  # fmt: skip


@dataclass(frozen=True)
class Submission:
    """A trainer's recipe and what became of it.

    Attributes:
        publication_id, number: which it is.
        trainer: who made it.
        recipe: what was asked for.
        state: training, evaluating, evaluated, failed or cancelled.
        progress: of what is under way, 0 to 1.
        error: why it failed, one sentence.
        model_id: of the encrypted model, a file of the trainer's; None before it is there and after it is deleted.
        reply_id: of the encrypted reply, for the owner alone.
        score: percent, None while it is not released.
    """

    publication_id: str
    number: int
    trainer: str
    recipe: Recipe
    state: str
    progress: float
    error: str | None
    model_id: str | None
    reply_id: str | None
    score: int | None

    @classmethod
    def read(cls, values: Mapping[str, Any]) -> Submission:
        """A submission from a server's answer. Raises ServerError when it is none."""
        state = values.get("state")
        if state not in STATES:
            raise _no("submission")
        model, reply = (
            read_id(values, name) if values.get(name) is not None else None
            for name in ("model_file_id", "reply_file_id")
        )
        return cls(
            read_id(values, "publication_id"), _whole(values, "number"), _line(values.get("trainer")), _recipe(values),
            str(state), min(read_number(values.get("progress")) or 0.0, 1.0), read_sentence(values.get("error")), model,
            reply, _score(values),
        )  # fmt: skip


@dataclass(frozen=True)
class ScoreboardRow:
    """A submission on the scoreboard; score: percent, None while it is not released."""

    number: int
    trainer: str
    recipe: Recipe
    score: int | None


class PublishingConnection(Connection):
    """A connection that also publishes, submits and releases. Made by `cipherlens.connect`."""

    # ---- the owner's ---------------------------------------------------------------------------------------------

    def publish(
        self,
        data: Labelled,
        keys: KeysLike,
        holdout: Images,
        *,
        trainers: Sequence[str],
        submissions_each: int,
        envelope: Envelope | None = None,
        progress: Progress | None = None,
    ) -> Publication:
        """Publish a labelled data set to trainers; the same again is the same publication, until it is withdrawn.

        Args:
            data: labelled images, in one part or several, or a `DataSet` of the server with exactly the files that it
                has now; what is uploaded already is not sent again.
            keys: the evaluation keys that submissions are trained with.
            holdout: unlabelled images of yours, which every submission is evaluated on.
            trainers: names of the tenants that the provider may give trainers' tokens for it.
            submissions_each: how many submissions each of them has, for ever.
            envelope: the recipes to allow; by default all that the keys carry, with a ridge around the planned one.
            progress: called with a stage and the share of it that is done.
        """
        sets = self._parts(data)
        if not sets:
            raise InputError("a publication needs labelled images; give at least one file of them")
        key_file = self.upload_keys(keys, progress=progress)
        files = [self.upload(images, progress=progress) for images in sets]
        held_out = self.upload(holdout, progress=progress)
        wanted: dict[str, object] = {"trainers": list(trainers), "submissions_each": submissions_each}
        if envelope is not None:
            wanted["envelope"] = {
                "learners": list(envelope.learners), "least_steps": envelope.steps[0], "most_steps": envelope.steps[1],
                "least_ridge": envelope.ridge[0], "most_ridge": envelope.ridge[1],
            }  # fmt: skip
        inputs = {
            **wanted, "data": [file.sha256 for file in files], "keys": key_file.sha256, "holdout": held_out.sha256,
        }  # fmt: skip
        body = {
            **wanted, "dataset_id": self._fixed_set("publish", files), "keys_file_id": key_file.id,
            "holdout_file_id": held_out.id,
        }  # fmt: skip
        for attempt in range(MOST_ATTEMPTS):
            key = idempotency_key("publication", inputs, attempt)
            made = self._http.json("POST", "/v1/publications", body, idempotent=True, key=key, expected=(409,))
            if made is not None and not (publication := Publication.read(made)).withdrawn:
                return publication
        raise ServerError(f"these images were published and withdrawn {MOST_ATTEMPTS} times; ask the provider for help")

    def withdraw(self, publication: str) -> None:
        """Take no more submissions; what was submitted and released stays."""
        self._http.json("DELETE", _path(publication), idempotent=True)

    def recompute(
        self,
        submission: Submission,
        data: EncryptedImages | FilePath | Sequence[EncryptedImages | FilePath],
        keys: EvaluationKeys | FilePath,
        holdout: EncryptedImages | FilePath,
        *,
        threads: int | None = None,
        progress: Progress | None = None,
    ) -> Recomputed:
        """Compute a submission's model and reply again on this machine, and compare every byte with the server's.

        data, keys, holdout: your own copies of what was published; files of the server are refused. Needs no secret
        key, so another machine than the one that holds it may do it.

        Raises SecurityError when anything differs: then decrypt nothing of it.
        """
        sets = list(data) if isinstance(data, Sequence) and not isinstance(data, str) else [data]
        if not sets or any(isinstance(own, RemoteFile) for own in (*sets, keys, holdout)):
            raise InputError("recomputing takes your own copies of data, keys and hold-out, never the server's")
        if submission.reply_id is None:
            raise InputError(f"submission {submission.number} is {submission.state}, and has no reply to recompute")
        own = [_images(images) for images in sets]
        if not isinstance(keys, EvaluationKeys):
            circuit = submission.recipe.applied(own[0].task).circuit
            keys = read_evaluation_keys(keys, Engine(circuit.parameters), circuit.key_requests(), threads=threads)
        reply = recompute(
            submission.recipe, own, _images(holdout), keys, self._fetching(submission.model_id),
            self._fetching(submission.reply_id), threads=threads, progress=progress,
        )  # fmt: skip
        return Recomputed(submission.publication_id, submission.number, submission.recipe, reply)

    def release(self, recomputed: Recomputed, accuracy: float) -> Submission:
        """Release a submission's score to the scoreboard, once: the accuracy, rounded to whole percents.

        recomputed: what `recompute` gave. accuracy: share of right answers, 0 to 1, of what `Keys.decrypt` made of
        `recomputed.reply` with `recomputed.recipe`. The rounded number is all that is sent.
        """
        if not isinstance(recomputed, Recomputed):
            raise InputError("a score is released of a recomputed submission alone; call `recompute` first")
        if not 0 <= accuracy <= 1:  # false for NaN as well
            raise InputError("an accuracy is a share from 0 to 1")
        body = {"percent": int(100 * accuracy + 0.5)}
        path = f"{_path(recomputed.publication_id)}/submissions/{recomputed.number}/score"
        return Submission.read(self._http.json("POST", path, body, idempotent=True) or {})

    # ---- the trainers' -------------------------------------------------------------------------------------------

    def submit(self, publication: str, recipe: Recipe) -> Submission:
        """Have a recipe trained and evaluated. The same recipe again is the same submission and counts once."""
        body = {"learner": recipe.learner, "steps": recipe.steps, "ridge": recipe.ridge}
        return Submission.read(
            self._http.json("POST", f"{_path(publication)}/submissions", body, idempotent=True) or {}
        )

    def watch_submission(self, submission: Submission) -> Iterator[Submission]:
        """The submission whenever it has moved, until nothing more will happen."""
        last: Submission | None = None
        while True:
            seen = self.submission(submission.publication_id, submission.number)
            if seen != last:
                last = seen
                yield seen
            if seen.state not in UNDER_WAY:
                return
            self._http.pause(POLL_SECONDS)

    def wait_submission(self, submission: Submission, *, progress: Progress | None = None) -> Submission:
        """Watch a submission until it is evaluated. Raises ServerError when it never will be."""
        last = submission
        for last in self.watch_submission(submission):
            if progress is not None:
                progress(last.state, last.progress)
        if last.state != "evaluated":
            why = f": {last.error}" if last.error else ""
            raise ServerError(f"submission {last.number} {last.state}{why}; submitting it again goes on with it")
        return last

    # ---- both ----------------------------------------------------------------------------------------------------

    def publications(self) -> list[Publication]:
        """The owner's publications, newest first; for a trainer its own one."""
        return [Publication.read(values) for values in self._list("/v1/publications", "publications")]

    def submissions(self, publication: str) -> list[Submission]:
        """All submissions for the owner, a trainer's own for the trainer."""
        return [Submission.read(v) for v in self._list(f"{_path(publication)}/submissions", "submissions")]

    def submission(self, publication: str, number: int) -> Submission:
        """One submission, as it is now."""
        path = f"{_path(publication)}/submissions/{int(number)}"
        return Submission.read(self._http.json("GET", path, idempotent=True) or {})

    def scoreboard(self, publication: str) -> list[ScoreboardRow]:
        """All submissions by their numbers, and the scores that the owner released."""
        rows = self._list(f"{_path(publication)}/scoreboard", "rows")
        return [ScoreboardRow(_whole(v, "number"), _line(v.get("trainer")), _recipe(v), _score(v)) for v in rows]

    def download_model(self, submission: Submission, path: FilePath, *, progress: Progress | None = None) -> None:
        """Fetch a submission's encrypted model, as its trainer or as the owner."""
        file = None if submission.model_id is None else find(self._http, submission.model_id)
        if file is None:
            raise ServerError(f"the server has no model of submission {submission.number}, or not any more")
        self.download(file, path, progress=progress)

    def delete_model(self, submission: Submission) -> None:
        """Delete a trainer's encrypted model; the submission stays, and counts."""
        if submission.model_id is not None:
            self._http.json("DELETE", f"/v1/files/{submission.model_id}", idempotent=True, expected=(404,))

    # ---- inside --------------------------------------------------------------------------------------------------

    def _fetching(self, file_id: str | None) -> Callable[[Path], bool]:
        def fetch(path: Path) -> bool:
            file = None if file_id is None else find(self._http, file_id)
            if file is not None:
                self.download(file, path)
            return file is not None

        return fetch


def _images(images: EncryptedImages | FilePath) -> EncryptedImages:
    return images if isinstance(images, EncryptedImages) else EncryptedImages.load(images)


def _path(publication: str) -> str:
    return f"/v1/publications/{check_id(publication)}"


def _recipe(values: Mapping[str, Any]) -> Recipe:
    recipe = values.get("recipe")
    if not isinstance(recipe, dict):
        raise _no("recipe")
    steps, ridge = recipe.get("steps"), recipe.get("ridge")
    try:
        return Recipe(
            recipe.get("learner"),  # type: ignore[arg-type]  # checked by Recipe
            None if steps is None else _whole(recipe, "steps"),
            None if ridge is None else read_number(ridge),
        )
    except (CipherlensError, TypeError):
        raise _no("recipe") from None


def _score(values: Mapping[str, Any]) -> int | None:
    return None if values.get("score") is None else _whole(values, "score", 100)


def _whole(values: Mapping[str, Any], name: str, most: int = MOST_NUMBER) -> int:
    value = values.get(name)
    if type(value) is not int or not 0 <= value <= most:
        raise ServerError(f"the server's answer holds no {name}; check that it is a Cipherlens server of this version")
    return value


def _line(text: object) -> str:
    """A name from outside, on one line."""
    return "".join(c for c in str(text or "")[:100] if c.isprintable())


def _no(what: str) -> ServerError:
    return ServerError(f"the server's answer holds no {what}; check that it is a Cipherlens server of this version")
