"""What a prediction leaves out: the size of an order at a typical deletion, and what a deletion's own terms say of it.

How large an order is *along the directions* is known without noise. Directions are alike, deletions are not: what the
directions say holds for a deletion of many coordinates that have little to do with one another, and a deletion of few,
or of nearly all, can be far from typical. So two guesses are combined (see :func:`truncation`), and how much the second
counts depends on the deletion (:func:`unlike_directions`).
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any, NamedTuple

import numpy as np


@dataclasses.dataclass(frozen=True)
class Calibration:
    """The numbers in the size of what is missing that no theory gives.

    Chosen by ``python -m benchmarks.calibration`` on three training programs, and judged on others: see there.

    Attributes:
        typical: by how much deletions exceed directions: they move in one sense, directions in all.
        few: up to so many coordinates a deletion is judged by its own terms.
        large: the deleted fraction of the weights from which the first order counts in full; below, less by its root.
        aimed: so many times its typical first order, chance hardly moves a query: the deletion was chosen for it.
        fastest: the largest growth from an order to the next that is believed: a tiny order before says nothing.
    """

    typical: float = 2.0
    few: float = 10.0
    large: float = 0.2
    aimed: float = 1.5
    fastest: float = 2.0


CALIBRATION = Calibration()


class Sizes(NamedTuple):
    """The mean square of every order over deletions of one length, in two parts.

    Attributes:
        pure: (k, Q), of the coefficients of ``z_j^r``; of order one all is pure.
        mixed: (k, Q), of the rest.
    """

    pure: np.ndarray
    mixed: np.ndarray

    def at(self, z: np.ndarray) -> np.ndarray:
        """The typical size of every order at coordinates z (B, q): (B, k, Q).

        ``S_r(z)² = pure_r Σ_j z_j^2r + mixed_r [|z|^2r - Σ_j z_j^2r]``: what P_r(z)² is in the mean over polynomials
        whose coefficients have random signs, and of each kind one size.
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
    k, q = coefficients.shape[1], psi.shape[1]
    pure, mixed = [], []
    for r in range(1, k + 1):
        c, one = coefficients[:, r - 1], 1 / math.comb(q + r - 1, r)
        size = (c.real**2 + c.imag**2).mean(0)
        if r > 1 and interactions:
            alone = np.zeros_like(size)
        elif r == 1 or q == 1:
            alone = size
        else:
            alone = np.clip(_squares_of_pure(psi**r, c) / one, 0, size)
        pure.append(alone / (one * q))
        mixed.append((size - alone) / (1 - q * one) if r > 1 and q > 1 else np.zeros_like(size))
    return Sizes(np.array(pure), np.array(mixed))


def _squares_of_pure(powers: np.ndarray, c: np.ndarray) -> np.ndarray:
    """``Σ_j (E Re[conj(ψ_j)^r c])²`` without bias from powers ``ψ_ij^r`` (m, q) and coefficients (m, Q): (Q,)."""
    m = len(c)
    re, im = np.ascontiguousarray(powers.real), np.ascontiguousarray(powers.imag)
    sums = re.T @ c.real + im.T @ c.imag  # (q, Q)
    own = (re * re).sum(1) @ c.real**2 + (im * im).sum(1) @ c.imag**2 + 2 * (re * im).sum(1) @ (c.real * c.imag)
    return ((sums**2).sum(0) - own) / (m * (m - 1))  # without what a direction is paired with itself


def fraction_of(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """How large a part of the coefficients is along the directions, root mean square, over the whole: (k, Q).

    For the size of what fits leave: its own pure powers say too little. Fits that leave out one direction at a time
    share all others, so that pairs of what they leave are negatively correlated (a factor of two in the size of
    order two, for microgpt's 1000 examples and 500 directions). The size alone is honest.

    Args:
        part: (m, k, Q) complex.
        whole: (m, k, Q) complex.
    """
    some, every = ((c.real**2 + c.imag**2).sum(0) for c in (part, whole))
    return np.sqrt(np.divide(some, every, out=np.zeros_like(some), where=every > 0))


def unlike_directions(z: np.ndarray, few: float = CALIBRATION.few) -> np.ndarray:
    """How little the directions say about deletions with coordinates z (B, q), (B,): from 0, nothing special, to 1.

    The root of ``few / N + φ``: ``N = |z|⁴ / Σ_j z_j⁴`` is the number of coordinates that take part, and
    ``φ = (Σ_j z_j)² / (q |z|²)`` the share of the one direction that all coordinates have in common. For deleting N of
    q that is ``N / q``.
    """
    length = (z * z).sum(1)
    common = z.sum(1) ** 2 / (z.shape[1] * np.where(length > 0, length, 1))
    return np.sqrt(np.minimum(1, few / _participants(z) + common))


def _participants(z: np.ndarray) -> np.ndarray:
    """How many coordinates take part in deletions z (B, q), at least 1."""
    squares = z * z
    fourth = (squares**2).sum(1)
    return np.divide(squares.sum(1) ** 2, fourth, out=np.ones(len(z)), where=fourth > 0)


def continued(
    terms: np.ndarray,
    used: np.ndarray,
    bend: Any = 1.0,
    first: np.ndarray | None = None,
    lowest: int = 1,
) -> tuple[np.ndarray, np.ndarray]:
    """How large a deletion's own terms make the first order left out, (B, Q), and whether they decay, (B, Q).

    As large as the largest of them, because a single term may be small by cancellation.

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
    decays = (count <= lowest) | (last < before) | (last == 0)
    begin = size[:, 0] if first is None else np.maximum(size[:, 0], first)
    size = np.concatenate([(bend * begin)[:, None], size[:, 1:]], 1)
    return np.where(used, size, 0.0).max(1), decays


def truncation(
    terms: np.ndarray,
    used: np.ndarray,
    z: np.ndarray,
    fraction: np.ndarray,
    sizes: np.ndarray,
    moved: np.ndarray,
    lost: Any = 0.0,
    first: np.ndarray | None = None,
    lowest: int = 1,
    calibration: Calibration = CALIBRATION,
) -> tuple[np.ndarray, np.ndarray]:
    """The size of what a prediction leaves out, (B, Q), and whether its used terms decay, (B, Q).

    ``sqrt(typical² missing² + unlike² own² · missing² / all²)`` with ``missing² = lost + S_{k+1}² + S_{k+2}²``. The
    typical sizes S go on by the last ratio, ``ρ = S_k / S_{k-1} · k² / (k² - 1)``: ratios of the coefficients 1/r of a
    logarithm grow like that. ``own`` is what the deletion's own terms say; ``unlike`` is that of
    :func:`unlike_directions`, or one if the deletion moves the query at first order by much more than is typical. Of
    ``all² = Σ S_r²``, over the orders not used, fits and means know a part: what is missing is the rest.

    Args:
        terms: (B, k, Q).
        used: (B, k, Q) booleans, a leading run of orders.
        z: (B, q).
        fraction: (B,), how much of the weights is deleted.
        sizes: (B, k, Q), the typical sizes, of order one the whole of it and of the others what is estimated.
        moved: (B, Q), the first order of the change.
        lost: (B, Q), the mean square of what is left of the orders not used.
        first: (B, Q), the size of the first order without cancellation between coordinates, where it is known.
        lowest: the first order that is not zero by construction: 2 for interactions.
        calibration: the numbers that no theory gives.
    """
    by = calibration
    k, bend = terms.shape[1], np.minimum(1, np.sqrt(fraction / by.large))[:, None]
    ratio = np.divide(np.abs(moved), sizes[:, 0], out=np.zeros_like(moved), where=sizes[:, 0] > 0)
    aimed = np.clip(ratio / by.aimed - 1, 0, 1)
    own, decays = continued(terms, used, np.maximum(bend, aimed), first, lowest)
    last, before = sizes[:, -1], sizes[:, -2] if k > 1 else sizes[:, -1]
    if k < lowest:  # one coordinate alone has no interactions
        last = last * np.sqrt(1 - 1 / _participants(z))[:, None]
    ratio = np.divide(last, before, out=np.ones_like(last), where=before > 0)
    ratio = np.minimum(ratio * k * k / (k * k - 1), by.fastest) if k > 1 else ratio * bend
    ahead = (last * ratio) ** 2 * (1 + np.minimum(ratio, 1) ** 2)
    missing, every = lost + ahead, (sizes**2 * ~used).sum(1) + ahead
    share = np.divide(missing, every, out=np.ones_like(ahead), where=every > missing)
    own = np.maximum(unlike_directions(z, by.few)[:, None], aimed) * own
    return np.sqrt(by.typical**2 * missing + share * own**2), decays
