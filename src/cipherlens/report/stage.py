"""Where the demonstration happens: the folders of the parties, how commands run in them, what the server opened."""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from cipherlens.errors import CipherlensError, InputError
from cipherlens.report.processes import Run, Watch, must_run, within
from cipherlens.report.results import ServerWatch

OWNER, SERVER, STRANGER = "owner", "server", "stranger"


@dataclass(frozen=True)
class Stage:
    """Where the demonstration happens: the folders of the parties, and how commands run in them."""

    out: Path
    threads: int
    console: Console

    @property
    def owner(self) -> Path:
        """The owner's folder."""
        return self.out / OWNER

    @property
    def server(self) -> Path:
        """The server's folder: no secret key is ever in it."""
        return self.out / SERVER

    @property
    def stranger(self) -> Path:
        """The folder of someone with another key."""
        return self.out / STRANGER

    def run(self, party: str, words: str, *arguments: str, silent: bool = False) -> Run:
        """Run a party's command in its folder, watch the server's, and say so unless silent. Raises CipherlensError."""
        watched = self.out / "watched.json" if party == SERVER else None
        with self.console.status(f"{party} {words} …"):
            done = must_run([*arguments, "--threads", str(self.threads)], self.out / party, watched)
        if watched is not None and done.watch is None:
            raise CipherlensError(
                "the server's process left no record of the files it opened; run the demonstration again"
            )
        if not silent:
            self.say(party, words, done.seconds)
        return done

    def say(self, party: str, words: str, took: float) -> None:
        """A line for something that is done."""
        self.console.print(f"  [cyan]{party:<9}[/]{words:<58}[dim]{took:6.1f} s[/]", highlight=False)

    @contextmanager
    def timed(self, party: str, words: str) -> Iterator[None]:
        """Say what happens in this process, and how long it took."""
        started = time.perf_counter()
        with self.console.status(f"{party} {words} …"):
            yield
        self.say(party, words, time.perf_counter() - started)

    def send(self, name: str, sender: Path, receiver: Path) -> int:
        """Copy a file from one party's folder to another's; returns its bytes."""
        shutil.copyfile(sender / name, receiver / Path(name).name)
        return (receiver / Path(name).name).stat().st_size


def fresh_folders(out: Path) -> Path:
    """The folder, with the parties' folders new and empty; only a demonstration's own folders are replaced."""
    marker = out / ".cipherlens-demo"
    try:
        out.mkdir(parents=True, exist_ok=True)
        for name in (OWNER, SERVER, STRANGER):
            if (out / name).exists():
                if not marker.exists():
                    raise InputError(
                        f"{out / name} exists and is not from a demonstration; choose another --out folder"
                    )
                shutil.rmtree(out / name)
            (out / name).mkdir()
        marker.touch()
    except OSError as error:
        raise InputError(f"the folder {out} cannot be written: {error.strerror}; choose another with --out") from None
    return out.resolve()


def server_watch(stage: Stage, watches: Sequence[Watch], runs: int, same: bool) -> ServerWatch:
    """What the server's processes opened and loaded, all of them together."""
    paths = list(dict.fromkeys(path for watch in watches for path in watch.opened))
    inside = [path for path in paths if within(path, stage.server)]
    private = [path for path in paths if within(path, stage.owner) or within(path, stage.stranger)]
    secret = [path for path in paths if Path(path).name in ("secret.cl", "task.cl")]
    modules = {module for watch in watches for module in watch.modules}
    return ServerWatch(
        tuple(dict.fromkeys(_plain_name(path, stage.server) for path in inside)),
        tuple(path for path in paths if path not in set(inside)),
        tuple(dict.fromkeys(private + secret)),
        tuple(sorted(m for m in modules if m == "cipherlens._secret" or m.startswith("cipherlens.owner"))),
        runs,
        same,
    )


def _plain_name(path: str, folder: Path) -> str:
    """A path in the server's folder as it is shown: temporary files under the name that they get when complete."""
    name = str(Path(path).relative_to(folder.resolve()))
    if name == ".":
        return "the folder itself, to see whether it can be written"
    written = re.fullmatch(r"\.(.+)\.[0-9a-f]+\.part", name)
    return f"{written[1]}, while writing it" if written else name
