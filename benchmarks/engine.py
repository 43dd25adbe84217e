"""The Taylor engine: right, fast, and how it grows."""

from __future__ import annotations

import time

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.experimental.jet import jet

import sketchlearn as sl
from benchmarks.records import bind, compiled, interleaved, subject
from sketchlearn.deletions.directions import directions
from sketchlearn.execution.blocks import SMALLEST_SHARE
from sketchlearn.execution.directional import jets_along
from sketchlearn.experiments.models import name_loss
from sketchlearn.runtime.workers import num_workers, side_by_side
from sketchlearn.taylor.algebra import series
from sketchlearn.taylor.transform import series_coefficients


@subject(
    ("", "relative difference", "0: two ways to one number; rounding is 2e-16"),
)
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


@subject(
    ("seconds to compile", "s", "compilation by XLA"),
    ("over plain run in", "ratio", "plain trainings in a batch of the same size, run by the workers, too"),
    ("over plain", "ratio", "plain trainings in a batch of the same size"),
)
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
            return jets_along(experiment.train, series(k), jnp.ones(1000), -re, -im)

        programs[degree], seconds[degree] = in_lanes(run, *directions(0, jnp.arange(block), 1000))
    best = interleaved(programs)
    out = {f"degree {k}, a block of {block}, over plain": best[k] / best["plain"] for k in (1, 2, 3)}
    out |= {f"degree {k}, over plain run in {width} lanes too": best[k] / best["plain in lanes"] for k in (1, 2, 3)}
    out |= {f"seconds to compile degree {k}, the whole loop": seconds[k] for k in (1, 2, 3)}
    one = sl.microgpt.paper_experiment(names, num_examples=1, num_steps=1)

    def step(re, im):
        return jets_along(one.train, series(3), jnp.ones(1), -re, -im)

    _, out["seconds to compile degree 3, one step"] = compiled(step, *directions(0, jnp.arange(part), 1))
    return out


@subject(
    ("points", "points", "at least 101 for degree 100"),
    ("relative error", "relative", "estimated by Cauchy's way itself"),
    ("over plain", "ratio", "one plain training in float64"),
)
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


@subject(
    (": time|: compile time", "ratio", "the same coefficients by power series"),
    ("", "outcome", "the same coefficients by power series"),
)
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


@subject(
    ("exponent", "exponent", "1 for a cost proportional to the size"),
    ("plain run", "ratio", "one plain run"),
    ("", "ratio", "the smallest size"),
)
def scaling(names):
    """How time and memory of a block of jets grow, one size at a time: ratios to the smallest, and the exponent of the
    best power law. Memory is XLA's scratch and output of the compiled block; the model's size is changed by the width
    of the two-layer network, for 10 steps of 32 names."""

    def measured(train, n, degree, block):
        def run(re, im):
            return jets_along(train, series(degree), jnp.ones(n), -re, -im)

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
