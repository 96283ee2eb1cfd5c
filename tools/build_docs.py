"""README.md and docs/*.md as HTML pages under site/, with every relative link checked. `make docs` runs it."""

from __future__ import annotations

import html
import re
import shutil
import sys
from pathlib import Path

from markdown_it import MarkdownIt

ROOT = Path(__file__).resolve().parent.parent
SITE = ROOT / "site"

PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>{title}</title>
<style>
body {{ max-width: 50rem; margin: 2rem auto; padding: 0 1rem; font: 1rem/1.55 system-ui, sans-serif; color: #222 }}
pre, code {{ font-size: .9em; background: #f5f5f5 }} pre {{ padding: .8rem; overflow-x: auto }}
table {{ border-collapse: collapse; display: block; overflow-x: auto }} td, th {{ border: 1px solid #ccc; padding: .2rem .5rem }}
img {{ max-width: 100% }}
</style>
<nav>{links}</nav>
{body}
</html>
"""

LINK = re.compile(r'(href|src)="([^"]+)"')


def pages() -> dict[Path, Path]:
    """Each source and the page it becomes."""
    sources = [ROOT / "README.md", *sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]
    return {source: SITE / source.relative_to(ROOT).with_suffix(".html") for source in dict.fromkeys(sources)}


def main() -> int:
    """Write the pages; returns 1 when a link leads nowhere."""
    shutil.rmtree(SITE, ignore_errors=True)
    markdown = MarkdownIt("commonmark", {"html": True}).enable("table")
    written = pages()
    broken: list[str] = []
    for source, page in written.items():
        page.parent.mkdir(parents=True, exist_ok=True)

        def follow(match: re.Match[str], source: Path = source, page: Path = page) -> str:
            address, _, place = match[2].partition("#")
            if not address or re.match("[a-z]+:", address):
                return match[0]
            target = (source.parent / address).resolve()
            if not target.exists():
                broken.append(f"{source.relative_to(ROOT)}: {address}")
                return match[0]
            if target in written:
                return f'{match[1]}="{Path(address).with_suffix(".html").as_posix()}{"#" + place if place else ""}"'
            copy = SITE / target.relative_to(ROOT)
            if target.is_file():
                copy.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(target, copy)
            return match[0]

        text = source.read_text(encoding="utf-8")
        title = next((line.lstrip("# ") for line in text.splitlines() if line.startswith("# ")), source.stem)
        up = "../" * (len(page.relative_to(SITE).parts) - 1)
        links = " · ".join(
            f'<a href="{up}{other.relative_to(SITE).as_posix()}">{html.escape(name.stem)}</a>'
            for name, other in written.items()
        )
        body = LINK.sub(follow, markdown.render(text))
        page.write_text(PAGE.format(title=html.escape(title), links=links, body=body), encoding="utf-8")
    for line in broken:
        print(f"leads nowhere: {line}", file=sys.stderr)
    print(f"{len(written)} pages under {SITE.relative_to(ROOT)}/, {len(broken)} broken links")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
