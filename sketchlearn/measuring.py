"""A query measured along the directions of a sketch: its own Taylor coefficients, from those of the parameters."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import jax
import numpy as np

from ._jax_compat import compiled_for_once
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
    every = jax.vmap(lambda jets: push_forward(query, jets, value=value))
    c = np.concatenate(list(_each(every, parts)))
    if not np.isfinite(c).all():
        raise FloatingPointError("the query's coefficients are not finite: is the query differentiable there?")
    return c.reshape(*c.shape[:2], -1)


def _each(f: Callable, parts: Iterable[Any]) -> Iterator[np.ndarray]:
    """``f`` of every part, compiled once for all: parts that are shorter than the first are filled up."""
    parts = iter(parts)
    part, following = next(parts), next(parts, None)
    run = compiled_for_once(f, part) if following is None else jax.jit(f)
    rows = 0
    while part is not None:
        count = len(jax.tree.leaves(part)[0])
        rows = max(rows, count)
        yield np.asarray(run(jax.tree.map(lambda c, rows=rows: _filled(c, rows), part)))[:count]
        part, following = following, next(parts, None)


def _filled(c: Any, rows: int) -> Any:
    return c if len(c) == rows else np.resize(np.asarray(c), (rows, *c.shape[1:]))


def measured(query: Callable, parameters: Any, at_centre: Any, c: np.ndarray, alone: Alone | None = None) -> Measured:
    """A query with its coefficients (m, k+1, Q) along the directions, and what it does along each coordinate alone."""
    baseline = np.asarray(compiled_for_once(query, parameters)(parameters))
    if alone is not None:
        at_ends = np.concatenate(list(_each(jax.vmap(jax.vmap(query)), slices(alone.ends))))
        own = push(query, at_centre, slices(alone.coefficients))
        ends = at_ends.reshape(*alone.positions.shape, -1).astype(float) - own[0, 0]
        alone = Alone(ends, own[:, 1:].astype(float), alone.positions)
    return Measured(query, baseline, c[0, 0].real, c[:, 1:], alone)
