"""Layers of Flax in a training run: each against Cauchy and against training again."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from flax.core import freeze
from runs import BATCHES, IMAGES, INPUTS, ONES, TARGETS, TOKENS, assert_equals_cauchy_and_retraining, recipe

pytestmark = pytest.mark.usefixtures("x64", "quick_compilation")


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


def attend(query, key, value, mask=None, **_):
    """Attention in the precision of its inputs: what Flax calls by itself has its softmax in float32."""
    scores = jnp.einsum("bqhd,bkhd->bhqk", query, key) / np.sqrt(query.shape[-1])
    return jnp.einsum("bhqk,bkhd->bqhd", jax.nn.softmax(jnp.where(mask, scores, -jnp.inf)), value)


class Attention(nnx.Module):
    def __init__(self, rngs):
        self.embed, self.norm = nnx.Embed(4, 4, param_dtype=jnp.float64, rngs=rngs), nnx.RMSNorm(4, rngs=rngs)
        self.attention = nnx.MultiHeadAttention(2, 4, decode=False, attention_fn=attend, rngs=rngs)
        self.out = nnx.Linear(4, 1, rngs=rngs)

    def __call__(self, tokens):
        x = self.embed(tokens)
        x = x + self.attention(self.norm(x), mask=nnx.make_causal_mask(tokens))
        return self.out(x)[:, -1, 0]


class Recurrent(nnx.Module):
    def __init__(self, cell, rngs):
        self.embed, self.rnn = (
            nnx.Embed(4, 3, param_dtype=jnp.float64, rngs=rngs),
            nnx.RNN(cell(3, 3, param_dtype=jnp.float64, rngs=rngs)),
        )
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
    "Linen with BatchNorm and dropout": lambda: recipe(InLinen(), loss=linen_loss),
}


@pytest.mark.parametrize("name", LAYERS)
def test_series_of_a_model_with(name):
    assert_equals_cauchy_and_retraining(LAYERS[name]())


def test_apply_uses_running_statistics_and_no_dropout():
    run = recipe(InLinen(), loss=linen_loss)
    trained = run(ONES)
    variables = {"params": trained.parameters, **trained.state}
    expected = InLinen().apply(variables, INPUTS, train=False)
    np.testing.assert_array_equal(run.apply(trained, INPUTS, train=False), expected)
    error = np.mean((expected - TARGETS) ** 2)
    # the same sum in another program: a few units in the last place
    np.testing.assert_allclose(run.query((INPUTS, TARGETS))(trained), error, rtol=1e-12)
    with pytest.raises(ValueError, match="running statistics"):
        run.query((INPUTS, TARGETS))(trained.parameters)


def test_frozen_variables_of_a_linen_module_are_variables():
    variables = InLinen().init({"params": jax.random.key(0), "dropout": jax.random.key(1)}, INPUTS, train=True)
    thawed, frozen = (recipe(InLinen(), loss=linen_loss, initial=v)(ONES) for v in (variables, freeze(variables)))
    jax.tree.map(np.testing.assert_array_equal, frozen, thawed)


def test_nnx_modules_are_evaluated_in_their_evaluation_mode_and_left_as_they_were():
    model = Convolutional(nnx.Rngs(0))
    before = jax.tree.leaves(nnx.to_pure_dict(nnx.state(model, nnx.Param)))
    run = recipe(model, x=IMAGES, batches=BATCHES[:1])
    trained = run(ONES)
    copy = Convolutional(nnx.Rngs(0))
    nnx.update(copy, nnx.State(trained.parameters))
    nnx.update(copy, nnx.State(trained.state))
    copy.eval()
    np.testing.assert_allclose(run.apply(trained, IMAGES), copy(IMAGES), rtol=1e-12)  # the same sums, compiled or not
    assert (trained.state["batch_norm"]["mean"] != 0).all()
    for old, new in zip(before, jax.tree.leaves(nnx.to_pure_dict(nnx.state(model, nnx.Param))), strict=True):
        np.testing.assert_array_equal(old, new)


@pytest.mark.parametrize("layer", ["BatchNorm", "LayerNorm"])
def test_batch_norm_sees_the_inputs_of_a_deleted_example_and_other_layers_do_not(layer):
    class Net(nnx.Module):
        def __init__(self):
            self.norm = (
                nnx.BatchNorm(3, rngs=nnx.Rngs(0)) if layer == "BatchNorm" else nnx.LayerNorm(3, rngs=nnx.Rngs(0))
            )
            self.out = nnx.Linear(3, 1, rngs=nnx.Rngs(1))

        def __call__(self, x):
            return self.out(self.norm(x))[:, 0]

    gone = ONES - np.eye(len(ONES))[2]
    changed = INPUTS + np.eye(len(ONES))[2][:, None]
    runs = [recipe(Net(), x=x)(gone) for x in (INPUTS, changed)]
    kernels = [np.asarray(getattr(r, "parameters", r)["out"]["kernel"]) for r in runs]
    assert (kernels[0] != kernels[1]).any() == (layer == "BatchNorm")
