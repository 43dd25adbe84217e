"""A control variate: what the first order of the parameters determines of the higher orders of a query."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np

from sketchlearn.prediction.equations import Equations
from sketchlearn.prediction.known import QueryJets, SingleCoordinates
from sketchlearn.sketching.base import JetSource
from sketchlearn.sketching.query_jets import push, slices


def first_order_control(
    jets: QueryJets,
    source: JetSource,
    singles: SingleCoordinates | None,
    equations: Equations,
    at_centre: Any,
    z: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """The query of jets that have nothing but θ_1: its coefficients (m, k, Q) and its exact terms (B, k, Q) at z.

    Args:
        jets: of the query.
        source: of the parameters' jets.
        singles: of the parameters, whose first order is then known.
        equations: which determine the first order otherwise.
        at_centre: the parameters at the point of expansion.
        z: (B, q), relative to it.
    """
    query, m, k = jets.query, *jets.coefficients.shape[:2]

    def padded(first: np.ndarray) -> np.ndarray:
        return np.concatenate([first[:, None], np.zeros((len(first), k - 1, *first.shape[1:]))], 1).astype(first.dtype)

    def first_of(tree: Any) -> Any:
        return jax.tree.map(lambda a: np.asarray(a)[:, 0], tree)

    def pushed(first: Any, count: int) -> np.ndarray:
        return push(query, at_centre, slices(jax.tree.map(padded, first)), count)[:, 1:]  # type: ignore[arg-type]

    own = None if singles is None else first_of(singles.coefficients)
    at_deletions = _solved_first(source, equations, z) if own is None else _combined(own, z)
    there = pushed(at_deletions, len(z)).astype(float)
    firsts = (jax.tree.map(padded, first_of(part)) for part in source.parts())
    coefficients = push(query, at_centre, firsts, m)[:, 1:]  # type: ignore[arg-type]
    if own is None:
        return coefficients, there
    only = pushed(own, len(z.T)).astype(float)  # of each coordinate by itself: the control has interactions, too
    powers = [np.stack([(rows**r) @ only[:, r - 1] for r in range(1, k + 1)], 1) for rows in (equations.directions, z)]
    return coefficients - powers[0], there - powers[1]


def _combined(own: Any, z: np.ndarray) -> Any:
    return jax.tree.map(lambda a: np.tensordot(z.astype(a.dtype), a, 1), own)


def _solved_first(source: JetSource, equations: Equations, z: np.ndarray) -> Any:
    """The first order of the parameters at z, (B, ...), where the directions determine it."""
    if not equations.solve_first:
        m, q = equations.directions.shape
        raise ValueError(
            "control needs the first order of the parameters, which is exact once twice the directions "
            f"({m}) reach the coordinates ({q}), or in an additive sketch."
        )
    solver = equations.of(1)
    re, im = np.split(solver.weights(z), 2)

    def solved(a: np.ndarray) -> np.ndarray:
        used = a[: solver.num_used]
        return (np.tensordot(re.T, used.real, 1) + np.tensordot(im.T, used.imag, 1)).astype(used.real.dtype)

    every = [jax.tree.map(lambda a: np.asarray(a)[:, 0], part) for part in source.parts()]
    return jax.tree.map(lambda *a: solved(np.concatenate(a)), *every)
