"""What Hessian products through training cost, and what they buy."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

import sketchlearn as sl
from benchmarks.records import Cache, compiled, held_out_names, interleaved, kept_sketch, retrained, rms, subject
from sketchlearn.experiments.comparison import TEST_NAMES
from sketchlearn.truth.curvature import HessianProducts
from sketchlearn.truth.gradient import WeightedQuery

PRODUCTS = 32


class Checkpointed:
    """An experiment's run as a program that knows a way back in little memory."""

    def __init__(self, experiment):
        self.experiment, self.num_examples = experiment, experiment.num_examples

    def __call__(self, weights):
        return self.experiment.train(weights)

    def train_checkpointed(self, weights):
        return self.experiment.train_checkpointed(weights)


def products_of(experiment, names):
    """What multiplies with the Hessians of the losses on some names, and vectors to multiply."""
    space = sl.Examples(experiment.num_examples)
    asked = WeightedQuery.of(Checkpointed(experiment), experiment.query(names), space, None, None)
    vectors = np.random.default_rng(0).normal(size=(len(names), space.dim))
    return HessianProducts(asked), vectors


def asked_for(experiment):
    """Deletions by kind: 200 random subsets of a size, the names that begin with a letter or contain it."""
    n, draw = experiment.num_examples, np.random.default_rng(0)
    asked = {}
    for percent in (1, 5, 10, 25):
        rows = [draw.choice(n, n * percent // 100, replace=False) for _ in range(200)]
        asked[f"{percent}%"] = sl.Examples(n).locate([np.sort(row) for row in rows])
    first = np.array([name[0] for name in experiment.names])
    asked["first letters"] = np.stack([first == letter for letter in sorted(set(first))]).astype(float)
    letters = [c for c in "abcdefghijklmnopqrstuvwxyz" if 0 < len(experiment.containing(c)) < n / 4]
    asked["names with a letter"] = np.stack([np.isin(np.arange(n), experiment.containing(c)) for c in letters]) * 1.0
    return asked


def errors(experiment, kind=""):
    """RMSE over that of the exact first order, the mean over test names, and coverage, for every kind of deletion."""
    query, n = experiment.query(list(TEST_NAMES)), experiment.num_examples
    found = curvature_of(experiment, query, kind.strip(": ") or "test names")
    base = found.baseline
    alone = retrained(experiment, query, np.eye(n)) - base
    out = {f"{kind}Frobenius norm that {PRODUCTS} products leave": float(found.share_left.mean())}
    for label, x in asked_for(experiment).items():
        truth = retrained(experiment, query, x)
        of_names = np.sqrt(((base + x @ found.gradient - truth) ** 2).mean(0))
        ways = {
            f"{PRODUCTS} products": found.predict(x),
            f"{PRODUCTS} products and leave-one-out": found.predict(x, single_changes=alone),
        }
        for way, prediction in ways.items():
            ratio = np.sqrt(((prediction.value - truth) ** 2).mean(0)) / of_names
            out[f"{kind}RMSE at {label}, {way}"] = float(ratio.mean())
        sums = np.sqrt(((base + x @ alone - truth) ** 2).mean(0)) / of_names
        out[f"{kind}RMSE at {label}, sums of leave-one-out retrainings"] = float(sums.mean())
        low, high = ways[f"{PRODUCTS} products"].interval()
        out[f"{kind}coverage of the 95% interval at {label}"] = float(((low < truth) & (truth < high)).mean())
    return out


@subject(
    ("central differences", "relative difference", "central differences of the gradient, step 1e-5"),
    ("memory", "ratio", "4 for memory that grows with the steps, 2 with their root"),
    ("", "ratio", "one plain training"),
)
def hessian_products(names):
    """A product of the Hessian of a query's loss, in the weights of all 1000 examples of microgpt, with a vector:
    float64, forward over reverse through the checkpointed run; for one query, and for 20 at once."""
    with jax.enable_x64(True):
        return costs(sl.microgpt.paper_experiment(names))


@subject(
    ("Frobenius", "share", "the whole Hessian"),
    ("coverage", "share", "0.95"),
    ("", "ratio", "RMSE of the exact first order"),
)
def curvature(names):
    """Exact first order and 32 Hessian products for the losses on 20 test names, float64, all 1000 examples. The mean
    over names of each name's RMSE over that of its exact first order, 200 random subsets a size; beside it the sums of
    leave-one-out retrainings (1000 trainings, which serve every query), and both together. "Another seed": the same
    names trained from other initial weights, on which no constant of the intervals was chosen."""
    with jax.enable_x64(True):
        experiment = sl.microgpt.paper_experiment(names)
        return errors(experiment) | errors(sl.microgpt.reseeded(experiment, 1), "another seed: ")


@subject(("", "ratio", "the same sketch with the gradient alone"))
def sketch_with_curvature(names):
    """500 directions of Examples(1000), degree 2, float64, to which 32 Hessian products of each of 20 held-out names
    were given: the standard error of order two, root mean square over 200 random subsets of 10% and the names."""
    with jax.enable_x64(True):
        experiment = sl.microgpt.paper_experiment(names)
        query = experiment.query(held_out_names(experiment, names))
        space, out = sl.Examples(1000), {}
        found = curvature_of(experiment, query, "held-out names")
        sketch = kept_sketch("subsets plain", experiment.train, space, 2, 500, additive=False)
        x = asked_for(experiment)["10%"]
        for estimator in ("mean", "auto"):
            without = sketch.predict(query, x, estimator, gradient=found.gradient).standard_errors[:, 1]
            given = sketch.predict(query, x, estimator, curvature=found).standard_errors[:, 1]
            out[f"noise of order two, {estimator}"] = rms(given) / rms(without)
    return out


def curvature_of(experiment, query, kind):
    """Gradient and products of a query, kept where there is a cache."""
    store = Cache.folder / f"curvature {kind}" if Cache.folder else None
    space = sl.Examples(experiment.num_examples)
    return sl.curvature(Checkpointed(experiment), query, space, PRODUCTS, progress=False, store=store)


def costs(experiment):
    """Against differences, in plain trainings, and in memory."""
    ones, out = jnp.ones(experiment.num_examples), {}
    one, vectors = products_of(experiment, ["max"])
    product, step = one.all("", vectors)[2][0], 1e-5
    slope = jax.jit(jax.grad(lambda z: one.asked.outputs(z)[0]))
    differences = (slope(jnp.asarray(step * vectors[0])) - slope(jnp.asarray(-step * vectors[0]))) / (2 * step)
    off = np.linalg.norm(product - differences) / np.linalg.norm(product)
    out["a product against central differences"] = float(off)
    many, more = products_of(experiment, list(TEST_NAMES))
    many.all("", more)  # compiles
    plain, _ = compiled(experiment.train, ones)
    batch, _ = compiled(jax.vmap(experiment.train), jnp.ones((32, experiment.num_examples)))
    best = interleaved(
        {"plain": lambda: plain(ones), "one": lambda: one.all("", vectors), "twenty": lambda: many.all("", more)}, 5
    )
    out["a product of one query: time"] = best["one"] / best["plain"]
    out["a product for each of 20 queries: time of one of them"] = best["twenty"] / 20 / best["plain"]
    in_batch = interleaved({"batch": lambda: batch(jnp.ones((32, experiment.num_examples)))}, 3)["batch"] / 32
    out["one of 32 plain trainings in a batch: time"] = in_batch / best["plain"]
    scratch = []
    for steps in (250, 1000):
        shorter = sl.microgpt.Experiment(experiment.names, experiment.initial, steps, experiment.learning_rate)
        own, _ = products_of(shorter, ["max"])
        scratch.append(own.scratch_bytes(vectors))
    out["memory of a product at 1000 steps over 250"] = scratch[1] / scratch[0]
    return out
