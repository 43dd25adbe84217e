"""Whatever the columns of a matrix span."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from sketchlearn.deletions.base import register
from sketchlearn.deletions.reading import as_array, deletion_vectors
from sketchlearn.runtime.arrays import check_finite
from sketchlearn.runtime.precision import in_full_precision


@register
class LinearMap:
    """Deletions ``x = G z`` for any matrix G: what can be asked for is what its columns span.

    Args:
        matrix: G, (n, q) real with independent columns; column j is the deletion of coordinate j.

    Example:
        >>> space = LinearMap([[1.0, 0], [0.5, 0.5], [0, 1]])       # the middle example belongs to both by half
        >>> space.locate([0, 1, 2]).round(6).tolist()
        [1.0, 1.0]
    """

    def __init__(self, matrix: Any):
        g = as_array(matrix)
        if g.dtype.kind not in "biuf":
            raise TypeError(f"the matrix must hold real numbers, got dtype {g.dtype}.")
        g = g.astype(np.float64)
        if g.ndim != 2 or not g.size:
            raise ValueError(f"the matrix must have shape (n, q), got {g.shape}.")
        check_finite("matrix", g)
        rank = int(np.linalg.matrix_rank(g))
        if rank < g.shape[1]:
            raise ValueError(
                f"the {g.shape[1]} columns of the matrix are dependent (rank {rank}): coordinates would not be unique. "
                "Drop the columns that others already span."
            )
        self.matrix, (self.num_examples, self.dim) = g, g.shape

    def __repr__(self) -> str:
        return f"LinearMap({self.dim} columns of {self.num_examples} examples)"

    @in_full_precision
    def embed(self, z: Any) -> Any:
        """``x = G z``, over leading axes."""
        z = jnp.asarray(z)
        return z @ jnp.asarray(self.matrix.T, z.dtype)

    def locate(self, delete: Any) -> Float[np.ndarray, "*B q"]:
        """The coordinates of a deletion, by least squares; one outside the span of the columns is an error."""
        x = deletion_vectors(delete, self.num_examples)
        z = np.linalg.lstsq(self.matrix, np.atleast_2d(x).T, rcond=None)[0].T
        missed = np.abs(z @ self.matrix.T - np.atleast_2d(x)).max(0)
        wrong = np.flatnonzero(missed > 1e-9)  # far above the rounding of a solve, far below any fraction meant
        if len(wrong):
            raise ValueError(
                f"the deletion is no combination of the {self.dim} columns: {len(wrong)} examples cannot be given the "
                f"fractions asked for: {wrong[:10].tolist()}{' ...' if len(wrong) > 10 else ''}."
            )
        return z[0] if x.ndim == 1 else z

    def describe(self) -> dict:
        """What the space is, as JSON."""
        return {"matrix": self.matrix.tolist()}

    @classmethod
    def from_description(cls, described: dict) -> LinearMap:
        """The space that was described."""
        return cls(described["matrix"])
