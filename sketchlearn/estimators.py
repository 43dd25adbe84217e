"""From measured jets to Taylor terms along a deletion, with their standard errors.

Notation: m directions ``ψ_i`` in C^q; ``a_i = <ψ_i, z> = Σ_j conj(ψ_ij) z_j`` for a deletion with
coordinates z; ``c_ir`` the r-th coefficient of the query along ``ψ_i``; B deletions, Q queries.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np


class Terms(NamedTuple):
    """Estimates of ``P_r(z)``, r = 1..k, for B deletions and Q queries."""

    terms: np.ndarray  # (B, k, Q)
    covariance: np.ndarray  # (B, k, k, Q), of the estimates
    change: np.ndarray | None = None  # (B, Q) where it is not the sum of the terms


def mean(inner: np.ndarray, coefficients: np.ndarray, dim: int) -> Terms:
    """The average over directions of ``C(q+r-1, r) Re[a^r c_r]``, unbiased at every order.

    The reproducing property of directions uniform on the complex sphere (Gunn,
    arXiv:2604.07328). The covariance of the average needs products of real parts,
    ``Re u Re v = Re(u v + u conj(v)) / 2``, which are matrix products again: nothing of size m·B·Q is made.

    Args:
        inner: (m, B) complex, the ``a_i``.
        coefficients: (m, k, Q) complex, the ``c_ir``.
        dim: q.
    """
    m, k, _ = coefficients.shape
    scale = np.array([math.comb(dim + r - 1, r) for r in range(1, k + 1)], float)
    c = coefficients * scale[:, None]
    powers = [inner**r for r in range(1, k + 1)]  # (m, B) each
    terms = np.stack([(powers[r].T @ c[:, r]).real / m for r in range(k)], 1)
    covariance = np.zeros((terms.shape[0], k, k, terms.shape[2]))
    for r in range(k):
        for s in range(r, k):
            same = (powers[r] * powers[s]).T @ (c[:, r] * c[:, s])
            mixed = (powers[r] * powers[s].conj()).T @ (c[:, r] * c[:, s].conj())
            second = (same + mixed).real / (2 * m)
            covariance[:, r, s] = covariance[:, s, r] = (second - terms[:, r] * terms[:, s]) / max(m - 1, 1)
    return Terms(terms, covariance)


def median_of_means(inner: np.ndarray, coefficients: np.ndarray, dim: int, num_groups: int) -> Terms:
    """The median of the averages of ``num_groups`` groups of directions: robust against heavy tails.

    With p groups of m/p directions the change is off by more than twice a group's
    standard deviation with probability at most ``exp(-p/8)``. Each term is the median of
    its own averages; the change is the median of the groups' changes. Standard errors are those of
    a median, ``sqrt(π/2p)`` times the spread of the groups.

    Args:
        inner: (m, B) complex.
        coefficients: (m, k, Q) complex.
        dim: q.
        num_groups: p, at most m.
    """
    groups = np.array_split(np.arange(len(inner)), num_groups)
    found = np.stack([mean(inner[g], coefficients[g], dim).terms for g in groups])  # (p, B, k, Q)
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
    return max(1, min(math.ceil(8 * math.log(1 / failure)), num_directions // 2))


def significant(found: Terms) -> np.ndarray:
    """Which orders to use, (B, k, Q): all before the first whose standard error exceeds its size; always the first."""
    errors = standard_errors(found)
    ok = np.abs(found.terms) >= errors
    ok[:, 0] = True
    return np.cumprod(ok, axis=1).astype(bool)


def standard_errors(found: Terms) -> np.ndarray:
    """The standard error of every term, (B, k, Q)."""
    return np.sqrt(np.maximum(np.einsum("brrq->brq", found.covariance), 0))


def truncation(terms: np.ndarray, used: np.ndarray, errors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The size of what the used orders leave out, (B, Q), and whether the terms decay, (B, Q).

    The last used term is continued geometrically at the rate of the last two; where
    a next order was measured but dropped, its size or its error, whichever is larger.
    """
    k = terms.shape[1]
    count = used.sum(1)
    size = np.abs(terms)

    def at(array: np.ndarray, index: Any) -> np.ndarray:
        return np.take_along_axis(array, np.clip(index, 0, k - 1)[:, None], 1)[:, 0]

    last, before = at(size, count - 1), at(size, count - 2)
    rate = np.where(count > 1, last / np.where(before > 0, before, 1), 0.5)
    decays = (rate < 1) | (count < 2)
    continued = last * np.where(decays, rate / np.maximum(1 - rate, 1e-9), 1.0)
    dropped = np.maximum(at(size, count), at(errors, count))
    return np.where(count < k, dropped, continued), decays
