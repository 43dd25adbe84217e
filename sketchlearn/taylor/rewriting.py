"""Rules that say a primitive again in operations that have rules."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sketchlearn.runtime import jax_compat as compat
from sketchlearn.taylor.algebra import Jet, primal
from sketchlearn.taylor.interpreter import Context


def rewritten(function: Callable) -> Callable:
    """The rule that evaluates ``function(eqn, *inputs)``, the same mathematics in other operations.

    ``function`` returns one array, or a list of as many as the primitive does; real values are the primitive's own.
    """

    def rule(ctx: Context, eqn: Any, *inputs: Any) -> list[Any]:
        values = ctx.primals(eqn, inputs)
        return with_parts_of(ctx, values, lambda *v: function(eqn, *v), *inputs)

    return rule


def with_parts_of(ctx: Context, values: list[Any], function: Callable, *inputs: Any) -> list[Any]:
    """Real values with the parts of ``function(*inputs)``; what is not a floating number is the values' own."""
    program = compat.trace(function, *map(primal, inputs))
    out = ctx.evaluate(program.jaxpr, program.consts, inputs)
    return [Jet(v, o.parts) if isinstance(o, Jet) else v for v, o in zip(values, out, strict=True)]
