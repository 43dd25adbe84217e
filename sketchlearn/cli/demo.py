"""The command ``sketchlearn demo``: microgpt, sketched, predicted, retrained, compared."""

from __future__ import annotations

import argparse
import dataclasses
import time
from typing import Any

import matplotlib
import numpy as np

from sketchlearn.cli.arguments import add_out
from sketchlearn.cli.output import save, say
from sketchlearn.deletions.examples import Examples
from sketchlearn.experiments import figures, microgpt
from sketchlearn.sketching.make import sketch

TEST_NAMES = ["max", "alexa", "maya", "oliver"]


def add(commands: Any) -> argparse.ArgumentParser:
    """The command's parser."""
    demo = commands.add_parser("demo", help="microgpt: sketch, predict, retrain, compare (about a minute)")
    demo.add_argument("--names", help="a file of names, one a line (default: the bundled list)")
    demo.add_argument("--examples", type=int, default=300, help="training names and steps (default 300)")
    demo.add_argument("--directions", type=int, default=256, help="default 256")
    demo.add_argument("--degree", type=int, default=2, help="default 2")
    demo.add_argument("--seed", type=int, default=0)
    add_out(demo)
    demo.set_defaults(run=run)
    return demo


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Run it; returns the report."""
    matplotlib.use("Agg")
    from sketchlearn.plotting import draw_predictions

    begun = time.perf_counter()
    experiment = microgpt.paper_experiment(args.names, num_examples=args.examples)
    deleted = experiment.deleted
    if not len(deleted):
        raise ValueError(f"none of the first {args.examples} names has an x; ask for more with --examples.")
    shown = ", ".join(experiment.names[i] for i in deleted[:6])
    say(args, f"microgpt on {args.examples} names. To be deleted: the {len(deleted)} with an x ({shown}, ..).")
    made = sketch(
        experiment.train, Examples(args.examples), args.degree, args.directions, args.seed, progress=not args.quiet
    )
    query = experiment.query(TEST_NAMES)
    prediction = made.predict(query, deleted)
    truth = figures.retrain_along(experiment, TEST_NAMES, deleted, np.ones(1))[0]
    low, high = prediction.interval()
    say(args, "\nloss in nats  now     predicted without x  95% interval     retrained")
    for i, name in enumerate(TEST_NAMES):
        say(
            args,
            f"{name:12s}  {prediction.baseline[i]:.3f}   {prediction.value[i]:.3f}                {low[i]:.3f} .. "
            f"{high[i]:.3f}   {truth[i]:.3f}",
        )
    for text in prediction.warnings:
        say(args, f"note: {text}")
    ax = draw_predictions(TEST_NAMES, prediction, truth)
    report = {
        "names": TEST_NAMES,
        "deleted": [experiment.names[i] for i in deleted],
        "settings": {
            "examples": args.examples,
            "directions": args.directions,
            "degree": args.degree,
            "seed": args.seed,
        },
        **{f.name: getattr(prediction, f.name) for f in dataclasses.fields(prediction)},
        "interval": [low, high],
        "retrained": truth,
        "inside": int(((low <= truth) & (truth <= high)).sum()),
    }
    save(args, "demo", ax.figure, report)
    say(args, f"done in {time.perf_counter() - begun:.0f} s")
    return report
