"""The run with one coordinate of the deletion space moved at a time, for every coordinate."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from sketchlearn.deletions.base import Space
from sketchlearn.execution.blocks import collect, in_blocks
from sketchlearn.execution.directional import check_jets, deleting, jets_program
from sketchlearn.execution.runs import batched_program
from sketchlearn.prediction.known import SingleCoordinates
from sketchlearn.training.program import check_parameters


def run_single_coordinates(
    train: Callable,
    space: Space,
    degree: int,
    weights: jax.Array,
    centre: np.ndarray,
    batch_size: int,
    progress: bool,
) -> SingleCoordinates:
    """Move every coordinate by itself: once as a series at the centre ``weights``, once to each of its ends."""
    q, dtype = space.dim, weights.dtype

    def basis(start: int, size: int) -> jax.Array:
        return jax.nn.one_hot(start + jnp.arange(size), q, dtype=dtype)

    series_blocks = in_blocks(
        jets_program(train, degree, False), lambda *at: (weights, *deleting(space, basis(*at))), q, batch_size,
        "each by itself, as a series", "coordinate", progress,
    )  # fmt: skip
    coefficients = collect(((start, stop, jets) for start, stop, (_, jets) in series_blocks), q, check_jets)
    positions = np.stack([1 - centre, -centre], 1) if centre.any() else 1 - centre[:, None]
    ends = []
    for e in range(positions.shape[1]):
        distance = jnp.asarray(positions[:, e], dtype)

        def moved(start: int, size: int, distance: Any = distance) -> tuple[jax.Array]:
            at = basis(start, size)
            return (weights - space.embed(at * distance),)

        trained = in_blocks(
            batched_program(train), moved, q, batch_size, "each by itself, retrained", "coordinate", progress
        )  # fmt: skip
        ends.append(collect(trained, q, lambda block, start: check_parameters(block, "training without a coordinate")))
    return SingleCoordinates(jax.tree.map(lambda *leaves: np.stack(leaves, 1), *ends), coefficients, positions)
