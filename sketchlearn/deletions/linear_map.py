"""Whatever the columns of a matrix span."""

from __future__ import annotations

import functools
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

    def nearest(self, delete: Any) -> tuple[Float[np.ndarray, "*B q"], Float[np.ndarray, "*B n"]]:
        """The closest that the columns come to any deletion, and what they leave: ``x = G z + rest``.

        What a sketch of this space says of ``G z``, and a first order of the rest (:func:`sketchlearn.gradient` over
        the examples, times ``rest``), is an answer to deletions that are not quite in its span.

        Args:
            delete: positions, a mask or a vector of fractions over the n examples, or a stack of them.

        Returns:
            z by least squares, and the rest, orthogonal to every column; float64.

        Example:
            >>> z, rest = LinearMap([[1.0], [1.0], [0.0]]).nearest([0, 2])
            >>> z.round(6).tolist(), rest.round(6).tolist()
            ([0.5], [0.5, -0.5, 1.0])
        """
        from scipy.linalg import solve_triangular  # slow to import

        x = deletion_vectors(delete, self.num_examples)
        orthonormal, triangular = self._factors
        z = solve_triangular(triangular, orthonormal.T @ np.atleast_2d(x).T).T
        rest = np.atleast_2d(x) - z @ self.matrix.T
        return (z[0], rest[0]) if x.ndim == 1 else (z, rest)

    @functools.cached_property
    def _factors(self) -> tuple[np.ndarray, np.ndarray]:
        """``G = Q R``: made once, for every question needs it."""
        return np.linalg.qr(self.matrix)

    def locate(self, delete: Any) -> Float[np.ndarray, "*B q"]:
        """The coordinates of a deletion, by least squares; one outside the span of the columns is an error."""
        z, rest = self.nearest(delete)
        missed = np.abs(np.atleast_2d(rest)).max(0)
        wrong = np.flatnonzero(missed > 1e-9)  # far above the rounding of a solve, far below any fraction meant
        if len(wrong):
            raise ValueError(
                f"the deletion is no combination of the {self.dim} columns: {len(wrong)} examples cannot be given the "
                f"fractions asked for: {wrong[:10].tolist()}{' ...' if len(wrong) > 10 else ''}. `nearest` says how "
                "close the columns come, and what they leave."
            )
        return z

    def describe(self) -> dict:
        """What the space is, as JSON."""
        return {"matrix": self.matrix.tolist()}

    @classmethod
    def from_description(cls, described: dict) -> LinearMap:
        """The space that was described."""
        return cls(described["matrix"])
