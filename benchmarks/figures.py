"""The paper's figures as whole commands."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time

from benchmarks.records import subject


@subject(
    ("GB", "GB", "peak of the process"),
    ("minutes", "min", "wall clock"),
    ("", "s", "wall clock"),
)
def paper_figures(names):
    """The three figures as whole commands: seconds, and peak memory of each process in GB."""
    out = {}
    for number in (1, 2, 3):
        with tempfile.TemporaryDirectory() as folder:
            command = [sys.executable, "-m", "sketchlearn.cli", "figure", str(number), "--out", folder, "--quiet"]
            start = time.perf_counter()
            child = subprocess.Popen(command + (["--names", names] if names else []), stdout=subprocess.DEVNULL)
            _, status, usage = os.wait4(child.pid, 0)
            if status:
                raise RuntimeError(f"figure {number} failed with status {status}")
            out[f"figure {number}, seconds"] = time.perf_counter() - start
            out[f"figure {number}, peak GB"] = usage.ru_maxrss / 2**20
    out["all figures, minutes"] = sum(v for k, v in out.items() if "seconds" in k) / 60
    return out
