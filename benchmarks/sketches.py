"""What sketches of microgpt say, against retraining."""

from __future__ import annotations

import time

import jax
import jax.numpy as jnp
import numpy as np

import sketchlearn as sl
from benchmarks.records import (
    held_out_names,
    kept_sketch,
    lds_of_sets,
    retrained,
    rms,
    subject,
    sums_of_retrainings,
    within_intervals,
)


@subject(
    ("nats", "nats", "retraining"),
    ("coverage", "share", "0.95"),
    ("", "ratio", "RMSE of the exact first order"),
)
def groups(names):
    """26 groups by first letter and 50 unions of 2-4, 20 test names, 500 directions, degree 3: RMSE against retraining
    over that of the first order alone, which the sketch solves for exactly. "Additive" has retrained without each of
    the 26 groups, so that single groups are exact; unions are shown apart. So have the sums, which add up what each
    group does (26 retrainings) and what pairs do beyond it (325 more). "Centre" expands at weights of 0.9;
    "another seed" draws other directions."""
    experiment = sl.microgpt.paper_experiment(names)
    query = experiment.query(held_out_names(experiment, names))
    space = sl.Groups([name[0] for name in experiment.names])
    draw = np.random.default_rng(0)
    unions = [list(draw.choice(space.names, draw.integers(2, 5), replace=False)) for _ in range(50)]
    asked = [[name] for name in space.names] + unions
    truth = retrained(experiment, query, np.stack([space.embed(space.locate(d)) for d in asked]))
    parts = {"": slice(None), ", unions alone": slice(26, None)}
    out, first = {}, {}
    for kind, options in (
        ("", {}), ("additive, ", {"additive": True}), ("centre, ", {"centre": 0.1}),
        ("additive and centre, ", {"additive": True, "centre": 0.1}), ("orthogonal, ", {"design": "orthogonal"}),
        ("another seed, ", {"seed": 1}),
    ):  # fmt: skip
        made = kept_sketch(f"groups {kind}".rstrip(", "), experiment.train, space, 3, 500, **options)
        every = ("mean", "median_of_means", "least_squares", "kernel", "auto") if not kind else ("mean", "auto")
        for e in every:
            found = made.predict(query, asked, e)
            if not first:
                exact = made.predict(query, asked, "auto")
                first = {k: rms((exact.baseline + exact.terms[:, 0] - truth)[part]) for k, part in parts.items()}
                out["RMSE of the exact first order, nats"] = first[""]
            for k, part in parts.items():
                out[f"{kind}{e}: RMSE over that of the exact first order{k}"] = (
                    rms((found.value - truth)[part]) / first[k]
                )
        inside = within_intervals(found, truth)
        out[f"{kind}auto: coverage of the 95% interval: single groups"] = float(inside[:26].mean())
        out[f"{kind}auto: coverage of the 95% interval: unions"] = float(inside[26:].mean())
    for order, sums in enumerate(("sums over groups", "sums over groups and pairs"), 1):
        off = sums_of_retrainings(experiment.train, space, query, asked, order, experiment.dtype) - truth
        for k, part in parts.items():
            out[f"{sums}: RMSE over that of the exact first order{k}"] = rms(off[part]) / first[k]
    return out


@subject(
    ("coverage", "share", "0.95"),
    ("", "ratio", "the smaller space"),
)
def pool(names):
    """A pool of 100 candidates against all 1000 examples, 500 directions, degree 3: the standard error of orders 2
    and 3 in the larger space over that in the smaller, for the same 400 deletions (5 to 40 of the pool), 20 test names;
    the median over test names of the root mean square over deletions. And the coverage of the 95% interval."""
    experiment = sl.microgpt.paper_experiment(names)
    query = experiment.query(held_out_names(experiment, names))
    draw = np.random.default_rng(0)
    candidates = np.sort(draw.choice(1000, 100, replace=False))
    asked = [np.sort(draw.choice(candidates, size, replace=False)) for size in (5, 10, 20, 40) for _ in range(100)]
    truth = retrained(experiment, query, sl.Examples(1000).locate(asked))
    errors, coverage = {}, {}
    for name, space in (("all", sl.Examples(1000)), ("pool", sl.Candidates(candidates, 1000))):
        made = kept_sketch(f"pool {name}", experiment.train, space, 3, 500)
        for e in ("mean", "kernel"):
            errors[name, e] = np.sqrt((made.predict(query, asked, e).standard_errors ** 2).mean(0))  # (order, name)
        inside = within_intervals(made.predict(query, asked, "auto"), truth).mean()
        coverage[f"coverage of the 95% interval, {space}, auto"] = float(inside)
    return coverage | {
        f"standard error of order {r} in Examples(1000) over Candidates(100), {e}": float(
            np.median(errors["all", e][r - 1] / errors["pool", e][r - 1])
        )
        for e in ("mean", "kernel")
        for r in (2, 3)
    }


@subject(
    ("seconds", "s", "1,000 retrainings (truth_and_gradient)"),
    ("coverage", "share", "0.95"),
    ("LDS", "rank correlation", "1; exact first order beside it"),
    ("", "nats", "retraining; exact first order beside it"),
)
def random_subsets(names):
    """500 directions of Examples(1000), degree 2, float64: the order-one term along the x names, and random subsets
    (LDS is the mean over 20 test names of the rank correlation over 100 subsets; one set of 100 moves it by about
    0.004 at random, so that the mean of ten sets is given, with the lowest and the highest of them). "Additive" has
    retrained without each example; so have the "sums", which add up what that does; "exact first order" is the
    gradient through training."""
    sets = 10
    with jax.enable_x64(True):
        experiment = sl.microgpt.paper_experiment(names)
        query, x_query = experiment.query(held_out_names(experiment, names)), experiment.query("max")
        along = -jnp.zeros(1000).at[experiment.deleted].set(1.0)
        exact = jax.jvp(jax.jit(lambda w: x_query(experiment.train(w))), (jnp.ones(1000),), (along,))[1]
        made = {
            kind: kept_sketch(
                f"subsets {kind}", experiment.train, sl.Examples(1000), 2, 500, additive=kind == "additive"
            )
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
            truth = retrained(experiment, query, x)
            plain = query(made["plain"].parameters)
            lds = {}
            for what, effects in (("exact first order", gradient), ("sums of leave-one-out retrainings", alone)):
                lds[what] = lds_of_sets(x @ effects, truth, sets)
                out[f"RMSE at {percent}%, {what}, nats"] = rms(plain + x @ effects - truth)
            for kind, e in (("plain", "mean"), ("plain", "auto"), ("additive", "auto")):
                found = made[kind].predict(query, asked, e)
                lds[f"{kind}, {e}"] = lds_of_sets(found.value, truth, sets)
                out[f"RMSE at {percent}%, {kind}, {e}, nats"] = rms(found.value - truth)
                if e == "auto":
                    inside = within_intervals(found, truth).mean()
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
