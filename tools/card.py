"""Draw ``book/_static/card.png``, the picture that a preview of a link to the book shows.

    python tools/card.py

The landing page's figure under the book's name, in the size that sites ask for. Needs Chromium and ``pip install
playwright``, as screenshots.py does.
"""

from __future__ import annotations

from pathlib import Path

from screenshots import browser

STATIC = Path(__file__).parents[1] / "book" / "_static"
QUESTION = "How would this model behave without that part of its training data?"
WIDTH, HEIGHT = 1200, 630
PAGE = """<body style="margin: 0; padding: 45px 60px; background: white; color: #1c2733; font-family: sans-serif">
<div style="font-size: 62px; font-weight: 600">Sketching and Learning</div>
<div style="font-size: 29px; margin: 12px 0 40px">{question}</div>
<div style="width: 1080px">{figure}</div></body>"""


def main() -> None:
    figure = (STATIC / "landing.svg").read_text(encoding="utf-8")
    with browser() as chromium:
        page = chromium.new_page(viewport={"width": WIDTH, "height": HEIGHT})
        page.set_content(PAGE.format(question=QUESTION, figure=figure))
        page.screenshot(path=STATIC / "card.png")


if __name__ == "__main__":
    main()
