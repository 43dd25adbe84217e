"""Any subset of a pool of examples."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from sketchlearn.deletions.base import register
from sketchlearn.deletions.reading import as_array, deletion_vectors
from sketchlearn.errors import check_count


@register
class Candidates:
    """Any subset of a pool of examples: ``q`` is the size of the pool, and so are all constants.

    Args:
        indices: positions of the examples that may be deleted, no two the same, or a boolean mask (n,).
        num_examples: n.

    Example:
        >>> space = Candidates([2, 5], 8)
        >>> space.dim, space.locate([5]).tolist()
        (2, [0.0, 1.0])
    """

    def __init__(self, indices: Sequence[int] | np.ndarray, num_examples: int):
        self.num_examples = check_count("num_examples", num_examples)
        pool = as_array(indices)
        if not (pool.ndim == 1 and len(pool) and pool.dtype.kind in "biu"):
            raise ValueError(
                "indices must be the positions (whole numbers) of at least one example, or a boolean mask, "
                f"got an array of shape {pool.shape} and dtype {pool.dtype}."
            )
        self.indices = np.flatnonzero(deletion_vectors(indices, self.num_examples))
        self.dim = len(self.indices)

    def __repr__(self) -> str:
        return f"Candidates({self.dim} of {self.num_examples})"

    def embed(self, z: Any) -> Any:
        """Put the coordinates (..., q) at the candidates' places in (..., n)."""
        z = jnp.asarray(z)
        return jnp.zeros((*z.shape[:-1], self.num_examples), z.dtype).at[..., self.indices].set(z)

    def locate(self, delete: Any) -> Float[np.ndarray, "*B q"]:
        """The candidates' part of the deletion vector; an example outside the pool is an error."""
        x = deletion_vectors(delete, self.num_examples)
        outside = np.ones(self.num_examples, bool)
        outside[self.indices] = False
        wrong = np.unique(np.nonzero(x * outside)[-1])
        if len(wrong):
            raise ValueError(
                f"the deletion holds {len(wrong)} examples outside the pool of {self.dim} candidates: "
                f"{wrong[:10].tolist()}{' ...' if len(wrong) > 10 else ''}. Sketch a larger pool, or Examples(n)."
            )
        return x[..., self.indices]

    def describe(self) -> dict:
        """What the space is, as JSON."""
        return {"indices": self.indices.tolist(), "num_examples": self.num_examples}

    @classmethod
    def from_description(cls, described: dict) -> Candidates:
        """The space that was described."""
        n = described["num_examples"]
        return cls(np.isin(np.arange(n), described["indices"]), n)
