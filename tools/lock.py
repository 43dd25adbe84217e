"""Write requirements.lock: the installed versions of everything that the ``dev`` extra needs.

    make lock

Versions only, no addresses and no hashes, so that the file serves as constraints
for any index: ``pip install -c requirements.lock -e ".[dev]"``.
"""

from __future__ import annotations

import platform
import sys
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

PROJECT = "sketchlearn"
LOCK = Path(__file__).parents[1] / "requirements.lock"


def closure(name: str, extras: frozenset[str]) -> dict[str, str]:
    """Name -> version of every installed distribution that ``name[extras]`` needs."""
    versions: dict[str, str] = {}
    seen: set[tuple[str, frozenset[str]]] = set()
    todo = [(canonicalize_name(name), extras)]
    while todo:
        item = todo.pop()
        if item in seen:
            continue
        seen.add(item)
        try:
            found = distribution(item[0])
        except PackageNotFoundError:
            sys.exit(f'{item[0]} is not installed: run pip install -e ".[dev]" first.')
        versions[item[0]] = found.version
        for line in found.requires or ():
            need = Requirement(line)
            if need.marker is None or any(need.marker.evaluate({"extra": extra}) for extra in ("", *item[1])):
                todo.append((canonicalize_name(need.name), frozenset(need.extras)))
    return versions


def main() -> None:
    versions = closure(PROJECT, frozenset({"dev"}))
    for leave_out in (PROJECT, "pip", "setuptools"):
        versions.pop(leave_out, None)
    lines = [
        "# Versions that were tested together, as constraints for pip; written by tools/lock.py",
        f"# on Python {platform.python_version()}. Use: pip install -c requirements.lock -e .",
        *(f"{name}=={version}" for name, version in sorted(versions.items())),
    ]
    text = "\n".join(lines) + "\n"
    if not LOCK.exists() or LOCK.read_text(encoding="utf-8") != text:  # an untouched file keeps make's stamps
        LOCK.write_text(text, encoding="utf-8")
    print(f"{LOCK.name}: {len(versions)} packages")


if __name__ == "__main__":
    main()
