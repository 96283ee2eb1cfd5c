"""The README's pictures, from one run of the demonstration: `python tools/demo_pictures.py`.

Writes into docs/images/: terminal.svg, what the demonstration prints; contact-sheet.png, the test images under their
decrypted labels; published.svg, seconds by year beside published systems. Run it on an idle machine.
"""

from __future__ import annotations

import contextlib
import datetime
import io
import re
import sys
import tempfile
from pathlib import Path

from rich._export_format import CONSOLE_SVG_FORMAT
from rich.console import Console
from rich.terminal_theme import MONOKAI
from rich.text import Text

from cipherlens.cli.demo import run_demo
from cipherlens.data import demo_cats
from cipherlens.report import published

IMAGES = Path(__file__).resolve().parent.parent / "docs" / "images"
COLUMNS = 112

# Rich's own picture fetches its font from elsewhere; every machine has some monospaced one.
FORMAT = re.sub(r"@font-face \{\{.*?\}\}\s*", "", CONSOLE_SVG_FORMAT, flags=re.DOTALL).replace(
    "Fira Code, monospace", "DejaVu Sans Mono, Menlo, Consolas, monospace"
)


SHOWN = ("What came out", "What it cost")
LEFT_OUT = ("Who held what", "A logistic regression", "Refused")
"""First words of the tables that the picture shows, and of those that are for whoever runs it: they fill two screens."""


def shortened(console: Console) -> Console:
    """A console that has recorded the same, without the tables that are left out."""
    lines = Text.from_ansi(console.export_text(clear=False, styles=True)).split("\n", allow_blank=True)
    short = Console(file=io.StringIO(), record=True, width=COLUMNS, force_terminal=False)
    shown = True
    for line in lines:
        if line.plain.startswith(LEFT_OUT):
            if shown:
                short.print("[…]", style="dim", markup=False, highlight=False)
            shown = False
        elif line.plain.startswith((*SHOWN, "Report:")):
            if not shown:
                short.print()
            shown = True
        if shown:
            short.print(line)
    return short


def main() -> int:
    """Run the demonstration and draw."""
    console = Console(file=io.StringIO(), record=True, width=COLUMNS, force_terminal=False)
    console.print("[bold]$ make demo[/]\n", highlight=False)
    # From inside the folder, so that the picture shows the path that `make demo` would.
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        summary = run_demo(Path("demo-output"), [], None, console)
        sheet = Path("demo-output/contact-sheet.png").read_bytes()
    text = shortened(console).export_svg(
        title="cipherlens demo", theme=MONOKAI, code_format=FORMAT, unique_id="cipherlens"
    )
    IMAGES.mkdir(parents=True, exist_ok=True)
    (IMAGES / "terminal.svg").write_text(text, encoding="utf-8")
    (IMAGES / "contact-sheet.png").write_bytes(sheet)
    images = len(demo_cats()[1])
    plot = published.draw(summary["train_seconds"], summary["classify_seconds"] / images, datetime.date.today().year)
    (IMAGES / "published.svg").write_bytes(plot)
    return 0


if __name__ == "__main__":
    sys.exit(main())
