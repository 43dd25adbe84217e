"""A scan that reverse mode can go back through in little memory: segments are run again instead of stored."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import PyTree

from sketchlearn.errors import check_count


def checkpointed_scan(step: Callable, carry: PyTree, xs: PyTree, segment: int | None = None) -> tuple[PyTree, PyTree]:
    """``jax.lax.scan(step, carry, xs)`` in segments that reverse mode computes again.

    Reverse mode through T steps stores what every step computed. Here it stores the carry at the beginning of
    each segment, runs one segment at a time again, storing the carry before each of its steps, and runs
    each step again for its inside: about ``2 sqrt(T)`` carries and one step's inside for segments of ``sqrt(T)``
    steps, for at most two more forward runs. The values are those of the plain scan.

    Args:
        step: ``(carry, x) -> (carry, y)``, as for ``jax.lax.scan``.
        carry: the initial state, a pytree.
        xs: what the steps read, a pytree whose leaves have the same leading axis T.
        segment: steps between checkpoints; about ``sqrt(T)`` if not given.

    Returns:
        The last carry, and the y of all steps with a leading axis T.

    Example:
        >>> import jax, jax.numpy as jnp, sketchlearn as sl
        >>> def product(xs):
        ...     return sl.checkpointed_scan(lambda c, x: (c * x, None), 1.0, xs)[0]
        >>> jax.grad(product)(jnp.array([2.0, 3.0, 4.0])).tolist()
        [12.0, 8.0, 6.0]

    Source: Griewank and Walther, "Evaluating Derivatives", 2nd ed. (2008), chapter 12, with one level of checkpoints.
    """
    if not callable(step):
        raise TypeError(f"step must be a function (carry, x) -> (carry, y), got {type(step).__name__}.")
    leaves = jax.tree.leaves(xs)
    if not leaves or any(jnp.ndim(leaf) < 1 for leaf in leaves):
        raise ValueError("xs must hold at least one array with a leading axis of steps.")
    length = {jnp.shape(leaf)[0] for leaf in leaves}
    if len(length) != 1:
        raise ValueError(f"the arrays of xs must have one leading axis, got lengths {sorted(length)}.")
    steps = length.pop()
    if segment is None:
        segment = max(math.isqrt(steps), 1)
    segment = check_count("segment", segment)
    whole = steps // segment

    def run(carry: Any, xs: Any) -> tuple[Any, Any]:
        return jax.lax.scan(jax.checkpoint(step), carry, xs)

    head = jax.tree.map(lambda x: x[: whole * segment].reshape(whole, segment, *x.shape[1:]), xs)
    carry, ys = jax.lax.scan(jax.checkpoint(run), carry, head)
    ys = jax.tree.map(lambda y: y.reshape(whole * segment, *y.shape[2:]), ys)
    if whole * segment < steps:
        carry, rest = jax.checkpoint(run)(carry, jax.tree.map(lambda x: x[whole * segment :], xs))
        ys = jax.tree.map(lambda a, b: jnp.concatenate([a, b]), ys, rest)
    return carry, ys


def recorded_scan(step: Callable, carry: PyTree, xs: PyTree, segments: int) -> tuple[PyTree, PyTree]:
    """``jax.lax.scan(step, carry, xs)`` that also returns the carry at the beginning of each of equal segments.

    Args:
        step: ``(carry, x) -> (carry, None)``.
        carry: the initial state.
        xs: what the steps read; the number of steps must be a multiple of ``segments``.
        segments: how many.

    Returns:
        The last carry, and the carries before each segment with a leading axis ``segments``.

    Example:
        >>> recorded_scan(lambda c, x: (c + x, None), 0.0, jnp.arange(4.0), 2)[1].tolist()
        [0.0, 1.0]
    """
    steps = jnp.shape(jax.tree.leaves(xs)[0])[0]
    if steps % check_count("segments", segments):
        raise ValueError(f"{steps} steps do not split into {segments} equal segments; take a divisor of {steps}.")
    parts = jax.tree.map(lambda x: x.reshape(segments, steps // segments, *x.shape[1:]), xs)
    return jax.lax.scan(lambda c, x: (jax.lax.scan(step, c, x)[0], c), carry, parts)
