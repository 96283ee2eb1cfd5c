"""What a user, a disk or an adversary can do wrong: one sentence each, nothing half-written, nothing lost."""

from __future__ import annotations

import json
import os
import random
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cli_workflow import EVALUATION, Workflow, contents, draw_images, flatten, one_sentence

from cipherlens.cli.main import main
from cipherlens.learning.task import PublicTask
from cipherlens.wire.container import Kind, Reader, Writer
from cipherlens.wire.layout import UNSET_DIGEST, compose, place

Run = Callable[..., str]

PLAN = ("plan", "--features", "pixels:8x8", "--dimension", "64", "--images")


@pytest.fixture
def refused(work: Workflow, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run a command in the workflow's folder that must refuse in one sentence with these words, and change no file."""
    monkeypatch.chdir(work.root)
    monkeypatch.setenv("XDG_CACHE_HOME", str(work / "cache"))

    def run(*arguments: str | Path, words: str) -> str:
        before = contents(work.root)
        status = main([str(argument) for argument in arguments])
        printed = capsys.readouterr()
        assert status == 1 and printed.out == "", printed
        assert words in one_sentence(printed.err), printed.err
        assert contents(work.root) == before
        return printed.err

    return run


def rewrite(
    source: Path, target: Path, tensors: Mapping[str, np.ndarray[Any, Any]] | None = None, **fields: object
) -> Path:
    """A copy with other tensors or header fields, whose hashes are right: what an adversary writes."""
    with Reader.open(source, None) as reader:
        arrays = {**{name: reader.read(name) for name in reader.shapes}, **(tensors or {})}
        header, kind = {**reader.header, **fields}, reader.kind
    with Writer(target, kind, header, {name: (a.dtype.type, a.shape) for name, a in arrays.items()}) as writer:
        for name, array in arrays.items():
            writer.write(name, array)
    return target


def tensor(path: Path, name: str) -> np.ndarray[Any, Any]:
    with Reader.open(path, None) as reader:
        return reader.read(name)


def train(data: str | Path, evaluation: str | Path = EVALUATION) -> tuple[str | Path, ...]:
    return ("train", "--data", data, "--evaluation-keys", evaluation, "--out", "model.cl")


def classify(model: str | Path, data: str | Path, evaluation: str | Path = EVALUATION) -> tuple[str | Path, ...]:
    return ("classify", "--model", model, "--data", data, "--evaluation-keys", evaluation, "--out", "reply.cl")


def decrypt(reply: str | Path, keys: str = "KEYS") -> tuple[str | Path, ...]:
    return ("decrypt", "--reply", reply, "--keys", keys, "--out", "predictions.csv")


def encrypt(images: str | Path, *more: str | Path) -> tuple[str | Path, ...]:
    return ("encrypt", "--task", "task.cl", "--keys", "KEYS", "--images", images, "--out", "data.cl", *more)


# ---- passphrases and keys -------------------------------------------------------------------------------------------


def test_wrong_passphrase(work: Workflow, refused: Run) -> None:
    (work / "right.txt").write_text("right\n")
    (work / "wrong.txt").write_text("wrong\n")
    (work / "empty.txt").write_text("\nsecond line\n")
    work.run("keys", "create", "--task", "task.cl", "--passphrase-file", "right.txt", "--out", "GUARDED")
    refused(*decrypt("reply.cl", "GUARDED"), "--passphrase-file", "wrong.txt", words="the passphrase is wrong")
    refused(
        *decrypt("reply.cl", "GUARDED"), "--passphrase-file", "empty.txt", words="the first line of empty.txt is empty"
    )
    refused(*decrypt("reply.cl", "GUARDED"), "--passphrase-file", "none.txt", words="cannot be read (No such file")
    refused(*decrypt("reply.cl", "GUARDED"), words="there is no terminal to ask for the passphrase")
    create = ("keys", "create", "--task", "task.cl", "--out", "NEW")
    refused(*create, "--passphrase-file", "empty.txt", words="is empty")
    refused(*create, "--passphrase-file", "right.txt", "--no-passphrase", words="exclude each other")


def test_keys_are_never_replaced(work: Workflow, refused: Run) -> None:
    refused("keys", "create", "--task", "task.cl", "--no-passphrase", "--out", "KEYS", words="never replaced")


@pytest.mark.parametrize("precious", ["KEYS/secret.cl", "KEYS/public.cl", "KEYS/evaluation.cl", "task.cl", "pass.txt"])
def test_nothing_of_value_is_replaced(work: Workflow, refused: Run, precious: str) -> None:
    """Whatever a command would write: keys, tasks and passphrases stay what they are."""
    (work / "pass.txt").write_text("a passphrase\n")
    aimed = [
        (*encrypt("train")[:-1], precious, "--passphrase-file", "pass.txt"),
        (*decrypt("reply.cl")[:-1], precious, "--passphrase-file", "pass.txt"),
        ("encrypt", "--task", "task.cl", "--keys", "KEYS/public.cl", "--images", "train", "--out", precious),
    ]
    if precious != "pass.txt":
        aimed += [(*train("data.cl")[:-1], precious), (*classify("model.cl", "query.cl")[:-1], precious)]
        if precious != "task.cl":
            aimed.append(("plan", "--images", "train", "--features", "hog", "--replace", "--out", precious))
    for arguments in aimed[: 2 if precious == "pass.txt" else None]:
        refused(*arguments, words="which would be lost; name another file")


def test_images_and_devices_are_not_replaced(work: Workflow, refused: Run) -> None:
    image = next(path for path in sorted((work / "train").rglob("*.png")))
    refused(*encrypt("train")[:-1], image, words="is also an input, which would be lost")
    refused(*decrypt("reply.cl")[:-1], "/dev/null", words="is a device or a pipe")


def test_another_keys_ciphertext(work: Workflow, refused: Run) -> None:
    refused(*train("data.cl", "OTHER/evaluation.cl"), words="another key pair than the images")
    refused(*classify("model.cl", "query.cl", "OTHER/evaluation.cl"), words="another key pair than the images")
    refused(*decrypt("reply.cl", "OTHER"), words="this reply is under another key")
    refused("decrypt", "--model", "model.cl", "--keys", "OTHER", words="this model is under another key")
    stranger = work / "stranger.cl"
    work.run("encrypt", "--task", "task.cl", "--keys", "OTHER/public.cl", "--images", "test", "--out", stranger)
    refused(*train("data.cl"), "--data", "stranger.cl", words="stranger.cl is under another key than data.cl")
    refused(*classify("model.cl", "stranger.cl"), words="stranger.cl is under another key than model.cl")


def test_a_reply_that_lies_about_its_key(work: Workflow, refused: Run) -> None:
    """The header names the other key: what decrypts is noise, and is refused as such, not shown."""
    with Reader.open(work / "OTHER" / "public.cl", None) as reader:
        other = reader.header["key_id"]
    forged = rewrite(work / "reply.cl", work / "forged.cl", key_id=other)
    assert "another key" not in refused(*decrypt(forged, "OTHER"), words="")
    forged = rewrite(work / "model.cl", work / "forged.cl", key_id=other)
    refused("decrypt", "--model", forged, "--keys", "OTHER", words="")


def test_mixed_key_folders(work: Workflow, refused: Run) -> None:
    (work / "MIXED").mkdir()
    for source, name in (("KEYS", "secret.cl"), ("OTHER", "public.cl")):
        (work / "MIXED" / name).write_bytes((work / source / name).read_bytes())
    refused(
        "encrypt", "--task", "task.cl", "--keys", "MIXED", "--images", "test", "--out", "data.cl",
        words="belong to different key pairs",
    )  # fmt: skip


def test_another_tasks_data(work: Workflow, refused: Run) -> None:
    work.run("keys", "create", "--task", "other.cl", "--no-passphrase", "--out", "OTHERTASK")
    work.run(
        "encrypt", "--task", "other.cl", "--keys", "OTHERTASK", "--images", "train", "--out", "other-data.cl"
    )  # fmt: skip
    refused(*train("data.cl"), "--data", "other-data.cl", words="other-data.cl belongs to another task than data.cl")
    refused(*classify("model.cl", "other-data.cl"), words="other-data.cl belongs to another task than model.cl")
    refused(*train("other-data.cl"), words="other parameters")
    refused(*decrypt("reply.cl", "OTHERTASK"), words="another key")
    refused(
        "encrypt", "--task", "other.cl", "--keys", "KEYS", "--images", "test", "--out", "data.cl",
        words="other parameters than the task's",
    )  # fmt: skip
    # Two plans of the same images give tasks that are kept apart, though all their numbers agree.
    work.run(*PLAN, "train", "--out", "twin.cl")
    refused(
        "encrypt", "--task", "twin.cl", "--keys", "KEYS", "--images", "test", "--out", "data.cl",
        words="made for another task",
    )  # fmt: skip


def test_the_wrong_file(work: Workflow, refused: Run) -> None:
    refused(
        *train("model.cl")[:-1],
        "x.cl",
        words="holds an encrypted model, but should hold encrypted images; name the right file",
    )
    refused(*train("data.cl", "KEYS/public.cl"), words="holds a public key")
    refused(*classify("data.cl", "query.cl"), words="holds encrypted images")
    refused(*decrypt("model.cl"), words="holds an encrypted model")
    refused(*train("missing.cl"), words="there is no file missing.cl")
    refused(*train("train"), words="is a folder")
    refused("inspect", "train/northern-goldfinch/holiday-snapshot-00000.png", words="holiday-snapshot-00000.png")
    refused("recompute", "data.cl", "--data", "data.cl", "--evaluation-keys", EVALUATION, words="encrypted images")
    refused("recompute", "reply.cl", "--data", "query.cl", "--evaluation-keys", EVALUATION, words="give both")


# ---- damaged and hostile files --------------------------------------------------------------------------------------

FILES = (
    "task.cl", "task.public.cl", "KEYS/secret.cl", "KEYS/public.cl", EVALUATION, "data.cl", "model.cl", "reply.cl",
)  # fmt: skip


@pytest.mark.parametrize("name", FILES)
def test_truncated_and_flipped_files(work: Workflow, refused: Run, name: str) -> None:
    """Cut anywhere, one bit turned anywhere: refused by name."""
    content = (work / name).read_bytes()
    choice = random.Random(name)
    damaged = work / "damaged.cl"
    header = int.from_bytes(content[:8], "little")
    # task.public.cl has no body: everything it says is in its header.
    for length in {0, 5, 8 + header // 2, len(content) - 1, choice.randrange(len(content))}:
        damaged.write_bytes(content[:length])
        refused("inspect", "damaged.cl", words="damaged.cl")
    positions = [
        0,
        6,
        8 + header // 2,
        8 + header - 9,
        len(content) - 1,
        *(choice.randrange(len(content)) for _ in range(3)),
    ]
    for position in positions:
        flipped = bytearray(content)
        flipped[position] ^= 1 << choice.randrange(8)
        damaged.write_bytes(flipped)
        refused("inspect", "damaged.cl", words="")
    damaged.write_bytes(content + b"\0")
    refused("inspect", "damaged.cl", words="damaged.cl was altered")


def test_commands_refuse_damaged_files(work: Workflow, refused: Run) -> None:
    def flipped(name: str) -> Path:
        content = bytearray((work / name).read_bytes())
        content[len(content) // 2] ^= 4
        path = work / f"flipped-{Path(name).name}"
        path.write_bytes(content)
        return path

    refused(*train(flipped("data.cl")), words="was altered")
    refused(*train("data.cl", flipped(EVALUATION)), words="was altered")
    refused(*classify(flipped("model.cl"), "query.cl"), words="was altered")
    refused(*decrypt(flipped("reply.cl")), words="was altered")
    refused("keys", "create", "--task", flipped("task.cl"), "--no-passphrase", "--out", "NEW", words="was altered")


def test_residues_out_of_range(work: Workflow, refused: Run) -> None:
    """Hashes that match and residues that are none: every bit set, in one ciphertext of each kind of file."""

    def spoiled(name: str, tensor_name: str) -> Path:
        table = tensor(work / name, tensor_name).copy()
        table.reshape(-1)[-64:] = 0xFF
        return rewrite(work / name, work / f"spoiled-{tensor_name}.cl", {tensor_name: table})

    words = "a residue is not below its prime"
    data, model, reply = spoiled("data.cl", "message"), spoiled("model.cl", "weights"), spoiled("reply.cl", "scores")
    refused(*train(data), words=words)
    refused(*classify(model, "query.cl"), words=words)
    refused(*decrypt(reply), words=words)
    public = spoiled("KEYS/public.cl", "half")
    refused("encrypt", "--task", "task.cl", "--keys", public, "--images", "test", "--out", "data.cl", words=words)
    keys = spoiled(EVALUATION, "key.0")
    refused(*train("data.cl", keys), words=words)
    for path in (data, model, reply, public, keys):
        refused("inspect", path, words=words)


def test_a_header_that_promises_ten_terabytes(work: Workflow, refused: Run) -> None:
    """Refused before anything of that size is allocated or read."""
    big = work / "big.cl"
    big.write_bytes((10**13).to_bytes(8, "little") + b"{}")
    refused("inspect", "big.cl", words="its header would take 10000000000000 bytes")
    with Reader.open(work / "data.cl", Kind.IMAGES) as reader:
        header, names = dict(reader.header), reader.read("names")
    row = tensor(work / "data.cl", "message").shape[1]
    shapes = {
        "message": (np.uint8, (10**13 // row, row)), "seeds": (np.uint8, (10**13 // row, 32)), "names": (np.uint8, names.shape),
    }  # fmt: skip
    big.write_bytes(compose(Kind.IMAGES, {**header, "labelled": False}, place(shapes), UNSET_DIGEST[:-1] + "1"))
    refused(*train("big.cl"), words="was truncated: its header describes 100")
    refused("inspect", "big.cl", words="was truncated: its header describes 100")
    # The same promise in the kind's own fields.
    rewrite(work / "data.cl", big, images=10**12)
    refused(*train("big.cl"), words="and should be uint8")
    rewrite(work / "reply.cl", big, images=10**12)
    refused(*decrypt("big.cl"), words="big.cl")
    rewrite(work / "data.cl", big, images=10**30)
    refused(*train("big.cl"), words="images = ")


def test_level_and_scale_that_do_not_match(work: Workflow, refused: Run) -> None:
    """Levels and scales follow from the task; a file that deviates belongs to another task or is none."""
    odd = work / "odd.cl"
    weights = tensor(work / "model.cl", "weights")
    rewrite(work / "model.cl", odd, {"weights": weights[: weights.size // 2].copy()})
    refused(*classify("odd.cl", "query.cl"), words="should be uint8")
    message = tensor(work / "data.cl", "message")
    rewrite(work / "data.cl", odd, {"message": message[:, : message.shape[1] // 2].copy()})
    refused(*train("odd.cl"), words="and should be uint8")
    scores = tensor(work / "reply.cl", "scores")
    rewrite(work / "reply.cl", odd, {"scores": np.concatenate([scores, scores], axis=1)})
    refused(*decrypt("odd.cl"), words="and should be uint8")
    with Reader.open(work / "query.cl", None) as reader:
        task: Any = dict(reader.header)["task"]
    task["parameters"]["scale_bits"] -= 1
    rewrite(work / "query.cl", odd, task=task)
    refused(*classify("model.cl", "odd.cl"), words="the ids in this file's header are not those of its task")
    other = PublicTask.from_dict(task)
    rewrite(work / "query.cl", odd, task=task, task_id=other.id, parameters_id=other.parameters.id)
    refused(*classify("model.cl", "odd.cl"), words="odd.cl belongs to another task than model.cl")
    task["parameters"]["scale_bits"] += 1
    task["parameters"]["primes"] = task["parameters"]["primes"] * 2
    rewrite(work / "query.cl", odd, task=task)
    refused(*classify("model.cl", "odd.cl"), words="security")


def test_parameters_above_the_security_table(work: Workflow, refused: Run) -> None:
    with Reader.open(work / "data.cl", None) as reader:
        task: Any = dict(reader.header)["task"]
    task["parameters"]["ring_dimension"] = 4096
    rewrite(work / "data.cl", work / "weak.cl", task=task)
    refused("inspect", "weak.cl", words="is above 106, the most that ring dimension 4096 allows at 128-bit security")
    refused(*train("weak.cl"), words="at 128-bit security")


@pytest.mark.parametrize(
    "name",
    [
        "task.cl", "task.public.cl", "KEYS/secret.cl", "KEYS/public.cl", EVALUATION, "data.cl", "model.cl", "reply.cl",
    ],
)  # fmt: skip
def test_parameters_above_the_security_table_in_every_kind_of_file(work: Workflow, refused: Run, name: str) -> None:
    """The header of each kind, right but for its ring dimension."""
    with Reader.open(work / name, None) as reader:
        header: Any = dict(reader.header)
    if "task" in header:
        header["task"]["parameters"]["ring_dimension"] = 4096
    else:
        header["parameters"]["ring_dimension"] = 4096
    weak = rewrite(work / name, work / "weak.cl", **header)
    words = "is above 106, the most that ring dimension 4096 allows at 128-bit security"
    refused("inspect", weak, words=words)


def test_recompute_finds_any_difference(work: Workflow) -> None:
    """A reply that decrypts to the same scores but is not what the server was asked to compute."""
    inputs = ("--model", "model.cl", "--data", "query.cl", "--evaluation-keys", EVALUATION)
    scores = tensor(work / "reply.cl", "scores").copy()
    scores[0, 0] ^= 1
    rewrite(work / "reply.cl", work / "bent.cl", {"scores": scores})
    done = work.run("recompute", "bent.cl", *inputs, ok=False)
    assert done.returncode == 1 and "is not what these inputs give (scores)" in done.stdout
    rewrite(work / "reply.cl", work / "bent.cl", remark="hello")
    done = work.run("recompute", "bent.cl", *inputs, ok=False)
    assert done.returncode == 1 and (done.stderr or "(header)" in done.stdout)


# ---- images and labels ----------------------------------------------------------------------------------------------


def test_files_that_never_end(work: Workflow, refused: Run, tmp_path: Path) -> None:
    """Pipes that nobody writes to, and devices that give zeros for ever."""
    (tmp_path / "pipes").mkdir()
    for i in range(8):
        os.mkfifo(tmp_path / "pipes" / f"{i}.png")
    refused(*encrypt(tmp_path / "pipes", "--no-labels"), words="it is a folder, a pipe or a device")
    shutil.copytree(work / "train", tmp_path / "images")
    for table in ("/dev/zero", tmp_path / "pipes" / "0.png"):
        planned = ("plan", "--images", table, "--features", "table", "--out", "new.cl", "--labels", "/dev/null")
        refused(*planned, words="it is a folder, a pipe or a device")


def test_rings_and_dimensions_that_do_not_exist(work: Workflow, refused: Run) -> None:
    planned = ("plan", "--images", "train", "--features", "hog", "--out", "new.cl")
    for ring in ("3", "131072"):
        refused(*planned, "--ring", ring, words="choose one of 4096, 8192, 16384, 32768, 65536")
    refused(*planned, "--dimension", "0", words="power of two")


def test_labels_of_missing_files(work: Workflow, refused: Run) -> None:
    flatten(work / "test", work / "flat", work / "flat.csv")
    rows = (work / "flat.csv").read_text()
    labels = work / "labels.csv"
    cases = {
        rows + "lost.png,northern-goldfinch\n": "labels what is not among the images ('lost.png')",
        "\n".join(rows.splitlines()[:-1]) + "\n": "has no label for 1 of 16 images",
        rows + rows.splitlines()[1] + "\n": "a second time",
        rows.replace("upland-sandpiper", "heron"): "'heron' is not a class of this task",
        rows.replace("file,label", "name,kind"): "must begin with the line 'file,label'",
        "": "must begin with the line",
        rows.replace(",upland-sandpiper", ","): "lacks a file or a label",
    }
    for text, words in cases.items():
        labels.write_text(text)
        refused(*encrypt("flat", "--labels", "labels.csv"), words=words)
    refused(*encrypt("flat", "--labels", "lost.csv"), words="lost.csv")
    labels.write_bytes(b"file,label\n\xff\xfe\n")
    refused(*encrypt("flat", "--labels", "labels.csv"), words="not UTF-8")
    refused(*encrypt("flat", "--labels", "flat.csv", "--no-labels"), words="exclude each other")


def test_files_that_are_passed_over(work: Workflow, tmp_path: Path) -> None:
    """Said on stderr and in the object; the labels' own file needs no word."""
    flatten(work / "test", tmp_path / "flat", tmp_path / "flat" / "labels.csv")
    labelled = ("--images", tmp_path / "flat", "--labels", tmp_path / "flat" / "labels.csv", "--json", "--out")
    commands = {
        "plan": ("plan", "--features", "pixels:8x8", "--dimension", "16", *labelled, tmp_path / "task.cl"),
        "encrypt": ("encrypt", "--task", "task.cl", "--keys", "KEYS", *labelled, tmp_path / "data.cl"),
    }
    encrypted = work.run(*commands["encrypt"])
    assert encrypted.stderr == "" and json.loads(encrypted.stdout)["passed_over"] == []
    names = ["a.qoi", "b", "new\nline", "z"]
    for name in names:
        (tmp_path / "flat" / name).touch()
    for done in (work.run(*arguments) for arguments in commands.values()):
        assert done.stderr.startswith(
            "passed over 4 files without an image's suffix: 'a.qoi', 'b', 'new\\nline' and 1 more;"
        )
        assert done.stderr.count("\n") == 1
        assert json.loads(done.stdout)["passed_over"] == names
    rows = (tmp_path / "flat" / "labels.csv").read_text()
    (tmp_path / "flat" / "labels.csv").write_text(rows + "b,upland-sandpiper\n")
    done = work.run(*commands["encrypt"], ok=False)
    assert "labels what is there but has no image's suffix ('b')" in done.stderr


def test_one_class_only(work: Workflow, refused: Run, tmp_path: Path) -> None:
    draw_images(tmp_path / "images", 20, seed=7, classes=("alone",))
    refused(*PLAN, tmp_path / "images", "--out", "one.cl", words="one class only; a classifier needs at least two")
    draw_images(tmp_path / "half", 20, seed=8, classes=("northern-goldfinch",))
    work.run("encrypt", "--task", "task.cl", "--keys", "KEYS", "--images", tmp_path / "half", "--out", "half.cl")
    refused(*train("half.cl"), words="at least one image of each of the 2 classes")


def test_features_that_are_not_numbers(work: Workflow, refused: Run, tmp_path: Path) -> None:
    table = np.random.default_rng(9).normal(size=(80, 6))
    (tmp_path / "labels.csv").write_text("file,label\n" + "".join(f"{i},{'ab'[i % 2]}\n" for i in range(80)))
    plan = ("plan", "--features", "table", "--labels", tmp_path / "labels.csv", "--images", tmp_path / "rows.npy")
    for bad in (np.nan, np.inf):
        spoiled = table.copy()
        spoiled[:, 3] = bad
        np.save(tmp_path / "rows.npy", spoiled)
        refused(*plan, "--out", "table.cl", words="column")
    for value in (1e160, 1e300):
        np.save(tmp_path / "rows.npy", table * value)
        done = work.run(*plan, "--out", "table.cl", ok=False)  # with every warning an error
        assert "lie beyond ±1e+100" in one_sentence(done.stderr)
    np.save(tmp_path / "rows.npy", np.array([["a", "b"]]))
    refused(*plan, "--out", "table.cl", words="no table of numbers")
    (tmp_path / "rows.npy").write_bytes(b"")
    refused(*plan, "--out", "table.cl", words="no table of numbers")
    refused(*plan[:-1], tmp_path / "lost.npy", "--out", "table.cl", words="cannot be read")


def test_zero_and_few_images(work: Workflow, refused: Run, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    refused(*PLAN, tmp_path / "empty", "--out", "none.cl", words="zero images")
    refused(*PLAN, tmp_path / "nowhere", "--out", "none.cl", words="nowhere")
    refused(*encrypt(tmp_path / "empty"), words="zero images")
    draw_images(tmp_path / "few", 3, seed=10)
    refused(*PLAN, tmp_path / "few", "--out", "none.cl", words="")
    refused(*PLAN, "train", "--clear", "1000", "--out", "none.cl", words="a quarter")
    refused(*PLAN, "train", "--ring", "4096", "--out", "none.cl", words="does not fit")
    refused(*PLAN, "train", "--ridge", "-1", "--out", "none.cl", words="ridge")
    refused(*PLAN, "train", "--features", "magic", "--out", "none.cl", words="There are no features 'magic'")


def test_broken_images(work: Workflow, refused: Run, tmp_path: Path) -> None:
    draw_images(tmp_path / "images", 2, seed=11)
    heic = tmp_path / "images" / "upland-sandpiper" / "photo.heic"
    heic.write_bytes(b"\0\0\0\x18ftypheic" + bytes(40))
    refused(*encrypt(tmp_path / "images"), words="'upland-sandpiper/photo.heic' cannot be read: it is a HEIC file")
    heic.rename(heic.with_name("photo\ncipherlens.heic"))
    done = work.run(
        "encrypt", "--task", "task.cl", "--keys", "KEYS", "--images", tmp_path / "images", "--skip-broken",
        "--out", "skipped.cl",
    )  # fmt: skip
    assert done.stderr.startswith("skipped upland-sandpiper/photo\\ncipherlens.heic: it is a HEIC file")
    assert done.stderr.count("\n") == 1
    assert "4 labels" in done.stdout


def test_names_that_no_terminal_should_see(work: Workflow, tmp_path: Path) -> None:
    """A contributor's file names come back to the owner: no escape sequence among them reaches the terminal."""
    draw_images(tmp_path / "images", 1, seed=12)
    (photo,) = (tmp_path / "images" / "upland-sandpiper").iterdir()
    name = b"\xff\x1b[31m.png"
    os.rename(photo, os.fsencode(photo.parent) + b"/" + name)
    work.run(
        "encrypt", "--task", "task.cl", "--keys", "KEYS/public.cl", "--images", photo.parent, "--out", "odd-names.cl"
    )
    work.run(*classify("model.cl", "odd-names.cl")[:-1], "odd-reply.cl")
    done = work.run("decrypt", "--reply", "odd-reply.cl", "--keys", "KEYS")
    assert "\\xff\\x1b[31m.png" in done.stdout and "\x1b" not in done.stdout
    work.run("decrypt", "--reply", "odd-reply.cl", "--keys", "KEYS", "--out", "odd-names.csv")
    assert b"\\xff\x1b[31m.png,upland-sandpiper" in (work / "odd-names.csv").read_bytes()


@pytest.mark.parametrize("name, shown, written", [
    ("=1+1.png", "=1+1.png", b"\n./=1+1.png,"),
    ("a\nidentical: b.png", "a\\nidentical: b.png", b'\n"a\nidentical: b.png",'),
])  # fmt: skip
def test_names_that_pretend_to_be_something_else(
    name: str, shown: str, written: bytes, work: Workflow, tmp_path: Path
) -> None:
    """A formula in a spreadsheet could send scores away; a line break could forge a line of ours."""
    draw_images(tmp_path / "images", 1, seed=12)
    (photo,) = (tmp_path / "images" / "upland-sandpiper").iterdir()
    photo.rename(photo.with_name(name))
    work.run("encrypt", "--task", "task.cl", "--keys", "KEYS/public.cl", "--images", photo.parent, "--out", "posing.cl")
    work.run(*classify("model.cl", "posing.cl")[:-1], "posing-reply.cl")
    done = work.run("decrypt", "--reply", "posing-reply.cl", "--keys", "KEYS")
    assert any(line.startswith(shown) for line in done.stdout.splitlines())
    work.run("decrypt", "--reply", "posing-reply.cl", "--keys", "KEYS", "--out", "posing.csv")
    assert written in (work / "posing.csv").read_bytes()


def test_truth_of_other_files(work: Workflow, refused: Run, tmp_path: Path) -> None:
    """It may cover more images than one reply, which is said; fewer it may not."""
    rows = ["file,label", *(f"{p.parent.name}/{p.name},{p.parent.name}" for p in (work / "test").rglob("*.png"))]
    truth, folder = tmp_path / "truth.csv", tmp_path / "truth"
    decrypted = ("decrypt", "--reply", "reply.cl", "--keys", "KEYS", "--truth")
    shutil.copytree(work / "test", folder)
    truth.write_text("\n".join(rows) + "\n")
    assert work.run(*decrypted, truth).stderr == work.run(*decrypted, folder).stderr == ""
    shutil.copy(next((folder / "upland-sandpiper").iterdir()), folder / "upland-sandpiper" / "lost.png")
    truth.write_text("\n".join([*rows, "upland-sandpiper/lost.png,upland-sandpiper"]) + "\n")
    for told in (truth, folder):
        done = work.run(*decrypted, told)
        assert done.stderr == f"{told} tells the truth of 1 file besides this reply's: 'upland-sandpiper/lost.png'\n"
        assert "of 16)" in done.stdout
    truth.write_text("\n".join(rows[:-1]) + "\n")
    refused(*decrypted, truth, words="tells no truth for 1 of 16 files")


# ---- places and numbers ----------------------------------------------------------------------------------------------


def test_unwritable_places(work: Workflow, refused: Run) -> None:
    places = {
        "nowhere/x.cl": "No such file",
        "data.cl/x.cl": "Not a directory",
        "/proc/x.cl": "cannot be written",
        "KEYS": "is a folder",
    }
    for target, words in places.items():
        refused(*encrypt("test")[:-1], target, words=words)
        refused(*train("data.cl")[:-1], target, words=words)
        refused(*decrypt("reply.cl")[:-1], target, words=words)
        refused(*PLAN, "train", "--out", target, words=words)
    refused("keys", "create", "--task", "task.cl", "--no-passphrase", "--out", "data.cl/KEYS", words="cannot be")
    refused(*train("data.cl")[:-1], "data.cl", words="is also an input")
    refused(*encrypt("test")[:-1], "task.cl", words="is also an input")


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_permission(work: Workflow, refused: Run, tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    refused(*train("data.cl")[:-1], tmp_path / "x.cl", words="Permission denied")


@pytest.mark.parametrize("threads", ["0", "1025", "2147483648"])
def test_numbers_of_threads_that_make_no_sense(work: Workflow, threads: str) -> None:
    done = work.run("encrypt", *encrypt("train")[1:], "--threads", threads, ok=False)
    assert done.returncode == 2 and "--threads" in one_sentence(done.stderr)
