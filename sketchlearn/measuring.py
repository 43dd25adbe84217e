"""A query measured along the directions of a sketch: its own Taylor coefficients, from those of the parameters."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import jax
import numpy as np

from .controls import Alone
from .running import LARGEST_BLOCK, blocks
from .taylor.transform import push_forward


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


def push(query: Callable, value: Any, parts: Iterable[Any]) -> np.ndarray:
    """The query's coefficients (M, k+1, Q) along M jets (M, k, ...), given in parts, at parameters ``value``."""
    run = jax.jit(jax.vmap(lambda jets: push_forward(query, jets, value=value)))
    found, rows = [], 0
    for part in parts:
        count = len(jax.tree.leaves(part)[0])
        if count < rows:  # filled up, so that one compiled program serves all parts
            part = jax.tree.map(lambda c, rows=rows: np.resize(np.asarray(c), (rows, *c.shape[1:])), part)
        rows = max(rows, count)
        found.append(np.asarray(run(part))[:count])
    c = np.concatenate(found)
    if not np.isfinite(c).all():
        raise FloatingPointError("the query's coefficients are not finite: is the query differentiable there?")
    return c.reshape(*c.shape[:2], -1)


def measured(query: Callable, parameters: Any, at_centre: Any, c: np.ndarray, alone: Alone | None = None) -> Measured:
    """A query with its coefficients (m, k+1, Q) along the directions, and what it does along each coordinate alone."""
    baseline = np.asarray(jax.jit(query)(parameters))
    if alone is not None:
        run = jax.jit(jax.vmap(jax.vmap(query)))
        at_ends = np.concatenate([np.asarray(run(part)) for part in slices(alone.ends)])
        own = push(query, at_centre, slices(alone.coefficients))
        ends = at_ends.reshape(*alone.positions.shape, -1).astype(float) - own[0, 0]
        alone = Alone(ends, own[:, 1:].astype(float), alone.positions)
    return Measured(query, baseline, c[0, 0].real, c[:, 1:], alone)
