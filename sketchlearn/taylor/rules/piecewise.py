"""Piecewise functions of each entry: the primal decides the piece, the series follow it, the decision is recorded.

At a tie of the primals a function that is continuous there (a maximum, an absolute value) goes the way its
arguments go: the first coefficients that differ decide, the real part before the imaginary one. So all of them go
the same way, ``max(x, 0) - max(-x, 0) = x`` and the like hold to all orders, and kinks that cancel
in a smooth function cancel. A comparison, a sign or a rounding jumps at its tie: its value is the real program's.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
from jax import lax

from sketchlearn.errors import UnsupportedPrimitive
from sketchlearn.runtime import jax_compat as compat
from sketchlearn.taylor.algebra import Jet, primal
from sketchlearn.taylor.interpreter import Compared, Context, no_rule_message
from sketchlearn.taylor.registry import register

BY_SERIES = "at a tie the first coefficients that differ decide"


def beyond(ctx: Context, y: Any, x: Any) -> Any:
    """Where ``y > x`` for small t > 0: by the real values, and at a tie by the first coefficients that differ."""
    v, w = primal(x), primal(y)
    if not ctx.algebra.degree:
        return w > v
    tied = w == v

    def ahead() -> Any:
        apart = ctx.algebra.map(jnp.subtract, ctx.lift(y).parts, ctx.lift(x).parts)
        return jnp.broadcast_to(ctx.algebra.leading(apart) > 0, tied.shape)

    # ties are rare, and reading all coefficients for each decision took a quarter of the time of a small relu network
    return (w > v) | (tied & lax.cond(jnp.any(tied), ahead, lambda: jnp.zeros(tied.shape, bool)))


def _larger(ctx: Context, x: Any, y: Any, sign: int) -> Any:
    """The parts of the larger (sign 1) or the smaller (sign -1) of two numbers."""
    second = beyond(ctx, y, x) if sign > 0 else beyond(ctx, x, y)
    return ctx.algebra.map(lambda p, q: jnp.where(second, q, p), ctx.lift(x).parts, ctx.lift(y).parts)


def _max(ctx: Context, eqn: Any, x: Any, y: Any) -> list[Any]:
    (value,) = ctx.primals(eqn, (x, y))
    ctx.record(eqn, primal(x) == primal(y))
    return [Jet(value, _larger(ctx, x, y, 1 if eqn.primitive.name == "max" else -1))]


register("max", "piecewise", _max, BY_SERIES)
register("min", "piecewise", _max, BY_SERIES)


def _clamp(ctx: Context, eqn: Any, low: Any, x: Any, high: Any) -> list[Any]:
    (value,) = ctx.primals(eqn, (low, x, high))
    lo, v, hi = primal(low), primal(x), primal(high)
    ctx.record(eqn, (v == lo) | (v == hi))
    above = Jet(jnp.maximum(lo, v), _larger(ctx, x, low, 1))
    return [Jet(value, _larger(ctx, above, high, -1))]


register("clamp", "piecewise", _clamp, BY_SERIES)


def _select_n(ctx: Context, eqn: Any, which: Any, *cases: Any) -> list[Any]:
    held = which.value if isinstance(which, Compared) else primal(which)
    values = [primal(c) for c in cases]
    (value,) = compat.bind(eqn, held, *values)
    if isinstance(which, Compared):  # where both cases have the same value, the one that the comparison comes to
        held = jnp.where(values[0] == values[1], which.soon(), held)
    parts = [ctx.lift(c).parts for c in cases]
    return [Jet(value, ctx.algebra.map(lambda *p: lax.select_n(held, *p), *parts))]


register("select_n", "piecewise", _select_n, "the real predicate; at a tie of a continuous choice as a maximum")


def _abs(ctx: Context, eqn: Any, x: Any) -> list[Any]:
    v = primal(x)
    if jnp.iscomplexobj(v):
        raise UnsupportedPrimitive(
            "Cannot expand abs of a complex array in a power series: it is not analytic.\n"
            f"  It is used at {ctx.where(eqn)}.\n  Way out: write jnp.sqrt(z.real**2 + z.imag**2)."
        )
    ctx.record(eqn, v == 0)
    negative = beyond(ctx, jnp.zeros_like(v), x)
    return [Jet(jnp.abs(v), ctx.algebra.map(lambda p: jnp.where(negative, -p, p), x.parts))]


register("abs", "piecewise", _abs, BY_SERIES)


def _rem(ctx: Context, eqn: Any, a: Any, b: Any) -> list[Any]:
    x, y = primal(a), primal(b)
    value = compat.bind(eqn, x, y)[0]
    ctx.record(eqn, value == 0)
    turns = jnp.round((x - value) / y)
    parts = [ctx.lift(v).parts for v in (a, b)]
    return [Jet(value, ctx.algebra.map(lambda p, q: p - turns * q, *parts))]


register("rem", "piecewise", _rem, "a - n b with n held")


def _flat(at_kink: Any) -> Any:
    """Functions that are constant between their jumps: the result no longer depends on the direction."""

    def rule(ctx: Context, eqn: Any, *inputs: Any) -> list[Any]:
        values = [primal(x) for x in inputs]
        if at_kink is not None:
            ctx.record(eqn, at_kink(*values))
        return compat.bind(eqn, *values)

    return rule


for _name in ("floor", "ceil"):
    register(_name, "constant", _flat(lambda x: x == jnp.floor(x)), "derivative zero between the jumps, recorded")
register("round", "constant", _flat(lambda x: 2 * x == jnp.floor(2 * x)), "derivative zero between the jumps, recorded")
_sign_of_real = _flat(lambda x: x == 0)


def _sign(ctx: Context, eqn: Any, x: Any) -> list[Any]:
    if jnp.iscomplexobj(primal(x)):
        raise UnsupportedPrimitive(
            "Cannot expand sign of a complex array in a power series: z / |z| is not analytic.\n"
            f"  It is used at {ctx.where(eqn)}.\n  Way out: write z / jnp.sqrt(z.real**2 + z.imag**2)."
        )
    return _sign_of_real(ctx, eqn, x)


register("sign", "constant", _sign, "derivative zero between the jumps, recorded")
_equal = _flat(lambda x, y: x == y)


def _compare(ctx: Context, eqn: Any, x: Any, y: Any) -> list[Any]:
    if eqn.invars[0] is eqn.invars[1]:  # x != x asks for NaN
        return compat.bind(eqn, primal(x), primal(y))
    (value,) = _equal(ctx, eqn, x, y)
    soon = SOON.get(eqn.primitive.name)
    return [value if soon is None else Compared(value, lambda: soon(ctx, x, y))]


SOON: dict[str, Callable] = {
    "gt": beyond,
    "lt": lambda ctx, x, y: beyond(ctx, y, x),
    "ge": lambda ctx, x, y: ~beyond(ctx, y, x),
    "le": lambda ctx, x, y: ~beyond(ctx, x, y),
}
for _name in ("gt", "lt", "ge", "le", "eq", "ne", "lt_to", "le_to"):
    register(_name, "constant", _compare, "decided by the real values, recorded")
register("is_finite", "constant", _flat(None), "decided by the real values")


def _opaque(ctx: Context, eqn: Any, *inputs: Any) -> list[Any]:
    out = compat.bind(eqn, *[primal(x) for x in inputs])
    if any(jnp.issubdtype(y.dtype, jnp.inexact) for y in out):
        raise UnsupportedPrimitive(no_rule_message(eqn, ctx.where(eqn)))
    ctx.record(eqn, False)
    return out


register("call_hi_primitive", "constant", _opaque, "integer results only: newer JAX's searchsorted")


def _argmax(ctx: Context, eqn: Any, x: Any) -> list[Any]:
    v = primal(x)
    (axis,) = eqn.params["axes"]
    best = (jnp.max if eqn.primitive.name == "argmax" else jnp.min)(v, axis=axis, keepdims=True)
    ctx.record(eqn, jnp.sum(v == best, axis=axis) > 1)
    return compat.bind(eqn, v)


register("argmax", "constant", _argmax, "an index is a constant")
register("argmin", "constant", _argmax, "an index is a constant")
