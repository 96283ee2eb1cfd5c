"""The plot of published systems and ours: seconds by year, as their authors state them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from io import BytesIO
from itertools import pairwise
from typing import Any, Final

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

INK: Final = "#2b2b2b"
QUIET: Final = "#8a8a8a"
THEIRS: Final = "#4a6fa5"
OURS: Final = "#c8102e"

LOWEST: Final = 2.5e-4
"""Seconds at the lower end of the plot."""

NAMED_SECONDS: Final = {
    0.001: "1 ms", 0.01: "10 ms", 0.1: "0.1 s", 1.0: "1 s", 10.0: "10 s", 60.0: "1 min", 600.0: "10 min",
    3600.0: "1 h", 14400.0: "4 h",
}  # fmt: skip


SHORT_NAMES: Final = {
    "HELR (authors' repository)": "HELR, code",
    "HELR (paper)": "HELR, paper",
    "HETAL, five data sets, longest": "HETAL, longest of five",
    "HETAL, five data sets, shortest": "HETAL, shortest of five",
    "Kim et al. (iDASH 2017 winner)": "Kim et al., not images",
}

# Labels stand to the right of their points, except where that would cover a neighbour: (points right, points up).
LEFT: Final = frozenset({"Multiplexed ResNet-20"})
SHIFTED: Final = {"Concrete ML, VGG, 24 cores": (8.0, 11.0)}


@dataclass(frozen=True)
class Published:
    """A figure that someone published.

    Attributes:
        system, year, seconds: whose, when, how long.
        bound: "upper" or "lower" where the source gives a bound, else "".
        interactive: several parties exchange messages while computing.
        batched: throughput of many images at once, not one image's latency.
    """

    system: str
    year: int
    seconds: float
    bound: str
    interactive: bool
    batched: bool


def published(field: str) -> list[Published]:
    """The figures of one field, train_seconds or classify_seconds_per_image; systems without one are left out."""
    records: list[dict[str, Any]] = json.loads((files(__package__) / "published.json").read_text(encoding="utf-8"))
    found = []
    for record in records:
        if record[field] is None:
            continue
        measure = str(record["measure"])
        bound = next((kind for kind in ("upper", "lower") if f"{kind} bound" in measure), "")
        found.append(
            Published(
                record["system"], record["year"], record[field], bound, record["interactive"], "throughput" in measure
            )
        )
    return found


def draw(train_seconds: float, classify_seconds: float, year: int) -> bytes:
    """An SVG with two panels: training, and classifying one image. classify_seconds: ours an image, in a batch."""
    # A fixed salt and no date: equal figures give equal files.
    with matplotlib.rc_context({"svg.hashsalt": "cipherlens", "font.family": "DejaVu Sans", "font.size": 9}):
        figure = Figure(figsize=(11.4, 5.6), layout="constrained")
        training, classifying = figure.subplots(1, 2, sharey=True, width_ratios=(1, 1.45))
        _panel(training, published("train_seconds"), train_seconds, "this demo", year, "Training, whole run")
        _panel(
            classifying, published("classify_seconds_per_image"), classify_seconds, "this demo,\nin a batch", year,
            "Classifying, seconds an image",
        )  # fmt: skip
        _legend(figure)
        target = BytesIO()
        figure.savefig(target, format="svg", metadata={"Date": None})
    return target.getvalue()


def _panel(axes: Axes, theirs: Sequence[Published], ours: float, words: str, year: int, title: str) -> None:
    axes.set_yscale("log")
    axes.set_ylim(LOWEST, 5e4)
    first = min(point.year for point in theirs)
    axes.set_xlim(first - 0.6, year + 1.5)
    for point in theirs:
        hollow = point.interactive
        axes.plot(
            point.year, point.seconds, "D" if point.batched else "o", color=THEIRS, markersize=5.5,
            markerfacecolor="white" if hollow else THEIRS, zorder=3,
        )  # fmt: skip
        if point.bound:
            down = point.bound == "upper"
            axes.annotate(
                "", (point.year, point.seconds * (0.42 if down else 2.4)), (point.year, point.seconds),
                arrowprops={"arrowstyle": "->", "color": THEIRS, "lw": 1.1}, zorder=2,
            )  # fmt: skip
    for when in {point.year for point in theirs}:
        same = sorted((p for p in theirs if p.year == when), key=lambda p: p.seconds)
        places = _apart([p.seconds for p in same], 1.75)
        for point, place in zip(same, places, strict=True):
            left = point.system in LEFT
            axes.annotate(
                SHORT_NAMES.get(point.system, point.system), (when, place), textcoords="offset points",
                xytext=SHIFTED.get(point.system, (-7.0 if left else 7.0, 0.0)), ha="right" if left else "left",
                va="center", fontsize=7.5, color=INK,
            )  # fmt: skip
    axes.plot(year, ours, "*", color=OURS, markersize=15, zorder=4)
    below = ours > LOWEST * 100  # or the words would stand on the axis
    axes.annotate(
        f"{words}\n{_seconds(ours)}", (year, ours), xytext=(0, -12 if below else 12), textcoords="offset points",
        ha="center", va="top" if below else "bottom", fontsize=8.5, fontweight="bold", color=OURS,
    )  # fmt: skip
    axes.set_title(title, loc="left", fontsize=10.5, color=INK)
    axes.xaxis.set_major_locator(FixedLocator(range(first, year + 1, 2 if year - first > 6 else 1)))
    axes.yaxis.set_major_locator(FixedLocator(list(NAMED_SECONDS)))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: NAMED_SECONDS.get(value, f"{value:g} s")))
    axes.grid(axis="y", color="#e4e4e4", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(colors=INK, length=0)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color("#bbbbbb")


def _legend(figure: Figure) -> None:
    from matplotlib.lines import Line2D

    def mark(symbol: str, face: str, words: str) -> Line2D:
        return Line2D([], [], linestyle="", marker=symbol, color=THEIRS, markerfacecolor=face, label=words)

    figure.legend(
        handles=[
            mark("o", THEIRS, "published, one image or one training"),
            mark("D", THEIRS, "published, throughput of a batch"),
            mark("o", "white", "published, interactive protocol"),
            mark("$\\downarrow$", THEIRS, "published as a bound"),
            Line2D([], [], linestyle="", marker="*", markersize=11, color=OURS, label="measured in this run"),
        ],
        loc="outside lower center", ncols=5, frameon=False, fontsize=8, labelcolor=INK, handletextpad=0.2,
    )  # fmt: skip


def _seconds(value: float) -> str:
    return f"{value * 1e3:.1f} ms" if value < 1 else f"{value:.1f} s"


def _apart(places: Sequence[float], gap: float) -> list[float]:
    """Moves ascending labels along a logarithmic axis until neighbours stand a factor of `gap` apart."""
    moved = list(places)
    for _ in range(200):
        for below, above in pairwise(range(len(moved))):
            short = gap / (moved[above] / moved[below])
            if short > 1.0001:
                moved[below] /= short**0.5
                moved[above] *= short**0.5
    return moved
