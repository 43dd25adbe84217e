"""How much of a change is the seed's."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from jax.typing import DTypeLike
from jaxtyping import Float

from sketchlearn.deletions.reading import deletion_vectors
from sketchlearn.truth.retrain import BLOCK, retrain


def seed_noise(
    make_train: Callable[[int], Callable],
    seeds: Sequence[int],
    query: Callable,
    delete: Any,
    num_examples: int,
    batch_size: int = BLOCK,
    dtype: DTypeLike | None = None,
) -> Float[np.ndarray, "seeds B *S"]:
    """The change of a query after deletions for each of several seeds: what is the deletion's, and what the seed's.

    The standard deviation over the first axis is the noise that a prediction for one seed cannot explain to
    another.

    Args:
        make_train: seed -> (weights -> parameters).
        seeds: whole numbers.
        query: parameters -> array of shape S.
        delete: positions, masks or vectors, one or a stack of B.
        num_examples: n.
        batch_size: trainings run at once.
        dtype: of the weights.

    Returns:
        (seeds, B) followed by S, in the unit of the query; float64.

    Example:
        >>> import jax.numpy as jnp, sketchlearn as sl
        >>> changes = sl.seed_noise(lambda s: lambda w: s * w.sum(), [1, 2], lambda p: p, [[0], [0, 1]], 3)
        >>> changes.tolist()
        [[-1.0, -2.0], [-2.0, -4.0]]
    """
    if not callable(make_train):
        raise TypeError(f"make_train must be a function of a seed, got {type(make_train).__name__}.")
    x = np.atleast_2d(deletion_vectors(delete, num_examples))
    rows = np.concatenate([np.ones((1, num_examples)), 1 - x])
    out = []
    for seed in seeds:
        values = retrain(make_train(seed), rows, query, min(batch_size, max(len(x), 1)), dtype)
        values = np.asarray(values, np.float64)
        out.append(values[1:] - values[:1])
    if not out:
        raise ValueError("give at least one seed.")
    return np.stack(out)
