"""Writes docs/benchmarks.md, and the figures in other pages, from benchmarks/results: `python benchmarks/page.py`.

No figure in the documentation is typed by hand: all of them come from the records and tables that `make bench-learning`,
`make bench-service`, `make bench-engine` and `benchmarks/limits.py` leave in benchmarks/results. What was not measured yet is said to be
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

import ml_confidential
from learning_data import TASKS
from learning_report import seconds

HERE: Final = Path(__file__).resolve().parent
RESULTS: Final = HERE / "results"
ROOT: Final = HERE.parent
PAGE: Final = ROOT / "docs" / "benchmarks.md"
IMAGES: Final = ROOT / "docs" / "images"
README: Final = ROOT / "README.md"
REFERENCES: Final = ROOT / "docs" / "references.md"
CONFIDENTIAL: Final = ROOT / "docs" / "ml-confidential.md"
START: Final = "<!-- figures: written by benchmarks/page.py -->"
END: Final = "<!-- end of figures -->"
NO_BREAK_SPACE: Final = "\N{NO-BREAK SPACE}"
NO_BREAK_HYPHEN: Final = "\N{NON-BREAKING HYPHEN}"

OURS: Final = "cipherlens"
PLOTS: Final = ("learning.png", "engine.png", "service-load.png")

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


STEPS: Final = """\
*Hoisted* is a rotation of a ciphertext that is decomposed already, with its division by P; *double-hoisted* is a baby
step inside a linear transform, with its product by a diagonal and without a division: a sixth of the difference between
eight steps and two, each with a key and a diagonal of its own. In brackets, the share of a single rotation, of which the
aims are at most 60% and 30%; bold is what misses them. Single rotations use one key over and over, as the peers' do,
which caches hold in the smaller rings, while eight steps read eight keys from memory: 63 MB at N = 2^14.
"""

LONG: Final = 5e-3
LEAST_GAIN: Final = 1.6
THREADS: Final = """\
Whatever takes more than 5 ms on one thread should be at least 1.6 times as fast on two; bold is what misses that. One thread and
two take turns, call by call. Both cores of a virtual machine may be hyperthreads of one from one minute to the next, which leaves
arithmetic on registers alone a gain of 1.1 to 1.2 for as long; medians show that, the fastest runs do not.
"""

AIMS: Final = (0.6, 0.3)
"""Of a further rotation by itself and in a double-hoisted transform, in single rotations."""

LIMITS: Final = """\
*Of peak arithmetic* is the share of that rate which the multiplications of an operation take, fused or not, as the
kernels' source has them: 4 for a modular product and 2 for a reduction, so that a butterfly of a transform takes 4.5
forwards and 5 backwards, a term of a sum of products 2 and the end of a sum 4 to 6 a coefficient. Additions, nearly as
many (4.25 a forward butterfly, 2 a term), are not counted: some processors have units of their own for them, on others
they share those of the multiplications and no more than about 55% can be reached. *Of memory bandwidth* is the share
of the copy's speed at which keys, operands and results would have to move once; above 100% they came from caches, and
memory is no limit. *Left* is what the larger of the two does not explain: additions, loads and stores between registers and caches, and residues that leave the first-level
cache between one step and the next.
"""

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


def step_rows(rows: Sequence[Row]) -> Iterator[list[str]]:
    """What a further rotation of a ciphertext costs, in milliseconds and as a share of a single one; ours alone."""
    yield ["N", "kernels", "rotation", "hoisted, one more", "double-hoisted, one more"]
    for dimension in sorted({r["ring_dimension"] for r in rows}):
        for library in dict.fromkeys(r["library"] for r in rows if r["library"].startswith(OURS)):
            single, hoisted, double = (
                _median(rows, library, operation, dimension)
                for operation in ("rotate", "rotate_hoisted", "rotate_double_hoisted")
            )
            if single is None:
                continue
            shares = [_share(s, single, aim) for s, aim in zip((hoisted, double), AIMS, strict=True)]
            kernel = library.removeprefix(OURS).strip(" ()") or "best"
            yield [f"2^{int(log2(dimension))}", kernel, _milliseconds(single), *shares]


def thread_rows(rows: Sequence[Row]) -> Iterator[list[str]]:
    """How many times as fast two threads are, for whatever of ours takes longer than `LONG` on one."""
    yield ["operation", "N", "kernels", "one thread", "two, medians", "two, fastest runs"]
    measured = {(r["library"], r["operation"], r["ring_dimension"], r["threads"]): r for r in rows}
    for (library, operation, dimension, threads), one in measured.items():
        two = measured.get((library, operation, dimension, 2))
        if not library.startswith(OURS) or threads != 1 or two is None or (one["median_seconds"] or 0.0) <= LONG:
            continue
        gains = [one[name] / two[name] for name in ("median_seconds", "least_seconds")]
        shown = [f"{gain:.2f}×" if gain >= LEAST_GAIN else f"**{gain:.2f}×**" for gain in gains]
        kernel = library.removeprefix(OURS).strip(" ()") or "best"
        yield [operation, f"2^{int(log2(dimension))}", kernel, _milliseconds(one["median_seconds"]), *shown]


def _share(seconds: float | None, single: float, aim: float) -> str:
    if seconds is None:
        return "–"
    share = f"{seconds / single:.0%}"
    return f"{_milliseconds(seconds)} ({share if seconds <= aim * single else f'**{share}**'})"


def limit_rows(limits: Sequence[Row]) -> Iterator[list[str]]:
    """Our operations beside the machine's limits; what neither explains is left."""
    yield ["operation", "N, limbs", "kernels", "time", "of peak arithmetic", "of memory bandwidth", "left"]
    for r in limits:
        peak, bandwidth = r["share_of_peak"], r["share_of_bandwidth"]
        yield [
            r["operation"], f"2^{int(log2(r['ring_dimension']))}, {r['limbs']}", r["kernel"],
            _milliseconds(r["milliseconds"] / 1e3), "–" if peak is None else f"{peak:.0%}", f"{bandwidth:.0%}",
            f"{1 - max(peak or 0.0, bandwidth if bandwidth < 1 else 0.0):.0%}",
        ]  # fmt: skip


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
    head, *body = step_rows(rows)
    if body:
        parts.append("### Further rotations of one ciphertext\n\n" + STEPS + "\n" + table(head, body))
    head, *body = thread_rows(rows)
    if body:
        parts.append("### Two threads\n\n" + THREADS + "\n" + table(head, body))
    parts.append("### How far from the machine's limits\n\n" + _limits_section(results))
    detail = (results / "engine.md").read_text(encoding="utf-8")
    return "\n".join([*parts, "### Every operation\n", re.sub(r"(?m)^\*\*(.+)\*\*$", r"#### \1", detail)])


def _limits_section(results: Path) -> str:
    limits = records("limits.json", results)
    if not limits:
        return "Not measured yet: `python benchmarks/limits.py`.\n"
    head, *body = limit_rows(limits)
    peaks = {r["kernel"]: r["peak_per_second"] for r in limits if r["peak_per_second"] is not None}
    rates = " and ".join(f"{rate / 1e9:.2f} thousand million ({kernel})" for kernel, rate in peaks.items())
    return (
        f"One core starts {rates or 'an unknown number of'} fused multiply-adds of vectors a second, measured on\n"
        f"registers alone, and copies {limits[0]['copy_gb_per_second']:.1f} GB a second (`python benchmarks/limits.py`).\n"
        + LIMITS + "\n" + table(head, body)
    )  # fmt: skip


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


def service_section(results: Path) -> str:
    """Everything about the service."""
    path = results / "service.md"
    if not path.exists():
        return "Not measured yet: `make bench-service`.\n"
    parts = [path.read_text(encoding="utf-8").rstrip() + "\n"]
    if (results / "service-load.png").exists():
        parts.append("![The service beside files, and under load](images/service-load.png)\n")
    return "\n".join(parts)


def figures(results: Path) -> str:
    """The few figures that the README shows."""
    rows = records("learning.json", results)
    if not rows:
        return "Measured accuracy and time: [benchmarks](docs/benchmarks.md).\n"
    beside = {r["task"]: r for r in records("learning_beside.json", results)}

    def also(task: str, field: str) -> str:
        return f"{beside[task][field]:.1%}" if task in beside else "–"

    body = [
        [
            TASKS[r["task"]].title,
            f"{r['images']:,}",
            f"{r['accuracy_encrypted']:.1%}",
            f"{r['accuracy_clear']:.1%}",
            also(r["task"], "accuracy_linear_means"),
            also(r["task"], "accuracy_exact_ridge"),
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
        "linear means",
        "exact ridge",
        "train",
        "classify",
        "slowdown",
    ]
    return (
        table(head, body)
        + f"\nMeasured by `make bench-learning` on {rows[0]['threads']} threads. *Linear means* (the class means alone, in "
        "the clear) and *exact ridge*\n(scikit-learn's) are on the same features; *slowdown* is training against "
        "scikit-learn's on clear features.\n[Benchmarks](docs/benchmarks.md) has the machine, the parameters and everything else.\n"
    )


BESIDE_PUBLISHED: Final = {
    "WDBC, training": ("wdbc", "train_seconds", ""),
    "MNIST 3-versus-8, training": ("mnist_3v8", "train_seconds", ""),
    "MNIST, training": ("mnist_1000", "train_seconds", " on 1,000 images"),
    "MNIST, classifying": ("mnist_1000", "classify_seconds", " for 10,000 images"),
    "cat / no cat, training": ("cats", "train_seconds", ""),
    "cat / no cat, classifying": ("cats", "classify_seconds", " for 200 images"),
}
"""What the last column of docs/references.md names, and the record that says how long it takes."""


def references(text: str, results: Path = RESULTS) -> str:
    """docs/references.md with our seconds in brackets behind each measurement that it names."""
    rows = {r["task"]: r for r in records("learning.json", results)}
    for words, (task, field, amount) in BESIDE_PUBLISHED.items():
        if task in rows:
            shown = f"{words} ({seconds(rows[task][field])}{amount})"
            text = re.sub(rf"(?<=[|;] ){re.escape(words)}(?: \([^)]*\))?", unbroken(shown), text)
    return text


def confidential(text: str, results: Path = RESULTS) -> str:
    """docs/ml-confidential.md with its measured section, left as it is before there are results."""
    rows = records("ml_confidential.json", results)
    if not rows:
        return text
    where = (results / "ml_confidential.md").read_text(encoding="utf-8").partition("\n")[0]
    return ml_confidential.insert(text, ml_confidential.section(rows, where))


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
            f"{INTRODUCTION}## Training and classifying\n\n{learning_section(results)}\n## The service\n\n"
            f"{service_section(results)}\n## The engine\n\n{engine_section(results)}"
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
        REFERENCES: references(REFERENCES.read_text(encoding="utf-8"), results).encode(),
        CONFIDENTIAL: confidential(CONFIDENTIAL.read_text(encoding="utf-8"), results).encode(),
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
