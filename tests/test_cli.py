"""The commands as a user types them: transcripts of whole workflows, machine-readable output, and who reads what."""

from __future__ import annotations

import json
import os
import pty
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cli_workflow import CLASSES, Workflow, draw_images, environment, flatten

from cipherlens.cli.main import main
from cipherlens.planning.task import Task

TRANSCRIPTS = Path(__file__).parent / "cli"


# ---- transcripts ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Step:
    """One command of a transcript, whether it must fail, and the lines it prints (stderr first)."""

    line: int
    command: str
    fails: bool
    expected: tuple[str, ...]


def read_transcript(path: Path) -> Iterator[Step]:
    lines = path.read_text().splitlines()
    starts = [i for i, line in enumerate(lines) if line.startswith(("$ ", "! "))]
    for start, end in zip(starts, [*starts[1:], len(lines)], strict=True):
        expected = tuple(line for line in lines[start + 1 : end] if line.strip())
        yield Step(start + 1, lines[start][2:], lines[start].startswith("!"), expected)


def as_pattern(expected: tuple[str, ...]) -> str:
    parts = []
    for line in expected:
        if line == "[...]":
            parts.append("(?:.*\n)*?")
        else:
            parts.append("[^\n]*".join(re.escape(piece) for piece in line.split("[..]")) + " *\n")
    return "".join(parts)


def play(path: Path, folder: Path) -> None:
    (folder / "cache").mkdir()
    for step in read_transcript(path):
        done = subprocess.run(
            ["bash", "-c", step.command],
            cwd=folder,
            env=environment(folder / "cache"),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        printed = "".join(f"{line}\n" for line in (done.stderr + done.stdout).splitlines() if line.strip())
        where = f"{path.name}:{step.line}: {step.command}\nprinted\n{printed}"
        assert (done.returncode != 0) == step.fails, f"exit status {done.returncode} of {where}"
        assert re.fullmatch(as_pattern(step.expected), printed), f"not as expected: {where}"


def test_owner_and_server(tmp_path: Path) -> None:
    draw_images(tmp_path / "train", 40, seed=1)
    draw_images(tmp_path / "test", 8, seed=2)
    play(TRANSCRIPTS / "owner_and_server.txt", tmp_path)


def test_contributors(tmp_path: Path) -> None:
    birds = ("avocet", "bittern", "curlew")
    draw_images(tmp_path / "own", 20, seed=3, classes=birds)
    flatten(tmp_path / "own", tmp_path / "flat", tmp_path / "labels.csv")
    draw_images(tmp_path / "theirs", 20, seed=4, classes=birds)
    draw_images(tmp_path / "more", 1, seed=5, classes=birds)
    shutil.copy(tmp_path / "more" / "bittern" / "holiday-snapshot-10000.png", tmp_path / "holiday.png")
    play(TRANSCRIPTS / "contributors.txt", tmp_path)


# ---- --json ---------------------------------------------------------------------------------------------------------


def test_json_is_one_object_on_stdout(work: Workflow) -> None:
    commands: dict[str, tuple[Any, ...]] = {
        "plan": ("--images", "train", "--features", "pixels:8x8", "--dimension", "64", "--out", "json-task.cl"),
        "encrypt": ("--task", "task.cl", "--keys", "KEYS/public.cl", "--images", "train", "--out", "json-data.cl"),
        "train": ("--data", "data.cl", "--evaluation-keys", "KEYS/evaluation.cl", "--out", "json-model.cl"),
        "decrypt": ("--reply", "reply.cl", "--keys", "KEYS", "--truth", "test"),
        "recompute": (
            "reply.cl", "--model", "model.cl", "--data", "query.cl", "--evaluation-keys", "KEYS/evaluation.cl",
        ),
        "inspect": ("reply.cl",),
        "doctor": (),
    }  # fmt: skip
    results = {}
    for name, arguments in commands.items():
        done = work.run(name, *arguments, "--json", "--threads", "1")
        assert done.stdout.count("\n") == 1 and done.stderr == "", name
        results[name] = json.loads(done.stdout)
        assert results[name]["command"] == name and results[name]["seconds"] > 0
    assert results["plan"]["cost"]["evaluation_key_bytes"] > 1e7
    assert results["encrypt"]["visible"] == {"labels": 240, "names": 0} and results["encrypt"]["contributor"]
    assert results["train"]["images"] == 240 and results["train"]["threads"] == 1
    assert results["decrypt"]["accuracy"] == 1.0 and results["decrypt"]["confusion"] == [[8, 0], [0, 8]]
    assert results["recompute"]["identical"] and len(results["recompute"]["sha256"]) == 64
    assert results["inspect"]["kind"] == "reply" and results["inspect"]["residues_checked"] > 0
    assert results["doctor"]["kernels"][results["doctor"]["chosen"]] == {"self_check": True, "exercised": True}
    # The same inputs give the same bytes, with any number of threads.
    assert (work / "json-model.cl").read_bytes() == (work / "model.cl").read_bytes()


@pytest.mark.parametrize(
    ("name", "kind", "residues"),
    [
        ("task.cl", "task", False),
        ("task.public.cl", "public_task", False),
        ("KEYS/secret.cl", "secret_key", False),
        ("KEYS/public.cl", "public_key", True),
        ("KEYS/evaluation.cl", "evaluation_keys", True),
        ("data.cl", "images", True),
        ("model.cl", "model", True),
        ("reply.cl", "reply", True),
    ],
)
def test_inspect_reads_every_kind_of_file(
    work: Workflow, capsys: pytest.CaptureFixture[str], name: str, kind: str, residues: bool
) -> None:
    def inspect(path: str, *options: str) -> str:
        assert main(["inspect", str(work / path), *options]) == 0
        return capsys.readouterr().out

    found, public = (json.loads(inspect(path, "--json")) for path in (name, "KEYS/public.cl"))
    assert found["kind"] == kind
    assert found["parameters"] == public["parameters"] and found["parameters_id"] == public["parameters_id"]
    assert found["security_margin_bits"] >= 0
    assert (found["residues_checked"] > 0) is residues
    assert found.get("key_id", public["key_id"]) == public["key_id"]
    assert ("key_id" in found) is ("task" not in kind)
    said, n = inspect(name), public["parameters"]["ring_dimension"]
    assert f"128 bits: N = 2^{n.bit_length() - 1} allows log2(QP) <=" in said
    assert ("not for the server" in said) is (kind == "task")


def test_json_of_a_failure(work: Workflow) -> None:
    done = work.run("inspect", "nowhere.cl", "--json", ok=False)
    assert done.returncode == 1 and done.stderr == "cipherlens: there is no file nowhere.cl\n"
    assert json.loads(done.stdout) == {"error": {"kind": "InputError", "message": "there is no file nowhere.cl"}}


# ---- the server's side ----------------------------------------------------------------------------------------------

WATCHED = """
import json, sys
opened = []
sys.addaudithook(lambda event, arguments: opened.append(str(arguments[0])) if event == "open" else None)
from cipherlens.cli.main import main
status = main(sys.argv[1:])
print(json.dumps({"status": status, "modules": sorted(sys.modules), "opened": opened}), file=sys.stderr)
"""


@pytest.mark.parametrize(
    "arguments",
    [
        ("train", "--data", "data.cl", "--evaluation-keys", "KEYS/evaluation.cl", "--out", "watched-model.cl"),
        (
            "classify", "--model", "model.cl", "--data", "query.cl", "--evaluation-keys", "KEYS/evaluation.cl",
            "--out", "watched-reply.cl",
        ),
        ("recompute", "model.cl", "--data", "data.cl", "--evaluation-keys", "KEYS/evaluation.cl"),
        ("inspect", "data.cl"),
        ("doctor",),
    ],
    ids=lambda arguments: arguments[0],
)  # fmt: skip
def test_server_commands_never_meet_the_secret_key(work: Workflow, arguments: tuple[str, ...]) -> None:
    """secret.cl lies right beside evaluation.cl here, and is not opened; nor is the code that could use it loaded."""
    done = subprocess.run(
        [sys.executable, "-c", WATCHED, *arguments],
        cwd=work.root,
        env=environment(work.root / "cache"),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    seen = json.loads(done.stderr.splitlines()[-1])
    assert seen["status"] == 0
    forbidden = ("cipherlens.owner", "cipherlens._secret", "cipherlens.features", "PIL", "onnxruntime", "sklearn")
    assert not [m for m in seen["modules"] if m in forbidden or m.startswith(tuple(f"{name}." for name in forbidden))]
    if arguments[0] == "train":
        assert any(path.endswith("evaluation.cl") for path in seen["opened"]) or "data.cl" in seen["opened"]
    assert not [path for path in seen["opened"] if path.endswith(("secret.cl", "task.cl"))]


def test_server_works_without_the_owners_files(work: Workflow, tmp_path: Path) -> None:
    for name in ("data.cl", "query.cl", "KEYS/evaluation.cl"):
        shutil.copy(work / name, tmp_path)
    server = Workflow(tmp_path)
    server.run("train", "--data", "data.cl", "--evaluation-keys", "evaluation.cl", "--out", "model.cl")
    server.run(
        "classify", "--model", "model.cl", "--data", "query.cl", "--evaluation-keys", "evaluation.cl",
        "--out", "reply.cl",
    )  # fmt: skip
    assert (tmp_path / "reply.cl").read_bytes() == (work / "reply.cl").read_bytes()


def test_nothing_private_reaches_the_server(work: Workflow) -> None:
    """Names, class names and statistics of the owner's images, searched for in all that the server reads or writes."""
    task = Task.load(work / "task.cl")
    arrays, _ = task.feature_map.to_arrays()
    assert task.notes.moments is not None
    statistics = {"moments": task.notes.moments, **arrays}
    # Shorter words would be found by chance in forty megabytes of keys.
    names = [*CLASSES, *(part for name in CLASSES for part in name.split("-")), "holiday", "snapshot-"]
    needles = [name.encode(code) for name in names for code in ("utf-8", "utf-16-le")]
    for table in statistics.values():
        assert table.dtype == np.float64
        values = [float(v) for v in table.reshape(-1) if v not in (0.0, 1.0)][:12]
        assert len(values) == 12
        needles += [form for v in values for form in (np.float64(v).tobytes(), np.array(v, ">f8").tobytes())]
        needles += [f"{v:.12g}".encode() for v in values]
    for name in ("task.public.cl", "data.cl", "query.cl", "KEYS/evaluation.cl", "model.cl", "reply.cl"):
        content = (work / name).read_bytes()
        assert not [needle for needle in needles if needle in content], name
    private = (work / "task.cl").read_bytes()  # where the same search finds them
    assert sum(needle in private for needle in needles) > 24


# ---- the terminal ---------------------------------------------------------------------------------------------------


def on_a_terminal(work: Workflow, *arguments: str, typed: str = "") -> tuple[int, str]:
    """Run a command on a terminal of its own, typing as soon as it asks; returns its status and all it printed."""
    parent, child = pty.openpty()
    process = subprocess.Popen(
        ["cipherlens", *arguments],
        cwd=work.root,
        env={**environment(work.root / "cache"), "TERM": "xterm"},
        stdin=child,
        stdout=child,
        stderr=child,
        start_new_session=True,
    )
    os.close(child)
    printed, waiting = b"", [f"{line}\n".encode() for line in typed.splitlines()]
    answered = 0
    while True:
        try:
            block = os.read(parent, 65536)
        except OSError:  # the terminal closes with its last user
            break
        if not block:
            break
        printed += block
        if waiting and printed.count(b": ") > answered and printed.rstrip(b"\r\n").endswith(b": "):
            answered = printed.count(b": ")
            os.write(parent, waiting.pop(0))
    os.close(parent)
    return process.wait(60), printed.decode()


def test_passphrase_is_asked_for_twice(work: Workflow) -> None:
    create = ("keys", "create", "--task", "task.cl", "--out", "ASKED")
    status, printed = on_a_terminal(work, *create, typed="one\ntwo\n")
    assert status == 1 and "the two passphrases differ" in printed and not (work / "ASKED").exists()
    status, printed = on_a_terminal(work, *create, typed="quince\nquince\n")
    assert status == 0 and "New passphrase" in printed and "The same again" in printed and "quince" not in printed
    encrypt = ("encrypt", "--task", "task.cl", "--keys", "ASKED", "--images", "test", "--out", "asked.cl")
    status, printed = on_a_terminal(work, *encrypt, typed="quinces\n")
    assert status == 1 and "the passphrase is wrong" in printed and not (work / "asked.cl").exists()
    status, printed = on_a_terminal(work, *encrypt, typed="quince\n")
    assert status == 0 and "16 labels; no names" in printed


def test_progress_is_shown_on_a_terminal_only(work: Workflow) -> None:
    train = ("train", "--data", "data.cl", "--evaluation-keys", "KEYS/evaluation.cl", "--out", "shown.cl")
    status, printed = on_a_terminal(work, *train)
    assert status == 0 and "reading keys" in printed and "%" in printed
    assert work.run(*train).stderr == ""


# ---- help and mistakes in the arguments -----------------------------------------------------------------------------


def test_help_lists_the_commands(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    printed = capsys.readouterr().out
    for name in ("demo", "plan", "keys", "encrypt", "train", "classify", "decrypt", "recompute", "inspect", "doctor"):
        assert f" {name} " in printed
    assert main(["--version"]) == 0 and capsys.readouterr().out.startswith("cipherlens ")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["train"], "--evaluation-keys"),
        (["keys"], "command"),
        (["clasify"], "classify"),
        (["train", "--threads", "0"], "--threads"),
        (["plan", "--learner", "magic"], "magic"),
        (["inspect"], "FILE"),
    ],
)
def test_mistakes_in_arguments(arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 2
    printed = capsys.readouterr()
    assert printed.out == "" and printed.err.count("\n") == 1 and words.lower() in printed.err.lower()


def test_a_table_of_numbers(work: Workflow, tmp_path: Path) -> None:
    rng = np.random.default_rng(6)
    numbers = np.arange(80) % 2
    np.save(tmp_path / "rows.npy", rng.normal(size=(80, 10)) + 2 * numbers[:, None])
    labels = "".join(f"{i},{'benign' if n else 'malignant'}\n" for i, n in enumerate(numbers))
    (tmp_path / "labels.csv").write_text("file,label\n" + labels)
    table = Workflow(tmp_path)
    rows = ("--images", "rows.npy", "--labels", "labels.csv")
    table.run("plan", *rows, "--features", "table", "--learner", "linear_means", "--out", "t.cl")
    table.run("keys", "create", "--task", "t.cl", "--no-passphrase", "--out", "K")
    table.run("encrypt", "--task", "t.cl", "--keys", "K", *rows, "--out", "data.cl")
    table.run("train", "--data", "data.cl", "--evaluation-keys", "K/evaluation.cl", "--out", "m.cl")
    table.run(
        "classify", "--model", "m.cl", "--data", "data.cl", "--evaluation-keys", "K/evaluation.cl", "--out", "r.cl"
    )
    done = table.run("decrypt", "--reply", "r.cl", "--keys", "K", "--truth", "labels.csv", "--json")
    assert json.loads(done.stdout)["accuracy"] > 0.9
