"""Sums, maxima and exchanges over a named axis, or what ``vmap`` has left of them."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
from jax import lax

from sketchlearn.taylor.interpreter import Context
from sketchlearn.taylor.registry import register
from sketchlearn.taylor.rewriting import with_parts_of
from sketchlearn.taylor.rules.linear import linear

# Under vmap JAX makes all but sums and maxima other operations; those keep their name, and axes that are numbers. The
# rest is met with a name where taylor_coefficients itself runs under vmap(axis_name=...).
for _name in ("psum", "all_gather", "all_to_all", "ppermute", "reduce_scatter"):
    register(_name, "linear", linear, "over a named axis")


def _extreme(ctx: Context, eqn: Any, x: Any) -> list[Any]:
    """The maximum over axes with numbers and axes with names: of what all have, gathered."""
    axes, groups = eqn.params["axes"], eqn.params.get("axis_index_groups")
    named = tuple(a for a in axes if not isinstance(a, int))
    numbered = tuple(a + 1 for a in axes if isinstance(a, int))
    reduce = jnp.max if eqn.primitive.name == "pmax" else jnp.min

    def extreme(x: Any) -> list[Any]:
        every = lax.all_gather(x, named, axis_index_groups=groups) if named else x[None]
        return [reduce(every, axis=(0, *numbered))]

    return with_parts_of(ctx, ctx.primals(eqn, (x,)), extreme, x)


register("pmax", "piecewise", _extreme, "over a named axis; a tie is that of reduce_max")
register("pmin", "piecewise", _extreme, "over a named axis; a tie is that of reduce_min")
