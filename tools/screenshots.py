"""Pictures of the built book in light and dark, with what went wrong while it loaded.

    python tools/screenshots.py _build/html OUT book/index.html book/api.html

Needs Chromium and ``pip install playwright`` (no ``playwright install``: the
browser is the system's; ``CHROMIUM`` names it when it is elsewhere). Prints, for
every page, requests that left the book, console errors, and missing files.
"""

from __future__ import annotations

import argparse
import functools
import http.server
import json
import os
import sys
import threading
from contextlib import contextmanager, suppress
from pathlib import Path

from playwright.sync_api import sync_playwright

CHROMIUM = os.environ.get("CHROMIUM", "/usr/bin/chromium")
QUIET = "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking --disable-sync"


class Handler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass

    def copyfile(self, source, outputfile):
        with suppress(ConnectionError):  # a page that is left before it is whole
            super().copyfile(source, outputfile)


@contextmanager
def served(root: Path):
    """Serve a directory on a free local port; gives the address."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=str(root)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/"
    finally:
        server.shutdown()
        server.server_close()


@contextmanager
def browser():
    with sync_playwright() as play:
        chromium = play.chromium.launch(executable_path=CHROMIUM, args=QUIET.split())
        try:
            yield chromium
        finally:
            chromium.close()


def visit(context, base: str, name: str, picture: Path) -> dict[str, list]:
    """Load a page, take its picture, return its faults."""
    page = context.new_page()
    left, console, missing = set(), [], []

    def request(r):
        if not r.url.startswith((base, "data:")):
            left.add(r.url)

    def message(m):
        if m.type in ("error", "warning"):
            console.append(m.text[:160])

    def response(r):
        if r.status >= 400:
            missing.append(f"{r.status} {r.url.removeprefix(base)}")

    page.on("request", request)
    page.on("console", message)
    page.on("pageerror", lambda e: console.append(str(e)[:160]))
    page.on("response", response)
    page.goto(base + name, wait_until="load")
    page.wait_for_timeout(1500)
    page.screenshot(path=str(picture), full_page=True)
    wide = page.evaluate("document.documentElement.scrollWidth > document.documentElement.clientWidth")
    page.close()
    faults = {"left the book": sorted(left), "console": console, "missing": missing}
    return faults | ({"too wide": [name]} if wide else {})


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("root", type=Path, help="the built book")
    parser.add_argument("out", type=Path, help="directory for the pictures")
    parser.add_argument("pages", nargs="+", help="pages, relative to the root")
    parser.add_argument("--width", type=int, default=1280)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    found = False
    with served(args.root) as base, browser() as chromium:
        for scheme in ("light", "dark"):
            context = chromium.new_context(viewport={"width": args.width, "height": 900}, color_scheme=scheme)
            for name in args.pages:
                stem = name.removesuffix(".html").replace("/", "_")
                faults = visit(context, base, name, args.out / f"{stem}-{scheme}-{args.width}.png")
                found |= any(faults.values())
                print(json.dumps({"page": name, "scheme": scheme, **{k: v for k, v in faults.items() if v}}))
    return int(found)


if __name__ == "__main__":
    sys.exit(main())
