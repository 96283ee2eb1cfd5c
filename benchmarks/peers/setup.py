"""Makes one virtual environment for each peer library and writes down which of them can be measured.

`python benchmarks/peers/setup.py` (what `make bench-peers` runs) installs into `.venv-peers/NAME` beside this
repository's files and writes `.venv-peers/status.json`, which benchmarks/engine.py reads. A peer that does not
install or does not import is reported with the reason and left out; that is not a failure of the script.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2] / ".venv-peers"

LOAD_LATTIGO = (
    "import ctypes, importlib.util, pathlib; "
    "folder = pathlib.Path(importlib.util.find_spec('orion').origin).parent / 'backend' / 'lattigo'; "
    "ctypes.CDLL(str(folder / 'lattigo-linux.so')).GetModuliChain"
)


@dataclass(frozen=True)
class Peer:
    """One library: what pip installs, and the statement that proves that it works here."""

    name: str
    requirement: str
    pip_options: tuple[str, ...]
    proof: str
    pythons: tuple[str, ...] = ()
    """Further Python versions to try when this one does not do."""


PEERS = (
    Peer("seal", "tenseal==0.3.18", (), "import tenseal.sealapi"),
    # Without its dependencies (PyTorch among them): only the Go library inside is used.
    Peer("lattigo", "orion-fhe==1.0.2", ("--no-deps",), LOAD_LATTIGO),
    # One wheel for CPython 3.10 and one for 3.12, each built for one Ubuntu release; both claim other versions too.
    Peer("openfhe", "openfhe==1.6.1.*", (), "import openfhe", ("3.12", "3.10")),
)


@dataclass(frozen=True)
class Status:
    """What became of one peer; `python` is the interpreter to run it with, or None."""

    name: str
    requirement: str
    python: str | None
    message: str


def run(command: list[str]) -> tuple[bool, str]:
    """Whether the command succeeded, and the last line it printed on failure."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=900)
    except (OSError, subprocess.TimeoutExpired) as error:
        return False, str(error)
    lines = [line for line in (done.stdout + done.stderr).splitlines() if line.strip()]
    return done.returncode == 0, "" if done.returncode == 0 or not lines else lines[-1].strip()


def interpreters(version: str) -> list[str]:
    """Interpreters of one Python version on the search path or kept by pyenv or uv, those that start."""
    homes = (
        Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions",
        Path.home() / ".local" / "share" / "uv" / "python",
    )
    found = [shutil.which(f"python{version}")]
    for home in homes:
        found += [str(path) for path in sorted(home.glob(f"*{version}*/bin/python{version}"))]
    check = f"import sys; sys.exit('%d.%d' % sys.version_info[:2] != '{version}')"
    return [path for path in found if path is not None and run([path, "-c", check])[0]]


def install(peer: Peer, python: str) -> tuple[Path | None, str]:
    """Installs the peer into its environment; returns its interpreter, or None and why not."""
    folder = ROOT / peer.name
    inside = folder / "bin" / "python"
    shutil.rmtree(folder, ignore_errors=True)
    steps = (
        ([python, "-m", "venv", str(folder)], "no environment"),
        ([str(inside), "-m", "pip", "install", "--quiet", *peer.pip_options, peer.requirement], "does not install"),
        ([str(inside), "-c", peer.proof], "does not import"),
    )
    for command, what in steps:
        worked, reason = run(command)
        if not worked:
            shutil.rmtree(folder, ignore_errors=True)
            return None, f"{what} ({reason.replace(str(folder) + os.sep, '')})"
    return inside, "installed"


def prepare(peer: Peer, before: Status | None) -> Status:
    """Keeps the environment of `before` while it works; else tries this Python, then the peer's further ones."""
    if (
        before
        and before.python
        and before.requirement == peer.requirement
        and run([before.python, "-c", peer.proof])[0]
    ):
        return before
    own = f"{sys.version_info.major}.{sys.version_info.minor}"
    attempts = [(own, sys.executable)]
    for version in peer.pythons:
        if version != own:
            attempts += [(version, path) for path in interpreters(version)[:1]]
    refusals: list[str] = []
    for version, python in attempts:
        found, message = install(peer, python)
        if found is not None:
            message = "; ".join([*refusals, f"Python {version}: {message}"])
            return Status(peer.name, peer.requirement, str(found), message)
        refusals.append(f"Python {version}: {message}")
    return Status(peer.name, peer.requirement, None, "; ".join(refusals))


def main() -> None:
    """Prepares every peer, or those named."""
    names = [peer.name for peer in PEERS]
    parser = argparse.ArgumentParser(description="Installs the peer libraries, each into its own environment.")
    parser.add_argument("peers", nargs="*", metavar="PEER", help=f"any of {', '.join(names)} (default: all)")
    parser.add_argument("--fresh", action="store_true", help="install again even where a working one exists")
    chosen = parser.parse_args()
    unknown = sorted(set(chosen.peers) - set(names))
    if unknown:
        parser.error(f"no peer is called {', '.join(unknown)}; choose from {', '.join(names)}")
    ROOT.mkdir(exist_ok=True)
    path = ROOT / "status.json"
    status = json.loads(path.read_text()) if path.is_file() else {}
    for peer in PEERS:
        if not chosen.peers or peer.name in chosen.peers:
            before = status.get(peer.name)
            result = prepare(peer, Status(**before) if before and not chosen.fresh else None)
            status[peer.name] = asdict(result)
            print(f"{peer.name:8}  {peer.requirement:18}  {result.message}", flush=True)
    path.write_text(json.dumps(status, indent=1) + "\n")


if __name__ == "__main__":
    main()
