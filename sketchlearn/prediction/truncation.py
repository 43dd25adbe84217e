"""What a prediction leaves out: what the directions say of it, and what a deletion's own terms say.

How large an order is *along the directions* is known without noise. Directions are alike, deletions are not: what the
directions say holds for a deletion of many coordinates that have little to do with one another, and a deletion of few,
or of nearly all, can be far from typical. So two guesses are combined (see :func:`truncation`), and how much the second
counts depends on the deletion (:func:`unlike_directions`).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from sketchlearn.prediction.calibration import CALIBRATION, Calibration


def unlike_directions(z: Float[np.ndarray, "B q"], few: float = CALIBRATION.few_coordinates) -> Float[np.ndarray, " B"]:
    """How little the directions say about deletions with coordinates z (B, q), (B,): from 0, nothing special, to 1.

    The root of ``few / N + φ``: ``N = |z|⁴ / Σ_j z_j⁴`` is the number of coordinates that take part, and
    ``φ = (Σ_j z_j)² / (q |z|²)`` the share of the one direction that all coordinates have in common. For deleting N of
    q that is ``N / q``.
    """
    return np.sqrt(np.minimum(1, few / _participants(z) + _common(z)))


def _common(z: np.ndarray) -> np.ndarray:
    """The share of the one direction that all coordinates have in common, in deletions z (B, q)."""
    length = (z * z).sum(1)
    return z.sum(1) ** 2 / (z.shape[1] * np.where(length > 0, length, 1))


def _aimed(moved: np.ndarray, typical: np.ndarray, by: Calibration) -> np.ndarray:
    """How surely a deletion was chosen to move the query, from 0 to 1: its first order beside the typical one."""
    ratio = np.divide(np.abs(moved), typical, out=np.zeros_like(moved), where=typical > 0)
    return np.clip(ratio / by.aimed_ratio - 1, 0, 1)


def _ahead(last: np.ndarray, ratio: np.ndarray) -> np.ndarray:
    """The mean square of the next two orders, which go on by a ratio from the last."""
    return (last * ratio) ** 2 * (1 + np.minimum(ratio, 1) ** 2)


def _participants(z: np.ndarray) -> np.ndarray:
    """How many coordinates take part in deletions z (B, q), at least 1."""
    squares = z * z
    fourth = (squares**2).sum(1)
    return np.divide(squares.sum(1) ** 2, fourth, out=np.ones(len(z)), where=fourth > 0)


def continued(
    terms: Float[np.ndarray, "B k Q"],
    used: Bool[np.ndarray, "B k Q"],
    bend: Any = 1.0,
    first: Float[np.ndarray, "B Q"] | None = None,
    lowest: int = 1,
) -> tuple[Float[np.ndarray, "B Q"], Bool[np.ndarray, "B Q"]]:
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
    terms: Float[np.ndarray, "B k Q"],
    used: Bool[np.ndarray, "B k Q"],
    z: Float[np.ndarray, "B q"],
    fraction: Float[np.ndarray, " B"],
    sizes: Float[np.ndarray, "B k Q"],
    moved: Float[np.ndarray, "B Q"],
    dropped_error: Any = 0.0,
    first: Float[np.ndarray, "B Q"] | None = None,
    lowest: int = 1,
    calibration: Calibration = CALIBRATION,
) -> tuple[Float[np.ndarray, "B Q"], Bool[np.ndarray, "B Q"]]:
    """The size of what a prediction leaves out, (B, Q), and whether its used terms decay, (B, Q).

    ``sqrt(excess² missing² + unlike² own² · missing² / all²)`` with ``missing² = dropped + S_{k+1}² + S_{k+2}²``. The
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
        dropped_error: (B, Q), the mean square error of what is said of the orders not used.
        first: (B, Q), the size of the first order without cancellation between coordinates, where it is known.
        lowest: the first order that is not zero by construction: 2 for interactions.
        calibration: the numbers that no theory gives.
    """
    by = calibration
    k, bend = terms.shape[1], np.minimum(1, np.sqrt(fraction / by.full_bend))[:, None]
    aimed = _aimed(moved, sizes[:, 0], by)
    own, decays = continued(terms, used, np.maximum(bend, aimed), first, lowest)
    last, before = sizes[:, -1], sizes[:, -2] if k > 1 else sizes[:, -1]
    if k < lowest:  # one coordinate alone has no interactions
        last = last * np.sqrt(1 - 1 / _participants(z))[:, None]
    ratio = np.divide(last, before, out=np.ones_like(last), where=before > 0)
    ratio = np.minimum(ratio * k * k / (k * k - 1), by.most_growth) if k > 1 else ratio * bend
    ahead = _ahead(last, ratio)
    missing, every = dropped_error + ahead, (sizes**2 * ~used).sum(1) + ahead
    share = np.divide(missing, every, out=np.ones_like(ahead), where=every > missing)
    own = np.maximum(unlike_directions(z, by.few_coordinates)[:, None], aimed) * own
    return np.sqrt(by.deletion_excess**2 * missing + share * own**2), decays


def truncation_of_quadratic(
    terms: Float[np.ndarray, "B 2 Q"],
    z: Float[np.ndarray, "B q"],
    sizes: Float[np.ndarray, "B 2 Q"],
    left: Float[np.ndarray, "B Q"],
    first: Float[np.ndarray, "B Q"],
    calibration: Calibration = CALIBRATION,
) -> tuple[Float[np.ndarray, "B Q"], Bool[np.ndarray, "B Q"]]:
    """The size of what two orders leave out, (B, Q), where the second is known in part; and whether it is the smaller.

    ``sqrt(excess² (left² + S_3² + S_4²) + own²)``. The typical sizes go on by ``ρ = S_2 / S_1 · 4/3``, as in
    :func:`truncation`. ``own`` is what a deletion adds that is not typical: ``bend`` times its second order beyond the
    typical one, and that whole by the share of the direction that all coordinates have in common; and its first
    order, where the deletion was chosen to move the query. Without noise, and with most of order two known, less room
    is needed than for a sketch.

    Args:
        terms: (B, 2, Q).
        z: (B, q).
        sizes: (B, 2, Q), typical, of order one and of the whole of order two.
        left: (B, Q), the typical size of what is not known of order two.
        first: (B, Q), the size of the first order without cancellation between coordinates.
        calibration: the numbers that no theory gives.
    """
    by, moved, bent = calibration, np.abs(terms[:, 0]), np.abs(terms[:, 1])
    typical = np.maximum(sizes[:, 0], first)
    ratio = np.divide(sizes[:, 1], sizes[:, 0], out=np.ones_like(left), where=sizes[:, 0] > 0)
    ratio = np.minimum(ratio * 4 / 3, by.most_growth)
    ahead = _ahead(sizes[:, 1], ratio)
    beyond = np.maximum(bent - sizes[:, 1], 0) ** 2 + _common(z)[:, None] * bent**2
    aimed = _aimed(moved, typical, by)
    own = by.curvature_bend**2 * beyond + (aimed * moved) ** 2
    return np.sqrt(by.curvature_excess**2 * (left**2 + ahead) + own), (bent < moved) | (bent == 0)
