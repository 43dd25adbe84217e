"""Piecewise functions: the primal decides the piece, the series follow it, and the decision is recorded."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from .. import _jax_compat as compat
from ..algebra import Jet, primal
from ..errors import UnsupportedPrimitive
from .interpreter import Context, no_rule_message
from .registry import register


def _max(ctx: Context, eqn: Any, a: Any, b: Any) -> list[Any]:
    x, y = primal(a), primal(b)
    ctx.record(eqn, x == y)
    second = y > x if eqn.primitive.name == "max" else y < x
    (value,) = compat.bind(eqn, x, y)
    parts = [ctx.lift(o).parts for o in (a, b)]
    return [Jet(value, ctx.algebra.map(lambda p, q: jnp.where(second, q, p), *parts))]


register("max", "piecewise", _max, "at a tie the first argument")
register("min", "piecewise", _max, "at a tie the first argument")


def _clamp(ctx: Context, eqn: Any, low: Any, x: Any, high: Any) -> list[Any]:
    (value,) = ctx.primals(eqn, (low, x, high))
    lo, v, hi = primal(low), primal(x), primal(high)
    ctx.record(eqn, (v == lo) | (v == hi))
    which = jnp.where(v < lo, 0, jnp.where(v > hi, 2, 1)).astype(jnp.int32)
    parts = [ctx.lift(o).parts for o in (low, x, high)]

    def pick(*p: Any) -> Any:  # the bounds may be scalars
        return lax.select_n(which, *[jnp.broadcast_to(q, v.shape) for q in p])

    return [Jet(value, ctx.algebra.map(pick, *parts))]


register("clamp", "piecewise", _clamp, "at a bound the clamped value itself")


def _select_n(ctx: Context, eqn: Any, which: Any, *cases: Any) -> list[Any]:
    held = primal(which)
    value = compat.bind(eqn, held, *[primal(c) for c in cases])[0]
    parts = [ctx.lift(c).parts for c in cases]
    return [Jet(value, ctx.algebra.map(lambda *p: lax.select_n(held, *p), *parts))]


register("select_n", "piecewise", _select_n, "the predicate is recorded where it is compared")


def _abs(ctx: Context, eqn: Any, x: Any) -> list[Any]:
    v = primal(x)
    if jnp.iscomplexobj(v):
        raise UnsupportedPrimitive(
            "Cannot expand abs of a complex array in a power series: it is not analytic.\n"
            f"  It is used at {ctx.where(eqn)}.\n  Way out: write jnp.sqrt(z.real**2 + z.imag**2)."
        )
    ctx.record(eqn, v == 0)
    # Upwards at zero: with the first argument of a maximum this makes max(a, b) + log1p(exp(-|a - b|)) right at a tie.
    return [Jet(jnp.abs(v), ctx.algebra.map(lambda p: jnp.where(v < 0, -p, p), x.parts))]


register("abs", "piecewise", _abs, "at zero the argument itself")


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
_compared = _flat(lambda x, y: x == y)


def _compare(ctx: Context, eqn: Any, x: Any, y: Any) -> list[Any]:
    if eqn.invars[0] is eqn.invars[1]:  # x != x asks for NaN
        return compat.bind(eqn, primal(x), primal(y))
    return _compared(ctx, eqn, x, y)


for _name in ("eq", "ne", "lt", "le", "gt", "ge", "lt_to", "le_to"):
    register(_name, "constant", _compare, "decided by the real values, recorded")
register("is_finite", "constant", _flat(None), "decided by the real values")


def _opaque(ctx: Context, eqn: Any, *inputs: Any) -> list[Any]:
    out = compat.bind(eqn, *[primal(x) for x in inputs])
    if any(jnp.issubdtype(y.dtype, jnp.inexact) for y in out):
        raise UnsupportedPrimitive(no_rule_message(eqn, ctx.where(eqn)))
    ctx.record(eqn, False)
    return out


register("call_hi_primitive", "constant", _opaque, "integer results only: newer JAX's searchsorted")


def _extreme_index(eqn: Any, x: Any) -> Any:
    index = jnp.argmax if "max" in eqn.primitive.name else jnp.argmin
    return index(x, axis=-1)


def _argmax(ctx: Context, eqn: Any, x: Any) -> list[Any]:
    v = primal(x)
    (axis,) = eqn.params["axes"]
    best = (jnp.max if eqn.primitive.name == "argmax" else jnp.min)(v, axis=axis, keepdims=True)
    ctx.record(eqn, jnp.sum(v == best, axis=axis) > 1)
    return compat.bind(eqn, v)


register("argmax", "constant", _argmax, "an index is a constant")
register("argmin", "constant", _argmax, "an index is a constant")


def _reduce_extreme(ctx: Context, eqn: Any, x: Any) -> list[Any]:
    axes = tuple(eqn.params["axes"])
    v = primal(x)

    def last(p: Any) -> Any:  # the reduced axes as one last axis
        p = jnp.moveaxis(p, axes, range(p.ndim - len(axes), p.ndim))
        return p.reshape(*p.shape[: p.ndim - len(axes)], -1)

    flat = last(v)
    index = _extreme_index(eqn, flat)
    (value,) = compat.bind(eqn, v)
    ctx.record(eqn, jnp.sum(flat == value[..., None], -1) > 1)
    chosen = jnp.arange(flat.shape[-1]) == index[..., None]
    return [Jet(value, ctx.algebra.map(lambda p: jnp.sum(jnp.where(chosen, last(p), 0), -1), x.parts))]


register("reduce_max", "piecewise", _reduce_extreme, "at a tie the first of them")
register("reduce_min", "piecewise", _reduce_extreme, "at a tie the first of them")


def _take(ctx: Context, x: Any, index: Any, axis: int, value: Any) -> Any:
    if not isinstance(x, Jet):
        return value
    return Jet(value, ctx.algebra.map(lambda p: jnp.take_along_axis(p, index, axis), x.parts))


def _sort(ctx: Context, eqn: Any, *inputs: Any) -> list[Any]:
    axis, keys = eqn.params["dimension"], eqn.params["num_keys"]
    values = [primal(x) for x in inputs]
    place = lax.broadcasted_iota(jnp.int32, values[0].shape, axis)
    *sorted_values, order = lax.sort([*values, place], dimension=axis, is_stable=eqn.params["is_stable"], num_keys=keys)
    same = jnp.stack([jnp.diff(v, axis=axis) == 0 for v in sorted_values[:keys]]).all(0)
    ctx.record(eqn, same)
    return [_take(ctx, x, order, axis, v) for x, v in zip(inputs, sorted_values, strict=True)]


register("sort", "piecewise", _sort, "the order of the real values is held")


def _top_k(ctx: Context, eqn: Any, x: Any) -> list[Any]:
    v = primal(x)
    value, index = compat.bind(eqn, v)
    axis = eqn.params.get("axis", -1)
    last = lax.slice_in_dim(value, value.shape[axis] - 1, value.shape[axis], axis=axis)
    left_out = jnp.sum(v == last, axis) > jnp.sum(value == last, axis)  # a tie with the first that is not chosen
    ctx.record(eqn, jnp.concatenate([jnp.ravel(jnp.diff(value, axis=axis) == 0), jnp.ravel(left_out)]))
    return [_take(ctx, x, index, axis, value), index]


register("top_k", "piecewise", _top_k, "the choice made on the real values is held")


def _cumulative_extreme(ctx: Context, eqn: Any, x: Any) -> list[Any]:
    v, axis, reverse = primal(x), eqn.params["axis"], eqn.params["reverse"]
    (value,) = compat.bind(eqn, v)
    place = lax.broadcasted_iota(jnp.int32, v.shape, axis)
    here = v == value  # a record is set (or equalled) here; the newest one is the piece
    cum = lax.cummin if reverse else lax.cummax
    none = v.shape[axis] if reverse else -1
    index = cum(jnp.where(here, place, none), axis=axis, reverse=reverse)
    ctx.record(
        eqn,
        here & (jnp.roll(value, -1 if reverse else 1, axis) == v) & (place != (v.shape[axis] - 1 if reverse else 0)),
    )
    return [_take(ctx, x, index, axis, value)]


register("cummax", "piecewise", _cumulative_extreme, "at a tie the newest")
register("cummin", "piecewise", _cumulative_extreme, "at a tie the newest")


def _window_extreme(ctx: Context, eqn: Any, x: Any) -> list[Any]:
    p, v = eqn.params, primal(x)
    (value,) = compat.bind(eqn, v)
    largest = eqn.primitive.name == "reduce_window_max"
    place = jnp.arange(v.size, dtype=jnp.int32).reshape(v.shape)

    def index(first: bool) -> Any:  # of the largest entry of every window
        def best(a: Any, b: Any) -> Any:
            (u, i), (w, j) = a, b
            beats, nearer = (w > u if largest else w < u), (j < i if first else j > i)
            second = beats | ((w == u) & nearer)
            return jnp.where(second, w, u), jnp.where(second, j, i)

        start = np.array(-np.inf if largest else np.inf, v.dtype), np.int32(v.size if first else -1)
        shape = p["window_dimensions"], p["window_strides"], p["padding"], p["base_dilation"], p["window_dilation"]
        return lax.reduce_window((v, place), start, best, *shape)[1]

    chosen = index(first=True)
    ctx.record(eqn, chosen != index(first=False))
    return [Jet(value, ctx.algebra.map(lambda q: jnp.take(q.ravel(), chosen, mode="fill", fill_value=0), x.parts))]


register("reduce_window_max", "piecewise", _window_extreme, "at a tie the first of them")
register("reduce_window_min", "piecewise", _window_extreme, "at a tie the first of them")


def _select_in_windows(ctx: Context, eqn: Any, moved: Any, operand: Any) -> list[Any]:
    # the derivatives of the two above: linear in the first argument, the second only chooses
    held = primal(operand)
    (value,) = compat.bind(eqn, primal(moved), held)
    if not isinstance(moved, Jet):
        return [value]
    return [Jet(value, ctx.algebra.map(lambda p: compat.bind(eqn, p, held)[0], moved.parts))]


register("select_and_scatter_add", "piecewise", _select_in_windows, "backwards through a maximum over windows")
register("select_and_gather_add", "piecewise", _select_in_windows, "forwards through a maximum over windows")


def _scatter_extreme(ctx: Context, eqn: Any, x: Any, index: Any, y: Any) -> list[Any]:
    value, push = jax.linearize(lambda a, b: compat.bind(eqn, a, index, b)[0], primal(x), primal(y))
    shares = jax.linear_transpose(push, primal(x), primal(y))(jnp.ones_like(value))
    ctx.record(eqn, jnp.concatenate([jnp.ravel((s > 0) & (s < 1)) for s in shares]))
    return [Jet(value, ctx.algebra.map(push, ctx.lift(x).parts, ctx.lift(y).parts))]


register("scatter-max", "piecewise", _scatter_extreme, "at a tie the mean of them, as JAX's own derivative")
register("scatter-min", "piecewise", _scatter_extreme, "at a tie the mean of them, as JAX's own derivative")
