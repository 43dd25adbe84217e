"""What is known exactly leaves the estimators less to do: additive sketches, gradients, centres, controls."""

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support.learners import SIGMAS, Polynomial, Ridge

import sketchlearn as sl
from sketchlearn.deletions.directions import directions

pytestmark = pytest.mark.usefixtures("x64")


def made_of(learner, degree=3, m=40, **options):
    return sl.sketch(learner.train, sl.Examples(learner.n), degree, m, progress=False, **options)


def trained(learner, x):
    return np.asarray(jax.vmap(lambda w: learner.query(learner.train(w)))(jnp.asarray(1 - np.atleast_2d(x))))


ALL_SUBSETS = [list(s) for r in (1, 2, 3, 4) for s in itertools.combinations(range(4), r)]


def test_deletions_of_one_coordinate_are_exact_in_an_additive_sketch_of_any_degree():
    learner = Polynomial()
    found = made_of(learner, degree=1, m=4, additive=True).predict(learner.query, [[i] for i in range(4)])
    np.testing.assert_allclose(found.value, trained(learner, np.eye(4)), rtol=1e-12)  # float64 sums, other order
    np.testing.assert_allclose(found.exact_change, found.change, rtol=1e-12)  # one float64 sum, in another order
    assert (found.standard_error == 0).all()
    assert (found.truncation == 0).all()


def test_a_coordinate_moved_in_part_follows_its_series_and_its_end():
    # degree 2, and a cubic along every coordinate: the end tells the third order
    learner = Polynomial()
    x = np.eye(4)[[0, 1, 2]] * np.array([[0.5], [-0.3], [1.7]])
    found = made_of(learner, degree=2, m=4, additive=True).predict(learner.query, x)
    np.testing.assert_allclose(found.value, trained(learner, x), rtol=1e-11)  # float64 and a power of 1.7


@pytest.mark.parametrize("centre", [None, 0.3, np.array([0.0, 0.5, 0.2, 0.0])])
def test_an_additive_sketch_that_determines_the_interactions_is_exact(centre):
    learner = Polynomial()
    found = made_of(learner, additive=True, centre=centre).predict(learner.query, ALL_SUBSETS, estimator="kernel")
    truth = trained(learner, sl.Examples(4).locate(ALL_SUBSETS))
    np.testing.assert_allclose(found.value, truth, rtol=1e-9)  # 40 directions, 20 unknowns: a few digits of condition


def test_interactions_estimated_by_the_mean_are_unbiased_and_less_noisy():
    learner = Polynomial(sizes=(5, 5, 0.5))  # little of it is interaction
    x = np.array([[1.0, 1, 0, 0], [1, 1, 1, 0.5]])
    plain, additive = (made_of(learner, m=4000, additive=a).predict(learner.query, x, "mean") for a in (False, True))
    truth = trained(learner, x)
    assert (np.abs(additive.value - truth) < SIGMAS * additive.standard_error).all()
    assert (additive.standard_error < plain.standard_error).all()
    np.testing.assert_array_equal(additive.terms[:, 0], 0)  # the first order has no interactions


@pytest.mark.parametrize("estimator", sl.estimators())
def test_a_polynomial_is_the_same_about_every_centre(estimator):
    learner = Polynomial()
    made = made_of(learner, m=20_000 if "mean" in estimator else 40, batch_size=20_000, centre=0.4)
    if estimator == "least_squares":
        made = made_of(learner, m=20_000, batch_size=20_000, centre=0.4)
    found = made.predict(learner.query, [0, 2], estimator)
    np.testing.assert_allclose(found.baseline, learner.constant, rtol=1e-12)  # nothing deleted, as without a centre
    assert (np.abs(found.value - trained(learner, [1.0, 0, 1, 0])[0]) < SIGMAS * found.standard_error + 1e-9).all()
    at_centre = trained(learner, np.full(4, 0.4))[0]
    np.testing.assert_allclose(
        found.exact_change, at_centre - learner.constant, rtol=1e-9
    )  # a difference of like numbers


def test_a_centre_inside_the_deletion_leaves_less_to_truncate():
    learner = Ridge()
    query = lambda theta: theta  # noqa: E731
    half = [list(s) for s in itertools.combinations(range(8), 4)]
    truth = np.stack([learner.train(jnp.asarray(1 - x)) for x in sl.Examples(8).locate(half)])
    errors = {}
    for centre in (None, 0.5):
        made = sl.sketch(learner.train, sl.Examples(8), 3, 80, centre=centre, progress=False)  # 120 unknowns
        errors[centre] = np.abs(made.predict(query, half, "kernel").value - truth).mean()
    assert errors[0.5] < 0.7 * errors[None]  # measured: 0.51


@pytest.mark.parametrize(
    ("centre", "message"),
    [
        (0.0, "between 0 and 1"), (1.0, "between 0 and 1"), (True, "between 0 and 1"), (math.nan, "between 0 and 1"),
        ([0.5, 0.5], "shape"), ([1.0, 0, 0, 0], "below 1"), ([-0.1, 0, 0, 0], "below 1"),
    ],
)  # fmt: skip
def test_a_centre_that_is_none_is_refused(centre, message):
    with pytest.raises(ValueError, match=message):
        made_of(Polynomial(), centre=centre)


def test_the_gradient_through_training_is_the_first_taylor_term_of_every_coordinate():
    learner = Polynomial()
    found = sl.gradient(learner.train, learner.query, sl.Examples(4))
    np.testing.assert_allclose(found, learner.tensors[0].T, rtol=1e-12)  # float64 sums
    groups = sl.Groups(["a", "b", "a", "b"])
    by_group = sl.gradient(learner.train, learner.query, groups)
    np.testing.assert_allclose(by_group, [found[[0, 2]].sum(0), found[[1, 3]].sum(0)], rtol=1e-12)
    centred = sl.gradient(learner.train, learner.query, groups, centre=0.25)
    shift, h = np.full(4, 0.25), 1e-5
    for j in range(2):
        step = h * (groups.membership == j)
        central = (trained(learner, shift + step) - trained(learner, shift - step))[0] / (2 * h)
        np.testing.assert_allclose(centred[j], central, rtol=1e-8)  # h² times a third derivative of order one


@pytest.mark.parametrize("estimator", sl.estimators())
def test_with_a_gradient_order_one_is_exact_however_few_the_directions(estimator):
    g = np.random.default_rng(0).normal(size=30)

    def train(w):
        return jnp.stack([jnp.asarray(g) @ (1 - w), 2 * jnp.asarray(g) @ (1 - w)])

    made = sl.sketch(train, sl.Examples(30), 1, 6, progress=False)  # 12 equations for 30 unknowns
    found = made.predict(lambda y: y, [[3], [0, 7]], estimator, gradient=np.stack([g, 2 * g], 1))
    np.testing.assert_allclose(found.change[:, 0], [g[3], g[0] + g[7]], rtol=1e-12)  # one float64 sum
    np.testing.assert_allclose(found.change[:, 1], 2 * found.change[:, 0], rtol=1e-12)
    assert (found.standard_error == 0).all()


@pytest.mark.parametrize(("bad", "message"), [(np.ones(3), "shape"), (np.full((4, 2), np.nan), "finite")])
def test_a_gradient_that_does_not_fit_is_refused(bad, message):
    learner = Polynomial()
    with pytest.raises(ValueError, match=message):
        made_of(learner).predict(learner.query, [0], gradient=bad)


@pytest.mark.parametrize("options", [{}, {"additive": True}])
@pytest.mark.parametrize("estimator", ["mean", "median_of_means", "kernel"])
def test_the_control_is_exact_where_the_parameters_are_linear_in_the_weights(estimator, options):
    """Then θ_1 alone determines every order of every query, which few directions would not."""
    a = np.random.default_rng(1).normal(size=(2, 12)) / 4

    def query(theta):
        return jnp.stack([jnp.sin(theta[0]) * theta[1], jnp.exp(theta.sum())])

    made = sl.sketch(lambda w: jnp.asarray(a) @ (1 - w), sl.Examples(12), 3, 8, progress=False, **options)
    found = made.predict(query, [[0, 5], [1, 2, 3]], estimator, control=True)
    x = sl.Examples(12).locate([[0, 5], [1, 2, 3]])
    exact = np.stack(
        [sl.taylor_coefficients(lambda x: query(jnp.asarray(a) @ x), jnp.zeros(12), row, 3)[1:] for row in x]
    )
    change = exact.sum(1)
    if options:  # and the ends tell what the coordinates do alone beyond order 3
        beyond = sl.taylor_coefficients
        each = np.stack([np.asarray(query(jnp.asarray(a) @ row) - query(jnp.zeros(2))) for row in np.eye(12)])
        series = np.stack(
            [beyond(lambda x: query(jnp.asarray(a) @ x), jnp.zeros(12), row, 3)[1:].sum(0) for row in np.eye(12)]
        )
        change = change + x @ (each - series)
    np.testing.assert_allclose(found.change, change, rtol=1e-8)  # 16 equations for 12 unknowns: some digits
    without = made.predict(query, [[0, 5], [1, 2, 3]], estimator)
    assert np.abs(without.change - change).max() > 1e-3, "the control did it"


def test_a_control_needs_the_first_order_of_the_parameters():
    with pytest.raises(ValueError, match="additive sketch"):
        sl.sketch(lambda w: w, sl.Examples(12), 2, 5, progress=False).predict(jnp.sum, [0], control=True)


def test_orthogonal_directions_are_unitary_in_blocks_and_drawn_again_from_their_seed():
    re, im = directions(3, jnp.arange(13), 5, design="orthogonal")
    psi = np.asarray(re) + 1j * np.asarray(im)
    for block in (psi[:5], psi[5:10], psi[10:]):
        np.testing.assert_allclose(block.conj() @ block.T, np.eye(len(block)), atol=1e-14)  # a QR in float64
    again, _ = directions(3, jnp.array([7, 12]), 5, design="orthogonal")
    np.testing.assert_array_equal(again, re[jnp.array([7, 12])])
    assert np.abs(psi[:5] @ psi[5:10].conj().T).max() > 0.1, "blocks are independent of each other"


def test_the_mean_over_whole_blocks_of_orthogonal_directions_is_exact_at_order_one_and_unbiased_at_order_two():
    learner = Polynomial(sizes=(1, 1))
    few = made_of(learner, degree=2, m=4, design="orthogonal").predict(learner.query, [0, 1], "mean")
    np.testing.assert_allclose(few.terms[0], learner.term(1, np.array([1.0, 1, 0, 0])), rtol=1e-12)  # float64 sums
    many = made_of(learner, degree=2, m=8000, design="orthogonal", batch_size=8000)
    found = many.predict(learner.query, [0, 1], "mean")
    off = np.abs(found.terms[1] - learner.term(2, np.array([1.0, 1, 0, 0])))
    assert (off < SIGMAS * found.standard_errors[1]).all()
    assert (found.standard_errors[1] < 0.2).all(), "few enough of them for the test to mean anything"


def test_the_standard_errors_of_orthogonal_directions_are_not_too_small():
    learner = Polynomial(n=6, outputs=1, sizes=(1, 1))
    x, query = np.array([1.0, 1, 0, 0, 1, 0]), lambda y: jnp.concatenate([y["a"], y["b"]])
    truth = learner.term(2, x)
    pulls = []
    for key in range(60):
        made = made_of(learner, degree=2, m=60, design="orthogonal", seed=key)
        found = made.predict(query, x, "mean")
        pulls.append(((found.terms[1] - truth) / found.standard_errors[1])[0])
    # 60 draws of a normal variable: its root mean square is 1 ± 0.09, and up to 1/q more is what the blocks add
    assert np.sqrt(np.mean(np.square(pulls))) < 1.35


@pytest.mark.parametrize(
    ("design", "space", "message"),
    [("latin", sl.Examples(3), "one of"), ("orthogonal", sl.Examples(5000), "too long to draw")],
)
def test_a_design_that_cannot_be_drawn_is_refused(design, space, message):
    with pytest.raises(ValueError, match=message):
        sl.sketch(lambda w: w.sum(), space, 1, 4, design=design, progress=False)
