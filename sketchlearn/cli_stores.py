"""The commands ``sketchlearn sketch`` and ``predict``: fill a store, also in shards, and ask it."""

from __future__ import annotations

import argparse
import importlib
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from . import microgpt
from .errors import StoreError
from .keeping import open_sketch
from .pilot import rough_estimate
from .querying import ESTIMATORS
from .sketching import sketch
from .spaces import Examples, Groups, Space, from_description
from .storage import Store
from .wording import duration, size


class Run(NamedTuple):
    """A training program for the command line: microgpt, or one that the user names."""

    train: Callable
    num_examples: int
    experiment: microgpt.Experiment | None = None


def add_to(commands: Any) -> list[argparse.ArgumentParser]:
    """The two commands; returns their parsers."""
    making = commands.add_parser("sketch", help="sketch a training run into a store; goes on where it was stopped")
    making.add_argument("store", type=Path, help="a directory")
    making.add_argument("--directions", type=int, default=500, help="default 500")
    making.add_argument("--degree", type=int, default=3, help="default 3")
    making.add_argument("--groups", action="store_true", help="only unions of first letters can be deleted (microgpt)")
    making.add_argument("--additive", action="store_true", help="also run every example (or group) alone")
    making.add_argument("--centre", type=float, help="expand at weights lower by this fraction")
    making.add_argument("--batch-size", type=int, help="directions at once (default: what the memory holds)")
    making.add_argument("--shard", metavar="i/N", help="only the i-th part (from 0) of N independent jobs' work")
    making.add_argument("--repair", action="store_true", help="compute damaged blocks again")
    making.add_argument("--seed", type=int, default=0)
    making.set_defaults(run=_sketch)

    asking = commands.add_parser("predict", help="ask a store what a deletion would do")
    asking.add_argument("store", type=Path, help="a directory filled by sketchlearn sketch")
    asking.add_argument("--query", nargs="+", default=["max"], help="test names, or MODULE:FUNCTION of the parameters")
    asking.add_argument(
        "--delete",
        required=True,
        metavar="WHAT",
        help="microgpt: names with these letters (of groups: groups by letter); or positions, 3,8,20-29",
    )
    asking.add_argument("--estimator", default="auto", choices=ESTIMATORS)
    asking.set_defaults(run=_predict)
    for command in (making, asking):
        command.add_argument("--names", help="a file of names, or 'paper' to download the paper's list")
        command.add_argument("--examples", type=int, help="training examples (default 1000 for microgpt)")
        command.add_argument(
            "--train",
            metavar="MODULE:NAME",
            help="your own training program in place of microgpt: weights -> parameters",
        )
    return [making, asking]


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


def _sketch(args: argparse.Namespace) -> dict[str, Any]:
    run = _program(args)
    space: Space = Examples(run.num_examples)
    if args.groups:
        if run.experiment is None:
            raise ValueError("--groups are the first letters of microgpt's names; for your own program use Python.")
        space = Groups([name[0] for name in run.experiment.names])
    announce(args, run.train, space, args.degree, args.directions)
    made = sketch(
        run.train, space, args.degree, args.directions, args.seed, args.batch_size, progress=not args.quiet,
        store=args.store, additive=args.additive, centre=args.centre, shard=_shard(args.shard), repair=args.repair,
    )  # fmt: skip
    whole = True
    try:
        open_sketch(args.store, run.train, space)
    except StoreError:
        if args.shard is None:
            raise
        whole = False
    if not args.json:
        print(made if whole else f"shard {args.shard} is done; the store waits for the others.", flush=True)
    return {"store": str(args.store), "complete": whole, "sketch": repr(made)}


def _predict(args: argparse.Namespace) -> dict[str, Any]:
    run = _program(args)
    stored = from_description(Store(args.store).arguments["space"]).num_examples
    if stored != run.num_examples:
        raise ValueError(f"the store is of {stored} examples, not {run.num_examples}: give --examples as then.")
    made = open_sketch(args.store, run.train)
    if any(":" in name for name in args.query):
        if len(args.query) > 1:
            raise ValueError("one MODULE:FUNCTION at a time: let it return an array for several outputs.")
        query = _named(args.query[0])
    elif run.experiment is None:
        raise ValueError("the queries of your own program are functions: --query MODULE:FUNCTION.")
    else:
        query = run.experiment.query(args.query)
    asked = _asked(args.delete, run, made.space)
    found = made.predict(query, asked, args.estimator)
    deleted = np.flatnonzero(made.space.embed(made.space.locate(asked)))
    low, high = found.interval()
    if not args.json:
        print(f"{len(deleted)} of {run.num_examples} examples deleted; 95% intervals")
        labels = (
            args.query if np.ndim(found.value) and run.experiment else [f"{i}" for i in range(np.size(found.value))]
        )
        for name, before, value, a, b in zip(
            labels, *(np.ravel(v) for v in (found.baseline, found.value, low, high)), strict=True
        ):
            print(f"{name:12s} now {before:8.4f}   predicted {value:8.4f}   {a:8.4f} .. {b:.4f}")
        for text in found.warnings:
            print(f"note: {text}")
    return {
        "deleted": deleted, "baseline": found.baseline, "value": found.value, "interval": [low, high],
        "terms": found.terms, "standard_errors": found.standard_errors, "orders_used": found.orders_used,
        "shrunk": found.shrunk, "warnings": found.warnings,
    }  # fmt: skip


def _program(args: argparse.Namespace) -> Run:
    if args.train is None:
        count = 1000 if args.examples is None else args.examples
        experiment = microgpt.paper_experiment(args.names, num_examples=count)
        return Run(experiment.train, experiment.num_examples, experiment)
    train = _named(args.train)
    count = getattr(train, "num_examples", None) if args.examples is None else args.examples
    if count is None:
        raise ValueError(f"how many examples {args.train} has is not known: give --examples.")
    return Run(train, int(count))


def _named(text: str) -> Callable:
    """The function ``module:name``, where modules of the working directory are found, too."""
    module, colon, name = text.partition(":")
    if not (module and colon and name):
        raise ValueError(f"expected MODULE:NAME, got {text!r}.")
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        found = importlib.import_module(module)
    except ImportError as error:
        raise ValueError(f"{module} cannot be imported ({error}).") from error
    if not callable(getattr(found, name, None)):
        raise ValueError(f"{module} has no function {name!r}.")
    return getattr(found, name)


def _shard(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    found = re.fullmatch(r"(\d+)/(\d+)", text)
    if not found:
        raise ValueError(f"--shard is i/N, for instance 0/4, got {text!r}.")
    return int(found[1]), int(found[2])


def _asked(text: str, run: Run, space: Space) -> Any:
    """What to delete, as the space reads it: groups by their letters, positions of whole groups, else positions."""
    if not isinstance(space, Groups):
        return _mask(text, run)
    letters = [letter for letter in text if letter != ","]
    if letters and all(letter.isalpha() for letter in letters):
        return letters
    return _mask(text, run)


def _mask(text: str, run: Run) -> np.ndarray:
    """The examples to delete, (n,) truth values: of two examples, positions 0 and 1 might be read as a mask."""
    positions = _positions(text, run)
    if positions.max() >= run.num_examples:
        raise IndexError(
            f"--delete names example {positions.max()}, but there are {run.num_examples} examples, 0 to "
            f"{run.num_examples - 1}."
        )
    return np.isin(np.arange(run.num_examples), positions)


def _positions(text: str, run: Run) -> np.ndarray:
    if re.fullmatch(r"[\d,\-]+", text):
        if not re.fullmatch(r"\d+(-\d+)?(,\d+(-\d+)?)*", text):
            raise ValueError(f"--delete takes positions such as 3,8,20-29, counted from 0, got {text!r}.")
        ranges = [[int(end) for end in part.split("-")] for part in text.split(",")]
        if any(ends[0] > ends[-1] for ends in ranges):
            raise ValueError(f"a range of positions goes upwards, as in 20-29, got {text!r}.")
        return np.unique(np.concatenate([np.arange(ends[0], ends[-1] + 1) for ends in ranges]))
    if run.experiment is None:
        raise ValueError(f"--delete takes positions such as 3,8,20-29 for your own program, got {text!r}.")
    found = run.experiment.containing(text)
    if not len(found):
        raise ValueError(f"none of the {run.num_examples} training names contains {text!r}.")
    return found
