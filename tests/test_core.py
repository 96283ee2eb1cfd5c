"""The core's own test, in C++ without Python, compiled and run on this machine; and which kernels have run it."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from cipherlens._evaluator import available_kernels
from cipherlens.cli.doctor import EXERCISED_KERNELS

ROOT = Path(__file__).parent.parent


def recorded() -> dict[str, str]:
    """By kernel, the digest of the run that digests.txt records."""
    lines = (ROOT / "core" / "tests" / "digests.txt").read_text().splitlines()
    return dict(line.split() for line in lines if not line.startswith("#"))


@pytest.fixture(scope="module")
def printed() -> list[str]:
    """What the test prints. It is built where `make build` compiled the core, which takes seconds the first time."""
    caches = sorted((ROOT / "build").glob("*/build.ninja"), key=lambda path: path.stat().st_mtime)
    assert caches, "the core was not compiled here; run make build"
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    cmake = shutil.which("cmake", path=path)
    assert cmake is not None
    build = [cmake, "--build", str(caches[-1].parent), "--target", "core_test"]
    compiled = subprocess.run(build, env={**os.environ, "PATH": path}, capture_output=True, text=True, check=False)
    assert compiled.returncode == 0, compiled.stdout + compiled.stderr
    run = subprocess.run([caches[-1].parent / "core_test"], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout
    return run.stdout.splitlines()


def test_the_core_passes_its_own_test_on_every_kernel(printed: list[str]) -> None:
    assert printed[:-1] == [f"{name} checked" for name in available_kernels()]


def test_the_digest_is_that_of_every_other_machine(printed: list[str]) -> None:
    """A change of the core's test needs another run of tools/test_aarch64.sh --record."""
    assert {f"digest {digest}" for digest in recorded().values()} == {printed[-1]}


def test_doctor_names_the_kernels_that_have_run_the_tests(printed: list[str]) -> None:
    assert set(EXERCISED_KERNELS) == set(recorded())
    assert set(available_kernels()) <= set(recorded())
