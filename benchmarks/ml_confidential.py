"""The experiment of *ML Confidential* (Graepel, Lauter, Naehrig, 2012) again: both learners on encrypted WDBC.

    python benchmarks/ml_confidential.py

Runs linear means and Fisher's discriminant through all roles as `learning.py` does, ten random splits each, and writes
the tables into the last section of docs/ml-confidential.md, between its marks.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from learning import MeasurementError, Record, add_options, measure, setting_from
from learning_report import machine, markdown_table, seconds
from rich.console import Console

PAGE = Path(__file__).resolve().parent.parent / "docs" / "ml-confidential.md"
BEGIN, END = "<!-- measured: begin -->", "<!-- measured: end -->"
NOT_QUOTED = "not quoted"

TASKS = {"wdbc_linear_means": "linear means", "wdbc": "Fisher's discriminant"}


def table(records: dict[str, Record]) -> str:
    """Ours beside what is published, one column a learner, and the conditions."""

    def percent(share: float) -> str:
        return f"{100 * share:.1f} %"

    rows = [
        ("training and test rows", lambda r: f"{r.images} and 169"),
        ("accuracy, encrypted", lambda r: percent(r.accuracy_encrypted)),
        ("accuracy, the same in the clear", lambda r: percent(r.accuracy_clear)),
        ("accuracy, scikit-learn's exact counterpart", lambda r: percent(r.accuracy_reference)),
        ("encrypted and clear predictions equal", lambda r: percent(r.agreement)),
        ("ring dimension, levels", lambda r: f"2^{r.ring_dimension.bit_length() - 1}, {r.levels}"),
        ("make keys", lambda r: seconds(r.keygen_seconds)),
        ("encrypt all 569 rows", lambda r: seconds(r.encrypt_seconds)),
        ("train, process start to exit", lambda r: seconds(r.train_seconds)),
        ("classify 169 rows, process start to exit", lambda r: seconds(r.classify_seconds)),
        ("train in the clear, scikit-learn's fit", lambda r: seconds(r.clear_seconds)),
        ("slowdown", lambda r: f"{r.slowdown:,.0f}"),
        ("upload, keys and data", lambda r: f"{(r.evaluation_key_bytes + r.upload_bytes) / 1e6:.0f} MB"),
    ]  # fmt: skip
    columns = ["", *(f"{TASKS[name]}, ours" for name in records), "published, 2012"]
    lines = [[title, *(cell(record) for record in records.values()), NOT_QUOTED] for title, cell in rows]
    return markdown_table(columns, lines)


def section(records: dict[str, Record], where: str) -> str:
    """What stands between the marks."""
    first = next(iter(records.values()))
    return (
        f"{BEGIN}\n"
        f"Measured by `python benchmarks/ml_confidential.py`: {where}, {first.threads} threads. Accuracies are means and "
        "seconds medians over ten random splits of the 569 rows into 400 and 169. All 30 features, standardised and "
        f"whitened by {first.clear_subsample} of the training rows in the clear; 128-bit security; owner and server are "
        "separate processes.\n\n"
        f"{table(records)}\n"
        'scikit-learn\'s counterparts are `NearestCentroid` and `LinearDiscriminantAnalysis(solver="lsqr")` with equal '
        'priors, on the same features. "Not quoted" means what the section on published figures says: we had no text '
        "before us that states the number.\n"
        f"{END}"
    )


def insert(page: str, text: str) -> str:
    """The page with what is between its marks replaced, or with the text at its end when it has no marks."""
    before, begin, rest = page.partition(BEGIN)
    if not begin:
        return f"{page.rstrip()}\n\n{text}\n"
    return before + text + rest.partition(END)[2]


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="Linear means and Fisher's discriminant on encrypted WDBC.")
    parser.add_argument("--page", type=Path, default=PAGE, help="the page to write into")
    add_options(parser)
    chosen = parser.parse_args()
    setting, console = setting_from(chosen), Console()
    try:
        records = {name: measure(name, setting)[0] for name in TASKS}
    except MeasurementError as failure:
        console.print(f"not measured: {failure}", markup=False)
        sys.exit(1)
    chosen.page.write_text(insert(chosen.page.read_text(), section(records, machine())))
    console.print(table(records), markup=False, highlight=False)
    console.print(f"wrote {chosen.page}", markup=False, highlight=False)


if __name__ == "__main__":
    main()
