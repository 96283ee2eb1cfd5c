"""The demonstration's results in a terminal, as tables."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from cipherlens.report.results import Demonstration
from cipherlens.report.splits import SPLITS
from cipherlens.report.wording import (
    accuracy_rows,
    accuracy_sentence,
    chance,
    cost_rows,
    megabytes,
    percent,
    verdict,
    watch_sentence,
)


def show(demo: Demonstration, console: Console) -> None:
    """Print who held what, what came out, what it cost, what bytes told, and what was refused."""
    held = [
        (h.what, "" if h.size is None else megabytes(h.size), "●" if h.owner else "", "●" if h.server else "–")
        for h in demo.holdings
    ]
    _print(console, "Who held what", ("", "", "owner", "server"), held, {1})
    console.print(watch_sentence(demo.watch) + "\n", style="dim", highlight=False)
    _print(
        console,
        f"What came out, on {len(demo.answers)} test images",
        ("", "right", f"{SPLITS} splits", ""),
        accuracy_rows(demo),
        {1, 2},
    )
    console.print(accuracy_sentence(demo) + "\n", style="dim", highlight=False)
    _print(console, "What it cost", ("", "forecast", "measured"), cost_rows(demo), {1, 2})
    told = [(t.target, percent(t.encrypted), verdict(t), chance(t), percent(t.clear)) for t in demo.byte_tests]
    _print(
        console, "A logistic regression trained on bytes (an illustration, not a proof)",
        ("right answers for", "on ciphertexts", "", "guessing", "on clear pixels"), told, {1, 3, 4},
    )  # fmt: skip
    _print(console, "Refused", ("tried", "answer"), [(r.tried, escape(r.sentence)) for r in demo.refusals])
    if demo.photos:
        photos = [(escape(p.name), f"[bold]{escape(p.label)}[/]", f"{p.score:.2f}") for p in demo.photos]
        title = f"Your pictures, encrypted, classified and decrypted in {demo.photo_seconds:.1f} s"
        _print(console, title, ("", "answer", "score"), photos, {2})


def _print(
    console: Console, title: str, heads: Sequence[str], rows: Sequence[Sequence[str]], right: Collection[int] = ()
) -> None:
    """A table under its title; `right`: the columns that are aligned to the right."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="dim", show_edge=False)
    for place, head in enumerate(heads):
        table.add_column(head, justify="right" if place in right else "left")
    for row in rows:
        table.add_row(*row)
    console.print(Text(title, "bold"))
    console.print(table, highlight=False)
    console.print()
