"""The command line: ``sketchlearn demo | figure 1|2|3 | sketch | predict | plan | compare | doctor``."""

from __future__ import annotations

import argparse
import dataclasses
import json
import platform
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import matplotlib
import numpy as np

from . import cli_stores, comparison, evaluation, figures, microgpt
from .cli_stores import announce
from .errors import StoreError, UnsupportedPrimitive
from .paths import directory
from .planning import plan
from .precision import jit, matmul_precision
from .querying import ESTIMATORS
from .seeds import stream
from .sketching import sketch
from .spaces import Examples
from .stability import SERIES_LIMIT
from .taylor import cauchy_coefficients, taylor_coefficients

VERSION = version("sketchlearn")
BY_DEFAULT, IN_SKETCHES = "float32_product_errs_by_jax_default", "float32_product_errs_in_sketches"
FLOAT32_PRODUCTS = 1e-5  # relative: forty times what float32 leaves, a fiftieth of what TF32 does
TEST_NAMES = ["max", "alexa", "maya", "oliver"]


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    parser = _parser()
    args = parser.parse_args(arguments)
    if args.command is None:
        parser.print_help()
        return 2
    try:
        if hasattr(args, "out"):
            args.out = directory("--out", args.out)  # before the computation, not after it
        report = args.run(args)
    except (ValueError, TypeError, OSError, LookupError, FloatingPointError, StoreError, UnsupportedPrimitive) as error:
        # a KeyError prints its message in quotes
        print(f"sketchlearn: {error.args[0] if isinstance(error, KeyError) else error}", file=sys.stderr)
        return 1
    if args.json:
        print(json.dumps(report, indent=1, default=_plain))
    return 0 if report.get("ok", True) else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="sketchlearn", description="Sketch a training run; predict any deletion.")
    parser.add_argument("--version", action="version", version=f"sketchlearn {VERSION}")
    commands = parser.add_subparsers(dest="command")

    demo = commands.add_parser("demo", help="microgpt: sketch, predict, retrain, compare (about a minute)")
    demo.add_argument("--names", help="a file of names, one a line (default: the bundled list)")
    demo.add_argument("--examples", type=int, default=300, help="training names and steps (default 300)")
    demo.add_argument("--directions", type=int, default=256, help="default 256")
    demo.add_argument("--degree", type=int, default=2, help="default 2")
    demo.add_argument("--seed", type=int, default=0)
    demo.set_defaults(run=_demo)

    figure = commands.add_parser("figure", help="the paper's figures at full size")
    figure.add_argument("number", type=int, choices=[1, 2, 3])
    figure.add_argument("--directions", type=int, help="default 12 (figure 1), 500 (figure 3)")
    figure.add_argument("--degree", type=int, help="default 100, 6, 3")
    figure.add_argument(
        "--estimator",
        nargs="+",
        default=["mean", "auto"],
        choices=ESTIMATORS,
        help="figure 3, one or several in one picture (default: mean, the paper's, and auto, ours)",
    )
    figure.set_defaults(run=_figure)

    planner = commands.add_parser("plan", help="what a sketch of microgpt would cost and say, from a short pilot")
    planner.add_argument("--directions", type=int, default=500, help="the most to consider (default 500)")
    planner.add_argument("--degree", type=int, default=3, help="the highest to consider (default 3)")
    planner.add_argument(
        "--delete", metavar="LETTERS", help="the names with these letters (default: random twentieths)"
    )
    planner.add_argument("--pilot", type=int, default=8, help="directions to try (default 8)")
    planner.add_argument("--seconds", type=float, help="recommend the least error within this time")
    planner.add_argument("--tolerance", type=float, help="recommend the cheapest sketch that reaches this error (nats)")
    planner.set_defaults(run=_plan)

    doctor = commands.add_parser("doctor", help="versions, devices, how exact float32 products are, a self-check")
    doctor.set_defaults(run=_doctor)

    compared = commands.add_parser("compare", help="all methods beside one another: accuracy and cost (15 minutes)")
    compared.add_argument("worlds", nargs="*", metavar="world", help="ridge, digits, microgpt (default: all of them)")
    compared.add_argument("--quick", action="store_true", help="a tiny run, to see that it works")
    compared.add_argument("--bank", type=Path, help="folder that keeps the retrainings, to go on after an interruption")
    compared.add_argument("--seed", type=int, default=0)
    compared.set_defaults(run=_compare)

    stores = cli_stores.add_to(commands)
    for command in (figure, planner):
        command.add_argument("--names", help="a file of names, or 'paper' to download the paper's list")
        command.add_argument("--examples", type=int, default=1000, help="training names and steps (default 1000)")
        command.add_argument("--query", default="max", help="the test name (default max)")
        command.add_argument("--seed", type=int, default=0)

    for command in (demo, figure, planner, compared, doctor, *stores):
        command.add_argument("--json", action="store_true", help="print the numbers as JSON")
        command.add_argument("--quiet", action="store_true", help="no progress bars, no estimates beforehand")
        if command not in (doctor, *stores):
            command.add_argument("--out", type=Path, default=Path("."), help="directory for the files (default: here)")
    return parser


def _default(value: int | None, otherwise: int) -> int:
    return otherwise if value is None else value


def _plain(value: Any) -> Any:
    return value.tolist() if isinstance(value, (np.ndarray, np.generic)) else str(value)


def _say(args: argparse.Namespace, text: str) -> None:
    if not args.json:
        print(text, flush=True)


def _save(args: argparse.Namespace, name: str, figure: Any, report: dict[str, Any]) -> None:
    """The picture and the numbers it shows, side by side."""
    figure.savefig(args.out / f"{name}.png", dpi=150)
    (args.out / f"{name}.json").write_text(json.dumps(report, indent=1, default=_plain) + "\n")
    _say(args, f"wrote {args.out / name}.png and .json")


def _demo(args: argparse.Namespace) -> dict[str, Any]:
    matplotlib.use("Agg")
    from .plotting import draw_predictions

    begun = time.perf_counter()
    experiment = microgpt.paper_experiment(args.names, num_examples=args.examples)
    deleted = experiment.deleted
    if not len(deleted):
        raise ValueError(f"none of the first {args.examples} names has an x; ask for more with --examples.")
    shown = ", ".join(experiment.names[i] for i in deleted[:6])
    _say(args, f"microgpt on {args.examples} names. To be deleted: the {len(deleted)} with an x ({shown}, ..).")
    made = sketch(
        experiment.train, Examples(args.examples), args.degree, args.directions, args.seed, progress=not args.quiet
    )
    query = experiment.query(TEST_NAMES)
    prediction = made.predict(query, deleted)
    truth = figures.retrain_along(experiment, TEST_NAMES, deleted, np.ones(1))[0]
    low, high = prediction.interval()
    _say(args, "\nloss in nats  now     predicted without x  95% interval     retrained")
    for i, name in enumerate(TEST_NAMES):
        _say(
            args,
            f"{name:12s}  {prediction.baseline[i]:.3f}   {prediction.value[i]:.3f}                {low[i]:.3f} .. "
            f"{high[i]:.3f}   {truth[i]:.3f}",
        )
    for text in prediction.warnings:
        _say(args, f"note: {text}")
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
    _save(args, "demo", ax.figure, report)
    _say(args, f"done in {time.perf_counter() - begun:.0f} s")
    return report


def _figure(args: argparse.Namespace) -> dict[str, Any]:
    matplotlib.use("Agg")
    from .plotting import draw_curve, draw_estimators, draw_stability

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
                "settings": {"degree": degree, "num_directions": m, "key": args.seed, "query": args.query},
            }
            ax = draw_stability(profile)
            largest = report["relative_errors"].max()
            _say(args, f"trusted radius {profile.radius:.3g}; largest relative error of a norm {largest:.1e}")
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
                    _say(args, f"estimator {curve.settings['estimator']}:")
                _say(args, f"terms at s = 1: {np.array2string(curve.terms, precision=4)}")
                _say(args, f"predicted {curve.predictions[-1, -1]:.4f}, retrained {curve.retrained[-1]:.4f} nats")
    report["seconds"] = round(time.perf_counter() - begun, 1)
    _save(args, f"figure{args.number}", ax.figure, report)
    _say(args, f"done in {report['seconds']:.0f} s")
    return report


def _plan(args: argparse.Namespace) -> dict[str, Any]:
    matplotlib.use("Agg")
    experiment = microgpt.paper_experiment(args.names, num_examples=args.examples)
    deleted = None
    if args.delete is not None:
        deleted = experiment.containing(args.delete)
        if not len(deleted):
            raise ValueError(f"none of the {args.examples} training names contains {args.delete!r}.")
    found = plan(
        experiment.train, Examples(args.examples), experiment.query(args.query), deleted, args.degree,
        args.directions, args.pilot, args.seed, args.seconds, args.tolerance, progress=not args.quiet,
    )  # fmt: skip
    _say(args, str(found))
    report = {
        "rows": [row._asdict() for row in found.rows],
        "recommended": None if found.recommended is None else found.recommended._asdict(),
        "rule": found.rule,
        "advice": found.advice,
        "warnings": found.warnings,
        "change": found.change,
        "training_seconds": found.training_seconds,
        "costs": [cost._asdict() for cost in found.costs],
    }
    _save(args, "plan", found.plot().figure, report)
    return report


def _compare(args: argparse.Namespace) -> dict[str, Any]:
    matplotlib.use("Agg")
    from .plotting import draw_comparison

    begun = time.perf_counter()
    unknown = set(args.worlds) - set(comparison.SETTINGS)
    if unknown:
        raise ValueError(f"worlds are {', '.join(comparison.SETTINGS)}, got {sorted(unknown)[0]!r}.")
    reports: dict[str, Any] = {}
    for world in args.worlds or comparison.SETTINGS:
        # on ridge exact methods agree to ten digits, which only float64 can show
        with jax.enable_x64(world == "ridge"):
            reports[world] = comparison.compare(world, args.quick, args.bank, args.seed, progress=not args.quiet)
        found = evaluation.Evaluation(
            [{k: float("nan") if v is None else v for k, v in row.items()} for row in reports[world]["rows"]],
            [], reports[world]["plain_seconds"], {},
        )  # fmt: skip
        _say(args, f"\n{world} (RMSE in the unit of the query, prices in plain trainings)\n\n{found.table()}")
        for name, where in reports[world]["crossover"].items():
            from_, errs = where["cheaper_from_queries"], ", ".join(where["errs_less_on"])
            more = "never costs less" if from_ is None else f"costs less from {from_:.0f} queries on"
            _say(args, f"\n{name} against the metagradient: {more}, and errs less on: {errs or 'nothing'}")
        for name, ratios in reports[world]["over_sums"].items():
            each = ", ".join(f"{ratio:.2f} ({label})" for label, ratio in ratios.items() if ratio is not None)
            _say(args, f"\n{name}: RMSE over that of retraining without each group and adding up: {each or 'none'}")
    report = {"worlds": reports, "quick": args.quick, "seconds": round(time.perf_counter() - begun, 1)}
    _save(args, "compare", draw_comparison(reports), report)
    return report


def _doctor(args: argparse.Namespace) -> dict[str, Any]:
    import flax
    import optax

    def curve(x: Any) -> Any:
        return jnp.tanh(jnp.sin(x)) / (1 + x * x)

    with jax.enable_x64(True):
        series = taylor_coefficients(curve, 0.3, 1.0, degree=8)
        circle = cauchy_coefficients(curve, 0.3, 1.0, degree=8).coefficients
        gap = float(jnp.max(jnp.abs(series - circle)))
    linear = sketch(lambda w: w @ jnp.arange(4.0), Examples(4), degree=1, num_directions=64, progress=False)
    found = linear.predict(lambda y: y, [3], estimator="mean")
    off = abs(float(found.change) + 3) / float(found.standard_error)
    rows = np.zeros((40_000, 3), np.float32)
    rows[:, 0] = np.arange(len(rows))
    products = _product_errors()
    squares = jit(jax.vmap(lambda row: jnp.sum((jnp.eye(3) @ row) ** 2)))(rows)
    compiled_right = bool(np.allclose(squares, (rows**2).sum(1), rtol=1e-5))
    report = {
        "versions": {
            "sketchlearn": VERSION,
            "python": platform.python_version(),
            "jax": jax.__version__,
            "flax": flax.__version__,
            "optax": optax.__version__,
            "numpy": np.__version__,
        },
        "devices": [f"{d.platform}: {d.device_kind}" for d in jax.devices()],
        "default_float": str(jnp.result_type(float)),
        "series_against_circles": gap,
        "sketch_of_a_linear_function_off_by_standard_errors": off,
        "compiler_fuses_products_and_sums_right": compiled_right,
        **products,
        "ok": gap < 1e-11 and off < 5 and compiled_right,
    }
    for name, value in report.items():
        _say(args, f"{name:52s} {value:.1e}" if name in products else f"{name:52s} {value}")
    if products[IN_SKETCHES] > FLOAT32_PRODUCTS:
        report["warning"] = (
            f"a float32 product of matrices errs by {products[IN_SKETCHES]:.0e} here, where full precision errs by "
            f"about 2e-7 (JAX's precision of products is {matmul_precision()}): every coefficient of a sketch is as "
            "inexact. Leave jax_default_matmul_precision unset (in the environment: JAX_DEFAULT_MATMUL_PRECISION), or "
            "use float64."
        )
        _say(args, f"warning: {report['warning']}")
    return report


def _product_errors() -> dict[str, float]:
    """The relative error of a float32 product of matrices on this device, as JAX computes it and as sketches do."""
    a, b = stream("precision check", 0).normal(size=(2, 256, 256)).astype(np.float32)
    exact = a.astype(np.float64) @ b.astype(np.float64)

    def error(found: Any) -> float:
        return float(np.linalg.norm(np.asarray(found, np.float64) - exact) / np.linalg.norm(exact))

    with jax.default_matmul_precision(None):
        plain = error(jax.jit(jnp.matmul)(a, b))
    return {BY_DEFAULT: plain, IN_SKETCHES: error(jit(jnp.matmul)(a, b))}


if __name__ == "__main__":
    raise SystemExit(main())
