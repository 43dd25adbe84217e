"""What predictions were, kept: a change of the code that is meant to change no number changes none of these.

Written anew by ``python -m tests.sketching.test_golden`` from the root of the repository; a change that is meant to
move numbers says so where it is made.
"""

import functools
import itertools
import json
import shutil
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import sketchlearn as sl

DATA = Path(__file__).parents[1] / "data"
KEPT = DATA / "golden.json"
STORES = {2: DATA / "store_format_2", 3: DATA / "store_format_3"}  # each written when it was today's
N, GROUPS = 20, 5
DELETIONS = ([0], [1, 3], [0, 2, 4])
KINDS = list(itertools.product((False, True), (None, 0.2), (False, True), (False, True)))
NAMES = ["additive", "centre", "gradient", "control"]


def train(weights):
    """Six steps of gradient descent on a logistic loss; the data are a formula, so that no generator can move them."""
    i, j = jnp.arange(N)[:, None], jnp.arange(3)
    x, y = jnp.sin(1.7 * i + 2.3 * j + 0.1 * i * j), jnp.where(jnp.cos(0.9 * i[:, 0]) > 0, 1.0, -1.0)

    def step(theta, _):
        pull = jax.grad(lambda t: weights @ jax.nn.softplus(-y * jnp.tanh(x @ t)) / 4 + t @ t / 20)(theta)
        return theta - 0.5 * pull, None

    return jax.lax.scan(step, jnp.array([0.1, -0.2, 0.3], weights.dtype), length=6)[0]


def query(theta):
    return jnp.stack([jnp.exp(theta[0]) * theta[1], jax.nn.softplus(theta @ jnp.array([1.0, -1.0, 2.0]))])


def made(additive, centre, store=None):
    space = sl.Groups(np.arange(N) % GROUPS)
    return sl.sketch(
        train, space, 3, 20, seed=3, batch_size=8, progress=False, additive=additive, centre=centre, store=store
    )


@functools.cache
def in_memory(additive, centre):
    return made(additive, centre)


def predictions(sketch, gradient, control):
    """Value, standard error and truncation of every estimator, in the order of the deletions and outputs."""
    found = {}
    for estimator in sl.estimators():
        derivative = jax.jacobian(lambda z: query(train(1 - sketch.space.embed(z))))
        given = np.asarray(derivative(jnp.asarray(sketch.centre))).T if gradient else None
        prediction = sketch.predict(query, list(DELETIONS), estimator, gradient=given, control=control)
        found[estimator] = {
            what: getattr(prediction, what).reshape(-1).tolist() for what in ("value", "standard_error", "truncation")
        }
    return found


def label(kind):
    return ", ".join(f"{name} {value}" for name, value in zip(NAMES, kind, strict=True))


def farthest(found, kept):
    """The largest difference over the largest number of its kind."""
    return max(
        np.abs(np.subtract(found[e][what], kept[e][what])).max() / max(np.abs(kept[e][what]).max(), 1e-3)
        for e in kept
        for what in kept[e]
    )


@pytest.fixture(scope="module")
def kept():
    return json.loads(KEPT.read_text())


@pytest.mark.parametrize("kind", KINDS, ids=label)
def test_predictions_are_those_that_were_kept(kind, kept):
    with jax.enable_x64(True):
        additive, centre, gradient, control = kind
        found = predictions(in_memory(additive, centre), gradient, control)
    # 1e-14 where the numbers were made; another LAPACK has other last digits, times a condition of 1e4
    assert farthest(found, kept[label(kind)]) < 1e-9


@pytest.mark.parametrize("additive", [False, True])
def test_a_sketch_on_disk_predicts_what_the_one_in_memory_does(additive, tmp_path):
    with jax.enable_x64(True):
        memory = predictions(in_memory(additive, 0.2), False, True)
        disk = predictions(made(additive, 0.2, tmp_path / "s"), False, True)
    assert farthest(disk, memory) == 0


@pytest.mark.parametrize("number", STORES)
def test_a_store_of_each_format_is_read(number, kept, tmp_path):
    shutil.copytree(STORES[number], tmp_path / "store")  # nothing may be written beside it
    with jax.enable_x64(True):
        made = sl.open_sketch(tmp_path / "store")
        found = predictions(made, False, False)
    assert made.seed == 3
    assert farthest(found, kept[label((True, None, False, False))]) < 1e-9


def test_a_store_of_the_format_before_is_not_written_to(tmp_path):
    shutil.copytree(STORES[2], tmp_path / "store")
    with jax.enable_x64(True), pytest.raises(sl.StoreError, match=r"has format 2, .* this version only reads it"):
        made(True, None, tmp_path / "store")


def main():
    with jax.enable_x64(True):
        every = {label(kind): predictions(in_memory(*kind[:2]), *kind[2:]) for kind in KINDS}
        if KEPT.exists():
            old = json.loads(KEPT.read_text())
            print("moved by at most", max(farthest(every[k], old[k]) for k in every if k in old))
        newest = STORES[max(STORES)]
        shutil.rmtree(newest, ignore_errors=True)
        made(True, None, newest)
    KEPT.write_text(json.dumps(every, indent=1) + "\n")


if __name__ == "__main__":
    main()
