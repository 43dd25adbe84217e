"""The numbers of the figures, on a learner whose Taylor series along the deletion ends."""

import jax.numpy as jnp
import numpy as np
import pytest

import sketchlearn as sl
from sketchlearn.experiments import figures

pytestmark = pytest.mark.usefixtures("x64")


class Cubic:
    """What a figure needs of an experiment; the loss is 2 + s - 3 s² + s³ after deleting examples 0 and 3 by s."""

    num_examples, dtype = 4, jnp.dtype("float64")
    deleted = np.array([0, 3])

    def train(self, weights):
        return {"s": (1 - weights) @ jnp.array([0.25, 1.0, -1.0, 0.75])}

    def query(self, name):
        names = [name] if isinstance(name, str) else name

        def loss(parameters):
            s = parameters["s"]
            return jnp.stack([2 + s - 3 * s**2 + s**3 + len(n) for n in names])[0 if isinstance(name, str) else ...]

        return loss


class NoX(Cubic):
    deleted = np.array([], int)


def exact(s):
    return 5 + s - 3 * s**2 + s**3  # 'max' has three letters


def test_retraining_is_the_loss_at_every_share_for_one_name_or_several():
    shares = np.linspace(0, 1, 5)
    alone = figures.retrain_along(Cubic(), "max", Cubic.deleted, shares)
    np.testing.assert_allclose(alone, exact(shares), rtol=1e-14)  # a handful of roundings
    together = figures.retrain_along(Cubic(), ["max", "emma"], Cubic.deleted, shares)
    np.testing.assert_allclose(together, np.stack([alone, alone + 1], 1), rtol=1e-14)


def test_figure_2_holds_the_partial_sums_of_the_series():
    curve = figures.taylor_figure(Cubic(), degree=4, retrainings=3)
    s = curve.fractions
    np.testing.assert_array_equal(s, np.linspace(0, 1, 101))
    np.testing.assert_allclose(curve.terms, [1, -3, 1, 0], atol=1e-14)  # a handful of roundings
    partial = [5 + 0 * s, 5 + s, 5 + s - 3 * s**2, exact(s), exact(s)]
    np.testing.assert_allclose(curve.predictions, partial, atol=1e-13)
    np.testing.assert_array_equal(curve.retrained_at, [0, 0.5, 1])
    np.testing.assert_allclose(curve.retrained, exact(np.array([0, 0.5, 1])), rtol=1e-14)
    assert curve.deviation is None
    assert (curve.query, curve.deleted) == ("max", 2)


@pytest.mark.parametrize("estimator", ["mean", "median_of_means", "auto"])
def test_figure_3_holds_what_the_sketch_predicts_along_the_deletion(estimator):
    curve = figures.sketch_figure(
        Cubic(), num_directions=60, seed=1, estimators=[estimator], retrainings=2, progress=False
    )[0]
    made = sl.sketch(Cubic().train, sl.Examples(4), num_directions=60, seed=1, progress=False)
    for i in (1, 30, 100):
        x = curve.fractions[i] * np.array([1.0, 0, 0, 1])
        found = made.predict(Cubic().query("max"), x, estimator=estimator)
        # the same matrix products for 100 deletions at once or for one
        np.testing.assert_allclose(curve.predictions[-1, i], found.value, rtol=1e-10)
        np.testing.assert_allclose(curve.deviation[i], found.standard_error, rtol=1e-10)
        np.testing.assert_allclose(curve.predictions[1, i], found.baseline + found.terms[0], rtol=1e-10)
    np.testing.assert_allclose(curve.predictions[:, 0], 5, rtol=1e-14)
    np.testing.assert_allclose(curve.terms, found.terms, rtol=1e-10)
    if estimator == "median_of_means":
        gap = np.abs(curve.predictions[-1, 100] - found.baseline - found.terms.sum())
        assert gap > 1e-3, "a median of sums is not the sum of the medians"


def test_figure_1_is_the_stability_profile_of_the_loss():
    found = figures.stability_figure(Cubic(), degree=3, num_directions=2, seed=5, progress=False)
    direct = sl.stability_profile(
        Cubic().train, Cubic().query("max"), 3, 2, space=sl.Examples(4), seed=5, progress=False
    )
    np.testing.assert_array_equal(found.norms, direct.norms)


@pytest.mark.parametrize("figure", [figures.taylor_figure, figures.sketch_figure])
def test_without_a_name_with_an_x_there_is_nothing_to_delete(figure):
    with pytest.raises(ValueError, match="none of the 4 training names has an x"):
        figure(NoX())
