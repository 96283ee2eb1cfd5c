"""The experiment of *ML Confidential* (Graepel, Lauter, Naehrig, 2012) again: both learners on encrypted WDBC.

Measured by `learning.py` into results/ml_confidential.json; `page.py` calls this to write the tables into the last
section of docs/ml-confidential.md, between its marks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from learning_report import markdown_table, seconds

BEGIN, END = "<!-- measured: begin -->", "<!-- measured: end -->"
NOT_QUOTED: Final = "not quoted"
LEARNERS: Final = {"linear_means": "linear means", "fisher": "Fisher's discriminant"}
ROWS: Final = 569
"""Of WDBC."""

Record = Mapping[str, Any]


def table(records: Sequence[Record]) -> str:
    """One column a record, and what is published beside them."""

    def percent(share: float) -> str:
        return f"{100 * share:.1f} %"

    rows = [
        ("training and test rows", lambda r: f"{r['images']} and {ROWS - r['images']}"),
        ("accuracy, encrypted", lambda r: percent(r["accuracy_encrypted"])),
        ("accuracy, the same in the clear", lambda r: percent(r["accuracy_clear"])),
        ("accuracy, scikit-learn's exact counterpart", lambda r: percent(r["accuracy_reference"])),
        ("encrypted and clear predictions equal", lambda r: percent(r["agreement"])),
        ("ring dimension, levels", lambda r: f"2^{r['ring_dimension'].bit_length() - 1}, {r['levels']}"),
        ("make keys, process start to exit", lambda r: seconds(r["keygen_seconds"])),
        ("encrypt all 569 rows", lambda r: seconds(r["encrypt_seconds"])),
        ("train, process start to exit", lambda r: seconds(r["train_seconds"])),
        ("classify the test rows, process start to exit", lambda r: seconds(r["classify_seconds"])),
        ("train in the clear, scikit-learn's fit", lambda r: seconds(r["clear_seconds"])),
        ("slowdown", lambda r: f"{r['slowdown']:,.0f}"),
        ("upload, keys and data", lambda r: f"{(r['evaluation_key_bytes'] + r['upload_bytes']) / 1e6:.0f} MB"),
    ]  # fmt: skip
    columns = ["", *(f"{LEARNERS[r['learner']]}, {_features(r)}" for r in records), "published, 2012"]
    lines = [[title, *(cell(record) for record in records), NOT_QUOTED] for title, cell in rows]
    return markdown_table(columns, lines)


def _features(record: Record) -> str:
    return "10 features" if "small" in record["task"] else "30 features"


def section(records: Sequence[Record], where: str) -> str:
    """What stands between the marks. where: the line that names machine, day and threads."""
    return (
        f"{BEGIN}\n"
        f"{where} Accuracies are means and seconds medians over ten random splits of the 569 rows. The sizes are ours: "
        "all 30 features with 400 rows to train on, and the ten means with 100 rows, a size nearer to a first experiment. "
        "Features are standardised and whitened by a quarter of the training rows in the clear; 128-bit security; owner "
        "and server are separate processes.\n\n"
        f"{table(records)}\n"
        'scikit-learn\'s counterparts are `NearestCentroid` and `LinearDiscriminantAnalysis(solver="lsqr")` with equal '
        'priors, on the same features. "Not quoted" means what the section on published figures says: we had no text '
        "before us that states the number.\n"
        f"{END}"
    )


def insert(page: str, text: str) -> str:
    """The page with what is between its marks replaced. Raises ValueError without them."""
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"docs/ml-confidential.md must hold the lines {BEGIN} and {END}")
    return before + text + after
