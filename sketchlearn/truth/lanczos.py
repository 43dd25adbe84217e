"""Lanczos' method for several symmetric matrices at once, each seen through products with vectors only."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from jaxtyping import Float


class RitzPairs(NamedTuple):
    """What a Krylov space shows of symmetric matrices H_1 .. H_Q: ``H ≈ Σ_i λ_i v_i v_iᵀ``, the whole of ``P H P``.

    Attributes:
        values: (Q, products), by falling absolute value.
        vectors: (Q, products, q), orthonormal.
        asymmetry: (Q,), how far ``P H P`` was from symmetric, relative: rounding, or products of no symmetric matrix.
    """

    values: Float[np.ndarray, "Q products"]
    vectors: Float[np.ndarray, "Q products q"]
    asymmetry: Float[np.ndarray, " Q"]


def lanczos(
    multiply: Callable[[int, np.ndarray], np.ndarray],
    start: Float[np.ndarray, "Q q"],
    products: int,
    rng: np.random.Generator,
    rounding: float = 2.2e-16,
) -> RitzPairs:
    """The Ritz pairs of Krylov spaces ``span(v, H v, H² v, ..)``, one for each matrix.

    Every new vector is made orthogonal to all before, twice, so that none is found a second time. A space that is
    complete, because H maps it to itself, goes on in a random direction: q products know a matrix whole.

    Args:
        multiply: ``(i, vectors (Q, q)) -> (Q, q)``, the i-th product of each matrix with its vector.
        start: where the spaces begin; a row of zeros begins in a random direction.
        products: how many, at most q.
        rng: of random directions.
        rounding: the relative precision of a product.

    Example:
        >>> import numpy as np
        >>> h = np.diag([3.0, 2.0, 1.0])
        >>> pairs = lanczos(lambda i, v: v @ h, np.ones((1, 3)), 3, np.random.default_rng(0))
        >>> pairs.values.round(6).tolist()
        [[3.0, 2.0, 1.0]]

    Source: Golub and Van Loan, "Matrix Computations", 4th ed. (2013), chapter 10.
    """
    outputs, q = start.shape
    basis, applied = np.zeros((outputs, products, q)), np.zeros((outputs, products, q))
    following, scale = start, np.linalg.norm(start, axis=1)
    for i in range(products):
        basis[:, i] = _next(following, basis[:, :i], scale * np.sqrt(rounding), rng)
        applied[:, i] = following = multiply(i, basis[:, i])
        scale = np.maximum(scale if i else 0, np.linalg.norm(following, axis=1))
    projected = basis @ applied.transpose(0, 2, 1)
    symmetric = (projected + projected.transpose(0, 2, 1)) / 2
    values, turns = np.linalg.eigh(symmetric)
    order = np.argsort(-np.abs(values), axis=1)
    values, turns = np.take_along_axis(values, order, 1), np.take_along_axis(turns, order[:, None], 2)
    size = np.linalg.norm(symmetric, axis=(1, 2))
    off = np.linalg.norm(projected - symmetric, axis=(1, 2))
    asymmetry = np.divide(off, size, out=np.zeros_like(off), where=size > 0)
    return RitzPairs(values, turns.transpose(0, 2, 1) @ basis, asymmetry)


def _next(vectors: np.ndarray, basis: np.ndarray, negligible: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The part of vectors (Q, q) that is new, of length one; a random one where that is negligible."""
    out = _orthogonal(vectors, basis)
    lengths = np.linalg.norm(out, axis=1)
    nothing = lengths <= negligible
    if nothing.any():
        fresh = _orthogonal(rng.normal(size=out.shape), basis)
        out = np.where(nothing[:, None], fresh, out)
        lengths = np.linalg.norm(out, axis=1)
    return _orthogonal(out / lengths[:, None], basis)


def _orthogonal(vectors: np.ndarray, basis: np.ndarray) -> np.ndarray:
    """Vectors (Q, q) without what a basis (Q, i, q) spans; once is not enough in rounded arithmetic."""
    for _ in range(2):
        vectors = vectors - np.einsum("qi,qin->qn", np.einsum("qin,qn->qi", basis, vectors), basis)
    return vectors
