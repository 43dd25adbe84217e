"""From measured jets to Taylor terms along a deletion, with their standard errors.

Notation: m directions ``ψ_i`` in C^q; ``a_i = <ψ_i, z> = Σ_j conj(ψ_ij) z_j`` for a deletion with
coordinates z; ``c_ir`` the r-th coefficient of the query along ``ψ_i``; B deletions, Q queries.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from sketchlearn.prediction.interpolation import Fitted, with_real

CLEAR = 3.0  # standard errors from which on a term is there, however small such terms are elsewhere


class Terms(NamedTuple):
    """Estimates of ``P_r(z)``, r = 1..k, for B deletions and Q queries."""

    terms: np.ndarray  # (B, k, Q)
    covariance: np.ndarray  # (B, k, k, Q), of the estimates
    change: np.ndarray | None = None  # (B, Q) where it is not the sum of the terms
    shrunk: np.ndarray | None = None  # (B, k, Q), pulled towards zero by as much as the mean is noise
    lost: np.ndarray | None = None  # (B, k, Q), the mean square that shrunk is off by


def plus(found: Terms, apart: np.ndarray) -> Terms:
    """The estimates with what was taken out of the coefficients before, (B, k, Q) at the deletions, added again."""
    return found._replace(
        terms=found.terms + apart,
        change=None if found.change is None else found.change + apart.sum(1),
        shrunk=None if found.shrunk is None else found.shrunk + apart,
    )


def powers(psi: np.ndarray, z: np.ndarray, degree: int, interactions: bool = False) -> np.ndarray:
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


def mean(powers: np.ndarray, coefficients: np.ndarray, dim: int) -> Terms:
    """The average over directions of ``C(q+r-1, r) Re[a^r c_r]``, unbiased at every order.

    The reproducing property of directions uniform on the complex sphere (Gunn,
    arXiv:2604.07328). The covariance of the average needs products of real parts,
    ``Re u Re v = Re(u v + u conj(v)) / 2``, which are matrix products again: nothing of size m·B·Q is made.

    Args:
        powers: (k, m, B) complex, the ``a_i^r``.
        coefficients: (m, k, Q) complex, the ``c_ir``.
        dim: q.
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
    return Terms(terms, covariance)


def with_fits(powers: np.ndarray, fits: list[Fitted], dim: int, expected: np.ndarray, remaining: np.ndarray) -> Terms:
    """Fits of every order, plus the mean over directions of what they leave; exact where a fit is.

    Where that mean is mostly noise, a share of it is better than all: ``shrunk`` is the fit, if it is proven, and
    ``S² / (S² + e²)`` of what the sum says beyond it, for a remainder of expected size S and a standard error e
    (Wiener's filter).

    Unbiased for a shrinkage fixed beforehand. The covariance is that of the mean of the residuals: far below
    ``2m = C(q+r-1, r)`` it is right, and just below, where the fits themselves vary, up to a fifth too small in the
    root (powers of a linear form, q = 6, 12 and 26, order two).

    Args:
        powers: (k, m, B) complex.
        fits: one for each order.
        dim: q.
        expected: (B, k, Q), the S: how large what the mean shows of the remainder is expected to be at the deletions;
            where the fits leave nothing, the order itself. Fits are made from the same directions, so that the mean
            shows less of a remainder than there is.
        remaining: (B, k, Q), how large the remainder itself is expected to be.
    """
    found = mean(powers, np.stack([fit.residuals for fit in fits], 1), dim)
    covariance = found.covariance.copy()
    for r, fit in enumerate(fits):
        covariance[:, r, r] += fit.variance
    values = np.stack([fit.values for fit in fits], 1)
    terms, sure = found.terms + values, values * np.stack([fit.proven for fit in fits])
    signal, noise = expected**2, np.maximum(np.einsum("brrq->brq", covariance), 0)
    share = np.divide(signal, signal + noise, out=np.ones_like(noise), where=noise > 0)
    return Terms(
        terms, covariance, shrunk=sure + share * (terms - sure), lost=share**2 * noise + (1 - share) ** 2 * remaining**2
    )


def median_of_means(powers: np.ndarray, coefficients: np.ndarray, dim: int, num_groups: int) -> Terms:
    """The median of the averages of ``num_groups`` groups of directions: robust against heavy tails.

    With p groups of m/p directions the change is off by more than twice a group's
    standard deviation with probability at most ``exp(-p/8)``. Each term is the median of
    its own averages; the change is the median of the groups' changes. Standard errors are those of
    the median of many groups, ``sqrt(π/2p)`` times their spread; for two groups that is a quarter too large.

    Args:
        powers: (k, m, B) complex.
        coefficients: (m, k, Q) complex.
        dim: q.
        num_groups: p, at most m.
    """
    groups = np.array_split(np.arange(powers.shape[1]), num_groups)
    found = np.stack([mean(powers[:, g], coefficients[g], dim).terms for g in groups])  # (p, B, k, Q)
    centred = found - found.mean(0)
    covariance = np.einsum("pbrq,pbsq->brsq", centred, centred) / max(num_groups - 1, 1)
    return Terms(np.median(found, 0), covariance * math.pi / (2 * num_groups), np.median(found.sum(2), 0))


def groups_for(failure: float, num_directions: int) -> int:
    """How many groups a failure probability δ asks for: ``p = 8 ln(1/δ)``.

    Example:
        >>> groups_for(0.05, 500)
        24
    """
    if not 0 < failure < 1:
        raise ValueError(f"failure must be a probability between 0 and 1, got {failure!r}.")
    return max(2, min(math.ceil(8 * math.log(1 / failure)), num_directions // 2))  # one group alone has no spread


def significant(found: Terms, expected: np.ndarray, known: np.ndarray | None = None) -> np.ndarray:
    """Which orders to use, (B, k, Q): all before the first that is lost in noise; always the first.

    An order is lost in noise if its standard error is larger than the order is expected to be. But a term that exceeds
    ``CLEAR`` standard errors is there, whatever was expected; among many deletions chance makes some as large, so the
    error must also be below a quarter of the largest term before, lest such chances harm.

    Args:
        found: the estimates.
        expected: (B, k, Q), the size that what was averaged, or solved for, is expected to have.
        known: (B, Q), what the coordinates do alone, if the terms are interactions: it stands for the term before.
    """
    errors, size = standard_errors(found), np.abs(found.terms)
    before = np.maximum.accumulate(size, 1)
    before = np.concatenate([before[:, :1], before[:, :-1]], 1)
    if known is not None:
        before = np.maximum(before, np.abs(known)[:, None])
    ok = (errors <= expected) | ((size >= CLEAR * errors) & (errors <= before / 4))
    ok[:, 0] = True
    return np.cumprod(ok, axis=1).astype(bool)


def standard_errors(found: Terms) -> np.ndarray:
    """The standard error of every term, (B, k, Q)."""
    return np.sqrt(np.maximum(np.einsum("brrq->brq", found.covariance), 0))
