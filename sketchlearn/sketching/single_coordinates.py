"""The run with one coordinate of the deletion space moved at a time, for every coordinate."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from sketchlearn.deletions.base import Space
from sketchlearn.execution.blocks import collect, in_blocks
from sketchlearn.execution.directional import check_jets, jets_along
from sketchlearn.runtime.arrays import check_finite
from sketchlearn.taylor.algebra import series
from sketchlearn.training.program import check_parameters


def checked_gradient(gradient: Any, space: Space, shape: tuple[int, ...]) -> np.ndarray:
    """A gradient that was given for a query of some shape, as (q, Q); or what is wrong with it."""
    expected, array = (space.dim, *shape), np.asarray(gradient, float)
    if array.shape != expected:
        raise ValueError(
            f"gradient must have shape {expected}, a row for each coordinate of {space!r}, got {array.shape}."
        )
    check_finite("gradient", array)
    return array.reshape(space.dim, -1)


class Alone(NamedTuple):
    """The run with one coordinate moved at a time, for every coordinate: of parameters, or of a query.

    Attributes:
        ends: leaves (q, E, ...): trained with coordinate i moved by ``positions[i, e]``, to deleted and, if the
            centre is not 0, to kept. Of a query, the change from the centre, (q, E, Q).
        coefficients: leaves (q, k, ...), the orders 1..k along each coordinate.
        positions: (q, E).
    """

    ends: Any
    coefficients: Any
    positions: np.ndarray

    def change(self, z: np.ndarray) -> np.ndarray:
        """The sum of what each coordinate does alone, (B, Q), at coordinates z (B, q) relative to the centre.

        Of a query. Between its ends a coordinate's curve is its series, and what the ends show to be missing at
        the orders k + 1 (and k + 2), so that it is exact at the ends and to order k.
        """
        k = self.coefficients.shape[1]
        total = sum((z**r) @ self.coefficients[:, r - 1] for r in range(1, k + 1))
        orders = np.arange(1, k + 1)
        by_series = np.einsum("ier,irq->ieq", self.positions[..., None] ** orders, self.coefficients)
        higher = k + 1 + np.arange(self.positions.shape[1])
        powers = self.positions[..., None] ** higher  # (q, E, E): what the missing orders are worth at the ends
        missing = np.linalg.pinv(powers) @ (self.ends - by_series)  # an end at the centre itself says nothing
        return total + sum((z**p) @ missing[:, j] for j, p in enumerate(higher))

    def powers(self, psi: np.ndarray) -> np.ndarray:
        """``Σ_i a_ir ψ_i^r``, (m, k, Q): what the coordinates alone contribute along directions (m, q)."""
        k = self.coefficients.shape[1]
        return np.stack([(psi**r) @ self.coefficients[:, r - 1] for r in range(1, k + 1)], 1)


def run_alone(
    train: Callable,
    space: Space,
    degree: int,
    weights: jax.Array,
    centre: np.ndarray,
    batch_size: int,
    progress: bool,
) -> Alone:
    """Run every coordinate alone: once as a series at the centre ``weights``, once to each of its ends."""
    q, dtype = space.dim, weights.dtype
    algebra = series(degree, complex=False)

    def basis(start: int, size: int) -> jax.Array:
        return jax.nn.one_hot(start + jnp.arange(size), q, dtype=dtype)

    found = in_blocks(
        lambda z: jets_along(train, space, weights, algebra, z)[1], lambda *at: (basis(*at),), q, batch_size,
        "each alone, as a series", "coordinate", progress,
    )  # fmt: skip
    coefficients = collect(found, q, check_jets)
    positions = np.stack([1 - centre, -centre], 1) if centre.any() else 1 - centre[:, None]
    ends = []
    for e in range(positions.shape[1]):
        along = jnp.asarray(positions[:, e], dtype)

        def moved(start: int, size: int, along: Any = along) -> tuple[jax.Array]:
            at = basis(start, size)
            return (weights - space.embed(at * along),)

        trained = in_blocks(
            jax.vmap(train), moved, q, batch_size, "each alone, trained again", "coordinate", progress
        )  # fmt: skip
        ends.append(collect(trained, q, lambda block, start: check_parameters(block, "training without a coordinate")))
    return Alone(jax.tree.map(lambda *leaves: np.stack(leaves, 1), *ends), coefficients, positions)
