"""The exact first order and the leading curvature of a query."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import scipy.sparse.linalg
from flax import nnx
from support.learners import Polynomial, Ridge
from support.runs import INPUTS, TARGETS, N, recipe

import sketchlearn as sl
from sketchlearn.prediction.quadratic import quadratic_of, sizes_of_orders
from sketchlearn.truth.curvature import HessianProducts
from sketchlearn.truth.gradient import WeightedQuery
from sketchlearn.truth.lanczos import lanczos

pytestmark = pytest.mark.usefixtures("x64")
FRACTIONS = np.array([[1.0, 0, 0, 1], [0.5, -1.0, 0.25, 0], [1, 1, 1, 1]])


def bent(learner, space=None, products=4, **options):
    space = space or sl.Examples(learner.n)
    return sl.curvature(learner.train, learner.query, space, products, progress=False, **options)


def trained(learner, x):
    return np.asarray(jax.vmap(lambda w: learner.query(learner.train(w)))(jnp.asarray(1 - np.atleast_2d(x))))


def test_as_many_products_as_coordinates_are_exact_for_a_quadratic_learner():
    learner = Polynomial(sizes=(1, 1))
    found = bent(learner).predict(FRACTIONS)
    np.testing.assert_allclose(found.value, trained(learner, FRACTIONS), rtol=1e-12)  # float64 sums in another order


def test_ridge_has_the_second_order_of_its_closed_form():
    ridge = Ridge(n=6)
    found = sl.curvature(ridge.train, lambda theta: theta, sl.Examples(6), 6, progress=False)
    x = np.random.default_rng(0).uniform(-1, 1, (5, 6))
    terms = found.predict(x).terms
    for row, of_row in zip(x, terms, strict=True):
        np.testing.assert_allclose(of_row, ridge.jet(row, 2)[1:], rtol=1e-9, atol=1e-12)  # condition of the solve


@pytest.mark.parametrize("space", [sl.Examples(4), sl.Groups(["a", "b", "a", "c"]), sl.Candidates([0, 3], 4)], ids=repr)
@pytest.mark.parametrize("centre", [None, 0.3])
def test_it_has_the_taylor_coefficients_of_every_direction_in_any_space_and_at_any_centre(space, centre):
    learner = Polynomial()
    found = bent(learner, space, space.dim, centre=centre)
    sketch = sl.sketch(learner.train, space, 2, 8, centre=centre, progress=False)
    value, coefficients = sketch.measure(learner.query)
    np.testing.assert_allclose(found.at_centre, value, rtol=1e-12)  # one float64 program and another
    # Lanczos in float64 against a series, numbers around one
    np.testing.assert_allclose(found.quadratic.along(sketch.directions), coefficients, rtol=1e-9, atol=1e-12)


def test_outputs_keep_their_own_axes():
    learner = Polynomial(outputs=6)
    whole = bent(learner, products=2)
    shaped = sl.curvature(
        learner.train, lambda p: learner.query(p).reshape(2, 3), sl.Examples(4), 2, progress=False, batch_size=4
    )
    assert shaped.gradient.shape == (4, 2, 3)
    assert shaped.eigenvalues.shape == (2, 2, 3)
    assert shaped.eigenvectors.shape == (4, 2, 2, 3)
    assert shaped.share_left.shape == (2, 3)
    ours, one = shaped.predict(FRACTIONS), whole.predict(FRACTIONS)
    # the same programs in blocks of another size
    np.testing.assert_allclose(ours.value, one.value.reshape(3, 2, 3), rtol=1e-12)
    np.testing.assert_allclose(ours.truncation, one.truncation.reshape(3, 2, 3), rtol=1e-9)
    assert shaped.predict([0]).value.shape == (2, 3)


def test_no_products_are_the_first_order():
    learner = Polynomial()
    found, slope = bent(learner, products=0), sl.gradient(learner.train, learner.query, sl.Examples(4))
    np.testing.assert_array_equal(found.gradient, slope)
    np.testing.assert_allclose(found.predict(FRACTIONS).change, FRACTIONS @ slope, rtol=1e-12)
    np.testing.assert_allclose(found.share_left, 1)
    assert found.eigenvalues.shape == (0, 2)


def test_products_agree_with_central_differences_of_the_gradient_of_a_recipe():
    model = nnx.Sequential(
        nnx.Linear(3, 4, rngs=nnx.Rngs(0)), jnp.tanh, nnx.Linear(4, 1, rngs=nnx.Rngs(1)), lambda h: h[..., 0]
    )
    train = recipe(model, optax.adam(0.1, eps_root=1e-3))
    query = train.query((INPUTS[:2], TARGETS[:2]))
    asked = WeightedQuery.of(train, query, sl.Examples(N), None, None)
    v, step = np.random.default_rng(1).normal(size=N), 1e-5
    product = HessianProducts(asked).all("", v[None])[2]
    slope = jax.jit(jax.jacrev(asked.outputs))
    differences = (slope(jnp.asarray(step * v)) - slope(jnp.asarray(-step * v))) / (2 * step)
    assert np.linalg.norm(product - differences) <= 1e-6 * np.linalg.norm(product)


def test_the_interval_is_as_wide_as_what_a_low_rank_leaves():
    # no order above the second, and half of it left: the interval holds, and is no wider than the change itself
    learner, n = Polynomial(n=40, outputs=8, sizes=(0.2, 1)), 40
    learner.tensors[1] = learner.tensors[1] + learner.tensors[1].transpose(0, 2, 1)
    x = np.random.default_rng(0).integers(0, 2, (60, n)).astype(float)
    truth = trained(learner, x)
    prediction = bent(learner, products=10).predict(x)
    low, high = prediction.interval()
    inside = ((low < truth) & (truth < high)).mean()
    assert inside > 0.9
    first = bent(learner, products=0).predict(x)
    error, of_first = (np.sqrt(((p.value - truth) ** 2).mean()) for p in (prediction, first))
    assert error < 0.9 * of_first


def test_lanczos_finds_the_ends_of_a_spectrum_and_an_orthonormal_basis():
    rng = np.random.default_rng(0)
    matrices = rng.normal(size=(3, 60, 60))
    matrices = matrices + matrices.transpose(0, 2, 1)
    pairs = lanczos(lambda i, v: np.einsum("Qij,Qj->Qi", matrices, v), rng.normal(size=(3, 60)), 40, rng)
    for matrix, values, vectors in zip(matrices, pairs.values, pairs.vectors, strict=True):
        np.testing.assert_allclose(vectors @ vectors.T, np.eye(40), atol=1e-12)  # orthogonal to rounding
        ends = scipy.sparse.linalg.eigsh(matrix, k=2, return_eigenvectors=False)
        np.testing.assert_allclose(np.sort(np.abs(values))[-2:], np.sort(np.abs(ends)), rtol=1e-6)  # converged
    assert pairs.asymmetry.max() < 1e-12


@pytest.mark.parametrize("start", [np.zeros(5), np.eye(5)[0], np.ones(5)], ids=["zero", "eigenvector", "generic"])
def test_lanczos_goes_on_where_a_space_is_complete(start):
    matrix = np.diag([4.0, -2.0, 1.0, 1.0, 0.0])
    pairs = lanczos(lambda i, v: v @ matrix, start[None], 5, np.random.default_rng(0))
    np.testing.assert_allclose(np.sort(pairs.values[0]), [-2, 0, 1, 1, 4], atol=1e-12)


def test_products_with_random_vectors_tell_how_large_the_second_order_is():
    rng, q = np.random.default_rng(0), 300
    matrix = rng.normal(size=(q, q))
    matrix = matrix + matrix.T + np.diag(rng.normal(size=q) * 20)
    probes = rng.normal(size=(4, q))
    sizes = sizes_of_orders(np.zeros((q, 1)), probes, (probes @ matrix)[:, None])
    z = rng.choice([-1.0, 1.0], (4000, q)) * (rng.uniform(size=(4000, q)) < 0.1)
    measured = np.sqrt((np.einsum("bi,ij,bj->b", z, matrix, z) ** 2).mean() / 4)
    assert abs(np.sqrt((sizes.at(z)[:, 1] ** 2).mean()) / measured - 1) < 0.1  # 4 probes: a few percent


def test_small_eigenvalues_of_one_sign_count_by_their_mean():
    q, rng = 200, np.random.default_rng(0)
    probes = rng.normal(size=(4, q))
    vectors = np.eye(q)[None, :1]  # H = diag(5, 0.1, 0.1, ..)
    values = np.array([[5.0]])
    products = (probes * np.where(np.arange(q) == 0, 5.0, 0.1))[:, None]
    found = quadratic_of(np.zeros((1, q)), values, vectors, probes, products)
    np.testing.assert_allclose(found.rest, 0.1, rtol=0.2)  # four probes of 199 squares: 5%
    z = np.ones((1, q))
    np.testing.assert_allclose(found.terms(z)[0, 1], (5 + 19.9) / 2, rtol=0.2)
    np.testing.assert_allclose(found.diagonal[1:], found.rest[0])


@pytest.mark.parametrize("products", [0, 2, 4])
def test_deletions_of_one_coordinate_are_exact_where_these_were_retrained(products):
    learner = Polynomial()
    alone = trained(learner, np.eye(4)) - trained(learner, np.zeros(4))
    prediction = bent(learner, products=products).predict(np.eye(4), single_changes=alone)
    np.testing.assert_allclose(prediction.value, trained(learner, np.eye(4)), rtol=1e-12)  # sums in another order
    assert (prediction.truncation == 0).all()


def test_pairs_are_exact_with_single_changes_and_a_whole_curvature_if_there_is_no_third_order_interaction():
    learner = Polynomial()
    learner.tensors[2] = learner.tensors[2] * np.einsum("ij,jk->ijk", np.eye(4), np.eye(4))  # pure cubes
    alone = trained(learner, np.eye(4)) - trained(learner, np.zeros(4))
    x = np.array([[1.0, 1, 0, 0], [1, 1, 1, 0], [1, 1, 1, 1]])
    prediction = bent(learner).predict(x, single_changes=alone)
    np.testing.assert_allclose(prediction.value, trained(learner, x), rtol=1e-10)  # float64, with a few digits lost
    without = bent(learner).predict(x)
    assert np.abs(without.value - trained(learner, x)).max() > 0.01


def test_single_changes_that_do_not_fit_are_refused():
    learner = Polynomial()
    with pytest.raises(ValueError, match=r"single_changes must have shape \(4, 2\)"):
        bent(learner).predict([0], single_changes=np.zeros(4))
    with pytest.raises(ValueError, match="another centre"):
        bent(learner, centre=0.3).predict([0], single_changes=np.zeros((4, 2)))


def test_a_curvature_takes_out_of_a_sketch_what_it_knows():
    learner = Polynomial(sizes=(1, 1))
    found = bent(learner)
    sketch = sl.sketch(learner.train, sl.Examples(4), 2, 12, progress=False)
    prediction = sketch.predict(learner.query, FRACTIONS, "mean", curvature=found)
    np.testing.assert_allclose(prediction.value, trained(learner, FRACTIONS), rtol=1e-9)  # nothing is left to estimate
    assert np.abs(prediction.standard_error).max() < 1e-9
    assert prediction.estimated_by[0] == "the gradient given"


@pytest.mark.parametrize("additive", [False, True])
def test_a_part_of_the_curvature_leaves_the_estimate_right_and_less_noisy(additive):
    learner = Polynomial(n=12, sizes=(1, 1))
    learner.tensors[1] = learner.tensors[1] + 3 * np.ones((12, 12))  # one large eigenvalue
    x = np.random.default_rng(0).integers(0, 2, (20, 12)).astype(float)
    sketch = sl.sketch(learner.train, sl.Examples(12), 2, 400, additive=additive, progress=False)
    slope = sl.gradient(learner.train, learner.query, sl.Examples(12))
    without = sketch.predict(learner.query, x, "mean", gradient=slope)
    given = sketch.predict(learner.query, x, "mean", curvature=bent(learner, products=3))
    truth = trained(learner, x)
    assert (np.abs(given.value - truth) < 5 * given.standard_error + 1e-9).all()
    assert given.standard_error.mean() < 0.75 * without.standard_error.mean()


def test_a_curvature_of_something_else_is_refused():
    learner, other = Polynomial(), Polynomial(seed=1)
    sketch = sl.sketch(learner.train, sl.Examples(4), 2, 8, progress=False)
    refused = {
        "of another query, or of another run": bent(other),
        "make it with the space of the sketch": bent(learner, sl.Candidates([0, 1], 4), 2),
        "different centres": bent(learner, centre=0.3),
    }
    for message, curvature in refused.items():
        with pytest.raises(ValueError, match=message):
            sketch.predict(learner.query, [0], curvature=curvature)
    with pytest.raises(TypeError, match=r"sketchlearn\.curvature"):
        sketch.predict(learner.query, [0], curvature=3.0)


def test_what_cannot_be_answered_is_said():
    learner, space = Polynomial(), sl.Examples(4)
    with pytest.raises(ValueError, match="products must be at most the number of coordinates, 4"):
        bent(learner, products=5)
    with pytest.raises(ValueError, match="products must be at least 0"):
        bent(learner, products=-1)
    with pytest.raises(ValueError, match=r"at least one number, this one an array of shape \(0,\)"):
        sl.curvature(learner.train, lambda p: p["a"][:0], space, 1)
    with pytest.raises(ValueError, match="single_changes must be finite"):
        bent(learner).predict([0], single_changes=np.full((4, 2), np.nan))
    with pytest.raises(TypeError, match="real floating-point numbers"):
        sl.curvature(learner.train, lambda p: jnp.argmax(p["a"]), space, 1)
    with pytest.raises(ValueError, match="argmax"):
        sl.curvature(learner.train, lambda p: jnp.argmax(p["b"]) * 1.0, space, 1)
    with pytest.raises(FloatingPointError, match="not finite"):
        sl.curvature(lambda w: jnp.sqrt(jnp.sum((w - 1) ** 2)), lambda p: p, space, 1, progress=False)
    with pytest.raises(ValueError, match="weights of shape"):
        bent(learner, sl.Examples(5))


def test_a_recipe_and_a_deletion_that_empties_one_of_its_batches():
    model = nnx.Linear(3, 1, rngs=nnx.Rngs(0))
    batches = np.array([[0, 1, 2], [3, 4, 0]])
    train = recipe(model, optax.sgd(0.1), batches=batches, loss=of_one_output, reduction="weighted mean")
    query = train.query((INPUTS[:2], TARGETS[:2]))
    found = sl.curvature(train, query, sl.Examples(N), centre=None, progress=False)
    np.testing.assert_allclose(found.gradient, sl.gradient(train, query, sl.Examples(N)), rtol=1e-10)  # float64
    prediction = found.predict([[1, 3], [0, 1, 2]])
    assert np.isfinite(prediction.truncation[0])
    assert np.isnan(prediction.truncation[1])
    assert any(
        "leave nothing of a batch" in text or "leaves nothing of a batch" in text for text in prediction.warnings
    )
    moved = sl.curvature(train, query, sl.Examples(N), 2, centre=0.25, progress=False)
    np.testing.assert_allclose(moved.baseline, found.baseline, rtol=1e-12)  # one run, in two programs


def of_one_output(model, batch):
    inputs, targets = batch
    return (model(inputs)[..., 0] - targets) ** 2


def test_products_that_no_symmetric_matrix_has_are_reported():
    wrong = square_with_rule(lambda w: (jnp.sum(w) ** 2, w), lambda w, g: (jnp.cumsum(w) * g,))
    with pytest.warns(UserWarning, match="The Hessian is not symmetric"):
        sl.curvature(wrong, lambda y: y, sl.Examples(4), progress=False)


def test_a_rule_of_the_programs_own_is_followed_or_refused_with_the_reason():
    right = square_with_rule(lambda w: (jnp.sum(w) ** 2, w), lambda w, g: (2 * jnp.sum(w) * g * jnp.ones_like(w),))
    found = sl.curvature(right, lambda y: y, sl.Examples(4), 1, progress=False)
    np.testing.assert_allclose(found.predict([0, 1]).value, 4, rtol=1e-12)  # from 16; float64
    recursive = square_with_rule(lambda w: (recursive(w), w), lambda w, g: (2 * jnp.sum(w) * g * jnp.ones_like(w),))
    with pytest.raises(TypeError, match=r"its forward rule calls the function itself.*jax\.custom_jvp"):
        sl.curvature(recursive, lambda y: y, sl.Examples(4), progress=False)


def square_with_rule(forward, backward):
    square = jax.custom_vjp(lambda w: jnp.sum(w) ** 2)
    square.defvjp(forward, backward)
    return square


def test_an_output_that_nothing_moves_has_an_unknown_error():
    learner = Polynomial()
    with pytest.warns(UserWarning, match="output 1 of the query did not move"):
        found = sl.curvature(
            learner.train, lambda p: jnp.stack([p["a"][0], jnp.float64(3)]), sl.Examples(4), 2, progress=False
        )
    prediction = found.predict([0])
    assert np.isfinite(prediction.truncation[0])
    assert np.isnan(prediction.truncation[1])


def test_an_interrupted_call_goes_on_where_it_was(tmp_path, monkeypatch):
    learner, whole = Polynomial(n=6), bent(Polynomial(n=6), products=5)
    computed = []
    original = HessianProducts._computed

    def counted(self, vectors):
        if len(computed) == 6:
            raise KeyboardInterrupt
        computed.append(vectors)
        return original(self, vectors)

    monkeypatch.setattr(HessianProducts, "_computed", counted)
    with pytest.raises(KeyboardInterrupt):
        bent(learner, products=5, store=tmp_path / "kept")
    computed.clear()
    again = bent(learner, products=5, store=tmp_path / "kept")
    assert len(computed) == 3  # nine in all: four probes and five products
    np.testing.assert_array_equal(again.eigenvalues, whole.eigenvalues)
    with pytest.raises(sl.StoreError, match="other arguments"):
        bent(Polynomial(n=6, seed=3), products=5, store=tmp_path / "kept")
