"""A sketch over its plan."""

from __future__ import annotations

import time

import jax
import jax.numpy as jnp
import numpy as np

import sketchlearn as sl
from benchmarks.records import held_out_names, retrained, rms, subject


@subject(
    ("", "ratio", "what was planned"),
)
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
    space, query = sl.Examples(1000), experiment.query(held_out_names(experiment, names, 8))
    draw = np.random.default_rng(1)
    asked = [np.sort(draw.choice(1000, 50, replace=False)) for _ in range(60)]
    truth = retrained(experiment, query, space.locate(asked))
    for degree, m in ((1, 500), (2, 128)):
        planned, made = compare("microgpt", experiment.train, space, query, degree, m)
        for e in ("auto", "kernel"):
            row = planned.at(degree, m)
            expected = row.error if e == "auto" else np.hypot(row.noise, row.truncation)
            error = rms(made.predict(query, asked, e).value - truth)
            out[f"error over that planned, {e}, degree {degree}, {m} directions"] = error / expected
    return out
