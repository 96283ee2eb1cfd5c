"""The service benchmark's records, as JSON, as tables and as a plot."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import matplotlib
from learning_report import CLASSIFY, CLEAR, INK, OURS, markdown_table, seconds
from matplotlib.axes import Axes
from matplotlib.figure import Figure

MOST_RATIO: Final = 1.15
LEAST_THROUGHPUT: Final = 0.9
MOST_GROWTH: Final = 1.1
"""Of the server's memory from the first half of the load to the second: what it holds for its owners is there by then."""


@dataclass(frozen=True)
class Whole:
    """The demonstration's task. Seconds are medians; *whole* is from planning to decrypted answers, *server* the two
    commands `train` and `classify`, which with the service upload, wait and download."""

    runs: int
    files_whole_seconds: float
    service_whole_seconds: float
    whole_ratio: float
    files_server_seconds: float
    service_server_seconds: float
    server_ratio: float
    uploaded_bytes: int
    service_memory_mb: float

    @property
    def good(self) -> bool:
        """Whether the way over the network costs no more than it may."""
        return self.whole_ratio <= MOST_RATIO


@dataclass(frozen=True)
class Load:
    """A number of owners who classify without a pause. A reply under another key, or with another label than the same
    algorithm gives in the clear, is mixed up. Memory is the largest of all the server's processes together, in the
    first half of the time and in the second."""

    owners: int
    images: int
    seconds: float
    classifications: int
    errors: int
    mixed_up: int
    throughput: float
    median_seconds: float
    p99_seconds: float
    first_memory_mb: float
    memory_mb: float

    @property
    def good(self) -> bool:
        """Whether every reply was right, and the memory does not go on growing."""
        return self.errors == self.mixed_up == 0 and self.memory_mb <= MOST_GROWTH * self.first_memory_mb


@dataclass(frozen=True)
class Kills:
    """`kill -9` at random moments.

    Attributes:
        killed: how often each part was, `all` meaning all processes at once.
        met: how often a kill met the owner's upload, training or classification, or the time between.
        sessions: of uploading, training, classifying and deleting that ended well, each with the undisturbed run's bytes.
        queued_again: jobs that were taken from the dead. defects: lines of the log about failures that nobody foresaw.
        failure: what was lost, half-done or different; None when nothing was.
    """

    kills: int
    killed: dict[str, int]
    met: dict[str, int]
    sessions: int
    queued_again: int
    defects: int
    seconds: float
    seed: int
    failure: str | None

    @property
    def good(self) -> bool:
        """Whether nothing was lost, half-visible or different."""
        return self.failure is None and self.defects == 0


@dataclass(frozen=True)
class Report:
    """What was measured; None or empty for a part that was not."""

    where: str
    whole: Whole | None
    loads: Sequence[Load]
    kills: Kills | None

    @property
    def share(self) -> float | None:
        """All owners' throughput against one owner's."""
        return self.loads[-1].throughput / self.loads[0].throughput if self.loads else None

    @property
    def good(self) -> bool:
        """Whether every figure keeps its bound."""
        parts = [*self.loads, *(part for part in (self.whole, self.kills) if part is not None)]
        return all(part.good for part in parts) and (self.share is None or self.share >= LEAST_THROUGHPUT)


# ---- tables ----------------------------------------------------------------------------------------------------------


def markdown(report: Report) -> str:
    """All parts as tables."""
    parts = [f"Measured by `make bench-service`: {report.where}.\n"]
    if report.whole is not None:
        parts += _whole(report.whole)
    if report.loads:
        parts += _loads(report.loads, report.share or 0.0)
    if report.kills is not None:
        parts += _kills(report.kills)
    return "\n".join(parts)


def _whole(whole: Whole) -> list[str]:
    columns = ("cats, 800 training and 200 test images", "files", "service", "ratio")
    rows = [
        ["from planning to answers", seconds(whole.files_whole_seconds), seconds(whole.service_whole_seconds),
         f"{whole.whole_ratio:.2f} (at most {MOST_RATIO})"],
        ["train and classify alone", seconds(whole.files_server_seconds), seconds(whole.service_server_seconds),
         f"{whole.server_ratio:.2f}"],
    ]  # fmt: skip
    return [
        markdown_table(columns, rows),
        f"Medians of {whole.runs} runs, each with fresh keys; {whole.uploaded_bytes / 1e6:.0f} MB are uploaded. "
        f"The server's processes took {whole.service_memory_mb:,.0f} MB together at most.\n",
    ]


def _loads(loads: Sequence[Load], share: float) -> list[str]:
    columns = ("owners", "replies", "a second", "median", "p99", "errors", "mixed up", "server's memory")
    rows = [
        [str(load.owners), f"{load.classifications:,}", f"{load.throughput:.2f}", seconds(load.median_seconds),
         seconds(load.p99_seconds), str(load.errors), str(load.mixed_up),
         f"{load.first_memory_mb:,.0f}, then {load.memory_mb:,.0f} MB"]
        for load in loads
    ]  # fmt: skip
    return [
        markdown_table(columns, rows),
        f"Each owner, with keys of its own, classifies {loads[-1].images} images at a time, without a pause, for "
        f"{loads[-1].seconds:.0f} s; together they get {share:.0%} of one owner's throughput (at least "
        f"{LEAST_THROUGHPUT:.0%}). Memory is the peak of all the server's processes together, in the first half of that "
        "time and in the second.\n",
    ]


def _kills(kills: Kills) -> list[str]:
    columns = ("`kill -9`", "of the web process", "of a worker", "of the supervisor", "of all at once",
               "in uploads", "in trainings", "in classifications", "sessions", "jobs queued again",
               "lost, half-visible or different")  # fmt: skip
    killed = [str(kills.killed.get(role, 0)) for role in ("web", "worker", "supervisor", "all")]
    met = [str(kills.met.get(phase, 0)) for phase in ("upload", "train", "classify")]
    row = [str(kills.kills), *killed, *met, str(kills.sessions), str(kills.queued_again), kills.failure or "nothing"]
    return [
        markdown_table(columns, [row]),
        f"At random moments within {kills.seconds:.0f} s (seed {kills.seed}). A session uploads, trains, classifies and "
        "deletes; every byte that comes back is compared with what an undisturbed run gives.\n",
    ]


# ---- plot ------------------------------------------------------------------------------------------------------------


def _bars(axes: Axes, title: str, bars: Sequence[tuple[str, float, str, str]]) -> None:
    """One bar for each label, length, colour and words at its end."""
    for place, (_, length, colour, words) in enumerate(bars):
        axes.barh(place, length, height=0.6, color=colour)
        axes.annotate(words, (length, place), xytext=(4, 0), textcoords="offset points", va="center", color=INK)
    axes.set_yticks(range(len(bars)), [label for label, *_ in bars])
    axes.set_ylim(len(bars) - 0.4, -0.6)
    axes.set_xlim(0, 1.4 * max(length for _, length, *_ in bars))
    axes.set_title(title, loc="left", fontsize=11, color=INK)
    axes.grid(axis="x", color="#dddddd", linewidth=0.7)
    axes.set_axisbelow(True)
    axes.tick_params(colors=INK, length=0)
    for side in ("top", "right", "left", "bottom"):
        axes.spines[side].set_visible(False)


def _owners(load: Load) -> str:
    return "1 owner" if load.owners == 1 else f"{load.owners} owners"


def draw(report: Report, folder: Path) -> list[Path]:
    """Writes service-load.png and service-load.svg, one panel for each question; returns their paths.

    Nothing is drawn unless the first two parts were measured.
    """
    whole, loads = report.whole, report.loads
    if whole is None or not loads:
        return []
    # A fixed salt and no date make the same records give the same file; text stays text.
    with matplotlib.rc_context({"svg.hashsalt": "service", "svg.fonttype": "none", "font.size": 10}):
        figure = Figure(figsize=(10.5, 4.2), layout="constrained")
        panels = figure.subplots(2, 2)
        _bars(panels[0][0], "Cats, from planning to answers, seconds", [
            ("files", whole.files_whole_seconds, CLEAR, seconds(whole.files_whole_seconds)),
            ("service", whole.service_whole_seconds, OURS,
             f"{seconds(whole.service_whole_seconds)}, {whole.whole_ratio:.2f} ×"),
        ])  # fmt: skip
        _bars(panels[0][1], f"Replies a second, {loads[0].images} images each", [
            (_owners(load), load.throughput, colour, f"{load.throughput:.1f}")
            for load, colour in zip(loads, (CLEAR, OURS), strict=True)
        ])  # fmt: skip
        panels[0][1].axvline(LEAST_THROUGHPUT * loads[0].throughput, color=INK, linewidth=1, linestyle=":")
        _bars(panels[1][0], "From sending to the answer, seconds", [
            (f"{_owners(load)}, {name}", value, colour, seconds(value))
            for load in loads
            for name, value, colour in (("median", load.median_seconds, CLASSIFY), ("p99", load.p99_seconds, OURS))
        ])  # fmt: skip
        _bars(panels[1][1], "The server's memory at most, MB", [
            (_owners(load), load.memory_mb, CLASSIFY, f"{load.memory_mb:,.0f} MB") for load in loads
        ])  # fmt: skip
        figure.supxlabel(report.where, fontsize=8, color="#777777")
        paths = [folder / "service-load.png", folder / "service-load.svg"]
        figure.savefig(paths[0], dpi=160)
        figure.savefig(paths[1], metadata={"Date": None})
    return paths


def write(report: Report, folder: Path) -> list[Path]:
    """Writes service.json, service.md and the plot; returns what was written."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / "service.json", folder / "service.md"]
    paths[0].write_text(json.dumps(asdict(report), indent=1) + "\n")
    paths[1].write_text(markdown(report))
    return paths + draw(report, folder)
