"""Print the built book to one PDF, in the order of its contents, with bookmarks.

    python tools/make_pdf.py _build/html sketchlearn.pdf

Needs Chromium, ``pip install playwright pypdf``. Folded solutions are opened for print; the code of the
figures stays folded.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator
from pathlib import Path

import yaml
from pypdf import PdfReader, PdfWriter
from screenshots import browser, served

OPEN = """() => {
  document.documentElement.dataset.theme = "light";
  document.querySelectorAll(".toggle-hidden").forEach(e => e.classList.remove("toggle-hidden"));
  return window.MathJax && MathJax.startup ? MathJax.startup.promise.then(() => true) : true; }"""
STYLE = """* { animation: none !important; transition: none !important; }
pre { font-size: 78%; white-space: pre-wrap; }
details.hide { display: none; }
figure, table, .cell, .admonition > .admonition-title { break-inside: avoid; }"""
TITLE = "document.querySelector('h1').firstChild.textContent"
MARGIN = dict.fromkeys(("top", "bottom", "left", "right"), "16mm")


def pages(toc: dict) -> Iterator[str]:
    """The pages of the book in reading order, without their endings."""
    yield toc["root"]
    for part in toc["parts"]:
        for chapter in part["chapters"]:
            yield chapter["file"]


def print_book(built: Path, to: Path) -> int:
    """Write the PDF; the number of its sheets."""
    toc = yaml.safe_load((Path(__file__).parents[1] / "_toc.yml").read_text(encoding="utf-8"))
    writer = PdfWriter()
    with served(built) as base, browser() as chromium:
        page = chromium.new_page(color_scheme="light")
        for name in pages(toc):
            page.goto(f"{base}{name}.html", wait_until="networkidle")
            page.evaluate(OPEN)
            page.add_style_tag(content=STYLE)
            page.emulate_media(media="print")
            sheets = PdfReader(io.BytesIO(page.pdf(format="A4", margin=MARGIN, print_background=True)))
            first = len(writer.pages)
            writer.append(sheets, import_outline=False)
            writer.add_outline_item(title=page.evaluate(TITLE).strip(), page_number=first)
    writer.compress_identical_objects()
    writer.add_metadata({"/Title": "Sketching and Learning"})
    with to.open("wb") as file:
        writer.write(file)
    return len(writer.pages)


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    print(print_book(Path(sys.argv[1]), Path(sys.argv[2])), "sheets")
