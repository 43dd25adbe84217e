"""Products and other reductions by any associative operation, in pairs; products of scattered factors."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from sketchlearn.runtime import jax_compat as compat
from sketchlearn.taylor.algebra import Jet
from sketchlearn.taylor.interpreter import Context
from sketchlearn.taylor.registry import register
from sketchlearn.taylor.rewriting import rewritten, with_parts_of


def in_pairs(combine: Callable, operands: list[Any]) -> list[Any]:
    """Reduce the first axis of several arrays by ``combine(a, b)``, which takes and returns lists of slices.

    Neighbours are combined, so the operation need not commute; and a product with a zero in it needs no division.
    """
    while (length := operands[0].shape[0]) > 1:
        even = length // 2 * 2
        joined = combine([x[:even:2] for x in operands], [x[1:even:2] for x in operands])
        operands = [jnp.concatenate([y, x[even:]]) for y, x in zip(joined, operands, strict=True)]
    return [x[0] for x in operands]


def _axes_first(x: Any, axes: tuple[int, ...]) -> Any:
    x = jnp.moveaxis(x, axes, range(len(axes)))
    return x.reshape(-1, *x.shape[len(axes) :])


def _reduce_prod(eqn: Any, x: Any) -> Any:
    x = _axes_first(x, tuple(eqn.params["axes"]))
    if not x.shape[0]:
        return jnp.ones(x.shape[1:], x.dtype)
    return in_pairs(lambda a, b: [a[0] * b[0]], [x])[0]


def _operation(eqn: Any) -> Callable:
    """What a ``reduce`` combines two lists of numbers by, for lists of arrays."""
    jaxpr, consts = compat.reducer(eqn.params)

    def of_numbers(a: list[Any], b: list[Any]) -> list[Any]:
        return compat.run(jaxpr, consts, [*a, *b])

    def combine(a: list[Any], b: list[Any]) -> list[Any]:
        return functools.reduce(lambda f, _: jax.vmap(f), range(a[0].ndim), of_numbers)(a, b)

    return combine


def _reduce(eqn: Any, *inputs: Any) -> list[Any]:
    half, combine = len(inputs) // 2, _operation(eqn)
    operands = [_axes_first(x, tuple(eqn.params["dimensions"])) for x in inputs[:half]]
    starts = [jnp.broadcast_to(s, (1, *x.shape[1:])) for s, x in zip(inputs[half:], operands, strict=True)]
    return in_pairs(combine, [jnp.concatenate(pair) for pair in zip(starts, operands, strict=True)])


def _reduce_window(eqn: Any, *inputs: Any) -> list[Any]:
    p, half, combine = eqn.params, len(inputs) // 2, _operation(eqn)
    window, strides, spread = p["window_dimensions"], p["window_strides"], p["window_dilation"]
    padding = [(low, high, gap - 1) for (low, high), gap in zip(p["padding"], p["base_dilation"], strict=True)]
    padded = [lax.pad(x, start, padding) for x, start in zip(inputs[:half], inputs[half:], strict=True)]
    sizes = eqn.outvars[0].aval.shape

    def at(offset: tuple[int, ...], x: Any) -> Any:  # this entry of every window
        begin = [o * d for o, d in zip(offset, spread, strict=True)]
        end = [b + (n - 1) * s + 1 for b, n, s in zip(begin, sizes, strides, strict=True)]
        return lax.slice(x, begin, end, strides)

    offsets = list(itertools.product(*map(range, window)))
    entries = [jnp.stack([at(o, x) for o in offsets]) for x in padded]
    starts = [jnp.broadcast_to(s, (1, *sizes)) for s in inputs[half:]]
    return in_pairs(combine, [jnp.concatenate(pair) for pair in zip(starts, entries, strict=True)])


def _log_add(a: Any, b: Any) -> Any:
    big = lax.max(a, b)
    return big + lax.log1p(lax.exp(-lax.abs(a - b)))


def _along_axis(combine: Callable) -> Callable:
    def cumulative(eqn: Any, x: Any) -> Any:
        return lax.associative_scan(combine, x, axis=eqn.params["axis"], reverse=eqn.params["reverse"])

    return cumulative


register("reduce_prod", "algebraic", rewritten(_reduce_prod), "pairwise products")
register("reduce", "algebraic", rewritten(_reduce), "any associative operation, in pairs")
register("reduce_window", "algebraic", rewritten(_reduce_window), "any associative operation, in pairs")
register("cumprod", "algebraic", rewritten(_along_axis(lax.mul)), "pairwise products")
register("cumlogsumexp", "algebraic", rewritten(_along_axis(_log_add)), "pairwise log(e^a + e^b)")


def _places(shape: tuple[int, ...], index: Any, updates: tuple[int, ...], p: dict[str, Any]) -> Any:
    """Which entry of an array of that shape every update goes to, counted from 0; as many as there are for none."""
    numbers, size = p["dimension_numbers"], int(np.prod(shape))
    window = iter(updates[i] for i in numbers.update_window_dims)
    inserted = (*numbers.inserted_window_dims, *numbers.operand_batching_dims)
    slice_sizes = [1 if i in inserted else next(window) for i in range(len(shape))]
    return lax.gather(
        jnp.arange(size, dtype=jnp.int32).reshape(shape),
        index,
        lax.GatherDimensionNumbers(
            offset_dims=numbers.update_window_dims,
            collapsed_slice_dims=numbers.inserted_window_dims,
            start_index_map=numbers.scatter_dims_to_operand_dims,
            operand_batching_dims=numbers.operand_batching_dims,
            start_indices_batching_dims=numbers.scatter_indices_batching_dims,
        ),
        slice_sizes,
        mode="clip" if "CLIP" in str(p["mode"]).upper() else "fill",
        fill_value=size,
    )


def _scattered_products(shape: tuple[int, ...], index: Any, y: Any, p: dict[str, Any]) -> Any:
    """The product of the factors for every entry: factors sorted by place, then multiplied in pairs within a place."""
    place = _places(shape, index, y.shape, p).ravel()
    order = jnp.argsort(place)
    place, factors = place[order], y.ravel()[order]
    change = place[1:] != place[:-1]
    first, last = jnp.concatenate([jnp.ones(1, bool), change]), jnp.concatenate([change, jnp.ones(1, bool)])

    def combine(a: tuple, b: tuple) -> tuple:
        return a[0] | b[0], jnp.where(b[0], b[1], a[1] * b[1])

    _, products = lax.associative_scan(combine, (first, factors))
    size = int(np.prod(shape))
    return jnp.ones(size, y.dtype).at[jnp.where(last, place, size)].set(products, mode="drop").reshape(shape)


def _scatter_mul(ctx: Context, eqn: Any, x: Any, index: Any, y: Any) -> list[Any]:
    values = ctx.primals(eqn, (x, index, y))
    if not isinstance(y, Jet):
        return [Jet(values[0], ctx.algebra.map(lambda c: compat.bind(eqn, c, index, y)[0], x.parts))]
    if not np.size(y.primal):
        return [x if isinstance(x, Jet) else values[0]]

    def product(x: Any, y: Any) -> Any:
        return x * _scattered_products(x.shape, index, y, eqn.params)

    return with_parts_of(ctx, values, product, x, y)


register("scatter-mul", "algebraic", _scatter_mul, "factors of one place are multiplied in pairs")
