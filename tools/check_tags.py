"""Check what every built page says for itself, without a browser: tags for previews of links, and how to install.

    python tools/check_tags.py _build/html

An address in a tag is a whole one, of the page itself or of a picture that is in the build, or it is left out; every
page has a title, a description, the name of the site, and says how large its preview is. No page tells its reader to
install the package by its bare name. Prints what is wrong and exits with 1 if anything is; ``check_book.py`` checks
this too.
"""

from __future__ import annotations

import html
import re
import sys
from pathlib import Path
from urllib.parse import urlsplit

sys.path.insert(0, str(Path(__file__).parent))
from install_cell import bare_installs

SITE = "sketchlearn"
META = re.compile(r'<meta (?:property|name)="((?:og|twitter):[\w:]+|description)" content="([^"]*)"')
NEEDED = ("og:title", "og:site_name", "og:type", "og:description", "twitter:card")


def tag_faults(text: str, name: str, root: Path) -> list[str]:
    """What is wrong with a page (its HTML, and its name in the build ``root``), in words; nothing for a page that is no
    document (an index, a listing of source), which has no preview."""
    tags = {key: html.unescape(value) for key, value in META.findall(text)}
    out = [f"tells the reader to install by a bare name: {command}" for command in bare_installs(_plain(text))]
    if "og:title" not in tags:
        return out
    out += [f"has no {tag}" for tag in NEEDED if not tags.get(tag, "").strip()]
    if tags.get("og:site_name") != SITE:
        out.append(f"og:site_name is {tags.get('og:site_name')!r}, not {SITE!r}")
    if len(tags.get("og:description", "")) < 40:
        out.append(f"og:description says next to nothing: {tags.get('og:description')!r}")
    address, picture = tags.get("og:url"), tags.get("og:image")
    if (address is None) != (picture is None):
        out.append("has one of og:url and og:image, and needs the address of the book for both")
    for tag, value in (("og:url", address), ("og:image", picture)):
        if value is not None and not (urlsplit(value).scheme in ("http", "https") and urlsplit(value).netloc):
            out.append(f"{tag} is no whole address: {value!r}")
    if address and not address.endswith("/" + name):
        out.append(f"og:url is another page: {address!r}")
    if address and picture and address.endswith("/" + name):
        base = address.removesuffix(name)
        if not picture.startswith(base) or not (root / picture.removeprefix(base)).is_file():
            out.append(f"og:image is not in the build: {picture!r}")
    expected = "summary_large_image" if picture else "summary"
    if tags.get("twitter:card", expected) != expected:
        out.append(f"twitter:card is {tags['twitter:card']!r}, and should be {expected!r}")
    return out


def _plain(text: str) -> str:
    """The words of a page, line by line, code among them in backticks as in its source."""
    return html.unescape(re.sub(r"<[^>]*>", "", re.sub(r"</?code\b[^>]*>", "`", text)))


def faults(root: Path) -> dict[str, list[str]]:
    """The faults of every page of a build, by name; pages without one are left out."""
    found = {}
    for page in sorted(p for p in root.rglob("*.html") if "_static" not in p.parts):
        name = page.relative_to(root).as_posix()
        if out := tag_faults(page.read_text(encoding="utf-8"), name, root):
            found[name] = out
    return found


if __name__ == "__main__":
    every = faults(Path(sys.argv[1] if len(sys.argv) > 1 else "_build/html"))
    for name, out in every.items():
        print(name, *out, sep="\n    ")
    sys.exit(bool(every))
