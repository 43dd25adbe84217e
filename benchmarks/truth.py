"""What the truth and the gradient cost."""

from __future__ import annotations

import time

import jax
import jax.numpy as jnp
import numpy as np

import sketchlearn as sl
from benchmarks.records import bind, compiled, interleaved, subject


@subject(
    ("seconds", "s", "wall clock"),
    ("memory", "ratio", "sqrt(steps) states of the loop"),
    ("", "ratio", "one plain training"),
)
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
