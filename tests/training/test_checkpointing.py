"""The checkpointed scan: the plain scan's values and gradients, in less memory."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import sketchlearn as sl

pytestmark = pytest.mark.usefixtures("x64")


def step(c, x):
    new = jnp.sin(c) * x + 0.1 * c
    return new, new.sum()


@pytest.mark.parametrize(("length", "segment"), [(9, None), (10, None), (7, 3), (3, 5), (1, None)])
def test_values_and_gradients_are_those_of_the_plain_scan(length, segment):
    xs, start = jnp.asarray(np.random.default_rng(0).normal(size=(length, 3))), jnp.array([0.1, 0.2, -0.4])

    def through(scan):
        def f(start, xs):
            c, ys = scan(step, start, xs)
            return (c**2).sum() + ys @ jnp.arange(length), (c, ys)

        return jax.value_and_grad(f, argnums=(0, 1), has_aux=True)(start, xs)

    plain = through(jax.lax.scan)
    ours = through(lambda *a: sl.checkpointed_scan(*a, segment=segment))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-14), plain, ours)  # the same operations


def test_reverse_mode_through_training_is_its_slope_and_keeps_three_roots_of_the_steps_of_state():
    experiment = sl.microgpt.paper_experiment(num_examples=100, num_steps=400)
    query, ones = experiment.query("max"), jnp.ones(100)
    program = jax.jit(jax.grad(lambda w: query(experiment.train_checkpointed(w)))).lower(ones).compile()
    state = 3 * 4192 * 8  # bytes of the parameters and of Adam's two moments
    assert program.memory_analysis().temp_size_in_bytes <= 3 * 400**0.5 * state
    loss, along = jax.jit(lambda w: query(experiment.train(w))), jnp.asarray(np.random.default_rng(0).normal(size=100))
    h = 1e-4
    slope = (loss(ones + h * along) - loss(ones - h * along)) / (2 * h)
    # central differences: h² times a third derivative of size 10, and rounding 1e-15 / h
    assert float(program(ones) @ along) == pytest.approx(float(slope), rel=1e-6)


def test_training_in_checkpoints_gives_the_same_parameters():
    experiment = sl.microgpt.paper_experiment(num_examples=10, num_steps=23)
    plain, ours = (jax.jit(f)(jnp.ones(10)) for f in (experiment.train, experiment.train_checkpointed))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-15), plain, ours)


def test_the_trajectory_begins_at_the_start_and_passes_through_what_shorter_runs_reach():
    experiment = sl.microgpt.paper_experiment(num_examples=4, num_steps=8)
    parameters, factors = experiment.trajectory(jnp.ones(4), 4)
    np.testing.assert_array_equal(parameters["wte"][0], experiment.initial["wte"])
    np.testing.assert_array_equal(factors["wte"][0], np.ones((27, 16)))
    # after two steps of the run: m̂ = combination of two gradients; the first step alone is checked by hand
    one = experiment.trajectory(jnp.ones(4), 8)
    g = jax.grad(experiment.example_loss)(experiment.initial, 0)["wte"]
    np.testing.assert_allclose(one[1]["wte"][1], 1 / np.sqrt(g**2 + 1e-3), rtol=1e-12)  # v̂ = g² after one step
    moved = one[0]["wte"][1] - experiment.initial["wte"]
    np.testing.assert_allclose(moved, -0.01 * g / np.sqrt(g**2 + 1e-3), rtol=1e-9, atol=1e-15)


@pytest.mark.parametrize("xs", [None, 3.0, (jnp.ones(3), jnp.ones(4))])
def test_steps_that_cannot_be_counted_are_refused(xs):
    with pytest.raises(ValueError, match=r"leading axis"):
        sl.checkpointed_scan(step, jnp.zeros(3), xs)


def test_a_step_that_is_no_function_is_refused():
    with pytest.raises(TypeError, match="step must be a function"):
        sl.checkpointed_scan(3, jnp.zeros(3), jnp.ones(3))
