"""The sketch against learners whose Taylor terms are known exactly, and what it says when asked badly."""

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support.learners import SIGMAS, Polynomial, Ridge

import sketchlearn as sl
from sketchlearn.deletions.directions import directions
from sketchlearn.execution import memory
from sketchlearn.execution.blocks import blocks as cut_into_blocks
from sketchlearn.prediction.averages import average, powers_along
from sketchlearn.prediction.base import Estimate
from sketchlearn.prediction.calibration import CALIBRATION
from sketchlearn.prediction.estimators.median_of_means import groups_for, median_of_groups
from sketchlearn.sketching.jets import JetsInMemory

pytestmark = pytest.mark.usefixtures("x64")


def psi(made):
    """The directions of a sketch, (m, q) complex."""
    re, im = directions(made.seed, jnp.arange(made.num_directions), made.space.dim)
    return np.asarray(re) + 1j * np.asarray(im)


@pytest.fixture(scope="module")
def many():
    """A cubic learner, its sketch along many directions, and some deletions with their exact terms."""
    with jax.enable_x64(True):
        learner = Polynomial()
        made = sl.sketch(
            learner.train, sl.Examples(4), degree=3, num_directions=40_000, batch_size=40_000, progress=False
        )
        made.measure(learner.query)
    x = np.array([[1.0, 0, 0, 0], [1, 1, 0, 1], [0.25, -0.5, 1, 0]])
    exact = np.stack([[learner.term(r, row) for r in (1, 2, 3)] for row in x])
    return learner, made, x, exact


def test_the_mean_is_unbiased_at_every_order(many):
    learner, made, x, exact = many
    found = made.predict(learner.query, x, estimator="mean")
    assert found.terms.shape == (3, 3, 2)
    assert (found.standard_errors < 0.1 * np.abs(exact).max()).all(), "too noisy for the test to mean anything"
    assert (np.abs(found.terms - exact) < SIGMAS * found.standard_errors).all()
    np.testing.assert_allclose(found.baseline, np.tile(learner.constant, (1,)), rtol=1e-14)  # one sum, in other order
    whole = learner.constant + exact.sum(1)
    assert (np.abs(found.value - whole) < SIGMAS * found.standard_error).all()


def test_the_standard_error_of_the_change_counts_how_the_orders_vary_together(many):
    learner, made, x, _ = many
    _, c = made.measure(learner.query)
    inner = made.directions.conj() @ np.atleast_2d(x).T
    scale = [math.comb(4 + r - 1, r) for r in (1, 2, 3)]
    for estimator, factor in (("mean", 1.0), ("mean", 0.1)):
        found = made.predict(learner.query, factor * x, estimator=estimator)
        assert found.orders_used.all()
        for i in range(3):
            a = factor * inner[:, i]
            change = sum(scale[r] * (a[:, None] ** (r + 1) * c[:, r]).real for r in range(3))
            spread = change.std(0, ddof=1) / math.sqrt(made.num_directions)
            np.testing.assert_allclose(found.standard_error[i], spread, rtol=1e-9)  # means subtracted before or after
            apart = np.sqrt((found.standard_errors[i] ** 2).sum(0))
            assert (np.abs(found.standard_error[i] / apart - 1) > 1e-3).all(), "the orders do vary together here"


@pytest.mark.parametrize("estimator", ["mean", "median_of_means"])
def test_standard_errors_say_how_far_off_the_estimate_is(many, estimator):
    learner, made, x, exact = many
    _, c = made.measure(learner.query)
    powers, groups = powers_along(made.directions, x, 3), np.arange(made.num_directions).reshape(200, -1)
    off, off_change = [], []
    for group in groups:  # 200 sketches of 200 directions each, with nothing in common
        if estimator == "mean":
            found = Estimate(*average(powers[:, group], c[group], 4))
            change = found.terms.sum(1)
        else:
            found = median_of_groups(powers[:, group], c[group], 4, 20)
            change = found.change
        off.append((found.terms - exact) / found.standard_errors)
        off_change.append((change - exact.sum(1)) / np.sqrt(found.covariance.sum((1, 2))))
    # Within two standard errors lie 95.4% of 200 x 6 draws, of which some 400 are independent: ± 1% each sigma.
    # Estimated and not quite normal errors (and 20 groups only, for the median) move that by some percent.
    for z in (*np.moveaxis(np.array(off), 2, 0), np.array(off_change)):
        assert 0.90 < (np.abs(z) < 2).mean() < 0.985
        assert 0.88 < np.sqrt((z**2).mean()) < 1.2


def test_the_covariance_formula_is_the_brute_force_covariance_of_the_mean():
    rng = np.random.default_rng(0)
    m, b, k, q, dim = 7, 3, 4, 2, 5
    inner = rng.normal(size=(m, b)) + 1j * rng.normal(size=(m, b))
    c = rng.normal(size=(m, k, q)) + 1j * rng.normal(size=(m, k, q))
    found = Estimate(*average(np.stack([inner**r for r in range(1, k + 1)]), c, dim))
    for i, j in itertools.product(range(b), range(q)):
        each = np.array([math.comb(dim + r - 1, r) * (inner[:, i] ** r * c[:, r - 1, j]).real for r in range(1, k + 1)])
        # the formula subtracts means after the sum over directions: some digits of 1e-16 are lost
        np.testing.assert_allclose(found.terms[i, :, j], each.mean(1), rtol=1e-12)
        np.testing.assert_allclose(
            found.covariance[i, :, :, j], np.cov(each) / m, rtol=1e-11, atol=1e-13 * np.cov(each).max()
        )


def test_the_first_standard_error_is_that_of_the_fourth_moments_of_the_sphere(many):
    learner, made, x, _ = many
    n, g = learner.n, learner.tensors[0]
    # E[ψ̄_i ψ̄_j ψ_k ψ_l] = (δ_ik δ_jl + δ_il δ_jk) / (n (n + 1)) gives, for u = n <ψ,x> g·ψ and
    # (Re u)² = (|u|² + Re u²) / 2: E|u|² = n/(n+1) (|x|²|g|² + (g·x)²) and E u² = n/(n+1) 2 (g·x)².
    along = g @ x[1]
    variance = n / (2 * (n + 1)) * (x[1] @ x[1] * (g**2).sum(1) + 3 * along**2) - along**2
    found = made.predict(learner.query, x[1], estimator="mean")
    # a standard deviation is known from 40,000 draws to about 0.5%
    np.testing.assert_allclose(found.standard_errors[0], np.sqrt(variance / made.num_directions), rtol=0.03)


def test_every_jet_of_ridge_regression_is_the_resolvent_recursion():
    ridge = Ridge()
    made = sl.sketch(ridge.train, sl.Examples(8), degree=4, num_directions=3, progress=False)
    along = jax.jit(lambda direction: sl.taylor_coefficients(ridge.train, jnp.ones(8), -direction, 4))
    for i, direction in enumerate(psi(made)):
        exact = ridge.jet(direction, 4)
        np.testing.assert_allclose(made.parameters, exact[0].real, rtol=1e-12)
        # a solve of condition number below 100, repeated: some digits of 1e-16
        np.testing.assert_allclose(made.coefficients[i], exact[1:], rtol=0, atol=1e-12 * np.abs(exact).max())
        np.testing.assert_allclose(made.coefficients[i], along(direction)[1:], rtol=0, atol=1e-13 * np.abs(exact).max())
    real = psi(made)[0].real
    nested = jax.jit(lambda: sl.reference.nested_jvp(ridge.train, jnp.ones(8), -real, 4))()
    np.testing.assert_allclose(nested, ridge.jet(real, 4), rtol=0, atol=1e-12)  # as above


def test_with_one_candidate_every_direction_is_exact_and_the_series_is_the_leave_one_out_formula():
    ridge, i, degree = Ridge(), 2, 12
    made = sl.sketch(ridge.train, sl.Candidates([i], 8), degree=degree, num_directions=4, progress=False)
    found = made.predict(lambda theta: theta, [i], estimator="mean")
    solved = np.linalg.solve(ridge.normal, ridge.phi[i])
    leverage, theta = ridge.phi[i] @ solved, ridge.jet(np.zeros(8), 0)[0]
    # Sherman and Morrison: θ(t) = θ - t A⁻¹φ e / (1 - t h), whose coefficients are -A⁻¹φ e h^(r-1)
    exact = -np.outer(leverage ** np.arange(degree), solved * (ridge.y[i] - ridge.phi[i] @ theta))
    # |ψ| = 1 in one dimension, up to the float32 draw that is normalised in float64: twelve powers of it
    np.testing.assert_allclose(found.terms, exact, rtol=1e-11)
    # the spread of equal numbers is the rounding of their squares' mean: sqrt(1e-16) of their size
    assert (found.standard_errors < 1e-7 * np.abs(exact).max()).all()
    missing = np.abs(ridge.without(i) - found.value)
    # the rest of a geometric series; its estimate takes the first term's size for that of the next, so it is above
    np.testing.assert_allclose(missing, np.abs(exact[-1]) * leverage / (1 - leverage), rtol=1e-6)
    # in one dimension typical sizes are the terms: they go on by their own ratio, and the first term as it is
    ratio = leverage * degree**2 / (degree**2 - 1)
    typical = CALIBRATION.deletion_excess * np.abs(exact[-1]) * ratio * np.hypot(1, ratio)
    own = np.abs(exact[0]) * np.sqrt(1 / 8 / CALIBRATION.full_bend)
    # the terms are known to 1e-11 (above), and their ratio is taken of terms that are 1e-4 of the first
    np.testing.assert_allclose(found.truncation, np.hypot(typical, own), rtol=1e-6)
    assert (found.truncation > missing).all()


def test_leaving_out_a_ridge_example_lies_inside_the_interval():
    ridge = Ridge()
    made = sl.sketch(ridge.train, sl.Examples(8), degree=3, num_directions=4000, batch_size=4000, progress=False)
    found = made.predict(lambda theta: theta, [[i] for i in range(8)])
    truth = np.stack([ridge.without(i) for i in range(8)])
    low, high = found.interval(0.999)
    assert ((low <= truth) & (truth <= high)).all()
    # at 99.9% (1.7 times the width of 95%) and an eighth of the data: no wider than five times the largest effect
    assert ((high - low).max(0) < 5 * np.abs(truth - found.baseline).max(0)).all(), "an interval that says something"


def test_block_size_changes_nothing_but_rounding(monkeypatch):
    learner = Polynomial()

    def coefficients(batch_size):
        made = sl.sketch(learner.train, sl.Examples(4), num_directions=7, batch_size=batch_size, progress=False)
        return np.concatenate([np.asarray(c).ravel() for c in jax.tree.leaves(made.coefficients)])

    whole = coefficients(7)
    # sums of a few products may be taken in another order: 1e-16 each
    np.testing.assert_allclose(coefficients(3), whole, rtol=1e-12)
    monkeypatch.setattr(memory, "free_memory", lambda: 5e3)  # bytes: two directions
    np.testing.assert_allclose(coefficients(None), whole, rtol=1e-12)


@pytest.mark.parametrize("batch_size", [3, 7])
def test_the_directions_of_the_jets_are_those_of_the_inner_products(batch_size):
    made = sl.sketch(lambda w: w, sl.Examples(20), degree=1, num_directions=7, batch_size=batch_size, progress=False)
    # the same float32 Gaussians; their norm is a float64 sum, whose order may depend on the block
    np.testing.assert_allclose(-made.coefficients[:, 0].conj(), made.directions.conj(), rtol=1e-14)


def test_blocks_cover_every_direction_once_and_have_nearly_one_size():
    for count, largest in [(1, 128), (128, 128), (129, 128), (500, 128), (7, 3), (5, 1)]:
        blocks = list(cut_into_blocks(count, largest))
        assert [i for start, stop in blocks for i in range(start, stop)] == list(range(count))
        sizes = [stop - start for start, stop in blocks]
        assert max(sizes) <= largest
        assert len(blocks) == math.ceil(count / largest)
        assert len(set(sizes[:-1])) <= 1


def test_the_key_and_only_the_key_decides_the_sketch():
    learner = Polynomial()

    def coefficients(key, num_directions=3):
        made = sl.sketch(
            learner.train, sl.Examples(4), degree=2, num_directions=num_directions, seed=key, progress=False
        )
        return made.coefficients["a"]

    first = coefficients(5)
    np.testing.assert_array_equal(coefficients(5), first)
    assert np.abs(coefficients(6) - first).min() > 0
    # rounding: a block of another size may sum in another order
    np.testing.assert_allclose(coefficients(5, num_directions=5)[:3], first, rtol=1e-12)


def test_many_deletions_and_many_outputs_at_once_are_the_same_as_one_by_one(many):
    learner, made, x, _ = many
    scalars = [lambda p, j=j: learner.query(p)[j] for j in range(2)]
    for estimator in ("mean", "median_of_means", "auto"):
        names = ["value", "change", "terms"]
        if estimator != "auto":  # whose errors are rounding here, the fits being exact
            names += ["standard_errors", "standard_error", "truncation"]
        whole = made.predict(learner.query, x, estimator=estimator)
        for i, row in enumerate(x):
            alone = made.predict(learner.query, row, estimator=estimator)
            for j in range(2):
                scalar = made.predict(scalars[j], row, estimator=estimator)
                for name in names:
                    of_all, of_one = getattr(whole, name)[i], getattr(alone, name)
                    # matrix products over 40,000 directions in another order: 1e-16 sqrt(40,000) and a margin
                    np.testing.assert_allclose(of_one, of_all, rtol=1e-10, err_msg=name)
                    np.testing.assert_allclose(getattr(scalar, name), of_all[..., j], rtol=1e-10, err_msg=name)
                np.testing.assert_array_equal(scalar.orders_used, whole.orders_used[i][..., j])
                assert np.shape(scalar.value) == ()
                assert scalar.terms.shape == (3,)
                assert scalar.baseline == whole.baseline[j]


def test_a_query_with_axes_keeps_them_last():
    learner = Polynomial(outputs=6)
    made = sl.sketch(learner.train, sl.Examples(4), degree=2, num_directions=8, progress=False)
    found = made.predict(lambda p: learner.query(p).reshape(2, 3), [[0], [1], [2, 3]])
    flat = made.predict(learner.query, [[0], [1], [2, 3]])
    assert found.value.shape == (3, 2, 3)
    assert found.terms.shape == (3, 2, 2, 3)
    assert found.baseline.shape == (2, 3)
    np.testing.assert_allclose(found.terms.reshape(3, 2, 6), flat.terms, rtol=1e-12)  # the same sums, reordered


@pytest.mark.parametrize(
    "space", [sl.Candidates([5, 0, 3], 8), sl.Groups(["u", "v", "u", "w", "w", "w", "v", "u"])], ids=repr
)
def test_a_smaller_space_has_the_jets_of_its_embedded_directions(space):
    ridge = Ridge()
    made = sl.sketch(ridge.train, space, degree=3, num_directions=4, progress=False)
    for direction, got in zip(psi(made), made.coefficients, strict=True):
        exact = ridge.jet(np.asarray(space.embed(direction)), 3)
        np.testing.assert_allclose(got, exact[1:], rtol=0, atol=1e-12 * np.abs(exact).max())
    # and is the sketch of all examples of a training run that has q of them
    inner = sl.sketch(
        lambda v: ridge.train(1 - space.embed(1 - v)),
        sl.Examples(space.dim),
        degree=3,
        num_directions=4,
        progress=False,
    )
    np.testing.assert_allclose(inner.coefficients, made.coefficients, rtol=1e-9, atol=1e-13)


def test_a_small_space_predicts_with_less_noise_at_the_same_number_of_directions():
    learner = Polynomial(n=30, sizes=(1,))
    labels = np.arange(30) // 10
    errors = {}
    for space, delete in ((sl.Examples(30), labels == 1), (sl.Groups(labels), 1)):
        made = sl.sketch(learner.train, space, degree=1, num_directions=300, progress=False)
        found = made.predict(learner.query, delete, estimator="mean")
        truth = learner.term(1, (labels == 1).astype(float))
        assert (np.abs(found.terms[0] - truth) < SIGMAS * found.standard_errors[0]).all()
        errors[space.dim] = found.standard_errors[0]
    # the variance is at most |x|²|g|² in the coordinates of the space: 10 · 30 against 1 · (3 sums of 10 g's)²
    assert (errors[3] < errors[30]).all()


def test_the_median_of_means_is_the_median_of_the_means_of_groups():
    rng = np.random.default_rng(1)
    powers, c = rng.normal(size=(2, 9, 2)) + 0j, rng.normal(size=(9, 2, 3)) + 1j * rng.normal(size=(9, 2, 3))
    found = median_of_groups(powers, c, 4, 3)
    means = np.stack([average(powers[:, g], c[g], 4)[0] for g in np.split(np.arange(9), 3)])
    np.testing.assert_array_equal(found.terms, np.median(means, axis=0))
    np.testing.assert_array_equal(found.change, np.median(means.sum(2), axis=0))


def test_one_wild_direction_moves_the_mean_but_not_the_median_of_means(many):
    learner, made, x, exact = many
    _, c = made.measure(learner.query)
    powers, wild = powers_along(made.directions[:2000], x, 3), c[:2000].copy()
    wild[17] *= 1e6
    mean = average(powers, wild, 4)[0]
    median = median_of_groups(powers, wild, 4, groups_for(0.05, 2000))
    errors = Estimate(*average(powers, c[:2000], 4)).standard_errors
    assert (np.abs(mean - exact) > 20 * errors).all()
    # a median's standard error is sqrt(π/2) = 1.25 times a mean's
    assert (np.abs(median.terms - exact) < SIGMAS * 1.25 * errors).all()


def test_groups_for_asks_for_eight_times_the_logarithm_within_half_the_directions():
    assert groups_for(math.exp(-2), 1000) == 16
    assert groups_for(1e-9, 10) == 5
    assert groups_for(0.9, 10) == 2, "the spread of one group would be zero"
    assert groups_for(0.99, 10) == 2


def test_auto_drops_the_orders_that_are_noise_and_says_so():
    learner = Polynomial(n=40, outputs=1, sizes=(3, 0.01, 0.01))
    made = sl.sketch(learner.train, sl.Examples(40), degree=3, num_directions=100, seed=4, progress=False)
    x = np.sign(learner.tensors[0][0])  # aligned with the gradient, so that the first order is clear
    auto, kernel = (made.predict(lambda p: p["a"][0], x, estimator=estimator) for estimator in ("auto", "kernel"))
    np.testing.assert_array_equal(auto.orders_used, [True, False, False])
    assert kernel.orders_used.all()
    np.testing.assert_array_equal(auto.terms, kernel.terms)
    assert auto.change == pytest.approx(auto.terms[0] + auto.shrunk_change, rel=1e-14)
    assert kernel.shrunk_change == 0
    assert kernel.change == pytest.approx(kernel.terms.sum(), rel=1e-14)
    assert auto.standard_error == pytest.approx(auto.standard_errors[0], rel=1e-14)  # the square root of a square
    # no cancellation in it, all weights are moved, and the deletion is chosen for the query: the first order;
    # the typical size of what is lost and of what follows adds a hundredth
    own = abs(auto.terms[0])
    assert own < auto.truncation < 1.02 * own
    assert any(
        "orders dropped because noise exceeds them, of 1 predictions: 1 at order 2, 1 at order 3; shrunk estimates "
        "of them are used in 1" in w
        for w in auto.warnings
    )
    assert not any("dropped" in w for w in kernel.warnings)
    assert auto.terms[0] == pytest.approx(learner.term(1, x)[0], rel=1e-10)  # 200 equations for 40 unknowns


def test_auto_keeps_what_is_clear_without_a_warning(many):
    learner, made, x, _ = many
    found = made.predict(learner.query, 0.1 * x[0])
    assert found.orders_used.all()
    assert found.warnings == ()


def test_a_first_order_that_vanishes_does_not_hide_a_clear_second():
    made = sl.sketch(lambda w: w, sl.Examples(6), degree=3, num_directions=100, progress=False)
    found = made.predict(lambda w: jnp.sum((w - 1) ** 2), [3, 4])  # how far the parameters moved
    assert found.orders_used.all()
    assert found.value == pytest.approx(2, rel=1e-12)  # 200 equations for 21 and 56 unknowns: rounding
    assert found.warnings == ()


def test_terms_that_are_exactly_zero_decay():
    made = sl.sketch(lambda w: w, sl.Examples(6), degree=3, num_directions=100, progress=False)
    found = made.predict(lambda w: w @ jnp.arange(6.0), [3, 4])
    assert found.warnings == ()
    alone = sl.sketch(lambda w: w.sum() ** 3, sl.Examples(6), 3, 100, progress=False, additive=True)
    one = alone.predict(lambda p: p, [2])
    np.testing.assert_array_equal(one.terms, 0)
    assert not any("decay" in text for text in one.warnings)


def test_a_median_that_cannot_promise_what_was_asked_says_what_it_can():
    made = sl.sketch(lambda w: w.sum(), sl.Examples(3), 1, num_directions=40, progress=False)
    found = made.predict(lambda p: p, [0], "median_of_means")  # 24 groups would be needed for 5%, 20 can be made
    assert any(f"guarantee a failure probability of {math.exp(-20 / 8):.2g}, not 0.05" in w for w in found.warnings)
    met = made.predict(lambda p: p, [0], "median_of_means", failure=0.1)
    assert not any("guarantee" in w for w in met.warnings)


def test_a_prediction_says_how_each_order_was_estimated():
    learner = Polynomial(n=12, outputs=2)
    made = sl.sketch(learner.train, sl.Examples(12), degree=3, num_directions=40, progress=False)
    for e in ("mean", "median_of_means"):
        assert made.predict(learner.query, [0], e).estimated_by == (e.replace("_", " "),) * 3
    assert made.predict(learner.query, [0], "least_squares").estimated_by == ("solved for", "mean", "mean")
    one, two, three = made.predict(learner.query, [0]).estimated_by  # 80 equations for 12, 78 and 364 unknowns
    assert (one, two) == ("solved for", "solved for")
    assert three.startswith("kernel, and the mean of what it leaves; coordinates scaled")
    gradient = sl.gradient(learner.train, learner.query, sl.Examples(12))
    assert made.predict(learner.query, [0], gradient=gradient).estimated_by[0] == "the gradient given"
    additive = sl.sketch(learner.train, sl.Examples(12), 3, 40, progress=False, additive=True)
    assert additive.predict(learner.query, [0]).estimated_by[0] == "each coordinate by itself"


def test_terms_that_grow_are_warned_about(many):
    learner, made, x, _ = many
    found = made.predict(learner.query, 100 * x[0])
    assert any("the terms do not decay in 2 of 2 predictions" in w for w in found.warnings)


def test_a_first_order_lost_in_noise_is_kept_but_warned_about():
    learner = Polynomial(n=40, outputs=1, sizes=(1,))
    g = learner.tensors[0][0]
    x = np.eye(40)[0] - g * g[0] / (g @ g)  # orthogonal to the gradient: the truth is zero
    made = sl.sketch(learner.train, sl.Examples(40), degree=1, num_directions=50, seed=1, progress=False)
    found = made.predict(lambda p: p["a"][0], x)
    assert abs(found.terms[0]) < found.standard_errors[0], "the key is chosen so"
    assert found.orders_used.all()
    assert any("noise dominates even the first order in 1 of 1 predictions: give that" in w for w in found.warnings)


@pytest.mark.parametrize("m", [4, 12, 27])  # of the 30 at which order one is solved for
@pytest.mark.parametrize("sizes", [(1,), (1, 0.1), (1, 0.3, 0.1)])
def test_a_sketch_of_too_few_directions_errs_no_more_than_to_say_that_nothing_changes(sizes, m):
    learner = Polynomial(n=60, outputs=10, sizes=[s / 60 ** (r / 2) for r, s in enumerate(sizes)])
    made = sl.sketch(learner.train, sl.Examples(60), len(sizes), m, seed=3, progress=False)
    for fraction in (0.02, 0.1, 0.5):
        x = sl.random_deletions(60, fraction, 50).astype(float)
        truth = np.stack([sum(learner.term(r, row) for r in range(1, len(sizes) + 1)) for row in x])
        found = made.predict(learner.query, x)
        error = np.sqrt(((found.change - truth) ** 2).mean() / (truth**2).mean())
        assert error < 1.05  # that of zero; the share that counts is itself chosen from few directions
        low, high = found.interval(0.95)
        inside = ((low <= found.baseline + truth) & (truth + found.baseline <= high)).mean()
        assert inside > 0.9  # what is not known is in the interval


def test_a_first_order_of_many_standard_errors_counts_though_directions_are_few():
    learner = Polynomial(n=200, outputs=1, sizes=(1,))
    made = sl.sketch(learner.train, sl.Examples(200), 1, 90, seed=3, progress=False)
    g = learner.tensors[0][0]
    found = made.predict(lambda p: p["a"][0], 0.5 + 0.5 * np.sign(g))  # all that raise the output
    assert found.orders_used.all()
    assert abs(found.change - g @ (0.5 + 0.5 * np.sign(g))) < 3 * found.standard_error


def test_intervals_are_normal_quantiles_around_the_value_widened_by_the_truncation(many):
    learner, made, x, _ = many
    found = made.predict(learner.query, x)
    for level, quantile in ((0.5, 0.6744897501960817), (0.95, 1.959963984540054)):
        low, high = found.interval(level)
        width = quantile * np.hypot(found.standard_error, found.truncation)
        np.testing.assert_allclose(found.value - low, width, rtol=1e-9)  # differences of numbers of size 10
        np.testing.assert_allclose(high - found.value, width, rtol=1e-9)


@pytest.mark.parametrize("level", [0, 1, -0.5, 95])
def test_an_interval_needs_a_level_between_0_and_1(many, level):
    learner, made, x, _ = many
    with pytest.raises(ValueError, match="level must be between 0 and 1"):
        made.predict(learner.query, x).interval(level)


def test_the_precision_of_the_sketch_is_the_one_asked_for():
    both = [
        sl.sketch(lambda w: (w**3).sum(), sl.Examples(4), num_directions=3, dtype=dtype, progress=False)
        for dtype in (jnp.float32, None)
    ]
    assert [made.coefficients.dtype for made in both] == [np.complex64, np.complex128]
    # the same directions: sums of cubes of four numbers, each rounded to 6e-8
    np.testing.assert_allclose(both[0].coefficients, both[1].coefficients, rtol=0, atol=3e-6)


def test_progress_goes_to_stderr_and_only_when_asked(capsys):
    for show in (True, False):
        sl.sketch(lambda w: w.sum(), sl.Examples(3), degree=1, num_directions=5, batch_size=3, progress=show)
        out, err = capsys.readouterr()
        assert out == ""
        assert ("sketching" in err and "5/5" in err) if show else err == ""


def test_a_query_is_measured_once_and_read_from_memory_afterwards(many):
    learner, made, x, _ = many
    traced = []

    def query(parameters):
        traced.append(1)
        return learner.query(parameters)[0]

    first = made.predict(query, x[0])
    count = len(traced)
    assert made.predict(query, x[1]).baseline == first.baseline
    assert len(traced) == count > 0


def good(**changes):
    arguments = {"train": lambda w: w * 2, "space": sl.Examples(3), "degree": 1, "num_directions": 2, "progress": False}
    return sl.sketch(**{**arguments, **changes})


BAD_SKETCH = {
    "train is no function": ({"train": 3}, TypeError, "train must be a function of the weights, got int"),
    "train refuses": (
        {"train": lambda w: w.reshape(7)},
        ValueError,
        r"train failed on weights of shape \(3,\) and dtype float64 \(TypeError: cannot reshape",
    ),
    "train returns integers": ({"train": lambda w: jnp.arange(3)}, TypeError, "dtype int64, which has no Taylor"),
    "train returns complex numbers": ({"train": lambda w: w * 1j}, TypeError, "real and imaginary parts as two"),
    "train returns nothing": ({"train": lambda w: None}, TypeError, "must return the trained parameters"),
    "training diverges": (
        {"train": lambda w: {"fine": w, "bad": jnp.log(w - 2)}},
        FloatingPointError,
        r"NaN or infinity in parameter \['bad'\]",
    ),
    "one parameter diverges": (
        {"train": lambda w: jnp.log(w - 2)},
        FloatingPointError,
        "NaN or infinity in the trained parameters",
    ),
    "not differentiable": (
        {"train": lambda w: {"root": jnp.sqrt(w - 1)}},
        FloatingPointError,
        r"jet of parameter \['root'\] is not finite at order 1 along direction 0",
    ),
    "degree 0": ({"degree": 0}, ValueError, "degree must be at least 1, got 0"),
    "negative degree": ({"degree": -1}, ValueError, "degree must be at least 1, got -1"),
    "fractional degree": ({"degree": 1.5}, TypeError, "degree must be a whole number, got 1.5"),
    "no directions": ({"num_directions": 0}, ValueError, "num_directions must be at least 1, got 0"),
    "fractional directions": ({"num_directions": 2.5}, TypeError, "num_directions must be a whole number"),
    "negative seed": ({"seed": -1}, ValueError, "seed must be at least 0, got -1"),
    "large seed": ({"seed": 2**32}, ValueError, r"seed must be below 2\*\*32"),
    "fractional seed": ({"seed": 0.5}, TypeError, "seed must be a whole number"),
    "block of none": ({"batch_size": 0}, ValueError, "batch_size must be at least 1"),
    "space is a number": (
        {"space": 3},
        TypeError,
        r"space must be Examples\(n\), Candidates, Groups or the like, got 3",
    ),
    "space is a class": ({"space": sl.Examples}, TypeError, "space must be Examples"),
    "integer weights": ({"dtype": jnp.int32}, TypeError, "dtype must be float32 or float64"),
    "sort by bits": (
        {"train": lambda w: jax.lax.bitcast_convert_type(w, jnp.int64).astype(float)},
        sl.UnsupportedPrimitive,
        "bitcast_convert_type",
    ),
}


@pytest.mark.parametrize(("changes", "error", "message"), BAD_SKETCH.values(), ids=BAD_SKETCH)
def test_what_cannot_be_sketched_is_refused_with_the_reason(changes, error, message):
    with pytest.raises(error, match=message):
        good(**changes)


def test_double_precision_is_refused_where_it_is_not_enabled():
    with jax.enable_x64(False), pytest.raises(ValueError, match=r"float64 needs jax\.config\.update"):
        good(dtype=jnp.float64)


def test_the_arguments_that_the_refusals_change_are_good():
    assert repr(good()) == "Sketch(2 directions, degree 1, Examples(3), seed=0)"


def ask(made, **changes):
    return made.predict(**{"query": lambda p: p["a"].sum(), "delete": [0], **changes})


BAD_QUESTION = {
    "estimator": ({"estimator": "median"}, ValueError, "estimator must be one of 'auto', 'kernel', .*, got 'median'"),
    "query is no function": (
        {"query": "max"},
        TypeError,
        "query must be a function of the trained parameters, got str",
    ),
    "query fails": (
        {"query": lambda p: p["c"]},
        ValueError,
        r"query failed on what train returns.*'a': .*KeyError: 'c'",
    ),
    "query returns a tuple": (
        {"query": lambda p: (p["a"], p["b"])},
        TypeError,
        "one array .or number., this one a pytree",
    ),
    "query returns a list of one": ({"query": lambda p: [p["a"]]}, TypeError, "one array .or number."),
    "query returns nothing": ({"query": lambda p: None}, TypeError, "one array .or number."),
    "query returns integers": ({"query": lambda p: p["a"].argmax()}, TypeError, "array of dtype int64"),
    "query returns booleans": ({"query": lambda p: p["a"] > 0}, TypeError, "array of dtype bool"),
    "query returns complex": ({"query": lambda p: p["a"] * 1j}, TypeError, "real floating-point numbers"),
    "query is not finite": (
        {"query": lambda p: jnp.log(p["a"] - 2)},
        FloatingPointError,
        "is the query differentiable",
    ),
    "empty deletion": ({"delete": []}, ValueError, "the deletion is empty"),
    "no such example": ({"delete": [3]}, IndexError, "names example 3, but there are 3 examples"),
    "failure": ({"estimator": "median_of_means", "failure": 0}, ValueError, "failure must be a probability"),
}


@pytest.fixture(scope="module")
def small():
    with jax.enable_x64(True):
        return good(train=lambda w: {"a": w * 2, "b": w[0]}, num_directions=4)


@pytest.mark.parametrize(("changes", "error", "message"), BAD_QUESTION.values(), ids=BAD_QUESTION)
def test_what_cannot_be_predicted_is_refused_with_the_reason(small, changes, error, message):
    with pytest.raises(error, match=message):
        ask(small, **changes)


@pytest.mark.parametrize(("estimator", "too_few"), [("auto", 1), ("mean", 1), ("median_of_means", 3)])
def test_too_few_directions_for_a_standard_error_are_refused(small, estimator, too_few):
    made = sl.Sketch(
        small.space, 1, 0, JetsInMemory(jax.tree.map(lambda c: c[:too_few], small.coefficients)), small.parameters
    )
    with pytest.raises(ValueError, match=f"needs at least {too_few + 1} directions, this sketch has {too_few}"):
        ask(made, estimator=estimator)
    assert np.isfinite(ask(small, estimator=estimator).standard_error)


@pytest.mark.parametrize("additive", [False, True])
def test_a_prediction_depends_on_its_own_query_only(tmp_path, additive):
    """Kept beside a query of another unit that lives on other coordinates, a query is predicted as if it were alone."""
    rng = np.random.default_rng(2)
    a, b = rng.normal(size=12) * np.linspace(0.1, 3, 12), rng.normal(size=12) * np.linspace(300, 1, 12)

    def train(w):
        return jnp.stack([jnp.tanh(w @ a / 4), jnp.sum(w * b * (1 + w @ b / 1000))])

    def one(p):
        return p[0] + p[0] ** 2

    def other(p):
        return p[1] ** 2

    space, options = sl.Examples(12), {"degree": 3, "num_directions": 30, "additive": additive, "progress": False}
    single = sl.sketch(train, space, queries={"one": one}, **options)
    both = sl.sketch(train, space, queries={"other": other, "one": one}, **options)
    stored = sl.sketch(train, space, queries={"one": one, "other": other}, store=tmp_path / "s", **options)
    asked = [[0, 5], [1, 2, 3, 4], [11]]
    alone = single.predict("one", asked)
    for made in (both, stored, sl.open_sketch(tmp_path / "s")):
        found = made.predict("one", asked)
        # rounding of the compiled program, which is another with two queries in it
        np.testing.assert_allclose(found.value, alone.value, rtol=1e-5)
        np.testing.assert_allclose(found.interval(0.95), alone.interval(0.95), rtol=1e-4)
