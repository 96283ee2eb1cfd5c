"""`cipherlens demo`: a classifier trained on encrypted photographs, by an owner and a server that is not trusted.

Owner, server and owner again are processes of their own that run the commands a user would type. This process only
starts them, carries files between their folders, and afterwards compares the results with the clear.
"""

from __future__ import annotations

import csv
import datetime
import statistics
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from rich.console import Console
from rich.markup import escape

from cipherlens.data import DemoImages, demo_cats
from cipherlens.errors import CipherlensError
from cipherlens.features.images import ImageSource
from cipherlens.learning.encrypted_images import EncryptedImages
from cipherlens.learning.reference import reference_accuracy
from cipherlens.learning.task import PublicTask
from cipherlens.learning.twin import fit_clear
from cipherlens.owner.encryption import SecretEncryptor
from cipherlens.owner.keys import ContributorKeys, OwnerSecrets
from cipherlens.owner.secret_key import SecretKey
from cipherlens.planning.cost import Cost
from cipherlens.planning.task import Task
from cipherlens.report import page, terminal
from cipherlens.report.illustration import ByteTest, byte_test, flip_bit, sample_ciphertexts
from cipherlens.report.processes import Run, run
from cipherlens.report.results import (
    Answered,
    Demonstration,
    Holding,
    Pixels,
    Refusal,
    Seen,
    Summary,
)
from cipherlens.report.splits import Splits, random_splits
from cipherlens.report.stage import OWNER, SERVER, STRANGER, Stage, fresh_folders, server_watch
from cipherlens.report.stopwatch import time_encryption
from cipherlens.report.wording import megabytes, seconds
from cipherlens.scheme.engine import Engine, usable_cores

REPEATS: Final = 3
"""Training and classifying run so often; their median counts, and every run must give the same bytes."""

# The plan's defaults, spelled out: never adjusted to the score on the test images.
SETTINGS: Final = (
    "--learner", "ridge", "--features", "lite0", "--dimension", "128", "--ridge", "0.2", "--steps", "5", "--seed", "0",
)  # fmt: skip

SHOWN_BYTES: Final = 32 * 32 * 3
"""As many bytes of a ciphertext are shown as one of the images has."""


def run_demo(out: Path, photos: list[Path], threads: int | None, console: Console) -> Summary:
    """Run the demonstration; returns the record that summary.json holds.

    out: folder for report.html, summary.json, contact-sheet.png and the folders of the owner, the server and a
    stranger. photos: the user's own pictures, classified as well. threads: of every command; cores by default.

    Raises:
        InputError: a picture that cannot be read, or a folder that cannot be written.
        CipherlensError: a command failed, with its own sentence.
    """
    started = time.perf_counter()
    pictures = [] if not photos else list(ImageSource.of(photos))
    stage = Stage(fresh_folders(out), threads or usable_cores(), console)
    console.print("[bold]Cipherlens[/] trains a cat classifier on encrypted photographs.")
    console.print(f"[dim]{stage.threads} threads; folders in {escape(str(out))}[/]\n", highlight=False)
    demo = _demonstrate(stage, pictures, started)
    console.print()
    terminal.show(demo, console)
    for name, content in page.files(demo).items():
        (out / name).write_bytes(content)
    console.print(
        f"Report: [bold]{escape(str(out / page.REPORT))}[/], {demo.seconds:.0f} s in all. The demonstration's keys in "
        f"{escape(str(out / OWNER / 'keys'))} have no passphrase; yours should.",
        highlight=False,
    )
    return demo.summary


def _demonstrate(stage: Stage, pictures: list[tuple[str, Pixels]], started: float) -> Demonstration:
    training, testing = demo_cats()
    training.write(stage.owner / "train")
    testing.write(stage.owner / "test")

    planned = stage.run(
        OWNER, "plans the task", "plan", "--images", "train", *SETTINGS, "--queries", str(len(testing)), "--out", "task.cl"
    )  # fmt: skip
    forecast = Cost(**planned.answer["cost"])
    stage.console.print(
        f"           [dim]forecast: training {seconds(forecast.train_seconds)}, classifying "
        f"{seconds(forecast.classify_seconds)}, keys {megabytes(forecast.evaluation_key_bytes)}[/]",
        highlight=False,
    )
    made = stage.run(OWNER, "makes keys", "keys", "create", "--task", "task.cl", "--no-passphrase", "--out", "keys")
    _encrypt(stage, f"encrypts {len(training)} training images", "train", "data.cl", labelled=True)
    _encrypt(stage, f"encrypts {len(testing)} test images, without labels", "test", "query.cl", labelled=False)
    for name in ("keys/evaluation.cl", "data.cl", "query.cl"):
        stage.send(name, stage.owner, stage.server)
    trained, models = _repeat(stage, f"trains on {len(training)} encrypted images", _train())
    classified, replies = _repeat(stage, f"classifies {len(testing)} encrypted images", _classify())
    answers = _decrypt(stage, "decrypts the answers", "reply.cl", "predictions.csv")

    shown = _answers(answers, testing)
    own, photo_seconds, photo_runs = _photos(stage, pictures)
    watches = [done.watch for done in (*trained, *classified, *photo_runs) if done.watch is not None]
    watch = server_watch(stage, watches, len(trained), models and replies)
    if watch.forbidden:
        raise CipherlensError(f"the server's process opened {watch.forbidden[0]}, which it never may: a defect")

    measured = _Measured(
        forecast=forecast,
        keygen=made.seconds,
        train=statistics.median(done.seconds for done in trained),
        classify=statistics.median(done.seconds for done in classified),
        peak=max(watch.peak_bytes or 0 for watch in watches),
    )
    compared = _compare(stage, measured, shown, training, testing)
    refusals = _refusals(stage)
    return Demonstration(
        summary=compared.summary,
        dimension=compared.task.public.spec.dimension,
        steps=compared.task.public.spec.steps,
        splits=compared.splits,
        forecast=forecast,
        classes=tuple(planned.answer["classes"]),
        answers=tuple(shown),
        photos=tuple(own),
        photo_seconds=photo_seconds,
        holdings=_holdings(stage),
        watch=watch,
        seen=_seen(stage, shown),
        ciphertext_bytes=compared.ciphertext_bytes,
        byte_tests=compared.byte_tests,
        refusals=refusals,
        date=datetime.date.today().isoformat(),
        seconds=time.perf_counter() - started,
    )


# ---- commands ---------------------------------------------------------------------------------------------------------


def _encrypt(stage: Stage, words: str, images: str, out: str, *, labelled: bool) -> Run:
    hidden = () if labelled else ("--no-labels",)
    return stage.run(
        OWNER, words, "encrypt", "--task", "task.cl", "--keys", "keys", "--images", images, *hidden, "--out", out
    )


def _train() -> tuple[str, ...]:
    return "train", "--data", "data.cl", "--evaluation-keys", "evaluation.cl", "--out", "model.cl"


def _classify(query: str = "query.cl", out: str = "reply.cl") -> tuple[str, ...]:
    return "classify", "--model", "model.cl", "--data", query, "--evaluation-keys", "evaluation.cl", "--out", out


def _repeat(stage: Stage, words: str, command: tuple[str, ...]) -> tuple[list[Run], bool]:
    """Several runs of one of the server's commands, and whether they all wrote the same bytes."""
    runs, contents = [], set()
    for _ in range(REPEATS):
        runs.append(stage.run(SERVER, words, *command, silent=True))
        contents.add((stage.server / command[-1]).read_bytes())
    stage.say(SERVER, f"{words}, median of {REPEATS} runs", statistics.median(done.seconds for done in runs))
    return runs, len(contents) == 1


def _decrypt(stage: Stage, words: str, reply: str, out: str) -> list[tuple[str, str, float]]:
    """The server's reply, back with the owner: (file, label, score of that label) each."""
    stage.send(reply, stage.server, stage.owner)
    stage.run(OWNER, words, "decrypt", "--reply", reply, "--keys", "keys", "--out", out)
    with (stage.owner / out).open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    return [(row["file"], row["prediction"], float(row[f"score_{row['prediction']}"])) for row in rows]


# ---- what came out ----------------------------------------------------------------------------------------------------


def _answers(predictions: list[tuple[str, str, float]], testing: DemoImages) -> list[Answered]:
    place = {
        f"{label}/{index:05d}.png": i
        for i, (label, index) in enumerate(zip(testing.labels, testing.indices, strict=True))
    }
    shown = []
    for file, label, score in predictions:
        i = place[file]
        shown.append(Answered(file, testing.images[i], label, score, testing.labels[i], testing.originals[i]))
    return shown


def _photos(stage: Stage, pictures: list[tuple[str, Pixels]]) -> tuple[list[Answered], float, list[Run]]:
    """The user's own pictures through the same loop with the model that the server holds."""
    if not pictures:
        return [], 0.0, []
    started = time.perf_counter()
    folder = stage.owner / "photos"
    folder.mkdir()
    for number, (_, pixels) in enumerate(pictures):
        Image.fromarray(pixels).save(folder / f"{number:04d}.png")
    words = "your picture" if len(pictures) == 1 else f"your {len(pictures)} pictures"
    _encrypt(stage, f"encrypts {words}", "photos", "photos.cl", labelled=False)
    stage.send("photos.cl", stage.owner, stage.server)
    done = stage.run(SERVER, f"classifies {words}", *_classify("photos.cl", "photos-reply.cl"))
    predictions = _decrypt(stage, f"decrypts the answer to {words}", "photos-reply.cl", "photos.csv")
    own = [
        Answered(Path(name).name, pixels, label, score)
        for (name, pixels), (_, label, score) in zip(pictures, predictions, strict=True)
    ]
    return own, time.perf_counter() - started, [done]


@dataclass(frozen=True)
class _Measured:
    forecast: Cost
    keygen: float
    train: float
    classify: float
    peak: int


@dataclass(frozen=True, eq=False)
class _Compared:
    task: Task
    summary: Summary
    splits: Splits
    byte_tests: tuple[ByteTest, ...]
    ciphertext_bytes: int


def _compare(
    stage: Stage, measured: _Measured, shown: list[Answered], training: DemoImages, testing: DemoImages
) -> _Compared:
    """The results beside the clear ones, with the owner's knowledge: labels of the test images, weights, secret key."""
    stage.send("model.cl", stage.server, stage.owner)
    stage.run(OWNER, "decrypts the model, to compare its weights", "decrypt", "--model", "model.cl", "--keys", "keys", "--out", "weights.npz")  # fmt: skip
    task = Task.load(stage.owner / "task.cl")
    classes, spec = task.notes.classes, task.public.spec
    secrets = OwnerSecrets.load(stage.owner / "keys" / "secret.cl")
    sealing_key = ContributorKeys.load(task, stage.owner / "keys" / "public.cl").sealing_key
    with stage.timed(OWNER, "encrypts once more, timing features and encryption"):
        portions = [(stage.owner / "again.cl", part.images, None) for part in (training, testing)]
        timed = time_encryption(
            task, SecretEncryptor(secrets.secret), sealing_key, portions, threads=stage.threads, keep=True
        )
        (stage.owner / "again.cl").unlink()
    with stage.timed("demo", "compares with the same algorithm in the clear"):
        X, X_test = (task.feature_map.whitening.apply(features) for features in timed.features)
        y, y_test = (np.array([classes.index(label) for label in split.labels]) for split in (training, testing))
        twin = fit_clear(spec, X, y)
        means = fit_clear(replace(spec, kind="linear_means"), X, y)
        exact = reference_accuracy(spec, X, y, X_test, y_test, runs=15)
        splits = random_splits(np.concatenate(timed.features), np.concatenate([y, y_test]), spec, len(y))
        found = {f"{answer.truth}/{answer.name.split('/')[-1]}": answer.label for answer in shown}
        names = [f"{label}/{index:05d}.png" for label, index in zip(testing.labels, testing.indices, strict=True)]
        decrypted = np.array([classes.index(found[name]) for name in names])
        with np.load(stage.owner / "weights.npz") as archive:
            error = float(np.abs(archive["weights"] - twin.weights).max())
    with stage.timed("demo", "trains another one on the bytes of the ciphertexts"):
        tests, ciphertext_bytes = _byte_tests(
            stage, task, secrets.secret, np.concatenate([X, X_test]), training, testing
        )
    evaluation, data, query = (stage.server / name for name in ("evaluation.cl", "data.cl", "query.cl"))
    summary = Summary(
        task="cats",
        learner=spec.kind,
        images=len(training),
        clear_subsample=len(training) // 4,
        features=f"{SETTINGS[SETTINGS.index('--features') + 1]}, D = {spec.dimension}",
        ring_dimension=task.public.parameters.ring_dimension,
        levels=task.public.parameters.top_level,
        key_switches=measured.forecast.key_switches,
        threads=stage.threads,
        kernel=Engine(task.public.parameters).kernel,
        accuracy_encrypted=float(np.mean(decrypted == y_test)),
        accuracy_clear=float(np.mean(twin.predict(X_test) == y_test)),
        accuracy_reference=exact.accuracy,
        accuracy_linear_means=float(np.mean(means.predict(X_test) == y_test)),
        agreement=float(np.mean(decrypted == twin.predict(X_test))),
        max_weight_error=error,
        feature_seconds=timed.feature_seconds,
        keygen_seconds=measured.keygen,
        encrypt_seconds=timed.encrypt_seconds,
        train_seconds=measured.train,
        classify_seconds=measured.classify,
        clear_seconds=exact.seconds,
        slowdown=measured.train / exact.seconds,
        forecast_seconds=measured.forecast.train_seconds,
        peak_memory_mb=measured.peak / 1e6,
        upload_bytes=data.stat().st_size + query.stat().st_size,
        evaluation_key_bytes=evaluation.stat().st_size,
    )
    return _Compared(task, summary, splits, tests, ciphertext_bytes)


def _byte_tests(
    stage: Stage, task: Task, secret: SecretKey, columns: NDArray[np.float64], training: DemoImages, testing: DemoImages
) -> tuple[tuple[ByteTest, ...], int]:
    sampled, size = sample_ciphertexts(task, secret, columns, stage.threads)
    images = np.concatenate([training.images, testing.images])
    clear = images.reshape(len(images), -1)
    cat = np.array([label == "cat" for label in (*training.labels, *testing.labels)])
    brightness = clear.mean(axis=1)
    bright = np.argsort(np.argsort(brightness)) >= len(images) // 2  # exactly one half
    tests = (
        byte_test("cat or not", sampled, clear, cat),
        byte_test("mean colour bright or dark", sampled, clear, bright),
    )
    return tests, size


def _refusals(stage: Stage) -> tuple[Refusal, ...]:
    """One bit flipped, and a stranger's key: both must be refused. Raises CipherlensError if one is not."""
    content, place = flip_bit((stage.server / "reply.cl").read_bytes())
    (stage.owner / "flipped.cl").write_bytes(content)
    stage.run(
        STRANGER, "makes keys of their own", "keys", "create", "--task", "../owner/task.cl", "--no-passphrase", "--out", "keys"
    )  # fmt: skip
    stage.send("reply.cl", stage.server, stage.stranger)
    tried = (
        (f"decrypt the reply with one bit of byte {place:,} flipped", "one bit flipped", OWNER, "flipped.cl"),
        ("decrypt the reply with a stranger's key", "with their own key", STRANGER, "reply.cl"),
    )
    refusals = []
    for words, short, party, reply in tried:
        done = run(["decrypt", "--reply", reply, "--keys", "keys", "--out", "never.csv"], stage.out / party)
        if done.refusal is None or (stage.out / party / "never.csv").exists():
            raise CipherlensError(f"a reply that must be refused was decrypted ({words}): a defect")
        refusals.append(Refusal(words, done.command, done.refusal))
        stage.say(party, f"tries to decrypt the reply, {short}: refused", done.seconds)
    return tuple(refusals)


# ---- what the server had ----------------------------------------------------------------------------------------------


FILES: Final = {
    "keys/secret.cl": "the secret key",
    "task.cl": "the feature map, class names",
    "keys/evaluation.cl": "evaluation keys",
    "data.cl": "encrypted training images",
    "query.cl": "encrypted test images",
    "photos.cl": "your pictures, encrypted",
    "model.cl": "the encrypted model",
    "reply.cl": "encrypted answers",
    "photos-reply.cl": "encrypted answers to your pictures",
    "predictions.csv": "answers in the clear",
}


def _holdings(stage: Stage) -> tuple[Holding, ...]:
    """Who held what, as their folders show it, and what the files carry in the clear."""
    pictures = [file for name in ("train", "test") for file in (stage.owner / name).rglob("*.png")]
    labelled = EncryptedImages.load(stage.server / "data.cl").labels is not None
    query_labelled = EncryptedImages.load(stage.server / "query.cl").labels is not None
    served_images = any(stage.server.rglob("*.png"))
    size = sum(file.stat().st_size for file in pictures)
    held = [
        Holding(f"{len(pictures):,} images and their names", size, True, served_images),
        Holding("class numbers of the training images", None, True, labelled),
        Holding("class numbers of the test images", None, True, query_labelled),
    ]
    for name, words in FILES.items():
        places = [stage.owner / name, stage.server / Path(name).name]
        sizes = [place.stat().st_size for place in places if place.exists()]
        if sizes:
            held.append(Holding(f"{Path(name).name}: {words}", sizes[0], places[0].exists(), places[1].exists()))
    return tuple(held)


def _seen(stage: Stage, shown: list[Answered]) -> Seen:
    """The bytes in query.cl of the ciphertext that carries the first test image."""
    query = EncryptedImages.load(stage.server / "query.cl")
    task: PublicTask = query.task
    message, _ = query.rows[0]
    start = message[:SHOWN_BYTES].tobytes()
    offset = (stage.server / "query.cl").read_bytes().index(start)
    return Seen(shown[0], "query.cl", offset, start, message.size, min(task.circuit.layout.images, query.images))
