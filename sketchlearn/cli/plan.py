"""The command ``sketchlearn plan``: what a sketch of microgpt would cost and say."""

from __future__ import annotations

import argparse
from typing import Any

import matplotlib

from sketchlearn.cli.arguments import add_microgpt, add_out
from sketchlearn.cli.output import save, say
from sketchlearn.deletions.examples import Examples
from sketchlearn.experiments import microgpt
from sketchlearn.planning.plan import plan


def add(commands: Any) -> argparse.ArgumentParser:
    """The command's parser."""
    planner = commands.add_parser("plan", help="what a sketch of microgpt would cost and say, from a short pilot")
    planner.add_argument("--directions", type=int, default=500, help="the most to consider (default 500)")
    planner.add_argument("--degree", type=int, default=3, help="the highest to consider (default 3)")
    planner.add_argument(
        "--delete", metavar="LETTERS", help="the names with these letters (default: random twentieths)"
    )
    planner.add_argument("--pilot", type=int, default=8, help="directions to try (default 8)")
    planner.add_argument("--seconds", type=float, help="recommend the least error within this time")
    planner.add_argument("--tolerance", type=float, help="recommend the cheapest sketch that reaches this error (nats)")
    add_microgpt(planner)
    add_out(planner)
    planner.set_defaults(run=run)
    return planner


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Run it; returns the report."""
    matplotlib.use("Agg")
    experiment = microgpt.paper_experiment(args.names, num_examples=args.examples)
    deleted = None
    if args.delete is not None:
        deleted = experiment.containing(args.delete)
        if not len(deleted):
            raise ValueError(f"none of the {args.examples} training names contains {args.delete!r}.")
    planned = plan(
        experiment.train, Examples(args.examples), experiment.query(args.query), deleted, args.degree,
        args.directions, args.pilot, args.seed, args.seconds, args.tolerance, progress=not args.quiet,
    )  # fmt: skip
    say(args, str(planned))
    report = {
        "rows": [row._asdict() for row in planned.rows],
        "recommended": None if planned.recommended is None else planned.recommended._asdict(),
        "rule": planned.rule,
        "advice": planned.advice,
        "warnings": planned.warnings,
        "change": planned.change,
        "training_seconds": planned.training_seconds,
        "costs": [cost._asdict() for cost in planned.costs],
    }
    save(args, "plan", planned.plot().figure, report)
    return report
