"""Run axe-core over pages of the built book, in light and dark.

    python tools/accessibility.py axe.min.js _build/html book/index.html book/api.html

``axe.min.js`` comes from the npm package ``axe-core`` (``npm pack axe-core``). Needs
the same browser as screenshots.py. Exit code 1 when a rule is violated.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from screenshots import browser, served


def violations(context, base: str, name: str, axe: str) -> list[str]:
    page = context.new_page()
    page.goto(base + name, wait_until="load")
    page.wait_for_timeout(1200)
    page.evaluate(axe)
    found = page.evaluate("axe.run()")["violations"]
    page.close()
    where = [" ".join(v["nodes"][0]["html"].split())[:100] for v in found]
    return [f"{v['id']} ({v['impact']}, {len(v['nodes'])}x): {w}" for v, w in zip(found, where, strict=True)]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("axe", type=Path, help="axe.min.js")
    parser.add_argument("root", type=Path, help="the built book")
    parser.add_argument("pages", nargs="+", help="pages, relative to the root")
    args = parser.parse_args()
    axe, count = args.axe.read_text(encoding="utf-8"), 0
    with served(args.root) as base, browser() as chromium:
        for scheme in ("light", "dark"):
            context = chromium.new_context(viewport={"width": 1280, "height": 900}, color_scheme=scheme)
            for name in args.pages:
                found = violations(context, base, name, axe)
                count += len(found)
                print(f"{scheme:5} {name}: {len(found)} violations", *found, sep="\n      ")
    return int(count > 0)


if __name__ == "__main__":
    sys.exit(main())
