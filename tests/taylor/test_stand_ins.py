"""A function with a derivative rule of its own is replaced by its stand-in, and no other function is."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from support.learners import exponential_by_bits
from support.oracles import assert_same_coefficients, directions

import sketchlearn as sl
from sketchlearn.taylor import stand_ins

pytestmark = pytest.mark.usefixtures("x64", "quick_compilation")

POINT = np.array([0.3, -0.7, 1.1])
COMPLEX = directions(POINT)[1]
ROWS = np.sin(np.arange(6.0)).reshape(2, 3)
SAME = 1e-13  # the same operations but for what XLA reorders


@pytest.fixture(autouse=True)
def own_table(monkeypatch):
    """Each test registers for itself."""
    monkeypatch.setattr(stand_ins, "STAND_INS", dict(stand_ins.STAND_INS))


def series(f, point=POINT, direction=COMPLEX, degree=3):
    return jax.jit(lambda p, d: sl.taylor_coefficients(f, p, d, degree))(point, direction)


def with_backward_rule(f, **options):
    """A function that no series can go through: its values are ``f``'s, its rule backward only."""
    made = jax.custom_vjp(f, **options)
    made.defvjp(lambda *x: (f(*x), x), lambda x, g: jax.vjp(f, *x)[1](g))
    return made


def scaled(factor):
    @jax.custom_vjp
    def function(x):
        return factor * x

    function.defvjp(lambda x: (factor * x, None), lambda _, g: (factor * g,))
    return function


def test_stand_in_replaces_a_custom_jvp_body_for_both_ways():
    sl.taylor.stand_in(exponential_by_bits, jnp.exp)
    by_circles = sl.taylor.cauchy_coefficients(exponential_by_bits, POINT, COMPLEX, 3)
    # where Cauchy's search for a radius stops
    assert_same_coefficients(series(exponential_by_bits), by_circles.coefficients, rtol=1e-9, errors=by_circles.errors)


def test_stand_in_counts_for_programs_that_were_compiled_before():
    def f(x):
        return slow_sine(x)

    slow_sine = jax.custom_jvp(lambda x: jnp.sin(x))
    slow_sine.defjvp(lambda p, t: (slow_sine(*p), jnp.cos(*p) * t[0]))
    before = sl.taylor.cauchy_coefficients(f, POINT, COMPLEX, 2).coefficients
    sl.taylor.stand_in(slow_sine, lambda x: 2 * jnp.sin(x))
    after = sl.taylor.cauchy_coefficients(f, POINT, COMPLEX, 2).coefficients
    np.testing.assert_allclose(after[1:], 2 * before[1:], rtol=1e-9)  # where the search for a radius stops


def test_custom_vjp_works_with_a_stand_in():
    function = with_backward_rule(lambda x: x * jnp.sin(x))
    sl.taylor.stand_in(function, lambda x: x * jnp.sin(x))
    got = series(lambda x: function(jnp.exp(x)))
    assert_same_coefficients(got, series(lambda x: jnp.exp(x) * jnp.sin(jnp.exp(x))), rtol=SAME)


def test_stand_in_of_one_function_leaves_another_of_the_same_name_alone():
    """JAX calls whatever ``custom_gradient`` makes ``wrapped_fun``, and any lambda ``<lambda>``."""
    square, cube = (jax.custom_gradient(lambda x, n=n: (x**n, lambda g: g * n * x ** (n - 1))) for n in (2, 3))
    sl.taylor.stand_in(square, lambda x: x**2)
    assert_same_coefficients(series(square), series(lambda x: x**2), rtol=SAME)
    with pytest.raises(sl.UnsupportedPrimitive, match=r"made by jax\.custom_gradient"):
        series(cube)
    other = with_backward_rule(lambda x: 5 * x)
    with pytest.raises(sl.UnsupportedPrimitive, match="<lambda>"):
        series(other)


def test_functions_of_one_line_keep_their_own_stand_ins():
    two, three, five = scaled(2.0), scaled(3.0), scaled(5.0)
    sl.taylor.stand_in(two, lambda x: 2 * x)
    sl.taylor.stand_in(three, lambda x: 3 * x)
    got = series(lambda x: (two(x**2), three(x**2)))
    assert_same_coefficients(got, series(lambda x: (2 * x**2, 3 * x**2)), rtol=SAME)
    with pytest.raises(sl.UnsupportedPrimitive, match=r"'function' of .*test_stand_ins\.py"):
        series(lambda x: five(x))


def shared_rule(x, g):
    return (g,)


def with_shared_rule(factor):
    made = jax.custom_vjp(lambda x: factor * x)
    made.defvjp(shared_forward, shared_rule)
    return made


def shared_forward(x):
    return x, x


def test_functions_that_nothing_tells_apart_are_refused():
    two, three = with_shared_rule(2.0), with_shared_rule(3.0)
    sl.taylor.stand_in(two, lambda x: 2 * x)
    assert_same_coefficients(series(lambda x: two(x)), series(lambda x: 2 * x), rtol=SAME)
    with pytest.raises(sl.UnsupportedPrimitive, match=r"Cannot tell which function .*\n.*define the derivative"):
        series(lambda x: three(x))
    with pytest.raises(ValueError, match="cannot be told from another function"):
        sl.taylor.stand_in(three, lambda x: 3 * x)


def test_function_that_is_defined_again_unchanged_takes_a_new_stand_in():
    sl.taylor.stand_in(with_shared_rule(2.0), lambda x: jnp.nan * x)
    again = with_shared_rule(2.0)
    sl.taylor.stand_in(again, lambda x: 2 * x)
    assert_same_coefficients(series(lambda x: again(x)), series(lambda x: 2 * x), rtol=SAME)


def test_stand_in_takes_the_arguments_of_the_function():
    """Pytrees, and arguments that are not differentiated, arrive as they were given."""

    def plain(times, pair, y):
        return {"out": times * pair["a"] * jnp.sin(y)}

    function = jax.custom_vjp(plain, nondiff_argnums=(0,))
    function.defvjp(lambda *x: (plain(*x), x), lambda times, x, g: ({"a": g["out"]}, g["out"]))
    sl.taylor.stand_in(function, plain)
    got = series(lambda x: function(3, {"a": x**2}, x)["out"])
    assert_same_coefficients(got, series(lambda x: 3 * x**2 * jnp.sin(x)), rtol=SAME)


@pytest.mark.parametrize("kind", ["custom_vjp", "custom_jvp"])
def test_stand_in_sees_one_row_under_vmap(kind):
    def plain(x, y):
        return jnp.cumsum(x) * y[0]

    if kind == "custom_vjp":
        function = with_backward_rule(plain)
    else:
        function = jax.custom_jvp(plain)
        function.defjvp(lambda p, t: (function(*p), jax.jvp(plain, p, t)[1]))
    sl.taylor.stand_in(function, plain)

    def f(g):
        inner = jax.vmap(lambda x, y: jax.jit(g)(x, y), (None, 1), 1)
        return lambda x: jax.vmap(inner, (0, None))(ROWS[:, None] * x, x[:, None] * ROWS.sum(0))

    assert_same_coefficients(series(f(function)), series(f(plain)), rtol=SAME)


def test_stand_in_works_in_a_loop_and_for_a_jitted_function():
    function = jax.jit(with_backward_rule(lambda x: jnp.tanh(x)))
    sl.taylor.stand_in(function, jnp.tanh)

    def f(g):
        return lambda x: lax.scan(lambda c, row: (g(c + row), c), x, ROWS)[0]

    assert_same_coefficients(series(f(function)), series(f(jnp.tanh)), rtol=SAME)


def test_stand_in_has_what_the_function_closes_over_by_itself():
    factor = jnp.asarray(ROWS[0])
    function = with_backward_rule(lambda x: factor * x**2)
    sl.taylor.stand_in(function, lambda x, offset=0.0: ROWS[0] * x**2 + offset)
    got = series(lambda x: jax.vmap(function)(x * ROWS))
    assert_same_coefficients(got, series(lambda x: ROWS[0] * (x * ROWS) ** 2), rtol=SAME)


def test_function_that_closes_over_what_is_differentiated_is_refused():
    def f(x):
        function = jax.custom_jvp(lambda y: jnp.sin(y) * x)
        function.defjvp(lambda p, t: (function(*p), jnp.cos(p[0]) * x * t[0]))
        return function(2.0)

    with pytest.raises(sl.UnsupportedPrimitive, match=r"closes over a number that depends.*\n.*\n.*as an argument"):
        series(f)


def test_stand_in_that_cannot_stand_in_is_refused():
    function = with_backward_rule(lambda x: 2 * x)
    for arguments, error, text in [
        (("cube", lambda x: x**3), TypeError, r"not its name 'cube'.*stand_in\(cube, plain\)"),
        ((jnp.sin, jnp.sin), TypeError, "no derivative rule of its own"),
        ((function, 3.0), TypeError, "expected plain JAX"),
        ((function, function), ValueError, "the function itself"),
        ((function, jax.jit(function)), ValueError, "the function itself"),
        ((jax.custom_jvp(lambda x: x), lambda x: x), ValueError, "no derivative rule yet"),
        ((functools.partial(function, 1.0), lambda x: x), TypeError, "no derivative rule of its own"),
    ]:
        with pytest.raises(error, match=text):
            sl.taylor.stand_in(*arguments)
    for plain, text in [
        (lambda x: jnp.sum(x), r"shapes \[\(\)\].*\[\(3,\)\]"),
        (lambda: 1.0, "failed on the arguments"),
        (lambda x: 1.0 * function(x), "calls the function itself"),
    ]:
        sl.taylor.stand_in(function, plain)
        with pytest.raises(ValueError, match=text):
            series(lambda x: function(x))
