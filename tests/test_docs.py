"""README, SECURITY and docs: every command and snippet runs, every name and link that they mention is there."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])

CLUSTER = "needs several machines; tests/test_cluster.py runs these commands on two nodes"

NOT_RUN = {
    "make demo": "builds an environment and takes minutes; the demonstration has tests of its own",
    "make test": "is what runs this test",
    "pip install '.[owner]'    # who encrypts and decrypts": "compiles the core into another environment",
    "pip install '.[server]'   # who computes: neither image nor network libraries": "as above",
    "cipherlens train --cluster ray --data train.cl --evaluation-keys KEYS/evaluation.cl --out model.cl": CLUSTER,
    "cipherlens classify --cluster ray://10.0.0.1:6379 --model model.cl --data query.cl       "
    "--evaluation-keys KEYS/evaluation.cl --out reply.cl": CLUSTER,
    "cipherlens serve --cluster ray://10.0.0.1:6379 --data provider": CLUSTER,
    "export RAY_AUTH_MODE=token RAY_USAGE_STATS_ENABLED=0                       # on every machine": CLUSTER,
    "ray start --head --object-store-memory=20000000000                        # on one": CLUSTER,
    "ray start --address=10.0.0.1:6379 --object-store-memory=20000000000       # on the others": CLUSTER,
}
"""Commands that cannot run in a test, and why. Everything else that a page shows as a command runs."""

PLAIN = {"", "text", "json", "csv"}
"""Languages of blocks that show something and are not to be run."""

COMMAND = re.compile(r"^(\$|cipherlens|make|pip|python|git) ", re.MULTILINE)

IMAGES_A_CLASS = 60
"""Snippets that write the demonstration's images go on with this many of each class, which takes seconds."""

FENCE = re.compile(
    r"^(?P<indent> *)```(?P<language>[\w-]*)[^\n]*\n(?P<text>.*?)^(?P=indent)```\s*$", re.MULTILINE | re.DOTALL
)
LINK = re.compile(r"""!?\[[^\]]*\]\(([^)\s]+)\)|<img[^>]* src="([^"]+)\"""")
TEST = re.compile(r"`(tests/[\w/]+\.py)(?:::(\w+))?`")


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, text, and the line that it begins in."""

    language: str
    text: str
    line: int

    @property
    def commands(self) -> list[str]:
        """What a console block shows behind its prompts; lines that end in a backslash go on."""
        found: list[str] = []
        for line in self.text.splitlines():
            if line.startswith("$ "):
                found.append(line[2:])
            elif found and found[-1].endswith("\\"):
                found[-1] = found[-1][:-1] + line.removeprefix(">")
        return [command.strip() for command in found]


def blocks(page: Path) -> Iterator[Block]:
    """Every fenced block of a page."""
    text = page.read_text(encoding="utf-8")
    for match in FENCE.finditer(text):
        yield Block(match["language"], match["text"], text.count("\n", 0, match.start()) + 1)


def name(page: Path) -> str:
    """A page's path in the repository."""
    return page.relative_to(ROOT).as_posix()


def runnable(page: Path) -> list[Block]:
    """The blocks of a page that are run."""
    return [block for block in blocks(page) if block.language in ("console", "python")]


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_blocks_say_what_they_are(page: Path) -> None:
    """A command in a block of another kind would go unnoticed."""
    for block in blocks(page):
        assert block.language in PLAIN | {"console", "python"}, f"{name(page)}:{block.line}: {block.language}"
        if block.language == "console":
            assert block.commands, f"{name(page)}:{block.line}: a console block without a command"
        elif block.language in PLAIN and page.name != "CONTRIBUTING.md":
            assert not COMMAND.search(block.text), f"{name(page)}:{block.line}: mark it as console"


def test_what_is_not_run_is_still_there() -> None:
    shown = {command for page in PAGES for block in blocks(page) for command in block.commands}
    assert set(NOT_RUN) <= shown


def thin(folder: Path) -> None:
    """Leave the first few images of each class."""
    for of_class in folder.glob("photos/*/*"):
        for image in sorted(of_class.iterdir())[IMAGES_A_CLASS:]:
            image.unlink()


def environment(folder: Path) -> dict[str, str]:
    """The surroundings of a reader who has installed the package: `cipherlens` and `python` on the search path."""
    tools = folder / "bin"
    tools.mkdir()
    command = tools / "cipherlens"
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m cipherlens.cli.main "$@"\n')
    command.chmod(0o755)
    paths = [str(tools), sysconfig.get_path("scripts"), os.environ.get("PATH", os.defpath)]
    modules = [path for path in sys.path if path]
    return os.environ | {
        "PATH": os.pathsep.join(paths),
        "PYTHONPATH": os.pathsep.join(modules),
        "XDG_CACHE_HOME": str(folder / "cache"),
        "COLUMNS": "120",
    }


def run_commands(block: Block, folder: Path, surroundings: dict[str, str], where: str) -> None:
    """Each command of a console block in a shell of its own; none may fail."""
    for command in block.commands:
        if command in NOT_RUN:
            continue
        done = subprocess.run(
            ["bash", "-c", f"set -eu -o pipefail\n{command}"],
            cwd=folder, env=surroundings, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=300, check=False,
        )  # fmt: skip
        assert done.returncode == 0, f"{where}: {command}\n{done.stdout}{done.stderr}"


@pytest.mark.parametrize("page", [page for page in PAGES if runnable(page)], ids=name)
def test_commands_and_snippets_run(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The blocks of a page one after another, in one folder; Python blocks share their names."""
    surroundings = environment(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", surroundings["XDG_CACHE_HOME"])
    work = tmp_path / "work"
    work.mkdir()
    (work / "tests").symlink_to(ROOT / "tests")  # pages about the format read its test vectors
    monkeypatch.chdir(work)
    names: dict[str, object] = {"__name__": "__main__"}
    for block in runnable(page):
        where = f"{name(page)}:{block.line}"
        if block.language == "console":
            run_commands(block, work, surroundings, where)
            continue
        code = compile("\n" * block.line + block.text, str(page), "exec")
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            exec(code, names)
        thin(work)


def slugs(page: Path) -> set[str]:
    """The anchors of a page's headings."""
    text = re.sub(FENCE, "", page.read_text(encoding="utf-8"))
    heads = re.findall(r"^#+ +(.+?)\s*$", text, re.MULTILINE)
    return {re.sub(r"[ ]", "-", re.sub(r"[^\w\- ]", "", head.lower())) for head in heads}


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_lead_somewhere(page: Path) -> None:
    text = re.sub(FENCE, "", page.read_text(encoding="utf-8"))
    for match in LINK.finditer(text):
        address = match[1] or match[2]
        if re.match(r"[a-z]+:", address):
            continue
        path, _, place = address.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), f"{name(page)} links to {address}"
        if place:
            assert place in slugs(target), f"{name(page)} links to {address}, and there is no such heading"


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_tests_that_are_named_exist(page: Path) -> None:
    for path, function in TEST.findall(page.read_text(encoding="utf-8")):
        assert (ROOT / path).is_file(), f"{name(page)} names {path}"
        if function:
            source = (ROOT / path).read_text(encoding="utf-8")
            assert f"def {function}(" in source, f"{name(page)} names {path}::{function}"


def test_the_security_table_of_the_pages_is_that_of_the_code() -> None:
    from cipherlens.scheme.security import LARGEST_MODULUS_BITS

    limits = "| log2(QP) at most | " + " | ".join(str(bits) for bits in LARGEST_MODULUS_BITS.values()) + " |"
    for page in (ROOT / "SECURITY.md", ROOT / "docs" / "security.md"):
        assert limits in page.read_text(encoding="utf-8")


@pytest.mark.parametrize(("script", "again"), [("page.py", ""), ("scaling.py", " --page")])
def test_figures_are_those_of_the_results(script: str, again: str) -> None:
    """After `make bench-learning` or `make bench-engine`: python benchmarks/page.py, and scaling.py --page."""
    command = [sys.executable, str(ROOT / "benchmarks" / script), "--check"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"run python benchmarks/{script}{again}\n{done.stdout}{done.stderr}"


def test_the_site_builds_and_loads_nothing_from_elsewhere(tmp_path: Path) -> None:
    pytest.importorskip("mkdocs", reason="pip install 'cipherlens[docs]' brings mkdocs")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path / "site")],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    for html in (tmp_path / "site").glob("*.html"):
        loaded = re.findall(r"""(?:src|<link[^>]+href)=["'](https?:|//)""", html.read_text(encoding="utf-8"))
        assert not loaded, f"{html.name} loads from elsewhere"
    shutil.rmtree(tmp_path / "site")
