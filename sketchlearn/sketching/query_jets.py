"""A query measured along the directions of a sketch: its own Taylor coefficients, from those of the parameters."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, Protocol

import jax
import numpy as np

from sketchlearn.deletions.base import Space
from sketchlearn.execution.blocks import LARGEST_BLOCK, blocks
from sketchlearn.prediction.known import QueryJets, SingleCoordinates
from sketchlearn.prediction.quadratic import Quadratic
from sketchlearn.runtime.arrays import check_finite
from sketchlearn.runtime.precision import matmul_precision
from sketchlearn.runtime.programs import jit, once
from sketchlearn.sketching.base import JetSource
from sketchlearn.taylor.algebra import wide
from sketchlearn.taylor.transform import push_forward
from sketchlearn.training.program import check_query, check_smooth_query

SAME_VALUE = 1e-3  # relative: rounding in float32 leaves less of a difference between two runs of one program


def slices(tree: Any) -> Iterator[Any]:
    """A pytree with a long leading axis, a bounded part of it at a time."""
    for start, stop in blocks(len(jax.tree.leaves(tree)[0]), LARGEST_BLOCK):
        yield jax.tree.map(lambda c, a=start, b=stop: c[a:b], tree)


class InParts:
    """A function of arrays with a long leading axis, called for one part after the other.

    It is compiled for the first part. Shorter ones are filled up, longer ones compiled for again.
    """

    def __init__(self, f: jit, total: int):
        self.f, self.total = f, total
        self.run: Callable | None = None
        self.rows = 0

    def __call__(self, part: Any, *fixed: Any) -> np.ndarray:
        """``f(part, *fixed)``, without what was filled up."""
        count = len(jax.tree.leaves(part)[0])
        if self.run is None or count > self.rows:
            self.run, self.rows = self.f.compiled(part, *fixed, calls=self.total / count), count
        elif count < self.rows:
            part = jax.tree.map(lambda c: np.resize(np.asarray(c), (self.rows, *c.shape[1:])), part)
        return np.asarray(self.run(part, *fixed))[:count]


@once
def push_program(query: Callable) -> jit:
    """Jets (M, k, ...) and the parameters at which they are -> the query's coefficients (M, k+1, ...)."""
    return jit(jax.vmap(lambda jets, value: push_forward(query, jets, value=value), (0, None)))


@once
def query_program(query: Callable, axes: int) -> jit:
    """The query of parameters with so many leading axes."""
    for _ in range(axes):
        query = jax.vmap(query)
    return jit(query)


def pusher(query: Callable, total: int) -> Callable[[Any, Any], np.ndarray]:
    """What pushes jets (M, k, ...) at given parameters through the query: its coefficients (M, k+1, Q).

    For ``total`` jets in all, a part at a time.
    """
    run = InParts(push_program(query), total)

    def pushed(part: Any, value: Any) -> np.ndarray:
        c = run(part, value)
        if not np.isfinite(c).all():
            raise FloatingPointError("the query's coefficients are not finite: is the query differentiable there?")
        return c.reshape(*c.shape[:2], -1)

    return pushed


def push(query: Callable, value: Any, parts: Iterable[Any], total: int) -> np.ndarray:
    """The query's coefficients (M, k+1, Q) along M = ``total`` jets (M, k, ...) in parts, at parameters ``value``."""
    pushed = pusher(query, total)
    return np.concatenate([pushed(part, value) for part in parts])


def query_jets(
    query: Callable, parameters: Any, at_centre: Any, c: np.ndarray, singles: SingleCoordinates | None = None
) -> QueryJets:
    """A query with its coefficients along the directions, and what it does along each coordinate by itself.

    Args:
        query: the function.
        parameters: with nothing deleted.
        at_centre: the parameters at the point of expansion.
        c: (m, k+1, Q), its coefficients, the value first.
        singles: the parameters with one coordinate moved at a time.
    """
    baseline = np.asarray(query_program(query, 0).compiled(parameters, calls=1)(parameters))
    baseline = baseline.astype(wide(baseline.dtype))  # as its coefficients are
    of_query = None
    if singles is not None:
        q = len(singles.positions)
        ends_of = InParts(query_program(query, 2), q)
        at_ends = np.concatenate([ends_of(part) for part in slices(singles.ends)])
        own = push(query, at_centre, slices(singles.coefficients), q)
        ends = at_ends.reshape(*singles.positions.shape, -1).astype(float) - own[0, 0]
        of_query = SingleCoordinates(ends, own[:, 1:].astype(float), singles.positions)
    return QueryJets(query, baseline, c[0, 0].real, c[:, 1:], of_query)


class KeptQueries:
    """The jets of queries that were asked before, or measured when the sketch was made.

    Args:
        source: of the jets.
        parameters: with nothing deleted.
        at_centre: the parameters at the point of expansion.
        singles: of the parameters, in an additive sketch.
    """

    def __init__(self, source: JetSource, parameters: Any, at_centre: Any, singles: SingleCoordinates | None):
        self.source, self.parameters, self.at_centre, self.singles = source, parameters, at_centre, singles
        self._kept: dict[tuple[int, str], QueryJets] = {}

    def of(self, query: Callable | str) -> QueryJets:
        """The jets of a query; or say what a query has to be."""
        measured = self.source.queries
        for name, jets in (measured or {}).items():
            if query == name or (jets.query is not None and query is jets.query):
                return jets
        if isinstance(query, str):
            if measured == {}:
                raise KeyError(f"no query is called {query!r} yet: shards of this sketch are missing.")
            if measured is None:
                check_query(query, self.parameters)  # says what a query has to be
            raise KeyError(f"no query is called {query!r}; this sketch was made with {sorted(measured or {})}.")
        key = id(query), matmul_precision()  # a setting that the user changes is another question
        if key in self._kept and self._kept[key].query is query:
            return self._kept[key]
        check_smooth_query(query, self.parameters)
        c = push(query, self.at_centre, self.source.parts(), self.source.num_directions)
        jets = query_jets(query, self.parameters, self.at_centre, c, self.singles)
        if len(self._kept) >= 64:
            self._kept.pop(next(iter(self._kept)))
        self._kept[key] = jets
        return jets


def checked_gradient(gradient: Any, space: Space, shape: tuple[int, ...], name: str = "gradient") -> np.ndarray:
    """A gradient (or the like) that was given for a query of some shape, as (q, Q); or what is wrong with it."""
    expected, array = (space.dim, *shape), np.asarray(gradient, float)
    if array.shape != expected:
        raise ValueError(
            f"{name} must have shape {expected}, a row for each coordinate of {space!r}, got {array.shape}."
        )
    check_finite(name, array)
    return array.reshape(space.dim, -1)


class KnownCurvature(Protocol):
    """What ``Sketch.predict`` reads of a curvature; see :class:`sketchlearn.Curvature`."""

    space: Space
    centre: np.ndarray
    baseline: np.ndarray
    quadratic: Quadratic


def checked_curvature(curvature: KnownCurvature, space: Space, centre: np.ndarray, baseline: np.ndarray) -> Quadratic:
    """What a curvature that was given says; or why it is not of this query, space and centre."""
    if not isinstance(getattr(curvature, "quadratic", None), Quadratic):
        raise TypeError(
            f"curvature must be what sketchlearn.curvature(train, query, space) returns, got "
            f"{type(curvature).__name__}."
        )
    expected, got = (space.dim, *baseline.shape), (curvature.space.dim, *curvature.baseline.shape)
    if expected != got:
        raise ValueError(
            f"the curvature is of {got[0]} coordinates and a query of shape {got[1:]}, the sketch and this query have "
            f"{expected[0]} and {expected[1:]}: make it with the space of the sketch, and of the same query."
        )
    if not np.allclose(curvature.centre, centre, atol=1e-6):  # a centre may have been rounded to float32
        raise ValueError("the curvature and the sketch have different centres: give both the same centre=.")
    if not np.allclose(curvature.baseline, baseline, rtol=SAME_VALUE, atol=0):
        raise ValueError(
            "the curvature is of another query, or of another run: with nothing deleted its query is "
            f"{np.ravel(curvature.baseline)[:3].tolist()}, and this one {np.ravel(baseline)[:3].tolist()}."
        )
    return curvature.quadratic
