"""Training runs as functions of the weights: each optimiser and reduction, against oracles that share no code."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from support.runs import (
    BATCHES,
    INPUTS,
    ONES,
    REAL,
    TARGETS,
    N,
    assert_equals_cauchy_and_retraining,
    recipe,
    squared_error,
)

import sketchlearn as sl

pytestmark = pytest.mark.usefixtures("x64", "quick_compilation")

# --- optimisers -------------------------------------------------------------------------


def two_layers(parameters, x):
    return (jnp.tanh(x @ parameters["in"]) @ parameters["out"])[:, 0]


DRAW = np.random.default_rng(1)
START = {"in": DRAW.normal(size=(3, 3)), "out": DRAW.normal(size=(3, 2))}
CLIPPED = 0.5  # below the norms of the gradients here, which are about 1 to 4

OPTIMIZERS = {
    "sgd with a schedule": optax.sgd(optax.cosine_decay_schedule(0.2, 3)),
    "nesterov with decay": optax.chain(optax.add_decayed_weights(0.1), optax.sgd(0.1, momentum=0.9, nesterov=True)),
    "adam": optax.adam(0.1, eps=0.0, eps_root=1e-3),
    "adamw": optax.adamw(optax.linear_schedule(0.1, 0.01, 3), eps=0.0, eps_root=1e-3, weight_decay=0.1),
    "rmsprop": optax.rmsprop(0.05, eps=1e-3, eps_in_sqrt=True, momentum=0.5),
    "lbfgs": optax.lbfgs(0.1, linesearch=None),
    "muon": optax.contrib.muon(0.1),
    "clipped": optax.chain(optax.clip_by_global_norm(CLIPPED), optax.sgd(0.3)),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_series_of_a_run_with(name):
    assert_equals_cauchy_and_retraining(recipe(two_layers, OPTIMIZERS[name], initial=START))


def test_an_optimizer_with_a_line_search_is_given_what_it_asks_for():
    run = recipe(two_layers, optax.lbfgs(), initial=START)
    trained = run(ONES)
    query = run.query((INPUTS, TARGETS))
    assert query(trained) < query(run.parameters)


def test_clipping_is_recorded_as_piecewise():
    report = sl.piecewise_report(recipe(two_layers, OPTIMIZERS["clipped"], initial=START), ONES)
    assert any(place.startswith("lt at ") for place in report)


# --- what a weight means ----------------------------------------------------------------


def by_hand(weights, batches, reduction, optimizer):
    """The training loop written out, without scan and without Recipe."""
    parameters = jax.tree.map(jnp.asarray, START)
    state = optimizer.init(parameters)
    for batch in batches:
        seen = [i for i in batch if i >= 0]

        def total(p, seen=seen):
            losses = [weights[i] * (two_layers(p, INPUTS[i][None])[0] - TARGETS[i]) ** 2 for i in seen]
            over = {"mean": len(seen), "sum": 1, "weighted mean": sum(weights[i] for i in seen)}[reduction]
            return sum(losses) / over

        updates, state = optimizer.update(jax.grad(total)(parameters), state, parameters)
        parameters = optax.apply_updates(parameters, updates)
    return parameters


def assert_same_parameters(got, expected):
    # the same sums in another order, three steps of them: a few units in the last place
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-14), got, expected)


WEIGHTS = np.array([1.0, 0.3, 0.0, 1.2, 0.7])


@pytest.mark.parametrize("reduction", ["mean", "sum", "weighted mean"])
def test_recipe_is_the_training_loop_written_out(reduction):
    optimizer = optax.adam(0.1, eps=0.0, eps_root=1e-3)
    got = recipe(two_layers, optimizer, initial=START, reduction=reduction)(WEIGHTS)
    assert_same_parameters(got, by_hand(WEIGHTS, BATCHES, reduction, optimizer))


GONE = ONES - np.eye(N)[2]
WITHOUT = np.where(BATCHES == 2, -1, BATCHES)  # example 2 was never there


@pytest.mark.parametrize(
    ("reduction", "same"), [("sum", True), ("weighted mean", True), ("mean", False)], ids=lambda x: str(x)
)
def test_deleting_an_example_is_training_without_it_where_the_denominator_follows(reduction, same):
    deleted = recipe(two_layers, initial=START, reduction=reduction)(GONE)
    removed = recipe(two_layers, initial=START, reduction=reduction, batches=WITHOUT)(ONES)
    if same:
        assert_same_parameters(deleted, removed)
    else:  # its place stays in the mean's denominator
        assert np.abs(deleted["in"] - removed["in"]).max() > 1e-3


def test_a_batch_without_weight_takes_no_step():
    weights = np.array([1.0, 1.0, 1.0, 0.0, 0.0])  # nothing is left of the second batch, which has no momentum
    for reduction in ("weighted mean", "sum"):
        options = dict(optimizer=optax.sgd(0.1), initial=START, reduction=reduction)
        got = recipe(two_layers, batches=BATCHES[:2], **options)(weights)
        assert_same_parameters(got, recipe(two_layers, batches=BATCHES[:1], **options)(weights))


def test_series_where_the_denominator_follows_and_parameters_are_averaged():
    assert_equals_cauchy_and_retraining(recipe(two_layers, initial=START, reduction="weighted mean", averaging=0.6))


def test_average_of_the_parameters_is_the_recursion():
    run = recipe(two_layers, initial=START, averaging=0.6)
    expected = START
    for steps in (1, 2, 3):
        after = run.shortened(steps)(WEIGHTS).parameters
        expected = jax.tree.map(lambda a, p: 0.6 * a + 0.4 * p, expected, after)
    assert_same_parameters(run(WEIGHTS).averaged, expected)


def weighted_norm_loss(model, batch, weights):
    """A loss whose batch statistics see the weights: what is deleted leaves no trace in them."""
    x, y = batch
    mean = weights @ x / jnp.sum(weights)
    variance = weights @ (x - mean) ** 2 / jnp.sum(weights)
    return (model((x - mean) / jnp.sqrt(variance + 0.1)) - y) ** 2


def test_statistics_that_see_the_weights_forget_what_is_deleted():
    options = dict(initial=START, reduction="weighted mean", loss=weighted_norm_loss)
    deleted = recipe(two_layers, **options)(GONE)
    assert_same_parameters(deleted, recipe(two_layers, batches=WITHOUT, **options)(ONES))
    assert_equals_cauchy_and_retraining(recipe(two_layers, **options))


# --- keys, state, queries ------------------------------------------------------------------


def noisy_loss(model, batch, key):
    x, y = batch
    return (model(x + 0.1 * jax.random.normal(key, x.shape)) - y) ** 2


def test_keys_depend_on_the_step_and_the_seed_but_on_no_weight():
    def run(steps, seed):
        return recipe(two_layers, initial=START, batches=steps, loss=noisy_loss, seed=seed)(WEIGHTS)["in"]

    same, twice = np.array([[0, 1]]), np.array([[0, 1], [0, 1]])
    assert (run(twice, 1) == run(twice, 1)).all()
    assert (run(twice, 1) != run(twice, 2)).any()
    one = recipe(two_layers, optax.sgd(0.1), initial=START, batches=twice, loss=noisy_loss)
    carry = one.start()
    batches = [jax.tree.map(lambda x, t=t: x[t], one.inputs(jnp.ones(N))) for t in (0, 1)]
    moved = [one.finish(one.step(carry, batch)[0])["in"] for batch in batches]  # from the same parameters
    assert (moved[0] != moved[1]).any()
    assert (run(same, 1) != run(twice, 1)).any()


def test_query_and_apply_read_what_the_recipe_returns():
    run = recipe(two_layers, initial=START)
    trained = run(ONES)
    expected = (two_layers(trained, INPUTS) - TARGETS) ** 2
    np.testing.assert_array_equal(run.apply(trained, INPUTS), two_layers(trained, INPUTS))
    np.testing.assert_array_equal(run.query((INPUTS, TARGETS), each=True)(trained), expected)
    assert run.query((INPUTS, TARGETS))(trained) == expected.mean()
    absolute = run.query((INPUTS, TARGETS), loss=lambda model, b: jnp.abs(model(b[0]) - b[1]))
    np.testing.assert_allclose(absolute(trained), np.sqrt(expected).mean(), rtol=1e-14)  # a root and a square


def test_recipe_goes_through_the_sketch():
    run = recipe(two_layers, initial=START, loss=squared_error)
    query = run.query((INPUTS, TARGETS))
    made = sl.sketch(run, sl.Examples(N), degree=3, num_directions=40, progress=False)
    predicted = made.predict(query, [1], estimator="kernel")
    # 80 equations determine all 35 monomials of order 3, so only the orders above 3 are missing
    terms = sl.taylor_coefficients(lambda w: query(run(w)), ONES, -np.eye(N)[1], 3)
    np.testing.assert_allclose(predicted.value, terms.sum(), rtol=1e-8)  # a least-squares fit of well-scaled systems
    assert abs(predicted.value - query(run(ONES - np.eye(N)[1]))) < 0.1 * abs(predicted.change)


# --- what is not finite ---------------------------------------------------------------------


def test_the_step_and_the_example_that_spoil_a_run_are_named():
    def loss(model, batch):
        x, y = batch
        return jnp.log(x[:, 0] - INPUTS[4, 0]) ** 2 * model(x) ** 2 + y

    shifted = np.where(np.arange(N)[:, None] == 4, INPUTS, np.abs(INPUTS) + 3)  # log(0) for example 4 alone
    run = sl.Recipe(two_layers, optax.sgd(1e-3), loss, (shifted, TARGETS), BATCHES, initial=START, dtype="float64")
    found = run.first_failure()
    assert (found.step, found.order, found.batch, found.examples) == (1, 0, (3, 4), (4,))
    for attempt in (run, lambda w: sl.sketch(run, sl.Examples(N), 2, 2, progress=False)):
        with pytest.raises(FloatingPointError, match=r"step 1 \(of 3.*example 4 is not finite"):
            attempt(ONES)


def test_a_series_that_breaks_where_the_run_does_not_is_named():
    def root_of_weight(model, batch, weights):  # times the weight: w^(3/2), whose derivative at 0 is 0 · infinity here
        return squared_error(model, batch) * jnp.sqrt(weights)

    run = recipe(two_layers, initial=START, loss=root_of_weight)
    weights = ONES - np.eye(N)[3]
    assert run.first_failure(weights) is None
    found = run.first_failure(weights, REAL, degree=2)
    assert (found.step, found.order, found.examples) == (1, 1, (3,))


def test_a_sketch_names_the_step_and_the_example_at_which_its_series_breaks():
    def root_at_full_weight(model, batch, weights):  # √(1 - w) for the fourth example alone
        _, y = batch
        return squared_error(model, batch) * jnp.where(y == TARGETS[3], 1 + jnp.sqrt(1 - weights), 1)

    run = recipe(two_layers, initial=START, loss=root_at_full_weight)
    assert np.isfinite(jax.tree.leaves(run(ONES))[0]).all()
    with pytest.raises(FloatingPointError, match=r"order 1 along direction 0: .*step 1 .*example 3 is not finite"):
        sl.sketch(run, sl.Examples(len(TARGETS)), 2, 2, progress=False)


def test_a_root_of_zero_in_the_optimizer_is_the_updates_fault():
    def loss(model, batch):  # the gradient of "in" is zero, and with it Adam's second moment
        return (batch[1] - jnp.sum(model["out"])) ** 2 + 0 * jnp.sum(model["in"])

    run = sl.Recipe(None, optax.adam(0.1), loss, (INPUTS, TARGETS), BATCHES, initial=START, dtype="float64")
    assert run.first_failure() is None
    found = run.first_failure(ONES, REAL, degree=1)
    assert (found.step, found.order, found.examples) == (0, 1, ())
    assert "eps_root" in str(found)


# --- refusals -------------------------------------------------------------------------------


REFUSED = {
    "loss must return one floating-point number for each": dict(loss=lambda m, b: jnp.mean(squared_error(m, b))),
    "positions 0 to 4": dict(batches=np.array([[0, 5]])),
    r"batches\[:, None\]": dict(batches=np.arange(5)),
    "batch 1 holds no example": dict(batches=np.array([[0, 1], [-1, -1]])),
    "reduction must be one of": dict(reduction="median"),
    "needs its initial parameters": dict(initial=None),
    "averaging must be": dict(averaging=1.0),
}


@pytest.mark.parametrize("message", REFUSED)
def test_bad_arguments_are_refused_with(message):
    with pytest.raises(ValueError, match=message):
        recipe(two_layers, **{"initial": START, **REFUSED[message]})


def test_weights_that_would_lose_digits_are_refused():
    narrow = sl.Recipe(
        two_layers,
        optax.sgd(0.1),
        squared_error,
        (INPUTS, TARGETS),
        BATCHES,
        initial=jax.tree.map(np.float32, START),
    )
    with pytest.raises(TypeError, match='dtype="float64"'):
        narrow(ONES)
    with pytest.raises(ValueError, match=r"shape \(5,\)"):
        recipe(two_layers, initial=START)(np.ones(4))
    with pytest.raises(ValueError, match="expected what this recipe returns"):
        recipe(two_layers, initial=START).query((INPUTS, TARGETS))({"in": START["in"]})


# --- batches --------------------------------------------------------------------------------


def test_minibatches_hold_every_example_once_an_epoch():
    batches = sl.minibatches(7, 3, epochs=4, seed=1)
    assert batches.shape == (12, 3)
    for epoch in batches.reshape(4, 9):
        assert sorted(epoch[epoch >= 0]) == list(range(7))
    assert (batches[:3] != batches[3:6]).any()
    assert sl.minibatches(7, 3, epochs=4, drop_last=True).min() >= 0
    with pytest.raises(ValueError, match="at most the number of examples"):
        sl.minibatches(3, 4)


def test_the_checkpointed_run_is_the_same_run_and_gradients_use_it(monkeypatch):
    run = recipe(two_layers, initial=START)
    for ours, theirs in zip(jax.tree.leaves(run.train_checkpointed(ONES)), jax.tree.leaves(run(ONES)), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-12)  # one program compiled in two ways: rounding
    query = run.query((INPUTS, TARGETS))
    plain = sl.gradient(lambda w: run(w), query, sl.Examples(N))
    called = []
    original = type(run).train_checkpointed
    monkeypatch.setattr(type(run), "train_checkpointed", lambda self, w: called.append(1) or original(self, w))
    np.testing.assert_allclose(sl.gradient(run, query, sl.Examples(N)), plain, rtol=1e-9)  # summed in another order
    assert called
