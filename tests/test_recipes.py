"""Training runs of Flax models: each optimiser, layer and reduction against Cauchy and against training again."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from oracles import assert_same_coefficients, by_order

import sketchlearn as sl
from sketchlearn.minibatches import check_batches

pytestmark = pytest.mark.usefixtures("x64", "quick_compilation")

N, DEGREE = 5, 3
DRAW = np.random.default_rng(0)
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
NODES, STEP = 15, 0.1
RETRAINING = 1e-6


def squared_error(model, batch):
    x, y = batch
    return (model(x) - y) ** 2


def recipe(model, optimizer=None, x=INPUTS, batches=BATCHES, **options):
    """Three steps on five examples, in float64."""
    optimizer = optax.sgd(0.1, momentum=0.5) if optimizer is None else optimizer
    return sl.Recipe(model, optimizer, squared_error, (x, TARGETS), batches, dtype="float64", **options)


def assert_equals_cauchy_and_retraining(train):
    """All coefficients of all that the run returns."""

    def along(direction):
        return sl.taylor_coefficients(train, ONES, direction, DEGREE)

    both = jax.jit(jax.vmap(along))(np.stack([COMPLEX, REAL + 0j]))
    got, got_real = (jax.tree.map(lambda c, i=i: c[i], both) for i in range(2))
    expected = sl.taylor.cauchy_coefficients(train, ONES, COMPLEX, DEGREE)
    assert_same_coefficients(got, expected.coefficients, rtol=CAUCHY, errors=expected.errors)

    at = STEP * np.cos(np.pi * (np.arange(NODES) + 0.5) / NODES)
    runs = jax.jit(jax.vmap(train))(ONES + at[:, None] * REAL)
    values = np.concatenate([np.reshape(leaf, (NODES, -1)) for leaf in jax.tree.leaves(runs)], 1)
    fitted = np.polynomial.chebyshev.Chebyshev.fit  # well conditioned; converted to powers of t at the end
    truth = np.stack(
        [fitted(at, v, NODES - 1, domain=[-STEP, STEP]).convert(kind=np.polynomial.Polynomial).coef for v in values.T]
    )[:, : DEGREE + 1].T
    size = np.abs(truth).max(1, keepdims=True)
    assert (np.abs(by_order(got_real) - truth) <= RETRAINING * size + 1e-9).all()
    assert (size[1:] > 1e-6).all(), "the run depends on the weights at every order"


# --- optimisers -------------------------------------------------------------------------


def two_layers(parameters, x):
    return (jnp.tanh(x @ parameters["in"]) @ parameters["out"])[:, 0]


START = {"in": DRAW.normal(size=(3, 3)), "out": DRAW.normal(size=(3, 2))}
CLIPPED = 0.5  # below the norms of the gradients here, which are about 1 to 4

OPTIMIZERS = {
    "sgd with a schedule": optax.sgd(optax.cosine_decay_schedule(0.2, 3)),
    "nesterov with decay": optax.chain(optax.add_decayed_weights(0.1), optax.sgd(0.1, momentum=0.9, nesterov=True)),
    "adam": optax.adam(0.1, eps=0.0, eps_root=1e-3),
    "adamw": optax.adamw(optax.linear_schedule(0.1, 0.01, 3), eps=0.0, eps_root=1e-3, weight_decay=0.1),
    "rmsprop": optax.rmsprop(0.05, eps=1e-3, eps_in_sqrt=True, momentum=0.5),
    "muon": optax.contrib.muon(0.1),
    "clipped": optax.chain(optax.clip_by_global_norm(CLIPPED), optax.sgd(0.3)),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_series_of_a_run_with(name):
    assert_equals_cauchy_and_retraining(recipe(two_layers, OPTIMIZERS[name], initial=START))


def test_clipping_is_recorded_as_piecewise():
    report = sl.piecewise_report(recipe(two_layers, OPTIMIZERS["clipped"], initial=START), ONES)
    assert any(place.startswith("lt at ") for place in report)


# --- layers -----------------------------------------------------------------------------


class Perceptron(nnx.Module):
    def __init__(self, rngs):
        self.layers = nnx.List([nnx.Linear(3, 4, rngs=rngs), nnx.Linear(4, 1, rngs=rngs)])
        self.norm, self.dropout = nnx.LayerNorm(4, rngs=rngs), nnx.Dropout(0.3, rngs=rngs)

    def __call__(self, x):
        return self.layers[1](self.dropout(nnx.gelu(self.norm(self.layers[0](x)), approximate=False)))[:, 0]


class Convolutional(nnx.Module):
    def __init__(self, rngs):
        self.conv = nnx.Conv(1, 4, (3, 3), rngs=rngs)
        self.norm, self.batch_norm = nnx.GroupNorm(4, 2, rngs=rngs), nnx.BatchNorm(4, rngs=rngs, momentum=0.5)
        self.out = nnx.Linear(4, 1, rngs=rngs)

    def __call__(self, x):
        x = nnx.avg_pool(nnx.silu(self.batch_norm(self.conv(x))), (2, 2), (2, 2))
        return self.out(jnp.mean(self.norm(x), axis=(1, 2)))[:, 0]


class Attention(nnx.Module):
    def __init__(self, rngs):
        self.embed, self.norm = nnx.Embed(4, 4, rngs=rngs), nnx.RMSNorm(4, rngs=rngs)
        self.attention = nnx.MultiHeadAttention(2, 4, decode=False, rngs=rngs)
        self.out = nnx.Linear(4, 1, rngs=rngs)

    def __call__(self, tokens):
        x = self.embed(tokens)
        x = x + self.attention(self.norm(x), mask=nnx.make_causal_mask(tokens))
        return self.out(x)[:, -1, 0]


class Recurrent(nnx.Module):
    def __init__(self, cell, rngs):
        self.embed, self.rnn = nnx.Embed(4, 3, rngs=rngs), nnx.RNN(cell(3, 3, rngs=rngs))
        self.out = nnx.Linear(3, 1, rngs=rngs)

    def __call__(self, tokens):
        return self.out(self.rnn(self.embed(tokens)))[:, -1, 0]


class InLinen(nn.Module):
    @nn.compact
    def __call__(self, x, train):
        x = nn.Dense(4)(x)
        x = nn.BatchNorm(use_running_average=not train, momentum=0.5)(x)
        return nn.Dense(1)(nn.Dropout(0.3, deterministic=not train)(jnp.tanh(x)))[:, 0]


def linen_loss(model, batch):
    return (model(batch[0], train=model.training) - batch[1]) ** 2


LAYERS = {
    "LayerNorm, dropout": lambda: recipe(Perceptron(nnx.Rngs(0))),
    "convolution, GroupNorm, BatchNorm": lambda: recipe(Convolutional(nnx.Rngs(0)), x=IMAGES),
    "embedding, attention, RMSNorm": lambda: recipe(Attention(nnx.Rngs(0)), x=TOKENS),
    "LSTM": lambda: recipe(Recurrent(nnx.OptimizedLSTMCell, nnx.Rngs(0)), x=TOKENS),
    "GRU": lambda: recipe(Recurrent(nnx.GRUCell, nnx.Rngs(0)), x=TOKENS),
    "Linen with BatchNorm and dropout": lambda: sl.Recipe(
        InLinen(), optax.sgd(0.1), linen_loss, (INPUTS, TARGETS), BATCHES, dtype="float64"
    ),
}


@pytest.mark.parametrize("name", LAYERS)
def test_series_of_a_model_with(name):
    assert_equals_cauchy_and_retraining(LAYERS[name]())
