"""A model of a hundred thousand parameters: how good, and at what price."""

from __future__ import annotations

import itertools
import tempfile
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

import sketchlearn as sl
from benchmarks.records import (
    bind,
    compiled,
    interleaved,
    kept_sketch,
    rms,
    subject,
    sums_of_retrainings,
    within_intervals,
)
from sketchlearn.deletions.directions import directions
from sketchlearn.execution.directional import deleting, jets_along
from sketchlearn.taylor.algebra import series


@subject(
    ("nats", "nats", "retraining"),
    ("coverage", "share", "0.95"),
    ("time of a direction", "ratio", "one plain run; at most 1 + 2k(k + 1) = 13"),
    ("parameters and moments", "ratio", "parameters and moments"),
    ("memory", "ratio", "the plain run; 2k + 1 = 5"),
    ("store", "ratio", "the same without a store"),
    ("", "ratio", "RMSE of the exact first order"),
)
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
        made = kept_sketch(f"larger {what}", train, space, 2, 64, dtype=jnp.float32, additive=what == "letters")
        kinds = {"": sl.Sketch(space, 2, 0, made.source, made.parameters)} | (
            {", additive": made} if made.single_coordinates else {}
        )
        for kind, sketch in kinds.items():
            found = sketch.predict(query, asked)
            if not kind:
                first = found.baseline + found.terms[:, 0] - truth
                out[f"{what}: rms of the changes, nats"] = rms(truth - found.baseline)
                out[f"{what}: RMSE of the exact first order, nats"] = rms(first)
            out[f"{what}{kind}: RMSE over that of the exact first order"] = rms(found.value - truth) / rms(first)
            out[f"{what}{kind}: coverage of the 95% interval"] = float(within_intervals(found, truth).mean())
        if (
            made.single_coordinates
        ):  # the twelve retrainings that it is made of; pairs as well would be all that is asked
            off = sums_of_retrainings(train, space, query, asked, 1, jnp.float32) - truth
            out[f"{what}, sums over groups: RMSE over that of the exact first order"] = rms(off) / rms(first)

    ones, space = jnp.ones(n), sl.Groups(groupings["letters"])

    def block(re, im):
        return jets_along(train, series(2), ones, *deleting(space, re, im))

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
