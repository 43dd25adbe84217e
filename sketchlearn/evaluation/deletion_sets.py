"""Deletions to test methods on."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool

from sketchlearn.errors import check_count, check_seed
from sketchlearn.runtime.seeds import stream


def random_deletions(
    num_examples: int, fraction: float, count: int, seed: int = 0
) -> Bool[np.ndarray, "{count} {num_examples}"]:
    """Random subsets of one size, at least one example: (count, n) booleans.

    Args:
        num_examples: n.
        fraction: of the examples that are deleted.
        count: how many subsets.
        seed: seed.

    Example:
        >>> random_deletions(10, 0.3, 2).sum(1).tolist()
        [3, 3]
    """
    n = check_count("num_examples", num_examples)
    if not 0 < fraction < 1:
        raise ValueError(f"fraction must be between 0 and 1, got {fraction!r}.")
    size = max(round(fraction * n), 1)
    rng = stream("test deletions", check_seed(seed), size)
    out = np.zeros((check_count("count", count), n), bool)
    for row in out:
        row[rng.choice(n, size, replace=False)] = True
    return out
