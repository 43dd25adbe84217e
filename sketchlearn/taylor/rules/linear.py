"""Linear maps act on every coefficient; bilinear ones are products of series."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from sketchlearn.errors import UnsupportedPrimitive
from sketchlearn.runtime import jax_compat as compat
from sketchlearn.taylor.algebra import Jet, primal
from sketchlearn.taylor.functions import RECIPROCAL
from sketchlearn.taylor.interpreter import Context
from sketchlearn.taylor.registry import register


def _is_inexact(x: Any) -> bool:
    return jnp.issubdtype(jnp.result_type(x), jnp.inexact)


def linear(ctx: Context, eqn: Any, *inputs: Any, **params: Any) -> list[Any]:
    """Linear in all its floating inputs together; integer inputs (indices) are held."""
    moving = [i for i, x in enumerate(inputs) if _is_inexact(primal(x))]
    held = [primal(x) for x in inputs]
    changed = eqn.replace(params={**eqn.params, **params}) if params else eqn

    known: dict[tuple[int, ...], tuple] = {}  # an equation with many outputs (split) is bound once for all of them

    def fn(*components: Any) -> tuple:
        key = tuple(map(id, components))
        if key not in known:
            known[key] = components, compute(*components)
        return known[key][1]

    def compute(*components: Any) -> tuple:
        args = list(held)
        for i, c in zip(moving, components, strict=True):
            args[i] = c
        return tuple(compat.bind(changed, *args))

    parts = [ctx.lift(inputs[i]).parts for i in moving]
    values = ctx.primals(eqn, inputs)
    return [Jet(v, ctx.algebra.map(lambda *c, n=n: fn(*c)[n], *parts)) for n, v in enumerate(values)]


LINEAR = """
    neg reduce_sum transpose reshape broadcast_in_dim squeeze slice rev concatenate pad stack unstack tile name copy
    cumsum dynamic_slice dynamic_update_slice scatter-add scatter-sub split real imag complex conj fft
    reduce_window_sum optimization_barrier sharding_constraint device_put
"""
for _name in LINEAR.split():
    register(_name, "linear", linear)


def _scatter(ctx: Context, eqn: Any, *inputs: Any) -> list[Any]:
    if eqn.params.get("update_jaxpr") is not None:
        raise UnsupportedPrimitive(
            "Cannot expand x.at[index].apply(f) in a power series: JAX has no derivative of it.\n"
            f"  It is used at {ctx.where(eqn)}.\n  Way out: write x.at[index].set(f(x[index]))."
        )
    return linear(ctx, eqn, *inputs)


register("scatter", "linear", _scatter, "x.at[i].set; x.at[i].apply(f) is refused")


def spread(ctx: Context, x: Any, shape: tuple[int, ...]) -> Jet:
    """The jet of ``x`` in the shape of a result: a scalar may meet an array in one equation."""
    x = ctx.lift(x)
    if jnp.shape(x.primal) == shape:
        return x
    return Jet(jnp.broadcast_to(x.primal, shape), ctx.algebra.map(lambda p: jnp.broadcast_to(p, shape), x.parts))


def _add(ctx: Context, eqn: Any, a: Any, b: Any) -> list[Any]:
    (value,) = ctx.primals(eqn, (a, b))
    if isinstance(a, Jet) and isinstance(b, Jet):
        return [Jet(value, ctx.algebra.map(jnp.add, a.parts, b.parts))]
    return [Jet(value, spread(ctx, a if isinstance(a, Jet) else b, value.shape).parts)]


def _sub(ctx: Context, eqn: Any, a: Any, b: Any) -> list[Any]:
    (value,) = ctx.primals(eqn, (a, b))
    if isinstance(a, Jet) and isinstance(b, Jet):
        return [Jet(value, ctx.algebra.map(jnp.subtract, a.parts, b.parts))]
    if isinstance(a, Jet):
        return [Jet(value, spread(ctx, a, value.shape).parts)]
    return [Jet(value, ctx.algebra.map(jnp.negative, spread(ctx, b, value.shape).parts))]


register("add", "linear", _add)
register("add_any", "linear", _add)
register("sub", "linear", _sub)


def _gather(ctx: Context, eqn: Any, *inputs: Any) -> list[Any]:
    # A read outside the array gives fill_value: a constant, whose coefficients are zero.
    fill = 0.0 if eqn.params.get("fill_value") is not None or "FILL" in str(eqn.params["mode"]) else None
    return linear(ctx, eqn, *inputs, fill_value=fill)


register("gather", "linear", _gather, "indices are held; a read out of bounds is a constant")


def _reduce_precision(ctx: Context, eqn: Any, x: Any) -> list[Any]:
    (value,) = ctx.primals(eqn, (x,))
    return [Jet(value, x.parts)]


register("reduce_precision", "linear", _reduce_precision, "the value is rounded, its coefficients are not")


def _stop_gradient(ctx: Context, eqn: Any, x: Any) -> list[Any]:
    return [x]


register("stop_gradient", "linear", _stop_gradient, "the series passes: it changes the update rule, not the dependence")


def _convert(ctx: Context, eqn: Any, x: Any) -> list[Any]:
    if jnp.issubdtype(eqn.params["new_dtype"], jnp.inexact):
        return linear(ctx, eqn, x)
    value = primal(x)
    ctx.record(eqn, value == jnp.trunc(value))
    return ctx.primals(eqn, (x,))


register("convert_element_type", "linear", _convert, "to an integer type: a constant, recorded as piecewise")


def _debug(ctx: Context, eqn: Any, *inputs: Any) -> list[Any]:
    return ctx.primals(eqn, inputs)


register("debug_callback", "constant", _debug, "sees the real values")
register("debug_print", "constant", _debug, "sees the real values")


# --- bilinear ---------------------------------------------------------------


def _bound(eqn: Any) -> Callable:
    return lambda p, q: compat.bind(eqn, p, q)[0]


def _matrix_product(eqn: Any) -> Callable:
    """A dot_general that, under ``vmap`` over directions, stays one small matrix product for each direction.

    Left to itself XLA merges the directions into one axis of a large product wherever
    an operand is shared (every primal is), and transposes whole chains of arithmetic to do so; and on a CPU
    it has no fast kernel for small products that contract a leading axis, as all weight gradients
    do. Sharing nothing, and putting the contracted axes of the left operand last, took a
    quarter off the time of a degree-3 training step.
    """
    (left_axes, right_axes), (left_batch, right_batch) = eqn.params["dimension_numbers"]
    product = jax.custom_batching.custom_vmap(_bound(eqn))

    @product.def_vmap
    def over_directions(size: int, batched: Any, p: Any, q: Any) -> tuple[Any, bool]:
        p = p if batched[0] else jnp.broadcast_to(p, (size, *p.shape))
        q = q if batched[1] else jnp.broadcast_to(q, (size, *q.shape))
        axes = range(p.ndim - 1)
        free = [i for i in axes if i not in left_batch and i not in left_axes]
        order = [*left_batch, *free, *left_axes]
        if order != list(axes):
            p = lax.optimization_barrier(jnp.transpose(p, [0, *(i + 1 for i in order)]))
        last = tuple(axes)[len(order) - len(left_axes) :]
        numbers = ((last, right_axes), (tuple(range(len(left_batch))), right_batch))
        dot = functools.partial(
            lax.dot_general,
            dimension_numbers=numbers,
            precision=eqn.params["precision"],
            preferred_element_type=eqn.params["preferred_element_type"],
        )
        return jax.vmap(dot)(p, q), True

    return product


def _product(ctx: Context, eqn: Any, a: Any, b: Any) -> list[Any]:
    algebra = ctx.algebra
    fn: Callable = jnp.multiply  # by its own name, as the algebras treat it apart
    if eqn.primitive.name == "mul":
        pass
    elif eqn.primitive.name == "dot_general" and algebra.separate and jax.default_backend() == "cpu":
        fn = _matrix_product(eqn)
    else:
        fn = _bound(eqn)
    if not isinstance(b, Jet):
        return [Jet(_bound(eqn)(a.primal, b), algebra.map(lambda p: fn(p, b), a.parts))]
    if not isinstance(a, Jet):
        return [Jet(_bound(eqn)(a, b.primal), algebra.map(lambda q: fn(a, q), b.parts))]
    return [algebra.product(fn, a, b)]


for _name in ("mul", "dot_general", "conv_general_dilated"):
    register(_name, "bilinear", _product)


def _ragged(ctx: Context, eqn: Any, a: Any, b: Any, sizes: Any) -> list[Any]:
    """A matrix product whose rows meet a matrix of their group; the sizes of the groups are held."""

    @jax.custom_batching.sequential_vmap  # JAX batches it over one axis only
    def product(p: Any, q: Any) -> Any:
        return compat.bind(eqn, p, q, sizes)[0]

    if isinstance(a, Jet) and isinstance(b, Jet):
        return [ctx.algebra.product(product, a, b)]
    value = product(primal(a), primal(b))
    if isinstance(a, Jet):
        return [Jet(value, ctx.algebra.map(lambda p: product(p, b), a.parts))]
    return [Jet(value, ctx.algebra.map(lambda q: product(a, q), b.parts))]


register("ragged_dot_general", "bilinear", _ragged)


def _div(ctx: Context, eqn: Any, a: Any, b: Any) -> list[Any]:
    (value,) = ctx.primals(eqn, (a, b))
    if not isinstance(b, Jet):
        return [Jet(value, ctx.algebra.map(lambda p: lax.div(p, b), a.parts))]
    return [ctx.algebra.divide(a, b, value, RECIPROCAL)]


register("div", "bilinear", _div, "the numerator times the reciprocal's series")
