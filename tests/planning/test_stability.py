"""Stability profiles against norms that are known, and the two ways of measuring against each other."""

import math

import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import pytest
from scipy.special import gammaln

import sketchlearn as sl
from sketchlearn.deletions.directions import directions
from sketchlearn.planning.stability import _radius
from sketchlearn.reference import bombieri_norm, homogeneous_terms

pytestmark = pytest.mark.usefixtures("x64")


def pole(c):
    """``1 / (c - mean w)``: one pole, where the mean of the deletion is 1 - c."""
    return lambda w: 1 / (c - jnp.mean(w))


def profile(query, n=5, **changes):
    arguments = {"degree": 6, "num_directions": 3, "space": sl.Examples(n), "progress": False}
    return sl.stability_profile(lambda w: w, query, **{**arguments, **changes})


def test_series_and_circles_measure_the_same_norms():
    def query(w):
        return jnp.exp(w[0] * w[1]) / (3 + jnp.sin(w @ jnp.arange(5.0)))

    series, circles = profile(query, method="series"), profile(query, method="cauchy")
    np.testing.assert_array_equal(series.errors, 0)
    # the circles are asked for one digit and say how many they have
    assert (np.abs(series.norms - circles.norms) <= 3 * circles.errors + 1e-12 * series.norms).all()
    assert (circles.errors < 0.1 * circles.norms).all()
    assert circles.radius == pytest.approx(series.radius, rel=1e-2)


def test_circles_of_one_profile_serve_another_without_a_search():
    def query(w):
        return jnp.exp(w[0]) / (3 - jnp.mean(w))

    searched = profile(query, method="cauchy")
    assert searched.circles
    again = profile(query, method="cauchy", circles=searched.circles)
    assert (np.abs(again.norms - searched.norms) <= again.errors + searched.errors).all()
    assert again.circles == searched.circles
    assert profile(query, method="series").circles == ()
    with pytest.raises(ValueError, match='give method="cauchy"'):
        profile(query, method="series", circles=searched.circles)
    with pytest.raises(ValueError, match="radius must be a positive number"):
        profile(query, method="cauchy", circles=[-1.0])


def test_every_direction_is_resolved_on_circles_of_its_own():
    """The pole is at another distance in every direction: circles of the first lose high orders in the others."""

    def query(w):
        return 1 / (3 + w[0] - w[1] + w[2] / 2)

    found = profile(query, method="cauchy", degree=60, num_directions=8)
    assert (found.errors < 0.1 * found.norms).all()
    with pytest.warns(sl.PrecisionWarning):
        shared = profile(query, method="cauchy", degree=60, num_directions=8, circles=found.circles)
    assert (shared.errors > 0.1 * shared.norms).any()


def test_a_dozen_directions_see_less_than_the_norm_at_high_orders():
    """``(mean w)^r`` has norm ``n^{-r/2}``; rare directions make it. At order two a dozen still see it."""
    n, m = 40, 12
    found = profile(lambda w: 1 / (2 - jnp.mean(w)), n=n, degree=12, num_directions=m)
    true = n ** (-np.arange(1, 13) / 2)
    assert 0.5 < found.bombieri()[1] / true[1] < 2
    assert found.bombieri()[11] < 0.5 * true[11]
    assert found.radius > 1.2 * n**0.5


def test_the_norm_of_a_polynomial_is_its_bombieri_norm():
    n, rng = 3, np.random.default_rng(0)
    exponents = {r: homogeneous_terms(n, r) for r in (1, 2, 3)}
    coefficients = {r: rng.normal(size=len(e)) for r, e in exponents.items()}

    def query(w):
        x = 1 - w
        return sum(jnp.prod(x ** jnp.asarray(exponents[r]), axis=1) @ coefficients[r] for r in exponents)

    m = 4000
    found = profile(query, n=n, degree=4, num_directions=m)
    for r in exponents:
        squares = found.norms[:, r - 1] ** 2
        error = squares.std() / math.sqrt(m)
        exact = bombieri_norm(exponents[r], coefficients[r]) ** 2
        assert error < 0.05 * exact
        assert abs(squares.mean() - exact) < 5 * error  # standard errors; the seed is fixed
        assert found.bombieri()[r - 1] == pytest.approx(math.sqrt(squares.mean()), rel=1e-14)
    assert (found.norms[:, 3] < 1e-12 * found.norms[:, 2]).all(), "nothing of order 4 but rounding"


@pytest.mark.parametrize("method", ["series", "cauchy"])
def test_the_radius_is_the_distance_of_the_pole(method):
    n, c = 5, 2.5
    # 1/(c - 1 + mean x) = Σ_r (-mean x)^r / (c - 1)^(r+1), and mean x has norm 1/√n: the radius is √n (c - 1).
    # Along q = 1, where nothing is left to chance, x is the same in all n examples and the radius is c - 1.
    found = profile(pole(c), method=method, space=sl.Groups(["all"] * n), degree=10)
    exact = (c - 1.0) ** -(np.arange(10) + 2)
    np.testing.assert_allclose(found.norms, np.tile(exact, (3, 1)), rtol=1e-10 if method == "series" else 1e-3)
    assert found.dim == 1
    assert found.radius == pytest.approx(c - 1, rel=1e-9 if method == "series" else 1e-3)  # the precision asked for
    # over all examples the norms are estimates: the slope over the last five orders, from 400 directions
    estimate = profile(pole(c), degree=10, num_directions=400)
    assert estimate.radius == pytest.approx(math.sqrt(n) * (c - 1), rel=0.1)


def test_degree_above_twelve_is_measured_on_circles():
    assert (profile(pole(2.5), degree=13).errors > 0).all()
    assert (profile(pole(2.5), degree=12).errors == 0).all()


def test_the_radius_of_a_polynomial_is_infinite_and_of_too_few_orders_unknown():
    for method in ("series", "cauchy"):
        found = profile(lambda w: w.sum() ** 2, method=method)
        assert found.radius == math.inf, method
    assert math.isnan(profile(pole(2.5), degree=1).radius)


def test_the_radius_is_the_slope_of_the_last_half_of_the_orders():
    norms = np.array([100.0, 1, 100, 8, *0.5 ** np.arange(1, 5)])
    # orders 4 to 8 have log2 norms 3, -1, -2, -3, -4: the slope by least squares is (-2·3 + 1 - 3 - 2·4) / 10 = -1.6
    assert _radius(norms) == pytest.approx(2**1.6, rel=1e-12)
    assert math.isnan(_radius(np.array([1.0, 0.5, 0.0, 0.1])))


def test_constants_that_exceed_the_largest_float_do_not_matter():
    n, k = 50_000, 100
    with pytest.raises(OverflowError):
        float(math.comb(n + k - 1, k))
    found = profile(lambda w: 1 / (2 - w[0]), n=n, degree=k, num_directions=1)
    re, im = directions(0, jnp.arange(1), n)
    # 1/(1 + x_0) has P_r = (-x_0)^r
    size, orders = math.hypot(float(re[0, 0]), float(im[0, 0])), np.arange(1, k + 1)
    exact = orders * math.log(size) + (gammaln(n + orders) - gammaln(n) - gammaln(orders + 1)) / 2
    np.testing.assert_allclose(np.log(found.norms[0]), exact, atol=1e-3)  # the three digits that are asked for


def test_the_number_of_examples_is_read_from_the_owner_of_train():
    class Owner:
        num_examples = 4

        def train(self, weights):
            return weights

        def __call__(self, weights):
            return weights

    for train in (Owner().train, Owner()):
        found = sl.stability_profile(train, jnp.sum, degree=2, num_directions=1, progress=False)
        assert found.dim == 4


def test_the_plot_draws_every_direction_and_labels_its_axes():
    found = profile(pole(2.5), degree=4)
    figure, given = plt.subplots()
    own = found.plot()
    try:
        for axes in (found.plot(given), own):
            assert axes.get_xlabel() == "order r"
            assert axes.get_ylabel() == r"$\log_2$ of the estimated norm $\|P_r\|_B$"
            assert f"3 directions, trusted radius {found.radius:.2g}" in axes.get_title()
            assert axes.get_legend() is not None
            lines = axes.get_lines()
            assert len(lines) == 3 + 1
            for line, norms in zip(lines, [*found.norms, found.bombieri()], strict=True):
                np.testing.assert_array_equal(line.get_xdata(), [1, 2, 3, 4])
                np.testing.assert_allclose(line.get_ydata(), np.log2(norms), rtol=1e-14)
        assert own is not given
    finally:
        plt.close(figure)
        plt.close(own.figure)


BAD = {
    "degree 0": ({"degree": 0}, ValueError, "degree must be at least 1, got 0"),
    "no directions": ({"num_directions": 0}, ValueError, "num_directions must be at least 1"),
    "negative seed": ({"seed": -1}, ValueError, "seed must be at least 0"),
    "method": ({"method": "fourier"}, ValueError, 'method must be "series" or "cauchy", got \'fourier\''),
    "space": ({"space": 3}, TypeError, "space must be Examples"),
    "no space": ({"space": None}, TypeError, r"pass space=sketchlearn\.Examples\(n\)"),
    "query is no function": ({"query": 3}, TypeError, "query must be a function of the trained parameters, got int"),
    "query fails": ({"query": lambda w: w["a"]}, ValueError, "the query failed on what train returns"),
    "query returns a vector": ({"query": lambda w: w}, TypeError, r"one number, got an array of shape \(5,\)"),
    "query returns a tuple": ({"query": lambda w: (w[0], w[1])}, TypeError, "one array .or number., this one a pytree"),
    "query returns integers": ({"query": jnp.argmax}, TypeError, "array of dtype int64"),
}


@pytest.mark.parametrize("method", ["series", "cauchy"])
@pytest.mark.parametrize(("changes", "error", "message"), BAD.values(), ids=BAD)
def test_what_cannot_be_profiled_is_refused_with_the_reason(changes, error, message, method):
    with pytest.raises(error, match=message):
        profile(**{"query": jnp.sum, "method": method, **changes})


@pytest.mark.parametrize(("method", "error"), [("series", FloatingPointError), ("cauchy", ValueError)])
def test_a_query_that_is_not_finite_is_refused(method, error):
    with pytest.raises(error, match=r"are not finite|no finite values"):
        profile(lambda w: jnp.log(w[0] - 2), method=method)


def test_train_must_be_a_function():
    with pytest.raises(TypeError, match="train must be a function of the weights"):
        sl.stability_profile(3, jnp.sum, space=sl.Examples(3))
