"""Drive the built page "Delete it yourself" in a browser, and compare what it shows with the package's predictions.

    python tools/check_page.py _build/html

Needs Chromium and ``pip install playwright``, as screenshots.py does, beside the package. The page is opened from a
local server and from its file; boxes are ticked, buttons are pressed, and the numbers of the table are read.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))
import make_page_data as make
from screenshots import browser, served

import sketchlearn as sl

TOLERANCE = 1e-4  # nats
SHOWN = 6e-4  # three decimals
READ = """Object.fromEntries([...document.querySelectorAll("#delete-table tbody tr")].map(row => [row.dataset.test,
  [...row.querySelectorAll("td")].map(c => ({text: c.textContent, data: c.dataset.value}))]))"""


def shown(page: Any) -> tuple[np.ndarray, np.ndarray]:
    """The predicted losses as numbers, and as they are written: NaN where the page says "out of range"."""
    rows = page.evaluate(READ)
    value, low_high, text = [], [], []
    for test in make.TESTS:
        cells = rows[test]
        value.append(float(cells[1]["data"]))
        low_high.append([float(x) for x in cells[2]["data"].split()])
        if cells[2]["text"] == "out of range":
            text.append([np.nan] * 3)
        else:
            text.append([float(cells[1]["text"]), *map(float, cells[2]["text"].split(" to "))])
    return np.column_stack([value, low_high]), np.array(text)


# longer than 60 lines: one visit to the page, in the order in which a reader clicks
def faults(built: Path) -> list[str]:
    """What is wrong with the page, in words."""
    experiment = sl.microgpt.paper_experiment(dtype="float32")
    units = make.units_of(experiment.names)
    with np.load(make.KEPT) as file:
        sketch = make.kept_sketch(dict(file), units)
    out: list[str] = []
    checked = max(make.coordinates(t.astype(float), units).mean() for *_, t in make.cases_of(units))

    def ranges(page: Any, what: str, expected: np.ndarray, fraction: float, written: np.ndarray) -> None:
        """The page says "out of range" exactly where it should, once in words, and shows no interval there."""
        beyond = np.isnan(written[:, 0])
        if (beyond != ((expected[:, 1] < 0) | (fraction > checked + 1e-9))).any():
            out.append(f"{what}: out of range are {[t for t, b in zip(make.TESTS, beyond, strict=True) if b]}")
        warning = page.locator("#delete-range")
        if warning.get_attribute("role") != "status" or beyond.any() != ("Out of range" in warning.inner_text()):
            out.append(f"{what}: the warning says {warning.inner_text()!r}, {beyond.sum()} of 8 are out of range")
        if beyond.all() and page.locator("#delete-it :is(.bar, .mark)").count():
            out.append(f"{what}: an interval is drawn that is out of range")
        if "\u2212" in page.inner_text("#delete-table tbody tr td:nth-child(4)"):
            out.append(f"{what}: an interval reaches below zero")

    def compare(page: Any, what: str, ticked: np.ndarray, share: float = 1.0) -> None:
        x = share * make.coordinates(ticked.astype(float), units)
        p = sketch.predict(make.QUERY, x)
        expected = np.column_stack([p.value, *p.interval()])
        numbers, written = shown(page)
        ranges(page, what, expected, x.mean(), written)
        for name, off, most in (("holds", numbers - expected, TOLERANCE), ("shows", written - expected, SHOWN)):
            if (np.abs(off) > most).any():
                out.append(f"{what}: the table {name} numbers that are off by {np.nanmax(np.abs(off)):.2e} nats")

    def drive(page: Any, address: str) -> None:
        page.on("pageerror", lambda e: out.append(f"{address}: {e}"))
        page.on("console", lambda m: out.append(f"{address}: {m.text}") if m.type == "error" else None)
        page.goto(address, wait_until="load")
        page.wait_for_selector("#delete-table tbody tr")
        labels = [u.label for u in units]
        containing_x = np.array([len(u.members) == 1 and "x" in u.label and " " not in u.label for u in units])
        page.click("#delete-x")
        compare(page, "names with an x", containing_x)
        if not page.locator("#delete-it circle").count():
            out.append("the x names have retrained truth, but no dot is drawn")
        page.locator("#delete-share").fill("50")
        compare(page, "half of the names with an x", containing_x, 0.5)
        page.locator("#delete-share").fill("100")
        page.click("#delete-clear")
        if "Nothing" not in page.inner_text("#delete-summary"):
            out.append("clear leaves something deleted")
        every = page.locator("#delete-it .letter")
        for i in range(every.count()):
            every.nth(i).click()
        compare(page, "all letters", np.ones(len(units), bool))
        page.locator("#delete-share").fill("15")
        compare(page, "15% of everything", np.ones(len(units), bool), 0.15)
        page.locator("#delete-share").fill("100")
        page.click("#delete-clear")
        rng = np.random.default_rng(11)
        for count in (1, 5, 30):
            ticked = np.isin(np.arange(len(units)), rng.choice(len(units), count, replace=False))
            page.click("#delete-clear")
            for j in np.flatnonzero(ticked):  # by the keyboard
                page.focus(f"#delete-{j}")
                page.keyboard.press("Space")
            compare(page, f"{count} boxes", ticked)
        page.click("#delete-it .letter >> nth=25")
        page.select_option("#delete-case", "4")
        page.click("#delete-show")
        compare(page, make.cases_of(units)[4][1], make.cases_of(units)[4][2])
        page.fill("#delete-search", "zoyah")
        visible = page.locator("#delete-it .names label:visible").all_inner_texts()
        if [v.strip() for v in visible] != ["zoyah"] or "zoyah" not in labels:
            out.append(f"the search for zoyah shows {visible}")
        page.wait_for_selector("#delete-worst")
        page.click("#delete-worst")
        if "outside the 95% interval" not in page.inner_text("#delete-notes"):
            out.append("the worst miss is not said to be one")

    with served(built) as base, browser() as chromium:
        for start in (base, built.resolve().as_uri() + "/"):
            page = chromium.new_page()
            drive(page, start + "book/delete_it_yourself.html")
            page.close()
    return out


if __name__ == "__main__":
    found = faults(Path(sys.argv[1] if len(sys.argv) > 1 else "_build/html"))
    print(*(found or ["the page shows what the package predicts"]), sep="\n")
    sys.exit(bool(found))
