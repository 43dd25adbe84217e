"""``taylor_coefficients`` by power series, and the jets of composed functions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from sketchlearn.errors import check_degree
from sketchlearn.runtime import jax_compat as compat
from sketchlearn.runtime.arrays import check_finite
from sketchlearn.runtime.precision import in_full_precision
from sketchlearn.runtime.programs import jit
from sketchlearn.taylor.algebra import Algebra, Jet, Series, series, stack_coefficients, unstack_coefficients, wide
from sketchlearn.taylor.interpreter import Context


@in_full_precision
def evaluate(f: Callable, context: Context, inputs: Any) -> Any:
    """``f`` of a pytree whose leaves are arrays or jets, products in full precision: a pytree of arrays or jets."""
    tree: Any
    leaves, tree = jax.tree.flatten(inputs, is_leaf=is_jet)
    real = tree.unflatten([x.primal if isinstance(x, Jet) else x for x in leaves])
    program = compat.trace(f, real)
    for shape in (v.aval for v in program.jaxpr.outvars):
        if not jnp.issubdtype(shape.dtype, jnp.inexact):
            raise TypeError(
                f"the function returns an array of dtype {shape.dtype}, which has no Taylor coefficients; "
                "return floating-point numbers (a loss, a logit, the parameters)."
            )
    out = context.evaluate(program.jaxpr, program.consts, leaves)
    return program.out_tree.unflatten(out)


def is_jet(x: Any) -> bool:
    """Whether a leaf is a jet."""
    return isinstance(x, Jet)


def check_line(point: Any, direction: Any) -> tuple[Any, Any, bool]:
    """Point and direction as arrays of matching structure, and whether any direction is complex."""
    tree: Any
    point_leaves, tree = jax.tree.flatten(point)
    direction_leaves, direction_tree = jax.tree.flatten(direction)
    if tree != direction_tree:
        raise ValueError(f"point and direction must have the same structure, got {tree} and {direction_tree}.")
    if not point_leaves:
        raise ValueError("point is empty: there is nothing to differentiate with respect to.")
    points, directions = [], []
    for path, p, d in zip(jax.tree_util.tree_leaves_with_path(point), point_leaves, direction_leaves, strict=True):
        name = jax.tree_util.keystr(path[0])
        if not jnp.issubdtype(jnp.result_type(p), jnp.floating):
            raise TypeError(
                f"point{name} must hold real floating-point numbers, got dtype {jnp.result_type(p)}; "
                "convert it, or close over what is not differentiated."
            )
        if jnp.shape(p) != jnp.shape(d):
            raise ValueError(f"direction{name} must have the point's shape {jnp.shape(p)}, got {jnp.shape(d)}.")
        x = jnp.asarray(p, jnp.result_type(p, float) if isinstance(p, float) else None)
        typed = hasattr(d, "dtype")  # a Python number takes the point's precision
        d = jnp.asarray(d)
        if typed and jnp.issubdtype(d.dtype, jnp.inexact) and jnp.finfo(d.dtype).bits > jnp.finfo(wide(x.dtype)).bits:
            raise TypeError(
                f"direction{name} has dtype {d.dtype} but the point has {x.dtype}: the series is computed in "
                f"{wide(x.dtype)}, and this would drop digits silently. Convert one of them."
            )
        points.append(x)
        directions.append(d)
    check_finite("point", points)
    check_finite("direction", directions)
    return tree.unflatten(points), tree.unflatten(directions), any(jnp.iscomplexobj(d) for d in directions)


def line_jets(algebra: Algebra, point: Any, direction: Any) -> Any:
    """The jets of ``point + t·direction``."""

    def jet(p: Any, d: Any) -> Jet:
        pair = (jnp.real(d).astype(wide(p.dtype)), jnp.imag(d).astype(wide(p.dtype)))[: algebra.width]
        if isinstance(algebra, Series):
            return Jet(p, (pair,))
        return Jet(p, algebra.zeros(p).at[0].set(jnp.stack(pair)))

    return jax.tree.map(jet, point, direction)


def series_coefficients(f: Callable, point: Any, direction: Any, degree: int, algebra: Algebra | None = None) -> Any:
    """The coefficients of ``t -> f(point + t·direction)`` by running ``f`` over power series."""
    point, direction, is_complex = check_line(point, direction)
    algebra = algebra or series(degree, is_complex)
    out = evaluate(f, Context(algebra), line_jets(algebra, point, direction))
    return jax.tree.map(lambda y: stack_coefficients(algebra, y), out, is_leaf=is_jet)


def push_forward(f: Callable, coefficients: Any, value: Any = None) -> Any:
    """The coefficients of ``f(x(t))`` from those of ``x(t)``: how a query reads a sketch.

    Args:
        f: a pure function of one pytree, real and floating.
        coefficients: the pytree ``x``; every leaf has a leading axis ``degree + 1``
            (``degree`` when ``value`` is given), real or complex.
        value: the zeroth coefficients, real, without that axis; giving them apart
            keeps them unbatched under ``vmap``.

    Returns:
        The coefficients of ``f(x(t))``, leading axis ``degree + 1``.

    Example:
        >>> import jax.numpy as jnp, sketchlearn as sl
        >>> sl.taylor.push_forward(lambda x: x**2, jnp.array([3.0, 1.0, 0.0])).tolist()
        [9.0, 6.0, 1.0]
    """
    leaves = jax.tree.leaves(coefficients)
    if not leaves or any(jnp.ndim(c) < 1 for c in leaves):
        raise ValueError("coefficients must hold at least one array, each with a leading axis of orders.")
    degree = leaves[0].shape[0] - (value is None)
    check_degree(degree)
    algebra = series(degree, any(jnp.iscomplexobj(c) for c in leaves))
    if value is None:
        jets = jax.tree.map(lambda c: unstack_coefficients(algebra, c), coefficients)
    else:
        jets = jax.tree.map(lambda c, v: unstack_coefficients(algebra, c, v), coefficients, value)
    out = evaluate(f, Context(algebra), jets)
    return jax.tree.map(lambda y: stack_coefficients(algebra, y), out, is_leaf=is_jet)


def piecewise_report(f: Callable, point: Any) -> dict[str, int]:
    """Which piecewise operations of ``f`` depend on ``point``, and how many of their decisions fall on a kink.

    One plain evaluation of ``f``. A maximum whose two sides are equal, a relu at
    exactly 0, a comparison of equal numbers: there the two one-sided derivatives differ.
    The Taylor series of a continuous choice is that of the side which the direction leads to;
    what jumps (a sign, a branch, the gradient of a maximum) keeps the value of the plain run.
    Operations that merely are piecewise are listed with 0.

    Args:
        f: a pure function of one pytree of floating arrays.
        point: where to evaluate it.

    Returns:
        ``{"primitive at file:line (function)": number of decisions at a kink}``.

    Example:
        >>> import jax.numpy as jnp, sketchlearn as sl
        >>> report = sl.piecewise_report(lambda x: jnp.maximum(x, 0.0), jnp.array([-1.0, 0.0, 2.0]))
        >>> list(report.values())
        [1]
    """
    point, _, _ = check_line(point, jax.tree.map(jnp.zeros_like, point))

    def counted(p: Any) -> dict[str, Any]:
        counts: dict[str, Any] = {}
        # jets of degree 0 say what depends on the point; order 1 enters derivative rules once
        evaluate(f, Context(Series(0, False), counts, order=1), jax.tree.map(lambda v: Jet(v, ()), p))
        return counts

    return {site: int(np.asarray(n)) for site, n in jit(counted)(point).items()}
