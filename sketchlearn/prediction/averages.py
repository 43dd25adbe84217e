"""The average over directions: the reproducing property of directions uniform on the complex sphere.

Notation: m directions ``ψ_i`` in C^q; ``a_i = <ψ_i, z> = Σ_j conj(ψ_ij) z_j`` for a deletion with
coordinates z; ``c_ir`` the r-th coefficient of the query along ``ψ_i``; B deletions, Q outputs.
"""

from __future__ import annotations

import math

import numpy as np
from jaxtyping import Complex, Float

from sketchlearn.prediction.interpolation import with_real


def powers_along(
    psi: Complex[np.ndarray, "m q"], z: Float[np.ndarray, "B q"], degree: int, interactions: bool = False
) -> Complex[np.ndarray, "{degree} m B"]:
    """``<ψ_i, z_b>^r``, (k, m, B): what the coefficients of order r = 1..k are weighted with.

    For interactions the pure powers ``conj(ψ_j)^r z_j^r`` are taken out: a polynomial that has none is reproduced
    all the same, and at a single coordinate it is zero without noise.

    Args:
        psi: (m, q) complex.
        z: (B, q).
        degree: k.
        interactions: whether the polynomials are without pure powers.
    """
    psi, orders = psi.conj(), range(1, degree + 1)
    inner = with_real(psi, z)
    return np.stack([inner**r - (with_real(psi**r, z**r) if interactions else 0) for r in orders])


def average(
    powers: Complex[np.ndarray, "k m B"], coefficients: Complex[np.ndarray, "m k Q"], dim: int
) -> tuple[Float[np.ndarray, "B k Q"], Float[np.ndarray, "B k k Q"]]:
    """The average over directions of ``C(q+r-1, r) Re[a^r c_r]``, unbiased at every order, and its covariance.

    The covariance of the average needs products of real parts, ``Re u Re v = Re(u v + u conj(v)) / 2``, which are
    matrix products again: nothing of size m·B·Q is made.

    Args:
        powers: (k, m, B) complex, the ``a_i^r``.
        coefficients: (m, k, Q) complex, the ``c_ir``.
        dim: q.

    Returns:
        The terms (B, k, Q), and their covariance (B, k, k, Q).

    Source: Gunn, arXiv:2604.07328.
    """
    m, k, _ = coefficients.shape
    scale = np.array([math.comb(dim + r - 1, r) for r in range(1, k + 1)], float)
    c = coefficients * scale[:, None]
    terms = np.stack([(powers[r].T @ c[:, r]).real / m for r in range(k)], 1)
    covariance = np.zeros((terms.shape[0], k, k, terms.shape[2]))
    for r in range(k):
        for s in range(r, k):
            same = (powers[r] * powers[s]).T @ (c[:, r] * c[:, s])
            mixed = (powers[r] * powers[s].conj()).T @ (c[:, r] * c[:, s].conj())
            second = (same + mixed).real / (2 * m)
            covariance[:, r, s] = covariance[:, s, r] = (second - terms[:, r] * terms[:, s]) / max(m - 1, 1)
    return terms, covariance
