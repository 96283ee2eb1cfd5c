"""The demonstration's results in a terminal, as tables."""

from __future__ import annotations

from collections.abc import Sequence

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from cipherlens.report.results import Demonstration
from cipherlens.report.wording import accuracy_rows, cost_rows, megabytes, percent, watch_sentence


def show(demo: Demonstration, console: Console) -> None:
    """Print who held what, what came out, what it cost, what was refused, and what bytes told."""
    held = _table("Who held what", ("", "files", "never had"))
    for party in demo.parties:
        listed = "\n".join(f"{name}  {megabytes(size)}" for name, size in party.files)
        held.add_row(Text(party.name, "bold"), listed, party.never)
    console.print(held)
    console.print(Text(watch_sentence(demo.watch), "dim"))
    _print(console, "What came out, on 200 test images", ("", "right", ""), accuracy_rows(demo))
    _print(console, "What it cost", ("", "forecast", "measured"), cost_rows(demo))
    told = _table("A logistic regression trained on the bytes (an illustration, not a proof)", ("", "ciphertexts", "clear pixels"))
    for test in demo.byte_tests:
        told.add_row(test.target, f"{percent(test.encrypted)}  (chance {test.chance:.0%} ± {test.spread:.0%})", percent(test.clear))
    console.print(told)
    refused = _table("Refused", ("tried", "answer"))
    for refusal in demo.refusals:
        refused.add_row(refusal.tried, refusal.sentence)
    console.print(refused)
    if demo.photos:
        photos = _table(f"Your pictures, encrypted, classified and decrypted in {demo.photo_seconds:.1f} s", ("", "answer", "score"))
        for photo in demo.photos:
            photos.add_row(photo.name, Text(photo.label, "bold"), f"{photo.score:.2f}")
        console.print(photos)


def _print(console: Console, title: str, heads: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    table = _table(title, heads)
    for row in rows:
        table.add_row(*row)
    console.print(table)


def _table(title: str, heads: Sequence[str]) -> Table:
    table = Table(
        title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False, header_style="dim"
    )
    for head in heads:
        table.add_column(head)
    return table
