"""The contact sheet: test images under their decrypted labels, as one picture."""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Final

import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from cipherlens.report.results import Answered, Pixels

TILE: Final = 64
GAP: Final = 6
CAPTION: Final = 16
COLUMNS: Final = range(16, 21)
"""As many images a row as leave the fewest places empty."""

INK, QUIET, RIGHT, WRONG = "#2b2b2b", "#6b6b6b", "#dddddd", "#c8102e"


def grouped(answers: Sequence[Answered], classes: Sequence[str]) -> dict[str, list[Answered]]:
    """Answers by decrypted label, the surest first, so that the mistakes gather at the end."""
    return {
        name: sorted((a for a in answers if a.label == name), key=lambda a: a.score, reverse=True) for name in classes
    }


def draw(answers: Sequence[Answered], classes: Sequence[str], title: str) -> bytes:
    """A PNG of all answers, one block a class."""
    groups = grouped(answers, classes)
    columns = min(COLUMNS, key=lambda count: sum(-len(group) % count for group in groups.values()))
    heads, line = 46, TILE + CAPTION + GAP
    rows = {name: -(-len(group) // columns) for name, group in groups.items()}
    width = 2 * 20 + columns * (TILE + GAP) - GAP
    height = 52 + sum(heads + n * line for n in rows.values()) + 14
    sheet = Image.new("RGB", (width, height), "white")
    pen = ImageDraw.Draw(sheet)
    pen.text((20, 18), title, INK, _font(19, bold=True))
    y = 52
    for name, group in groups.items():
        wrong = sum(a.wrong for a in group)
        pen.text((20, y + 14), f"decrypted as “{name}”", INK, _font(15, bold=True))
        words = f"{len(group)} images, {wrong} of them wrong; the surest first"
        pen.text((width - 20, y + 16), words, QUIET, _font(13), anchor="ra")
        y += heads
        for index, answer in enumerate(group):
            x, top = 20 + index % columns * (TILE + GAP), y + index // columns * line
            sheet.paste(enlarged(answer.pixels, TILE), (x, top))
            if answer.wrong:
                pen.rectangle((x - 2, top - 2, x + TILE + 1, top + TILE + 1), outline=WRONG, width=3)
            words = f"✗ {answer.original}" if answer.wrong else answer.label
            colour = WRONG if answer.wrong else QUIET
            pen.text((x + TILE // 2, top + TILE + 3), words, colour, _font(10, bold=answer.wrong), anchor="ma")
        y += rows[name] * line
    return png(sheet)


def enlarged(pixels: Pixels, side: int) -> Image.Image:
    """A square of the given side: the middle of the picture, smoothly scaled."""
    image = Image.fromarray(pixels).convert("RGB")
    short = min(image.size)
    left, top = (image.width - short) // 2, (image.height - short) // 2
    square = image.crop((left, top, left + short, top + short))
    return square.resize((side, side), Image.Resampling.BICUBIC if short < side else Image.Resampling.LANCZOS)


def noise_picture(content: bytes, side: int) -> Image.Image:
    """The first bytes of a ciphertext drawn as a picture of 32 x 32 RGB pixels, enlarged without smoothing."""
    raw = np.frombuffer(content[: 32 * 32 * 3], np.uint8).reshape(32, 32, 3)
    return Image.fromarray(raw).resize((side, side), Image.Resampling.NEAREST)


def png(image: Image.Image) -> bytes:
    """The file's bytes."""
    target = BytesIO()
    image.save(target, "PNG", optimize=True)
    return target.getvalue()


def _font(size: int, *, bold: bool = False) -> ImageFont.FreeTypeFont:
    """DejaVu Sans as it comes with matplotlib, so that the sheet looks the same on every machine."""
    folder = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    return ImageFont.truetype(str(folder / ("DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf")), size)
