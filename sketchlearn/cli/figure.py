"""The command ``sketchlearn figure``: the paper's figures at full size."""

from __future__ import annotations

import argparse
import dataclasses
import time
from typing import Any

import jax
import matplotlib
import numpy as np

from sketchlearn.cli.arguments import add_microgpt, add_out
from sketchlearn.cli.output import announce, save, say
from sketchlearn.deletions.examples import Examples
from sketchlearn.experiments import figures, microgpt
from sketchlearn.planning.stability import SERIES_LIMIT
from sketchlearn.prediction.base import estimators


def _default(value: int | None, otherwise: int) -> int:
    return otherwise if value is None else value


def add(commands: Any) -> argparse.ArgumentParser:
    """The command's parser."""
    figure = commands.add_parser("figure", help="the paper's figures at full size")
    figure.add_argument("number", type=int, choices=[1, 2, 3])
    figure.add_argument("--directions", type=int, help="default 12 (figure 1), 500 (figure 3)")
    figure.add_argument("--degree", type=int, help="default 100, 6, 3")
    figure.add_argument(
        "--estimator",
        nargs="+",
        default=["mean", "auto"],
        choices=estimators(),
        help="figure 3, one or several in one picture (default: mean, the paper's, and auto, ours)",
    )
    add_microgpt(figure)
    add_out(figure)
    figure.set_defaults(run=run)
    return figure


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Run it; returns the report."""
    matplotlib.use("Agg")
    from sketchlearn.plotting import draw_curve, draw_estimators, draw_stability

    begun, show = time.perf_counter(), not args.quiet
    # Figures 1 and 2 are exact statements and run in float64; the noise of figure 3's sampling is far above float32's.
    with jax.enable_x64(args.number != 3):
        experiment = microgpt.paper_experiment(args.names, num_examples=args.examples)
        if args.number == 1:
            degree, m = _default(args.degree, 100), _default(args.directions, 12)
            announce(
                args, experiment.train, Examples(experiment.num_examples), degree, m, circles=degree > SERIES_LIMIT
            )
            profile = figures.stability_figure(experiment, degree, m, args.seed, args.query, show)
            report: dict[str, Any] = {
                "log2_norms": np.log2(np.maximum(profile.norms, 1e-300)),
                "relative_errors": profile.errors / np.maximum(profile.norms, 1e-300),
                "radius": profile.radius if np.isfinite(profile.radius) else None,  # JSON has no NaN or infinity
                "settings": {"degree": degree, "num_directions": m, "seed": args.seed, "query": args.query},
            }
            ax = draw_stability(profile)
            largest = report["relative_errors"].max()
            say(args, f"trusted radius {profile.radius:.3g}; largest relative error of a norm {largest:.1e}")
        else:
            if args.number == 2:
                curves = [figures.taylor_figure(experiment, _default(args.degree, 6), args.query)]
            else:
                degree, m = _default(args.degree, 3), _default(args.directions, 500)
                announce(args, experiment.train, Examples(experiment.num_examples), degree, m)
                curves = figures.sketch_figure(
                    experiment, degree, m, args.seed, args.query, args.estimator, progress=show
                )
            numbers = [{f.name: getattr(curve, f.name) for f in dataclasses.fields(curve)} for curve in curves]
            report = numbers[0] | ({"others": numbers[1:]} if len(numbers) > 1 else {})
            ax = draw_curve(curves[0]) if len(curves) == 1 else draw_estimators(curves)
            for curve in curves:
                if len(curves) > 1:
                    say(args, f"estimator {curve.settings['estimator']}:")
                say(args, f"terms at s = 1: {np.array2string(curve.terms, precision=4)}")
                say(args, f"predicted {curve.predictions[-1, -1]:.4f}, retrained {curve.retrained[-1]:.4f} nats")
    report["seconds"] = round(time.perf_counter() - begun, 1)
    save(args, f"figure{args.number}", ax.figure, report)
    say(args, f"done in {report['seconds']:.0f} s")
    return report
