"""All methods beside one another on three worlds: ridge regression, an MLP on digits, microgpt."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from sklearn.datasets import load_digits

from sketchlearn.deletions.base import Space
from sketchlearn.deletions.examples import Examples
from sketchlearn.deletions.groups import Groups
from sketchlearn.evaluation import baselines
from sketchlearn.evaluation.deletion_sets import random_deletions
from sketchlearn.evaluation.evaluate import evaluate
from sketchlearn.evaluation.result import Evaluation
from sketchlearn.experiments import microgpt, worlds
from sketchlearn.runtime.paths import as_path
from sketchlearn.runtime.programs import jit
from sketchlearn.runtime.seeds import stream
from sketchlearn.sketching.make import sketch
from sketchlearn.training.checkpointing import checkpointed_scan, recorded_scan
from sketchlearn.training.objective import Checkpoint, Problem
from sketchlearn.truth.bank import RetrainBank
from sketchlearn.truth.seed_noise import seed_noise

TEST_NAMES = (
    "max", "alexa", "maya", "oliver", "emma", "noah", "felix", "zoe", "quinn", "james",
    "sophia", "liam", "ivy", "jaxon", "kylie", "brandon", "hazel", "victor", "ursula", "wyatt",
)  # fmt: skip
SKETCHES = ("sketch", "sketch of groups", "additive sketch of groups")
FRACTIONS = (0.001, 0.01, 0.05, 0.1, 0.25, 0.5)
#: What each world is run with, in full and ``quick``.
SETTINGS: dict[str, dict[bool, dict[str, Any]]] = {
    "ridge": {
        False: {"examples": 200, "features": 10, "directions": 400, "degree": 3, "count": 100, "subsets": 600},
        True: {"examples": 40, "features": 4, "directions": 80, "degree": 3, "count": 8, "subsets": 100},
    },
    "digits": {
        False: {"examples": 500, "steps": 200, "batch": 50, "width": 16, "directions": 500, "degree": 3, "count": 100,
                "subsets": 500},
        True: {"examples": 60, "steps": 20, "batch": 20, "width": 4, "directions": 60, "degree": 2, "count": 5,
               "subsets": 60},
    },
    "microgpt": {
        False: {"examples": 1000, "directions": 500, "degree": 3, "count": 100, "subsets": 500, "queries": 20},
        True: {"examples": 40, "directions": 40, "degree": 2, "count": 5, "subsets": 40, "queries": 2},
    },
}  # fmt: skip


def compare(
    world: str,
    quick: bool = False,
    bank: Path | None = None,
    seed: int = 0,
    only: Sequence[str] | None = None,
    progress: bool = True,
) -> dict[str, Any]:
    """Every method on one world: the evaluation, the settings that made it, and where the sketch wins.

    Args:
        world: ``"ridge"``, ``"digits"`` or ``"microgpt"``.
        quick: a tiny run, to see that it works; its figures say nothing about real sizes.
        bank: folder of retrainings, so that an interrupted run goes on; in memory if not given.
        seed: seed of deletions, directions and subsets.
        only: names of the methods to run; all of them if not given.
        progress: show progress bars.

    Returns:
        A dict of plain numbers for JSON: ``settings``, ``rows``, ``per_query``, ``plain_seconds``, ``seed_noise``,
        ``crossover`` (each sketch and the metagradient), ``over_sums`` (the RMSE of each sketch over that of the sums
        over groups), ``warnings``.

    Example:
        >>> from sketchlearn.experiments.comparison import SETTINGS
        >>> sorted(SETTINGS)
        ['digits', 'microgpt', 'ridge']
    """
    if world not in SETTINGS:
        raise ValueError(f"world must be one of {sorted(SETTINGS)}, got {world!r}.")
    settings = {**SETTINGS[world][bool(quick)], "world": world, "seed": seed, "dtype": str(jnp.result_type(float))}
    folder = None if bank is None else as_path("bank", bank) / f"{world}-{settings['dtype']}{'-quick' if quick else ''}"
    asked = ("directions", "degree", "count", "subsets", "queries")  # these do not change the training program
    training = {k: v for k, v in settings.items() if k not in asked}
    n, s = settings["examples"], settings
    program = World(*WORLDS[world](settings))
    space = Examples(n)
    truth = RetrainBank(folder, program.train, training, space, progress=progress)
    deletions: dict[str, Any] = {}
    for fraction in FRACTIONS:
        if round(fraction * n) >= 1:  # one example at least
            deletions[f"random {fraction:.1%}"] = random_deletions(n, fraction, s["count"], seed)
    deletions.update(_structured(program.groups, s["count"], seed))
    structured = [label for label in deletions if label.startswith("structured")]

    methods = _methods(settings, program, truth, seed, progress)
    if only is not None:
        unknown = sorted(set(only) - set(methods))
        if unknown:
            raise ValueError(f"there is no method {unknown[0]!r} on {world}; the methods are {sorted(methods)}.")
        methods = {name: methods[name] for name in only}
    can: dict[str, list[str]] = {name: structured for name in methods if "groups" in name}
    evaluation = evaluate(methods, truth, program.query, deletions, program.names, can, seed=seed, progress=progress)
    noise = None
    if program.reseeded is not None:
        changes = seed_noise(program.reseeded, [1, 2, 3, 4], program.query, deletions["random 10.0%"][:4], n)
        noise = float(changes.std(0, ddof=1).mean())
    return {
        "settings": settings,
        **evaluation.to_dict(),
        "seed_noise": {"random 10.0%": noise},
        "crossover": {
            name: crossover(evaluation, name, "metagradient")
            for name in SKETCHES
            if name in methods and "metagradient" in methods
        },
        "over_sums": {
            name: rmse_ratios(evaluation, name, "sums over groups")
            for name in SKETCHES
            if name in methods and "sums over groups" in methods
        },
    }


class World(NamedTuple):
    """A training program with what the methods need to know of it."""

    train: Callable
    query: Callable
    names: Sequence[str]  # of the query's outputs
    groups: Groups
    problem: Problem
    reverse: Callable  # the program for reverse mode
    convex: bool  # whether training ends at the minimum of the objective
    reseeded: Callable | None  # seed -> the program of another seed


def _methods(
    s: dict[str, Any], program: World, truth: RetrainBank, seed: int, progress: bool
) -> dict[str, Callable | RetrainBank]:
    """Every method by name, as a function that makes it."""
    train, problem, groups = program.train, program.problem, program.groups
    n, space = s["examples"], truth.space
    made = functools.partial(
        sketch, train, degree=s["degree"], num_directions=s["directions"], seed=seed, progress=progress
    )
    dims = min(256, n // 2, problem.flat.size)
    methods: dict[str, Callable | RetrainBank] = {
        "retraining": truth,
        "sketch": lambda: made(space=space),
        "sketch of groups": lambda: made(space=groups),
        "additive sketch of groups": lambda: made(space=groups, additive=True),
        "metagradient": lambda: baselines.Metagradient(program.reverse, space),
        "curvature": lambda: baselines.LeadingCurvature(program.reverse, space),
        "curvature and leave-one-out sums": lambda: baselines.LeadingCurvature(
            program.reverse, space, sums=baselines.CoordinateSums(_fresh(truth))
        ),
        "forward first order": lambda: baselines.ForwardFirstOrder(train, space),
        "leave-one-out sums": lambda: baselines.CoordinateSums(_fresh(truth)),
        "sums over groups": lambda: baselines.CoordinateSums(_fresh(truth, groups)),
        "sums over groups and pairs": lambda: baselines.CoordinateSums(_fresh(truth, groups), order=2),
        "datamodels": lambda: baselines.DatamodelRegression(_fresh(truth), s["subsets"], 0.1, seed=seed),
        "TracIn": lambda: baselines.TracIn(problem, space),
        "projected gradients": lambda: baselines.ProjectedGradients(problem, space, dims, 1e-3 * n, seed),
        "influence (Gauss-Newton)": lambda: baselines.Influence(problem, space, "gauss_newton", 1e-3 * n, 1e-3, 50),
    }
    if not problem.checkpoints:
        del methods["TracIn"]
    if program.convex:
        methods |= {
            "influence (exact)": lambda: baselines.Influence(problem, space),
            "influence (CG)": lambda: baselines.Influence(problem, space, "cg"),
            "group influence": lambda: baselines.GroupInfluence(problem, space),
            "Newton step": lambda: baselines.NewtonStep(problem, space),
            "infinitesimal jackknife, order 3": lambda: baselines.InfinitesimalJackknife(problem, space, 3),
        }
    return methods


def stored() -> dict[str, Any]:
    """The full run of all worlds that comes with the package: ``{world: report}``, as :func:`compare` returns them.

    Made by ``sketchlearn compare`` and ``tools/store_comparison.py``, without the table of single queries. Prices are
    in plain trainings, measured beside them, on two cores.
    """
    text = (Path(__file__).parent / "data" / "comparison.json").read_text(encoding="utf-8")
    return json.loads(text)


def crossover(evaluation: Evaluation, a: str, b: str) -> dict[str, Any]:
    """From how many queries on method a costs less than b, and on which deletions it errs less.

    ``queries = (precomputation_a - precomputation_b) / (per_query_b - per_query_a)``; None if never.
    """
    one, other = (next(r for r in evaluation.rows if r["method"] == m) for m in (a, b))
    gain = other["per_query"] - one["per_query"]
    queries = (one["precomputation"] - other["precomputation"]) / gain if gain > 0 else None
    ratios = rmse_ratios(evaluation, a, b)
    return {
        "cheaper_from_queries": queries,
        "rmse_ratio": ratios,
        "errs_less_on": [d for d, ratio in ratios.items() if ratio is not None and ratio < 0.99],  # else it is rounding
    }


def rmse_ratios(evaluation: Evaluation, a: str, b: str) -> dict[str, float | None]:
    """The RMSE of method a over that of b, by set of deletions that both were asked for; None over an exact b."""
    rows = {(r["method"], r["deletions"]): r["rmse"] for r in evaluation.rows}
    both = [(d, rows[a, d], rows[b, d]) for m, d in rows if m == a and (b, d) in rows]
    return {d: x / y if y else None for d, x, y in both}


def _fresh(bank: RetrainBank, space: Space | None = None) -> RetrainBank:
    """An empty bank of the same training, so that what a method trains is paid by it."""
    return RetrainBank(None, bank.train, {}, space or bank.space, bank.batch_size, bank.dtype)


def _structured(groups: Groups, count: int, seed: int) -> dict[str, Any]:
    """Unions of whole groups, in three ranges of size: random ones that fall into the range."""
    size = np.bincount(groups.membership) / groups.num_examples
    out: dict[str, Any] = {}
    for which, (low, high) in enumerate(((0.0, 0.05), (0.05, 0.3), (0.3, 0.5))):
        rng = stream("structured test deletions", seed, which)
        chosen: dict[bytes, Any] = {}
        for _ in range(40_000):
            z = np.isin(np.arange(groups.dim), rng.choice(groups.dim, rng.integers(1, groups.dim), replace=False))
            if low < size @ z <= high:
                chosen.setdefault(z.tobytes(), z[groups.membership])
            if len(chosen) == count:
                break
        if len(chosen) > 2:
            out[f"structured {low:.0%}-{high:.0%}"] = np.stack(list(chosen.values()))
    return out


def _ridge(s: dict[str, Any]) -> tuple:
    """Ridge regression on clusters of inputs; the query is the squared error at new points."""
    rng, n, p = stream("world data", s["seed"]), s["examples"], s["features"]
    labels = np.sort(rng.integers(0, 10, n))
    x = rng.normal(size=(n, p)) + rng.normal(size=(10, p))[labels]
    y = x @ rng.normal(size=p) + rng.normal(size=10)[labels] + 0.3 * rng.normal(size=n)
    world = worlds.Ridge(jnp.asarray(x, float), jnp.asarray(y, float), penalty=1.0)
    test = jnp.asarray(rng.normal(size=(8, p)), float)

    def query(theta: Any) -> Any:
        return (test @ theta - 1.0) ** 2 / 2

    names = [f"point {i}" for i in range(8)]
    return world.train, query, names, Groups(labels), world.problem(), world.train, True, None


def _digits(s: dict[str, Any]) -> tuple:
    """A tanh network on scikit-learn's digits, mini-batches of plain gradient descent; groups are the digits."""
    data, labels = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(labels))
    x, y = jnp.asarray(data[order] / 16 - 0.3, float), jnp.asarray(labels[order])
    n, steps, batch, width, rate = s["examples"], s["steps"], s["batch"], s["width"], 0.5
    rows = np.concatenate([np.random.default_rng(e).permutation(n) for e in range(steps * batch // n + 1)])
    batches = jnp.asarray(rows[: steps * batch].reshape(steps, batch))

    def outputs(p: Any, i: Any) -> Any:
        return jnp.tanh(x[i] @ p["in"] + p["shift"]) @ p["out"] + p["bias"]

    def output_loss(z: Any, i: Any) -> Any:
        return -jnp.sum(jax.nn.log_softmax(z) * jax.nn.one_hot(y[i], 10, dtype=z.dtype))

    def loss(p: Any, i: Any) -> Any:
        return output_loss(outputs(p, i), i)

    def initial(seed: int) -> Any:
        rng = np.random.default_rng(seed)
        return {
            "in": jnp.asarray(rng.normal(size=(64, width)) / 8, float), "shift": jnp.zeros(width),
            "out": jnp.asarray(rng.normal(size=(width, 10)) / width**0.5, float), "bias": jnp.zeros(10),
        }  # fmt: skip

    def run(weights: Any, scan: Callable, seed: int = 0) -> Any:
        def step(p: Any, chosen: Any) -> tuple[Any, None]:
            def batch_loss(p: Any) -> Any:
                return weights[chosen] @ jax.vmap(lambda i: loss(p, i))(chosen) / batch

            return jax.tree.map(lambda a, g: a - rate * g, p, jax.grad(batch_loss)(p)), None

        return scan(step, initial(seed), batches)

    def train(weights: Any) -> Any:
        return run(weights, jax.lax.scan)[0]

    tested = jnp.arange(n, n + 10)

    def query(p: Any) -> Any:
        return jax.vmap(lambda i: loss(p, i))(tested)

    segments = 10
    ones = jnp.ones(n)
    final, starts = jit(lambda w: run(w, functools.partial(recorded_scan, segments=segments)))(ones)
    visits = np.stack([np.bincount(part.ravel(), minlength=n) for part in np.asarray(batches).reshape(segments, -1)])
    points = tuple(
        Checkpoint(jax.tree.map(lambda a, c=c: a[c], starts), rate / batch, visits[c]) for c in range(segments)
    )
    problem = Problem(loss, n, final, outputs=outputs, output_loss=output_loss, checkpoints=points)
    return (
        train, query, [f"digit {int(y[i])} ({int(i)})" for i in tested], Groups(np.asarray(y[:n])), problem,
        lambda w: run(w, checkpointed_scan)[0], False, lambda seed: lambda w: run(w, jax.lax.scan, seed)[0],
    )  # fmt: skip


def _microgpt(s: dict[str, Any]) -> tuple:
    """The paper's experiment; groups are first letters."""
    experiment = microgpt.paper_experiment(num_examples=s["examples"])
    n, segments, ones = s["examples"], 10, jnp.ones(s["examples"])
    final = jit(experiment.train)(ones)
    starts, factors = jit(lambda w: experiment.trajectory(w, segments))(ones)
    points = []
    for c in range(segments):
        steps = np.arange(n // segments * c, n // segments * (c + 1))
        rate = experiment.learning_rate * (1 - steps.mean() / n)
        # Adam divides by a root that it has only from the second step on: the first segment takes the next one's
        known = max(c, 1)
        sizes = jax.tree.map(lambda f, c=known, r=rate: r * f[c], factors)
        visits = np.isin(np.arange(n), steps).astype(int)
        points.append(Checkpoint(jax.tree.map(lambda a, c=c: a[c], starts), sizes, visits))
    problem = Problem(
        experiment.example_loss, n, final, outputs=experiment.example_logits, output_loss=experiment.output_loss,
        checkpoints=tuple(points),
    )  # fmt: skip
    names = list(TEST_NAMES[: s["queries"]])
    groups = Groups([name[0] for name in experiment.names])
    return (
        experiment.train, experiment.query(names), names, groups, problem, experiment.train_checkpointed, False,
        lambda seed: microgpt.reseeded(experiment, seed).train,
    )  # fmt: skip


#: What makes each world from its settings: the training program, the query, its names, the groups, and what baselines
#: need (problem, the program in reverse mode, whether it is convex, the program of another seed).
WORLDS: dict[str, Callable[[dict[str, Any]], tuple]] = {"ridge": _ridge, "digits": _digits, "microgpt": _microgpt}
