"""The measured figures: ``python -m benchmarks [--only SUBJECT ..] [--names FILE] [--cache DIR] [--out DIR]``.

Everything is a ratio of two things measured side by side in one run, or a size. The records of each subject are written
to ``results.json`` as soon as they are known; ``results.md`` is made from it.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
from pathlib import Path

import jax

from benchmarks import curvature, engine, figures, larger_model, planning, sketches, truth  # noqa: F401 (registers them)
from benchmarks.records import SUBJECTS, Cache, Record
from sketchlearn.runtime.paths import directory

TITLES = {
    "agreement": "Do two ways to compute coefficients agree?",
    "one_direction": "What one direction costs",
    "paper_figures": "The paper's three figures, as whole commands",
    "degree_100": "One direction of degree 100",
    "one_step": "One optimiser step, against nested jvp and jax.experimental.jet",
    "groups": "A sketch of 26 groups of names",
    "random_subsets": "Random subsets of the names",
    "pool": "A pool of candidates against all examples",
    "planning": "A plan beside what it planned",
    "truth_and_gradient": "Retraining and the exact gradient",
    "scaling": "How cost grows with the run and the model",
    "larger": "A model of 102,784 parameters",
    "hessian_products": "Products with the Hessian: exactness and price",
    "curvature": "Gradient and curvature: accuracy",
    "sketch_with_curvature": "A sketch that is given gradient and curvature",
}


def table(records: list[Record]) -> str:
    """The records as Markdown, subject by subject."""
    lines = [
        "# Measured figures",
        "",
        "Made by `python -m benchmarks`; ratios of things measured side by side in one run.",
        "",
    ]
    for name in dict.fromkeys(record.id.split("/")[0] for record in records):
        own = [record for record in records if record.id.startswith(f"{name}/")]
        lines += [f"## {TITLES.get(name, name)}", "", " ".join((SUBJECTS[name].measure.__doc__ or "").split()), ""]
        lines += ["| what | measured | unit | reference |", "|---|---|---|---|"]
        for r in own:
            value = r.value if isinstance(r.value, str) else format(r.value, ".3g")
            lines.append(f"| {r.label} | {value} | {r.unit} | {r.reference} |")
        lines += ["", f"({own[0].machine})", ""]
    return "\n".join(lines)


def read(path: Path) -> list[Record]:
    """The records of a file, none if it is not there."""
    return [Record(**entry) for entry in json.loads(path.read_text())] if path.exists() else []


def write(path: Path, records: list[Record]) -> None:
    """Write the records, and their table beside them."""
    path.write_text(json.dumps([record._asdict() for record in records], indent=1) + "\n")
    path.with_suffix(".md").write_text(table(records))


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--only", nargs="*", choices=list(SUBJECTS), default=list(SUBJECTS))
    parser.add_argument("--names", help="a file of names (default: the bundled list)")
    parser.add_argument("--cache", type=Path, help="keeps the sketches, to go on after a stop")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent)
    args = parser.parse_args()
    Cache.folder = directory("--cache", args.cache) if args.cache else None
    stored = directory("--out", args.out) / "results.json"
    machine = (
        f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}, jax {jax.__version__}, "
        f"names: {'a file' if args.names else 'bundled'}"
    )
    for name in args.only:
        subject = SUBJECTS[name]
        own = subject.records(subject.measure(args.names), machine)
        write(stored, [r for r in read(stored) if not r.id.startswith(f"{name}/")] + own)
        for record in own:
            value = record.value if isinstance(record.value, str) else format(record.value, ".4g")
            print(f"{record.id:80s} {value}", flush=True)


if __name__ == "__main__":
    main()
