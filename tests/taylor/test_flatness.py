"""Never a certain zero for a question that was not answered: flat queries, and training that takes signs."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from jax import lax
from support.runs import BATCHES, N, recipe

import sketchlearn as sl
from sketchlearn.sketching import make
from sketchlearn.taylor.dependence import dependence

pytestmark = pytest.mark.usefixtures("x64", "quick_compilation")

DRAW = np.random.default_rng(3)
X, SIGNS = DRAW.normal(size=(N, 2)), np.array([1.0, -1.0, 1.0, 1.0, -1.0])
CLASSES = np.array([0, 1, 2, 0, 1])
SPACE = sl.Examples(N)


def train(w):
    """Three steps of a linear classifier with three classes, a parameter of its own, and one that no step touches."""

    def loss(p):
        return -jnp.sum(w * jax.nn.log_softmax(X @ p["w"] + p["b"])[jnp.arange(N), CLASSES])

    start = {"w": jnp.asarray(DRAW_OF_W), "b": jnp.zeros(3), "untouched": jnp.ones(2)}
    return lax.fori_loop(0, 3, lambda _, p: jax.tree.map(lambda a, g: a - 0.1 * g, p, jax.grad(loss)(p)), start)


DRAW_OF_W = DRAW.normal(size=(2, 3))


def logits(p):
    return X @ p["w"] + p["b"]


def accuracy(p):
    return jnp.mean(jnp.argmax(logits(p), 1) == CLASSES)


def margins(p):
    right = jax.nn.one_hot(CLASSES, 3, dtype=bool)  # of labels: constants
    return jnp.sum(logits(p) * right, 1) - jnp.max(jnp.where(right, -jnp.inf, logits(p)), 1)


def cross_entropy(p):
    return -jnp.mean(jnp.sum(jax.nn.one_hot(CLASSES, 3) * jax.nn.log_softmax(logits(p)), 1))


def both(p):
    return jnp.stack([cross_entropy(p), accuracy(p)])


def f1(p):
    found = jax.nn.sigmoid(logits(p)[:, 1]) > 0.5
    return 2 * jnp.sum(found & (CLASSES == 1)) / (jnp.sum(found) + jnp.sum(CLASSES == 1))


FLAT = {
    "accuracy": (accuracy, "argmax"),
    "jitted": (jax.jit(accuracy), "argmax"),
    "error count": (lambda p: jnp.sum(jnp.argmax(logits(p), 1) != CLASSES).astype(float), "argmax"),
    "vmapped": (lambda p: jnp.mean(jax.vmap(jnp.argmax)(logits(p)) == CLASSES), "argmax"),
    "mapped": (lambda p: lax.map(lambda x: jnp.argmax(x @ p["w"]) * 1.0, X).sum(), "argmax"),
    "counted in a scan": (lambda p: lax.scan(lambda c, x: (c + (x @ p["w"] > 0).sum(), None), 0.0, X)[0], ">"),
    "handed on in a loop": (lambda p: lax.fori_loop(0, 3, lambda _, c: (c[1], jnp.sign(p["b"][0])), (0.0, 0.0))[0],
                            "sign"),
    "rounds of a loop": (lambda p: lax.while_loop(lambda c: c[0] < p["w"][0, 0], lambda c: (c[0] + 1.0, c[1] + 1.0),
                                                  (-3.0, 0.0))[1], "<"),
    "branch": (lambda p: lax.cond(p["b"][0] > 0, lambda: 1.0, lambda: 2.0), ">"),
    "one hot of an argmax": (lambda p: jnp.sum(jax.nn.one_hot(jnp.argmax(logits(p), 1), 3) * X[:, :1]), "argmax"),
    "top k": (lambda p: jnp.mean((lax.top_k(logits(p), 2)[1] == CLASSES[:, None]).any(1)), "top_k"),
    "ranks": (lambda p: jnp.argsort(logits(p)[:, 0]) @ jnp.arange(5.0), "argsort"),
    "AUC of pairs": (lambda p: jnp.mean(logits(p)[:2, 0][:, None] > logits(p)[2:, 0]), ">"),
    "F1": (f1, ">"),
    "exact match": (lambda p: jnp.mean(jnp.round(logits(p)) == 1), "round"),
    "sign": (lambda p: jnp.sum(jnp.sign(p["b"])), "sign"),
    "rint": (lambda p: jnp.sum(jnp.rint(p["w"])), "round"),
    "floor": (lambda p: jnp.sum(p["w"] // 0.1), "floor|round|sign"),
    "heaviside": (lambda p: jnp.sum(jnp.heaviside(p["w"], 0.5)), "[<>]"),
    "cast": (lambda p: jnp.sum(p["w"].astype(int)) * 1.0, "the cast to int64"),
    "searchsorted": (lambda p: jnp.searchsorted(jnp.array([0.0, 0.1]), p["b"][0]) * 1.0, "[<>]=?|call_hi_primitive"),
    "isclose": (lambda p: jnp.mean(jnp.isclose(p["w"], 0.1)), "[<=>]+"),
    "where of constants": (lambda p: jnp.sum(jnp.where(p["w"] > 0, 1.0, 0.0)), ">"),
    "two flat outputs": (lambda p: jnp.stack([accuracy(p), f1(p)]), "argmax"),
}  # fmt: skip
SMOOTH = {
    "cross entropy": cross_entropy,
    "margins": margins,
    "soft accuracy": lambda p: jnp.mean(jax.nn.sigmoid(margins(p))),
    "relu network": lambda p: jnp.sum(jax.nn.relu(logits(p)) + jnp.maximum(logits(p), 0.0)),
    "hinge": lambda p: jnp.mean(jnp.maximum(0, 3 - margins(p))),
    "softmax": lambda p: jax.nn.softmax(logits(p))[0],
    "one entry": lambda p: p["b"][1],
    "median": lambda p: jnp.median(p["w"]) + jnp.quantile(p["w"], 0.3),
    "where": lambda p: jnp.where(p["w"] > 0, p["w"], 2 * p["w"]),
    "nan_to_num": lambda p: jnp.nan_to_num(p["w"]),
    "masked by constants": lambda p: jnp.sum((jax.random.uniform(jax.random.key(0), (N, 3)) < 0.9) * logits(p)),
    "stop_gradient": lambda p: lax.stop_gradient(p["b"]),
    "chosen by an argmax": lambda p: p["w"][0, jnp.argmax(p["w"][0])],
}


@pytest.fixture(scope="module")
def made():
    with jax.enable_x64(True):
        return sl.sketch(train, SPACE, 2, 12, progress=False)


@pytest.mark.parametrize("name", FLAT)
def test_a_flat_query_is_refused_with_the_operation_and_its_line(made, name):
    query, operation = FLAT[name]
    with pytest.raises(ValueError, match=rf"only through .*({operation}) at test_flatness\.py:\d+") as error:
        made.predict(query, [0])
    assert "jax.nn.sigmoid(margin" in str(error.value)
    assert np.isfinite(sl.retrain(train, np.ones(N), query)).all()  # the truth is a question that has an answer


@pytest.mark.parametrize("name", SMOOTH)
def test_a_query_with_a_smooth_way_is_answered_without_a_doubt(made, name):
    found = made.predict(SMOOTH[name], [[0], [1, 2]])
    assert np.isfinite(found.interval()).all()
    assert not any("did not move" in text for text in found.warnings)
    assert dependence(SMOOTH[name], made.parameters).reached == (True,)


def test_a_soft_accuracy_is_predicted_where_the_accuracy_was_refused(made):
    query = SMOOTH["soft accuracy"]
    found = made.predict(query, np.array([0, 0.1, 0, 0, 0]))
    truth = sl.retrain(train, [1, 0.9, 1, 1, 1], query) - found.baseline
    assert found.change == pytest.approx(truth, rel=0.01)  # two orders of a tenth of one example: the third is 0.1 %


def test_of_several_outputs_those_that_did_not_move_are_unknown_and_named(made):
    found, alone = made.predict(both, [[0], [1]]), made.predict(cross_entropy, [[0], [1]])
    for field in ("change", "standard_error", "truncation"):
        np.testing.assert_allclose(getattr(found, field)[:, 0], getattr(alone, field), atol=1e-12)  # rounding
    assert np.isnan([found.standard_error[:, 1], found.truncation[:, 1], *found.standard_errors[:, :, 1].T]).all()
    assert np.isnan(found.interval())[:, :, 1].all()
    (text,) = (t for t in found.warnings if "did not move" in t)
    assert "output 1 of the query" in text
    assert "argmax at test_flatness.py" in text


def test_a_query_that_a_loop_only_seems_to_move_is_refused(made):
    def query(p):
        return jnp.sum(lax.fori_loop(0, 2, lambda _, x: jnp.sign(x), p["w"]))

    assert dependence(query, made.parameters).reached == (True,)
    with pytest.raises(ValueError, match=r"did not move .*sign at test_flatness\.py"):
        made.predict(query, [0])


@pytest.mark.parametrize(
    "query",
    [lambda p: jnp.maximum(0.0, cross_entropy(p) - 100), lambda p: p["untouched"][0], lambda p: 0 * cross_entropy(p)],
    ids=["dead hinge", "untouched parameter", "zero times"],
)
def test_a_query_that_nothing_moves_is_unknown_and_not_zero(made, query):
    found = made.predict(query, [0])
    assert found.change == 0
    assert np.isnan(found.interval()).all()
    assert "the query did not move along any direction" in found.warnings[-1]


def test_a_constant_is_no_query(made):
    with pytest.raises(ValueError, match="it is a constant"):
        made.predict(lambda p: jnp.ones(2), [0])


def test_a_flat_query_by_name_is_refused_before_anything_is_run(monkeypatch):
    monkeypatch.setattr(make, "in_blocks", lambda *_: pytest.fail("training was begun"))
    with pytest.raises(ValueError, match=r"argmax at test_flatness\.py"):
        sl.sketch(train, SPACE, 1, 4, progress=False, queries={"accuracy": accuracy})


def test_unmoved_outputs_of_a_stored_query_are_unknown(tmp_path):
    sl.sketch(train, SPACE, 1, 4, progress=False, queries={"both": both}, store=tmp_path / "s")
    found = sl.open_sketch(tmp_path / "s").predict("both", [0])
    np.testing.assert_array_equal(np.isnan(found.standard_error), [False, True])
    assert "output 1 of the query did not move" in found.warnings[-1]


def test_an_additive_sketch_knows_flat_outputs_where_it_has_retrained_and_nowhere_else():
    made = sl.sketch(train, SPACE, 1, 4, progress=False, additive=True)
    found = made.predict(both, [[0], [3], [0, 3]])
    np.testing.assert_array_equal(np.isnan(found.standard_error), [[False, False], [False, False], [False, True]])
    truth = sl.retrain(train, 1 - np.eye(N)[[0, 3]], accuracy)
    np.testing.assert_allclose(found.value[:2, 1], truth, rtol=1e-12)  # retrained itself
    with pytest.raises(ValueError, match="argmax"):
        made.predict(accuracy, [0, 3])


def test_a_coordinate_that_acts_by_a_jump_alone_is_unknown_among_others():
    def own_means(w):  # two batches: the weight of the first, a single example's, cancels in its mean
        size = jnp.array([w[0], w[1] + w[2] + w[3] + w[4]])
        total = jnp.array([3 * w[0], w[1] + 2 * w[2] + 4 * w[3] + w[4]])
        return total / jnp.where(size == 0, 1, size)

    made = sl.sketch(own_means, SPACE, 1, 4, progress=False, additive=True)
    found = made.predict(jnp.sum, [[0], [0, 1], [1, 2]])
    np.testing.assert_array_equal(np.isnan(found.standard_error), [False, True, False])
    assert found.change[0] == pytest.approx(-3)  # retrained
    assert "coordinates 0 have a series of zero" in found.warnings[-1]


def test_an_evaluation_refuses_a_flat_query_before_it_retrains(made):
    bank = sl.RetrainBank(None, train, {}, SPACE)
    with pytest.raises(ValueError, match=r"argmax at test_flatness\.py"):
        sl.evaluate({"sketch": made}, bank, accuracy, {"single": np.eye(N, dtype=bool)})
    assert len(bank) == 0


@pytest.fixture(scope="module")
def problem():
    with jax.enable_x64(True):
        return sl.worlds.Ridge(jnp.asarray(X), jnp.asarray(SIGNS), penalty=0.1).problem()


def right_signs(p):
    return jnp.mean(jnp.sign(X @ p) == SIGNS)


def asked_of(method, query=right_signs):
    return lambda problem: method(problem).predict(query, [0])


REFUSING = {
    "gradient": lambda _: sl.gradient(train, accuracy, SPACE),
    "plan": lambda _: sl.plan(train, SPACE, accuracy, progress=False),
    "stability by series": lambda _: sl.stability_profile(train, accuracy, 2, 2, SPACE, progress=False),
    "stability on circles": lambda _: sl.stability_profile(train, accuracy, 2, 2, SPACE, 0, "cauchy", False),
    "Metagradient": lambda _: sl.baselines.Metagradient(train, SPACE).predict(accuracy, [0]),
    "ForwardFirstOrder": lambda _: sl.baselines.ForwardFirstOrder(train, SPACE).predict(accuracy, [0]),
    "Influence": asked_of(lambda p: sl.baselines.Influence(p, SPACE)),
    "projected": asked_of(lambda p: sl.baselines.ProjectedGradients(p, SPACE, dim=None)),
    "jackknife": asked_of(lambda p: sl.baselines.InfinitesimalJackknife(p, SPACE)),
}


@pytest.mark.parametrize("name", REFUSING)
def test_whatever_takes_derivatives_refuses_a_flat_query(problem, name):
    with pytest.raises(ValueError, match=r"(argmax|sign) at test_flatness\.py"):
        REFUSING[name](problem)


def test_what_retrains_answers_a_flat_query():
    bank = sl.RetrainBank(None, train, {}, SPACE)
    truth = sl.retrain(train, 1 - np.eye(N), accuracy)
    np.testing.assert_array_equal(bank.predict(accuracy, list(np.eye(N, dtype=bool))).value, truth)
    sums = sl.baselines.CoordinateSums(bank).predict(accuracy, list(np.eye(N, dtype=bool)))
    np.testing.assert_allclose(sums.value, truth, rtol=1e-12)  # subtracted and added again


def test_a_first_order_of_exactly_zero_is_said_to_be_no_answer():
    with pytest.warns(UserWarning, match=r"output 1 of the query did not move .*argmax"):
        g = sl.gradient(train, both, SPACE)
    assert g[:, 0].all()
    assert not g[:, 1].any()
    found = sl.baselines.ForwardFirstOrder(train, SPACE).predict(both, [0])
    assert "outputs [1] is exactly zero" in found.warnings[-1]
    plan = sl.plan(train, SPACE, both, degree=1, num_directions=8, pilot=2, progress=False)
    assert any("output 1 of the query did not move" in text for text in plan.warnings)


def test_reverse_mode_refuses_what_stop_gradient_hides_and_a_sketch_answers(made):
    def hidden(p):
        return jnp.sum(lax.stop_gradient(p["b"]) ** 2)

    def stopped(w):
        return lax.stop_gradient(train(w))

    for ask in (
        lambda: sl.gradient(train, hidden, SPACE),
        lambda: sl.gradient(stopped, cross_entropy, SPACE),
        lambda: sl.baselines.Metagradient(stopped, SPACE).predict(cross_entropy, [0]),
        lambda: sl.baselines.ForwardFirstOrder(stopped, SPACE).predict(cross_entropy, [0]),
    ):
        with pytest.raises(ValueError, match=r"stop_gradient at test_flatness\.py.*Sketch the run instead"):
            ask()
    plain = made.predict(lambda p: jnp.sum(p["b"] ** 2), [0])
    assert made.predict(hidden, [0]).change == pytest.approx(plain.change, rel=1e-12)


def test_a_gradient_that_the_directions_contradict_is_reported(made):
    g = sl.gradient(train, cross_entropy, SPACE)
    assert not any("gradient given" in t for t in made.predict(cross_entropy, [0], gradient=g).warnings)
    for wrong in (0 * g, 2 * g):
        found = made.predict(cross_entropy, [0], gradient=wrong)
        assert "the gradient given is not the first order" in found.warnings[-1]


SIGNED = {
    "lion": optax.lion(0.1),
    "sign_sgd": optax.sign_sgd(0.1),
    "rprop": optax.rprop(0.1),
    "signum": optax.chain(optax.trace(0.9), optax.scale_by_sign(), optax.scale(-0.1)),
}
START = {"in": DRAW.normal(size=(3, 3)), "out": DRAW.normal(size=3)}


def network(p, x):
    return jnp.tanh(x @ p["in"]) @ p["out"]


def norm(p):
    return jnp.sum(p["in"] ** 2)


@pytest.mark.parametrize("name", SIGNED)
def test_training_by_signs_is_refused_and_the_sign_is_named(name):
    run = recipe(network, SIGNED[name], initial=START)
    with pytest.raises(ValueError, match=r"only through sign at .*\.py:.*adam, sgd with momentum"):
        sl.sketch(run, SPACE, 1, 2, progress=False)
    report = sl.check(run)
    (finding,) = (f for f in report.findings if f.kind == "no dependence")
    assert "sign at " in finding.message
    assert "adam" in finding.fix
    assert not report.ok


def test_other_first_orders_and_profiles_of_training_by_signs_are_refused():
    run = recipe(network, SIGNED["lion"], initial=START)
    for ask in (
        lambda: sl.gradient(run, norm, SPACE),
        lambda: sl.plan(run, SPACE, norm, degree=1, num_directions=4, pilot=2, progress=False),
        lambda: sl.stability_profile(run, norm, 2, 2, progress=False),
        lambda: sl.stability_profile(run, norm, 2, 2, method="cauchy", progress=False),
        lambda: sl.baselines.Metagradient(run, SPACE).predict(norm, [0]),
        lambda: sl.baselines.ForwardFirstOrder(run, SPACE).predict(norm, [0]),
    ):
        with pytest.raises(ValueError, match="only through sign at "):
            ask()


def test_parameters_that_a_loop_only_seems_to_move_are_refused_after_the_first_block():
    def twice(w):
        return lax.fori_loop(0, 2, lambda _, x: jnp.sign(x), w)

    with pytest.raises(ValueError, match=r"every coefficient of every parameter is zero.*sign at test_flatness\.py"):
        sl.sketch(twice, SPACE, 2, 4, progress=False)
    report = sl.check(twice, N, stability=True)
    assert {"no dependence", "flat operation"} <= {f.kind for f in report.findings}


def test_training_that_never_looks_at_its_weights_is_told_so():
    with pytest.raises(ValueError, match="multiply each example's loss by its weight"):
        sl.sketch(lambda w: jnp.ones(2), SPACE, 1, 2, progress=False)


def test_a_flat_query_is_a_finding_that_blocks():
    report = sl.check(train, N, query=accuracy)
    (finding,) = (f for f in report.findings if f.kind == "flat query")
    assert finding.blocking
    assert "argmax at test_flatness.py" in finding.message
    assert sl.check(train, N, query=cross_entropy).ok


def test_a_flat_operation_beside_a_smooth_way_is_a_finding_of_its_own():
    report = sl.check(lambda w: w * jnp.round(w.sum()), N)
    (finding,) = report.findings
    assert finding.kind == "flat operation"
    assert "round at " in finding.where
    assert report.ok


class Usual(nnx.Module):
    """What stands in ordinary networks: relu, batch normalisation, dropout, a maximum."""

    def __init__(self):
        kind = {"dtype": jnp.float64, "param_dtype": jnp.float64, "rngs": nnx.Rngs(0)}
        self.inside, self.norm, self.out = nnx.Linear(3, 4, **kind), nnx.BatchNorm(4, **kind), nnx.Linear(4, 2, **kind)
        self.drop = nnx.Dropout(0.5, rngs=nnx.Rngs(1))

    def __call__(self, x):
        return jnp.max(self.out(self.drop(nnx.relu(self.norm(self.inside(x))))), 1)


def test_ordinary_training_has_no_flat_operations():
    clipped = optax.chain(optax.clip_by_global_norm(0.1), optax.clip(0.5), optax.apply_if_finite(optax.adam(0.1), 3))
    whole = np.where(BATCHES < 0, 1, BATCHES)  # BatchNorm sees a whole batch
    report = sl.check(recipe(Usual(), clipped, batches=whole), stability=False)
    assert not {"flat operation", "no dependence", "flat query"} & {f.kind for f in report.findings}


def test_queries_of_microgpt_are_smooth():
    experiment = sl.microgpt.paper_experiment(num_examples=2)
    shapes = jax.eval_shape(experiment.train, jnp.ones(2, experiment.dtype))
    found = dependence(experiment.query(["max", "alexa"]), shapes)
    assert (found.reached, found.met) == ((True,), ())
