"""What is said about a training program before it is run."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from jax import lax
from support.runs import BATCHES, INPUTS, ONES, TARGETS, TOKENS, N, recipe, squared_error

import sketchlearn as sl
from sketchlearn.taylor.survey import survey

pytestmark = pytest.mark.usefixtures("x64", "quick_compilation")

DRAW = np.random.default_rng(2)
START = {"in": DRAW.normal(size=(3, 3)), "out": DRAW.normal(size=3)}
SAFE = optax.adam(0.1, eps=0.0, eps_root=1e-3)


def network(parameters, x):
    return jnp.tanh(x @ parameters["in"]) @ parameters["out"]


def kinds(report):
    return {finding.kind for finding in report.findings}


def of_kind(report, kind):
    return [finding for finding in report.findings if finding.kind == kind]


def looped(body):
    """A training loop of two steps whose step is ``body``: what is wrong with it lies inside a scan."""
    return lambda w: lax.scan(lambda c, _: (body(c), None), w, None, length=2)[0]


def test_a_smooth_run_is_ready_and_its_stability_is_that_of_the_profile():
    run = recipe(network, SAFE, initial=START)
    query = run.query((INPUTS, TARGETS))
    report = sl.check(run, query=query, degree=2)
    assert report.ok
    assert report.findings == ()
    assert report.num_parameters == 12
    expected = sl.stability_profile(run, query, 2, 3, progress=False)
    np.testing.assert_array_equal(report.stability.norms, expected.norms)
    assert "Ready to sketch" in str(report)


PROGRAMS = {
    "no rule": (looped(lambda w: lax.nextafter(w, 1.0) + w), "nextafter at .*test_check.py.*bits"),
    "kink": (looped(lambda w: jnp.maximum(w, 0.5)), "max at .*test_check.py"),
    "narrowing cast": (looped(lambda w: jnp.sin(w.astype(jnp.float32)).astype(float)), "float64 to float32"),
    "epsilon outside a root": (looped(lambda w: w / (jnp.sqrt(w * w) + 1e-8)), "1e-08 is added"),
    "stop_gradient": (looped(lambda w: w * lax.stop_gradient(w)), "test_check.py"),
    "no number": (lambda w: (w, jnp.argmax(w)), "int"),
    "no dependence": (lambda w: jnp.ones(3), "no output"),
    "cannot be traced": (lambda w: np.ones(3) * float(w[0]), "Concretization"),
    "two traces differ": (lambda w: w * np.random.default_rng().normal(), "two programs"),
}
BLOCKING = {"no rule", "no number", "no dependence", "cannot be traced", "two traces differ"}


@pytest.mark.parametrize("kind", PROGRAMS)
def test_a_check_finds(kind):
    train, pattern = PROGRAMS[kind]
    report = sl.check(train, N)
    (finding,) = of_kind(report, kind)
    # whatever else is noted belongs to the same program: an argmax is piecewise too
    assert kinds(report) <= {kind, "kink"}
    assert report.ok == (kind not in BLOCKING)
    text = str(report)
    assert finding.fix in text
    assert re.search(pattern, text.replace("\n", " "))


@pytest.mark.parametrize("kind", PROGRAMS)
def test_a_check_of_the_sound_version_does_not_find(kind):
    sound = {
        "narrowing cast": looped(lambda w: jnp.sin(w.astype(float)) + jnp.float32(1.5)),
        "epsilon outside a root": looped(lambda w: w / jnp.sqrt(w * w + 1e-16) + jnp.sqrt(w * w + 1) + 1.0),
    }
    assert kind not in kinds(sl.check(sound.get(kind, looped(jnp.sin)), N))


def test_every_primitive_without_a_rule_is_listed_not_only_the_first():
    @jax.custom_vjp
    def backwards_only(x):
        return x

    backwards_only.defvjp(lambda x: (x, None), lambda _, g: (g,))
    report = sl.check(lambda w: jax.jit(backwards_only)(lax.nextafter(w, 2.0)) + lax.bessel_i0e(w), N)
    messages = " ".join(f.message for f in of_kind(report, "no rule"))
    assert all(name in messages for name in ("nextafter", "bessel_i0e", "backwards_only"))
    assert all("test_check.py" in f.where for f in of_kind(report, "no rule"))


def test_nothing_is_run_unless_asked_for():
    def train(w):  # a loop without end
        return lax.while_loop(lambda v: jnp.all(v < jnp.inf), lambda v: jnp.sin(v), w)

    report = sl.check(train, N)
    assert report.stability is None
    assert report.ok


def test_a_recipe_is_run_for_its_first_steps_only():
    run = recipe(network, SAFE, initial=START, batches=np.tile(BATCHES, (1000, 1)))
    report = sl.check(run, steps=2, degree=1, num_directions=1)
    assert report.steps == 2
    expected = sl.stability_profile(
        run.shortened(2), run.query((INPUTS[BATCHES[0]], TARGETS[BATCHES[0]])), 1, 1, progress=False
    )
    np.testing.assert_array_equal(report.stability.norms, expected.norms)


def test_default_adam_on_a_dead_parameter_is_not_ready_and_says_why():
    def with_dead_unit(parameters, x):  # its gradient is zero, and with it Adam's second moment
        return network(parameters, x) + 0 * jnp.sum(parameters["dead"])

    start = {**START, "dead": jnp.ones(2)}
    report = sl.check(recipe(with_dead_unit, optax.adam(0.1), initial=start))
    assert kinds(report) == {"epsilon outside a root", "not finite"}
    (failure,) = of_kind(report, "not finite")
    assert "after step 0" in failure.message
    assert "eps_root" in failure.message
    assert sl.check(recipe(with_dead_unit, SAFE, initial=start), degree=1, num_directions=1).ok


def test_a_run_that_fails_is_not_ready_and_names_the_example():
    def loss(model, batch):
        return jnp.log(batch[0][:, 0] - INPUTS[:, 0].min()) * model(batch[0])

    report = sl.check(recipe(network, initial=START, loss=loss))
    assert not report.ok
    assert f"example {INPUTS[:, 0].argmin()} " in of_kind(report, "not finite")[0].message


def test_the_condition_of_a_loop_is_a_decision_as_well():
    def train(w):
        return lax.while_loop(lambda s: jnp.sum(s) < 10.0, lambda s: 2 * s, w)

    report = sl.check(train, N)
    (finding,) = of_kind(report, "kink")
    assert re.search(r"^lt at .*test_check.py", finding.where)
    assert next(iter(sl.piecewise_report(train, ONES))) == finding.where


def test_decisions_on_a_kink_are_counted_in_the_short_run():
    def relu(parameters, x):  # the last unit starts at exactly zero
        return jnp.maximum(x @ parameters["in"], 0.0) @ parameters["out"]

    start = {**START, "in": START["in"] * np.array([1.0, 1.0, 0.0])}
    report = sl.check(recipe(relu, initial=start, batches=np.array([[0, 1]])), degree=1, num_directions=1)
    assert "2 decisions exactly on the kink" in str(report)
    assert "3 of 5" in str(report)  # and three examples are in no batch


def test_a_layer_of_flax_that_computes_in_float32_is_found_with_the_users_line():
    class Tokens(nnx.Module):
        def __init__(self):
            self.embed = nnx.Embed(4, 1, rngs=nnx.Rngs(0))  # its dtype is that of its parameters here, float32

        def __call__(self, tokens):
            return self.embed(tokens)[:, 0, 0]

    report = sl.check(recipe(Tokens(), x=TOKENS, loss=squared_error), stability=False)
    found = of_kind(report, "narrowing cast")
    assert found
    assert any("called from" in f.where and "test_check.py" in f.where for f in found)


def test_survey_agrees_with_the_report_of_a_run_on_which_places_are_piecewise():
    def train(w):
        v = looped(lambda v: jnp.where(v > 0.3, jnp.sort(v), jnp.abs(v)))(w)
        return lax.cond(v.sum() > 0, jnp.sin, lambda x: jnp.maximum(x, 0.1), v)

    remarks, _ = survey(train, ONES)
    assert {r.site for r in remarks if r.kind == "kink"} == set(sl.piecewise_report(train, ONES))


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ((3, N), TypeError), ((lambda w: w,), TypeError), ((lambda w: w, 0), ValueError),
        ((jnp.sin, [[1.0]]), TypeError), ((jnp.sin, [1.0, np.nan]), ValueError), ((jnp.sin, N, 3), TypeError),
        ((jnp.sin, N, jnp.argmax), TypeError),
    ],
)  # fmt: skip
def test_bad_arguments_are_refused(arguments, error):
    with pytest.raises(error, match=r"must be|not known|returns real floating-point numbers"):
        sl.check(*arguments)
