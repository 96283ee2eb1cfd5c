"""Full disks, signals and failures in the middle of a command: one sentence, nothing half-written, nothing lost."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from cli_workflow import EVALUATION, Workflow, contents, environment, one_sentence

from cipherlens.cli.main import main


def limited(work: Workflow, kilobytes: int, *arguments: str) -> subprocess.CompletedProcess[str]:
    """A command whose files may have so many kilobytes: what a full disk does to it."""
    return subprocess.run(
        ["bash", "-c", f'ulimit -f {kilobytes}; exec cipherlens "$@"', "cipherlens", *arguments],
        cwd=work.root,
        env=environment(work.root / "cache"),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.mark.parametrize(
    "arguments",
    [
        ("keys", "create", "--task", "task.cl", "--no-passphrase", "--out", "FULL"),
        ("encrypt", "--task", "task.cl", "--keys", "KEYS", "--images", "test", "--out", "data.cl"),
        ("train", "--data", "data.cl", "--evaluation-keys", EVALUATION, "--out", "model.cl"),
        ("decrypt", "--model", "model.cl", "--keys", "KEYS", "--out", "weights.npz"),
    ],
    ids=lambda arguments: arguments[0],
)
def test_a_full_disk(work: Workflow, arguments: tuple[str, ...]) -> None:
    before = contents(work.root)
    done = limited(work, 1, *arguments)
    assert done.returncode == 1
    assert "disk" in one_sentence(done.stderr)
    assert contents(work.root) == before and not (work / "FULL").exists()


INTERRUPTED = """
import os, signal, sys
from cipherlens.wire.writer import Writer
write, rows = Writer.write, []
def interrupted(self, name, array):
    write(self, name, array)
    rows.append(name)
    if len(rows) == int(sys.argv[1]):
        os.kill(os.getpid(), signal.SIGINT)
Writer.write = interrupted
from cipherlens.cli.main import main
from cipherlens.learning.task import PublicTask
sys.exit(main(sys.argv[2:]))
"""


@pytest.mark.parametrize(
    ("row", "arguments"),
    [
        (5, ("keys", "create", "--task", "task.cl", "--no-passphrase", "--out", "HALF")),
        (70, ("keys", "create", "--task", "task.cl", "--no-passphrase", "--out", "HALF")),
        (2, ("encrypt", "--task", "task.cl", "--keys", "KEYS", "--images", "test", "--out", "data.cl")),
        (1, ("plan", "--images", "train", "--features", "pixels:8x8", "--dimension", "64", "--out", "begun.cl")),
        (
            2,
            (
                "classify",
                "--model",
                "model.cl",
                "--data",
                "query.cl",
                "--evaluation-keys",
                EVALUATION,
                "--out",
                "reply.cl",
            ),
        ),
    ],
    ids=["keys", "secret-key", "encrypt", "plan", "classify"],
)
def test_ctrl_c_in_the_middle_of_writing(work: Workflow, row: int, arguments: tuple[str, ...]) -> None:
    """Interrupted with some rows on the disk: what was there stays, what was begun goes."""
    before = contents(work.root)
    done = subprocess.run(
        [sys.executable, "-c", INTERRUPTED, str(row), *arguments],
        cwd=work.root,
        env=environment(work.root / "cache"),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 130 and done.stdout == ""
    assert one_sentence(done.stderr) == "cipherlens: interrupted; nothing half-written was left\n"
    assert contents(work.root) == before and not (work / "HALF").exists()


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="needs /proc to see what a process has loaded")
@pytest.mark.parametrize(
    ("number", "status", "words"),
    [
        (signal.SIGINT, 130, "interrupted"),
        (signal.SIGTERM, 143, "ended by SIGTERM"),
        (signal.SIGHUP, 129, "ended by SIGHUP"),
    ],
)
def test_signals_while_computing(work: Workflow, number: signal.Signals, status: int, words: str) -> None:
    """A signal from outside, as soon as the process has loaded the engine."""
    before = contents(work.root)
    process = subprocess.Popen(
        [
            "cipherlens",
            "train",
            "--data",
            "data.cl",
            "--evaluation-keys",
            EVALUATION,
            "--out",
            "model.cl",
            "--threads",
            "1",
        ],
        cwd=work.root,
        env={**environment(work.root / "cache"), "CIPHERLENS_KERNEL": "portable"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    maps, until = Path(f"/proc/{process.pid}/maps"), time.monotonic() + 60
    while "_evaluator" not in maps.read_text() and time.monotonic() < until:
        time.sleep(0.01)
    time.sleep(0.4)
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert process.returncode == status and out == ""
    assert one_sentence(err) == f"cipherlens: {words}; nothing half-written was left\n"
    assert contents(work.root) == before


def test_ctrl_c_while_arguments_are_read(work: Workflow) -> None:
    """Typer ends silently then; the command does not."""
    early = "import sys\nfrom cipherlens.cli import app, main\napp.run_command = lambda arguments: 130\n"
    done = subprocess.run(
        [sys.executable, "-c", early + "sys.exit(main.main(['doctor', '--json']))"],
        env=environment(work.root / "cache"), capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 130 and json.loads(done.stdout)["error"]["kind"] == "Interrupted"
    assert one_sentence(done.stderr) == "cipherlens: interrupted; nothing half-written was left\n"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_standard_output_that_cannot_be_written(work: Workflow) -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            ["cipherlens", "doctor", "--json"], env=environment(work.root / "cache"), stdout=full,
            stderr=subprocess.PIPE, text=True, timeout=60, check=False,
        )  # fmt: skip
    assert done.returncode == 1 and "the disk is full" in one_sentence(done.stderr)


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_standard_streams_are_no_failure(work: Workflow, tmp_path: Path, closed: str) -> None:
    env = environment(work.root / "cache")
    copy = tmp_path / "model.cl"
    train = f"cipherlens train --data data.cl --evaluation-keys KEYS/evaluation.cl --out {copy} {closed}"
    done = subprocess.run(["sh", "-c", train], env=env, cwd=work.root, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr.count("Traceback")) == (0, 0), done.stderr
    assert copy.read_bytes() == (work / "model.cl").read_bytes()
    refused = ["sh", "-c", f"cipherlens inspect nothing.cl {closed}"]
    done = subprocess.run(refused, env=env, cwd=work.root, capture_output=True, text=True, check=False)
    assert done.returncode == 1 and done.stderr.count("\n") == ("2>&-" not in closed)


def test_a_defect_is_one_sentence_too(
    work: Workflow, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(path: Path) -> None:
        raise ZeroDivisionError("the secret is 42")

    monkeypatch.setattr("cipherlens.cli.contents.read_contents", fail)
    assert main(["inspect", str(work / "data.cl")]) == 1
    printed = capsys.readouterr().err
    assert printed.count("\n") == 1 and "ZeroDivisionError" in printed and "CIPHERLENS_TRACEBACK=1" in printed
    assert "42" not in printed
    monkeypatch.setenv("CIPHERLENS_TRACEBACK", "1")
    assert main(["inspect", str(work / "data.cl")]) == 1
    assert "Traceback" in capsys.readouterr().err


def test_too_little_memory(work: Workflow, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def fail(path: Path) -> None:
        raise MemoryError

    monkeypatch.setattr("cipherlens.cli.contents.read_contents", fail)
    assert main(["inspect", str(work / "data.cl")]) == 1
    assert "memory" in one_sentence(capsys.readouterr().err)
