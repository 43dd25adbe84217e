"""Run notebooks again in place and store their outputs: ``python tools/run_notebooks.py [paths]``.

Nothing that changes from run to run is stored (times, kernel versions), so that a
second run leaves the same bytes wherever a notebook's outputs are deterministic.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

os.environ.setdefault("JAX_PLATFORMS", "cpu")

import nbformat
from nbclient import NotebookClient

TIMEOUT = 2400  # seconds for one cell, as in the tests: the full-size figures take minutes, more on a busy machine


def run(path: Path) -> bool:
    """Execute one notebook and say whether its file changed."""
    before = path.read_text(encoding="utf-8")
    notebook = nbformat.reads(before, as_version=4)
    for cell in notebook.cells:
        cell.metadata = nbformat.NotebookNode({k: v for k, v in cell.metadata.items() if k in ("tags", "mystnb")})
    NotebookClient(
        notebook,
        timeout=TIMEOUT,
        kernel_name="python3",
        record_timing=False,
        coalesce_streams=True,
        resources={"metadata": {"path": str(path.parent)}},
    ).execute()
    notebook.metadata = nbformat.NotebookNode(
        kernelspec={"display_name": "Python 3", "language": "python", "name": "python3"},
        language_info={"name": "python"},
    )
    nbformat.validate(notebook)
    after = nbformat.writes(notebook).rstrip("\n") + "\n"
    path.write_text(after, encoding="utf-8")
    return before != after


if __name__ == "__main__":
    here = Path(__file__).parents[1] / "notebooks"
    for notebook_path in [Path(p) for p in sys.argv[1:]] or sorted(here.glob("*.ipynb")):
        print("changed  " if run(notebook_path) else "unchanged", notebook_path.name)
