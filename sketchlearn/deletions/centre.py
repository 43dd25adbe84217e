"""The weights at which a training program is expanded: all ones, or a centre."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from jaxtyping import Float

from sketchlearn.deletions.base import Space, coordinates_of_fractions
from sketchlearn.errors import shown
from sketchlearn.runtime.arrays import check_dtype


def full_weights(space: Space, dtype: DTypeLike | None = None) -> jax.Array:
    """The weights (n,) of a training run with nothing deleted."""
    if isinstance(space, type) or not isinstance(space, Space):
        raise TypeError(f"space must be Examples(n), Candidates, Groups or the like, got {shown(space)}.")
    return jnp.ones(space.num_examples, check_dtype(dtype))


def centre_of(space: Space, centre: Any) -> Float[np.ndarray, " q"] | None:
    """The coordinates of the centre, (q,), or None for full weights."""
    if centre is None:
        return None
    if np.ndim(centre) == 0:
        if isinstance(centre, (bool, str)) or not 0 < float(centre) < 1:
            raise ValueError(
                "centre must be a fraction between 0 and 1 by which every coordinate is weighted down, "
                f"or a vector (n,) of fractions, got {shown(centre)}."
            )
        return np.full(space.dim, float(centre))
    fractions = np.asarray(centre, float)
    if fractions.ndim == 1 and not fractions.any():
        return None
    coordinates = coordinates_of_fractions(space, fractions)
    if coordinates.ndim != 1 or (coordinates < 0).any() or (coordinates >= 1).any():
        raise ValueError(
            "a centre is one vector of fractions, at least 0 and below 1 (at 1 an example would have no weight left)."
        )
    return coordinates
