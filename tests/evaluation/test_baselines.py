"""Every baseline against an independent oracle: closed forms, differences of retraining, sums written out."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import sketchlearn as sl
from sketchlearn.evaluation.baselines import (
    CoordinateSums,
    DatamodelRegression,
    ForwardFirstOrder,
    GroupInfluence,
    InfinitesimalJackknife,
    Influence,
    LeadingCurvature,
    Metagradient,
    NewtonStep,
    ProjectedGradients,
    TracIn,
)

pytestmark = pytest.mark.usefixtures("x64")
N, P = 14, 3
SPACE = sl.Examples(N)
STACK = [[0], [2, 5], [1, 3, 4, 8]]


def world(kind=sl.worlds.Ridge, penalty=1.0):
    rng = np.random.default_rng(1)
    x = rng.normal(size=(N, P))
    y = x @ [1.0, -1.0, 0.5] + rng.normal(size=N)
    return kind(jnp.asarray(x), jnp.asarray(y if kind is sl.worlds.Ridge else np.sign(y)), penalty)


def query(theta):
    """Two losses on points that were not trained on."""
    test = jnp.asarray(np.random.default_rng(2).normal(size=(2, P)))
    return (test @ theta - 1.0) ** 2


def masks(delete=STACK):
    return np.stack([np.isin(np.arange(N), row) for row in delete]).astype(float)


def retrained_slope(made, h=1e-4):
    """-Σ x_i ∂q/∂w_i by central differences of retraining."""
    out = []
    for x in masks():
        ends = [np.asarray(query(made.train(jnp.asarray(1 - s * x)))) for s in (h, -h)]
        out.append((ends[0] - ends[1]) / (2 * h))
    return np.stack(out)


def logistic_truth(made, x):
    return np.asarray(query(made.train(jnp.asarray(1 - x))) - query(made.train(jnp.ones(N))))


def descent():
    return sl.worlds.LinearDescent(world(), 0.02, 30)


@pytest.mark.parametrize("method", [Metagradient, ForwardFirstOrder])
def test_first_order_through_training_is_the_central_difference_of_retraining(method):
    found = method(descent().train, SPACE).predict(query, STACK)
    # central differences: h² = 1e-8 times a third derivative of the slope's size, and rounding 1e-16 / h; the absolute
    # part is that rounding, for slopes near zero
    np.testing.assert_allclose(found.change, retrained_slope(descent()), rtol=1e-6, atol=1e-10)
    assert found.terms.shape == (3, 1, 2)


def test_forward_and_reverse_first_order_are_one_number():
    forward, reverse = (m(descent().train, SPACE).predict(query, STACK) for m in (ForwardFirstOrder, Metagradient))
    np.testing.assert_allclose(forward.change, reverse.change, rtol=1e-12)  # the same sums in another order


def test_the_metagradient_of_microgpt_in_checkpoints_is_forward_mode():
    experiment = sl.microgpt.paper_experiment(num_examples=6)
    loss, space = experiment.query(["max", "emma"]), sl.Examples(6)
    reverse = Metagradient(experiment.train_checkpointed, space).predict(loss, [1, 4])
    forward = ForwardFirstOrder(experiment.train, space).predict(loss, [1, 4])
    np.testing.assert_allclose(reverse.change, forward.change, rtol=1e-10)  # six steps, in another order


@pytest.mark.parametrize("kind", [sl.worlds.Ridge, sl.worlds.Logistic])
@pytest.mark.parametrize("solver", ["exact", "cg", "gauss_newton"])
def test_influence_at_a_minimum_is_the_slope_of_retraining(kind, solver):
    made = world(kind)
    found = Influence(made.problem(), SPACE, solver, tolerance=1e-12).predict(query, STACK)
    # differences of retraining as above, the absolute part ten times larger for a minimum found by iteration; for both
    # losses the Gauss-Newton matrix is the Hessian
    np.testing.assert_allclose(found.change, retrained_slope(made), rtol=1e-6, atol=1e-9)


def test_newton_s_step_on_ridge_is_retraining():
    made = world()
    found = NewtonStep(made.problem(), SPACE).predict(query, STACK)
    expected = np.stack([query(jnp.asarray(made.without(row))) for row in STACK])
    # both solve one well-conditioned system of few unknowns in float64
    np.testing.assert_allclose(found.value, expected, rtol=1e-10)


def test_group_influence_on_ridge_is_two_terms_of_the_geometric_series():
    made = world()
    x, matrix = np.asarray(made.features), np.asarray(made._matrix())
    found = GroupInfluence(made.problem(), SPACE).predict(query, STACK)
    for delete, value in zip(STACK, found.value, strict=True):
        theta = np.linalg.solve(matrix, x.T @ np.asarray(made.targets))
        residual = np.asarray(made.targets)[delete] - x[delete] @ theta
        effect = np.linalg.solve(matrix, x[delete].T)
        by_hand = theta - effect @ (residual + x[delete] @ effect @ residual)  # (I - H_DD)^-1 = I + H_DD + ..
        # two solves with one well-conditioned matrix, here and there
        np.testing.assert_allclose(value, query(jnp.asarray(by_hand)), rtol=1e-10)


@pytest.mark.parametrize("kind", [sl.worlds.Ridge, sl.worlds.Logistic])
def test_the_jackknife_s_orders_are_the_taylor_coefficients_of_training(kind):
    made = world(kind)
    found = InfinitesimalJackknife(made.problem(), SPACE, order=4).predict(query, STACK)
    for x, terms in zip(masks(), found.terms, strict=True):
        c = sl.reference.nested_jvp(lambda w: query(made.train(w)), jnp.ones(N), jnp.asarray(-x), 4)
        # the reference differentiates 12 Newton steps four times, which costs eight digits; some terms are near 0
        np.testing.assert_allclose(terms, c[1:], rtol=1e-8, atol=1e-10)
    first = Influence(made.problem(), SPACE).predict(query, STACK)
    # one solve at the minimum each, which Newton's steps reach to rounding
    np.testing.assert_allclose(found.terms[:, 0], first.change, rtol=1e-9)


def test_errors_on_a_logistic_model_fall_at_their_known_rates():
    made, x = world(sl.worlds.Logistic), masks()[2]
    problem = made.problem()
    methods = {
        2: Influence(problem, SPACE),
        3: InfinitesimalJackknife(problem, SPACE, order=2),
        4: InfinitesimalJackknife(problem, SPACE, order=3),
    }
    for power, method in methods.items():
        # down-weights of 1/8 and 1/16: the next order adds about a tenth to the exponent
        errors = [np.abs(method.predict(query, s * x).change - logistic_truth(made, s * x)) for s in (1 / 8, 1 / 16)]
        np.testing.assert_allclose(np.log2(errors[0] / errors[1]), power, atol=0.35)
    step = NewtonStep(problem, SPACE)
    newton = [np.abs(step.predict(query, s * x).change - logistic_truth(made, s * x)) for s in (1 / 8, 1 / 16)]
    np.testing.assert_allclose(np.log2(newton[0] / newton[1]), 2, atol=0.35)


def sgd(weights):
    """Three plain steps of rate 0.1 on one example each, with the points passed."""
    made = world()
    theta, passed = jnp.zeros(P), []
    for i in (0, 5, 2):
        passed.append(theta)
        gradient = jax.grad(made.problem().loss)(theta, i)
        theta = theta - 0.1 * weights[i] * gradient
    return theta, passed


def test_tracin_is_the_sum_of_products_of_gradients_along_the_run():
    made, (theta, passed) = world(), sgd(jnp.ones(N))
    visits = [np.eye(N, dtype=int)[i] for i in (0, 5, 2)]
    points = tuple(sl.Checkpoint(t, 0.1, v) for t, v in zip(passed, visits, strict=True))
    problem = sl.Problem(made.problem().loss, N, theta, checkpoints=points)
    found = TracIn(problem, SPACE).predict(query, [[0], [5, 2]])
    slopes = jax.jacrev(query)
    by_hand = [0.1 * slopes(t) @ jax.grad(problem.loss)(t, i) for t, i in zip(passed, (0, 5, 2), strict=True)]
    np.testing.assert_allclose(found.change, [by_hand[0], by_hand[1] + by_hand[2]], rtol=1e-12)
    # the last update acts on the query alone: there, to first order in the rate, TracIn is the truth
    truth = query(sgd(jnp.ones(N).at[2].set(0))[0]) - query(theta)
    one = TracIn(problem, SPACE).predict(query, [2]).change
    np.testing.assert_array_equal(np.sign(one), np.sign(truth))
    per_parameter = tuple(sl.Checkpoint(t, jnp.full(P, 0.1), v) for t, v in zip(passed, visits, strict=True))
    same = TracIn(sl.Problem(made.problem().loss, N, theta, checkpoints=per_parameter), SPACE)
    np.testing.assert_allclose(same.predict(query, [2]).change, one, rtol=1e-12)


def test_projected_gradients_without_a_projection_are_the_empirical_fisher_s_influence():
    problem = world().problem()
    theta = problem.flat
    g = np.stack([jax.grad(problem.loss)(theta, i) for i in range(N)])
    by_hand = np.asarray(jax.jacrev(query)(theta)) @ np.linalg.inv(g.T @ g) @ g.T @ masks().T
    found = ProjectedGradients(problem, SPACE, dim=None).predict(query, STACK)
    np.testing.assert_allclose(found.change, by_hand.T, rtol=1e-9)
    # an invertible projection changes nothing: (Pv)·(PFP')^-1 (Pg) = v·F^-1 g
    square = ProjectedGradients(problem, SPACE, dim=P, seed=3).predict(query, STACK)
    np.testing.assert_allclose(square.change, by_hand.T, rtol=1e-8)


@pytest.mark.parametrize("penalty", ["ridge", "lasso"])
def test_a_datamodel_finds_the_coefficients_of_a_linear_response(penalty):
    effects = np.linspace(-1, 1, N)
    bank = sl.RetrainBank(None, lambda w: w @ jnp.asarray(effects), {}, SPACE)
    found = DatamodelRegression(bank, num_subsets=80, fraction=0.3, penalty=penalty).predict(lambda p: p, STACK)
    # no noise, 80 equations for 14 coefficients: what is left is the shrinkage of the penalty, of a thousandth
    # of the largest strength tried for lasso
    np.testing.assert_allclose(found.change, -masks() @ effects, atol=0.02)


def test_leave_one_out_sums_are_exact_alone_and_miss_interactions():
    bank = sl.RetrainBank(None, lambda w: jnp.sum(w) ** 2, {}, SPACE)
    method = CoordinateSums(bank)
    found = method.predict(lambda p: p, [[3], [1, 2]])
    np.testing.assert_array_equal(found.change, [13.0**2 - 14**2, 2 * (13.0**2 - 14**2)])
    assert found.change[1] != 12.0**2 - 14**2


def test_pair_sums_are_exact_without_interactions_of_three():
    bank = sl.RetrainBank(None, lambda w: jnp.stack([jnp.sum(w) ** 2, jnp.prod(w[:2])]), {}, SPACE)
    method = CoordinateSums(bank, order=2)
    deletions = [[3], [1, 2], [0, 1, 4], list(range(9))]
    found, truth = method.predict(lambda p: p, deletions), bank.predict(lambda p: p, deletions)
    np.testing.assert_allclose(found.change, truth.change, rtol=1e-5)  # float32, numbers to 196
    first = CoordinateSums(bank).predict(lambda p: p, deletions)
    # float32 values of the same retrainings, in blocks of another size
    np.testing.assert_allclose(found.terms[:, 0], first.change, rtol=1e-6)


def test_pair_sums_miss_what_three_do_together():
    bank = sl.RetrainBank(None, lambda w: jnp.prod(1 - w[:3]), {}, SPACE)  # one only when all three are deleted
    found = CoordinateSums(bank, order=2).predict(lambda p: p, [[0, 1], [0, 1, 2]])
    assert found.change.tolist() == [0.0, 0.0]
    assert bank.predict(lambda p: p, [0, 1, 2]).change == 1


def test_sums_of_a_small_fraction_are_the_first_order_of_overlapping_coordinates():
    made, space = world(), sl.LinearMap(np.tri(N, 3))
    bank = sl.RetrainBank(None, made.train, {}, space)
    deletions = np.array([[1.0, 0, 0], [0.5, -0.25, 1]]) @ space.matrix.T
    exact = Metagradient(made.train, space).predict(query, deletions).change
    errors = [
        np.abs(CoordinateSums(bank, fraction=fraction).predict(query, deletions).change / exact - 1).max()
        for fraction in (1.0, 0.1, 0.01)
    ]
    assert errors[0] > 0.01
    # a difference quotient errs in proportion to its step; float64 leaves that of 0.01 to show it
    assert errors[1] < errors[0] / 5
    assert errors[2] < errors[1] / 5


def test_pair_sums_of_a_fraction_are_mixed_second_differences():
    bank = sl.RetrainBank(None, lambda w: w[0] * w[1] + 2 * w[2], {}, sl.Examples(3))
    found = CoordinateSums(bank, order=2, fraction=0.25).predict(lambda p: p, [[0, 1], [0, 1, 2]])
    assert found.change.tolist() == [-1.0, -3.0]  # binary fractions


def test_a_deletion_of_which_a_part_was_retrained_is_not_seen():
    bank = sl.RetrainBank(None, lambda w: jnp.sum(w) ** 2, {}, SPACE)
    for fraction, seen in ((1.0, N), (0.5, 0)):
        found = sl.evaluate(
            {"sums": CoordinateSums(bank, fraction=fraction)}, bank, lambda p: p, {"each": np.eye(N, dtype=bool)}
        )
        assert found.rows[0]["seen"] == seen


@pytest.mark.parametrize("fraction", [0, -0.1, 1.5, float("nan"), "0.1", None, True])
def test_what_is_no_fraction_of_a_coordinate_is_refused(fraction):
    bank = sl.RetrainBank(None, lambda w: jnp.sum(w) ** 2, {}, SPACE)
    wanted = "positive and finite|at most 1, the whole coordinate|a number"
    with pytest.raises((ValueError, TypeError), match=f"fraction must be ({wanted}), got"):
        CoordinateSums(bank, fraction=fraction)


def test_sums_say_what_they_cost_where_they_cannot_be_had(monkeypatch):
    bank = sl.RetrainBank(None, lambda w: jnp.sum(w) ** 2, {}, SPACE)
    with pytest.raises(ValueError, match=r"order must be 1 .* or 2 .*, got 3"):
        CoordinateSums(bank, order=3)
    monkeypatch.setattr("sketchlearn.evaluation.baselines.additive.free_memory", lambda: 100.0)
    with pytest.raises(
        MemoryError, match=r"105 retrainings, one for each of 14 coordinates and their pairs.*order=1, or"
    ):
        CoordinateSums(bank, order=2)


def test_leading_curvature_is_the_exact_second_order_where_it_knows_all_coordinates():
    made = world()
    found = LeadingCurvature(made.train, SPACE, products=100).predict(query, masks() / 2)
    exact = InfinitesimalJackknife(made.problem(), SPACE, 2).predict(query, masks() / 2)
    bend = jax.hessian(lambda x: query(made.train(1 - x)))(jnp.zeros(N))
    second = np.einsum("bi,Qij,bj->bQ", masks() / 2, bend, masks() / 2) / 2
    np.testing.assert_allclose(found.terms[:, 1], second, rtol=1e-8, atol=1e-12)  # another order of sums
    # through the solve of the normal equations, and by the implicit function theorem
    np.testing.assert_allclose(found.terms[:, 0], exact.terms[:, 0], rtol=1e-8)
    assert np.isfinite(found.truncation).all()


def test_leading_curvature_with_sums_is_exact_for_single_examples_and_says_what_it_was_made_from():
    made = world()
    bank = sl.RetrainBank(None, made.train, {}, SPACE)
    method = LeadingCurvature(made.train, SPACE, products=2, sums=CoordinateSums(bank))
    truth = bank.predict(query, np.eye(N, dtype=bool))
    # differences of values around one in float64, the smallest 1e-4
    np.testing.assert_allclose(method.predict(query, np.eye(N, dtype=bool)).change, truth.change, rtol=1e-8)
    np.testing.assert_array_equal(method.seen_deletions, np.eye(N))


def test_groups_are_deleted_whole_whatever_their_order():
    groups = sl.Groups(["b", "a", "c", "b"])
    train = lambda w: w @ jnp.array([1.0, 10.0, 100.0, 1000.0])  # noqa: E731
    bank = sl.RetrainBank(None, train, {}, groups)
    methods = [bank, CoordinateSums(bank), Metagradient(train, groups), ForwardFirstOrder(train, groups)]
    for method in methods:
        found = method.predict(lambda p: p, [["a"], ["b", "c"]])
        np.testing.assert_allclose(found.change, [-10.0, -1101.0], rtol=1e-12)


def test_deleting_an_example_that_helps_raises_the_loss_in_every_method():
    """Of two equal examples that the query equals, each pulls the parameter to the query's optimum."""
    x, y = jnp.ones((6, 1)), jnp.array([2.0, 2.0, 0.0, 0.5, -0.5, 0.1])
    made = sl.worlds.Ridge(x, y, penalty=1.0)
    problem, space = made.problem(), sl.Examples(6)
    loss = lambda theta: (2.0 - theta[0]) ** 2 / 2  # noqa: E731
    steps = (sl.Checkpoint(jnp.zeros(1), 0.1, np.ones(6, int)),)
    visited = sl.Problem(problem.loss, 6, problem.parameters, problem.penalty, checkpoints=steps)
    bank = sl.RetrainBank(None, made.train, {}, space)
    methods = [
        bank, CoordinateSums(bank), DatamodelRegression(bank, 60, 0.3), Metagradient(made.train, space),
        ForwardFirstOrder(made.train, space), Influence(problem, space), Influence(problem, space, "cg"),
        Influence(problem, space, "gauss_newton"), GroupInfluence(problem, space), NewtonStep(problem, space),
        InfinitesimalJackknife(problem, space, 3), TracIn(visited, space),
        ProjectedGradients(problem, space, dim=None),
    ]  # fmt: skip
    for method in methods:
        helps, hurts = method.predict(loss, [[0], [4]]).change
        assert helps > 0 > hurts, type(method).__name__


def test_a_method_without_an_error_bar_says_so_and_its_interval_is_unknown():
    found = Metagradient(descent().train, SPACE).predict(query, [0])
    assert np.isnan(found.interval()).all()
    assert "no error bar" in found.warnings[0]


def test_influence_away_from_a_minimum_says_so():
    problem = sl.Problem(lambda p, i: jnp.cos(p[0]) + p[1] ** 2, N, jnp.array([0.1, 0.2]))
    exact = Influence(problem, SPACE).predict(lambda p: p[0], [0])
    assert any("not positive definite" in text for text in exact.warnings)
    cg = Influence(problem, SPACE, "cg", max_iterations=1).predict(lambda p: p[0] + p[1], [0])
    assert any("relative residual" in text for text in cg.warnings)
    made = world()
    moved = sl.Problem(made.problem().loss, N, made.problem().parameters + 1.0, made.problem().penalty)
    assert any("not zero" in text for text in NewtonStep(moved, SPACE).predict(query, [0]).warnings)


def flat():
    """Losses that see the sum of two parameters only, and a minimum of them."""
    y = jnp.array([1.0, 3.0])
    return sl.Problem(lambda p, i: 0.5 * (p[0] + p[1] - y[i]) ** 2, 2, jnp.array([1.0, 1.0]))


SINGULAR = (Influence, GroupInfluence, NewtonStep, InfinitesimalJackknife)


@pytest.mark.parametrize("method", SINGULAR, ids=lambda m: m.__name__)
def test_a_direction_that_no_loss_determines_is_an_error_in_words(method):
    with pytest.raises(ValueError, match=r"Hessian is singular in float64 .* penalty, .* or add damping"):
        method(flat(), sl.Examples(2))


def test_damping_makes_a_singular_problem_solvable():
    for method in SINGULAR[:3]:  # H = [[2, 2], [2, 2]], slope -1 for example 0 deleted: both parameters move by 1/4
        found = method(flat(), sl.Examples(2), damping=1e-9).predict(lambda p: p[0], [0])
        expected = {Influence: 0.25, GroupInfluence: 0.375, NewtonStep: 0.5}[method]
        np.testing.assert_allclose(found.change, expected, rtol=1e-6)  # what the damping takes away is 1e-9


def test_a_deletion_that_leaves_too_little_for_a_newton_step_is_an_error_in_words():
    y = jnp.array([1.0, 3.0])
    problem = sl.Problem(lambda p, i: 0.5 * (p[i] - y[i]) ** 2, 2, y)
    step = NewtonStep(problem, sl.Examples(2))
    with pytest.raises(ValueError, match=r"after this deletion the Hessian is singular.*Delete less"):
        step.predict(lambda p: p[0], [1])


def passed(problem, parameters=None, steps=0.1, visits=None):
    """The problem with one checkpoint."""
    parameters = problem.parameters if parameters is None else parameters
    visits = np.ones(problem.num_examples) if visits is None else visits
    return dataclasses.replace(problem, checkpoints=(sl.Checkpoint(parameters, steps, visits),))


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda p: Influence(p, SPACE, "lu"), ValueError, "solver must be"),
        (lambda p: Influence(p, SPACE, damping=-1.0), ValueError, "damping"),
        (lambda p: Influence(p, sl.Examples(3)), ValueError, "14 examples, the space 3"),
        (lambda p: NewtonStep(query, SPACE), TypeError, "must be a sketchlearn.Problem"),
        (lambda p: TracIn(p, SPACE), ValueError, "needs checkpoints"),
        (lambda p: TracIn(passed(p, jnp.ones(5)), SPACE), ValueError, r"checkpoint 0 holds parameters .*\(5,\)"),
        (lambda p: TracIn(passed(p, steps=jnp.ones(7)), SPACE), ValueError, r"step_sizes of checkpoint 0 .*\(7,\)"),
        (lambda p: TracIn(passed(p, visits=np.ones(3)), SPACE), ValueError, "visits of checkpoint 0"),
        (lambda p: TracIn(passed(p, steps=np.nan), SPACE), ValueError, "checkpoint 0 holds NaN"),
        (lambda p: ProjectedGradients(p, SPACE, dim=50), ValueError, "do not span 50 dimensions"),
        (lambda p: Metagradient(3, SPACE), TypeError, "train must be a function"),
        (lambda p: sl.Problem(lambda t, i: t, 3, jnp.ones(2)), TypeError, "must return one number"),
        (lambda p: Metagradient(descent().train, SPACE).predict(lambda t: 1, [0]), TypeError, "query returns"),
        (lambda p: Metagradient(descent().train, SPACE).predict(query, [N]), IndexError, "example 14"),
        (lambda p: DatamodelRegression(None, 20, fraction=2.0), ValueError, "fraction"),
    ],
)
def test_what_does_not_fit_is_refused(call, error, message):
    with pytest.raises(error, match=message):
        call(world().problem())
