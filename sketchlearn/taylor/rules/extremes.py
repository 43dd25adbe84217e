"""The largest of many: maxima along axes, running ones, in windows, scattered ones, and sorting.

Where entries tie for the choice, their series tell them apart: what is chosen among is then not the entries but their
ranks in the order of value, first coefficient, second coefficient and so on. That costs a sort for every order, so it
is done only where there is a tie.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from sketchlearn.runtime import jax_compat as compat
from sketchlearn.taylor.algebra import Jet, primal
from sketchlearn.taylor.interpreter import Context
from sketchlearn.taylor.registry import register
from sketchlearn.taylor.rules.piecewise import BY_SERIES


def _ranks(v: Any, numbers: Any) -> Any:
    """The rank of every entry, of the shape of v: by value, then by the first of the ``numbers`` (K, ...), ..."""
    keys = jnp.concatenate([v[None], numbers]).reshape(1 + len(numbers), v.size)
    places = jnp.arange(v.size, dtype=jnp.int32)

    def step(i: Any, order: Any) -> Any:  # from the last key to the first: a stable sort keeps the order of the later
        return order[jnp.argsort(keys[len(numbers) - i][order], stable=True)]

    order = lax.fori_loop(0, len(keys), step, places)
    return jnp.zeros_like(places).at[order].set(places).reshape(v.shape)


def _told_apart(ctx: Context, x: Jet, tied: Any, choose: Callable) -> Any:
    """``choose(values)``, an index; where there are ties the values are ranks that have none."""
    if not ctx.algebra.degree:
        return choose(x.primal)
    ranked: Callable = lambda: choose(_ranks(x.primal, ctx.algebra.stacked(x.parts)))  # noqa: E731
    return lax.cond(jnp.any(tied), ranked, lambda: choose(x.primal))


def _reduce_extreme(ctx: Context, eqn: Any, x: Any) -> list[Any]:
    axes = tuple(eqn.params["axes"])
    v = primal(x)

    def last(p: Any) -> Any:  # the reduced axes as one last axis
        p = jnp.moveaxis(p, axes, range(p.ndim - len(axes), p.ndim))
        return p.reshape(*p.shape[: p.ndim - len(axes)], -1)

    flat = last(v)
    (value,) = compat.bind(eqn, v)
    tied = jnp.sum(flat == value[..., None], -1) > 1
    ctx.record(eqn, tied)
    best = jnp.argmax if eqn.primitive.name == "reduce_max" else jnp.argmin
    index = _told_apart(ctx, x, tied, lambda values: best(last(values), axis=-1))
    chosen = jnp.arange(flat.shape[-1]) == index[..., None]
    return [Jet(value, ctx.algebra.map(lambda p: jnp.sum(jnp.where(chosen, last(p), 0), -1), x.parts))]


register("reduce_max", "piecewise", _reduce_extreme, BY_SERIES)
register("reduce_min", "piecewise", _reduce_extreme, BY_SERIES)


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
    if len(inputs) == 1:  # what is carried along with a key stays with it, in the order of the real program
        order = _told_apart(
            ctx, inputs[0], same, lambda v: lax.sort([v, place], dimension=axis, is_stable=True, num_keys=1)[1]
        )
    return [_take(ctx, x, order, axis, v) for x, v in zip(inputs, sorted_values, strict=True)]


register("sort", "piecewise", _sort, f"{BY_SERIES}; with other arrays carried along, the order of the real values")


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
    first, before = (v.shape[axis] - 1, -1) if reverse else (0, 1)
    tied = (v == value) & (jnp.roll(value, before, axis) == v) & (place != first)
    ctx.record(eqn, tied)
    best = lax.cummax if eqn.primitive.name == "cummax" else lax.cummin
    newest = lax.cummin if reverse else lax.cummax

    def index(values: Any) -> Any:  # of the newest record, set or equalled
        here = values == best(values, axis=axis, reverse=reverse)
        return newest(jnp.where(here, place, v.shape[axis] if reverse else -1), axis=axis, reverse=reverse)

    return [_take(ctx, x, _told_apart(ctx, x, tied, index), axis, value)]


register("cummax", "piecewise", _cumulative_extreme, BY_SERIES)
register("cummin", "piecewise", _cumulative_extreme, BY_SERIES)


def _window_extreme(ctx: Context, eqn: Any, x: Any) -> list[Any]:
    p, v = eqn.params, primal(x)
    (value,) = compat.bind(eqn, v)
    largest = eqn.primitive.name == "reduce_window_max"
    place = jnp.arange(v.size, dtype=jnp.int32).reshape(v.shape)

    def index(values: Any, first: bool = True) -> Any:  # of the largest entry of every window
        def best(a: Any, b: Any) -> Any:
            (u, i), (w, j) = a, b
            beats, nearer = (w > u if largest else w < u), (j < i if first else j > i)
            second = beats | ((w == u) & nearer)
            return jnp.where(second, w, u), jnp.where(second, j, i)

        limits = (-np.inf, np.inf) if jnp.issubdtype(values.dtype, jnp.floating) else (-1, v.size)
        start = np.array(limits[0 if largest else 1], values.dtype), np.int32(v.size if first else -1)
        shape = p["window_dimensions"], p["window_strides"], p["padding"], p["base_dilation"], p["window_dilation"]
        return lax.reduce_window((values, place), start, best, *shape)[1]

    tied = index(v) != index(v, first=False)
    ctx.record(eqn, tied)
    chosen = _told_apart(ctx, x, tied, index)
    return [Jet(value, ctx.algebra.map(lambda q: jnp.take(q.ravel(), chosen, mode="fill", fill_value=0), x.parts))]


register("reduce_window_max", "piecewise", _window_extreme, BY_SERIES)
register("reduce_window_min", "piecewise", _window_extreme, BY_SERIES)


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
    x, y = ctx.lift(x), ctx.lift(y)
    least = -np.inf if eqn.primitive.name == "scatter-max" else np.inf

    def shares(a: Any, b: Any) -> tuple:
        """The value, its derivative, and the share of every entry and update in it: 1, or less at a tie."""
        value, push = jax.linearize(lambda p, q: compat.bind(eqn, p, index, q)[0], a, b)
        return value, push, jax.linear_transpose(push, a, b)(jnp.ones_like(value))

    value, push, counted = shares(x.primal, y.primal)
    tied = [(s > 0) & (s < 1) for s in counted]
    ctx.record(eqn, jnp.concatenate([jnp.ravel(t) for t in tied]))
    if not ctx.algebra.degree:
        return [Jet(value, ())]

    def narrowed() -> tuple:  # to those that the next number does not put behind
        keys = ctx.algebra.stacked(x.parts), ctx.algebra.stacked(y.parts)

        def step(i: Any, held: tuple) -> tuple:
            _, _, left = shares(*[jnp.where(h, k[i], least) for h, k in zip(held, keys, strict=True)])
            return tuple(h & (s > 0) for h, s in zip(held, left, strict=True))

        return lax.fori_loop(0, len(keys[0]), step, tuple(s > 0 for s in counted))

    any_tie = jnp.any(tied[0]) | jnp.any(tied[1])
    held = lax.cond(any_tie, narrowed, lambda: tuple(s > 0 for s in counted))
    push = shares(*[jnp.where(h, jnp.zeros_like(v.primal), least) for h, v in zip(held, (x, y), strict=True)])[1]
    return [Jet(value, ctx.algebra.map(push, x.parts, y.parts))]  # the mean of those that agree in all orders


register("scatter-max", "piecewise", _scatter_extreme, BY_SERIES)
register("scatter-min", "piecewise", _scatter_extreme, BY_SERIES)
