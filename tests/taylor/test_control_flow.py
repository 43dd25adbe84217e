"""Loops, branches, calls and functions with derivative rules of their own."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from support.learners import exponential_by_bits, scrambled
from support.oracles import assert_same_coefficients, by_order, directions, walk

import sketchlearn as sl
from sketchlearn.taylor.algebra import Series
from sketchlearn.taylor.interpreter import Context
from sketchlearn.taylor.transform import evaluate, line_jets

pytestmark = pytest.mark.usefixtures("x64", "quick_compilation")

POINT = np.array([0.3, -0.7, 1.1])
REAL, COMPLEX = directions(POINT)
TABLE = np.sin(np.arange(12.0)).reshape(4, 3)

# The same operations in the same order but for what XLA reorders: a few units of rounding.
SAME = 1e-13
# nested jvp sums the same terms differently; a few hundred operations lose at most six of 16 digits
NESTED = 1e-10
# where Cauchy's search for a radius stops
CAUCHY = 1e-9


def series(f, point=POINT, direction=COMPLEX, degree=3):
    return jax.jit(lambda p, d: sl.taylor_coefficients(f, p, d, degree))(point, direction)


def assert_equals_nested_jvp(f, point=POINT, degree=3):
    real = directions(point)[0]
    expected = jax.jit(lambda p: sl.reference.nested_jvp(f, p, real, degree))(point)
    assert_same_coefficients(series(f, point, real, degree), expected, rtol=NESTED)


def assert_equals_cauchy(f, point=POINT, degree=3):
    is_complex = directions(point)[1]
    expected = sl.taylor.cauchy_coefficients(f, point, is_complex, degree)
    assert_same_coefficients(
        series(f, point, is_complex, degree), expected.coefficients, rtol=CAUCHY, errors=expected.errors
    )


# --- scan ---------------------------------------------------------------------------


def cell(state, row):
    """One round: a nonlinear update of a pytree whose counter is an integer."""
    h, steps = state["h"], state["steps"]
    h = jnp.tanh(h * row) + h / (2 + steps)
    return {"h": h, "steps": steps + 1}, jnp.sum(h * row)


def with_scan(x, **options):
    state, sums = lax.scan(cell, {"h": x, "steps": 0}, TABLE * x, **options)
    return state["h"], sums


def unrolled(x, reverse=False):
    state, sums = {"h": x, "steps": 0}, {}
    for i in reversed(range(len(TABLE))) if reverse else range(len(TABLE)):
        state, sums[i] = cell(state, TABLE[i] * x)
    return state["h"], jnp.stack([sums[i] for i in range(len(TABLE))])


@pytest.mark.parametrize("degree", [3, 8], ids=["separate", "stacked"])
@pytest.mark.parametrize("reverse", [False, True], ids=["forward", "reverse"])
def test_scan_is_the_unrolled_loop(reverse, degree):
    expected = series(lambda x: unrolled(x, reverse), degree=degree)
    assert_same_coefficients(series(lambda x: with_scan(x, reverse=reverse), degree=degree), expected, rtol=SAME)


def test_scan_with_unroll_is_the_unrolled_loop():
    assert_same_coefficients(series(lambda x: with_scan(x, unroll=2)), series(unrolled), rtol=SAME)


def test_nested_scan_is_the_unrolled_loop():
    def nested(x):
        return lax.scan(lambda c, row: (with_scan(c * row)[0], c), x, TABLE[:2])

    def loops(x):
        c, seen = x, []
        for row in TABLE[:2]:
            seen.append(c)
            c = unrolled(c * row)[0]
        return c, jnp.stack(seen)

    assert_same_coefficients(series(nested), series(loops), rtol=SAME)


def test_carry_that_depends_on_the_point_only_after_some_rounds():
    def delayed(x):  # c takes up b one round later, b takes up x at once
        def body(carry, _):
            c, b = carry
            return (c + jnp.sin(b), b * x), c

        return lax.scan(body, (jnp.zeros(3), jnp.ones(3)), None, length=4)

    assert_equals_nested_jvp(delayed)


def test_scan_over_random_keys_holds_the_keys():
    def dropout(x):
        def body(h, key):
            return jnp.tanh(h + h * jax.random.bernoulli(key, 0.5, h.shape) + jax.random.normal(key, h.shape)), None

        return lax.scan(body, x, jax.random.split(jax.random.key(0), 4))[0]

    assert_equals_nested_jvp(dropout)


def test_gradient_of_a_scan_is_the_gradient_of_the_unrolled_loop():
    def gradient(loop):
        return jax.grad(lambda x: sum(jnp.sum(y**2) for y in loop(x)))

    assert_same_coefficients(series(gradient(with_scan)), series(gradient(unrolled)), rtol=SAME)


# --- while, cond --------------------------------------------------------------------


def test_while_of_fixed_length_is_the_unrolled_loop():
    def loop(x):
        return lax.while_loop(lambda s: s[0] < 4, lambda s: (s[0] + 1, jnp.sin(s[1]) * x), (0, x))[1]

    def rounds(x):
        y = x
        for _ in range(4):
            y = jnp.sin(y) * x
        return y

    assert_same_coefficients(series(loop), series(rounds), rtol=SAME)


def newton_root(x):
    """√(1 + x²) by Newton's iteration, until the real residual is below 1e-3."""
    a = 1 + x * x

    def going(y):
        return jnp.max(jnp.abs(y * y - a)) > 1e-3

    return lax.while_loop(going, lambda y: (y + a / y) / 2, a)


def test_while_runs_as_many_rounds_as_the_real_program():
    a, rounds = 1 + POINT**2, 0
    y = a
    while np.abs(y * y - a).max() > 1e-3:
        y, rounds = (y + a / y) / 2, rounds + 1

    def fixed(x):
        a = 1 + x * x
        y = a
        for _ in range(rounds):
            y = (y + a / y) / 2
        return y

    assert rounds > 1
    assert_same_coefficients(series(newton_root), series(fixed), rtol=SAME)


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_cond_takes_the_branch_of_the_real_program(sign):
    def f(x):
        return lax.cond(x[2] > 0, lambda x: jnp.exp(x) * x, lambda x: jnp.ones(3), x)

    branch = (lambda x: jnp.exp(x) * x) if sign > 0 else (lambda x: jnp.ones(3) + 0 * x)
    assert_same_coefficients(series(f, sign * POINT), series(branch, sign * POINT), rtol=SAME)


@pytest.mark.parametrize("index", [0, 1, 2])
def test_switch_takes_the_branch_of_its_index(index):
    branches = [lambda x, y: (x, y), lambda x, y: (jnp.sin(x) * y, 2.0 * x), lambda x, y: (y, jnp.ones(3))]

    def f(x):
        return lax.scan(lambda c, i: (c * 1.5, lax.switch(i, branches, c, x)), x, jnp.array([index, 0]))[1]

    def expected(x):
        rounds = [branches[index](x, x), branches[0](1.5 * x, x)]
        return tuple(jnp.stack(y) for y in zip(*rounds, strict=True))

    assert_same_coefficients(series(f), series(expected), rtol=SAME)


def test_control_flow_equals_cauchy():
    def f(x):
        h, sums = with_scan(x)
        return newton_root(h), lax.cond(sums[0] > 10, jnp.sin, jnp.cos, sums)

    assert_equals_cauchy(f)


# --- calls --------------------------------------------------------------------------


@pytest.mark.parametrize("wrap", [jax.jit, jax.checkpoint, lambda f: jax.vmap(lambda x: f(x[None])[0])])
def test_call_is_its_body(wrap):
    def f(x):
        return jnp.exp(x) * jnp.sin(x)

    assert_same_coefficients(
        series(lambda x: wrap(f)(x) + wrap(f)(2 * x)), series(lambda x: f(x) + f(2 * x)), rtol=SAME
    )


def test_jit_outside_changes_nothing():
    eager = sl.taylor_coefficients(with_scan, POINT, COMPLEX, 3)
    assert_same_coefficients(series(with_scan), eager, rtol=SAME)


def test_loss_gradient_through_remat_equals_nested_jvp():
    def gradient(x):
        return jax.grad(lambda x: jnp.sum(jax.checkpoint(with_scan)(x)[1] ** 2))(x)

    assert_equals_nested_jvp(gradient)


# --- many directions at once ---------------------------------------------------------

PROGRAMS = {
    "scan": lambda x: with_scan(x)[0],
    "while": newton_root,
    "cond": lambda x: lax.cond(x[0] > 0, jnp.sin, jnp.cos, x),
    "custom_jvp": jax.nn.silu,
    "sort": lambda x: jnp.sort(jnp.exp(x)),
    "solve": lambda x: jnp.linalg.solve(jnp.eye(3) + jnp.outer(x, x), x),
    "gradient": jax.grad(lambda x: jnp.sum(with_scan(x)[1])),
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_vmap_over_directions_is_a_loop_over_directions(name):
    f, many = PROGRAMS[name], np.stack([COMPLEX, 1j * COMPLEX, REAL + 0j])
    together = jax.jit(jax.vmap(lambda d: sl.taylor_coefficients(f, POINT, d, 3)))(many)
    for got, direction in zip(together, many, strict=True):
        assert_same_coefficients(got, series(f, direction=direction), rtol=SAME)


@pytest.mark.parametrize("name", PROGRAMS)
def test_primal_is_computed_once_for_all_directions(name):
    """``out_axes=None`` is refused by JAX for whatever depends on the mapped direction."""

    def run(direction):
        algebra = Series(3)
        out = evaluate(PROGRAMS[name], Context(algebra), line_jets(algebra, POINT, direction))
        return out.primal, out.parts

    value, parts = jax.vmap(run, out_axes=(None, 0))(np.stack([COMPLEX] * 5))
    assert value.shape == (3,)
    assert all(p.shape == (5, 3) for p in jax.tree.leaves(parts))


def test_no_function_of_the_primal_is_evaluated_for_every_direction():
    def run(directions):
        return jax.vmap(lambda d: sl.taylor_coefficients(lambda x: with_scan(x)[0], POINT, d, 3))(directions)

    found = [eqn for eqn in walk(jax.make_jaxpr(run)(np.stack([COMPLEX] * 5))) if eqn.primitive.name == "tanh"]
    assert {eqn.outvars[0].aval.shape for eqn in found} == {(3,)}


# --- functions with derivative rules of their own -----------------------------------------


@jax.custom_jvp
def product_and_ratio(x, y):
    return scrambled(x * y), scrambled(x / y)


@product_and_ratio.defjvp
def _(primals, tangents):
    (x, y), (dx, dy) = primals, tangents
    return product_and_ratio(x, y), (x * dy + y * dx, dx / y - x * dy / y**2)


@pytest.mark.parametrize("degree", [1, 2, 5])
def test_custom_jvp_is_expanded_through_its_rule(degree):
    got = series(lambda x: exponential_by_bits(x * x), degree=degree)
    # integrating the rule adds one rounding an order (here and in the tests below)
    assert_same_coefficients(got, series(lambda x: jnp.exp(x * x), degree=degree), rtol=1e-12)


def test_custom_jvp_of_several_arguments_and_results():
    got = series(lambda x: product_and_ratio(jnp.exp(x), 2 + x))
    expected = series(lambda x: (jnp.exp(x) * (2 + x), jnp.exp(x) / (2 + x)))
    assert_same_coefficients(got, expected, rtol=1e-12)


@pytest.mark.parametrize("constant_first", [False, True])
def test_custom_jvp_with_a_constant_argument(constant_first):
    def f(function):
        swap = (lambda a, b: (b, a)) if constant_first else (lambda a, b: (a, b))
        return lambda x: function(*swap(jnp.exp(x), 2.0 + POINT))

    got, expected = series(f(product_and_ratio)), series(f(lambda x, y: (x * y, x / y)))
    assert_same_coefficients(got, expected, rtol=1e-12)


def test_custom_jvp_with_options_that_are_no_numbers():
    with_options = jax.custom_jvp(lambda times, x: scrambled(jnp.sin(times * x)), nondiff_argnums=(0,))
    with_options.defjvp(lambda times, p, t: (with_options(times, *p), times * jnp.cos(times * p[0]) * t[0]))
    got = series(lambda x: with_options(3, x))
    assert_same_coefficients(got, series(lambda x: jnp.sin(3 * x)), rtol=1e-12)


def test_custom_jvp_in_the_gradients_of_a_training_loop():
    def f(exponential):
        def body(c, row):
            return c - 0.1 * jax.grad(lambda c: jnp.sum(exponential(-c * row)))(c), c

        return lambda x: lax.scan(body, x, TABLE)

    assert_same_coefficients(series(f(exponential_by_bits)), series(f(jnp.exp)), rtol=1e-12)


def test_cauchy_refuses_a_custom_jvp_body_it_cannot_continue():
    with pytest.raises(sl.UnsupportedPrimitive, match=r"bitcast_convert_type.*bits"):
        sl.taylor_coefficients(exponential_by_bits, POINT, COMPLEX, 3, method="cauchy")


@jax.custom_vjp
def clipped_gradient(x):
    return x * jnp.sin(x)


def _backward(x, g):
    return (jnp.clip(g, -1, 1) * (jnp.sin(x) + x * jnp.cos(x)),)


clipped_gradient.defvjp(lambda x: (x * jnp.sin(x), x), _backward)


@pytest.mark.parametrize("method", ["series", "cauchy"])
def test_custom_vjp_is_refused_by_its_name(method):
    with pytest.raises(sl.UnsupportedPrimitive, match="custom_vjp function 'clipped_gradient'") as refusal:
        sl.taylor_coefficients(lambda x: clipped_gradient(x), POINT, COMPLEX, 3, method=method)
    assert "test_control_flow.py" in str(refusal.value)
    assert "stand_in(clipped_gradient, plain)" in str(refusal.value)


def test_gradient_of_a_custom_vjp_follows_the_backward_rule():
    """JAX replaces the function by its rule when it differentiates, so nothing is left to refuse."""
    got = series(jax.grad(lambda x: jnp.sum(clipped_gradient(jnp.exp(x)))))

    def expected(x):
        return _backward(jnp.exp(x), jnp.ones(3))[0] * jnp.exp(x)

    assert_same_coefficients(got, series(expected), rtol=SAME)


def test_stop_gradient_changes_the_update_but_not_the_dependence():
    """A loss with ``stop_gradient`` in it is differentiated as the user meant; its result moves with the point."""

    def step(x):
        return x - 0.1 * jax.grad(lambda y: jnp.sum(jnp.sin(y) * lax.stop_gradient(y**2)))(x)

    def by_hand(x):
        return x - 0.1 * jnp.cos(x) * x**2

    assert_same_coefficients(series(step), series(by_hand), rtol=SAME)


# --- a training loop --------------------------------------------------------------------


def train_mlp(weights):
    """Eight steps of momentum SGD on a tiny network; every example's loss is multiplied by its weight."""
    rng = np.random.default_rng(1)
    inputs, targets = jnp.asarray(rng.normal(size=(6, 2))), jnp.asarray(rng.normal(size=6))
    parameters = {"w": rng.normal(size=(2, 4)), "b": np.zeros(4), "v": rng.normal(size=(4,))}

    def loss(p, batch):
        h = jax.nn.gelu(inputs[batch] @ p["w"] + p["b"])
        return jnp.mean(weights[batch] * jax.nn.softplus(h @ p["v"] * targets[batch]))

    def step(state, batch):
        p, m = state
        m = jax.tree.map(lambda m, g: 0.9 * m + g, m, jax.grad(loss)(p, batch))
        return (jax.tree.map(lambda p, m: p - 0.1 * m, p, m), m), None

    batches = jnp.arange(32).reshape(8, 4) % 6
    start = jax.tree.map(jnp.asarray, parameters)
    return lax.scan(step, (start, jax.tree.map(jnp.zeros_like, start)), batches)[0][0]


def test_training_loop_equals_nested_jvp():
    assert_equals_nested_jvp(train_mlp, np.ones(6), degree=3)


def test_training_loop_equals_cauchy():
    assert_equals_cauchy(train_mlp, np.ones(6), degree=4)


# --- decisions -----------------------------------------------------------------------------


def counts(f, point, primitive):
    return sum(n for place, n in sl.piecewise_report(f, point).items() if place.startswith(f"{primitive} at "))


def test_decisions_in_a_scan_are_counted_in_every_round():
    def f(x):
        return lax.scan(lambda c, row: (jnp.maximum(c, 0.0), c), x, TABLE)[0]

    assert counts(f, np.array([0.0, 1.0, -1.0]), "max") == 4 + 3  # 0 ties in each of 4 rounds, -1 from the second on


def test_decisions_in_a_nested_scan_are_counted_in_every_round():
    def inner(c):
        return lax.scan(lambda c, _: (jnp.abs(c), None), c, None, length=3)[0]

    def f(x):
        return lax.scan(lambda c, _: (inner(c), None), x, None, length=2)[0]

    assert counts(f, np.array([0.0, 1.0]), "abs") == 6


def test_decisions_in_a_while_loop_are_counted_in_every_round():
    def f(x):
        return lax.while_loop(lambda s: s[0] < 5, lambda s: (s[0] + 1, jnp.abs(s[1])), (0, x))[1]

    assert counts(f, np.array([0.0, 1.0]), "abs") == 5
    assert counts(f, np.array([0.0, 1.0]), "lt") == 0  # of the counter, which does not depend on the point


def test_decisions_to_go_on_are_counted():
    def f(x):
        return lax.while_loop(lambda y: y < 2.0, lambda y: y + 0.5, x)

    assert counts(f, np.array(0.75), "lt") == 0
    assert counts(f, np.array(1.0), "lt") == 1  # 1, 1.5, 2: the last comparison is of equals
    assert any(place.startswith("lt at ") for place in sl.piecewise_report(f, np.array(0.75)))


def test_decisions_in_a_branch_are_counted_if_it_is_taken():
    def f(x):
        return lax.cond(jnp.sum(x) > 0, jnp.abs, lambda x: x, x)

    assert counts(f, np.array([0.0, 1.0]), "abs") == 1
    assert counts(f, np.array([0.0, -1.0]), "abs") == 0
    assert counts(f, np.array([-1.0, 1.0]), "gt") == 1


def test_decisions_in_a_derivative_rule_are_named_by_the_users_line():
    report = sl.piecewise_report(lambda x: jax.nn.relu(x), np.array([0.0, 1.0]))
    assert sum(report.values()) == 1
    assert all("test_control_flow.py" in place for place in report)


def test_report_of_a_smooth_program_is_empty():
    assert sl.piecewise_report(lambda x: with_scan(x)[0], POINT) == {}


def test_series_of_every_order_is_finite_through_a_long_scan():
    """Two hundred contracting rounds: the coefficients neither vanish nor overflow."""

    def f(x):
        return lax.scan(lambda c, _: (jnp.tanh(0.9 * c + 0.1 * x), None), x, None, length=200)[0]

    got = by_order(series(f, degree=6))
    assert np.isfinite(got).all()
    assert (np.abs(got).max(1) > 0).all()


@jax.custom_jvp
def rounded_straight_through(x):
    return jnp.round(x)


rounded_straight_through.defjvps(lambda t, _, x: t)


def test_a_body_that_forgets_its_argument_where_its_rule_does_not_is_no_constant_on_circles():
    slope = sl.taylor_coefficients(lambda x: rounded_straight_through(x) ** 2, 2.2, 1.0, 2)
    np.testing.assert_allclose(slope, [4, 4, 1])  # (2 + t)²
    with pytest.raises(ValueError, match="no finite values"):
        sl.taylor_coefficients(lambda x: rounded_straight_through(x) ** 2, 2.2, 1.0, 2, method="cauchy")


@pytest.mark.parametrize("method", ["series", "cauchy"])
def test_a_call_that_returns_truth_values_is_a_constant(method):
    got = sl.taylor_coefficients(lambda x: jnp.where(jnp.signbit(x), x**2, x**3), POINT, REAL, 2, method=method)
    expected = sl.taylor_coefficients(lambda x: x ** np.array([3, 2, 3]), POINT, REAL, 2)
    assert_same_coefficients(got, expected, rtol=CAUCHY)


# --- jax.checkpoint: what is not kept in training is not kept in its series ------------------


def layers(weights, x, checkpointed, scanned):
    def layer(x, w):
        for _ in range(3):
            x = jnp.tanh(jnp.sin(x @ w))
        return x

    if checkpointed:
        layer = jax.checkpoint(layer)
    if scanned:
        return jnp.sum(jax.lax.scan(lambda x, w: (layer(x, w), None), x, weights)[0])
    for w in weights:
        x = layer(x, w)
    return jnp.sum(x)


def gradient_of_layers(checkpointed, scanned, depth=8, width=32):
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.normal(size=(width, width)))
    weights = jnp.asarray(rng.normal(size=(depth, width, width)) / width)

    def gradient(scale):
        return jax.grad(lambda w: layers(w * scale, x, checkpointed, scanned))(weights)

    return gradient


@pytest.mark.parametrize("scanned", [False, True])
def test_layers_under_checkpoint_at_degree_three_equal_cauchy(scanned):
    f = gradient_of_layers(True, scanned, depth=3, width=4)
    got = sl.taylor_coefficients(f, 1.0, 0.6 - 0.5j, 3)
    expected = sl.taylor.cauchy_coefficients(f, 1.0, 0.6 - 0.5j, 3)
    assert_same_coefficients(got, expected.coefficients, rtol=1e-9, errors=expected.errors)  # as above


def test_a_scan_of_checkpointed_layers_keeps_no_orders_of_its_activations():
    def temporary(checkpointed):
        f = gradient_of_layers(checkpointed, scanned=True)
        program = jax.jit(lambda d: sl.taylor_coefficients(f, 1.0, d, 2)).lower(1 + 1j).compile()
        return program.memory_analysis().temp_size_in_bytes

    assert temporary(True) < 0.5 * temporary(False)


def test_checkpointed_layers_without_a_loop_are_barred_from_being_merged_with_their_first_computation():
    """A CPU's compiler drops the bars again, from plain training as well; an accelerator's keeps them."""

    def barriers(checkpointed):
        f = gradient_of_layers(checkpointed, scanned=False, depth=4)
        return (
            jax.jit(lambda d: sl.taylor_coefficients(f, 1.0, d, 2))
            .lower(1 + 1j)
            .as_text()
            .count("optimization_barrier")
        )

    assert barriers(True) - barriers(False) == 4
