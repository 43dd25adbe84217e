"""Loops and branches under ``vmap``: of the program's own examples, of directions, of points, of several at once."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax import lax
from support.oracles import assert_same_coefficients, directions

import sketchlearn as sl

pytestmark = pytest.mark.usefixtures("x64", "quick_compilation")

POINT = np.array([0.4, 1.3, 2.6, 9.5])  # their square roots take 3 to 6 rounds of Newton's iteration
REAL, COMPLEX = directions(POINT)


def root(a):
    """√a by Newton's iteration, until the residual is below 1e-6: rounding of the last round is 1e-13."""
    return lax.while_loop(lambda y: jnp.abs(y * y - a) > 1e-6 * a, lambda y: (y + a / y) / 2, a + 1)


def bisected(a):
    """The root of y³ + y = a by bisection to 1e-3, and one step of Newton's method, which makes it depend on a."""

    def halved(ends):
        low, high = ends
        middle = (low + high) / 2
        above = middle**3 + middle > a
        return jnp.where(above, low, middle), jnp.where(above, middle, high)

    low, _ = lax.while_loop(lambda ends: ends[1] - ends[0] > 1e-3 * (1 + a), halved, (0 * a, 1 + a))
    for _ in range(4):
        low = low - (low**3 + low - a) / (3 * low**2 + 1)
    return low


def power(a):
    """a to the power of ⌊a⌋ + 1, in a loop with a traced bound."""
    return lax.fori_loop(0, jnp.floor(a).astype(int) + 1, lambda i, c: c * a, jnp.ones_like(a))


def counted(a):
    """Every example has its own number of rounds, a whole number."""
    rounds = jnp.ceil(a).astype(int) % 4
    return lax.while_loop(lambda s: s[0] < rounds, lambda s: (s[0] + 1, jnp.sin(s[1]) * a), (0, a))[1]


def constant_bounds(x):
    """Each example counts to a bound that no jet reaches."""
    return jax.vmap(lambda n, a: lax.fori_loop(0, n, lambda i, c: jnp.sin(c) * a, a))(np.array([3, 0, 1, 2]), x)


def in_scan(x):
    def body(c, _):
        return jax.vmap(root)(c * c + x), None

    return lax.scan(body, x, None, length=2)[0]


def in_cond(a):
    return lax.cond(a > 1, root, lambda a: jnp.sin(counted(a)), a)


def in_while(x):
    return lax.while_loop(lambda s: s[0] < 2, lambda s: (s[0] + 1, jax.vmap(root)(s[1] + x)), (0, x))[1]


def around_while(a):
    """Two loops, one in the other, both with a predicate for each example."""
    return lax.while_loop(lambda y: y > 1.0, lambda y: root(y) - 0.1 * a / 10, a)


def two_axes(x):
    return jax.vmap(jax.vmap(lambda a, b: root(a) * root(a + b), (None, 0)), (0, None))(x[:2], x[1:])


def branches(a, i):
    return lax.switch(i, [jnp.sin, root, lambda a: a * a], a)


def keyed(a, key):
    """Keys, integers and jets carried together, as samplers do."""

    def body(s):
        y, key, n = s
        key, sub = jax.random.split(key)
        return y * (0.5 + 0.1 * jax.random.uniform(sub)), key, n + 1

    return lax.while_loop(lambda s: s[0] > 1.0, body, (a, key, 0))[0]


PROGRAMS = {
    "newton": jax.vmap(root),
    "bisection": jax.vmap(bisected),
    "fori_loop with traced bounds": jax.vmap(power),
    "counted": jax.vmap(counted),
    "constant bounds": constant_bounds,
    "in scan": in_scan,
    "in cond": jax.vmap(in_cond),
    "in while": in_while,
    "around while": jax.vmap(around_while),
    "two axes": two_axes,
    "switch": lambda x: jax.vmap(branches)(x, np.array([0, 1, 2, 1])),
    "under checkpoint": jax.vmap(jax.checkpoint(root)),
    "with keys": lambda x: jax.vmap(keyed)(x, jax.random.split(jax.random.key(0), 4)),
    "along another axis": lambda x: jax.vmap(jax.vmap(root), 1, 1)(x.reshape(2, 2)),
}
CLOSED = {
    "newton": jnp.sqrt,
    "fori_loop with traced bounds": lambda x: jnp.stack([x[0], x[1] ** 2, x[2] ** 3, x[3] ** 10]),
    "switch": lambda x: jnp.stack([jnp.sin(x[0]), x[1] ** 0.5, x[2] ** 2, x[3] ** 0.5]),
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_vmap_in_the_program_equals_nested_jvp(name):
    expected = jax.jit(lambda p: sl.reference.nested_jvp(PROGRAMS[name], p, REAL, 3))(POINT)
    got = jax.jit(lambda p: sl.taylor_coefficients(PROGRAMS[name], p, REAL, 3))(POINT)
    assert_same_coefficients(got, expected, rtol=1e-10)  # the same sums in another order


@pytest.mark.parametrize("name", PROGRAMS)
def test_vmap_in_the_program_equals_cauchy(name):
    expected = sl.taylor.cauchy_coefficients(PROGRAMS[name], POINT, COMPLEX, 3)
    got = jax.jit(lambda d: sl.taylor_coefficients(PROGRAMS[name], POINT, d, 3))(COMPLEX)
    # where Cauchy's search for a radius stops
    assert_same_coefficients(got, expected.coefficients, rtol=1e-9, errors=expected.errors)


@pytest.mark.parametrize("method", ["series", "cauchy"])
@pytest.mark.parametrize("name", CLOSED)
def test_vmap_in_the_program_equals_the_closed_form(name, method):
    got = sl.taylor_coefficients(PROGRAMS[name], POINT, REAL, 3, method=method)
    expected = sl.taylor_coefficients(CLOSED[name], POINT, REAL, 3)
    # Newton stops at 1e-6 in y², after which one more round would change 1e-13; its third order at 1e-5 of itself
    rtol = 1e-4 if name in ("newton", "switch") else 1e-8
    assert_same_coefficients(got, expected, rtol=rtol)


@pytest.mark.parametrize("degree", [3, 8], ids=["separate", "stacked"])
@pytest.mark.parametrize("name", ["newton", "around while", "with keys"])
def test_every_example_of_a_batch_has_the_series_that_it_has_by_itself(name, degree):
    f = PROGRAMS[name]
    got = jax.jit(lambda d: sl.taylor_coefficients(f, POINT, d, degree))(COMPLEX)
    for i in range(len(POINT)):

        def one(a, i=i):
            if name == "with keys":
                return keyed(a, jax.random.split(jax.random.key(0), 4)[i])
            return {"newton": root, "around while": around_while}[name](a)

        expected = jax.jit(lambda d, one=one, i=i: sl.taylor_coefficients(one, POINT[i], d, degree))(COMPLEX[i])
        assert_same_coefficients(got[:, i], expected, rtol=1e-12)  # a few units of rounding


@pytest.mark.parametrize("name", ["newton", "in cond", "constant bounds", "around while"])
def test_vmap_over_directions_is_a_loop_over_directions(name):
    f, many = PROGRAMS[name], np.stack([COMPLEX, 1j * COMPLEX, REAL + 0j])
    together = jax.jit(jax.vmap(lambda d: sl.taylor_coefficients(f, POINT, d, 3)))(many)
    for got, direction in zip(together, many, strict=True):
        assert_same_coefficients(got, sl.taylor_coefficients(f, POINT, direction, 3), rtol=1e-12)  # rounding


@pytest.mark.parametrize("f", [root, in_cond, power, around_while])
def test_vmap_over_points_is_vmap_in_the_program(f):
    outside = jax.jit(jax.vmap(lambda p, d: sl.taylor_coefficients(f, p, d, 3), out_axes=1))(POINT, COMPLEX)
    inside = jax.jit(lambda d: sl.taylor_coefficients(jax.vmap(f), POINT, d, 3))(COMPLEX)
    assert_same_coefficients(outside, inside, rtol=1e-12)  # rounding


def test_vmap_over_points_and_in_the_program():
    points = np.stack([POINT, POINT[::-1]])
    got = jax.vmap(lambda p: sl.taylor_coefficients(jax.vmap(root), p, COMPLEX, 3))(points)
    for point, c in zip(points, got, strict=True):
        assert_same_coefficients(c, sl.taylor_coefficients(jax.vmap(root), point, COMPLEX, 3), rtol=1e-12)  # rounding


@pytest.mark.parametrize("method", ["series", "cauchy"])
def test_an_ensemble_of_lbfgs_fits_has_the_derivatives_of_the_implicit_function(method):
    """Ridge regressions, each with its own penalty and so its own number of rounds."""
    inputs, targets = np.sin(np.arange(18.0) ** 2).reshape(6, 3), np.cos(np.arange(6.0))
    penalties = np.array([0.1, 30.0])

    def exact(weights):
        def fit(penalty):
            return jnp.linalg.solve(
                inputs.T @ (weights[:, None] * inputs) + penalty * jnp.eye(3), inputs.T @ (weights * targets)
            )

        return jnp.stack([fit(p) for p in penalties])

    def trained(weights):
        def loss(parameters, penalty):
            residual = inputs @ parameters - targets
            return jnp.sum(weights * residual**2) / 2 + penalty * jnp.sum(parameters**2) / 2

        def fit(penalty):
            # without optax's search along the line, which works as well but takes half a minute to compile
            solver = optax.lbfgs(memory_size=2, linesearch=None)

            def going(carry):
                return jnp.linalg.norm(jax.grad(loss)(carry[0], penalty)) > 1e-6

            def body(carry):
                parameters, state, n = carry
                updates, state = solver.update(jax.grad(loss)(parameters, penalty), state, parameters)
                return optax.apply_updates(parameters, updates), state, n + 1

            start = jnp.zeros(3)
            return lax.while_loop(going, body, (start, solver.init(start), 0))

        parameters, _, rounds = jax.vmap(fit)(penalties)
        return parameters, rounds

    weights, direction = np.ones(6), 0.3 * np.cos(np.arange(6.0))
    assert len(set(np.asarray(trained(weights)[1]).tolist())) == 2  # one waits for the other
    got = sl.taylor_coefficients(lambda w: trained(w)[0], weights, direction, 2, method=method)
    expected = sl.taylor_coefficients(exact, weights, direction, 2)
    # gradients end at 1e-6; each order converges one round later than the order below it
    np.testing.assert_allclose(got, expected, atol=1e-3 * np.abs(expected).max())


@pytest.mark.parametrize("method", ["series", "cauchy"])
def test_the_exponential_integral_has_the_derivatives_of_its_integrand(method):
    point, direction = np.array([0.4, 1.3, 2.6]), np.array([0.3, -0.5, 0.7])
    got = sl.taylor_coefficients(jax.scipy.special.expi, point, direction, 4, method=method)
    slope = np.asarray(sl.taylor_coefficients(lambda x: jnp.exp(x) / x, point, direction, 3))
    expected = slope * direction / np.arange(1, 5)[:, None]  # Ei' = e^x / x
    # series: JAX's own derivative, so rounding; on circles its approximations in pieces, continued: 1e-16 on the axis
    np.testing.assert_allclose(got[1:], expected, rtol=0, atol=1e-9 * np.abs(expected).max())
