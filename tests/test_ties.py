"""Exact ties: all piecewise rules take the side that the arguments' series lead to, so that identities hold."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax import lax

import sketchlearn as sl
from sketchlearn.algebra import Series, StackedSeries
from sketchlearn.taylor.transform import series_coefficients

pytestmark = pytest.mark.usefixtures("x64", "quick_compilation")

DEGREE = 4
DIRECTIONS = {"forwards": 1.0, "backwards": -1.0, "complex": -0.4 + 0.9j, "imaginary": 1j}
in_each_direction = pytest.mark.parametrize("direction", DIRECTIONS.values(), ids=DIRECTIONS)


def pair(x):
    return jnp.stack([x, -x])


def best_two_of_three(x):
    """A mixture of experts: the two best of three, weighted by their softmax, whichever of two equals comes first."""
    logits = jnp.stack([x - 1, 0.3 * x, -0.2 * x])
    values, index = lax.top_k(logits, 2)
    return jnp.sum(jax.nn.softmax(values) * jnp.stack([x, 1 + x, 2 - x])[index])


def keys_times_what_they_carry(x):
    key, value = lax.sort((pair(x), pair(x + 1)), num_keys=1)
    return key @ value


# name: (with kinks that cancel at 0, the same without)
SMOOTH = {
    "cross entropy": (
        lambda x: jnp.maximum(x, 0) - 0.3 * x + jnp.log1p(jnp.exp(-jnp.abs(x))),
        lambda x: jax.nn.softplus(x) - 0.3 * x,
    ),
    "cross entropy by where": (
        lambda x: jnp.where(x >= 0, x, 0) - 0.3 * x + jnp.log1p(jnp.exp(jnp.where(x < 0, x, -x))),
        lambda x: jax.nn.softplus(x) - 0.3 * x,
    ),
    "cross entropy by relu and where": (
        lambda x: jax.nn.relu(x) - 0.3 * x + jnp.log1p(jnp.exp(jnp.where(x > 0, -x, x))),
        lambda x: jax.nn.softplus(x) - 0.3 * x,
    ),
    "log of a sum of exponentials": (
        lambda x: jnp.maximum(x, -x) + jnp.log1p(jnp.exp(-jnp.abs(2 * x))),
        lambda x: jnp.log(jnp.exp(x) + jnp.exp(-x)),
    ),
    "relu": (lambda x: jax.nn.relu(x) - jax.nn.relu(-x), lambda x: x),
    "relu6 and clip": (lambda x: 2 * jax.nn.relu6(x) - jnp.clip(x, 0, 6) - jax.nn.relu(x) + x, lambda x: x),
    "clip": (lambda x: jnp.clip(x, 0, 1) + jnp.clip(x, -1, 0), lambda x: x),
    "maximum and minimum": (lambda x: jnp.maximum(x, x**2) + jnp.minimum(x, x**2), lambda x: x + x**2),
    "leaky relu": (lambda x: jax.nn.leaky_relu(x, 0.5) - 0.75 * x - 0.25 * jnp.abs(x), lambda x: 0 * x),
    "log cosh": (lambda x: optax.losses.log_cosh(x, 0.0), lambda x: jnp.log(jnp.cosh(x))),
    "largest of two": (lambda x: jnp.max(pair(x)) + jnp.min(pair(x)) + x, lambda x: x),
    "largest and absolute": (lambda x: jnp.max(pair(x)) - jnp.abs(x) + x, lambda x: x),
    "sorted": (lambda x: jnp.sort(pair(x)) @ np.array([-1.0, 1.0]) / 2 - jnp.abs(x) + x, lambda x: x),
    "median": (lambda x: jnp.median(jnp.stack([x, -x, 3 * x])), lambda x: x),
    "running maximum": (lambda x: lax.cummax(pair(x))[1] + lax.cummin(pair(x))[1] + x, lambda x: x),
    "running maximum from the end": (lambda x: lax.cummax(pair(x), reverse=True)[0] - jnp.abs(x) + x, lambda x: x),
    "window": (lambda x: nn.max_pool(pair(x)[:, None], (2,))[0, 0] - jnp.abs(x) + x, lambda x: x),
    "scattered": (lambda x: jnp.zeros(1).at[np.array([0, 0])].max(pair(x))[0] - jnp.abs(x) + x, lambda x: x),
    "keys and what they carry": (keys_times_what_they_carry, lambda x: 2 * x**2 + 2 * x),
    "mixture of experts": (
        best_two_of_three,
        lambda x: jax.nn.softmax(jnp.stack([0.3 * x, -0.2 * x])) @ jnp.stack([1 + x, 2 - x]),
    ),
}  # fmt: skip


def with_kinks(x):
    return jnp.stack([kinked(x) for kinked, _ in SMOOTH.values()])


def without(x):
    return jnp.stack([smooth(x) for _, smooth in SMOOTH.values()])


@functools.cache
def compiled(function, representation):
    algebra = representation(DEGREE, complex=True)
    return jax.jit(lambda direction: series_coefficients(function, 0.0, direction, DEGREE, algebra))


@in_each_direction
@pytest.mark.parametrize("representation", [Series, StackedSeries])
def test_kinks_that_cancel_in_a_smooth_function_cancel_in_its_series(representation, direction):
    found = compiled(with_kinks, representation)(complex(direction))
    smooth = compiled(without, Series)(complex(direction))
    wrong = np.abs(found - smooth).max(0) > 1e-14  # a few roundings of numbers of size 1
    assert not [name for name, bad in zip(SMOOTH, wrong, strict=True) if bad]


@in_each_direction
def test_all_points_of_a_circle_take_the_side_that_the_series_takes(direction):
    found = sl.taylor.cauchy_coefficients(with_kinks, 0.0, direction, DEGREE)
    smooth = compiled(without, Series)(complex(direction))
    assert (np.abs(found.coefficients - smooth) <= 1e-14 + np.asarray(found.errors)).all()
    assert np.asarray(found.errors).max() < 1e-9  # they know what they say to nine digits


@pytest.mark.parametrize("method", ["series", "cauchy"])
@in_each_direction
def test_a_kink_is_expanded_on_the_side_that_the_direction_leads_to(direction, method):
    def exponential_linear_units(x):
        by_minimum = jnp.where(x > 0, x, jnp.expm1(jnp.minimum(x, 0)))
        return jnp.stack([jax.nn.celu(x), jax.nn.elu(x), by_minimum])

    ahead = np.real(direction) > 0 or (np.real(direction) == 0 and np.imag(direction) > 0)
    found = sl.taylor_coefficients(exponential_linear_units, 0.0, direction, 3, method=method)
    truth = [0, 1, 0, 0] if ahead else [0, 1, 1 / 2, 1 / 6]
    truth = np.asarray(truth) * direction ** np.arange(4)
    np.testing.assert_allclose(found, np.stack([truth] * 3, 1), rtol=0, atol=1e-12)  # circles aim at 1e-12


def test_ties_of_an_array_are_told_apart_by_the_first_order_that_differs():
    """Three rows in which the tie is decided at the first, at the second, and at no order."""

    def f(x):
        return jnp.max(jnp.stack([jnp.stack([x, 2 * x]), jnp.stack([x, x + x**2]), jnp.stack([x, x])]), axis=1)

    for direction in (1.0, -1.0):
        found = sl.taylor_coefficients(f, 0.0, direction, 2)
        first = max(direction, 2 * direction)
        np.testing.assert_allclose(found, [[0, 0, 0], [first, direction, direction], [0, 1, 0]], atol=0)


@pytest.mark.parametrize("method", ["series", "cauchy"])
@pytest.mark.parametrize(
    "f", [lambda x: jnp.maximum(x + x**2, x) - x, lambda x: jnp.maximum(0, x**2), lambda x: abs(x**2)]
)
def test_a_tie_that_the_second_order_decides_is_right_along_real_directions(f, method):
    """Along complex ones no number tells that a square is positive; limits.md says so."""
    for direction in (1.0, -1.0):
        found = sl.taylor_coefficients(f, 0.0, direction, 3, method=method)
        np.testing.assert_allclose(found, [0, 0, 1, 0], rtol=0, atol=1e-12)  # circles aim at 1e-12


def test_directions_side_by_side_decide_each_for_itself():
    directions = jnp.array([1.0, -1.0, 2.0])

    def f(x):
        return jnp.stack([jnp.max(pair(x)), jnp.abs(x), jax.nn.relu(x), jnp.sort(pair(x))[1]])

    found = jax.jit(jax.vmap(lambda d: sl.taylor_coefficients(f, 0.0, d, 1)))(directions)
    np.testing.assert_array_equal(found[:, 1], np.array([[1, 1, 1, 1], [1, 1, 0, 1], [2, 2, 2, 2]]))


def test_what_jumps_at_a_tie_keeps_the_value_of_the_real_program():
    def f(x):
        guarded = jnp.where(x == 0, 1.0, jnp.sin(x) / jnp.where(x == 0, 1.0, x))
        return jnp.stack([jnp.sign(x) * jnp.exp(x), jnp.where(x > 0, 2 + x, 1 - x), guarded])

    for direction in (1.0, -1.0):
        found = sl.taylor_coefficients(f, 0.0, direction, 2)
        np.testing.assert_array_equal(found, np.array([[0, 1, 1], [0, -direction, 0], [0, 0, 0]]))


def test_a_users_function_called_relu_is_expanded_by_its_own_rule():
    @jax.custom_jvp
    def relu(x):
        return jnp.maximum(x, 0)

    relu.defjvps(lambda t, ans, x: 0.5 * t)  # as some straight-through estimators
    np.testing.assert_array_equal(sl.taylor_coefficients(relu, 0.0, 1.0, 2), [0, 0.5, 0])


@pytest.mark.parametrize("f", [jax.nn.relu, jax.nn.celu, jnp.abs, lambda x: jnp.where(x > 0, x, 0)])
def test_every_decision_on_a_kink_is_still_counted(f):
    counts = [n for n in sl.piecewise_report(f, np.array([0.0, 1.0, 0.0])).values() if n]
    assert set(counts) == {2}
