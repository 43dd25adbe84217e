"""An exact first order, and what is known of the second: leading eigenvectors, and the mean of the rest."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Complex, Float

from sketchlearn.prediction.sizes import Sizes


class Quadratic(NamedTuple):
    """``g·z + ½ Σ_i λ_i (v_i·z)² + ½ μ |z'|²`` for Q outputs, and how large the whole second order is.

    ``z'`` is the part of z that no eigenvector ``v_i`` shows, and μ the mean of the eigenvalues there: a deletion moves
    all its coordinates in one sense, so that small eigenvalues of one sign add up.

    Attributes:
        gradient: (q, Q).
        eigenvalues: (p, Q).
        eigenvectors: (q, p, Q), orthonormal.
        rest: (Q,), the μ.
        sizes: of order one and of the whole of order two, at typical deletions.
        left: of order one, and of what order two has beside all this.
    """

    gradient: Float[np.ndarray, "q Q"]
    eigenvalues: Float[np.ndarray, "p Q"]
    eigenvectors: Float[np.ndarray, "q p Q"]
    rest: Float[np.ndarray, " Q"]
    sizes: Sizes
    left: Sizes

    def terms(self, z: Float[np.ndarray, "B q"], interactions: bool = False) -> Float[np.ndarray, "B 2 Q"]:
        """Both orders at coordinates z (B, q): (B, 2, Q); for interactions, order two without its squares ``z_j²``."""
        return self._at(z, interactions)

    def along(self, psi: Complex[np.ndarray, "m q"], interactions: bool = False) -> Complex[np.ndarray, "m 2 Q"]:
        """What both orders contribute to the coefficients along directions (m, q): the same polynomials there."""
        return self._at(psi, interactions)

    def _at(self, z: np.ndarray, interactions: bool) -> np.ndarray:
        squares = np.tensordot(z, self.eigenvectors, 1) ** 2  # (B, p, Q)
        others = (z**2).sum(1)[:, None] - squares.sum(1)
        second = (np.einsum("bpQ,pQ->bQ", squares, self.eigenvalues) + others * self.rest) / 2
        if interactions:
            second = second - z**2 @ self.diagonal / 2
        return np.stack([z @ self.gradient, second], 1)

    @property
    def diagonal(self) -> Float[np.ndarray, "q Q"]:
        """The diagonal of this Hessian, (q, Q)."""
        squares = self.eigenvectors**2
        return np.einsum("pQ,qpQ->qQ", self.eigenvalues, squares) + self.rest * (1 - squares.sum(1))


def quadratic_of(
    gradient: Float[np.ndarray, "Q q"],
    values: Float[np.ndarray, "Q p"],
    vectors: Float[np.ndarray, "Q p q"],
    probes: Float[np.ndarray, "P q"],
    products: Float[np.ndarray, "P Q q"],
) -> Quadratic:
    """The quadratic of Ritz pairs, with the mean of the rest and all sizes from products with random vectors.

    ``E p·R p = tr R`` for normal vectors p, with R what the pairs leave: Hutchinson's estimate of a trace, once the
    large eigenvalues are out of the way.

    Args:
        gradient: (Q, q).
        values: (Q, p).
        vectors: (Q, p, q), orthonormal.
        probes: (P, q), standard normal, at least two.
        products: (P, Q, q), ``H p``.

    Source: Meyer, Musco, Musco and Woodruff, "Hutch++" (2021), arXiv:2010.09649.
    """
    dimensions = gradient.shape[1] - values.shape[1]
    shown = np.einsum("Qpq,Pq->PQp", vectors, probes)
    left = products - np.einsum("PQp,Qpq->PQq", shown * values, vectors)
    outside = probes[:, None] - np.einsum("PQp,Qpq->PQq", shown, vectors)
    known = values.shape[1] > 0 and dimensions > 0  # without any pair, nothing but the first order is meant
    rest = (outside * left).sum(2).mean(0) / dimensions if known else np.zeros(len(gradient))
    left = left - rest[:, None] * outside
    g = gradient.T
    whole, beside = sizes_of_orders(g, probes, products), sizes_of_orders(g, probes, left)
    return Quadratic(g, values.T, np.moveaxis(vectors, (0, 1, 2), (2, 1, 0)), rest, whole, beside)


def sizes_of_orders(
    gradient: Float[np.ndarray, "q Q"], probes: Float[np.ndarray, "P q"], products: Float[np.ndarray, "P Q q"]
) -> Sizes:
    """How large order one is, and order two by products of its matrices with random vectors: two of them suffice.

    ``E |H p|² = Σ H_ij²`` for normal vectors p, and ``E p_j (H p)_j = H_jj``, so that pairs of different vectors
    estimate ``Σ_j H_jj²`` without bias. A product with a matrix of many eigenvalues of one size tells its size to a
    few percent.

    Args:
        gradient: (q, Q).
        probes: (P, q), standard normal; P at least 2.
        products: (P, Q, q), ``H p``.
    """
    count, q = probes.shape
    every = (products**2).sum(2).mean(0)  # (Q,), the sum of squares of all entries
    diagonals = probes[:, None] * products
    total = diagonals.sum(0)
    pairs = (total**2).sum(1) - (diagonals**2).sum((0, 2))
    of_diagonal = np.clip(pairs / (count * (count - 1)), 0, every) if q > 1 else every
    first = (gradient**2).mean(0)
    pure = np.stack([first, of_diagonal / (4 * q)])
    mixed = np.stack([np.zeros_like(first), (every - of_diagonal) / (2 * q * max(q - 1, 1))])
    return Sizes(pure, mixed)
