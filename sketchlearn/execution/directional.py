"""A training program along many directions of its weights at once: the jets of its parameters."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from sketchlearn.deletions.base import Space
from sketchlearn.errors import FlatTraining
from sketchlearn.runtime.programs import jit, once
from sketchlearn.taylor.algebra import Algebra, Jet, StackedSeries, series, stack_parts
from sketchlearn.taylor.flatness import why_flat_training
from sketchlearn.taylor.interpreter import Context
from sketchlearn.taylor.transform import evaluate
from sketchlearn.training.program import parameter_name


def jets_along(train: Callable, algebra: Algebra, weights: Any, *direction: Any) -> tuple[Any, Any]:
    """The parameters at ``weights``, and the jets (B, k, ...) of ``weights + t x`` along directions x.

    ``direction`` is the real and the imaginary part, (B, n) each, or the real part alone for a real algebra.

    Raises:
        ValueError: when it is traced, if no parameter depends on the weights by smooth operations.
    """

    def one(*x: Any) -> tuple[Any, Any]:
        out = evaluate(train, Context(algebra), weight_jet(algebra, weights, list(x)))
        if not any(map(_is_jet, jax.tree.leaves(out, is_leaf=_is_jet))):
            raise FlatTraining(why_flat_training(train, weights))
        jets = jax.tree.map(lambda y: y if isinstance(y, Jet) else Jet(y, algebra.zeros(y)), out, is_leaf=_is_jet)
        return (
            jax.tree.map(lambda y: y.primal, jets, is_leaf=_is_jet),
            jax.tree.map(lambda y: stack_parts(algebra, y.parts), jets, is_leaf=_is_jet),
        )

    return jax.vmap(one, out_axes=(None, 0))(*direction)


@once
def jets_program(train: Callable, degree: int, complex: bool = True) -> jit:
    """:func:`jets_along` of ``(weights, *direction)``, with the series that suit a degree."""
    return jit(functools.partial(jets_along, train, series(degree, complex)))


def deleting(space: Space, *parts: Any) -> tuple[Any, ...]:
    """Directions of the weights, -G ψ, (B, n) each, for parts of directions of deletions (B, q)."""
    return tuple(-space.embed(part) for part in parts)


def weight_jet(algebra: Algebra, weights: Any, direction: list[Any]) -> Jet:
    """The jet of ``weights + t·direction``, the direction as [real, imaginary] or [real]."""
    if isinstance(algebra, StackedSeries):
        return Jet(weights, algebra.zeros(weights).at[0].set(jnp.stack(direction)))
    return Jet(weights, (tuple(direction),))


def _is_jet(x: Any) -> bool:
    return isinstance(x, Jet)


def check_moved(jets: Any, train: Callable, weights: Any) -> None:
    """Refuse jets (M, k, ...) that are zero at every order along every direction."""
    if not any(np.any(leaf) for leaf in jax.tree.leaves(jets)):
        raise FlatTraining(f"every coefficient of every parameter is zero: {why_flat_training(train, weights)}")


def check_jets(jets: Any, start: int, why: Callable[[int], str] = lambda direction: "") -> None:
    """Refuse jets that are not finite, naming the direction; ``why(direction)`` says more."""
    for path, leaf in jax.tree_util.tree_leaves_with_path(jets):
        bad = np.argwhere(~np.isfinite(leaf))
        if len(bad):
            direction, order = start + int(bad[0][0]), int(bad[0][1]) + 1
            raise FloatingPointError(
                f"the jet of {parameter_name(path)} is not finite at order {order} along direction {direction}: "
                "training is not differentiable there (a square root of zero?), or its series grows too fast for "
                f"{leaf.dtype}. "
                "Use float64, a lower degree, or a more stable run (stability_profile shows how fast the orders grow)."
                f"{why(direction)}"
            )
