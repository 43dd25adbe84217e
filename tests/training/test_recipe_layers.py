"""Layers of Flax in a training run: each against Cauchy and against retraining."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from flax.core import freeze
from support.runs import BATCHES, IMAGES, INPUTS, ONES, TARGETS, TOKENS, assert_equals_cauchy_and_retraining, recipe
from support.runs import squared_error as error

import sketchlearn as sl

pytestmark = pytest.mark.usefixtures("x64", "quick_compilation")
WHOLE = np.where(BATCHES < 0, 1, BATCHES)  # no empty place, which a layer that looks at the whole batch would see
whole = functools.partial(recipe, batches=WHOLE)


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
    "convolution, GroupNorm, BatchNorm": lambda: whole(Convolutional(nnx.Rngs(0)), x=IMAGES),
    "embedding, attention, RMSNorm": lambda: recipe(Attention(nnx.Rngs(0)), x=TOKENS),
    "LSTM": lambda: recipe(Recurrent(nnx.OptimizedLSTMCell, nnx.Rngs(0)), x=TOKENS),
    "GRU": lambda: recipe(Recurrent(nnx.GRUCell, nnx.Rngs(0)), x=TOKENS),
    "Linen with BatchNorm and dropout": lambda: whole(InLinen(), loss=linen_loss),
}


@pytest.mark.parametrize("name", LAYERS)
def test_series_of_a_model_with(name):
    assert_equals_cauchy_and_retraining(LAYERS[name]())


def test_apply_uses_running_statistics_and_no_dropout():
    run = whole(InLinen(), loss=linen_loss)
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
    thawed, frozen = (whole(InLinen(), loss=linen_loss, initial=v)(ONES) for v in (variables, freeze(variables)))
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
    runs = [whole(Net(), x=x)(gone) for x in (INPUTS, changed)]
    kernels = [np.asarray(getattr(r, "parameters", r)["out"]["kernel"]) for r in runs]
    assert (kernels[0] != kernels[1]).any() == (layer == "BatchNorm")


# --- empty places of a batch ----------------------------------------------------------------


def standardised(parameters, x):
    """A layer that looks at the whole batch and keeps no statistics, before one that begins as zero."""
    return ((x - x.mean(0)) / jnp.sqrt(x.var(0) + 0.1)) @ parameters["out"]


LOOKS_AT_ALL = {
    "NNX": lambda batches: recipe(Convolutional(nnx.Rngs(0)), x=IMAGES, batches=batches),
    "Linen": lambda batches: recipe(InLinen(), loss=linen_loss, batches=batches),
    "a function, from zero": lambda batches: recipe(standardised, initial={"out": np.zeros(3)}, batches=batches),
}


@pytest.mark.parametrize("name", LOOKS_AT_ALL)
def test_empty_places_are_refused_where_a_layer_looks_at_the_whole_batch(name):
    with pytest.raises(ValueError, match=r"batch 1 has empty places .* drop_last=True.*mask=present"):
        LOOKS_AT_ALL[name](BATCHES)
    with pytest.raises(ValueError, match="batch 0 has empty places"):  # which Linen is initialised with
        LOOKS_AT_ALL[name](np.array([[2, -1, 1]]))
    assert LOOKS_AT_ALL[name](WHOLE).num_steps == 3


def test_layers_that_look_at_each_example_may_have_empty_places():
    for make in (lambda: Perceptron(nnx.Rngs(0)), lambda: InLinenWithoutStatistics()):
        loss = linen_loss if isinstance(make(), nn.Module) else error
        assert recipe(make(), loss=loss, batches=BATCHES).num_steps == 3


class InLinenWithoutStatistics(nn.Module):
    @nn.compact
    def __call__(self, x, train):
        return nn.Dense(1)(nn.Dropout(0.3, deterministic=not train)(nn.LayerNorm()(nn.Dense(4)(x))))[:, 0]


class Masked(nn.Module):
    @nn.compact
    def __call__(self, x, train, present):
        norm = nn.BatchNorm(use_running_average=not train, momentum=0.5, dtype=jnp.float64, param_dtype=jnp.float64)
        return nn.Dense(1, param_dtype=jnp.float64)(norm(x, mask=present[:, None]))[:, 0]


def masked_loss(model, batch, present):
    return (model(batch[0], model.training, present) - batch[1]) ** 2


def test_statistics_of_those_present_are_those_of_the_incomplete_batch_by_itself():
    """BatchNorm told by ``present``, against the training loop written out with batches of their true sizes."""
    start = Masked().init(jax.random.key(0), INPUTS, True, jnp.ones(5, bool))
    got = recipe(Masked(), optax.sgd(0.1), loss=masked_loss, initial=start)(ONES)
    parameters, state = start["params"], start["batch_stats"]
    for batch in BATCHES:
        seen = batch[batch >= 0]

        def mean_loss(p, state=state, seen=seen):
            out, after = Masked().apply(
                {"params": p, "batch_stats": state},
                INPUTS[seen],
                True,
                jnp.ones(len(seen), bool),
                mutable=["batch_stats"],
            )
            return jnp.mean((out - TARGETS[seen]) ** 2), after["batch_stats"]

        gradient, state = jax.grad(mean_loss, has_aux=True)(parameters)
        parameters = jax.tree.map(lambda p, g: p - 0.1 * g, parameters, gradient)
    # the same sums, some with zeros among them, three steps: a few units in the last place
    for ours, theirs in ((got.parameters, parameters), (got.state["batch_stats"], state)):
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-14), ours, theirs)
    query = recipe(Masked(), loss=masked_loss, initial=start).query((INPUTS, TARGETS), each=True)
    out = Masked().apply({"params": got.parameters, **got.state}, INPUTS, False, jnp.ones(5, bool))
    np.testing.assert_allclose(query(got), (out - TARGETS) ** 2, rtol=1e-12)  # the same, compiled or not


def test_series_of_a_model_whose_statistics_leave_empty_places_out():
    assert_equals_cauchy_and_retraining(recipe(Masked(), loss=masked_loss))


def test_an_example_that_no_step_sees_never_enters_not_even_as_nan():
    """Empty places hold a copy from their own batch: neither example 0 nor its weight."""
    unseen = np.where(np.arange(5)[:, None] == 0, np.nan, INPUTS)
    batches = np.array([[1, 2, -1], [-1, 4, 3], [2, -1, -1]])
    start = {"out": np.ones(3)}
    run = recipe(lambda p, x: jnp.tanh(x @ p["out"]), x=unseen, batches=batches, initial=start)
    without = sl.Recipe(
        lambda p, x: jnp.tanh(x @ p["out"]), optax.sgd(0.1, momentum=0.5), error, (INPUTS[1:], TARGETS[1:]),
        np.where(batches < 0, -1, batches - 1), initial=start, dtype="float64",
    )  # fmt: skip
    assert run.first_failure() is None
    np.testing.assert_array_equal(run(ONES)["out"], without(ONES[1:])["out"])
    # one program compiled in two ways: rounding
    np.testing.assert_allclose(run.train_checkpointed(ONES)["out"], run(ONES)["out"], rtol=1e-12)
    assert np.isfinite(run(np.array([np.nan, 1, 1, 1, 1]))["out"]).all()
    report = sl.check(run)
    assert report.ok
    assert [f.message for f in report.findings if f.kind == "unseen examples"] == ["1 of 5, the first is 0"]
    made = sl.sketch(run, sl.Examples(5), 2, 4, progress=False)
    assert np.isfinite(made.predict(run.query((INPUTS, TARGETS)), [1]).value)


def test_an_example_that_is_seen_and_nan_is_named_in_a_batch_with_empty_places():
    spoiled = np.where(np.arange(5)[:, None] == 3, np.nan, INPUTS)
    run = recipe(lambda p, x: x @ p["out"], x=spoiled, batches=np.array([[1, 2], [3, -1]]), initial={"out": np.ones(3)})
    found = run.first_failure()
    assert (found.step, found.batch, found.examples) == (1, (3,), (3,))
