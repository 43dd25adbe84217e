"""What a prediction leaves out: the size of an order at a typical deletion, and the decay of a deletion's own terms.

How large an order is *along the directions* is known without noise. Directions are alike, deletions are not: what the
directions say holds for a deletion of many coordinates that have little to do with one another, and a deletion of few,
or of nearly all, can be far from typical. So two guesses are combined (see :func:`truncation`), and how much the second
counts depends on the deletion (:func:`unlike_directions`).
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

# Chosen for intervals that hold 95% on microgpt with the bundled names (first letters, their unions, random subsets of
# 1 to 50%), and looked at with the paper's names, ridge regression and the digits; benchmarks/ reports the coverage.
TYPICAL = 1.35  # deletions move in one sense, directions in all: their orders are a little larger than along directions
FEW = 3.0  # up to so many coordinates a deletion is judged by its own terms
DECAY = 0.8  # how a deletion's own terms shrink from one order to the next
INTERACTION = 1.2  # how large interactions would be at order one, beside what the lesser coordinates do alone
LARGE = 0.2  # the deleted fraction of the weights from which that holds; below, the orders shrink with its square root
FASTEST = 2.0  # the largest growth from an order to the next that is believed: a tiny order before says nothing


class Sizes(NamedTuple):
    """The mean square of every order over deletions of one length, in two parts.

    Attributes:
        pure: (k, Q), of the coefficient of ``z_j^r``, mean over the coordinates j; of order one all is pure.
        mixed: (k, Q), of the rest, for deletions of length one.
    """

    pure: np.ndarray
    mixed: np.ndarray

    def at(self, z: np.ndarray) -> np.ndarray:
        """The typical size of every order at coordinates z (B, q): (B, k, Q).

        ``S_r(z)² = pure_r Σ_j z_j^2r + mixed_r (|z|^2r - Σ_j z_j^2r)``: what P_r(z)² is in the mean over polynomials
        whose coefficients have random signs, all coordinates alike.
        """
        squares, orders = z * z, range(1, len(self.pure) + 1)
        alone = np.stack([(squares**r).sum(1) for r in orders], 1)[..., None]
        every = np.stack([squares.sum(1) ** r for r in orders], 1)[..., None]
        return np.sqrt(alone * self.pure + np.maximum(every - alone, 0) * self.mixed)


def sizes_along(psi: np.ndarray, coefficients: np.ndarray, interactions: bool = False) -> Sizes:
    """How large the orders are along directions, and how much of it the pure powers ``z_j^r`` are.

    ``E|c_r|² = C Σ_j b_j² + rest`` with ``C = E|ψ_j|^2r = 1 / C(q+r-1, r)`` and b_j the coefficient of ``z_j^r``, for
    different monomials are orthogonal. ``E Re[conj(ψ_j)^r c_r] = C b_j``, so pairs of different directions estimate
    ``Σ_j b_j²`` without bias.

    Args:
        psi: (m, q) complex, independent and uniform on the unit sphere.
        coefficients: (m, k, Q) complex.
        interactions: whether there are no pure powers above order one.
    """
    m, k, _ = coefficients.shape
    q = psi.shape[1]
    pure, mixed = [], []
    for r in range(1, k + 1):
        c, one = coefficients[:, r - 1], 1 / math.comb(q + r - 1, r)
        size = (c.real**2 + c.imag**2).mean(0)
        if r == 1 or q == 1:
            alone = np.zeros_like(size) if interactions and r > 1 else size
        elif interactions:
            alone = np.zeros_like(size)
        else:
            powers = psi**r
            sums = powers.real.T @ c.real + powers.imag.T @ c.imag  # Σ_i Re[conj(ψ_ij)^r c_i], (q, Q)
            own = (powers.real**2).sum(1) @ c.real**2 + (powers.imag**2).sum(1) @ c.imag**2
            own += 2 * (powers.real * powers.imag).sum(1) @ (c.real * c.imag)  # a direction paired with itself
            alone = np.clip(((sums**2).sum(0) - own) / (m * (m - 1)) / one, 0, size)
        pure.append(alone / (q * one))
        mixed.append((size - alone) / (1 - q * one) if r > 1 and q > 1 else np.zeros_like(size))
    return Sizes(np.array(pure), np.array(mixed))


def unlike_directions(z: np.ndarray) -> np.ndarray:
    """How little the directions say about deletions with coordinates z (B, q), (B,): from 0, nothing special, to 1.

    The root of ``FEW / N + φ``: ``N = |z|⁴ / Σ_j z_j⁴`` is the number of coordinates that take part, and
    ``φ = (Σ_j z_j)² / (q |z|²)`` the share of the one direction that all coordinates have in common. For deleting N of
    q that is ``N / q``.
    """
    length = (z * z).sum(1)
    common = z.sum(1) ** 2 / (z.shape[1] * np.where(length > 0, length, 1))
    return np.sqrt(np.minimum(1, FEW / _participants(z) + common))


def _participants(z: np.ndarray) -> np.ndarray:
    """How many coordinates take part in deletions z (B, q), at least 1."""
    squares = z * z
    fourth = (squares**2).sum(1)
    return np.divide(squares.sum(1) ** 2, fourth, out=np.ones(len(z)), where=fourth > 0)


def continued(
    terms: np.ndarray, used: np.ndarray, bend: Any = 1.0, first: np.ndarray | None = None, lowest: int = 1
) -> tuple[np.ndarray, np.ndarray]:
    """A deletion's own terms continued to the first order left out, (B, Q), and whether they decay, (B, Q).

    Each shrinks by the factor ``DECAY`` an order (or by that of the last two, if they decay more slowly), and the
    largest continuation counts, because a single term may be small by cancellation.

    Args:
        terms: (B, k, Q).
        used: (B, k, Q) booleans, a leading run of orders.
        bend: (B, 1), by what to multiply the first order: small deletions bend less.
        first: (B, Q), the size of the first order without cancellation between coordinates, where it is known.
        lowest: the first order that is not zero by construction: 2 for interactions.
    """
    count = used.sum(1)
    size = np.abs(terms)

    def at(index: Any) -> np.ndarray:
        return np.take_along_axis(size, np.clip(index, 0, terms.shape[1] - 1)[:, None], 1)[:, 0]

    last, before = at(count - 1), at(count - 2)
    comparable = count > lowest
    decays = ~comparable | (last < before) | (last == 0)
    slow = comparable & (last > DECAY * before)
    ratio = np.divide(last, before, out=np.ones_like(last), where=before > 0)
    rate = np.where(slow, np.minimum(ratio, 1.0), DECAY)
    begin = size[:, 0] if first is None else np.maximum(size[:, 0], first)
    size = np.concatenate([(bend * begin)[:, None], size[:, 1:]], 1)
    ahead = count[:, None] - np.arange(terms.shape[1])[:, None]  # orders from each term to the first left out
    return np.where(used, size * rate[:, None] ** np.maximum(ahead, 0), 0.0).max(1), decays


def truncation(
    terms: np.ndarray,
    used: np.ndarray,
    z: np.ndarray,
    fraction: np.ndarray,
    sizes: np.ndarray,
    lost: Any = 0.0,
    first: np.ndarray | None = None,
    lowest: int = 1,
) -> tuple[np.ndarray, np.ndarray]:
    """The size of what a prediction leaves out, (B, Q), and whether its used terms decay, (B, Q).

    ``sqrt(TYPICAL² (lost + S_{k+1}² + S_{k+2}²) + (unlike · own)²)``. The typical sizes S go on by the last ratio,
    ``ρ = S_k / S_{k-1} · k² / (k² - 1)``: ratios of the coefficients 1/r of a logarithm grow like that. ``own`` is what
    the deletion's own terms continue to.

    Args:
        terms: (B, k, Q).
        used: (B, k, Q) booleans, a leading run of orders.
        z: (B, q).
        fraction: (B,), how much of the weights is deleted.
        sizes: (B, k, Q), the typical sizes, of order one the whole of it and of the others what is estimated.
        lost: (B, Q), the mean square of what is left of the orders not used.
        first: (B, Q), the size of the first order without cancellation between coordinates, where it is known.
        lowest: the first order that is not zero by construction: 2 for interactions.
    """
    k, bend = terms.shape[1], np.minimum(1, np.sqrt(fraction / LARGE))[:, None]
    own, decays = continued(terms, used, bend, first, lowest)
    last, before = sizes[:, -1], sizes[:, -2] if k > 1 else sizes[:, -1]
    if k < lowest:  # one coordinate alone has no interactions
        last = last * np.sqrt(1 - 1 / _participants(z))[:, None]
    ratio = np.divide(last, before, out=np.full_like(last, DECAY), where=before > 0)
    ratio = np.minimum(ratio * k * k / (k * k - 1), FASTEST) if k > 1 else ratio * DECAY * bend
    ahead = (last * ratio) ** 2 * (1 + np.minimum(ratio, 1) ** 2)
    return np.hypot(TYPICAL * np.sqrt(lost + ahead), unlike_directions(z)[:, None] * own), decays
