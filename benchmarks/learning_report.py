"""The learning benchmark as tables and as a plot."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import matplotlib
from learning_data import TASKS
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullLocator
from rich.console import Console
from rich.table import Table

__all__ = ["markdown_table", "show", "write"]

Row = Mapping[str, Any]
Besides = Mapping[str, Row]
"""The records of learning_beside.json by task."""

OURS: Final = "#c8102e"
CLASSIFY: Final = "#f0803c"
CLEAR: Final = "#2a5caa"
MEANS: Final = "#777777"
INK: Final = "#333333"

TOLERANCE: Final = 0.25
"""How far a forecast may be from what was measured."""

ACCURACY_COLUMNS: Final = (
    "task",
    "learner",
    "images (clear)",
    "features",
    "encrypted",
    "twin",
    "exact",
    "exact ridge",
    "linear means",
    "agreement",
    "max |ΔW|",
)
TIME_COLUMNS: Final = (
    "task",
    "ring",
    "train",
    "forecast",
    "classify",
    "forecast",
    "features",
    "keys",
    "encrypt",
    "exact",
    "slowdown",
)
SIZE_COLUMNS: Final = ("task", "levels", "key switches", "memory", "upload", "evaluation keys")


def seconds(value: float) -> str:
    """Two digits, with the unit that keeps them readable."""
    if value < 1e-3:
        return f"{value * 1e6:.0f} µs"
    if value < 0.1:
        return f"{value * 1e3:.2g} ms" if value < 0.01 else f"{value * 1e3:.0f} ms"
    return f"{value:.2f} s" if value < 10 else f"{value:.1f} s"


def _percent(share: float) -> str:
    return f"{100 * share:.2f} %"


def _forecast(predicted: float, measured: float) -> str:
    return f"{seconds(predicted)} ({predicted / measured - 1:+.0%})"


def _title(row: Row) -> str:
    return TASKS[row["task"]].title


def wrong_forecasts(rows: Sequence[Row], beside: Besides) -> list[str]:
    """A remark for each forecast that is more than 25 % off."""
    remarks = []
    for row in rows:
        forecasts = (("train", row["forecast_seconds"]), ("classify", beside[row["task"]]["classify_forecast_seconds"]))
        for what, predicted in forecasts:
            measured = row[f"{what}_seconds"]
            if abs(predicted / measured - 1) > TOLERANCE:
                remarks.append(
                    f"{row['task']}: the forecast to {what}, {_forecast(predicted, measured)}, is more than "
                    f"{TOLERANCE:.0%} off"
                )
    return remarks


def accuracy_cells(row: Row, beside: Row) -> list[str]:
    """One row under ACCURACY_COLUMNS."""
    return [
        _title(row), row["learner"], f"{row['images']:,} ({row['clear_subsample']:,})", row["features"],
        _percent(row["accuracy_encrypted"]), _percent(row["accuracy_clear"]), _percent(row["accuracy_reference"]),
        _percent(beside["accuracy_exact_ridge"]), _percent(beside["accuracy_linear_means"]), _percent(row["agreement"]),
        f"{row['max_weight_error']:.1e}",
    ]  # fmt: skip


def time_cells(row: Row, beside: Row) -> list[str]:
    """One row under TIME_COLUMNS."""
    return [
        _title(row), f"2^{row['ring_dimension'].bit_length() - 1}", seconds(row["train_seconds"]),
        _forecast(row["forecast_seconds"], row["train_seconds"]), seconds(row["classify_seconds"]),
        _forecast(beside["classify_forecast_seconds"], row["classify_seconds"]), seconds(row["feature_seconds"]),
        seconds(row["keygen_seconds"]), seconds(row["encrypt_seconds"]), seconds(row["clear_seconds"]),
        f"{row['slowdown']:,.0f}",
    ]  # fmt: skip


def size_cells(row: Row) -> list[str]:
    """One row under SIZE_COLUMNS."""
    return [
        _title(row), str(row["levels"]), f"{row['key_switches']:,}", f"{row['peak_memory_mb']:,.0f} MB",
        f"{row['upload_bytes'] / 1e6:.1f} MB", f"{row['evaluation_key_bytes'] / 1e6:.0f} MB",
    ]  # fmt: skip


def markdown_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table, ending in a line break."""
    lines = [columns, ["---"] * len(columns), *rows]
    return "".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |\n" for line in lines)


def _tables(rows: Sequence[Row], beside: Besides) -> list[tuple[str, Sequence[str], list[list[str]]]]:
    return [
        ("Accuracy", ACCURACY_COLUMNS, [accuracy_cells(row, beside[row["task"]]) for row in rows]),
        ("Time", TIME_COLUMNS, [time_cells(row, beside[row["task"]]) for row in rows]),
        ("Size", SIZE_COLUMNS, [size_cells(row) for row in rows]),
    ]


NOTES: Final = (
    "Accuracy: *encrypted* as decrypted by the owner, *twin* the same algorithm in clear float64, *exact* scikit-learn's "
    "solver of the same learner on the same features, *exact ridge* its ridge regression on them, *linear means* the class "
    "means in the clear, without a solve: what training adds; *agreement* the share of equal predictions of encrypted and "
    "twin. Time: *train* and "
    "*classify* are the server's commands from process start to exit, reading and writing included; *exact* is "
    "scikit-learn's fit and *slowdown* = train / exact. WDBC: means of accuracies and medians of seconds over ten random "
    "splits."
)


def markdown(rows: Sequence[Row], beside: Besides, remarks: Sequence[str], where: str) -> str:
    """All tables, for the documentation."""
    parts = [f"Measured by `make bench-learning`: {where}, {rows[0]['threads']} threads.\n\n{NOTES}\n"]
    parts += [f"### {title}\n\n{markdown_table(columns, cells)}" for title, columns, cells in _tables(rows, beside)]
    parts += [f"- {remark}\n" for remark in remarks]
    return "\n".join(parts)


def show(rows: Sequence[Row], beside: Besides, remarks: Sequence[str], where: str, console: Console) -> None:
    """All tables on a terminal."""
    for title, columns, lines in _tables(rows, beside):
        table = Table(title=title)
        for column in columns:
            table.add_column(column, justify="left" if column == "task" else "right")
        for line in lines:
            table.add_row(*line)
        console.print(table)
    console.print("\n".join([where, *remarks]), markup=False, highlight=False, style="dim")


def _bars(axes: Axes, rows: Sequence[Row]) -> None:
    series = (("train_seconds", "train, encrypted", OURS), ("classify_seconds", "classify, encrypted", CLASSIFY),
              ("clear_seconds", "train, scikit-learn in the clear", CLEAR))  # fmt: skip
    for place, (key, label, colour) in enumerate(series):
        positions = [index + (place - 1) * 0.26 for index in range(len(rows))]
        values = [row[key] for row in rows]
        axes.barh(positions, values, height=0.24, color=colour, label=label)
        for position, value in zip(positions, values, strict=True):
            axes.annotate(
                seconds(value), (value, position), xytext=(4, 0), textcoords="offset points", va="center", color=colour
            )
    axes.set_xscale("log")
    axes.set_xlim(right=axes.get_xlim()[1] * 6)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_yticks(range(len(rows)), [_title(row).replace(", ", "\n", 1) for row in rows])
    axes.set_xlabel("seconds, process start to exit; fit alone for scikit-learn", color=INK)
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, 1.12), ncols=3, frameon=False, fontsize=9)


def _dots(axes: Axes, rows: Sequence[Row], beside: Besides) -> None:
    shown = [row | beside[row["task"]] for row in map(dict, rows)]
    for key, label, colour, marker in (
        ("accuracy_encrypted", "encrypted", OURS, "o"), ("accuracy_reference", "scikit-learn", CLEAR, "|"),
        ("accuracy_linear_means", "linear means", MEANS, "x"),
    ):  # fmt: skip
        values = [100 * row[key] for row in shown]
        axes.plot(values, range(len(rows)), marker, color=colour, markersize=9, markeredgewidth=2, label=label)
    axes.set_xlim(min(85.0, axes.get_xlim()[0]), 100)
    axes.set_xlabel("accuracy, %", color=INK)
    axes.legend(
        loc="upper center",
        bbox_to_anchor=(0.5, 1.12),
        ncols=3,
        columnspacing=0.8,
        handletextpad=0.1,
        frameon=False,
        fontsize=9,
    )


def draw(rows: Sequence[Row], beside: Besides, folder: Path, where: str) -> list[Path]:
    """Writes learning.png and learning.svg; returns their paths."""
    # A fixed salt and no date make the same records give the same file; text stays text.
    with matplotlib.rc_context({"svg.hashsalt": "learning", "svg.fonttype": "none", "font.size": 10}):
        figure = Figure(figsize=(10.5, 1.6 + 0.95 * len(rows)), layout="constrained")
        times, accuracies = figure.subplots(1, 2, sharey=True, width_ratios=[3, 1.6])
        _bars(times, rows)
        _dots(accuracies, rows, beside)
        times.invert_yaxis()
        for axes in (times, accuracies):
            axes.grid(axis="x", color="#dddddd", linewidth=0.7)
            axes.set_axisbelow(True)
            axes.tick_params(colors=INK, length=0)
            for side in ("top", "right", "left", "bottom"):
                axes.spines[side].set_visible(False)
        figure.supxlabel(where, fontsize=8, color="#777777")
        paths = [folder / "learning.png", folder / "learning.svg"]
        figure.savefig(paths[0], dpi=160)
        figure.savefig(paths[1], metadata={"Date": None})
    return paths


def write(
    group: str, rows: Sequence[Row], beside: Besides, remarks: Sequence[str], where: str, folder: Path
) -> list[Path]:
    """Writes GROUP.json and GROUP_beside.json, for "learning" also the tables and the plot; returns what was written."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{group}.json", folder / f"{group}_beside.json"]
    for path, records in zip(paths, (rows, beside.values()), strict=True):
        lines = ",\n".join(json.dumps(dict(record)) for record in records)
        path.write_text(f"[\n{lines}\n]\n")
    paths.append(folder / f"{group}.md")
    paths[-1].write_text(markdown(rows, beside, remarks, where))
    return paths + (draw(rows, beside, folder, where) if group == "learning" else [])
