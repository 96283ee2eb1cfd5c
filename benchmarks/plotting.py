"""The plot of the engine benchmark: time against ring dimension, one line a library, both axes logarithmic."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Final

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator
from peers.common import Record, is_ours

PANELS: Final = (("rotate", "Rotation"), ("multiply_relinearise", "Multiplication and relinearisation"))
OUR_COLOURS: Final = ("#c8102e", "#f0803c", "#8c1d40")
PEER_STYLES: Final = {
    "SEAL": ("#2a5caa", "s"),
    "Lattigo": ("#2e8b57", "^"),
    "OpenFHE": ("#6b4c9a", "D"),
}
INK: Final = "#333333"


def _points(records: Sequence[Record], library: str, operation: str) -> list[tuple[int, float]]:
    """(ring dimension, milliseconds), the fastest parameters where a library has several for one ring."""
    best: dict[int, float] = {}
    for record in records:
        if record.library == library and record.operation == operation and record.median_seconds is not None:
            milliseconds = record.median_seconds * 1e3
            best[record.ring_dimension] = min(milliseconds, best.get(record.ring_dimension, milliseconds))
    return sorted(best.items())


def _apart(places: dict[str, float], gap: float) -> dict[str, float]:
    """Moves labels along a logarithmic axis until neighbours stand a factor of `gap` apart, keeping their middle."""
    moved = dict(places)
    names = sorted(moved, key=lambda name: moved[name])
    for _ in range(100):
        for below, above in pairwise(names):
            short = gap / (moved[above] / moved[below])
            if short > 1.0001:
                moved[below] /= short**0.5
                moved[above] *= short**0.5
    return moved


def _style(libraries: Sequence[str]) -> dict[str, tuple[str, str]]:
    ours = [library for library in libraries if is_ours(library)]
    style = {library: (OUR_COLOURS[i % len(OUR_COLOURS)], "o") for i, library in enumerate(ours)}
    return style | {library: PEER_STYLES.get(library, ("#777777", "v")) for library in libraries if library not in ours}


def _tick(value: float, _position: int) -> str:
    return f"{value:g}"


def _draw_panel(axes: Axes, records: Sequence[Record], operation: str, title: str) -> None:
    libraries = list(dict.fromkeys(record.library for record in records))
    ends: dict[str, float] = {}
    for library, (colour, marker) in _style(libraries).items():
        points = _points(records, library, operation)
        if not points:
            continue
        width = 2.6 if is_ours(library) else 1.5
        axes.plot(
            *zip(*points, strict=True), color=colour, marker=marker, markersize=5.5, linewidth=width, label=library
        )
        if points[-1][0] == max(record.ring_dimension for record in records):
            ends[library] = points[-1][1]
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.set_title(title, loc="left", fontsize=11, color=INK)
    axes.set_xlabel("ring dimension N, primes in Q", color=INK)
    rings = sorted({(record.ring_dimension, record.limbs) for record in records})
    axes.set_xlim(rings[0][0] / 1.1, rings[-1][0] * 1.1)
    axes.xaxis.set_major_locator(FixedLocator([dimension for dimension, _ in rings]))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xticklabels([f"$2^{{{dimension.bit_length() - 1}}}$\n{limbs}" for dimension, limbs in rings])
    axes.yaxis.set_major_locator(
        FixedLocator([0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000])
    )
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(FuncFormatter(_tick))
    axes.grid(color="#dddddd", linewidth=0.7)
    axes.set_axisbelow(True)
    axes.tick_params(colors=INK, length=0)
    for side in ("top", "right", "left", "bottom"):
        axes.spines[side].set_visible(False)
    if ends:
        for library, place in _apart(ends, 1.35).items():
            axes.annotate(
                library,
                (max(record.ring_dimension for record in records), place),
                xytext=(9, 0),
                textcoords="offset points",
                va="center",
                color=_style(libraries)[library][0],
                fontweight="bold" if is_ours(library) else "normal",
                annotation_clip=False,
            )
    # A library whose rings stop earlier is named at its last point.
    for library, (colour, _) in _style(libraries).items():
        points = _points(records, library, operation)
        if points and library not in ends:
            axes.annotate(
                library, points[-1], xytext=(0, 8), textcoords="offset points", ha="center", va="bottom", color=colour
            )


def draw(records: Sequence[Record], folder: Path, remark: str) -> list[Path]:
    """Writes engine.png and engine.svg into `folder` from the one-thread records; returns their paths.

    `remark` is the line under the panels: machine and date. Without a one-thread record nothing is drawn.
    """
    shown = [record for record in records if record.threads == 1 and record.operation in dict(PANELS)]
    shown = [record for record in shown if record.median_seconds is not None]
    if not shown:
        return []
    # A fixed salt and no date make the same records give the same file; text stays text.
    with matplotlib.rc_context({"svg.hashsalt": "engine", "svg.fonttype": "none", "font.size": 10}):
        figure = Figure(figsize=(10.5, 4.9), layout="constrained")
        panels = figure.subplots(1, len(PANELS), sharey=True)
        for axes, (operation, title) in zip(panels, PANELS, strict=True):
            _draw_panel(axes, shown, operation, title)
        panels[0].set_ylabel("milliseconds, one thread (lower is better)", color=INK)
        figure.supxlabel(remark, fontsize=8, color="#777777")
        paths = [folder / "engine.png", folder / "engine.svg"]
        figure.savefig(paths[0], dpi=160)
        figure.savefig(paths[1], metadata={"Date": None})
    return paths
