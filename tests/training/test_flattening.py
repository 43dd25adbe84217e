"""Optimizers over one vector: those that treat every number alike, and no others."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import sketchlearn as sl
from sketchlearn.training.flattening import is_elementwise, one_vector

PARAMETERS = {"a": jnp.linspace(-1, 1, 6).reshape(2, 3), "b": jnp.linspace(1, 2, 3), "c": jnp.ones((2, 1, 2))}
RATE = optax.linear_schedule(0.1, 0.0, 10)


def decay_of_matrices(parameters):
    return jax.tree.map(lambda p: p.ndim > 1, parameters)


ELEMENTWISE = {
    "sgd": optax.sgd(0.1),
    "nesterov": optax.sgd(RATE, momentum=0.9, nesterov=True),
    "adam": optax.adam(RATE, eps=0.0, eps_root=1e-3),
    "adamw": optax.adamw(0.1, weight_decay=0.1),
    "adamax": optax.adamax(0.1),
    "nadam": optax.nadam(0.1),
    "amsgrad": optax.amsgrad(0.1),
    "adabelief": optax.adabelief(0.1),
    "adagrad": optax.adagrad(0.1),
    "rmsprop": optax.rmsprop(0.1, centered=True, momentum=0.9),
    "yogi": optax.yogi(0.1),
    "lion": optax.lion(0.1),
    "radam": optax.radam(0.1),
    "adan": optax.adan(0.1),
    "sign": optax.sign_sgd(0.1),
    "clipped": optax.chain(optax.clip(0.5), optax.add_decayed_weights(0.1), optax.adam(0.1)),
    "injected": optax.inject_hyperparams(optax.adam)(learning_rate=RATE),
    "every other step": optax.apply_every(2),
    "averaged": optax.chain(optax.trace(0.9), optax.ema(0.9), optax.scale(-0.1)),
}
OTHERS = {
    "norm of all": optax.chain(optax.clip_by_global_norm(1.0), optax.adam(0.1)),
    "norm of each array": optax.adaptive_grad_clip(0.1),
    "root mean square of each array": optax.clip_by_block_rms(0.1),
    "lamb": optax.lamb(0.1),
    "lars": optax.lars(0.1),
    "adafactor": optax.adafactor(0.1),
    "novograd": optax.novograd(0.1),
    "decay of matrices alone": optax.adamw(0.1, mask=decay_of_matrices),
    "two rates": optax.multi_transform(
        {True: optax.sgd(0.1), False: optax.sgd(0.01)}, lambda p: jax.tree.map(lambda leaf: leaf.ndim > 1, p)
    ),
    "a rate for each array": optax.multi_transform(
        {"x": optax.sgd(0.1), "y": optax.sgd(0.01)}, {"a": "x", "b": "y", "c": "x"}
    ),
    "centred gradients": optax.centralize(),
    "noise": optax.add_noise(0.1, 0.5, 0),
    "line search": optax.polyak_sgd(),
    "lbfgs": optax.lbfgs(),
    "what is finite": optax.apply_if_finite(optax.adam(0.1), 3),
    "muon": optax.contrib.muon(0.1),
    "no optimizer of optax": optax.GradientTransformation(
        lambda p: (), lambda g, s, p=None: (jax.tree.map(lambda leaf: leaf[::-1], g), s)
    ),
}


def run(optimizer, parameters, apart=lambda p: p, steps=4):
    """The parameters after some steps, with gradients of several sizes."""
    rng = np.random.default_rng(0)
    state = optimizer.init(parameters)
    for size in 10.0 ** np.arange(-2, steps - 2):
        target = jax.tree.map(lambda p, s=size: jnp.asarray(s * rng.normal(size=p.shape)), PARAMETERS)
        gradient = jax.grad(lambda p, g=target: optax.tree.vdot(apart(p), g))(parameters)
        updates, state = optimizer.update(gradient, state, parameters)
        parameters = optax.apply_updates(parameters, updates)
    return jax.tree.leaves(apart(parameters))


@pytest.mark.parametrize("name", ELEMENTWISE)
def test_an_optimizer_that_treats_all_numbers_alike_is_flattened_and_gives_the_same(name):
    optimizer = ELEMENTWISE[name]
    assert is_elementwise(optimizer, PARAMETERS)
    vector, apart = one_vector(optimizer, PARAMETERS)
    assert vector.ndim == 1
    for got, expected in zip(run(optimizer, vector, apart), run(optimizer, PARAMETERS), strict=True):
        # the same operations in the same order; what they compute may be rounded differently in another vector's lanes
        np.testing.assert_allclose(got, expected, rtol=1e-6)


@pytest.mark.parametrize("name", OTHERS)
def test_an_optimizer_that_looks_at_whole_arrays_or_tells_them_apart_is_left_as_it_is(name):
    assert one_vector(OTHERS[name], PARAMETERS)[0] is PARAMETERS


def test_parameters_of_two_precisions_or_one_array_are_left_as_they_are():
    two = {"a": jnp.ones(3), "b": jnp.ones(2, jnp.bfloat16)}
    one = {"a": jnp.ones((3, 2))}
    whole = {"a": jnp.ones((3, 2)), "b": jnp.ones(3, int)}
    for parameters in (two, one, whole):
        assert one_vector(optax.adam(0.1), parameters)[0] is parameters


def lines(count, optimizer):
    """Of the program of a step of a linear model of many arrays, along a direction."""
    initial = {f"{i:03d}": 0.1 * jnp.ones((2, 3)) for i in range(count)}

    def loss(parameters, x):
        return sum(x @ p[0] * (x @ p[1]) for p in parameters.values())

    recipe = sl.Recipe(None, optimizer, loss, jnp.ones((8, 3)), sl.minibatches(8, 2), initial=initial)
    text = jax.jit(lambda w, d: sl.taylor.taylor_coefficients(recipe, w, d, 2)).lower(jnp.ones(8), jnp.ones(8))
    return text.as_text().count("\n")


def test_the_optimizer_s_part_of_the_program_does_not_grow_with_the_number_of_arrays():
    adam, sgd = optax.adam(0.1, eps=0.0, eps_root=1e-3), optax.sgd(0.1)
    of_adam = [lines(count, adam) - lines(count, sgd) for count in (3, 30)]
    # what is left over: the parameters and gradients are put together and taken apart
    assert of_adam[1] < 1.5 * of_adam[0]
