"""`cipherlens publish`, `submit`, `submissions`, `release` and `scoreboard`: training by others on images they cannot see."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from cipherlens.cli.options import (
    EvaluationKeysFile,
    Json,
    KeyFolder,
    PassphraseFile,
    Threads,
    check_output,
    command,
    different_files,
)
from cipherlens.cli.output import Output, plural
from cipherlens.cli.passphrase import passphrase_of
from cipherlens.cli.planning import Learner
from cipherlens.cli.remote import InsecureHttp, Remote, Server, StoredSet, TokenFile, labelled_images, one_source
from cipherlens.errors import InputError

if TYPE_CHECKING:
    from cipherlens.client.publishing import Publication, Submission
    from cipherlens.learning.recipes import Envelope

PublicationId = Annotated[str, typer.Option("--publication", metavar="ID", help="As `publish` shows it.")]
_data = typer.Option(
    "--data", show_default=False, help="Your encrypted, labelled images; repeat it for those of contributors."
)
Own = Annotated[list[Path], _data]
Published = Annotated[list[Path] | None, _data]
Holdout = Annotated[Path, typer.Option("--holdout", help="Encrypted images without labels, whose truth only you know.")]

N = TypeVar("N", int, float)


@command
def publish(
    server: Server,
    holdout: Holdout,
    evaluation_keys: EvaluationKeysFile,
    trainer: Annotated[list[str], typer.Option("--trainer", help="A tenant that may train; repeat it for more.")],
    submissions: Annotated[int, typer.Option("--submissions", min=1, help="How many each trainer has, for ever.")],
    data: Published = None,
    data_set: StoredSet = None,
    learner: Annotated[
        list[Learner] | None,
        typer.Option("--learner", show_default=False, help="Allow this one; repeat it. All the keys carry by default."),
    ] = None,
    steps: Annotated[
        str | None, typer.Option("--steps", metavar="LEAST:MOST", show_default=False, help="Steps to allow.")
    ] = None,
    ridge: Annotated[
        str | None, typer.Option("--ridge", metavar="LEAST:MOST", show_default=False, help="Ridges to allow.")
    ] = None,
    token_file: TokenFile = None,
    insecure_http: InsecureHttp = False,
    as_json: Json = False,
) -> None:
    """Publish encrypted images, so that trainers without a key have the server train their recipes on them.

    A trainer owns its encrypted model and learns no image, no label, no reply. What a trainer learns about your images
    is the scoreboard: whole percents on the hold-out, each released by you with `release`.
    """
    output = Output(as_json)
    one_source(data, data_set)
    envelope = None
    if learner or steps is not None or ridge is not None:
        envelope = _envelope(holdout, evaluation_keys, learner or [], steps, ridge)
    with Remote(server, token_file, insecure_http).connect() as connection:
        parts = labelled_images(connection, data, data_set, output)
        with output.progress("reading") as bar:
            publication = connection.publish(
                parts, evaluation_keys, holdout, trainers=trainer, submissions_each=submissions, envelope=envelope,
                progress=bar.share,
            )  # fmt: skip
    output.facts(_facts(publication))
    output.say(
        "The provider gives each trainer a token: cipherlens token create --scope trainer "
        f"--publication {publication.id} --tenant NAME"
    )
    output.finish({"command": "publish", **asdict(publication)})


@command
def submit(
    server: Server,
    publication: PublicationId,
    learner: Annotated[Learner, typer.Option("--learner", help="What to train.")] = Learner.ridge,
    steps: Annotated[
        int | None, typer.Option("--steps", min=1, show_default=False, help="Steps of the solve; not for linear_means.")
    ] = None,
    ridge: Annotated[
        float | None, typer.Option("--ridge", show_default=False, help="The ridge; not for linear_means.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", show_default=False, help="Where to write the encrypted model.")
    ] = None,
    token_file: TokenFile = None,
    insecure_http: InsecureHttp = False,
    as_json: Json = False,
) -> None:
    """Submit a recipe to a publication: the server trains it on ciphertexts, and evaluates it for the owner.

    The same recipe again is the same submission and counts once. Whether and when a score is released is the owner's.
    """
    from cipherlens.learning.recipes import Recipe
    from cipherlens.wire.container import Kind

    output = Output(as_json)
    if out is not None:
        check_output(out, [token_file], Kind.MODEL)
    recipe = Recipe(learner.value, steps, ridge)
    with Remote(server, token_file, insecure_http).connect() as connection, output.progress("submitting") as bar:
        made = connection.submit(publication, recipe)
        done = connection.wait_submission(made, progress=bar.share)
        if out is not None:
            connection.download_model(done, out, progress=bar.share)
    output.say(f"submission {done.number}: {recipe}, {done.state}")
    output.finish({"command": "submit", "out": None if out is None else str(out), **asdict(done)})


@command
def submissions(
    server: Server,
    publication: PublicationId,
    token_file: TokenFile = None,
    insecure_http: InsecureHttp = False,
    as_json: Json = False,
) -> None:
    """The submissions of a publication: all of them for its owner, a trainer's own for the trainer."""
    output = Output(as_json)
    with Remote(server, token_file, insecure_http).connect() as connection:
        found = connection.submissions(publication)
    rows = [(str(s.number), s.trainer, str(s.recipe), _state(s), _percent(s.score)) for s in found]
    output.table(("number", "trainer", "recipe", "state", "score"), rows, "Submissions")
    output.finish({"command": "submissions", "submissions": [asdict(s) for s in found]})


@command
def release(
    server: Server,
    publication: PublicationId,
    submission: Annotated[int, typer.Option("--submission", min=1, metavar="NUMBER", help="Which one.")],
    data: Own,
    holdout: Holdout,
    evaluation_keys: EvaluationKeysFile,
    keys: KeyFolder,
    truth: Annotated[
        Path,
        typer.Option("--truth", help="The hold-out's true labels: a CSV file, or a folder with one folder a class."),
    ],
    passphrase_file: PassphraseFile = None,
    token_file: TokenFile = None,
    insecure_http: InsecureHttp = False,
    threads: Threads = None,
    as_json: Json = False,
) -> None:
    """Recompute a submission, decrypt it, and release its score: whole percents, once.

    Model and reply are computed again from your own copies of data, hold-out and keys, and compared byte for byte with
    the server's. If anything differs, nothing is decrypted and nothing released: a forged reply gives the secret key away.
    """
    import numpy as np

    from cipherlens.cli.sources import read_truth
    from cipherlens.owner import OwnerSecrets
    from cipherlens.owner.keys import SECRET

    output = Output(as_json)
    secret = keys / SECRET if keys.is_dir() else keys
    owner = OwnerSecrets.load(secret, passphrase_of(secret, passphrase_file))
    with Remote(server, token_file, insecure_http).connect() as connection:
        with output.progress("asking the server") as bar:
            found = connection.submission(publication, submission)
            recomputed = connection.recompute(
                found, different_files(data), evaluation_keys, holdout, threads=threads, progress=bar.share
            )
            answers = owner.decrypt(recomputed.reply, recomputed.recipe)
        numbers = read_truth(truth, answers.files, answers.classes, output)
        accuracy = float(np.mean(answers.numbers == numbers))
        released = connection.release(recomputed, accuracy)
    output.say("identical: model and reply are what your data, hold-out and keys give, byte for byte")
    output.say(f"accuracy: {accuracy:.2%} of {plural(len(numbers), 'image')}, for you alone")
    output.say(f"released for submission {released.number} of {released.trainer}: {_percent(released.score)}")
    output.finish({"command": "release", "accuracy": accuracy, **asdict(released)})


@command
def scoreboard(
    server: Server,
    publication: PublicationId,
    token_file: TokenFile = None,
    insecure_http: InsecureHttp = False,
    as_json: Json = False,
) -> None:
    """The scoreboard of a publication, for its owner and its trainers."""
    output = Output(as_json)
    with Remote(server, token_file, insecure_http).connect() as connection:
        rows = connection.scoreboard(publication)
    shown = [(str(row.number), row.trainer, str(row.recipe), _percent(row.score)) for row in rows]
    output.table(("number", "trainer", "recipe", "score"), shown, "Scoreboard")
    output.finish({"command": "scoreboard", "rows": [asdict(row) for row in rows]})


def _envelope(
    images: Path, evaluation_keys: Path, learners: list[Learner], steps: str | None, ridge: str | None
) -> Envelope:
    """The widest envelope of the task that images are of, narrowed to what was asked for."""
    from dataclasses import replace

    from cipherlens.learning.encrypted_images import EncryptedImages
    from cipherlens.learning.recipes import widest
    from cipherlens.wire.keys import list_evaluation_keys

    envelope = widest(EncryptedImages.load(images, verify=False).task, list_evaluation_keys(evaluation_keys).levels)
    if learners:
        envelope = replace(envelope, learners=tuple(learner.value for learner in learners))
    if steps is not None:
        envelope = replace(envelope, steps=_bounds("--steps", steps, int))
    if ridge is not None:
        envelope = replace(envelope, ridge=_bounds("--ridge", ridge, float))
    return envelope


def _bounds(option: str, text: str, number: Callable[[str], N]) -> tuple[N, N]:
    """`2:6` as (2, 6)."""
    least, _, most = text.partition(":")
    try:
        return number(least), number(most)
    except ValueError:
        raise InputError(f"{option} takes the smallest and the largest, as 2:6, not {text!r}") from None


def _facts(publication: Publication) -> list[tuple[str, str]]:
    return [
        ("publication", publication.id),
        ("images", f"{publication.images}, and {publication.holdout_images} held out"),
        ("allowed", str(publication.envelope)),
        ("trainers", f"{', '.join(publication.trainers)}; {plural(publication.submissions_each, 'submission')} each"),
    ]


def _state(submission: Submission) -> str:
    return f"{submission.state}: {submission.error}" if submission.error else submission.state


def _percent(score: int | None) -> str:
    return "not released" if score is None else f"{score}%"
