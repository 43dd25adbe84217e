"""The command ``sketchlearn compare``: all methods beside one another."""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import jax
import matplotlib

from sketchlearn.cli.arguments import add_out
from sketchlearn.cli.output import save, say
from sketchlearn.evaluation.result import COSTS, Evaluation
from sketchlearn.experiments import comparison


def add(commands: Any) -> argparse.ArgumentParser:
    """The command's parser."""
    compare = commands.add_parser("compare", help="all methods beside one another: accuracy and cost (15 minutes)")
    compare.add_argument("worlds", nargs="*", metavar="world", help="ridge, digits, microgpt (default: all of them)")
    compare.add_argument("--quick", action="store_true", help="a tiny run, to see that it works")
    compare.add_argument("--bank", type=Path, help="folder that keeps the retrainings, to go on after an interruption")
    compare.add_argument("--seed", type=int, default=0)
    add_out(compare)
    compare.set_defaults(run=run)
    return compare


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Run it; returns the report."""
    matplotlib.use("Agg")
    from sketchlearn.plotting import draw_comparison

    begun = time.perf_counter()
    unknown = set(args.worlds) - set(comparison.SETTINGS)
    if unknown:
        raise ValueError(f"worlds are {', '.join(comparison.SETTINGS)}, got {sorted(unknown)[0]!r}.")
    reports: dict[str, Any] = {}
    for world in args.worlds or comparison.SETTINGS:
        # on ridge exact methods agree to ten digits, which only float64 can show
        with jax.enable_x64(world == "ridge"):
            reports[world] = comparison.compare(world, args.quick, args.bank, args.seed, progress=not args.quiet)
        evaluation = Evaluation.from_dict(reports[world])
        say(args, f"\n{world} (RMSE in the unit of the query, prices in plain trainings)\n\n{evaluation.table()}")
        for name, where in reports[world]["crossover"].items():
            from_, errs = where["cheaper_from_queries"], ", ".join(where["errs_less_on"])
            more = "never costs less" if from_ is None else f"costs less from {from_:.0f} queries on"
            say(args, f"\n{name} against the metagradient: {more}, and errs less on: {errs or 'nothing'}")
        for name, ratios in reports[world]["over_sums"].items():
            each = ", ".join(f"{ratio:.2f} ({label})" for label, ratio in ratios.items() if ratio is not None)
            say(args, f"\n{name}: RMSE over that of retraining without each group and adding up: {each or 'none'}")
        approximate = sorted({row["method"] for row in evaluation.rows} - {"retraining"})
        say(args, "\nBeside retraining, no method is both better and cheaper than these (from the cheapest on):")
        for label in dict.fromkeys(row["deletions"] for row in evaluation.rows):
            for cost in COSTS:
                say(args, f"  {label}, by {cost}: {', '.join(evaluation.front(label, cost, approximate))}")
    report = {"worlds": reports, "quick": args.quick, "seconds": round(time.perf_counter() - begun, 1)}
    save(args, "compare", draw_comparison(reports), report)
    return report
