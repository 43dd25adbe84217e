"""The measured figures: ``python -m benchmarks [--only ROW ..] [--names FILE] [--cache DIR] [--out DIR]``.

Everything is a ratio of two things measured side by side in one run, or a size. Each row is written to
``results.json`` as soon as it is known; ``results.md`` is made from it.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import platform
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.experimental.jet import jet
from scipy.stats import spearmanr

import sketchlearn as sl
from sketchlearn.deletions.directions import directions
from sketchlearn.execution.blocks import SMALLEST_SHARE
from sketchlearn.execution.directional import jets_along
from sketchlearn.experiments.models import name_loss
from sketchlearn.runtime.paths import directory
from sketchlearn.runtime.workers import num_workers, side_by_side
from sketchlearn.taylor.algebra import series
from sketchlearn.taylor.transform import series_coefficients

CACHE: Path | None = None  # where sketches are kept, to go on after a stop


def interleaved(programs: dict, repeats: int = 5) -> dict[str, float]:
    """The smallest time of each compiled program, all measured in turns."""
    times: dict = {name: [] for name in programs}
    for _ in range(repeats):
        for name, run in programs.items():
            start = time.perf_counter()
            jax.block_until_ready(run())
            times[name].append(time.perf_counter() - start)
    return {name: min(t) for name, t in times.items()}


def compiled(f, *args):
    """The program ready to run, and the seconds that compiling took."""
    lowered = jax.jit(f).lower(*args)
    start = time.perf_counter()
    program = lowered.compile()
    return program, time.perf_counter() - start


def bind(program, *args):
    """The program on these arguments, as a function of nothing."""
    return lambda: program(*args)


def agreement(names):
    """Relative differences of coefficients along the x names, loss on max, degree 6, float64."""
    with jax.enable_x64(True):
        experiment = sl.microgpt.paper_experiment(names)
        query, ones = experiment.query("max"), jnp.ones(1000)
        along = -jnp.zeros(1000).at[experiment.deleted].set(1.0)

        def f(w):
            return query(experiment.train(w))

        by_series = np.asarray(jax.jit(lambda w: sl.taylor_coefficients(f, w, along, 6))(ones))
        by_circles = np.asarray(sl.taylor_coefficients(f, ones, along, 6, method="cauchy"))
        short = sl.microgpt.paper_experiment(names, num_examples=20, num_steps=6)
        toward = -jnp.asarray(np.random.default_rng(0).random(20))
        loss = short.query("max")

        def g(w):
            return loss(short.train(w))

        short_series = np.asarray(jax.jit(lambda w: sl.taylor_coefficients(g, w, toward, 4))(jnp.ones(20)))
        nested = np.asarray(jax.jit(lambda w: sl.reference.nested_jvp(g, w, toward, 4))(jnp.ones(20)))
    return {
        "series against circles, degree 6": float(np.abs(by_series / by_circles - 1).max()),
        "series against nested jvp, 6 steps, degree 4": float(np.abs(short_series / nested - 1).max()),
    }


def one_direction(names, block=128, steps=200):
    """Time of a block of series over that of plain trainings in a batch of the same size, float32."""
    experiment = sl.microgpt.paper_experiment(names, num_steps=steps)
    weights = jnp.asarray(1 - np.random.default_rng(0).random((block, 1000)) * 0.05, jnp.float32)
    width = num_workers(block, SMALLEST_SHARE)
    part = block // width
    programs, seconds = {}, {}

    def in_lanes(f, *arrays):
        """The program on a part of the block, run on all parts as the sketch runs them."""
        run, took = compiled(f, *(a[:part] for a in arrays))
        parts = [[a[i : i + part] for a in arrays] for i in range(0, block, part)]
        return lambda: list(side_by_side(run, parts, width)), took

    programs["plain"] = bind(*compiled(jax.vmap(experiment.train), weights)[:1], weights)
    programs["plain in lanes"], _ = in_lanes(jax.vmap(experiment.train), weights)
    for degree in (1, 2, 3):

        def run(re, im, k=degree):
            return jets_along(experiment.train, sl.Examples(1000), jnp.ones(1000), series(k), re, im)

        programs[degree], seconds[degree] = in_lanes(run, *directions(0, jnp.arange(block), 1000))
    best = interleaved(programs)
    out = {f"degree {k}, a block of {block}, over plain": best[k] / best["plain"] for k in (1, 2, 3)}
    out |= {f"degree {k}, over plain run in {width} lanes too": best[k] / best["plain in lanes"] for k in (1, 2, 3)}
    out |= {f"seconds to compile degree {k}, the whole loop": seconds[k] for k in (1, 2, 3)}
    one = sl.microgpt.paper_experiment(names, num_examples=1, num_steps=1)

    def step(re, im):
        return jets_along(one.train, sl.Examples(1), jnp.ones(1), series(3), re, im)

    _, out["seconds to compile degree 3, one step"] = compiled(step, *directions(0, jnp.arange(part), 1))
    return out


def degree_100(names):
    """One direction at degree 100 on circles, over one plain float64 training."""
    with jax.enable_x64(True):
        experiment = sl.microgpt.paper_experiment(names)
        query, ones = experiment.query("max"), jnp.ones(1000)

        def f(w):
            return query(experiment.train(w))

        plain = bind(compiled(f, ones)[0], ones)
        re, im = directions(0, jnp.arange(4), 1000)
        along = [-jax.lax.complex(re[i], im[i]) for i in range(4)]
        sl.taylor.cauchy_coefficients(f, ones, along[0], 100, radius=1.0)  # compiles

        def seconds(run):
            start = time.perf_counter()
            return jax.block_until_ready(run()), time.perf_counter() - start

        _, single = seconds(lambda: [plain() for _ in range(20)])
        found = [
            seconds(lambda psi=psi: sl.taylor.cauchy_coefficients(f, ones, psi, 100, tolerance=1e-3))
            for psi in along[1:]
        ]
        _, known = seconds(lambda: sl.taylor.cauchy_coefficients(f, ones, along[1], 100, radius=found[0][0].radii))
    relative = [np.asarray(out.errors)[1:] / np.abs(np.asarray(out.coefficients)[1:]) for out, _ in found]
    return {
        "degree 100 with search for radii, over plain (mean of three directions)": np.mean([t for _, t in found])
        / (single / 20),
        "degree 100 with radii known, over plain": known / (single / 20),
        "points with search (mean of three directions)": float(np.mean([out.num_points for out, _ in found])),
        "median estimated relative error of an order": float(np.median(relative)),
        "largest estimated relative error of an order": float(np.max(relative)),
    }


def paper_figures(names):
    """The three figures as whole commands: seconds, and peak memory of each process in GB."""
    out = {}
    for number in (1, 2, 3):
        with tempfile.TemporaryDirectory() as folder:
            command = [sys.executable, "-m", "sketchlearn.cli", "figure", str(number), "--out", folder, "--quiet"]
            start = time.perf_counter()
            child = subprocess.Popen(command + (["--names", names] if names else []), stdout=subprocess.DEVNULL)
            _, status, usage = os.wait4(child.pid, 0)
            if status:
                raise RuntimeError(f"figure {number} failed with status {status}")
            out[f"figure {number}, seconds"] = time.perf_counter() - start
            out[f"figure {number}, peak GB"] = usage.ru_maxrss / 2**20
    out["all figures, minutes"] = sum(v for k, v in out.items() if "seconds" in k) / 60
    return out


def one_step(names, degrees=range(1, 9)):
    """One optimiser step: ``jax.experimental.jet`` and nested ``jvp`` over ours, time and compile time. The first
    step of a run, where the weight alone moves; and a later one, where parameters and Adam's moments move too, as
    in all steps but the first. Nested ``jvp`` of degree 8 takes most of the 20 minutes of this row, and 11 GB."""
    experiment = sl.microgpt.paper_experiment(names, num_examples=1, num_steps=1)
    tokens, targets, present = (jnp.asarray(x[0]) for x in sl.microgpt.encode(list(experiment.names)))
    optimizer = optax.adam(0.01, b1=0.85, b2=0.99, eps=0.0, eps_root=1e-3)
    initial = experiment.initial
    fresh, rest = optimizer.init(initial)

    def update(weight, parameters, first, second):  # without the loop, for which jet has no rule
        def loss(p):
            return weight[0] * name_loss(experiment.logits(p, tokens), targets, present.astype(weight.dtype))

        state = (fresh._replace(mu=first, nu=second), rest)
        updates, state = optimizer.update(jax.grad(loss)(parameters), state)
        return optax.apply_updates(parameters, updates), state[0].mu, state[0].nu

    def drawn(seed):
        keys = jax.random.split(jax.random.key(seed), len(jax.tree.leaves(initial)))
        leaves = [0.1 * jax.random.normal(k, a.shape) for k, a in zip(keys, jax.tree.leaves(initial), strict=True)]
        return jax.tree.unflatten(jax.tree.structure(initial), leaves)

    ones = jnp.ones(1)
    moments = drawn(1), jax.tree.map(jnp.square, drawn(2))
    cases = {
        "first step": (lambda w: update(w[0], initial, fresh.mu, fresh.nu), (ones,), (-ones,)),
        "later step": (lambda s: update(*s), (ones, initial, *moments), (-ones, drawn(3), drawn(4), drawn(5))),
    }
    out = {}
    for case, (step, point, toward) in cases.items():
        leaves, structure = jax.tree.flatten(point)
        for k in degrees:
            programs, seconds = {}, {}

            def by_jet(*args, k=k):
                series = tuple([d] + [jnp.zeros_like(d)] * (k - 1) for d in jax.tree.leaves(toward))  # noqa: B023
                return jet(lambda *args: step(jax.tree.unflatten(structure, args)), args, series)  # noqa: B023

            def nested(p, k=k):
                return sl.reference.nested_jvp(step, p, toward, k)  # noqa: B023

            run, seconds["ours"] = compiled(lambda p, k=k: series_coefficients(step, p, toward, k), point)  # noqa: B023
            programs["ours"] = bind(run, point)
            for name, f, args in [("jet", by_jet, leaves), ("nested jvp", nested, (point,))]:
                try:
                    run, seconds[name] = compiled(f, *args)
                    programs[name] = bind(run, *args)
                except Exception as error:  # whatever it raises is the result
                    out[f"{case}, {name}, degree {k}"] = f"fails: {type(error).__name__}: {str(error)[:60]}"
            best = interleaved(programs, 50)
            for name in programs:
                if name != "ours":
                    out[f"{case}, {name} over ours, degree {k}: time"] = best[name] / best["ours"]
                    out[f"{case}, {name} over ours, degree {k}: compile time"] = seconds[name] / seconds["ours"]
    return out


def _sketch(name, *args, **options):
    """A sketch, kept under this name where there is a cache."""
    return sl.sketch(*args, progress=False, store=CACHE / name if CACHE else None, **options)


def _rms(x):
    return float(np.sqrt(np.mean(np.square(x))))


def _test_names(experiment, names, count=20):
    """The names that follow the training set in the shuffled list."""
    documents = sl.datasets.load_names(names)
    random.Random(42).shuffle(documents)
    return documents[experiment.num_examples : experiment.num_examples + count]


def _retrained(experiment, query, deletions):
    """The query after training without each deletion, (B, names)."""
    return sl.retrain(experiment.train, 1 - np.asarray(deletions), query, dtype=experiment.dtype).astype(np.float64)


def _sums(train, space, query, asked, order, dtype):
    """What retraining without each coordinate, and without each pair of them, adds up to."""
    bank = sl.RetrainBank(None, train, {}, space, dtype=dtype)
    return sl.baselines.CoordinateSums(bank, order).predict(query, asked).value


def _inside(found, truth):
    """Where the 95% interval holds the truth, to the rounding of a float32 training (1e-5 nats): exact parts have
    intervals of no width."""
    low, high = found.interval(0.95)
    return (low - 1e-5 <= truth) & (truth <= high + 1e-5)


def _lds(found, truth, sets):
    """Rank correlations averaged over test names, one of each set of deletions, (sets,)."""
    pairs = zip(np.split(np.asarray(found), sets), np.split(truth, sets), strict=True)
    return np.array([np.mean([spearmanr(*ab).statistic for ab in zip(f.T, t.T, strict=True)]) for f, t in pairs])


def groups(names):
    """26 groups by first letter and 50 unions of 2-4, 20 test names, 500 directions, degree 3: RMSE against retraining
    over that of the first order alone, which the sketch solves for exactly. "Additive" has retrained without each of
    the 26 groups, so that single groups are exact; unions are shown apart. So have the sums, which add up what each
    group does (26 retrainings) and what pairs do beyond it (325 more). "Centre" expands at weights of 0.9;
    "another seed" draws other directions."""
    experiment = sl.microgpt.paper_experiment(names)
    query = experiment.query(_test_names(experiment, names))
    space = sl.Groups([name[0] for name in experiment.names])
    draw = np.random.default_rng(0)
    unions = [list(draw.choice(space.names, draw.integers(2, 5), replace=False)) for _ in range(50)]
    asked = [[name] for name in space.names] + unions
    truth = _retrained(experiment, query, np.stack([space.embed(space.locate(d)) for d in asked]))
    parts = {"": slice(None), ", unions alone": slice(26, None)}
    out, first = {}, {}
    for kind, options in (
        ("", {}), ("additive, ", {"additive": True}), ("centre, ", {"centre": 0.1}),
        ("additive and centre, ", {"additive": True, "centre": 0.1}), ("orthogonal, ", {"design": "orthogonal"}),
        ("another seed, ", {"seed": 1}),
    ):  # fmt: skip
        made = _sketch(f"groups {kind}".rstrip(", "), experiment.train, space, 3, 500, **options)
        every = ("mean", "median_of_means", "least_squares", "kernel", "auto") if not kind else ("mean", "auto")
        for e in every:
            found = made.predict(query, asked, e)
            if not first:
                exact = made.predict(query, asked, "auto")
                first = {k: _rms((exact.baseline + exact.terms[:, 0] - truth)[part]) for k, part in parts.items()}
                out["RMSE of the exact first order, nats"] = first[""]
            for k, part in parts.items():
                out[f"{kind}{e}: RMSE over that of the exact first order{k}"] = (
                    _rms((found.value - truth)[part]) / first[k]
                )
        inside = _inside(found, truth)
        out[f"{kind}auto: coverage of the 95% interval: single groups"] = float(inside[:26].mean())
        out[f"{kind}auto: coverage of the 95% interval: unions"] = float(inside[26:].mean())
    for order, sums in enumerate(("sums over groups", "sums over groups and pairs"), 1):
        off = _sums(experiment.train, space, query, asked, order, experiment.dtype) - truth
        for k, part in parts.items():
            out[f"{sums}: RMSE over that of the exact first order{k}"] = _rms(off[part]) / first[k]
    return out


def pool(names):
    """A pool of 100 candidates against all 1000 examples, 500 directions, degree 3: the standard error of orders 2
    and 3 in the larger space over that in the smaller, for the same 400 deletions (5 to 40 of the pool), 20 test names;
    the median over test names of the root mean square over deletions. And the coverage of the 95% interval."""
    experiment = sl.microgpt.paper_experiment(names)
    query = experiment.query(_test_names(experiment, names))
    draw = np.random.default_rng(0)
    candidates = np.sort(draw.choice(1000, 100, replace=False))
    asked = [np.sort(draw.choice(candidates, size, replace=False)) for size in (5, 10, 20, 40) for _ in range(100)]
    truth = _retrained(experiment, query, sl.Examples(1000).locate(asked))
    errors, coverage = {}, {}
    for name, space in (("all", sl.Examples(1000)), ("pool", sl.Candidates(candidates, 1000))):
        made = _sketch(f"pool {name}", experiment.train, space, 3, 500)
        for e in ("mean", "kernel"):
            errors[name, e] = np.sqrt((made.predict(query, asked, e).standard_errors ** 2).mean(0))  # (order, name)
        inside = _inside(made.predict(query, asked, "auto"), truth).mean()
        coverage[f"coverage of the 95% interval, {space}, auto"] = float(inside)
    return coverage | {
        f"standard error of order {r} in Examples(1000) over Candidates(100), {e}": float(
            np.median(errors["all", e][r - 1] / errors["pool", e][r - 1])
        )
        for e in ("mean", "kernel")
        for r in (2, 3)
    }


def random_subsets(names):
    """500 directions of Examples(1000), degree 2, float64: the order-one term along the x names, and random subsets
    (LDS is the mean over 20 test names of the rank correlation over 100 subsets; one set of 100 moves it by about
    0.004 at random, so that the mean of ten sets is given, with the lowest and the highest of them). "Additive" has
    retrained without each example; so have the "sums", which add up what that does; "exact first order" is the
    gradient through training."""
    sets = 10
    with jax.enable_x64(True):
        experiment = sl.microgpt.paper_experiment(names)
        query, x_query = experiment.query(_test_names(experiment, names)), experiment.query("max")
        along = -jnp.zeros(1000).at[experiment.deleted].set(1.0)
        exact = jax.jvp(jax.jit(lambda w: x_query(experiment.train(w))), (jnp.ones(1000),), (along,))[1]
        made = {
            kind: _sketch(f"subsets {kind}", experiment.train, sl.Examples(1000), 2, 500, additive=kind == "additive")
            for kind in ("plain", "additive")
        }
        out = {
            f"order one along the x names, error of {e}, nats": abs(
                float(made["plain"].predict(x_query, experiment.deleted, e).terms[0] - exact)
            )
            for e in ("mean", "auto")
        }
        gradient = sl.gradient(experiment.train, query, sl.Examples(1000))
        bank = sl.RetrainBank(None, experiment.train, {}, sl.Examples(1000), dtype=experiment.dtype)
        alone = sl.baselines.CoordinateSums(bank).scores(query).T  # (1000, names)
        draw = np.random.default_rng(0)
        for percent in (1, 5, 10, 25):
            asked = [np.sort(draw.choice(1000, 10 * percent, replace=False)) for _ in range(100 * sets)]
            x = sl.Examples(1000).locate(asked)
            truth = _retrained(experiment, query, x)
            plain = query(made["plain"].parameters)
            lds = {}
            for what, effects in (("exact first order", gradient), ("sums of leave-one-out retrainings", alone)):
                lds[what] = _lds(x @ effects, truth, sets)
                out[f"RMSE at {percent}%, {what}, nats"] = _rms(plain + x @ effects - truth)
            for kind, e in (("plain", "mean"), ("plain", "auto"), ("additive", "auto")):
                found = made[kind].predict(query, asked, e)
                lds[f"{kind}, {e}"] = _lds(found.value, truth, sets)
                out[f"RMSE at {percent}%, {kind}, {e}, nats"] = _rms(found.value - truth)
                if e == "auto":
                    inside = _inside(found, truth).mean()
                    out[f"coverage of the 95% interval at {percent}%, {kind}, auto"] = float(inside)
            for method, of in lds.items():
                for what, value in (("", of.mean()), (", lowest of ten", of.min()), (", highest of ten", of.max())):
                    out[f"LDS at {percent}%, {method}{what}"] = float(value)
        thousand = [np.sort(draw.choice(1000, 50, replace=False)) for _ in range(1000)]
        for kind in made:
            made[kind].predict(query, thousand[:2])  # the factorisation, once for every query and deletion
            made[kind].predict(x_query, thousand[:2])  # and what the query is along the directions
            start = time.perf_counter()
            made[kind].predict(x_query, thousand)
            out[f"1,000 deletions for one query, {kind}, seconds"] = time.perf_counter() - start
        fresh = sl.Sketch(sl.Examples(1000), 2, 0, made["plain"].source, made["plain"].parameters)
        start = time.perf_counter()
        fresh.predict(x_query, thousand)
        out["1,000 deletions for one query, first use of a stored sketch, seconds"] = time.perf_counter() - start
    return out


def planning(names):
    """A sketch over its plan, both made in one run: time, and error after 60 random deletions of 50 of 1000 names
    (the pilot: 8 directions, 8 deletions; the root mean square over 8 test names)."""
    out = {}

    def compare(what, train, space, query, degree, m):
        planned = sl.plan(train, space, query, degree=degree, num_directions=m, progress=False)
        start = time.perf_counter()
        made = sl.sketch(train, space, degree, m, progress=False)
        seconds = time.perf_counter() - start
        what = f"seconds over those planned, {what}, degree {degree}, {m} directions"
        out[what] = seconds / planned.at(degree, m).seconds
        return planned, made

    def tiny(w):  # 1000 steps of gradient descent on 4 numbers: nothing but overhead
        x = jnp.asarray(np.random.default_rng(0).normal(size=(50, 4)), w.dtype)

        def step(theta, _):
            return theta - 0.01 * x.T @ (w * jnp.tanh(x @ theta - 1)), None

        return jax.lax.scan(step, jnp.zeros(4, w.dtype), None, length=1000)[0]

    compare("a tiny model", tiny, sl.Examples(50), lambda theta: theta @ theta, 2, 500)
    experiment = sl.microgpt.paper_experiment(names)
    space, query = sl.Examples(1000), experiment.query(_test_names(experiment, names, 8))
    draw = np.random.default_rng(1)
    asked = [np.sort(draw.choice(1000, 50, replace=False)) for _ in range(60)]
    truth = _retrained(experiment, query, space.locate(asked))
    for degree, m in ((1, 500), (2, 128)):
        planned, made = compare("microgpt", experiment.train, space, query, degree, m)
        for e in ("auto", "kernel"):
            row = planned.at(degree, m)
            expected = row.error if e == "auto" else np.hypot(row.noise, row.truncation)
            error = _rms(made.predict(query, asked, e).value - truth)
            out[f"error over that planned, {e}, degree {degree}, {m} directions"] = error / expected
    return out


def truth_and_gradient(names):
    """1,000 retrainings of microgpt without 50 names each, float32, compilation included; and the gradient of one
    query through all 1000 steps (the metagradient): time over one plain training, scratch memory over
    sqrt(steps) times the state of the loop (parameters and Adam's two moments)."""
    experiment = sl.microgpt.paper_experiment(names)
    query, draw = experiment.query("max"), np.random.default_rng(0)
    keep = np.ones((1000, 1000))
    for row in keep:
        row[draw.choice(1000, 50, replace=False)] = 0
    start = time.perf_counter()
    found = sl.retrain(experiment.train, keep, query)
    out = {"1,000 retrainings, seconds": time.perf_counter() - start}
    assert np.isfinite(found).all()
    ones = jnp.ones(1000)
    plain, _ = compiled(lambda w: query(experiment.train(w)), ones)
    state = 3 * sum(leaf.nbytes for leaf in jax.tree.leaves(experiment.initial))
    programs = {"plain": bind(plain, ones)}
    kinds = {"checkpointed": experiment.train_checkpointed, "storing every step": experiment.train}
    for kind, train in kinds.items():
        run, _ = compiled(jax.grad(lambda w, train=train: query(train(w))), ones)
        programs[kind] = bind(run, ones)
        scratch = run.memory_analysis().temp_size_in_bytes
        out[f"metagradient {kind}: memory over sqrt(steps) states"] = scratch / (1000**0.5 * state)
    best = interleaved(programs, 7)
    for kind in kinds:
        out[f"metagradient {kind}: time over plain"] = best[kind] / best["plain"]
    return out


def scaling(names):
    """How time and memory of a block of jets grow, one size at a time: ratios to the smallest, and the exponent of the
    best power law. Memory is XLA's scratch and output of the compiled block; the model's size is changed by the width
    of the two-layer network, for 10 steps of 32 names."""

    def measured(train, n, degree, block):
        def run(re, im):
            return jets_along(train, sl.Examples(n), jnp.ones(n), series(degree), re, im)

        program, _ = compiled(run, *directions(0, jnp.arange(block), n))
        memory = program.memory_analysis()
        plain, _ = compiled(train, jnp.ones(n))
        held = memory.temp_size_in_bytes + memory.output_size_in_bytes
        return bind(program, *directions(0, jnp.arange(block), n)), held, bind(plain, jnp.ones(n))

    def microgpt(n=200, steps=100):
        return sl.microgpt.paper_experiment(names, num_examples=n, num_steps=steps).train

    def larger(width):
        recipe = sl.zoo.larger_microgpt(320, 1, 32, width).recipe
        return recipe, sum(p.size for p in jax.tree.leaves(recipe.parameters))

    out = {}
    grids = {
        "examples n": {n: (microgpt(n), n, 2, 32) for n in (200, 800)},
        "steps T": {t: (microgpt(steps=t), 200, 2, 32) for t in (50, 100, 200)},
        "degree k": {k: (microgpt(), 200, k, 32) for k in (1, 2, 3)},
        "directions in a block": {m: (microgpt(), 200, 2, m) for m in (16, 32, 64)},
        "parameters": {size: (train, 320, 2, 8) for train, size in map(larger, (16, 32))},
    }
    for what, grid in grids.items():
        made = {size: measured(*arguments) for size, arguments in grid.items()}
        best = interleaved({size: run for size, (run, _, _) in made.items()}, 3)
        smallest, memory = min(grid), {size: held for size, (_, held, _) in made.items()}
        for kind, values in (("time", best), ("memory", memory)):
            for size in grid:
                out[f"{kind}, {what} = {size}, over {smallest}"] = values[size] / values[smallest]
            slope = np.polyfit(np.log(list(grid)), np.log([values[size] for size in grid]), 1)[0]
            out[f"{kind}: exponent of {what}"] = float(slope)
        if what == "parameters":
            plain = interleaved({size: p for size, (_, _, p) in made.items()}, 3)
            for size in grid:
                out[f"time of a direction of degree 2 over one plain run, {size} parameters"] = best[size] / (
                    8 * plain[size]
                )
    return out


def larger(names):
    """The two-layer microgpt of ``sl.zoo`` (102,784 parameters, 2,000 of the bundled names, minibatches of 32, Adam)
    in 12 groups, 64 directions, degree 2, float32: RMSE against retraining over the 12 groups and 20 unions of two, 20
    held-out names, over that of the exact first order. Groups dealt at random, and whole first letters packed into
    groups of like size. Then the price: time of a direction in a block of 8 over one plain run; memory of a direction
    in a block (XLA's scratch and output, beyond those of the plain run) over the plain run's own (its parameters,
    moments and activations), and over parameters and moments alone; time with a store over time without."""
    work = sl.zoo.larger_microgpt(dtype=jnp.float32)
    train, n, letters = work.recipe, len(work.labels), work.labels
    query = work.query(list(range(20)), each=True)
    load, bin_of = np.zeros(12), np.zeros(26, int)
    for letter in np.argsort(-np.bincount(letters, minlength=26)):
        bin_of[letter] = load.argmin()
        load[bin_of[letter]] += np.sum(letters == letter)
    groupings = {"random groups": np.random.default_rng(0).permutation(n) % 12, "letters": bin_of[letters]}
    pairs = list(itertools.combinations(range(12), 2))
    chosen = np.random.default_rng(1).choice(len(pairs), 20, replace=False)
    asked = [[g] for g in range(12)] + [list(pairs[i]) for i in chosen]
    out = {}
    for what, labels in groupings.items():
        space = sl.Groups(labels)
        truth = sl.retrain(train, 1 - space.embed(space.locate(asked)), query, dtype=jnp.float32).astype(np.float64)
        made = _sketch(f"larger {what}", train, space, 2, 64, dtype=jnp.float32, additive=what == "letters")
        kinds = {"": sl.Sketch(space, 2, 0, made.source, made.parameters)} | (
            {", additive": made} if made.single_coordinates else {}
        )
        for kind, sketch in kinds.items():
            found = sketch.predict(query, asked)
            if not kind:
                first = found.baseline + found.terms[:, 0] - truth
                out[f"{what}: rms of the changes, nats"] = _rms(truth - found.baseline)
                out[f"{what}: RMSE of the exact first order, nats"] = _rms(first)
            out[f"{what}{kind}: RMSE over that of the exact first order"] = _rms(found.value - truth) / _rms(first)
            out[f"{what}{kind}: coverage of the 95% interval"] = float(_inside(found, truth).mean())
        if (
            made.single_coordinates
        ):  # the twelve retrainings that it is made of; pairs as well would be all that is asked
            off = _sums(train, space, query, asked, 1, jnp.float32) - truth
            out[f"{what}, sums over groups: RMSE over that of the exact first order"] = _rms(off) / _rms(first)

    ones, space = jnp.ones(n), sl.Groups(groupings["letters"])

    def block(re, im):
        return jets_along(train, space, ones, series(2), re, im)

    def held(program):
        memory = program.memory_analysis()
        return memory.temp_size_in_bytes + memory.output_size_in_bytes

    arrays = directions(0, jnp.arange(8), 12)
    (plain, _), (eight, _) = compiled(train, ones), compiled(block, *arrays)
    best = interleaved({"plain": bind(plain, ones), "block": bind(eight, *arrays)}, 2)
    out["time of a direction over one plain run"] = best["block"] / 8 / best["plain"]
    beyond = (held(eight) - held(plain)) / 8
    out["memory of a direction over the plain run's"] = beyond / held(plain)
    out["memory of a direction over parameters and moments"] = beyond / (
        3 * sum(leaf.nbytes for leaf in jax.tree.leaves(train.parameters))
    )
    seconds = {}
    for name in ("without", "with a store"):
        with tempfile.TemporaryDirectory() as folder:
            store = {"store": Path(folder) / "sketch"} if name == "with a store" else {}
            start = time.perf_counter()
            sl.sketch(train, space, 2, 8, dtype=jnp.float32, progress=False, **store)
            seconds[name] = time.perf_counter() - start
    out["time with a store over without"] = seconds["with a store"] / seconds["without"]
    return out


ROWS = {
    "larger": larger,
    "scaling": scaling,
    "truth_and_gradient": truth_and_gradient,
    "planning": planning,
    "agreement": agreement,
    "one_direction": one_direction,
    "degree_100": degree_100,
    "one_step": one_step,
    "groups": groups,
    "pool": pool,
    "random_subsets": random_subsets,
    "paper_figures": paper_figures,
}


def table(results: dict) -> str:
    """The results as Markdown."""
    lines = [
        "# Measured figures",
        "",
        "Made by `python -m benchmarks`; ratios of things measured side by side in one run.",
        "",
    ]
    for row, entry in results.items():
        lines += [f"## {row}", "", " ".join((ROWS[row].__doc__ or "").split()), "", "| what | measured |", "|---|---|"]
        lines += [f"| {k} | {v if isinstance(v, str) else format(v, '.3g')} |" for k, v in entry["figures"].items()]
        lines += ["", f"({entry['machine']}, jax {entry['jax']}, names: {entry['names']})", ""]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--only", nargs="*", choices=list(ROWS), default=list(ROWS))
    parser.add_argument("--names", help="a file of names (default: the bundled list)")
    parser.add_argument("--cache", type=Path, help="keeps the sketches of the rows, to go on after a stop")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent)
    args = parser.parse_args()
    global CACHE
    CACHE = directory("--cache", args.cache) if args.cache else None
    args.out = directory("--out", args.out)
    stored = args.out / "results.json"
    results = json.loads(stored.read_text()) if stored.exists() else {}
    for row in args.only:
        figures = ROWS[row](args.names)
        results[row] = {
            "figures": figures,
            "jax": jax.__version__,
            "names": "a file" if args.names else "bundled",
            "machine": f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}",
        }
        stored.write_text(json.dumps(results, indent=1) + "\n")
        (args.out / "results.md").write_text(table(results))
        for what, value in figures.items():
            print(f"{row:14s} {what:60s} {value if isinstance(value, str) else format(value, '.4g')}", flush=True)


if __name__ == "__main__":
    main()
