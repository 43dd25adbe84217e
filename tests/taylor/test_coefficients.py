"""``taylor_coefficients``: closed forms, composition, random programs, dtypes, clear errors."""

import math
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import sketchlearn as sl
from sketchlearn.taylor.algebra import BundledSeries, Series, StackedSeries
from sketchlearn.taylor.transform import series_coefficients

double = pytest.mark.usefixtures("x64")

CLOSED = {
    "exp": (jnp.exp, 0.3, lambda r: math.exp(0.3) / math.factorial(r)),
    "geometric": (lambda x: 1 / (1 - 3 * x), 0.0, lambda r: 3.0**r),
    "log": (jnp.log, 2.0, lambda r: math.log(2) if r == 0 else -((-0.5) ** r) / r),
    "sqrt": (jnp.sqrt, 1.0, lambda r: math.prod((0.5 - j) / (j + 1) for j in range(r))),
    "sin": (jnp.sin, 0.0, lambda r: [0, 1, 0, -1][r % 4] / math.factorial(r)),
    "erf": (
        jax.scipy.special.erf,
        0.0,
        lambda r: 2 / math.sqrt(math.pi) * (-1) ** (r // 2) / (math.factorial(r // 2) * r) if r % 2 else 0.0,
    ),
    "power of a power": (lambda x: (x**2) ** 1.5, 1.0, lambda r: float(math.comb(3, r))),
}


@double
@pytest.mark.parametrize("degree", [5, 30])
@pytest.mark.parametrize("name", CLOSED)
def test_closed_forms_hold_to_order_30(name, degree):
    f, point, exact = CLOSED[name]
    c = np.asarray(sl.taylor_coefficients(f, point, 1.0, degree))
    truth = np.array([exact(r) for r in range(degree + 1)])
    # a sum of r products for each order: r roundings of the size of the larger terms
    assert np.abs(c - truth).max() <= 1e-14 * degree * np.abs(truth).max()
    assert (
        np.abs(c - truth) <= 1e-11 * np.maximum(np.abs(truth), 1e-17 * np.abs(truth).max() + 1e-30)
    ).all() or name in (
        "power of a power",  # exact zeros above order 3
        "sin",
        "erf",
    )


def layer(weights):
    """Normalisation, attention, GELU and a cross-entropy: a training step's worth of operations."""
    x = jnp.sin(jnp.arange(12.0).reshape(3, 4)).astype(weights.dtype)
    h = x @ weights
    h = h * jax.lax.rsqrt(jnp.mean(h * h, -1, keepdims=True) + 1e-3)
    a = jax.nn.softmax(h @ h.T) @ h
    return -jax.nn.log_softmax(jax.nn.gelu(a, approximate=False))[0, 1]


def count_equations(jaxpr):
    inner = [j for e in jaxpr.eqns for p in e.params.values() for j in (p if isinstance(p, (tuple, list)) else [p])]
    return len(jaxpr.eqns) + sum(
        count_equations(getattr(j, "jaxpr", j)) for j in inner if hasattr(j, "jaxpr") or hasattr(j, "eqns")
    )


def test_programs_do_not_explode_with_the_degree():
    def size(degree):
        program = jax.make_jaxpr(lambda w: sl.taylor_coefficients(jax.grad(layer), w, w, degree))(jnp.eye(4))
        return count_equations(getattr(program, "jaxpr", program))

    # above degree 6 only the functions' own coefficients (a list of k + 1) grow; twice 12 is 24
    assert size(24) < 2.2 * size(12)


@double
@pytest.mark.parametrize("method", ["series", "cauchy"])
def test_a_gradient_of_a_training_loss_agrees_with_nested_jvp(method):
    w = jnp.eye(4) + 0.1
    d = jnp.cos(jnp.arange(16.0)).reshape(4, 4)
    c = sl.taylor_coefficients(jax.grad(layer), w, d, 4, method=method)
    nested = sl.reference.nested_jvp(jax.grad(layer), w, d, 4)
    # rounding only; circles aim at 1e-12 of the norm of all outputs
    np.testing.assert_allclose(c, nested, rtol=0, atol=1e-10 * float(jnp.abs(nested).max()))


@double
def test_coefficients_are_homogeneous_in_a_complex_factor():
    w, d, factor = jnp.eye(4), jnp.cos(jnp.arange(16.0)).reshape(4, 4), 0.6 - 1.1j
    plain = np.asarray(sl.taylor_coefficients(layer, w, d, 6))
    turned = np.asarray(sl.taylor_coefficients(layer, w, factor * d, 6))
    np.testing.assert_allclose(turned, factor ** np.arange(7) * plain, rtol=1e-11)  # rounding of order 6


# --- random programs --------------------------------------------------------------

UNARY = [jnp.sin, jnp.tanh, jnp.exp, jax.nn.gelu, jax.nn.softplus, lambda x: x**3, lambda x: jnp.sqrt(1 + x * x)]
UNARY += [lambda x: jnp.cumsum(x, 0), lambda x: x[::-1], lambda x: jnp.sort(x, 0), lambda x: x - x.mean(0)]
BINARY = [jnp.add, jnp.subtract, jnp.multiply, lambda a, b: a / (2 + b * b), jnp.arctan2, lambda a, b: a @ b.T @ b]


@st.composite
def programs(draw):
    """A random program of a matrix: each line combines earlier values; ends damped, so that nothing overflows."""
    lines = draw(
        st.lists(
            st.tuples(st.integers(0, len(UNARY) + len(BINARY) - 1), st.integers(0, 99), st.integers(0, 99)),
            min_size=1,
            max_size=6,
        )
    )

    def run(x):
        values = [x]
        for op, i, j in lines:
            a, b = values[i % len(values)], values[j % len(values)]
            new = UNARY[op](a) if op < len(UNARY) else BINARY[op - len(UNARY)](a, b)
            values.append(jnp.tanh(new))
        return values[-1]

    run.lines = lines
    return run


@double
@settings(max_examples=12, deadline=None, derandomize=True)
@given(run=programs(), rows=st.integers(1, 3), columns=st.integers(1, 3), seed=st.integers(0, 2**16))
def test_random_programs_agree_with_nested_jvp_and_in_every_representation(run, rows, columns, seed):
    rng = np.random.default_rng(seed)
    x, d = jnp.asarray(rng.normal(size=(rows, columns)) + 0.1), jnp.asarray(rng.normal(size=(rows, columns)))
    nested = np.asarray(sl.reference.nested_jvp(run, x, d, 3))
    scale = max(1.0, np.abs(nested).max())
    for representation in (Series, StackedSeries, BundledSeries):
        found = np.asarray(series_coefficients(run, x, d, 3, representation(3, False)))
        np.testing.assert_allclose(found, nested, rtol=0, atol=1e-10 * scale)  # rounding of sums with cancellation


# --- dtypes ------------------------------------------------------------------------


@double
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("method", ["series", "cauchy"])
def test_the_points_precision_is_kept(dtype, method):
    point = jnp.asarray(0.5, dtype)
    assert sl.taylor_coefficients(jnp.exp, point, jnp.asarray(1.0, dtype), 3, method=method).dtype == dtype
    turned = jnp.asarray(1j, np.result_type(dtype, np.complex64))
    assert sl.taylor_coefficients(jnp.exp, point, turned, 3, method=method).dtype == turned.dtype


@double
def test_a_wider_direction_is_refused_rather_than_narrowed():
    with pytest.raises(TypeError, match="drop digits silently"):
        sl.taylor_coefficients(jnp.exp, jnp.float32(0.5), jnp.float64(1.0), 3)
    point = (jnp.float32(0.5), jnp.ones(2, jnp.float32))
    with pytest.raises(TypeError, match=r"direction\[1\] has dtype float64"):  # not the first leaf alone
        sl.taylor_coefficients(lambda p: p[0] * p[1], point, (1.0, np.array([1 / 3, 1 / 3])), 1)
    assert sl.taylor_coefficients(jnp.exp, jnp.float32(0.5), 1, 3).dtype == jnp.float32  # a Python number has no dtype


# --- composition, constants, pytrees ---------------------------------------------


@double
def test_pushing_forward_is_composition():
    inner = sl.taylor_coefficients(jnp.sin, jnp.array([0.2, 0.5]), jnp.array([1.0, 1j]), 5)
    outer = sl.taylor.push_forward(lambda y: jnp.exp(y).sum(), inner)
    whole = sl.taylor_coefficients(lambda x: jnp.exp(jnp.sin(x)).sum(), jnp.array([0.2, 0.5]), jnp.array([1.0, 1j]), 5)
    np.testing.assert_allclose(outer, whole, rtol=1e-13)  # the same arithmetic in the same order


@pytest.mark.parametrize("coefficients", [3.0, {}, [np.ones(3), 1.0]])
def test_what_has_no_axis_of_orders_is_not_pushed_forward(coefficients):
    with pytest.raises(ValueError, match="leading axis of orders"):
        sl.taylor.push_forward(lambda x: x, coefficients)


def test_random_numbers_are_constants():
    def noisy(x):
        keep = jax.random.bernoulli(jax.random.key(0), 0.5, (5,))
        return (jnp.where(keep, x, 0.0) + jax.random.normal(jax.random.key(1), (5,))).sum()

    c = sl.taylor_coefficients(noisy, jnp.ones(5), jnp.ones(5), 2)
    kept = jax.random.bernoulli(jax.random.key(0), 0.5, (5,)).sum()
    assert float(c[1]) == float(kept)
    assert float(c[2]) == 0.0


def test_pytrees_go_in_and_come_out():
    point, direction = {"a": jnp.ones(2), "b": (jnp.array(2.0),)}, {"a": jnp.ones(2), "b": (jnp.array(1.0),)}
    out = sl.taylor_coefficients(
        lambda t: {"product": t["a"] * t["b"][0], "fixed": jnp.arange(3.0)}, point, direction, 2
    )
    assert out["product"].tolist() == [[2.0, 2.0], [3.0, 3.0], [1.0, 1.0]]
    assert out["fixed"].tolist() == [[0.0, 1.0, 2.0], [0.0] * 3, [0.0] * 3]


def test_under_vmap_the_primal_is_computed_once():
    def f(d):
        return sl.taylor.push_forward(lambda x: jnp.exp(x), d, value=jnp.ones(3))

    program = str(jax.make_jaxpr(jax.vmap(f))(jnp.ones((7, 2, 3))))
    exponentials = [line for line in program.splitlines() if "= exp " in line]
    assert exponentials
    assert all("f32[3] = exp" in line for line in exponentials)


# --- clear errors -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"degree": 0}, ValueError, "at least 1"),
        ({"degree": -1}, ValueError, "at least 1"),
        ({"degree": 1.5}, TypeError, "whole number"),
        ({"degree": True}, TypeError, "whole number"),
        ({"method": "forward"}, ValueError, '"series" or "cauchy"'),
        ({"f": 3}, TypeError, "must be a function"),
        ({"f": lambda x: jnp.arange(3)}, TypeError, "dtype int32"),
        ({"f": lambda x: x * 1j, "direction": np.full(2, 1j, np.complex64)}, TypeError, "two imaginary units"),
        ({"point": np.array([1, 2])}, TypeError, "floating-point"),
        ({"point": np.array([1.0, np.nan])}, ValueError, "finite"),
        ({"direction": np.array([1.0, np.inf], np.float32)}, ValueError, "finite"),
        ({"direction": np.ones(3, np.float32)}, ValueError, "shape"),
        ({"direction": {"a": 1.0}}, ValueError, "same structure"),
        ({"point": [], "direction": []}, ValueError, "empty"),
    ],
)
def test_bad_input_is_refused_in_words(arguments, error, message):
    given_ = {
        "f": jnp.sin,
        "point": np.ones(2, np.float32),
        "direction": np.ones(2, np.float32),
        "degree": 2,
    } | arguments
    with pytest.raises(error, match=message):
        sl.taylor_coefficients(**given_)


def test_a_primitive_without_a_rule_is_named_with_the_users_line_the_reason_and_a_way_out():
    with pytest.raises(sl.UnsupportedPrimitive) as caught:
        sl.taylor_coefficients(lambda x: jax.lax.bessel_i0e(x), 2.0, 1.0, 2)
    text = str(caught.value)
    for piece in ("'bessel_i0e'", Path(__file__).name, "Bessel functions", "Ways out", "stand_in"):
        assert piece in text


@pytest.mark.parametrize(("degree", "size"), [(6, 1e7), (8, 1e5)], ids=["separate arrays", "stacked"])
def test_an_order_that_overflows_leaves_the_lower_ones_alone(degree, size):
    """``x^k`` with ``x = 1 + s t``: order r is C(k, r) s^r, and s^k is beyond float32."""

    def f(x):
        y = x
        for _ in range(degree - 1):
            y = y * x
        return jnp.exp(0 * y) * y  # and once more through a product and a composition

    with jax.enable_x64(False):
        found = sl.taylor_coefficients(f, jnp.float32(1), jnp.float32(size), degree)
    r = np.arange(degree)
    expected = np.array([math.comb(degree, i) for i in r]) * size**r
    np.testing.assert_allclose(found[:-1], expected, rtol=1e-5)  # a handful of roundings in float32
    assert not np.isfinite(found[-1])
