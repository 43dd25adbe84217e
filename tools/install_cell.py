"""Write the cell with which every notebook begins: it installs the package where that is missing.

    python tools/install_cell.py

The package is on no index: whatever somebody publishes there under its name is another program. So the cell installs
from the checkout that the notebook lies in, or from the address of the repository. That address is one value,
``Repository`` of ``[project.urls]`` in ``pyproject.toml``; where it is missing, the cell says what to do instead.
Set it when there is a public address, and run this again. Only the source of the cell changes.
"""

from __future__ import annotations

import itertools
import json
import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
TAG = "remove-cell"
CELL = """import importlib.util
from pathlib import Path

repository = "{repository}"  # where the package comes from, as an address
if importlib.util.find_spec("sketchlearn") is None:  # on Colab, for instance
    in_checkout = Path("../sketchlearn/__init__.py").exists()
    if not in_checkout and not repository:
        raise ModuleNotFoundError(
            "sketchlearn is not installed, and this notebook knows no address "
            "to install it from. Write the address of the repository that "
            "the notebook is from into the line `repository = ...` above, or "
            "run the notebook in a checkout of it."
        )
    source = ".." if in_checkout else "git+" + repository
    %pip install --quiet {{source}}"""


COMMAND = re.compile(r"\b(?:pip3?|pipx|uv|conda|mamba|poetry)\b[^\n`#;&|]*?\b(?:install|add)\b([^\n`#;&|]*)")
BARE = re.compile(r"sketchlearn(\[[\w,-]*\])?([=<>~!].*)?")


def bare_installs(text: str) -> list[str]:
    """The commands in a text that would install the package by its name, from an index that does not have it."""
    found = []
    for command in COMMAND.finditer(text):
        words = [word.strip("\"'\\,.)") for word in command[1].replace("\\n", " ").split()]
        if any(BARE.fullmatch(word) and after != "@" for word, after in itertools.pairwise([*words, ""])):
            found.append(command[0])
    return found


def repository() -> str:
    """The public address of the repository, "" where there is none."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return str(project.get("urls", {}).get("Repository", ""))


def install_cell(address: str) -> str:
    """The source of the cell."""
    if '"' in address or "\\" in address or any(c.isspace() for c in address):
        raise ValueError(f"the address of the repository must be one word without quotes, got {address!r}.")
    return CELL.format(repository=address)


def with_cell(text: str, source: str) -> str:
    """A notebook's text with the source of its first hidden code cell replaced, and nothing else."""
    notebook = json.loads(text)
    hidden = [c for c in notebook["cells"] if c["cell_type"] == "code" and TAG in c["metadata"].get("tags", [])]
    if not hidden or "importlib.util" not in "".join(hidden[0]["source"]):
        raise ValueError(f"the first code cell with the tag {TAG} is not the one that installs the package.")
    hidden[0]["source"] = source.splitlines(keepends=True)
    return json.dumps(notebook, indent=1, ensure_ascii=False) + "\n"


def main() -> None:
    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        before = path.read_text(encoding="utf-8")
        after = with_cell(before, install_cell(repository()))
        if after != before:
            path.write_text(after, encoding="utf-8")
            print(f"{path.relative_to(ROOT)}: written")


if __name__ == "__main__":
    main()
