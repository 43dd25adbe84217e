"""Fits of one order: exact where the equations suffice, unbiased where they do not."""

import itertools
import math

import jax.numpy as jnp
import numpy as np
import pytest

import sketchlearn as sl
from sketchlearn.deletions.directions import directions
from sketchlearn.prediction import interpolation
from sketchlearn.prediction.averages import average, powers_along
from sketchlearn.prediction.base import Estimate
from sketchlearn.prediction.fits import with_fits
from sketchlearn.prediction.interpolation import Interpolant
from sketchlearn.prediction.significance import orders_that_count

pytestmark = pytest.mark.usefixtures("x64")


def draw(m, q, seed=0):
    re, im = directions(seed, jnp.arange(m), q)
    return np.asarray(re) + 1j * np.asarray(im)


def polynomial(q, order, seed=0):
    """A random form of one order as a function of points (B, q), real or complex."""
    tensor = np.random.default_rng(seed).normal(size=(q,) * order)

    def value(x):
        return np.array([contract(tensor, row, order) for row in x])[:, None]

    return value


def contract(tensor, row, order):
    for _ in range(order):
        tensor = tensor @ row
    return tensor


@pytest.mark.parametrize("scaled", [False, True])
@pytest.mark.parametrize(("q", "order"), [(1, 1), (1, 3), (5, 1), (4, 2), (3, 3), (2, 5)])
def test_a_form_is_recovered_exactly_once_there_are_as_many_equations_as_coefficients(q, order, scaled):
    form, z = polynomial(q, order), np.random.default_rng(1).normal(size=(7, q))
    m = math.ceil(math.comb(q + order - 1, order) / 2) + 1
    scales = np.linspace(0.5, 2, q) if scaled else None
    psi = draw(m, q)
    found = Interpolant(psi, order, scales).fit(form(psi), z)
    # random equations, one or two more than unknowns: the condition of the Gram matrix stays below 1e8,
    # so of 16 digits 8 are left; values near zero are judged by the size of the others
    np.testing.assert_allclose(found.values, form(z), rtol=1e-7, atol=1e-7 * np.abs(form(z)).max())
    assert not found.residuals.any()
    assert (np.sqrt(found.variance) < 1e-6 * np.abs(form(z)).max()).all()


def test_one_equation_too_few_is_not_called_exact():
    form, psi = polynomial(4, 2), draw(4, 4)  # 8 equations, 10 unknowns
    interpolant = Interpolant(psi, 2)
    assert not interpolant.determined
    assert np.abs(interpolant.fit(form(psi), np.eye(4)).residuals).max() > 1e-3


def test_noise_of_the_coefficients_shows_in_the_variance_where_equations_are_to_spare():
    form, z, rng = polynomial(5, 1), np.eye(5), np.random.default_rng(2)
    off, said = [], []
    for seed in range(200):
        psi = draw(10, 5, seed)
        noisy = form(psi) + 1e-3 * (rng.normal(size=(10, 1)) + 1j * rng.normal(size=(10, 1)))
        found = Interpolant(psi, 1).fit(noisy, z)
        off.append(found.values - form(z))
        said.append(found.variance)
    # 1,000 squares of normal numbers, in groups of five that share a draw: the ratio is known to 10%
    assert np.mean(np.square(off)) == pytest.approx(np.mean(said), rel=0.3)


def test_residuals_are_those_of_fits_made_again_without_each_direction():
    form, m = polynomial(6, 2), 7
    psi = draw(m, 6)
    interpolant = Interpolant(psi, 2)
    y = form(psi)
    inside = interpolant.vectors.T @ np.concatenate([y.real, y.imag])
    shrinkage = 0.01
    in_closed_form = interpolant._left_out(inside, shrinkage)
    for i in range(m):
        keep = np.arange(m) != i
        less = Interpolant(psi[keep], 2)
        out = np.concatenate([y[keep].real, y[keep].imag])
        alpha = less.vectors @ ((less.vectors.T @ out) / (less.eigenvalues + shrinkage)[:, None])
        # evaluated at ψ_i by linearity in its real and imaginary equations
        plain, mixed = (less.psi @ psi[i]) ** 2, (less.psi.conj() @ psi[i]) ** 2
        real = np.concatenate([(plain + mixed).real / 2, (plain - mixed).imag / 2])
        imaginary = np.concatenate([(plain + mixed).imag / 2, (mixed - plain).real / 2])
        predicted = alpha[:, 0] @ real + 1j * (alpha[:, 0] @ imaginary)
        assert in_closed_form[i, 0] == pytest.approx(y[i, 0] - predicted, rel=1e-9)


def test_a_fit_and_the_mean_of_what_it_leaves_are_unbiased_and_less_noisy_than_the_mean():
    # 24 equations for 35 unknowns: far from exact. Averaged over 600 sketches.
    q, order, m = 5, 3, 12
    form, z = polynomial(q, order, seed=4), np.random.default_rng(5).normal(size=(1, q))
    fitted, averaged, said = [], [], []
    for seed in range(600):
        psi = draw(m, q, seed)
        inner, y = psi.conj() @ z.T, form(psi)
        fit = Interpolant(psi, order).fit(y, z)
        scale = math.comb(q + order - 1, order)
        each = scale * (inner**order * fit.residuals).real
        fitted.append(float(fit.values[0, 0] + each.mean()))
        said.append(each.var(ddof=1) / m)
        averaged.append(float(scale * (inner**order * y).real.mean()))
    truth = float(form(z)[0, 0])
    error = np.std(fitted) / math.sqrt(600)
    # the shrinkage is chosen from all directions, the left-out one too: a bias of higher order than the noise
    assert abs(np.mean(fitted) - truth) < 4 * error
    assert np.std(fitted) < np.std(averaged)
    assert np.mean(said) == pytest.approx(np.var(fitted), rel=0.35)  # heavy tails: twelve directions each


def test_what_a_fit_cannot_explain_is_left_to_the_mean():
    # values that no form of order 2 has: the fit would only add noise, so there is none
    rng, psi = np.random.default_rng(6), draw(20, 40)
    y = rng.normal(size=(20, 1)) + 1j * rng.normal(size=(20, 1))
    found = Interpolant(psi, 2).fit(y, np.eye(40)[:3])
    assert (np.abs(found.residuals) ** 2).sum() <= (np.abs(y) ** 2).sum()


def test_scales_that_match_the_form_leave_less_than_equal_ones():
    q = 12
    weights = np.array([1.0] * 3 + [0.01] * 9)  # three coordinates matter
    form = polynomial(q, 3, seed=7)
    psi, z = draw(60, q), np.ones((1, q))
    y = form(psi * weights)
    left = [np.abs(Interpolant(psi, 3, s).fit(y, z).residuals).std() for s in (None, weights**2)]
    assert left[1] < 0.2 * left[0]


@pytest.mark.parametrize("share", [0.0, 0.2, 0.7])
@pytest.mark.parametrize("order", [2, 3])
def test_the_kernel_gives_pure_powers_the_share_that_was_asked_for(order, share):
    q, m = 4, 4  # few directions, so that all are used
    scales, psi = np.array([0.5, 1.0, 1.5, 3.0]), draw(m, q)
    found = Interpolant(psi, order, scales, share)
    # the same kernel from its monomials, multinomial coefficients and scales as weights, pure powers apart
    pure, rest = np.zeros((m, m), complex), np.zeros((m, m), complex)
    for powers in itertools.product(range(order + 1), repeat=q):
        if sum(powers) == order:
            count = math.factorial(order) / math.prod(map(math.factorial, powers))
            monomial = np.prod(psi**powers, axis=1) * np.prod(scales ** (np.array(powers) / 2))
            into = pure if max(powers) == order else rest
            into += count * np.outer(monomial.conj(), monomial)
    factor = share / (1 - share) * np.trace(rest) / np.trace(pure)
    # Re P(ψ) and Im P(ψ) of a real polynomial: the sum of both diagonals of the Gram matrix is E|P(ψ)|²
    gram = (found.vectors * found.eigenvalues) @ found.vectors.T
    both = gram[:m, :m] + gram[m:, m:] + 1j * (gram[:m, m:] - gram[m:, :m])
    # the Gram matrix put together again from its eigenvectors: roundings of a few numbers, 1e-15 each
    np.testing.assert_allclose(both, rest + factor * pure, atol=1e-12 * np.abs(rest).max())
    assert found.unknowns == math.comb(q + order - 1, order) - q * (share == 0)


def test_a_form_of_pure_powers_is_found_from_few_directions_if_they_are_expected():
    q = 40
    slopes, psi = np.random.default_rng(12).normal(size=(q, 1)), draw(60, q)  # 120 equations, 820 unknowns
    y, z = psi**2 @ slopes, np.eye(q)
    error = [np.abs(Interpolant(psi, 2, None, pure).fit(y, z).values - slopes).mean() for pure in (None, 0.2, 0.9)]
    assert error[1] < 0.8 * error[0]
    assert error[2] < 0.3 * error[0]


@pytest.mark.parametrize("m", [4, 20, 60])
def test_fits_to_noise_are_rarely_called_proven(m):
    rng, outputs = np.random.default_rng(13), 400
    called = []
    for seed in range(10):
        y = rng.normal(size=(m, outputs)) + 1j * rng.normal(size=(m, outputs))
        called.append(Interpolant(draw(m, 30, seed), 2).fit(y, np.eye(30)[:1]).beyond_chance.mean())
    # 2% for one fit, of which the best of seven is taken; 4,000 outputs
    assert np.mean(called) < 0.05


def test_one_direction_proves_nothing():
    found = Interpolant(draw(1, 5), 2).fit(np.ones((1, 2), complex), np.eye(5))
    assert not found.beyond_chance.any()


def test_auto_uses_what_fits_prove_of_an_order_that_is_lost_in_noise():
    # examples of very different size, which bend by themselves more than they act together
    n, rng = 200, np.random.default_rng(14)
    size = rng.exponential(size=n) ** 2
    g = size * rng.normal(size=n)
    h = 0.02 * np.outer(size, size) * rng.normal(size=(n, n)) / n + np.diag(0.1 * size * rng.normal(size=n))

    def train(w):
        x = 1 - w
        return jnp.asarray(g) @ x + x @ jnp.asarray(h) @ x

    made = sl.sketch(train, sl.Examples(n), degree=2, num_directions=110, progress=False)
    stack = [np.sort(rng.choice(n, 5, replace=False)) for _ in range(200)]
    x = sl.Examples(n).locate(stack)
    truth = x @ g + np.einsum("bi,ij,bj->b", x, h, x)
    auto, kernel = (made.predict(lambda p: p, stack, e) for e in ("auto", "kernel"))
    lost = ~auto.orders_used[:, 1]
    assert lost.mean() > 0.8
    # the same three numbers added in another order
    np.testing.assert_allclose(
        auto.change, auto.terms[:, 0] + np.where(lost, auto.shrunk_change, auto.terms[:, 1]), rtol=1e-12
    )
    assert (auto.shrunk_change[~lost] == 0).all()
    first = np.sqrt(np.mean((auto.terms[:, 0] - truth)[lost] ** 2))
    assert np.sqrt(np.mean((auto.change - truth)[lost] ** 2)) < 0.9 * first
    assert np.sqrt(np.mean((kernel.change - truth)[lost] ** 2)) > first
    assert any("shrunk estimates of them are used in" in text for text in auto.warnings)


def test_least_squares_solve_the_first_order_and_average_the_others():
    tensor = np.random.default_rng(8).normal(size=(2, 10))

    def train(w):
        x = 1 - w
        return jnp.asarray(tensor) @ x + (jnp.asarray(tensor) @ x) ** 2

    made = sl.sketch(train, sl.Examples(10), degree=2, num_directions=5, progress=False)  # 10 equations, 10 unknowns
    found = made.predict(lambda p: p, [0, 3], estimator="least_squares")
    mean = made.predict(lambda p: p, [0, 3], estimator="mean")
    np.testing.assert_allclose(
        found.terms[0], tensor[:, [0, 3]].sum(1), rtol=1e-8
    )  # 10 random equations for 10 unknowns cost some digits
    np.testing.assert_allclose(found.terms[1], mean.terms[1], rtol=1e-10)  # the same sums, in another order


def test_intervals_widen_when_directions_are_removed():
    tensor = np.random.default_rng(9).normal(size=12)

    def train(w):
        return (jnp.asarray(tensor) @ (1 - w)) ** 3

    widths = []
    for m in (24, 96, 182):  # 364 unknowns of order three
        made = sl.sketch(train, sl.Examples(12), degree=3, num_directions=m, progress=False)
        widths.append(float(made.predict(lambda p: p, [0, 1, 2], estimator="kernel").standard_error))
    assert widths[0] > widths[1] > 100 * widths[2]


@pytest.mark.parametrize("labels", [["a"] * 6, ["a", "b", "b", "c", "c", "c"]])
def test_whole_groups_down_to_a_single_one_are_exact(labels):
    def train(w):
        return jnp.sum(w * jnp.arange(1.0, 7.0)) ** 2

    made = sl.sketch(train, sl.Groups(labels), degree=2, num_directions=12, progress=False)
    found = made.predict(lambda p: p, ["a"])
    gone = sum(i for i, name in enumerate(labels, 1) if name == "a")
    assert float(found.value) == pytest.approx((21.0 - gone) ** 2, abs=1e-9)


def test_with_fits_of_nothing_is_the_mean():
    psi = draw(30, 4)
    c = np.stack([polynomial(4, r)(psi) for r in (1, 2)], 1)
    z = np.ones((1, 4))
    nothing = np.zeros((1, 1))
    fits = [interpolation.Fitted(nothing, c[:, r], nothing, np.zeros(1, bool)) for r in range(2)]
    powers = powers_along(psi, z, 2)
    found = with_fits(powers, fits, 4, np.ones((1, 2, 1)), np.ones((1, 2, 1)))
    for a, b in zip(found[:2], average(powers, c, 4), strict=True):
        np.testing.assert_array_equal(a, b)


def test_what_is_shrunk_counts_the_noisy_mean_by_the_share_that_is_expected_not_to_be_noise():
    psi, z = draw(30, 4), np.ones((1, 4))
    c = polynomial(4, 1)(psi)[:, None]
    fits = [interpolation.Fitted(np.full((1, 1), 0.5), c[:, 0], np.zeros((1, 1)), np.ones(1, bool))]
    powers = powers_along(psi, z, 1)
    one, nothing = np.ones((1, 1, 1)), np.zeros((1, 1, 1))
    error = with_fits(powers, fits, 4, one, one).standard_errors
    for ratio in (0.0, 0.5, 1.0, 7.0, 1e9):  # expected size over standard error
        found = with_fits(powers, fits, 4, ratio * error, ratio * error)
        share = ratio**2 / (1 + ratio**2)  # the same formula in float64, rounded a few times in another order
        np.testing.assert_allclose(found.shrunk, 0.5 + share * (found.terms - 0.5), rtol=1e-12)
        np.testing.assert_allclose(found.shrunk_error, share * error**2, rtol=1e-12)  # the mean square of what remains
        more = with_fits(powers, fits, 4, ratio * error, 3 * one)  # there is more than the mean shows
        np.testing.assert_array_equal(more.shrunk, found.shrunk)
        # the same formula in float64 again
        np.testing.assert_allclose(more.shrunk_error, share**2 * error**2 + (1 - share) ** 2 * 9, rtol=1e-12)
    exact = [fits[0]._replace(residuals=np.zeros_like(c[:, 0]))]
    found = with_fits(powers, exact, 4, nothing, nothing)
    np.testing.assert_array_equal(found.shrunk, found.terms)  # no noise, no share


def test_an_order_is_used_if_it_is_expected_to_exceed_its_error_or_is_seen_to_be_there():
    def used(terms, errors, expected, known=None):
        covariance = np.diag(np.square(errors))[None, :, :, None]
        found, expected = (np.array(a, float)[None, :, None] for a in (terms, expected))
        return orders_that_count(Estimate(found, covariance, expected=expected), known)[0, :, 0].tolist()

    assert used([1, 0.1], [0, 0.2], [1, 0.3]) == [True, True], "expected to be larger than the error"
    assert used([1, 0.1], [0, 0.2], [1, 0.1]) == [True, False]
    assert used([1, 0.7], [0, 0.2], [1, 0.1]) == [True, True], "three and a half errors, a fifth of the first order"
    assert used([0.1, 0.7], [0, 0.2], [1, 0.1]) == [True, False], "nothing before says that it can be so large"
    assert used([1, 0.5], [0, 0.2], [1, 0.1]) == [True, False], "chance may be two and a half errors"
    assert used([1, 0.1, 0.1], [0, 0.2, 0], [1, 0.1, 1]) == [True, False, False], "no order after one that is lost"
    assert used([0, 0.7], [0, 0.2], [0, 0.1], np.ones((1, 1))) == [True, True], "what is known stands before"
    assert used([1, 0.1], [0.3, 0], [0.1, 1]) == [False, False], "a first order of three errors may be chance"
    assert used([1, 0.1], [0.2, 0], [0.1, 1]) == [True, True], "one of five errors is there"


def test_auto_drops_orders_noisier_than_decaying_terms_can_be_large():
    # 100 deletions of 5 examples of 200, 110 directions: the first order is solved for, the second is noise
    n, rng = 200, np.random.default_rng(10)
    g, h = jnp.asarray(rng.normal(size=n)), jnp.asarray(rng.normal(size=(n, n)) / n)

    def train(w):
        x = 1 - w
        return g @ x + x @ h @ x

    made = sl.sketch(train, sl.Examples(n), degree=2, num_directions=110, progress=False)
    stack = [np.sort(rng.choice(n, 5, replace=False)) for _ in range(100)]
    x = sl.Examples(n).locate(stack)
    truth = x @ np.asarray(g) + np.einsum("bi,ij,bj->b", x, np.asarray(h), x)
    error = {e: np.sqrt(np.mean((made.predict(lambda p: p, stack, e).change - truth) ** 2)) for e in sl.estimators()}
    assert error["auto"] <= 1.1 * min(error.values())
    assert error["auto"] < 0.2 * error["mean"]


def test_a_fit_that_would_cost_too_much_is_replaced_by_the_mean_and_said(monkeypatch):
    monkeypatch.setattr(interpolation, "MOST_EQUATIONS", 20)
    made = sl.sketch(lambda w: w.sum() ** 2, sl.Examples(9), degree=2, num_directions=40, progress=False)
    found, mean = (made.predict(lambda p: p, [0, 1], e) for e in ("kernel", "mean"))  # 9 unknowns at order 1, 45 at 2
    assert found.warnings[-1] == "orders [2] are averaged, not fitted: more than 20 equations would be solved."
    assert found.terms[0] == pytest.approx(-36.0, rel=1e-9)  # 2 · 9 · (-2)
    assert found.terms[1] == pytest.approx(mean.terms[1], rel=1e-12)


def test_an_order_that_is_solved_stays_solved_with_more_directions(monkeypatch):
    monkeypatch.setattr(interpolation, "MOST_EQUATIONS", 10)
    form, z = polynomial(6, 1, seed=3), np.ones((1, 6))
    exact = form(z.astype(complex)).real
    for m in (3, 5, 6, 40):  # twice 6 directions are more equations than may be solved; five directions are taken
        solver = Interpolant(psi := draw(m, 6), 1)
        assert solver.num_used <= 5
        np.testing.assert_allclose(solver.fit(form(psi), z).values, exact, rtol=1e-12)  # condition at most 82


def test_as_many_equations_as_unknowns_have_the_standard_error_of_their_rounding():
    ratios = []
    for seed in range(20):
        form, psi, z = polynomial(10, 1, seed=seed), draw(5, 10, seed=seed), np.ones((1, 10))
        found = Interpolant(psi, 1).fit(form(psi), z)
        ratios.append(abs(found.values - form(z.astype(complex)).real)[0, 0] / np.sqrt(found.variance)[0, 0])
    assert np.median(ratios) < 1  # an error of rounding is bounded, not normal: the factor is a worst case
    assert max(ratios) < 4


def test_coordinates_are_scaled_only_where_their_first_order_is_free_of_noise():
    """Scales guessed from the directions that are averaged would bias the average."""

    def train(w):
        return jnp.stack([w @ jnp.arange(1.0, 13.0), jnp.prod(w)])

    for m, additive, scaled in ((5, False, False), (6, False, True), (5, True, True)):
        made = sl.sketch(train, sl.Examples(12), degree=2, num_directions=m, additive=additive, progress=False)
        how = made.predict(lambda p: p.sum() ** 2, [0, 3], "kernel").estimated_by[1]
        assert ("scaled by their first order" in how) == scaled, how
    kept = sl.sketch(train, sl.Examples(12), 2, 5, additive=True, queries={"q": lambda p: p.sum() ** 2}, progress=False)
    assert "scaled by their first order" in kept.predict("q", [0, 3], "kernel").estimated_by[1]


def test_directions_that_repeat_each_other_are_not_counted_twice():
    form, psi, z = polynomial(4, 1, seed=11), draw(2, 4), np.ones((1, 4))
    repeated = np.concatenate([psi[:1]] * 6)  # twelve equations, two of them different
    found = Interpolant(repeated, 1).fit(form(repeated), z)
    assert np.isfinite(found.values).all()
    once = Interpolant(psi, 1).fit(form(psi), z)  # four equations for four unknowns
    np.testing.assert_allclose(once.values, form(z.astype(complex)).real, rtol=1e-9)  # a random 4 by 4 system
    mixed = np.concatenate([repeated, psi[1:]])  # all that is needed is there, at the end
    assert not Interpolant(repeated, 1).determined
    np.testing.assert_allclose(Interpolant(mixed, 1).fit(form(mixed), z).values, once.values, rtol=1e-6)


def test_the_error_of_an_exactly_determined_order_in_float32_is_within_its_standard_error():
    tensor = jnp.asarray(np.random.default_rng(12).normal(size=40), jnp.float32)
    made = sl.sketch(
        lambda w: tensor @ (1 - w), sl.Examples(40), 1, 20, dtype=jnp.float32, progress=False
    )  # 40 equations for 40 unknowns: roundings of 6e-8 are multiplied by the condition number
    stack = np.eye(40, dtype=bool)
    found = made.predict(lambda p: p, stack, estimator="kernel")
    off = np.abs(found.terms[:, 0] - np.asarray(tensor, float)) / found.standard_errors[:, 0]
    assert off.max() < 5  # standard errors
    assert off.max() > 0.01, "the standard error is not merely huge"


@pytest.mark.parametrize("num_directions", [4, 8, 12])
def test_least_squares_are_never_worse_than_the_mean_in_expectation(num_directions):
    """Order one of 20 coordinates from 8, 16 and 24 equations: too few, nearly enough, and more than enough."""
    q, rng = 20, np.random.default_rng(0)
    forms, x = rng.normal(size=(30, q)), rng.normal(size=(30, q))
    squared = {"least_squares": [], "mean": []}
    for key in range(10):
        made = sl.sketch(lambda w: forms @ w, sl.Examples(q), 1, num_directions, key, progress=False)
        for e, found in squared.items():
            found.append(np.mean((made.predict(lambda p: p, x, e).change + x @ forms.T) ** 2))
    ratio = np.mean(squared["least_squares"]) / np.mean(squared["mean"])
    assert ratio < {4: 1.0, 8: 0.8, 12: 1e-9}[num_directions]  # the last is solved for: rounding


def test_auto_is_within_a_tenth_of_the_best_estimator_on_groups_of_names():
    experiment = sl.microgpt.paper_experiment(num_examples=80)
    space = sl.Groups([min(ord(name[0]) - ord("a"), 11) // 2 for name in experiment.names])
    query = experiment.query(["max", "maya", "oliver", "emma"])
    asked = [[g] for g in space.names] + [[a, b] for a in space.names for b in space.names if a < b]
    truth = sl.retrain(experiment.train, 1 - np.stack([space.embed(space.locate(d)) for d in asked]), query)
    made = sl.sketch(experiment.train, space, 3, 40, progress=False)
    error = {
        e: np.sqrt(np.mean((made.predict(query, asked, e).value - truth) ** 2))
        for e in ("auto", "mean", "median_of_means", "least_squares", "kernel")
    }
    assert error["auto"] <= 1.1 * min(error.values()), error
