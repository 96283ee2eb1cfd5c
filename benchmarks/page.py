"""Writes docs/benchmarks.md, and the figures in README.md, from benchmarks/results: `python benchmarks/page.py`.

No figure in the documentation is typed by hand: all of them come from the records and tables that `make bench-learning`,
`make bench-engine` and `benchmarks/limits.py` leave in benchmarks/results. What was not measured yet is said to be
missing. With --check nothing is written, and the exit status is 1 when a page is not what the results give.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from math import log2
from pathlib import Path
from typing import Any, Final

HERE: Final = Path(__file__).resolve().parent
RESULTS: Final = HERE / "results"
ROOT: Final = HERE.parent
PAGE: Final = ROOT / "docs" / "benchmarks.md"
IMAGES: Final = ROOT / "docs" / "images"
README: Final = ROOT / "README.md"
START: Final = "<!-- figures: written by benchmarks/page.py -->"
END: Final = "<!-- end of figures -->"
NO_BREAK_SPACE: Final = "\N{NO-BREAK SPACE}"
NO_BREAK_HYPHEN: Final = "\N{NON-BREAKING HYPHEN}"

OURS: Final = "cipherlens"
PLOTS: Final = ("learning.png", "engine.png")

Row = Mapping[str, Any]


def records(name: str, results: Path = RESULTS) -> list[dict[str, Any]]:
    """The records of a results file, empty when it is not there."""
    path = results / name
    if not path.exists():
        return []
    found: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))
    return found


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table; all columns but the first are aligned to the right."""
    lines = [f"| {' | '.join(head)} |", "|---" + "|---:" * (len(head) - 1) + "|"]
    return "\n".join(lines + [f"| {' | '.join(row)} |" for row in rows]) + "\n"


def _median(rows: Sequence[Row], library: str, operation: str, dimension: int, threads: int = 1) -> float | None:
    """Seconds of the quickest record that fits, None without one."""
    found = [
        float(r["median_seconds"])
        for r in rows
        if r["library"] == library and r["operation"] == operation and r["ring_dimension"] == dimension
        and r["threads"] == threads and r["median_seconds"] is not None
    ]  # fmt: skip
    return min(found, default=None)


def _ratio(theirs: float | None, ours: float | None) -> str:
    return "–" if theirs is None or ours is None else f"{theirs / ours:.1f} ×"


# ---- the engine ------------------------------------------------------------------------------------------------------


def ratio_rows(rows: Sequence[Row]) -> Iterator[list[str]]:
    """How many times as long each peer takes as ours, one thread; ours with the first kernels measured."""
    mine = next(r["library"] for r in rows if r["library"].startswith(OURS))
    peers = [name for name in dict.fromkeys(r["library"] for r in rows) if not name.startswith(OURS)]
    yield ["one thread", "N", mine, *peers]
    for operation, words in (
        ("ntt", "transform"), ("rotate", "rotation"), ("multiply_relinearise", "product, relinearised"),
    ):  # fmt: skip
        for dimension in sorted({r["ring_dimension"] for r in rows}):
            ours = _median(rows, mine, operation, dimension)
            theirs = [_median(rows, peer, operation, dimension) for peer in peers]
            shown = "–" if ours is None else f"{ours * 1e3:.3g} ms"
            yield [words, f"2^{int(log2(dimension))}", shown, *(_ratio(t, ours) for t in theirs)]


def limit_rows(limits: Sequence[Row]) -> Iterator[list[str]]:
    """Our rotation beside what it would take if nothing but arithmetic, or memory, took time."""
    yield ["N, limbs", "rotation", "arithmetic alone", "memory alone"]
    for r in limits:
        took, arithmetic, memory = (r[f"{name}_ms"] / 1e3 for name in ("rotate", "arithmetic_limit", "memory_limit"))
        floors = (f"{_milliseconds(floor)} ({floor / took:.0%})" for floor in (arithmetic, memory))
        yield [f"2^{int(log2(r['ring_dimension']))}, {r['limbs']}", _milliseconds(took), *floors]


def _milliseconds(seconds: float) -> str:
    return f"{seconds * 1e3:.3g} ms"


def engine_section(results: Path) -> str:
    """Everything about the engine."""
    rows = records("engine.json", results)
    if not rows:
        return "Not measured yet: `make bench-peers`, then `make bench-engine`.\n"
    parts = [
        "`make bench-peers` puts each peer library into an environment of its own, and `make bench-engine` runs the same\n"
        "operations on the same rings in all of them, one after another on the same machine; `benchmarks/README.md` says how, and\n"
        "what favours whom. Ratios above 1 mean that the peer takes longer.\n"
    ]
    if any(r["library"].startswith(OURS) for r in rows):
        head, *body = ratio_rows(rows)
        parts.append(table(head, body))
    else:
        parts.append("**Ours is missing from these results;** run `make bench-engine` again.\n")
    if (results / "engine.png").exists():
        parts.append("![Time against ring dimension, one line a library](images/engine.png)\n")
    parts.append("### How far from the machine's limits\n\n" + _limits_section(results))
    detail = (results / "engine.md").read_text(encoding="utf-8")
    return "\n".join([*parts, "### Every operation\n", re.sub(r"(?m)^\*\*(.+)\*\*$", r"#### \1", detail)])


def _limits_section(results: Path) -> str:
    limits = records("limits.json", results)
    if not limits:
        return "Not measured yet: `python benchmarks/limits.py`.\n"
    first = limits[0]
    head, *body = limit_rows(limits)
    return (
        f"With the {first['kernel']} kernels, one core takes {first['butterfly_ns']:.2f} ns for a butterfly of a transform and\n"
        f"{first['term_ns']:.2f} ns for a term of a sum of products on data in its first-level cache, and copies\n"
        f"{first['copy_gb_per_second']:.1f} GB a second (`python benchmarks/limits.py`). *Arithmetic alone* is the transforms\n"
        "and products of one rotation at those rates, *memory alone* reading its key and writing its result once; in\n"
        "brackets, the share of the measured time. What a rotation takes beyond the larger of the two is left to gain: mostly\n"
        "residues that leave the cache between one step of the key switch and the next.\n\n" + table(head, body)
    )


# ---- learning --------------------------------------------------------------------------------------------------------


def learning_section(results: Path) -> str:
    """Everything about training and classifying."""
    path = results / "learning.md"
    if not path.exists():
        return "Not measured yet: `make bench-learning`.\n"
    parts = [path.read_text(encoding="utf-8").rstrip() + "\n"]
    if (results / "learning.png").exists():
        parts.append("![Seconds and accuracy of every task](images/learning.png)\n")
    parts.append(
        "*slowdown* is what encryption costs in time; the difference between *encrypted* and *twin* is what it costs in\n"
        "accuracy; the difference between *twin* and *exact* is what a fixed number of steps costs.\n"
    )
    return "\n".join(parts)


def figures(results: Path) -> str:
    """The few figures that the README shows."""
    rows = records("learning.json", results)
    if not rows:
        return "Measured accuracy and time: [benchmarks](docs/benchmarks.md).\n"
    sys.path.insert(0, str(HERE))
    from learning_data import TASKS
    from learning_report import seconds

    body = [
        [
            TASKS[r["task"]].title,
            f"{r['images']:,}",
            f"{r['accuracy_encrypted']:.1%}",
            f"{r['accuracy_clear']:.1%}",
            f"{r['accuracy_reference']:.1%}",
            seconds(r["train_seconds"]),
            seconds(r["classify_seconds"]),
            f"{r['slowdown']:,.0f} ×",
        ]
        for r in rows
    ]
    head = [
        "task",
        "training images",
        "encrypted",
        "same in the clear",
        "scikit-learn",
        "train",
        "classify",
        "slowdown",
    ]
    return (
        table(head, body)
        + f"\nMeasured by `make bench-learning` on {rows[0]['threads']} threads; *slowdown* is training against "
        "scikit-learn's on clear features.\n[Benchmarks](docs/benchmarks.md) has the machine, the parameters and everything else.\n"
    )


# ---- pages -----------------------------------------------------------------------------------------------------------

INTRODUCTION: Final = """\
# Benchmarks

This page is written by `benchmarks/page.py` from the files in `benchmarks/results`; nothing in it is typed by hand. Seconds are
wall time from process start to exit, reading and writing included, unless a column says otherwise. Published figures
of other systems stand in [references](references.md).

"""


def unbroken(text: str) -> str:
    """Figures that stay with their units, and exponents in one piece, in narrow columns of tables too."""
    kept = re.sub(r"(?<=\d) (?=(?:%|×|[mµ]?s|[kMG]B)(?: |$))", NO_BREAK_SPACE, text, flags=re.MULTILINE)
    return re.sub(r"(?<=\de)-(?=\d)", NO_BREAK_HYPHEN, kept)


def page(results: Path = RESULTS) -> str:
    """The text of docs/benchmarks.md."""
    return (
        unbroken(
            f"{INTRODUCTION}## Training and classifying\n\n{learning_section(results)}\n## The engine\n\n{engine_section(results)}"
        ).rstrip()
        + "\n"
    )


def readme(text: str, results: Path = RESULTS) -> str:
    """README.md with its figures. Raises ValueError without the two marks."""
    before, _, rest = text.partition(START)
    _, _, after = rest.partition(END)
    if not after:
        raise ValueError(f"README.md must hold the lines {START} and {END}")
    return f"{before}{START}\n\n{unbroken(figures(results))}\n{END}{after}"


def outputs(results: Path = RESULTS) -> dict[Path, bytes]:
    """Every file that this script writes, and its content."""
    files = {
        PAGE: page(results).encode(),
        README: readme(README.read_text(encoding="utf-8"), results).encode(),
    }
    return files | {IMAGES / name: (results / name).read_bytes() for name in PLOTS if (results / name).exists()}


def main(arguments: Sequence[str] | None = None) -> int:
    """Write or check; returns the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--check", action="store_true", help="write nothing; exit status 1 if anything would change")
    check = parser.parse_args(arguments).check
    changed = [p for p, content in outputs().items() if not p.exists() or p.read_bytes() != content]
    for path in changed:
        print(f"{'differs' if check else 'written'}: {path.relative_to(ROOT)}")
        if not check:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(outputs()[path])
    return 1 if check and changed else 0


if __name__ == "__main__":
    sys.exit(main())
