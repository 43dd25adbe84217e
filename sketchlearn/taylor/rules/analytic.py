"""Analytic primitives: composed through their Taylor coefficients at the primal."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
from jax import lax

from sketchlearn.errors import UnsupportedPrimitive
from sketchlearn.taylor.algebra import Algebra, Jet, Point, by_order, differentiate_log, integrate_log, primal
from sketchlearn.taylor.functions import ANALYTIC, RECIPROCAL, Analytic, binomials, integer_power
from sketchlearn.taylor.interpreter import Context, no_rule_message
from sketchlearn.taylor.registry import register
from sketchlearn.taylor.rules.linear import spread
from sketchlearn.taylor.special_functions import SPECIAL, polygamma, zeta
from sketchlearn.taylor.stand_ins import OF_JAX


def _analytic(function: Analytic) -> Any:
    def rule(ctx: Context, eqn: Any, x: Any) -> list[Any]:
        (value,) = ctx.primals(eqn, (x,))
        return [ctx.algebra.compose(function, x, value)]

    return rule


for _name, _function in {**ANALYTIC, **SPECIAL}.items():
    register(_name, "analytic", _analytic(_function))


def _integer_pow(ctx: Context, eqn: Any, x: Any) -> list[Any]:
    (value,) = ctx.primals(eqn, (x,))
    return [ctx.algebra.compose(integer_power(eqn.params["y"]), x, value)]


register("integer_pow", "analytic", _integer_pow)


def _constant_power(y: Any) -> Analytic:
    """``x^y`` for an array of constant exponents; whole exponents are right at x = 0 too."""
    y = jnp.asarray(y, jnp.result_type(y, float) if jnp.issubdtype(jnp.result_type(y), jnp.integer) else None)

    def taylor(x: Any, k: int) -> list[Any]:
        y_ = y.astype(x.dtype)
        return [jnp.where(b == 0, 0, b * x ** (y_ - j)) for j, b in enumerate(binomials(y_, k))]

    return Analytic(taylor, lambda z: z**y)


def _pow(ctx: Context, eqn: Any, x: Any, y: Any) -> list[Any]:
    (value,) = ctx.primals(eqn, (x, y))
    algebra, exponent = ctx.algebra, primal(y)
    constant = not isinstance(x, Jet)
    x = spread(ctx, x, value.shape)
    held = algebra.compose(_constant_power(exponent), x, value).parts
    if not isinstance(y, Jet):
        return [Jet(value, _vanishing(algebra, x, exponent, held, constant))]
    zero = x.primal == 0
    base = Jet(jnp.where(zero, 1, x.primal), x.parts)
    log = algebra.compose(ANALYTIC["log"], base, jnp.log(base.primal))
    parts = algebra.compose(ANALYTIC["exp"], algebra.product(jnp.multiply, y, log), value).parts
    # t^(n + y_1 t + ..) is t^n up to its first logarithm, t^(n+1) log t; at a finite distance it has one at once
    last = -jnp.inf if isinstance(algebra, Point) else exponent
    known = by_order(algebra, lambda r, c: jnp.where(r <= last, c, jnp.nan), held)
    parts = algebra.map(lambda p, q: jnp.where(zero, q, p), parts, known)
    return [Jet(value, _vanishing(algebra, x, exponent, parts, constant))]


def _vanishing(algebra: Algebra, x: Jet, exponent: Any, parts: Any, constant: bool) -> Any:
    """The parts of a power of x, without infinity times zero where x is zero to all orders.

    What is zero to order k may begin with ``t^{k+1}``: its power ``p`` is known to vanish below order ``p (k + 1)``.
    """
    nothing = (x.primal == 0) & (algebra.leading(x.parts) == 0) & (exponent > 0)
    reach = jnp.inf if constant or isinstance(algebra, Point) else exponent * (algebra.degree + 1)
    return by_order(algebra, lambda r, c: jnp.where(nothing & (r < reach), jnp.zeros_like(c), c), parts)


register(
    "pow", "analytic", _pow, "a base of 0 has the orders below the exponent; a negative one, whole constant exponents"
)


def _atan2(ctx: Context, eqn: Any, y: Any, x: Any) -> list[Any]:
    (value,) = ctx.primals(eqn, (y, x))
    algebra = ctx.algebra
    y, x = spread(ctx, y, value.shape), spread(ctx, x, value.shape)
    if isinstance(algebra, Point):
        return [Jet(value, (_atan2_difference(y, x),))]
    # t θ'(t) = (x t y' - y t x') / (x² + y²)
    ty, tx = (Jet(jnp.zeros_like(v.primal), differentiate_log(algebra, v.parts)) for v in (y, x))

    def mul(a: Jet, b: Jet) -> Jet:
        return algebra.product(jnp.multiply, a, b)

    def combined(fn: Callable, a: Jet, b: Jet) -> Jet:
        return Jet(fn(a.primal, b.primal), algebra.map(fn, a.parts, b.parts))

    norm = combined(jnp.add, mul(x, x), mul(y, y))
    turn = combined(jnp.subtract, mul(x, ty), mul(y, tx))
    slope = algebra.divide(turn, norm, turn.primal / norm.primal, RECIPROCAL)
    return [Jet(value, integrate_log(algebra, slope.parts))]


def _atan2_difference(y: Jet, x: Jet) -> tuple:
    """atan2(y, x) = log((x + iy)/(x - iy)) / 2i, continued from the primal without crossing a cut."""
    dx, dy = lax.complex(*x.parts[0]), lax.complex(*y.parts[0])
    up, down = lax.complex(x.primal, y.primal), lax.complex(x.primal, -y.primal)
    d = (jnp.log1p((dx + 1j * dy) / up) - jnp.log1p((dx - 1j * dy) / down)) / 2j
    return jnp.real(d), jnp.imag(d)


register("atan2", "analytic", _atan2)


def _of_last(family: Callable) -> Any:
    """A function of (parameter, x) whose parameter is held."""

    def rule(ctx: Context, eqn: Any, parameter: Any, x: Any) -> list[Any]:
        if isinstance(parameter, Jet):
            raise UnsupportedPrimitive(no_rule_message(eqn, ctx.where(eqn), PARAMETER))
        (value,) = ctx.primals(eqn, (parameter, x))
        return [ctx.algebra.compose(family(parameter), x, value)]

    return rule


PARAMETER = "its derivative by the parameter (the first argument) has no rule. Hold that constant"
register("zeta", "analytic", _of_last(zeta), "in its second argument")
register("polygamma", "analytic", _of_last(polygamma), "in its second argument")

# The derivative of erf in newer JAX versions; its body splits floats by their bits.
OF_JAX["exp_neg_sq"] = lambda x: jnp.exp(-(x * x))
