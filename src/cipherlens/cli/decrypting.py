"""`cipherlens decrypt`: replies and models in the clear, on the owner's machine."""

from __future__ import annotations

import csv
import io
import os
import secrets
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cipherlens.cli.options import Json, KeyFolder, PassphraseFile, Threads, check_output, command
from cipherlens.cli.output import Output, plural
from cipherlens.cli.passphrase import passphrase_of
from cipherlens.cli.remote import InsecureHttp, Remote, ServerUrl, TokenFile
from cipherlens.cli.transfers import Save, result_file
from cipherlens.errors import InputError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from cipherlens.learning.twin import ClearModel
    from cipherlens.owner import Answers, OwnerSecrets

MOST_SHOWN = 20
"""Predictions and classes that are printed; more go into the file only."""


@command
def decrypt(
    keys: KeyFolder,
    reply: Annotated[
        Path | None,
        typer.Option(
            "--reply", show_default=False, help="A reply that `classify` wrote; with --server its id, or its job's."
        ),
    ] = None,
    model: Annotated[
        Path | None,
        typer.Option(
            "--model", show_default=False, help="A model that `train` wrote; with --server its id, or its job's."
        ),
    ] = None,
    passphrase_file: PassphraseFile = None,
    truth: Annotated[
        Path | None,
        typer.Option(
            "--truth", show_default=False, help="True labels: a CSV file, or a folder with one folder a class."
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", show_default=False, help="predictions.csv of a reply, or weights.npz of a model."),
    ] = None,
    server: ServerUrl = None,
    token_file: TokenFile = None,
    insecure_http: InsecureHttp = False,
    save: Save = None,
    threads: Threads = None,
    as_json: Json = False,
) -> None:
    """Decrypt a reply or a model.

    What comes out is for you alone. Anything that depends on it (a score, an error, a retry) tells the server
    something about your secret key if the server cheated: pass on only what a second machine has recomputed. With
    --server, the file is fetched and the connection closed before the secret key is opened.
    """
    from cipherlens.owner import OwnerSecrets
    from cipherlens.owner.keys import SECRET

    output = Output(as_json)
    remote = Remote.of(server, token_file, insecure_http)
    if (reply is None) == (model is None):
        raise InputError("give either --reply or --model")
    if model is not None and truth is not None:
        raise InputError("--truth belongs to a reply; a model has no predictions")
    if out is not None:
        check_output(out, [reply, model, truth, passphrase_file, token_file, save], suffixes=(".csv", ".npz"))
    given = reply or model or Path()
    with result_file(remote, given, "model" if reply is None else "reply", save, output) as path:
        secret = keys / SECRET if keys.is_dir() else keys
        owner = OwnerSecrets.load(secret, passphrase_of(secret, passphrase_file))
        if reply is None:
            _model(output, owner, path, given, out)
        else:
            _reply(output, owner, path, given, truth, out)


def _reply(output: Output, owner: OwnerSecrets, path: Path, given: Path, truth: Path | None, out: Path | None) -> None:
    import numpy as np

    from cipherlens.cli.sources import read_truth
    from cipherlens.learning.results import Reply

    with output.progress("decrypting"):
        answers = owner.decrypt(Reply.load(path))
    numbers = None if truth is None else read_truth(truth, answers.files, answers.classes, output)
    if out is not None:
        write_private(out, predictions_csv(answers).encode())
        output.say(f"{out}: {plural(len(answers.files), 'prediction')}, for you alone")
    elif len(answers.files) <= MOST_SHOWN:
        output.facts((file, label) for file, label in zip(answers.files, answers.labels, strict=True))
    counts = np.bincount(answers.numbers, minlength=len(answers.classes)).tolist()
    said = dict(zip(answers.classes, counts, strict=True))
    output.say("predicted: " + ", ".join(f"{count} {name}" for name, count in list(said.items())[:MOST_SHOWN]))
    result: dict[str, object] = {
        "command": "decrypt",
        "reply": str(given),
        "out": None if out is None else str(out),
        "images": len(answers.files),
        "predicted": said,
    }
    if numbers is not None:
        result |= _compare(output, answers, numbers)
    output.finish(result)


def _compare(output: Output, answers: Answers, truth: NDArray[np.int64]) -> dict[str, object]:
    """Accuracy and the confusion table: rows are true classes, columns predicted ones."""
    import numpy as np

    k = len(answers.classes)
    confusion = np.bincount(truth * k + answers.numbers, minlength=k * k).reshape(k, k)
    right = int(np.trace(confusion))
    output.say(f"accuracy: {right / len(truth):.1%} ({right} of {len(truth)})")
    if k <= MOST_SHOWN:
        rows = [
            [name, *map(str, row), f"{row[c] / sum(row):.1%}" if sum(row) else "–"]
            for c, (name, row) in enumerate(zip(answers.classes, confusion.tolist(), strict=True))
        ]
        output.table(["true \\ predicted", *answers.classes, "right"], rows, "confusion")
    return {
        "accuracy": right / len(truth),
        "classes": list(answers.classes),
        "confusion": confusion.tolist(),
    }


def predictions_csv(answers: Answers) -> str:
    """`file,prediction` and a score a class; text."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["file", "prediction", *(f"score_{name}" for name in answers.classes)])
    for file, label, scores in zip(answers.files, answers.labels, answers.scores.tolist(), strict=True):
        writer.writerow([_no_formula(file), label, *(f"{score:.6f}" for score in scores)])
    return text.getvalue()


def _no_formula(file: str) -> str:
    """A file's name that no spreadsheet takes for a formula, which could send scores away: `./=x` is the same file.

    The server can seal names of its own, and a contributor names files as it likes.
    """
    return f"./{file}" if file.startswith(("=", "+", "-", "@", "\t", "\r", "\n")) else file


def _model(output: Output, owner: OwnerSecrets, path: Path, given: Path, out: Path | None) -> None:
    from cipherlens.learning.results import TrainedModel

    with output.progress("decrypting"):
        trained = TrainedModel.load(path)
        clear = owner.open(trained)
    spec = clear.spec
    output.say(
        f"{spec.kind} on {plural(int(trained.counts.sum()), 'image')}: weights of {spec.dimension} columns for "
        f"{plural(spec.columns, 'score')}; the solve's residual is within its bound"
    )
    if out is not None:
        write_private(out, weights_npz(clear, owner.notes.classes))
        output.say(f"{out}: weights, bias, right_hand_side, residual, mixing, classes; for you alone")
    output.finish(
        {
            "command": "decrypt",
            "model": str(given),
            "out": None if out is None else str(out),
            "learner": spec.kind,
            "counts": dict(zip(owner.notes.classes, trained.counts.tolist(), strict=True)),
            "shape": list(clear.weights.shape),
        }
    )


def weights_npz(model: ClearModel, classes: tuple[str, ...]) -> bytes:
    """A numpy archive: weights, right_hand_side, residual (D, columns), bias, mixing, and the classes' names."""
    import numpy as np

    file = io.BytesIO()
    np.savez(
        file,
        weights=model.weights,
        bias=model.bias,
        right_hand_side=model.right_hand_side,
        residual=model.residual,
        mixing=model.mixing,
        classes=np.array(classes),
    )
    return file.getvalue()


def write_private(path: Path, content: bytes) -> None:
    """Write a file for its owner alone (mode 0600), whole or not at all. Raises OSError."""
    target = Path(os.path.realpath(path))
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(6)}.part")
    try:
        with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)
