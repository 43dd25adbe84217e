"""The command ``sketchlearn predict``: ask a store what a deletion would do."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np

from sketchlearn.cli.arguments import add_program
from sketchlearn.cli.programs import asked, function_named, program_of
from sketchlearn.deletions.base import from_description
from sketchlearn.prediction.base import estimators
from sketchlearn.sketching.open import open_sketch
from sketchlearn.sketching.store.format import Store


def add(commands: Any) -> argparse.ArgumentParser:
    """The command's parser."""
    asking = commands.add_parser("predict", help="ask a store what a deletion would do")
    asking.add_argument("store", type=Path, help="a directory filled by sketchlearn sketch")
    asking.add_argument("--query", nargs="+", default=["max"], help="test names, or MODULE:FUNCTION of the parameters")
    asking.add_argument(
        "--delete",
        required=True,
        metavar="WHAT",
        help="microgpt: names with these letters (of groups: groups by letter); or positions, 3,8,20-29",
    )
    asking.add_argument("--estimator", default="auto", choices=estimators())
    asking.set_defaults(run=run)
    add_program(asking)
    return asking


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Run it; returns the report."""
    program = program_of(args)
    stored = from_description(Store(args.store).arguments["space"]).num_examples
    if stored != program.num_examples:
        raise ValueError(f"the store is of {stored} examples, not {program.num_examples}: give --examples as then.")
    made = open_sketch(args.store, program.train)
    if any(":" in name for name in args.query):
        if len(args.query) > 1:
            raise ValueError("one MODULE:FUNCTION at a time: let it return an array for several outputs.")
        query = function_named(args.query[0])
    elif program.experiment is None:
        raise ValueError("the queries of your own program are functions: --query MODULE:FUNCTION.")
    else:
        query = program.experiment.query(args.query)
    delete = asked(args.delete, program, made.space)
    prediction = made.predict(query, delete, args.estimator)
    deleted = np.flatnonzero(made.space.embed(made.space.locate(delete)))
    low, high = prediction.interval()
    if not args.json:
        print(f"{len(deleted)} of {program.num_examples} examples deleted; 95% intervals")
        labels = (
            args.query
            if np.ndim(prediction.value) and program.experiment
            else [f"{i}" for i in range(np.size(prediction.value))]
        )
        for name, before, value, a, b in zip(
            labels, *(np.ravel(v) for v in (prediction.baseline, prediction.value, low, high)), strict=True
        ):
            print(f"{name:12s} now {before:8.4f}   predicted {value:8.4f}   {a:8.4f} .. {b:.4f}")
        for text in prediction.warnings:
            print(f"note: {text}")
    return {
        "deleted": deleted, "baseline": prediction.baseline, "value": prediction.value,
        "interval": [_known(low), _known(high)], "terms": prediction.terms,
        "standard_errors": _known(prediction.standard_errors), "orders_used": prediction.orders_used,
        "shrunk_change": prediction.shrunk_change, "warnings": prediction.warnings,
    }  # fmt: skip


def _known(x: np.ndarray) -> np.ndarray:
    """For JSON, which has no NaN: None where a number is unknown."""
    known = np.asarray(x).astype(object)
    known[~np.isfinite(x)] = None
    return known
