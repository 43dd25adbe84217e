"""A sketch that was asked for: its arguments, checked."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from sketchlearn.deletions.base import Space
from sketchlearn.deletions.directions import directions
from sketchlearn.runtime.precision import shapes_of
from sketchlearn.training.nonfinite import explanation


@dataclasses.dataclass(frozen=True, eq=False)
class SketchRequest:
    """What decides the jets of a sketch, and nothing about how they are run or kept.

    Attributes:
        train: weights (n,) -> parameters.
        space: of the deletions.
        degree: k.
        count: m.
        seed: the seed of the directions.
        design: of the directions.
        additive: whether each coordinate is run by itself, too.
        centre: (q,), or None for full weights.
        weights: (n,), ones.
        base: (n,), the weights at the centre.
        shapes: of the parameters.
        queries: to measure in place of the parameters, or None.
    """

    train: Callable
    space: Space
    degree: int
    count: int
    seed: int
    design: str
    additive: bool
    centre: np.ndarray | None
    weights: jax.Array
    base: jax.Array
    shapes: Any
    queries: dict[str, Callable] | None

    def draw(self, start: int, size: int) -> tuple[jax.Array, jax.Array]:
        """The directions ``start`` to ``start + size``: real and imaginary parts, (size, q) each."""
        return directions(self.seed, jnp.arange(start, start + size), self.space.dim, self.weights.dtype, self.design)

    def why_not_finite(self, direction: int) -> str:
        """What a run that can tell says of jets that are not finite along a direction."""
        re, im = self.draw(direction, 1)
        direction_of_weights = -self.space.embed(jax.lax.complex(re[0], im[0]))
        return explanation(self.train, self.base, direction_of_weights, self.degree)

    def expected_bytes(self) -> int:
        """How much memory or disk the sketch will take."""
        kept = self.shapes
        if self.queries is not None:
            kept = {name: shapes_of(query, self.shapes) for name, query in self.queries.items()}
        models = 2 + (self.space.dim * (self.degree + 1) if self.additive else 0)
        return 2 * self.count * self.degree * _bytes(kept) + models * _bytes(self.shapes)


def _bytes(shapes: Any) -> int:
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(shapes))
