"""Check every page of the built book in a browser without a network.

    python tools/check_book.py _build/html --axe axe.min.js

For every page: no request leaves the book, no console error, nothing missing; every internal link and anchor
resolves; no serious or critical finding of axe-core in light and in dark (``axe.min.js`` is in the npm package
``axe-core``: ``npm pack axe-core``); no horizontal scrolling in a window of 360 pixels; the tags and commands that
``check_tags.py`` looks at. Prints what is wrong and exits with 1 if anything is. Needs Chromium and ``pip install
playwright``, as screenshots.py does.
"""

from __future__ import annotations

import argparse
import sys
from collections import defaultdict
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urljoin, urlsplit

from check_tags import faults as wrong_tags
from screenshots import browser, served

GRAVE = ("serious", "critical")
# wide maths and tables scroll by themselves; what counts is whether the page does
TOO_WIDE = "Math.max(document.documentElement.scrollWidth, document.body.scrollWidth) - innerWidth"
CULPRITS = """[...document.querySelectorAll("body *")].filter(e => {
  if (e.getBoundingClientRect().right <= innerWidth + 1) return false;
  for (let p = e.parentElement; p && p !== document.body; p = p.parentElement)
    if (getComputedStyle(p).overflowX !== "visible") return false;
  return true; }).slice(-2).map(e => e.outerHTML.replace(/\\s+/g, " ").slice(0, 90))"""


class Anchors(HTMLParser):
    """The ids of a page, and what it links to or loads."""

    def __init__(self, text: str):
        super().__init__()
        self.ids: set[str] = {"", "top"}
        self.links: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list) -> None:
        for name, value in attributes:
            if name == "id" or (name == "name" and tag == "a"):
                self.ids.add(value or "")
            if name in ("href", "src") and value:
                self.links.append(value)


def broken_links(root: Path, pages: list[Path]) -> dict[str, list[str]]:
    """Internal links of every page that lead nowhere."""
    read = {page: Anchors(page.read_text(encoding="utf-8")) for page in pages}
    out = defaultdict(list)
    for page, anchors in read.items():
        name = page.relative_to(root).as_posix()
        for link in sorted(set(anchors.links)):
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            path = unquote(urlsplit(urljoin(f"/{name}", link)).path).lstrip("/") if parts.path else name
            target = root / path
            target = target / "index.html" if target.is_dir() else target
            if not target.exists():
                out[name].append(f"link to a file that is not there: {link}")
            elif target in read and unquote(parts.fragment) not in read[target].ids:
                out[name].append(f"link to an anchor that is not there: {link}")
    return out


def opened(context: Any, base: str, name: str, faults: set[str]) -> Any:
    """The page, loaded; what went wrong is added to ``faults``."""
    page = context.new_page()

    def fault(text: str) -> None:
        faults.add(text.replace(base, "")[:200])

    def gate(route: Any) -> None:
        url = route.request.url
        if url.startswith((base, "data:", "blob:")):
            route.continue_()
        else:
            fault(f"request that leaves the book: {url}")
            route.abort()

    page.route("**/*", gate)
    page.on("console", lambda m: fault(f"console: {m.text}") if m.type == "error" else None)
    page.on("pageerror", lambda e: fault(f"script: {e}"))
    page.on("response", lambda r: fault(f"{r.status}: {r.url}") if r.status >= 400 else None)
    page.goto(base + name, wait_until="load")
    page.wait_for_timeout(300)
    page.wait_for_function("document.readyState === 'complete'")  # one that only redirects may be between two pages
    if page.evaluate("typeof MathJax !== 'undefined' && !!MathJax.startup"):
        page.evaluate("MathJax.startup.promise")
    return page


def grave(page: Any, axe: str) -> list[str]:
    """Serious and critical findings of axe-core."""
    page.evaluate(axe)
    found = page.evaluate("axe.run({resultTypes: ['violations']})")["violations"]
    return [
        f"axe {v['id']} ({v['impact']}, {len(v['nodes'])}x): {' '.join(v['nodes'][0]['html'].split())[:140]}"
        + (f" [{v['nodes'][0]['any'][0]['message'][:140]}]" if v["id"] == "color-contrast" else "")
        for v in found
        if v["impact"] in GRAVE
    ]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("root", type=Path, help="the built book")
    parser.add_argument("pages", nargs="*", help="pages, relative to the root; all of them if not given")
    parser.add_argument("--axe", type=Path, help="axe.min.js; accessibility is not checked without it")
    args = parser.parse_args()
    every = sorted(p for p in args.root.rglob("*.html") if "_static" not in p.parts)
    links, tags = broken_links(args.root, every), wrong_tags(args.root)
    names = args.pages or [p.relative_to(args.root).as_posix() for p in every]
    axe = args.axe.read_text(encoding="utf-8") if args.axe else None
    count = 0
    with served(args.root) as base, browser() as chromium:
        contexts = {
            "light": chromium.new_context(viewport={"width": 1280, "height": 900}, color_scheme="light"),
            "dark": chromium.new_context(viewport={"width": 1280, "height": 900}, color_scheme="dark"),
            "narrow": chromium.new_context(viewport={"width": 360, "height": 740}, color_scheme="light"),
        }
        for name in names:
            faults = {*links.get(name, []), *tags.get(name, [])}
            for kind, context in contexts.items():
                page = opened(context, base, name, faults)
                if kind == "narrow":
                    wide = page.evaluate(TOO_WIDE)
                    if wide > 0:
                        faults.add(f"at 360 pixels the page is {wide} too wide: {page.evaluate(CULPRITS)}")
                elif axe:
                    faults |= {f"{kind}: {text}" for text in grave(page, axe)}
                page.close()
            count += len(faults)
            print(f"{name}: {len(faults) or 'no'} faults", *sorted(faults), sep="\n    ", flush=True)
    print(f"{len(names)} pages, {count} faults" + ("" if axe else " (accessibility not checked: give --axe)"))
    return int(count > 0)


if __name__ == "__main__":
    sys.exit(main())
