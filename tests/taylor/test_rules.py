"""Every rule against two oracles that share nothing with it: nested ``jax.jvp`` and Cauchy's integral."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.ad_checkpoint import checkpoint_name
from support.oracles import TESTED_IN_COLLECTIVES, assert_same_coefficients, by_order, directions, walk

import sketchlearn as sl
from sketchlearn.taylor import registry
from sketchlearn.taylor.algebra import BundledSeries, Series, StackedSeries
from sketchlearn.taylor.transform import series_coefficients

pytestmark = pytest.mark.usefixtures("x64", "quick_compilation")

DEGREE = 4

# Primitives of one JAX version only, with what makes them there; their cases run on both, as whatever they become.
ONE_VERSION = {
    "call_hi_primitive": "newer: searchsorted",
    "closed_call": "older: derivatives of a rematerialised scan; eval_jaxpr in newer JAX",
    "eval_jaxpr": "newer: derivatives of a rematerialised scan; closed_call in older JAX",
    "le_to": "older: searchsorted; call_hi_primitive in newer JAX",
    "lt_to": "older: searchsorted; call_hi_primitive in newer JAX",
    "log2": "newer: log2; log(x) / log(2) in older JAX",
    "one_minus_square": "newer: the derivative of tanh",
    "polynomial": "newer: polyval; a loop in older JAX",
}


# Met under an outer vmap(axis_name=...) only, which test_collectives.py is about.


class Case(NamedTuple):
    """A function of a pytree of float64 arrays, and a point at which it is analytic.

    Attributes:
        function: contains the primitive it is filed under.
        point: where to expand.
        plain: the function that nested ``jvp`` differentiates, where ``jvp`` would not see what we mean.
        site: the primitive under which decisions are recorded, ``None`` when there is nothing to record.
        kink: a point with decisions on a kink, ``count`` of them.
        piece: the function that they decide for along the kink's direction, whose real parts begin 0.13, -0.13, 0.64.
        back: the same along the opposite direction, where it is another.
    """

    function: Callable
    point: Any
    plain: Callable | None = None
    site: str | None = None
    kink: Any = None
    count: int = 0
    piece: Callable | None = None
    back: Callable | None = None


def v(*entries):
    return np.array(entries, float)


ANY = v(0.3, -0.7, 1.1)
POSITIVE = v(0.4, 1.3, 2.6)
UNIT = v(-0.8, 0.1, 0.6)  # within (-1, 1)
PAIR = {"a": v(0.3, -0.7, 1.1), "b": v(0.9, 1.6, -0.5)}
MATRIX = v(0.3, -0.7, 1.1, 0.8, 0.2, -0.4).reshape(2, 3)
IMAGE = np.sin(np.arange(32.0)).reshape(1, 4, 4, 2)
SQUARE = v(0.2, 1.5, -0.3, 2.1, 0.4, 0.7, -0.6, 0.9, 1.2).reshape(3, 3)  # its LU factors need pivots
GROUPS = np.array([1, 1], np.int32)
TALL = v(0.3, -0.2, 0.8, 0.5, 1.0, -0.4).reshape(3, 2)
TRIANGLES = {"a": SQUARE + 2 * np.eye(3), "b": TALL}


def ab(function):
    """A function of two arrays as one of ``PAIR``."""
    return lambda p: function(p["a"], p["b"])


def whole_powers(x):
    return jnp.stack([x[0] ** 3, x[1] ** 2, jnp.ones_like(x[2])])


def positive_definite(x):
    return x @ x.T + jnp.eye(len(x))


def least_squares(x):
    return jnp.linalg.solve(x.T @ x, x.T @ np.arange(3.0))


def of_upper_triangle(x):
    w, u = jnp.linalg.eigh(jnp.triu(x) + jnp.triu(x, 1).T)
    return w, u * u  # vectors have a sign that nothing determines


def by_upper_triangle(x):
    u, w = lax.linalg.eigh(x, lower=False, symmetrize_input=False)
    return w, u * u


def root_by_eigenvalues(a):
    w, u = jnp.linalg.eigh(a)
    return (u * jnp.sqrt(w)) @ u.T


def solved_triangle(left_side=True, **options):
    def f(p):
        b = p["b"] if left_side else p["b"].T
        return lax.linalg.triangular_solve(p["a"], b, left_side=left_side, **options)

    return f


def windows_by_hand(x):
    """Padded and dilated: 0 a 0 b 0 c 0 0 has the windows (0, 0), (a, b), (0, 0), (b, c), (0, 0), (c, 0)."""
    a, b, c = jnp.exp(x)
    return jnp.stack([0 * a, a + b + a * b / 8, 0 * a, b + c + b * c / 8, 0 * a, c])


def pool(reducer, start, x, window=(1, 2, 2, 1), strides=(1, 2, 2, 1), padding="VALID"):
    return lax.reduce_window(x, np.asarray(start, x.dtype), reducer, window, strides, padding)


def max_pool(x):
    return pool(lax.max, -np.inf, jnp.sin(x) + x)


def gradient(function):
    return jax.grad(lambda *x: jnp.sum(function(*x)))


def on_one_device(x):
    return lax.with_sharding_constraint(x, jax.sharding.SingleDeviceSharding(jax.devices()[0]))


@jax.custom_jvp
def softplus_by_its_rule(x):
    return jnp.logaddexp(x, 0.0)


softplus_by_its_rule.defjvps(lambda t, _, x: t * jax.nn.sigmoid(x))


@jax.custom_vjp
def cube_with_backward_rule(x):
    return x**3


cube_with_backward_rule.defvjp(lambda x: (x**3, x), lambda x, g: (3 * x**2 * g,))
sl.taylor.stand_in(cube_with_backward_rule, lambda x: x * x * x)


def rematerialised_scan(x):
    return jax.checkpoint(lambda x: lax.scan(lambda c, _: (jnp.sin(c) * 2, c), x, None, length=3)[1])(x)


LINEAR = {
    "add": [
        Case(ab(lambda a, b: jnp.exp(a) + b), PAIR),
        Case(lambda x: (1.5 + x * x) + np.arange(3.0), ANY),
    ],
    "add_any": [Case(gradient(lambda x: jnp.sin(x) * x), ANY)],
    "sub": [
        Case(ab(lambda a, b: jnp.exp(a) - b), PAIR),
        Case(lambda x: (1.5 - x * x) - np.arange(3.0), ANY),
    ],
    "neg": [Case(lambda x: -jnp.exp(x), ANY)],
    "broadcast_in_dim": [Case(lambda x: jnp.broadcast_to(jnp.exp(x), (2, 3)), ANY)],
    "complex": [Case(ab(lambda a, b: jnp.imag(lax.complex(a, b) * lax.complex(jnp.exp(b), a))), PAIR)],
    # jvp knows the sum over a named axis, of which vmap makes one over a numbered axis under the same name
    "psum": [
        Case(jax.vmap(lambda a: jnp.exp(a) / lax.psum(jnp.exp(a), "i"), axis_name="i"), ANY),
        Case(jax.vmap(lambda a: a * lax.pmean({"x": a * a}, "i")["x"], axis_name="i"), MATRIX),
    ],
    "real": [Case(ab(lambda a, b: jnp.real(lax.complex(a, b) ** 3)), PAIR)],
    "imag": [Case(ab(lambda a, b: jnp.imag(jnp.exp(lax.complex(a, b)))), PAIR)],
    "conj": [Case(ab(lambda a, b: jnp.imag(jnp.conj(lax.complex(a, b)) * lax.complex(a, b * b))), PAIR)],
    "concatenate": [Case(ab(lambda a, b: jnp.concatenate([jnp.exp(a), np.ones(2), b * b])), PAIR)],
    "convert_element_type": [
        Case(lambda x: jnp.real((x * x).astype(complex) * 1j * lax.complex(x, x)), ANY),
        Case(
            lambda x: x * x * lax.convert_element_type(3 * x, np.int32),
            ANY,
            site="convert_element_type",
            kink=v(1 / 3 + 0.1, 1.0, -2.0),
            count=2,
            piece=lambda x: x * x * v(1, 3, -6),
        ),
    ],
    "copy": [Case(lambda x: jnp.copy(jnp.exp(x)), ANY)],
    "cumsum": [
        Case(lambda x: jnp.cumsum(jnp.exp(x), axis=1), MATRIX),
        Case(lambda x: lax.cumsum(jnp.exp(x), axis=0, reverse=True), MATRIX),
    ],
    "device_put": [Case(lambda x: jax.device_put(jnp.exp(x)), ANY)],
    "dynamic_slice": [
        Case(lambda x: lax.dynamic_slice(jnp.exp(x), (1,), (2,)), ANY),
        Case(lambda x: lax.dynamic_slice(jnp.exp(x), (jnp.argmax(x) - 1,), (2,)), ANY),
    ],
    "dynamic_update_slice": [
        Case(ab(lambda a, b: lax.dynamic_update_slice(jnp.exp(a), b[:2] ** 2, (1,))), PAIR),
        Case(lambda x: lax.dynamic_update_slice(jnp.exp(x), np.ones(2), (0,)), ANY),
        Case(lambda x: lax.dynamic_update_slice(np.ones(4), jnp.exp(x), (1,)), ANY),
    ],
    "fft": [
        Case(lambda x: jnp.abs(x) + jnp.real(jnp.fft.ifft(jnp.fft.fft(jnp.exp(x)) ** 2)), ANY),
        Case(lambda x: jnp.fft.irfft(jnp.fft.rfft(jnp.exp(x)) * jnp.fft.rfft(x), n=3), ANY),
        Case(lambda x: jnp.imag(jnp.fft.fft2(jnp.exp(x))), MATRIX),
    ],
    "gather": [
        Case(lambda x: jnp.exp(x)[np.array([2, 0, 0])], ANY),
        Case(lambda x: jnp.take(jnp.exp(x), np.array([1, 7]), mode="fill", fill_value=2.0), ANY),
        Case(lambda x: jnp.take(jnp.exp(x), np.array([1, 7]), mode="clip"), ANY),
        Case(lambda x: jnp.take_along_axis(jnp.exp(x), np.array([[2], [0]]), 1), MATRIX),
    ],
    "name": [Case(lambda x: checkpoint_name(jnp.exp(x), "activation"), ANY)],
    "optimization_barrier": [Case(ab(lambda a, b: lax.optimization_barrier((jnp.exp(a), b * b))), PAIR)],
    "pad": [
        Case(lambda x: lax.pad(jnp.exp(x), 2.0, [(1, -1, 2)]), ANY),
        Case(ab(lambda a, b: lax.pad(a * a, b[0] ** 2, [(2, 1, 1)])), PAIR),
    ],
    "reduce_precision": [Case(lambda x: lax.reduce_precision(jnp.exp(x), 11, 52), ANY)],
    "reduce_sum": [Case(lambda x: jnp.sum(jnp.exp(x), axis=0), MATRIX), Case(lambda x: jnp.sum(jnp.exp(x)), MATRIX)],
    "reduce_window_sum": [Case(lambda x: pool(lax.add, 0, jnp.exp(x), padding="SAME"), IMAGE)],
    "reshape": [Case(lambda x: jnp.exp(x).reshape(3, 2), MATRIX)],
    "rev": [Case(lambda x: lax.rev(jnp.exp(x), (1,)), MATRIX)],
    "scatter": [
        Case(ab(lambda a, b: jnp.exp(a).at[np.array([2, 0])].set(b[:2] ** 2)), PAIR),
        Case(lambda x: jnp.exp(x).at[1].set(4.0), ANY),
        Case(lambda x: jnp.zeros(5).at[np.array([4, 0, 2])].set(jnp.exp(x)), ANY),
    ],
    "scatter-add": [
        Case(ab(lambda a, b: jnp.exp(a).at[np.array([2, 0, 2])].add(b * b)), PAIR),
        Case(lambda x: jnp.zeros(2).at[np.array([1, 0, 1])].add(jnp.exp(x)), ANY),
        Case(gradient(lambda x: jnp.exp(x)[np.array([2, 0, 0])] * x[0]), ANY),
    ],
    "scatter-sub": [Case(ab(lambda a, b: jnp.exp(a).at[np.array([2, 0, 2])].subtract(b * b)), PAIR)],
    "sharding_constraint": [Case(lambda x: on_one_device(jnp.exp(x)), ANY)],
    "slice": [Case(lambda x: jnp.exp(x)[:, ::2], MATRIX)],
    "split": [Case(lambda x: jnp.split(jnp.exp(x), [1], axis=1), MATRIX)],
    "squeeze": [Case(lambda x: jnp.squeeze(jnp.exp(x)[None], 0), ANY)],
    "stack": [Case(ab(lambda a, b: jnp.stack([jnp.exp(a), b * b, np.ones(3)], axis=1)), PAIR)],
    "unstack": [Case(lambda x: sum(jnp.unstack(jnp.exp(x), axis=1)), MATRIX)],
    # jvp would call it a constant; the value depends on x all the same, and that is what is asked for
    "stop_gradient": [Case(lambda x: x * lax.stop_gradient(jnp.exp(x)), ANY, plain=lambda x: x * jnp.exp(x))],
    "tile": [Case(lambda x: jnp.tile(jnp.exp(x), (2, 1)), MATRIX)],
    "transpose": [Case(lambda x: jnp.exp(x).T, MATRIX)],
}

BILINEAR = {
    "mul": [Case(ab(lambda a, b: jnp.exp(a) * jnp.sin(b)), PAIR), Case(lambda x: 2.5 * jnp.exp(x) * v(1, 2, 3), ANY)],
    "div": [
        Case(ab(lambda a, b: jnp.exp(a) / b), PAIR),
        Case(lambda x: 2.5 / (2 + jnp.exp(x)), ANY),
        Case(lambda x: jnp.exp(x) / v(1, -2, 3), ANY),
    ],
    "ragged_dot_general": [
        Case(lambda x: lax.ragged_dot(jnp.exp(x), jnp.stack([x.T, jnp.sin(x.T)]), GROUPS), MATRIX),
        Case(lambda x: lax.ragged_dot(jnp.exp(x), np.arange(12.0).reshape(2, 3, 2), GROUPS), MATRIX),
        Case(lambda x: lax.ragged_dot(np.arange(4.0).reshape(2, 2), jnp.stack([x, x * x]), GROUPS), MATRIX),
    ],
    "dot_general": [
        Case(lambda x: jnp.exp(x) @ jnp.sin(x).T, MATRIX),
        Case(lambda x: np.arange(4.0).reshape(2, 2) @ jnp.exp(x), MATRIX),
        Case(lambda x: jnp.exp(x) @ np.arange(3.0), MATRIX),
        Case(lambda x: jnp.einsum("bij,bjk->bik", jnp.exp(x[:, None]), jnp.sin(x)[..., None]), MATRIX),
    ],
    "conv_general_dilated": [
        Case(
            lambda p: lax.conv_general_dilated(
                jnp.exp(p["x"]), p["w"], (2, 1), "SAME", rhs_dilation=(1, 2), dimension_numbers=("NHWC", "HWIO", "NHWC")
            ),
            {"x": IMAGE, "w": np.cos(np.arange(24.0)).reshape(2, 2, 2, 3)},
        ),
        Case(
            lambda x: lax.conv(np.cos(np.arange(9.0)).reshape(1, 1, 3, 3), x[None, None] ** 2, (1, 1), "SAME"), MATRIX
        ),
    ],
}

ANALYTIC = {
    "acos": [Case(jnp.arccos, UNIT)],
    "acosh": [Case(jnp.arccosh, POSITIVE + 1)],
    "asin": [Case(jnp.arcsin, UNIT)],
    "asinh": [Case(jnp.arcsinh, ANY)],
    "atan": [Case(jnp.arctan, 2 * ANY)],
    "atan2": [
        Case(ab(jnp.arctan2), {"a": v(0.5, -0.8, 0.3, -0.2), "b": v(1.2, -0.7, -0.4, 0.1)}),
        Case(lambda x: jnp.arctan2(x, 2.0) + jnp.arctan2(-1.0, x), ANY),
    ],
    "atanh": [Case(jnp.arctanh, UNIT)],
    "cbrt": [Case(jnp.cbrt, v(-2.0, 0.5, 3.0))],
    "cos": [Case(jnp.cos, 2 * ANY)],
    "cosh": [Case(jnp.cosh, ANY)],
    "erf": [Case(lax.erf, v(-1.4, 0.0, 0.6, 2.5)), Case(gradient(lax.erf), ANY)],
    "erfc": [Case(lax.erfc, v(-1.4, 0.0, 0.6, 2.5))],
    "erf_inv": [Case(lax.erf_inv, UNIT)],
    "exp": [Case(jnp.exp, 2 * ANY)],
    "exp2": [Case(jnp.exp2, ANY)],
    "expm1": [Case(jnp.expm1, v(-0.7, 1e-9, 1.1))],
    "integer_pow": [
        Case(lambda x: lax.integer_pow(x, 3), v(0.3, 0.0, -1.1)),
        Case(lambda x: lax.integer_pow(x, -2), ANY),
        Case(lambda x: lax.integer_pow(x, 7), v(0.3, 0.0, -1.1)),
        Case(lambda x: x + lax.integer_pow(x, 0), v(0.3, 0.0, -1.1)),
        Case(lambda x: x + lax.integer_pow(x, 1), v(0.3, 0.0, -1.1)),
    ],
    "digamma": [Case(lax.digamma, v(0.4, 1.3, 25.0)), Case(lax.digamma, v(-0.7, -2.4, 0.2))],
    "lgamma": [
        Case(lax.lgamma, v(0.4, 1.0, 2.0, 25.0)),
        Case(lax.lgamma, v(-0.7, -2.4, 0.2, 0.5)),
        Case(jax.scipy.special.gamma, v(-0.7, 1.3, 0.2)),
    ],
    "polygamma": [
        Case(lambda x: lax.polygamma(v(0.0, 1.0, 2.0, 5.0), x), v(0.4, 1.3, 2.6, 25.0)),
        Case(lambda x: jax.scipy.special.polygamma(2, x), POSITIVE),
    ],
    "zeta": [
        # jax.scipy.special.zeta sums a few terms in place of this primitive, so the plain one is its definition
        Case(
            lambda x: lax.zeta(v(2.5, 3.0, 1.2), x), POSITIVE, plain=lambda x: jax.scipy.special.zeta(v(2.5, 3, 1.2), x)
        ),
    ],
    "log": [Case(jnp.log, POSITIVE)],
    "log1p": [Case(jnp.log1p, v(-0.7, 1e-9, 1.1))],
    "log2": [Case(jnp.log2, POSITIVE)],
    "logistic": [Case(jax.nn.sigmoid, v(-3.0, 0.0, 1.2))],
    "one_minus_square": [Case(gradient(jnp.tanh), ANY)],
    "pow": [
        Case(lambda x: x**2.5, POSITIVE),
        Case(ab(lambda a, b: jnp.exp(a) ** b), PAIR),
        Case(lambda x: 1.7**x, ANY),
        # jvp's own pow has no derivatives at a base of 0 or below
        Case(lambda x: lax.pow(x, v(3.0, 2.0, 0.0)), v(-0.7, 0.0, 1.1), plain=whole_powers),
        Case(lambda x: lax.pow(x, np.array([3, 2, 0])), v(-0.7, 0.0, 1.1), plain=whole_powers),
        # a base of 0: constant, zero to all orders, and moving at once under an exponent above the degree
        Case(lambda p: lax.pow(v(0, 0, 2), p), POSITIVE),
        Case(lambda x: jax.nn.relu(-x) ** 2.5 + jax.nn.relu(-x) ** (1 + x), POSITIVE, plain=lambda x: 0 * x),
    ],
    "rsqrt": [Case(lax.rsqrt, POSITIVE)],
    "sin": [Case(jnp.sin, 2 * ANY)],
    "sinh": [Case(jnp.sinh, ANY)],
    "sqrt": [Case(jnp.sqrt, POSITIVE)],
    "square": [Case(jnp.square, v(0.3, 0.0, -1.1))],
    "tan": [Case(jnp.tan, ANY)],
    "tanh": [Case(jnp.tanh, v(-2.0, 0.0, 0.7))],
}

PIECEWISE = {
    "abs": [
        Case(
            lambda x: jnp.abs(jnp.sin(x)),
            ANY,
            None,
            "abs",
            v(0, 1, -2),
            1,
            lambda x: jnp.sin(x) * v(1, 1, -1),
            lambda x: jnp.sin(x) * v(-1, 1, -1),
        ),
        # the two kinks of a smooth function cancel
        Case(
            lambda x: jnp.maximum(x, 0) + jnp.log1p(jnp.exp(-jnp.abs(x))),
            ANY,
            site="abs",
            kink=v(0.0, 0.1, -2.0),
            count=1,
            piece=lambda x: jnp.log1p(jnp.exp(x)),
        ),
    ],
    "clamp": [
        Case(
            lambda x: lax.clamp(-0.5, jnp.sin(x), 0.75),
            ANY,
            site="clamp",
            kink=v(0.3, np.arcsin(-0.5) - 1e-3, np.arcsin(0.75)),
            count=1,
            piece=lambda x: jnp.sin(x) * v(1, 0, 0) + v(0, -0.5, 0.75),
            back=lambda x: jnp.sin(x) * v(1, 0, 1) + v(0, -0.5, 0),
        ),
        Case(lambda p: lax.clamp(p["a"] - 1, p["a"] ** 2, p["b"] + 0.5), PAIR, site="clamp"),
    ],
    "cummax": [
        Case(
            lambda x: lax.cummax(x * x, axis=0),
            v(0.3, -0.7, 0.6, 1.1),
            site="cummax",
            kink=v(0.3, 0.7, -0.7, 1.1),
            count=1,
            piece=lambda x: x[np.array([0, 1, 1, 3])] ** 2,
            back=lambda x: x * x,
        ),
        Case(lambda x: lax.cummax(jnp.exp(x), axis=1, reverse=True), MATRIX, site="cummax"),
    ],
    "cummin": [
        Case(lambda x: lax.cummin(x * x, axis=0), v(0.9, -0.7, 0.8, 0.5), site="cummin"),
        Case(
            lambda x: lax.cummin(jnp.exp(x), axis=0, reverse=True),
            v(0.9, -0.7, 0.8, 0.5),
            site="cummin",
            kink=v(0.1, 0.5, 0.5, 0.8),
            count=1,
            piece=jnp.exp,
            back=lambda x: jnp.exp(x[np.array([0, 2, 2, 3])]),
        ),
    ],
    "max": [
        Case(
            ab(lambda a, b: jnp.maximum(jnp.sin(a), b * b)),
            PAIR,
            site="max",
            kink={"a": v(0.0, 2.0, -0.5), "b": v(0.0, 0.1, 0.2)},
            count=1,
            piece=ab(lambda a, b: jnp.sin(a) * v(1, 1, 0) + b * b * v(0, 0, 1)),
            back=ab(lambda a, b: jnp.sin(a) * v(0, 1, 0) + b * b * v(1, 0, 1)),
        ),
        Case(lambda x: jnp.maximum(x * x, 0.3), ANY, site="max"),
    ],
    "min": [
        Case(
            lambda x: jnp.minimum(0.25, x * x),
            ANY,
            site="min",
            kink=v(0.5, 0.1, 1),
            count=1,
            piece=lambda x: x * x * v(0, 1, 0) + v(0.25, 0, 0.25),
            back=lambda x: x * x * v(1, 1, 0) + v(0, 0, 0.25),
        ),
    ],
    "reduce_max": [
        Case(
            lambda x: jnp.max(x * x, axis=1),
            MATRIX,
            site="reduce_max",
            kink=v(1.0, -1.0, 0.2, 0.3, 0.4, 0.5).reshape(2, 3),
            count=1,
            piece=lambda x: jnp.stack([x[0, 1], x[1, 2]]) ** 2,
            back=lambda x: jnp.stack([x[0, 0], x[1, 2]]) ** 2,
        ),
        Case(lambda x: jnp.max(jnp.exp(x), axis=(0, 2)), np.sin(np.arange(24.0)).reshape(2, 3, 4), site="reduce_max"),
    ],
    "pmax": [
        Case(
            jax.vmap(lambda a: a * lax.pmax(jnp.exp(a), "i"), axis_name="i"),
            MATRIX,
            plain=lambda x: x * jnp.max(jnp.exp(x), axis=0),  # jvp has no rule
            site="reduce_max",
        )
    ],
    "pmin": [
        Case(
            jax.vmap(lambda a: a * lax.pmin(jnp.exp(a), "i"), axis_name="i"),
            ANY,
            plain=lambda x: x * jnp.min(jnp.exp(x)),
            site="reduce_min",
        )
    ],
    "reduce_min": [Case(lambda x: jnp.min(jnp.exp(x)), MATRIX, site="reduce_min")],
    "rem": [
        Case(
            lambda x: lax.rem(x * x, 0.25),
            ANY,
            site="rem",
            kink=v(0.5, 0.3, 0.8),
            count=1,
            piece=lambda x: x * x - v(0.25, 0, 0.5),
        ),
        Case(ab(lambda a, b: lax.rem(jnp.exp(a), b)), PAIR, site="rem"),
    ],
    "select_n": [
        Case(
            lambda x: jnp.where(x > 0.5, jnp.exp(x), x * x),
            ANY,
            site="gt",
            kink=v(0.5, 0.6, 0.4),
            count=1,
            piece=lambda x: jnp.exp(x) * v(0, 1, 0) + x * x * v(1, 0, 1),
        ),
        Case(lambda x: jnp.where(np.array([True, False, True]), jnp.exp(x), 3.0), ANY),
        Case(ab(lambda a, b: lax.select_n(np.array([2, 0, 1]), a, jnp.exp(b), a * b)), PAIR),
    ],
    "sort": [
        Case(
            lambda x: jnp.sort(jnp.sin(x)) * v(1, 2, 3),
            ANY,
            site="sort",
            kink=v(0.5, -1.0, 0.5),
            count=1,
            piece=lambda x: jnp.sin(jnp.stack([x[1], x[0], x[2]])) * v(1, 2, 3),
            back=lambda x: jnp.sin(jnp.stack([x[1], x[2], x[0]])) * v(1, 2, 3),
        ),
        Case(ab(lambda a, b: lax.sort((a * a, jnp.exp(b)), num_keys=1)), PAIR, site="sort"),
        Case(lambda x: lax.sort(jnp.exp(x), dimension=0), MATRIX, site="sort"),
        Case(lambda x: x * x[jnp.argsort(-x)], ANY, site="sort"),
    ],
    "top_k": [
        Case(
            lambda x: lax.top_k(jnp.sin(x), 2)[0] * v(1, 2),
            v(0.3, -0.7, 1.1, 0.9),
            site="top_k",
            kink=v(0.2, 0.4, 0.4, 0.1),
            count=1,
            piece=lambda x: jnp.sin(x[1:3]) * v(1, 2),
        ),
        Case(lambda x: jnp.exp(x)[lax.top_k(x, 2)[1]], ANY, site="top_k"),
    ],
    "reduce_window_max": [
        Case(max_pool, IMAGE, site="reduce_window_max"),
        Case(
            lambda x: pool(lax.max, -np.inf, x * x, (2,), (1,), "SAME"),
            ANY,
            site="reduce_window_max",
            kink=v(1.0, -1.0, 0.5),
            count=1,
            piece=lambda x: x[np.array([1, 1, 2])] ** 2,
            back=lambda x: x * x,
        ),
    ],
    "reduce_window_min": [Case(lambda x: pool(lax.min, np.inf, x * x, (2,), (1,)), ANY, site="reduce_window_min")],
    "select_and_scatter_add": [Case(gradient(lambda x: max_pool(x) ** 2), IMAGE)],
    "select_and_gather_add": [Case(lambda x: jax.jvp(max_pool, (x,), (x * x,))[1], IMAGE)],
    "scatter-max": [
        Case(
            ab(lambda a, b: jnp.exp(a).at[np.array([2, 0])].max(b[:2] ** 2)),
            PAIR,
            site="scatter-max",
            kink={"a": np.log(v(0.25, 3.0, 5.0)), "b": v(2.0, 0.5, 0.1)},
            count=2,
            piece=ab(lambda a, b: jnp.exp(a)),
            back=ab(lambda a, b: jnp.exp(a) * v(0, 1, 1) + b[1] ** 2 * v(1, 0, 0)),
        )
    ],
    "scatter-min": [Case(ab(lambda a, b: jnp.exp(a).at[np.array([2, 0])].min(b[:2] ** 2)), PAIR, site="scatter-min")],
}

# Functions that are constant between their jumps: what is left of x is the other factor.
CONSTANT = {
    "argmax": [
        Case(
            lambda x: jnp.exp(x)[jnp.argmax(x)],
            ANY,
            site="argmax",
            kink=v(0.5, 0.2, 0.5),
            count=1,
            piece=lambda x: jnp.exp(x[0]),
        )
    ],
    "argmin": [
        Case(lambda x: jnp.take_along_axis(jnp.exp(x), jnp.argmin(x, 1, keepdims=True), 1), MATRIX, site="argmin")
    ],
    "ceil": [Case(lambda x: x * x * jnp.ceil(x), ANY, None, "ceil", v(0.3, 1, -2), 2, lambda x: x * x * v(1, 1, -2))],
    "floor": [
        Case(lambda x: x * x * jnp.floor(x), ANY, None, "floor", v(0.3, 1, -2), 2, lambda x: x * x * v(0, 1, -2))
    ],
    "round": [
        Case(lambda x: x * x * lax.round(x), ANY, None, "round", v(0.3, 1.5, -0.5), 2, lambda x: x * x * v(0, 2, -1)),
    ],
    "sign": [
        Case(lambda x: jnp.exp(x) * jnp.sign(x), ANY, None, "sign", v(0, 1, -2), 1, lambda x: jnp.exp(x) * v(0, 1, -1))
    ],
    "eq": [
        Case(
            lambda x: jnp.where(x == 1.0, x, x * x),
            ANY,
            None,
            "eq",
            v(1, 2, 3),
            1,
            lambda x: jnp.stack([x[0], x[1] ** 2, x[2] ** 2]),
        )
    ],
    "ne": [
        Case(
            lambda x: jnp.where(x != 1.0, x * x, x),
            ANY,
            None,
            "ne",
            v(1, 2, 3),
            1,
            lambda x: jnp.stack([x[0], x[1] ** 2, x[2] ** 2]),
        )
    ],
    "lt": [
        Case(
            ab(lambda a, b: jnp.where(a < b, a * a, b * b * b)),
            PAIR,
            None,
            "lt",
            {"a": v(1.0), "b": v(1.0)},
            1,
            lambda p: p["b"] ** 3,
            lambda p: p["a"] ** 2,
        )
    ],
    "le": [
        Case(
            ab(lambda a, b: jnp.where(a <= b, a * a, b * b * b)),
            PAIR,
            None,
            "le",
            {"a": v(1.0), "b": v(1.0)},
            1,
            lambda p: p["b"] ** 3,
            lambda p: p["a"] ** 2,
        )
    ],
    "gt": [
        Case(
            ab(lambda a, b: jnp.where(a > b, a * a, b * b * b)),
            PAIR,
            None,
            "gt",
            {"a": v(1.0), "b": v(1.0)},
            1,
            lambda p: p["a"] ** 2,
            lambda p: p["b"] ** 3,
        )
    ],
    "ge": [
        Case(
            ab(lambda a, b: jnp.where(a >= b, a * a, b * b * b)),
            PAIR,
            None,
            "ge",
            {"a": v(1.0), "b": v(1.0)},
            1,
            lambda p: p["a"] ** 2,
            lambda p: p["b"] ** 3,
        )
    ],
    "lt_to": [Case(lambda x: x * x * jnp.searchsorted(v(-0.5, 0.5, 1), x, side="right"), ANY)],
    "le_to": [Case(lambda x: x * x * jnp.searchsorted(v(-0.5, 0.5, 1), x), ANY)],
    "call_hi_primitive": [Case(lambda x: x * x * jnp.searchsorted(v(-0.5, 0.5, 1), x), ANY)],
    "is_finite": [Case(lambda x: jnp.where(jnp.isfinite(x), x * x, 0.0), ANY)],
    "debug_callback": [Case(lambda x: (jax.debug.callback(lambda _: None, x * x), jnp.exp(x))[1], ANY)],
    "debug_print": [Case(lambda x: (jax.debug.print("{}", x * x), jnp.exp(x))[1], ANY)],
}

ALGEBRAIC = {
    "cholesky": [
        Case(lambda x: jnp.linalg.cholesky(positive_definite(x)), SQUARE),
        Case(lambda x: lax.linalg.cholesky(positive_definite(x) * (1 + x), symmetrize_input=True), SQUARE / 4),
    ],
    "cumlogsumexp": [
        Case(lambda x: lax.cumlogsumexp(x * x, axis=1), MATRIX),
        Case(lambda x: lax.cumlogsumexp(x * x, axis=0, reverse=True), MATRIX),
        Case(lambda x: lax.cumlogsumexp(x, axis=0), np.zeros(4)),  # ties everywhere, and smooth all the same
    ],
    "cumprod": [
        Case(lambda x: lax.cumprod(x, axis=0), v(0.3, 0.0, 1.1, -0.4)),
        Case(lambda x: lax.cumprod(jnp.exp(x), axis=1, reverse=True), MATRIX),
    ],
    "reduce_prod": [
        Case(jnp.prod, v(0.3, 0.0, 1.1, 0.0, -0.4)),
        Case(lambda x: jnp.prod(x, axis=(0, 2)), np.sin(np.arange(1.0, 13.0)).reshape(2, 3, 2)),
    ],
    "reduce": [
        # jvp counts a start that is not neutral twice
        Case(
            lambda x: lax.reduce(x, np.float64(2), lambda a, b: a * b, (0,)),
            v(0.3, 0.0, 1.1, 0.0, -0.4),
            plain=lambda x: 2 * jnp.prod(x),
        ),
        Case(lambda x: lax.reduce(jnp.exp(x), np.float64(0), lambda a, b: a + b, (1,)), MATRIX),
        Case(lambda x: lax.reduce(x, -jnp.inf, jnp.logaddexp, (0, 1)), MATRIX, plain=jax.scipy.special.logsumexp),
        # y -> a y + b one after the other, which do not commute
        Case(
            lambda x: lax.reduce(
                (x, x * x), (np.float64(1), np.float64(0)), lambda f, g: (f[0] * g[0], f[1] * g[0] + g[1]), (0,)
            ),
            ANY,
            plain=lambda x: (x[0] * x[1] * x[2], (x[0] ** 2 * x[1] + x[1] ** 2) * x[2] + x[2] ** 2),
        ),
        Case(lambda x: x * lax.reduce(x, np.float64(0), lambda a, b: jnp.maximum(a, b), (0,)), ANY, site="max"),
        Case(lambda x: x + lax.reduce(x[:, :0], np.float64(2), lambda a, b: a * b, (1,))[:, None], MATRIX),
    ],
    "reduce_window": [
        Case(lambda x: pool(lax.mul, 1, x), IMAGE, plain=lambda x: jnp.prod(x.reshape(1, 2, 2, 2, 2, 2), (2, 4))),
        Case(
            lambda x: lax.reduce_window(
                jnp.exp(x), np.float64(0), lambda a, b: a + b + a * b / 8, (2,), (1,), ((1, 2),), (2,), (2,)
            ),
            ANY,
            plain=windows_by_hand,
        ),
    ],
    "polynomial": [
        Case(ab(lambda a, b: jnp.polyval(a, b * b)), PAIR),
        Case(lambda x: jnp.polyval(v(1, -2, 3), x), ANY),
    ],
    "scatter-mul": [
        Case(ab(lambda a, b: a.at[1].multiply(b[0] ** 2)), PAIR),
        Case(ab(lambda a, b: jnp.exp(a).at[np.array([2, 0])].multiply(b[:2] ** 2, unique_indices=True)), PAIR),
        Case(lambda x: jnp.exp(x).at[np.array([2, 0, 2])].multiply(v(2, 3, 5)), ANY),
        # jvp refuses indices that may be the same place
        Case(
            ab(lambda a, b: jnp.exp(a).at[np.array([2, 0, 2])].multiply(b)),
            {"a": v(0.3, -0.7, 1.1), "b": v(0.9, 1.6, 0.0)},
            plain=ab(lambda a, b: jnp.exp(a) * jnp.stack([b[1], 1 + 0 * b[1], b[0] * b[2]])),
        ),
        Case(
            lambda x: jax.ops.segment_prod(x, np.array([1, 0, 1, 7]), 3),  # none is for 2, and 7 is nowhere
            v(0.3, -0.7, 1.1, 5.0),
            plain=lambda x: jnp.stack([x[1], x[0] * x[2], 1 + 0 * x[0]]),
        ),
        Case(
            lambda x: x.at[:, np.array([0, 0])].divide(jnp.exp(x[:, :2])),
            MATRIX,
            plain=lambda x: jnp.stack([x[:, 0] / jnp.exp(x[:, 0] + x[:, 1]), x[:, 1], x[:, 2]], 1),
        ),
        Case(
            lambda x: jax.vmap(lambda a: a.at[np.array([1, 1, 0])].multiply(jnp.exp(a)))(x),
            MATRIX,
            plain=lambda x: x * jnp.exp(jnp.stack([x[:, 2], x[:, 0] + x[:, 1], 0 * x[:, 0]], 1)),
        ),
        Case(lambda x: jnp.ones(4).at[np.array([3, 0, 1])].multiply(jnp.exp(x), unique_indices=True), ANY),
    ],
    "triangular_solve": [
        Case(solved_triangle(lower=True), TRIANGLES),
        Case(solved_triangle(lower=False, transpose_a=True), TRIANGLES),
        Case(solved_triangle(left_side=False, lower=True, unit_diagonal=True), TRIANGLES),
        Case(solved_triangle(left_side=False, lower=False, unit_diagonal=True, transpose_a=True), TRIANGLES),
        Case(lambda x: lax.linalg.triangular_solve(jnp.exp(x), np.eye(3), left_side=True, lower=True), SQUARE),
        Case(lambda x: lax.linalg.triangular_solve(np.eye(3) + 1, jnp.exp(x), left_side=True, lower=True), SQUARE),
    ],
    "lu": [
        Case(lambda x: jnp.linalg.slogdet(x)[1], SQUARE),
        Case(lambda x: lax.linalg.lu(x)[0], SQUARE),
        Case(lambda x: lax.linalg.lu(x)[0], np.stack([SQUARE, SQUARE.T])),
    ],
    "qr": [
        Case(lambda x: jnp.linalg.qr(x), TALL),
        Case(lambda x: jnp.linalg.qr(x, mode="r"), SQUARE),
        Case(lambda x: jnp.linalg.qr(x), TALL.T),
        Case(lambda x: jnp.linalg.qr(x), np.stack([SQUARE, SQUARE.T])),
    ],
    "eigh": [
        Case(lambda x: jnp.linalg.eigh(x + x.T), SQUARE),
        Case(by_upper_triangle, SQUARE, plain=of_upper_triangle),
        Case(lambda x: jnp.linalg.eigvalsh(x @ jnp.swapaxes(x, 1, 2)), np.stack([SQUARE, SQUARE.T])),
        # a square root, an exponential and a norm by their eigenvalues
        Case(lambda x: root_by_eigenvalues(positive_definite(x)), SQUARE),
        Case(lambda x: jnp.linalg.eigvalsh(jnp.exp(x)[None]), v(0.7)),
    ],
    "svd": [
        Case(lambda x: jnp.linalg.svd(x, full_matrices=False), TALL),
        Case(lambda x: jnp.linalg.svd(x, full_matrices=False), TALL.T),
        Case(lambda x: jnp.linalg.svd(x), SQUARE),
        Case(lambda x: jnp.linalg.norm(x, ord=2), SQUARE),
        Case(lambda x: jnp.linalg.lstsq(x, np.arange(3.0))[0], TALL, plain=least_squares),
        Case(lambda x: jnp.linalg.norm(x, ord="nuc", axis=(1, 2)), np.stack([TALL, TALL[::-1] ** 2])),
    ],
    "tridiagonal_solve": [
        Case(
            lambda p: lax.linalg.tridiagonal_solve(
                p["a"] * v(0, 1, 1), 3 + p["b"], p["b"] * v(1, 1, 0), p["a"][:, None]
            ),
            PAIR,
        ),
        Case(
            lambda x: lax.linalg.tridiagonal_solve(x * v(0, 1, 1), 3 + x, x * v(1, 1, 0), x[..., None]),
            np.stack([ANY, POSITIVE]),
        ),
    ],
    "custom_linear_solve": [
        Case(lambda p: jnp.linalg.solve(p["a"], p["b"]), TRIANGLES),
        Case(lambda x: jnp.linalg.solve(x.T, np.arange(3.0)), SQUARE),
        Case(lambda x: jax.scipy.linalg.solve(positive_definite(x), x[0], assume_a="pos"), SQUARE),
        Case(lambda x: jnp.linalg.inv(x), np.stack([SQUARE, SQUARE.T])),
    ],
}

CONTROL_FLOW = {
    "jit": [Case(lambda x: jax.jit(jnp.exp)(x) * x, ANY)],
    "remat2": [Case(jax.checkpoint(lambda x: jnp.sin(jnp.exp(x))), ANY)],
    # jvp has no rule for it
    "composite": [Case(lax.composite(lambda x: jnp.sin(x) * x, "tests.wave"), ANY, plain=lambda x: jnp.sin(x) * x)],
    "closed_call": [Case(gradient(rematerialised_scan), ANY)],
    "eval_jaxpr": [Case(gradient(rematerialised_scan), ANY)],
    "scan": [
        Case(lambda x: lax.scan(lambda c, y: (c * jnp.sin(y), c + y), 1.5, x, reverse=True), ANY),
        Case(lambda x: lax.fori_loop(0, 3, lambda i, c: jnp.sin(c) + i, x), ANY),
    ],
    "while": [Case(lambda x: lax.while_loop(lambda c: jnp.sum(c) < 20, lambda c: 1.5 * c + c * c, x), ANY, site="lt")],
    "cond": [
        Case(lambda x: lax.cond(x[0] > 0, jnp.sin, jnp.cos, x), ANY, site="gt"),
        Case(lambda x: lax.switch(1, [jnp.sin, lambda x: jnp.ones(3), jnp.cos], x) * x, ANY),
        Case(lambda x: lax.switch(jnp.argmax(x), [jnp.sin, lambda x: np.ones(3), jnp.cos], x), ANY, site="argmax"),
    ],
    "custom_jvp_call": [Case(lambda x: softplus_by_its_rule(x * x), ANY)],
    "custom_vjp_call": [Case(lambda x: cube_with_backward_rule(jnp.exp(x)), ANY, plain=lambda x: jnp.exp(x) ** 3)],
}

CASES: dict[str, list[Case]] = {
    **LINEAR, **BILINEAR, **ANALYTIC, **PIECEWISE, **CONSTANT, **ALGEBRAIC, **CONTROL_FLOW,
}  # fmt: skip

# A scalar meets an array in one equation, each side constant or not.
ELEMENTWISE = {
    "add": lax.add, "sub": lax.sub, "mul": lax.mul, "div": lax.div, "pow": lax.pow, "atan2": lax.atan2,
    "max": lax.max, "min": lax.min, "rem": lax.rem,
    "complex": lambda a, b: jnp.imag(jnp.exp(lax.complex(a, b))),
}  # fmt: skip


def scalars_and_arrays(op):
    def f(p):
        s, x = p["s"], p["x"]
        pairs = [(s, x), (x, s), (s, v(1.2, 0.5)), (v(1.2, 0.5), s), (x, 0.75), (0.75, x)]
        return [op(*map(jnp.asarray, pair)) for pair in pairs]

    return Case(f, {"s": np.array(0.6), "x": v(0.9, 1.4)})


for _name, _op in ELEMENTWISE.items():
    CASES[_name].append(scalars_and_arrays(_op))
CASES["clamp"].append(
    Case(
        lambda p: lax.clamp(p["s"] - 1, p["x"] ** 2, p["s"]),
        {"s": np.array(0.6), "x": v(0.7, 1.4)},
        plain=lambda p: jnp.minimum(p["x"] ** 2, p["s"]),  # jvp has no rule for scalar bounds
    )
)

EACH = [pytest.param(name, i, id=f"{name}-{i}") for name, cases in CASES.items() for i in range(len(cases))]
each_case = pytest.mark.parametrize(("name", "i"), EACH)
RECORDING = [p for p in EACH if CASES[p.values[0]][p.values[1]].site]
WITH_KINK = [p for p in EACH if CASES[p.values[0]][p.values[1]].kink is not None]


# One case for every way in which a rule can depend on the representation; the others are run in two of the four.
REPRESENTATION_MATTERS = (
    "add mul exp atan2 pow fft clamp sort cumlogsumexp scatter-mul lu cholesky triangular_solve custom_linear_solve "
    "qr eigh svd lgamma reduce ragged_dot_general psum pmax "
    "scan while cond custom_jvp_call"
)


@functools.cache
def compiled(name, i, representation, is_complex):
    algebra = representation(DEGREE, is_complex)
    function = CASES[name][i].function
    return jax.jit(lambda point, direction: series_coefficients(function, point, direction, DEGREE, algebra))


@functools.cache
def real_coefficients(name, i):
    """Along the case's real direction, stacked on one axis."""
    point = CASES[name][i].point
    return compiled(name, i, StackedSeries, False)(point, directions(point)[0])


@functools.cache
def complex_coefficients(name, i):
    """Along the case's complex direction, as separate arrays."""
    point = CASES[name][i].point
    return compiled(name, i, Series, True)(point, directions(point)[1])


def test_every_rule_has_a_case_and_every_case_a_rule():
    assert set(CASES) | TESTED_IN_COLLECTIVES == {rule.primitive for rule in sl.taylor.supported_primitives()}


@each_case
def test_case_contains_its_primitive(name, i):
    case = CASES[name][i]
    found = {eqn.primitive.name for eqn in walk(jax.make_jaxpr(case.function)(case.point))}
    if name not in found and name in ONE_VERSION:
        pytest.skip(f"{name} is not a primitive of this JAX version ({ONE_VERSION[name]})")
    assert name in found


@each_case
def test_rule_is_used(name, i, monkeypatch):
    """The primitive meets a jet: its rule is called, not only its plain evaluation."""
    case, called = CASES[name][i], []
    rule = registry.RULES[name]

    def spy(*args):
        called.append(name)
        return rule.apply(*args)

    monkeypatch.setitem(registry.RULES, name, rule._replace(apply=spy))
    jax.eval_shape(lambda p: sl.taylor_coefficients(case.function, p, directions(p)[0], 2), case.point)
    if not called and name in ONE_VERSION:
        pytest.skip(f"{name} is not a primitive of this JAX version ({ONE_VERSION[name]})")
    assert called


@each_case
def test_series_along_a_real_direction_equals_nested_jvp(name, i):
    case = CASES[name][i]
    plain = case.plain or case.function
    nested = jax.jit(lambda p, d: sl.reference.nested_jvp(plain, p, d, DEGREE))
    # Both are exact up to rounding; a few hundred operations, some cancelling, lose at most six of 16 digits.
    expected = nested(case.point, directions(case.point)[0])
    assert_same_coefficients(real_coefficients(name, i), expected, rtol=1e-10)


@each_case
def test_series_along_a_complex_direction_equals_cauchy(name, i):
    case = CASES[name][i]
    expected = sl.taylor.cauchy_coefficients(case.function, case.point, directions(case.point)[1], DEGREE)
    # 1e-9 is the relative error at which Cauchy's search for a radius stops.
    assert_same_coefficients(complex_coefficients(name, i), expected.coefficients, rtol=1e-9, errors=expected.errors)


@each_case
def test_coefficients_as_separate_arrays_and_stacked_on_one_axis_agree(name, i):
    point = CASES[name][i].point
    direction = jax.tree.map(lambda d: d + 0j, directions(point)[0])
    separate = compiled(name, i, Series, True)(point, direction)
    # the same sums in another order: a few units of rounding
    assert_same_coefficients(jax.tree.map(np.real, separate), real_coefficients(name, i), rtol=1e-12)
    assert not np.imag(by_order(separate)).any()


@pytest.mark.parametrize("name", REPRESENTATION_MATTERS.split())
def test_bundled_coefficients_agree_with_separate_ones(name):
    """Which is what an accelerator runs."""
    i = len(CASES[name]) - 1
    real, is_complex = directions(CASES[name][i].point)
    # rounding, as below
    bundled = compiled(name, i, BundledSeries, True)(CASES[name][i].point, is_complex)
    assert_same_coefficients(bundled, complex_coefficients(name, i), rtol=1e-12)
    bundled = compiled(name, i, BundledSeries, False)(CASES[name][i].point, real)
    assert_same_coefficients(bundled, real_coefficients(name, i), rtol=1e-12)


@pytest.mark.parametrize("name", REPRESENTATION_MATTERS.split())
def test_all_four_representations_agree(name):
    i = len(CASES[name]) - 1
    real, is_complex = directions(CASES[name][i].point)
    separate = compiled(name, i, Series, False)(CASES[name][i].point, real)
    stacked = compiled(name, i, StackedSeries, True)(CASES[name][i].point, is_complex)
    # rounding, as above
    assert_same_coefficients(separate, real_coefficients(name, i), rtol=1e-12)
    assert_same_coefficients(stacked, complex_coefficients(name, i), rtol=1e-12)


@each_case
def test_coefficients_are_homogeneous_in_the_direction(name, i):
    """``c_r(λψ) = λ^r c_r(ψ)``: no conjugate, no lost imaginary part."""
    point, factor = CASES[name][i].point, 0.6 - 1.1j
    scaled = compiled(name, i, Series, True)(point, jax.tree.map(lambda d: factor * d, directions(point)[1]))
    powers = factor ** np.arange(DEGREE + 1)
    expected = jax.tree.map(lambda c: (np.asarray(c).T * powers).T, complex_coefficients(name, i))
    # equal but for the rounding of the powers of the factor; eigenvectors divide by a gap at every order, which makes
    # of it a few digits more
    assert_same_coefficients(scaled, expected, rtol=1e-11 if name in ("eigh", "svd", "qr") else 1e-12)


def decisions(function, point, site):
    """The numbers of decisions on a kink, for the places of this file where the primitive is met."""
    report = sl.piecewise_report(function, point)
    return [n for place, n in report.items() if place.startswith(f"{site} at ")]


@pytest.mark.parametrize(("name", "i"), RECORDING)
def test_decisions_away_from_kinks_are_reported_as_such(name, i):
    case = CASES[name][i]
    found = decisions(case.function, case.point, case.site)
    assert found
    assert not any(found)


@pytest.mark.parametrize(("name", "i"), WITH_KINK)
def test_decisions_on_kinks_are_counted(name, i):
    case = CASES[name][i]
    assert sum(decisions(case.function, case.kink, case.site)) == case.count


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize(("name", "i"), WITH_KINK)
def test_series_on_a_kink_is_the_one_of_the_piece_that_the_direction_leads_to(name, i, sign):
    case = CASES[name][i]
    direction = jax.tree.map(lambda d: sign * d, directions(case.kink)[1])
    piece = case.piece if sign > 0 else case.back or case.piece
    got = sl.taylor_coefficients(case.function, case.kink, direction, DEGREE)
    # the same operations but for multiplications by 0 and 1
    assert_same_coefficients(got, sl.taylor_coefficients(piece, case.kink, direction, DEGREE), rtol=1e-13)


@pytest.mark.parametrize("method", ["series", "cauchy"])
@pytest.mark.parametrize(
    ("function", "way_out"),
    [
        (lambda x: x.at[0].apply(lambda y: y**3), r"x\.at\[index\]\.set\(f\(x\[index\]\)\)"),
        (lambda x: jnp.sign(x + 1j * (1 - x)).real, r"z / jnp\.sqrt\(z\.real\*\*2 \+ z\.imag\*\*2\)"),
    ],
    ids=["apply", "sign of complex"],
)
def test_what_jax_itself_differentiates_wrongly_is_refused_with_a_way_out(function, way_out, method):
    with pytest.raises(sl.UnsupportedPrimitive, match=rf"(?s)test_rules.py.*Way out: write {way_out}"):
        sl.taylor_coefficients(function, v(0.3, 0.6), v(1.0, 0.5), 2, method=method)


def test_asking_for_nan_is_no_decision():
    assert not any(sl.piecewise_report(jnp.median, v(3.3, 2.2, 1.1, 0.7)).values())
    assert sl.piecewise_report(lambda x: jnp.where(jnp.isnan(x), 0, x), v(1.0, 2.0)) == {}


def test_a_tie_with_the_first_that_is_not_chosen_is_counted():
    for values, count in [((3.0, 2.0, 2.0, 0.0), 1), ((3.0, 2.0, 1.0, 1.0), 0), ((2.0, 2.0, 2.0, 0.0), 2)]:
        assert decisions(lambda x: lax.top_k(x, 2)[0], v(*values), "top_k") == [count]


def test_report_names_the_place_of_the_decision():
    (place,) = sl.piecewise_report(lambda x: jnp.maximum(x, 0.0), v(1.0, 2.0))
    assert "test_rules.py" in place
