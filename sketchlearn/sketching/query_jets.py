"""A query measured along the directions of a sketch: its own Taylor coefficients, from those of the parameters."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import jax
import numpy as np

from sketchlearn.execution.blocks import LARGEST_BLOCK, blocks
from sketchlearn.runtime.jax_compat import compiled_for
from sketchlearn.sketching.single_coordinates import Alone
from sketchlearn.taylor.algebra import wide
from sketchlearn.taylor.transform import push_forward


class Measured(NamedTuple):
    """A query seen through a sketch, its outputs S flattened to Q."""

    query: Callable | None  # None where only its name is known
    baseline: np.ndarray  # S, with nothing deleted
    centre: np.ndarray  # (Q,), at the centre
    coefficients: np.ndarray  # (m, k, Q) complex
    alone: Alone | None


def slices(tree: Any) -> Iterator[Any]:
    """A pytree with a long leading axis, a bounded part of it at a time."""
    for start, stop in blocks(len(jax.tree.leaves(tree)[0]), LARGEST_BLOCK):
        yield jax.tree.map(lambda c, a=start, b=stop: c[a:b], tree)


class InParts:
    """A function of arrays with a long leading axis, called for one part after the other.

    It is compiled for the first part. Shorter ones are filled up, longer ones compiled for again.
    """

    def __init__(self, f: Callable, total: int):
        self.f, self.total = f, total
        self.run: Callable | None = None
        self.rows = 0

    def __call__(self, part: Any, *fixed: Any) -> np.ndarray:
        """``f(part, *fixed)``, without what was filled up."""
        count = len(jax.tree.leaves(part)[0])
        if self.run is None or count > self.rows:
            self.run, self.rows = compiled_for(self.total / count, self.f, part, *fixed), count
        elif count < self.rows:
            part = jax.tree.map(lambda c: np.resize(np.asarray(c), (self.rows, *c.shape[1:])), part)
        return np.asarray(self.run(part, *fixed))[:count]


def along(query: Callable, total: int) -> Callable[[Any, Any], np.ndarray]:
    """What pushes jets (M, k, ...) at given parameters through the query: its coefficients (M, k+1, Q).

    For ``total`` jets in all, a part at a time.
    """
    run = InParts(jax.vmap(lambda jets, value: push_forward(query, jets, value=value), (0, None)), total)

    def pushed(part: Any, value: Any) -> np.ndarray:
        c = run(part, value)
        if not np.isfinite(c).all():
            raise FloatingPointError("the query's coefficients are not finite: is the query differentiable there?")
        return c.reshape(*c.shape[:2], -1)

    return pushed


def push(query: Callable, value: Any, parts: Iterable[Any], total: int) -> np.ndarray:
    """The query's coefficients (M, k+1, Q) along M = ``total`` jets (M, k, ...) in parts, at parameters ``value``."""
    pushed = along(query, total)
    return np.concatenate([pushed(part, value) for part in parts])


def measured(query: Callable, parameters: Any, at_centre: Any, c: np.ndarray, alone: Alone | None = None) -> Measured:
    """A query with its coefficients (m, k+1, Q) along the directions, and what it does along each coordinate alone."""
    baseline = np.asarray(compiled_for(1, query, parameters)(parameters))
    baseline = baseline.astype(wide(baseline.dtype))  # as its coefficients are
    if alone is not None:
        q = len(alone.positions)
        ends_of = InParts(jax.vmap(jax.vmap(query)), q)
        at_ends = np.concatenate([ends_of(part) for part in slices(alone.ends)])
        own = push(query, at_centre, slices(alone.coefficients), q)
        ends = at_ends.reshape(*alone.positions.shape, -1).astype(float) - own[0, 0]
        alone = Alone(ends, own[:, 1:].astype(float), alone.positions)
    return Measured(query, baseline, c[0, 0].real, c[:, 1:], alone)
