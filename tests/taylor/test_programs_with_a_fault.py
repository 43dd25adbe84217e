"""What ``check`` says of programs with a fault, and of derivative rules that are another function's."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax import lax

import sketchlearn as sl
from sketchlearn.runtime import jax_compat as compat
from sketchlearn.taylor import compared, stand_ins

pytestmark = pytest.mark.usefixtures("quick_compilation")

X = np.random.default_rng(0).normal(size=(6, 2)).astype(np.float32)
Y = np.random.default_rng(1).normal(size=6).astype(np.float32)


def recipe(loss=None, optimizer=None):
    return sl.Recipe(
        lambda p, x: x @ p,
        optax.sgd(0.1) if optimizer is None else optimizer,
        (lambda model, batch: (model(batch[0]) - batch[1]) ** 2) if loss is None else loss,
        (X, Y),
        sl.minibatches(6, 3, epochs=1),
        initial=jnp.full(2, 0.1, jnp.float32),
    )


def kinds(train, *arguments, **options):
    return {f.kind for f in sl.check(train, *arguments, degree=1, num_directions=1, **options).findings}


def made(kind, values, slope):
    """A function whose derivative rule says ``slope(x)`` whatever its values do."""
    if kind == "custom_jvp":
        function = jax.custom_jvp(values)
        function.defjvp(lambda p, t: (function(*p), slope(*p) * t[0]))
    else:
        function = jax.custom_vjp(values)
        function.defvjp(lambda x: (values(x), x), lambda x, g: (slope(x) * g,))
    return function


def ones_like(x):
    return jnp.ones_like(x)


# --- rules that are another function's ---------------------------------------------------

TRICKS = {
    "reversed gradient": (lambda x: 1.0 * x, lambda x: -ones_like(x)),
    "scaled gradient": (lambda x: 1.0 * x, lambda x: 0.5 * ones_like(x)),
    "straight through": (lambda x: jnp.round(x), ones_like),
    "spike": (lambda x: (x > 0).astype(x.dtype), lambda x: 1 / (1 + 10 * jnp.abs(x)) ** 2),
    "forgotten factor": (lambda x: jnp.exp(2 * x), lambda x: jnp.exp(2 * x)),
}


@pytest.mark.parametrize("name", TRICKS)
def test_check_reports_a_rule_that_is_not_the_derivative(name):
    function = made("custom_jvp", *TRICKS[name])
    report = sl.check(lambda w: function(jnp.outer(w, X[:, 0])).sum(0) * w, 6)
    (finding,) = [f for f in report.findings if f.kind == "rule differs"]
    assert report.ok  # the series of the rule can be sketched, if it is meant
    assert "test_programs_with_a_fault.py" in finding.where
    assert "stand_in(function, plain)" in finding.fix
    slope, rule = (float(part.split()[-1].strip(",.")) for part in finding.message.partition(", and its")[::2])
    expected = {"reversed gradient": -slope, "scaled gradient": slope / 2, "forgotten factor": slope / 2}
    if name in expected:
        assert rule == pytest.approx(expected[name], rel=0.02)  # three digits, and differences over a step of 0.03
    else:
        assert slope == 0
        assert rule != 0


@jax.custom_jvp
def exponential_by_bits(x):
    bits = lax.bitcast_convert_type(jnp.exp(x), jnp.int32)
    return lax.bitcast_convert_type(bits ^ 5 ^ 5, jnp.float32)


exponential_by_bits.defjvps(lambda t, y, x: t * y)
RIGHT = {
    "bits": exponential_by_bits,
    "steep": made("custom_jvp", lambda x: jnp.tanh(1e6 * x), lambda x: 1e6 / jnp.cosh(1e6 * x) ** 2),
    "oscillating": made("custom_jvp", lambda x: jnp.sin(1e4 * x), lambda x: 1e4 * jnp.cos(1e4 * x)),
    "not finite": made("custom_jvp", lambda x: jnp.log(x - 100), lambda x: 1 / (x - 100)),
    "kink": made("custom_jvp", lambda x: jnp.abs(x), lambda x: jnp.sign(x)),
    "safe at zero": made("custom_jvp", lambda x: jnp.sqrt(x), lambda x: jnp.where(x > 0, 0.5 / jnp.sqrt(x), 0)),
    "relu": jax.nn.relu,
    "relu6": jax.nn.relu6,
    "softplus": jax.nn.softplus,
    "gelu": jax.nn.gelu,
    "erf": lax.erf,
    "logsumexp": jax.nn.logsumexp,
    "log_sigmoid": jax.nn.log_sigmoid,
    "logaddexp": lambda x: jnp.logaddexp(x, x[::-1]) + jnp.logaddexp2(x, 0.0),
    "sinc": jnp.sinc,
    "logit": lambda x: jax.scipy.special.logit(jax.nn.sigmoid(x)),
    "xlogy": lambda x: jax.scipy.special.xlogy(x, x) + jax.scipy.special.xlog1py(x, x) + jax.scipy.special.entr(x),
    "log_ndtr": lambda x: jax.scipy.special.log_ndtr(x.astype(jnp.float32)).astype(x.dtype),
    "safe norm": lambda x: optax.safe_norm(x, 1e-3),
    "projection": lambda x: optax.projections.projection_simplex(x),
}  # fmt: skip


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize("name", RIGHT)
def test_rules_that_are_right_raise_no_alarm(name, dtype):
    if name == "bits" and dtype == jnp.bfloat16:
        pytest.skip("its bits are those of float32")
    program = jax.make_jaxpr(RIGHT[name])(jnp.full(5, 0.5, dtype)).jaxpr
    calls = [e for e in compat.all_equations(program) if e.primitive.name == "custom_jvp_call"]
    assert calls or name in ("gelu", "erf", "logsumexp", "safe norm")  # some versions of JAX have primitives for them
    for eqn in calls:
        moving = tuple(jnp.issubdtype(v.aval.dtype, jnp.floating) for v in eqn.invars)
        met = compared.Met(eqn, moving, (None,) * len(moving), "", "")
        assert compared.findings(met) is None


@pytest.mark.parametrize("kind", ["custom_jvp", "custom_vjp"])
def test_a_stand_in_makes_the_series_follow_the_values(kind, monkeypatch):
    """Three spellings of one trick give retraining's answer: of values, with the rule in training's own gradient."""
    monkeypatch.setattr(stand_ins, "STAND_INS", {})
    function = made(kind, lambda x: x**2, ones_like)
    sl.taylor.stand_in(function, lambda x: x**2)

    def run(trick):
        def train(w):
            loss = lambda p: jnp.sum(w * trick(X @ p) * Y)  # noqa: E731
            p = lax.fori_loop(0, 2, lambda _, p: p - 0.1 * jax.grad(loss)(p), jnp.ones(2))
            return trick(p * w[:2])

        return train

    weights, along = jnp.linspace(0.5, 1, 6), jnp.sin(jnp.arange(6.0))
    got = sl.taylor_coefficients(run(function), weights, along, 3)
    detour = sl.taylor_coefficients(run(lambda x: x + lax.stop_gradient(x**2 - x)), weights, along, 3)
    np.testing.assert_allclose(got, detour, rtol=1e-5, atol=1e-5)  # float32
    h = 0.05  # the truth, from the program's values alone
    up, down = (run(function)(weights + s * h * along) for s in (1, -1))
    np.testing.assert_allclose(got[1], (up - down) / (2 * h), rtol=0.02)  # differences over that step
    assert "rule differs" not in kinds(run(function), 6)


def test_check_reports_a_stand_in_with_other_values(monkeypatch):
    monkeypatch.setattr(stand_ins, "STAND_INS", {})
    function = made("custom_vjp", jnp.sin, jnp.cos)
    sl.taylor.stand_in(function, jnp.cos)
    report = sl.check(lambda w: function(w), 6)
    assert not report.ok
    assert "Stand-ins that differ" in str(report)
    sl.taylor.stand_in(function, lambda x: jnp.cos(x - jnp.pi / 2))
    assert sl.check(lambda w: function(w), 6).ok


# --- programs with a fault ------------------------------------------------------------------


def doubled_outside(x):
    return jax.pure_callback(lambda v: np.asarray(v) * 2, jax.ShapeDtypeStruct(x.shape, x.dtype), x)


def fails_outside(x):
    def failing(v):
        raise RuntimeError("disk full")

    jax.debug.callback(failing, x)
    return x


def counted_calls():
    left = iter(range(1))
    return lambda w: w * next(left)


FAULTS = {
    "python number": (lambda w: jnp.ones(3) * float(w[0]), "cannot be traced"),
    "python branch": (lambda w: w if w[0] > 0 else -w, "cannot be traced"),
    "numpy": (lambda w: np.sin(w), "cannot be traced"),
    "nothing": (lambda w: None, "no dependence"),
    "text": (lambda w: "trained", "cannot be traced"),
    "counter": (lambda w: (w, jnp.int32(3)), "no number"),
    "wrong shape": (lambda w: w @ jnp.ones(7), "cannot be traced"),
    "another trace": (counted_calls(), "cannot be traced"),
    "callback": (doubled_outside, "no rule"),
    "backward rule": (made("custom_vjp", jnp.sin, jnp.cos), "no rule"),
    "not a number": (lambda w: jnp.log(w - 2), "not finite"),
    "infinite slope": (lambda w: jnp.sqrt(w - 1), "not finite"),
    "failing callback": (fails_outside, "cannot be run"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_check_reports_a_fault_and_does_not_raise(name):
    train, kind = FAULTS[name]
    report = sl.check(train, 6, stability=True, degree=1, num_directions=1)
    assert not report.ok
    assert kind in {f.kind for f in report.findings}
    assert all(f.fix and f.message for f in report.findings if f.blocking)
    assert "Not ready" in str(report)


LOSSES = {
    "backward rule": (lambda m, b: made("custom_vjp", jnp.square, lambda x: 2 * x)(m(b[0]) - b[1]), "no rule in query"),
    "printed": (lambda m, b: (jax.debug.print("{}", m(b[0]).sum()), (m(b[0]) - b[1]) ** 2)[1], ""),
    "not a number": (lambda m, b: jnp.log(-jnp.abs(m(b[0])) - 1), "not finite"),
    "callback": (lambda m, b: m(b[0]) ** 2 + doubled_outside(lax.stop_gradient(m(b[0]))), ""),
}


@pytest.mark.parametrize("name", LOSSES)
def test_check_of_a_recipe_reports_what_its_loss_does(name):
    loss, kind = LOSSES[name]
    report = sl.check(recipe(loss), degree=1, num_directions=1)
    found = {f.kind for f in report.findings}
    if name == "callback":  # refused or, where only the loss's value needs it, of no consequence
        assert found & {"no rule", "no rule in query", "cannot be run"}
    elif kind:
        assert kind in found
    else:
        assert report.ok
    if name == "backward rule":
        assert report.ok
        assert report.stability is not None
        assert np.isfinite(report.stability.norms).all()


def test_check_reports_a_query_with_a_fault():
    train = recipe()
    for query, kind in [
        (lambda p: made("custom_vjp", jnp.square, lambda x: 2 * x)(p).sum(), "no rule"),
        (lambda p: p, "cannot be run"),
        (lambda p: jnp.log(p.sum() - 1e6), "not finite"),
    ]:
        report = sl.check(train, query=query, degree=1, num_directions=1)
        assert not report.ok
        assert kind in {f.kind for f in report.findings}


def test_check_says_that_numbers_of_16_bits_are_computed_in_float32():
    report = sl.check(lambda w: (w * 2).astype(jnp.bfloat16), 6)
    (finding,) = [f for f in report.findings if f.kind == "16 bits"]
    assert report.ok
    assert "6 of the numbers" in finding.message
    assert "bfloat16" in finding.message
    assert "float32" in finding.fix
    assert "16 bits" in kinds(recipe(), query=lambda p: p.sum().astype(jnp.float16))
    assert "16 bits" not in kinds(recipe())


# --- optimizers ---------------------------------------------------------------------------------


@pytest.mark.parametrize("opaque", [False, True])
def test_recipe_takes_sam(opaque):
    """Two steps away and back are one opaque step: the gradient at the point that ascent leads to."""
    sam = optax.contrib.sam(optax.sgd(0.1), optax.sgd(0.05), sync_period=2, opaque_mode=opaque)
    batches = np.repeat(sl.minibatches(6, 6, epochs=1), 1 if opaque else 2, axis=0)

    def loss(p, w):
        return jnp.mean(w * (X @ p - Y) ** 2)

    def by_hand(w):
        start = jnp.full(2, 0.1, jnp.float32)
        away = start + 0.05 * jax.grad(loss)(start, w)
        return start - 0.1 * jax.grad(loss)(away, w)

    train = sl.Recipe(
        lambda p, x: x @ p,
        sam,
        lambda m, b: (m(b[0]) - b[1]) ** 2,
        (X, Y),
        batches,
        initial=jnp.full(2, 0.1, jnp.float32),
    )
    weights = jnp.linspace(0.5, 1, 6, dtype=jnp.float32)
    along = jnp.cos(jnp.arange(6.0, dtype=jnp.float32))
    got, expected = (sl.taylor_coefficients(f, weights, along, 2) for f in (train, by_hand))
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-6)  # float32


def test_recipe_takes_what_wants_the_loss():
    for optimizer in (
        optax.lbfgs(),
        optax.polyak_sgd(),
        optax.chain(optax.sgd(0.1), optax.contrib.reduce_on_plateau()),
    ):
        assert jax.eval_shape(recipe(optimizer=optimizer), jnp.ones(6)).shape == (2,)


def test_recipe_takes_sophia():
    trained = recipe(optimizer=optax.contrib.sophia(0.1))(jnp.ones(6))
    assert np.isfinite(trained).all()
    assert not np.allclose(trained, 0.1)


def test_recipe_says_which_optimizers_it_cannot_use():
    with pytest.raises(ValueError, match=r"optimizer failed in a step.*AttributeError.*optax\.lookahead"):
        recipe(optimizer=optax.lookahead(optax.sgd(0.1), 2, 0.5))
    refusing = optax.GradientTransformationExtraArgs(lambda p: (), lambda u, s, p=None, *, own: (u, s))
    with pytest.raises(ValueError, match=r"missing 1 required keyword-only argument: 'own'"):
        recipe(optimizer=refusing)
