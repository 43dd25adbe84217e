"""The exactly solvable worlds against other ways to their answers: NumPy from scratch, scikit-learn, eigenvalues."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

import sketchlearn as sl

pytestmark = pytest.mark.usefixtures("x64")
N, P = 12, 3


def data(seed=0):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(N, P))
    return jnp.asarray(x), jnp.asarray(x @ [1.0, -2.0, 0.5] + rng.normal(size=N))


@pytest.mark.parametrize("delete", [[0], [3, 5], list(range(6))])
def test_ridge_without_examples_is_least_squares_on_the_rest(delete):
    x, y = data()
    world = sl.worlds.Ridge(x, y, penalty=0.7)
    kept = np.setdiff1d(np.arange(N), delete)
    # ridge as least squares with P more rows, by another factorisation
    rows = np.concatenate([x[kept], np.sqrt(0.7) * np.eye(P)])
    expected = np.linalg.lstsq(rows, np.concatenate([y[kept], np.zeros(P)]), rcond=None)[0]
    np.testing.assert_allclose(world.without(delete), expected, rtol=1e-11)  # a well-conditioned 3 x 3 system
    weights = jnp.ones(N).at[jnp.array(delete)].set(0)
    np.testing.assert_allclose(world.train(weights), expected, rtol=1e-11)


def test_the_ridge_series_falls_at_the_rate_of_the_leverage_and_its_pole_is_one_over_it():
    world = sl.worlds.Ridge(*data(), penalty=0.1)
    i = int(world.leverage().argmax())
    h = world.leverage()[i]
    along = jnp.zeros(N).at[i].set(-1.0)
    c = np.asarray(sl.taylor_coefficients(world.train, jnp.ones(N), along, 12))
    np.testing.assert_allclose(c[2:], h * c[1:-1], rtol=1e-10)  # a geometric series; 12 orders of float64
    error = np.abs(np.cumsum(c, 0) - world.without([i]))[:, 0]
    np.testing.assert_allclose(error[1:9] / error[:8], h, rtol=1e-6)  # h^9 error, 1e-3, above rounding by 1e-12
    # the pole itself: the weight at which the matrix is singular
    x = np.asarray(world.features)
    matrix = x.T @ x + 0.1 * np.eye(P) - np.outer(x[i], x[i]) / h
    assert abs(np.linalg.det(matrix)) < 1e-10 * np.linalg.det(x.T @ x)


def test_descent_by_eigenvalues_is_descent_step_by_step():
    world = sl.worlds.LinearDescent(sl.worlds.Ridge(*data()), rate=0.01, steps=50)
    for w in (np.ones(N), np.r_[np.zeros(4), np.ones(N - 4)], np.linspace(0, 1, N)):
        np.testing.assert_allclose(world.train(jnp.asarray(w)), world.exact(w), rtol=1e-11)  # 50 rounded steps


def test_logistic_training_is_scikit_learn_s():
    x, y = data()
    world = sl.worlds.Logistic(x, jnp.sign(y), penalty=0.5)
    for w in (np.ones(N), np.r_[np.zeros(4), np.ones(N - 4)]):
        model = LogisticRegression(C=2.0, fit_intercept=False, tol=1e-12, max_iter=1000)
        model.fit(np.asarray(x), np.asarray(jnp.sign(y)), sample_weight=w)
        # scikit-learn stops when its gradient is small, ours at rounding
        np.testing.assert_allclose(world.train(jnp.asarray(w)), model.coef_[0], atol=1e-6)
        slope = jax.grad(world.problem().objective)(world.train(jnp.asarray(w)), jnp.asarray(w))
        assert np.abs(slope).max() < 1e-12


def test_the_sketch_of_a_polynomial_learner_has_no_truncation_and_its_series_is_the_terms():
    world = sl.worlds.PolynomialLearner(6, degree=3)
    x = jnp.asarray([1.0, 0, 1, 0, 0, 1])
    c = sl.taylor_coefficients(world.train, jnp.ones(6), -x, 5)
    np.testing.assert_allclose(c[:4], world.terms(x), rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(c[4:], 0, atol=1e-12)
    assert np.abs(c[1:4]).min(1).max() > 1e-3


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: sl.worlds.Ridge(jnp.ones((3, 2)), jnp.ones(2)), "targets"),
        (lambda: sl.worlds.Ridge(jnp.ones((3, 2)), jnp.ones(3), penalty=0.0), "penalty must be positive"),
        (lambda: sl.worlds.Logistic(jnp.ones((3, 2)), jnp.zeros(3)), "-1 or 1"),
        (lambda: sl.worlds.Ridge(*data()).without([[0], [1]]), "one deletion"),
    ],
)
def test_a_world_that_cannot_be_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
