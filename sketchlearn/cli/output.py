"""What every command prints and writes."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from importlib.metadata import version
from typing import Any

import numpy as np

from sketchlearn.deletions.base import Space
from sketchlearn.execution.units import duration, size
from sketchlearn.planning.pilot import rough_estimate

VERSION = version("sketchlearn")


def plain(value: Any) -> Any:
    """Arrays as lists, for JSON; anything else as text."""
    return value.tolist() if isinstance(value, (np.ndarray, np.generic)) else str(value)


def say(args: argparse.Namespace, text: str) -> None:
    """Print for people, where no JSON was asked for."""
    if not args.json:
        print(text, flush=True)


def save(args: argparse.Namespace, name: str, figure: Any, report: dict[str, Any]) -> None:
    """The picture and the numbers it shows, side by side."""
    figure.savefig(args.out / f"{name}.png", dpi=150)
    (args.out / f"{name}.json").write_text(json.dumps(report, indent=1, default=plain) + "\n")
    say(args, f"wrote {args.out / name}.png and .json")


def announce(
    args: argparse.Namespace, train: Callable, space: Space, degree: int, m: int, circles: bool = False
) -> None:
    """Before a long run: what it may cost."""
    if args.quiet:
        return
    cost = rough_estimate(train, space, degree, m, circles)
    disk = f", {size(cost.disk_bytes)} of jets" if cost.disk_bytes else ""
    print(
        f"{m} directions of degree {degree}: {duration(cost.low_seconds)} to {duration(cost.high_seconds)}, "
        f"{size(cost.peak_bytes)} of memory for arrays{disk}. (Counted from one plain training; `sketchlearn plan` "
        "runs a pilot, and says what error to expect.)",
        file=sys.stderr,
        flush=True,
    )
