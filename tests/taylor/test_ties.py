"""Exact ties: all piecewise rules take the side that the arguments' series lead to, so that identities hold."""

import functools
import warnings

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax import lax

import sketchlearn as sl
from sketchlearn.taylor.algebra import BundledSeries, Series, StackedSeries
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
@pytest.mark.parametrize("representation", [Series, StackedSeries, BundledSeries])
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


@pytest.mark.parametrize("representation", [Series, StackedSeries, BundledSeries])
def test_a_power_of_zero_has_the_orders_that_its_exponent_leaves_finite(representation):
    algebra = representation(DEGREE, complex=False)

    def orders(f):
        return np.asarray(series_coefficients(f, 0.0, 1.0, DEGREE, algebra))

    # (t)^(n + t) = t^n (1 + t log t + ..): a logarithm from order n + 1 on
    np.testing.assert_array_equal(orders(lambda x: x ** (2 + x)), [0, 0, 1, np.nan, np.nan])
    np.testing.assert_array_equal(orders(lambda x: x ** (4 + x)), [0, 0, 0, 0, 1])
    np.testing.assert_array_equal(orders(lambda x: x ** (5.5 + x)), [0, 0, 0, 0, 0])
    assert not np.isfinite(orders(lambda x: x**2.5)[3:]).any()
    assert not np.isfinite(orders(lambda x: jnp.zeros(()) ** x)[1:]).any()  # 0^0 is 1, 0^t is 0
    assert not np.isfinite(orders(lambda x: jnp.zeros(()) ** (x - 1))).any()


@pytest.mark.parametrize("method", ["series", "cauchy"])
def test_a_root_of_zero_is_not_finite_rather_than_zero(method):
    for f in (lambda x: jnp.linalg.norm(jnp.stack([x, 2 * x])), lambda x: jnp.sqrt(x * x), lambda x: (x * x) ** 0.5):
        for degree in (1, 3):  # at degree 1 the square has no order at all
            if method == "cauchy":
                with pytest.raises(ValueError, match="no finite values"):
                    sl.taylor_coefficients(f, 0.0, 1.0, degree, method=method)
            else:
                assert not np.isfinite(sl.taylor_coefficients(f, 0.0, 1.0, degree)).all()


def test_pooling_with_a_trained_exponent_over_inactive_units_has_its_derivative():
    """Generalised mean pooling, ``mean(relu(x)^p)^(1/p)``: where relu is 0 the power is 0 for all p near 3."""
    x, active = np.array([-1.0, 2.0, 3.0]), np.array([2.0, 3.0])

    def pooled(p):
        return jnp.mean(jax.nn.relu(x) ** p) ** (1 / p)

    def without_the_inactive(p):
        return (jnp.sum(active**p) / 3) ** (1 / p)

    def step(loss):
        return lambda w: loss(3 - 0.1 * w * jax.grad(loss)(3.0 + 0.1 * w))

    for f, plain in ((pooled, without_the_inactive), (step(pooled), step(without_the_inactive))):
        expected = sl.reference.nested_jvp(plain, 1.0, 1.0, 3)
        np.testing.assert_allclose(sl.taylor_coefficients(f, 1.0, 1.0, 3), expected, rtol=1e-12)  # some 50 roundings


@pytest.mark.parametrize("x", [-10.0, -5.0, 0.0, 10.0])
def test_the_normal_distributions_tail_is_right_on_circles(x):
    for f in (jax.scipy.special.log_ndtr, lambda x: lax.erfc(-x)):
        series = sl.taylor_coefficients(f, x, 0.6 - 0.8j, 4)
        found = sl.taylor_coefficients(f, x, 0.6 - 0.8j, 4, method="cauchy")
        # circles aim at 1e-12 of every order; the series' fourth has lost three digits at -10
        np.testing.assert_allclose(found, series, rtol=0, atol=1e-12 * np.abs(series).max())


def test_sinc_at_zero_is_right_on_circles():
    found = sl.taylor_coefficients(jnp.sinc, np.zeros(2), np.array([1.0, 0.0]), 4, method="cauchy")
    expected = [[1, 1], [0, 0], [-(np.pi**2) / 6, 0], [0, 0], [np.pi**4 / 120, 0]]
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12)  # what circles aim at


@pytest.mark.parametrize("name", ["xlogy", "xlog1py", "dawsn", "entr"])
def test_circles_warn_of_a_point_at_which_a_functions_body_is_patched(name):
    f = getattr(jax.scipy.special, name)
    at = (lambda x: f(x, 1.0 + x)) if name.startswith("xlog") else f
    with pytest.warns(sl.PrecisionWarning, match='(xlogy|xlog1py|dawsn): .*method="series"'):
        sl.taylor_coefficients(at, 0.0, 1.0, 2, method="cauchy")
    # away from it there is nothing to warn of, and of a patch of constants neither
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        sl.taylor_coefficients(at, 0.3, 1.0, 2, method="cauchy")
        sl.taylor_coefficients(lambda x: jax.scipy.special.xlogy(np.zeros(2), 1 + x) + x, 0.0, 1.0, 1, method="cauchy")
