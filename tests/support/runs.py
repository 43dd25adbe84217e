"""A tiny training set, and the two oracles that hold for any run on it: Cauchy, and retraining."""

import jax
import numpy as np
import optax
from support.oracles import assert_same_coefficients, by_order

import sketchlearn as sl

N, DEGREE = 5, 3
DRAW = np.random.default_rng(0)  # for this module alone: whoever imports it draws from another
INPUTS, TARGETS = DRAW.normal(size=(N, 3)), DRAW.normal(size=N)
TOKENS = DRAW.integers(0, 4, (N, 3))
IMAGES = DRAW.normal(size=(N, 4, 4, 1))
BATCHES = np.array([[0, 1, 2], [3, 4, -1], [4, 2, 0]])  # every example, some again, one empty place
REAL = DRAW.normal(size=N)
COMPLEX = REAL + 1j * DRAW.normal(size=N)
ONES = np.ones(N)

# Cauchy's search for a radius stops at 1e-12; a few hundred operations, some divided by small numbers, cost the rest.
CAUCHY = 1e-9
# Interpolation at 15 nodes on [-h, h]: c_15 h^15 at most, and rounding 1e-15 / h^3, relative to the coefficients.
NODES, STEP = 15, 0.05
RETRAINING = 1e-6


def squared_error(model, batch):
    x, y = batch
    return (model(x) - y) ** 2


def recipe(model, optimizer=None, x=INPUTS, batches=BATCHES, loss=squared_error, **options):
    """Three steps on five examples, in float64."""
    optimizer = optax.sgd(0.1, momentum=0.5) if optimizer is None else optimizer
    return sl.Recipe(model, optimizer, loss, (x, TARGETS), batches, dtype="float64", **options)


def assert_equals_cauchy_and_retraining(train):
    """All coefficients, to degree 3, of all that the run returns."""
    along = jax.jit(lambda direction: sl.taylor_coefficients(train, ONES, direction, DEGREE))
    expected = sl.taylor.cauchy_coefficients(train, ONES, COMPLEX, DEGREE)
    assert_same_coefficients(along(COMPLEX), expected.coefficients, rtol=CAUCHY, errors=expected.errors)  # see CAUCHY

    at = STEP * np.cos(np.pi * (np.arange(NODES) + 0.5) / NODES)
    runs = jax.jit(jax.vmap(train))(ONES + at[:, None] * REAL)
    values = np.concatenate([np.reshape(leaf, (NODES, -1)) for leaf in jax.tree.leaves(runs)], 1)
    fit = np.polynomial.chebyshev.Chebyshev.fit  # well conditioned; converted to powers of t at the end
    fitted = [fit(at, v, NODES - 1, domain=[-STEP, STEP]).convert(kind=np.polynomial.Polynomial) for v in values.T]
    truth = np.stack([np.pad(p.coef, (0, NODES))[: DEGREE + 1] for p in fitted]).T
    size = np.abs(truth).max(1, keepdims=True)
    assert (size[1:] > 1e-5).all(), "the run must depend on the weights at every order, or nothing is tested"
    off = (np.abs(by_order(along(REAL + 0j)) - truth) / size).max(1)
    assert (off <= RETRAINING).all(), f"relative to the largest coefficient of each order: {off}"
