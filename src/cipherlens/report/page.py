"""The demonstration's report as one self-contained page: no script, nothing loaded from elsewhere."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Sequence
from html import escape
from importlib.resources import files as resources
from string import Template

from cipherlens import __version__
from cipherlens.report import published, sheet
from cipherlens.report.illustration import SAMPLED
from cipherlens.report.results import Answered, Demonstration
from cipherlens.report.splits import SPLITS
from cipherlens.report.wording import (
    accuracy_rows,
    accuracy_sentence,
    chance,
    cost_rows,
    megabytes,
    percent,
    seconds,
    verdict,
    watch_sentence,
)

REPORT, SUMMARY, SHEET, PLOT = "report.html", "summary.json", "contact-sheet.png", "published.svg"

HEX_LINES = 24
HEX_WIDTH = 16

MOST_OUTSIDE = 2000
"""Files outside the server's folder that the page lists."""


def files(demo: Demonstration) -> dict[str, bytes]:
    """Every file that the demonstration leaves beside the parties' folders: name to content."""
    title = f"{len(demo.answers)} encrypted test images under their decrypted labels"
    return {
        SUMMARY: (json.dumps(demo.summary, indent=2, allow_nan=False) + "\n").encode(),
        SHEET: sheet.draw(demo.answers, demo.classes, title),
        PLOT: _plot(demo),
        REPORT: render(demo).encode(),
    }


def render(demo: Demonstration) -> str:
    """The page."""
    s, seen, watch = demo.summary, demo.seen, demo.watch
    wrong = sum(answer.wrong for answer in demo.answers)
    threads = f"{s['threads']} thread{'s' if s['threads'] > 1 else ''}"
    values = {
        "css": _resource("page.css"),
        "train_images": str(s["images"]),
        "test_images": str(len(demo.answers)),
        "all_images": f"{s['images'] + len(demo.answers):,}",
        "date": demo.date,
        "seconds": f"{demo.seconds:.0f} seconds",
        "threads": threads,
        "tiles": _tiles(demo),
        "mistakes": f"{wrong} of {len(demo.answers)}",
        "sheet": _sheet(demo.answers, demo.classes),
        "photos": _photos(demo),
        "seen_file": escape(seen.file),
        "seen_offset": f"{seen.offset:,}",
        "seen_size": megabytes(seen.size),
        "seen_images": str(seen.images),
        "seen_image": _inline(sheet.png(sheet.enlarged(seen.image.pixels, 176))),
        "seen_noise": _inline(sheet.png(sheet.noise_picture(seen.content, 32))),
        "seen_label": escape(seen.image.original or seen.image.name),
        "hex": _hex(seen.content, seen.offset),
        "held": _held(demo),
        "watch": escape(watch_sentence(watch)),
        "opened": _items(watch.opened),
        "outside": _items(watch.outside[:MOST_OUTSIDE]),
        "outside_count": f"{len(watch.outside):,}",
        "runs": str(watch.runs),
        "same": "every run wrote the same bytes" if watch.same_bytes else "the runs wrote DIFFERENT bytes",
        "one_size": megabytes(demo.ciphertext_bytes),
        "sampled": f"{SAMPLED:,}",
        "bytes": _byte_rows(demo),
        "ring_bits": str(s["ring_dimension"].bit_length() - 1),
        "margin": f"{demo.forecast.security_margin_bits:.0f}",
        "refusals": "".join(
            f"<p>To {escape(r.tried)}:</p><pre class=told>$ {escape(r.command)}\n<b>{escape(r.sentence)}</b></pre>"
            for r in demo.refusals
        ),
        "dimension": str(demo.dimension),
        "splits": str(SPLITS),
        "accuracy": _rows(accuracy_rows(demo), numbers={1, 2}),
        "accuracy_sentence": escape(accuracy_sentence(demo)),
        "cost": _rows(cost_rows(demo), numbers={1, 2}),
        "plot": _svg(_plot(demo)),
        "version": __version__,
        "features": escape(s["features"]),
        "steps": str(demo.steps),
        "clear": str(s["clear_subsample"]),
        "ring": f"{s['ring_dimension']:,}",
        "levels": str(s["levels"]),
        "kernel": escape(s["kernel"]),
    }
    return Template(_resource("page.html")).substitute(values)


def _resource(name: str) -> str:
    return (resources(__package__) / name).read_text(encoding="utf-8")


def _inline(content: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(content).decode()


def _tiles(demo: Demonstration) -> str:
    s, n = demo.summary, len(demo.answers)
    tiles = (
        (percent(s["accuracy_encrypted"]), f"of {n} encrypted test images classified rightly"),
        (f"{round(s['agreement'] * n)} / {n}", "answers equal to those of the same algorithm in the clear"),
        (seconds(s["train_seconds"]), f"to train on {s['images']} encrypted images"),
        (seconds(s["classify_seconds"]), f"to classify {n} encrypted images"),
        (megabytes(s["evaluation_key_bytes"]), "of evaluation keys, uploaded once"),
    )
    return "".join(f'<div class="tile"><b>{value}</b><span>{escape(words)}</span></div>' for value, words in tiles)


def _sheet(answers: Sequence[Answered], classes: Sequence[str]) -> str:
    blocks = []
    for name, group in sheet.grouped(answers, classes).items():
        wrong = sum(answer.wrong for answer in group)
        blocks.append(
            f"<h3>Decrypted as “{escape(name)}” <span>· {len(group)} images, {wrong} of them wrong</span></h3>"
            f'<div class="sheet">{"".join(_tile(answer) for answer in group)}</div>'
        )
    return "".join(blocks)


def _tile(answer: Answered) -> str:
    caption = f"✗ {answer.original}" if answer.wrong else answer.label
    words = f"decrypted as {answer.label}, is {answer.truth} ({answer.original}); score {answer.score:.2f}"
    image = _inline(sheet.png(sheet.enlarged(answer.pixels, 32)))
    return (
        f'<figure{" class=wrong" if answer.wrong else ""} title="{escape(words)}">'
        f'<img alt="{escape(words)}" src="{image}"><figcaption>{escape(caption)}</figcaption></figure>'
    )


def _photos(demo: Demonstration) -> str:
    if not demo.photos:
        return ""
    shown = "".join(
        f'<figure><img alt="{escape(p.name)}" src="{_inline(sheet.png(sheet.enlarged(p.pixels, 360)))}">'
        f'<b>{escape(p.label)}</b><br><span class="quiet">{escape(p.name)}, score {p.score:.2f}</span></figure>'
        for p in demo.photos
    )
    return (
        f"<h2>Your own pictures</h2><p>Encrypted, classified by the server with the model it cannot read, and decrypted, "
        f"in {demo.photo_seconds:.1f} seconds. The model has only seen 32 × 32 photographs of cats and of nine other "
        f'things; a score near 0 is a guess.</p><div class="photos">{shown}</div>'
    )


def _hex(content: bytes, offset: int) -> str:
    """Lines of the classic dump: place, bytes, and the same bytes as text."""
    lines = []
    for start in range(0, HEX_LINES * HEX_WIDTH, HEX_WIDTH):
        row = content[start : start + HEX_WIDTH]
        numbers = f"{row[:8].hex(' ')}  {row[8:].hex(' ')}"
        text = "".join(chr(byte) if 32 <= byte < 127 else "·" for byte in row)
        lines.append(f"<i>{offset + start:08x}</i>  {numbers}  <i>{escape(text)}</i>")
    return "\n".join(lines)


def _held(demo: Demonstration) -> str:
    return "".join(
        f'<tr><td>{escape(h.what)}</td><td class="number">{"" if h.size is None else megabytes(h.size)}</td>'
        f'<td class="mark">{"●" if h.owner else ""}</td><td class="mark">{"●" if h.server else "–"}</td></tr>'
        for h in demo.holdings
    )


def _byte_rows(demo: Demonstration) -> str:
    decrypted = (percent(demo.summary["accuracy_encrypted"]), "–")
    return _rows(
        (
            (test.target, percent(test.encrypted), verdict(test), chance(test), percent(test.clear), answered)
            for test, answered in zip(demo.byte_tests, decrypted, strict=True)
        ),
        numbers={1, 3, 4, 5},
    )  # fmt: skip


def _rows(rows: Iterable[Sequence[str]], numbers: set[int]) -> str:
    def cell(place: int, text: str) -> str:
        return f"<td{' class=number' if place in numbers else ''}>{escape(text)}</td>"

    return "".join(f"<tr>{''.join(cell(i, text) for i, text in enumerate(row))}</tr>" for row in rows)


def _items(names: Iterable[str]) -> str:
    return "".join(f"<li><code>{escape(name)}</code></li>" for name in names)


def _plot(demo: Demonstration) -> bytes:
    s = demo.summary
    return published.draw(s["train_seconds"], s["classify_seconds"] / len(demo.answers), int(demo.date[:4]))


def _svg(content: bytes) -> str:
    """The drawing without its XML head, which has no place inside a page."""
    text = content.decode()
    return text[text.index("<svg") :]
