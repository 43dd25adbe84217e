"""Cauchy's way: its errors are what it says, at low and at high degree."""

import math
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import sketchlearn as sl
from sketchlearn.taylor import cauchy_coefficients

pytestmark = pytest.mark.usefixtures("x64")


def geometric(x):
    return 1 / (1 - x)


KNOWN = {
    # name: function, point, direction, coefficients of order r (closed forms)
    "exponential": (jnp.exp, 0.3, 1.0, lambda r: math.exp(0.3) / math.factorial(r)),
    "pole at 1.4": (geometric, 0.3, 0.5, lambda r: (0.5 / 0.7) ** r / 0.7),
    "pole at 0.02": (geometric, 0.0, 50.0, lambda r: 50.0**r),
    "pole at 1e3": (geometric, 0.0, 0.001, lambda r: 0.001**r),
    "logarithm": (jnp.log, 2.0, 1.0, lambda r: math.log(2) if r == 0 else -((-0.5) ** r) / r),
    "complex direction": (geometric, 0.0, 0.6 + 0.8j, lambda r: (0.6 + 0.8j) ** r),
    "exponential, complex direction": (jnp.exp, 0.0, 1j, lambda r: 1j**r / math.factorial(r)),
}


@pytest.mark.parametrize("degree", [6, 30, 100])
@pytest.mark.parametrize("name", KNOWN)
def test_true_errors_are_below_the_reported_ones(name, degree):
    f, point, direction, exact = KNOWN[name]
    with warnings.catch_warnings():  # at degree 100 a warning is right: the highest orders of exp are below 1e-150
        warnings.simplefilter("ignore", sl.PrecisionWarning)
        out = cauchy_coefficients(f, point, direction, degree)
    truth = np.array([exact(r) for r in range(degree + 1)])
    errors = np.abs(np.asarray(out.coefficients) - truth)
    # the closed forms themselves are rounded
    assert (errors <= np.asarray(out.errors) + 4e-16 * np.abs(truth) * np.arange(1, degree + 2)).all()


@pytest.mark.parametrize("name", ["pole at 1.4", "pole at 0.02", "pole at 1e3", "logarithm", "complex direction"])
def test_all_hundred_orders_of_a_function_with_a_pole_are_resolved(name):
    f, point, direction, exact = KNOWN[name]
    out = cauchy_coefficients(f, point, direction, 100)
    truth = np.array([exact(r) for r in range(101)])
    # the search aims at 1e-9 and takes four circles at most; the logarithm is left at 3e-7 by then
    assert np.abs(np.asarray(out.coefficients) / truth - 1).max() < 1e-6


@pytest.mark.parametrize("name", KNOWN)
def test_six_orders_are_known_to_eleven_digits(name):
    f, point, direction, exact = KNOWN[name]
    out = cauchy_coefficients(f, point, direction, 6)
    truth = np.array([exact(r) for r in range(7)])
    # the search aims at 1e-12 up to degree 24
    assert np.abs(np.asarray(out.coefficients) / truth - 1).max() < 1e-11


def test_orders_beyond_a_polynomials_degree_vanish_within_their_errors_and_without_a_warning():
    out = cauchy_coefficients(lambda x: (1 + x) ** 3, 0.0, 1.0, 12)
    truth = np.array([1, 3, 3, 1] + [0] * 9)
    errors = np.abs(np.asarray(out.coefficients) - truth)
    assert (errors <= np.asarray(out.errors) + 1e-15).all()
    assert errors[4:].max() < 1e-12  # rounding of values near 8, on circles of radius 1 and more


def test_outputs_of_very_different_size_each_have_their_own_errors():
    def f(x):
        return {"small": 1e-9 * jnp.exp(x), "large": 1e6 / (2 - x)}

    out = cauchy_coefficients(f, 0.0, 1.0, 8)
    small = np.array([1e-9 / math.factorial(r) for r in range(9)])
    large = np.array([1e6 / 2 ** (r + 1) for r in range(9)])
    assert (np.abs(np.asarray(out.coefficients["small"]) - small) <= np.asarray(out.errors["small"]) + 1e-24).all()
    assert (np.abs(np.asarray(out.coefficients["large"]) - large) <= np.asarray(out.errors["large"]) + 1e-9).all()
    assert np.asarray(out.errors["small"]).max() < 1e-15 < np.asarray(out.errors["large"]).max()


def test_radii_that_served_one_direction_serve_again():
    first = cauchy_coefficients(geometric, 0.0, 0.6 + 0.8j, 60)
    again = cauchy_coefficients(geometric, 0.0, 0.8 + 0.6j, 60, radius=first.radii)
    assert again.num_points < first.num_points
    truth = (0.8 + 0.6j) ** np.arange(61)
    assert np.abs(np.asarray(again.coefficients) / truth - 1).max() < 1e-5  # fewer circles to choose from


def test_a_fixed_radius_is_used_as_it_is():
    out = cauchy_coefficients(jnp.exp, 0.0, 1.0, 4, radius=0.7)
    assert out.radii == (0.7,)
    assert out.num_points == 28


def test_a_circle_around_a_weak_pole_is_not_believed_against_a_smaller_one():
    """A residue this small hides in the rounding of float32; the circle of radius 5 says 3e-8 for order 4, wrongly."""

    def f(x):
        return x + 1e-4 / (x * x + 2.25)

    exact = np.array([1e-4 / 2.25, 1, -1e-4 / 2.25**2, 0, 1e-4 / 2.25**3])
    with pytest.warns(sl.PrecisionWarning):  # what is left, the smaller circle, knows less than three digits
        found = cauchy_coefficients(f, jnp.float32(0), jnp.float32(1), 4, radius=(5.0, 1.0))
    assert (np.abs(np.asarray(found.coefficients) - exact) <= np.asarray(found.errors)).all()


def test_a_given_circle_that_overflows_is_left_out():
    with pytest.warns(sl.PrecisionWarning, match="if they are not zero"):  # as the odd ones are
        out = cauchy_coefficients(lambda x: jnp.exp(x**2), 0.0, 1.0, 3, radius=(0.5, 40.0))
    np.testing.assert_allclose(out.coefficients, [1, 0, 1, 0], atol=1e-14)  # rounding 1e-16 over 0.5³, and 28 sums
    assert out.radii == (0.5,)
    with pytest.raises(ValueError, match=r"no finite values .* down to 4.0e\+01"):
        cauchy_coefficients(lambda x: jnp.exp(x**2), 0.0, 1.0, 3, radius=40.0)


@pytest.mark.parametrize(("radius", "order"), [(1e-3, 20), (3.0, 1)])
def test_a_given_circle_that_resolves_too_little_is_warned_about(radius, order):
    """``1 / (1 - x/2)``: high orders are lost in rounding on a small circle; one beyond the pole has other orders."""
    with pytest.warns(sl.PrecisionWarning, match="above 0.001"):
        found = cauchy_coefficients(lambda x: 1 / (1 - x / 2), 0.0, 1.0, 20, radius=radius)
    assert abs(found.coefficients[order] - 2.0**-order) <= found.errors[order]


def test_two_points_are_the_central_difference():
    with pytest.warns(sl.PrecisionWarning):  # two points cannot know how well they do
        out = cauchy_coefficients(jnp.exp, 0.0, 1.0, 1, radius=1e-3, num_points=2)
    assert out.coefficients[1] == pytest.approx(np.sinh(1e-3) / 1e-3, rel=1e-12)  # rounding 1e-16 over the step


def test_a_search_that_knows_where_to_begin_needs_fewer_points():
    first = cauchy_coefficients(geometric, 0.0, 0.6 + 0.8j, 60)
    near = cauchy_coefficients(geometric, 0.0, 0.88 * (0.8 + 0.6j), 60, start=max(first.radii))
    assert near.num_points < first.num_points
    truth = (0.88 * (0.8 + 0.6j)) ** np.arange(61)
    assert (np.abs(np.asarray(near.coefficients) - truth) <= np.asarray(near.errors) + 1e-15).all()
    for start in (0.05, 50.0, 1e6):  # far too small, beyond the pole
        far = cauchy_coefficients(geometric, 0.0, 1.0 + 0j, 60, start=start)
        assert np.abs(np.asarray(far.coefficients) - 1).max() < 1e-6
    with pytest.raises(ValueError, match="start"):
        cauchy_coefficients(geometric, 0.0, 1.0, 3, start=-1.0)


@pytest.mark.parametrize("num_points", [13, 15, 29, 104])  # one chunk, and several that do not divide evenly
@pytest.mark.parametrize("direction", [1.0, 0.6 + 0.8j])
def test_any_number_of_points_gives_the_same_coefficients(num_points, direction):
    found = cauchy_coefficients(geometric, 0.0, direction, 6, radius=0.1, num_points=num_points)
    error = np.abs(np.asarray(found.coefficients) - direction ** np.arange(7))
    assert (error <= np.asarray(found.errors) + 1e-15).all()
    assert error[:4].max() < 1e-11  # rounding over the third power of the radius is 1e-13


def test_real_directions_give_real_and_complex_ones_complex_coefficients():
    assert cauchy_coefficients(jnp.exp, 0.0, 1.0, 3).coefficients.dtype == np.float64
    assert cauchy_coefficients(jnp.exp, 0.0, 1.0 + 0j, 3).coefficients.dtype == np.complex128


def test_orders_that_float32_cannot_hold_are_warned_about():
    with jax.enable_x64(False), pytest.warns(sl.PrecisionWarning, match="above 0.001"):
        cauchy_coefficients(geometric, jnp.float32(0.5), jnp.float32(1.0), 100, num_points=104)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"direction": 0.0}, ValueError, "direction is zero"),
        ({"degree": 0}, ValueError, "at least 1"),
        ({"radius": -1.0}, ValueError, "positive"),
        ({"radius": float("nan")}, ValueError, "positive"),
        ({"num_points": 5, "degree": 6}, ValueError, "must exceed the degree"),
        ({"point": float("nan")}, ValueError, "finite"),
        ({"f": lambda x: jnp.log(x - 1)}, ValueError, "no finite values"),
        ({"f": lambda x: jnp.asarray(3)}, TypeError, "no Taylor coefficients"),
    ],
)
def test_bad_input_is_refused_in_words(arguments, error, message):
    given = {"f": jnp.exp, "point": 0.0, "direction": 1.0, "degree": 4} | arguments
    with pytest.raises(error, match=message):
        cauchy_coefficients(**given)


def test_inside_jit_it_says_to_use_series():
    with pytest.raises(TypeError, match='method="series"'):
        jax.jit(lambda x: sl.taylor_coefficients(jnp.exp, x, 1.0, 3, method="cauchy"))(0.0)
