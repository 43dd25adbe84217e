"""What is known of a query without estimating it: subtracted from what is estimated, and added to the prediction.

Exact parts cost no noise, and what they leave is smaller.

* :class:`SingleCoordinates`: what each coordinate (an example, a group) does by itself. Retraining without it gives the
  end of its curve, a power series in real arithmetic the beginning. The directions then estimate interactions only.
* The first order: from :class:`SingleCoordinates`, from a gradient through training, or solved for.
* A part of the second order: leading eigenvectors of the Hessian, where products with it were made.
* A *control variate*: a part of the higher orders that the first order of the parameters determines.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Complex, Float

from sketchlearn.prediction.quadratic import Quadratic


class SingleCoordinates(NamedTuple):
    """The run with one coordinate moved at a time, for every coordinate: of parameters, or of a query.

    Attributes:
        ends: leaves (q, E, ...): trained with coordinate i moved by ``positions[i, e]``, to deleted and, if the
            centre is not 0, to kept. Of a query, the change from the centre, (q, E, Q).
        coefficients: leaves (q, k, ...), the orders 1..k along each coordinate.
        positions: (q, E).
    """

    ends: Any
    coefficients: Any
    positions: Float[np.ndarray, "q E"]

    def change(self, z: Float[np.ndarray, "B q"]) -> Float[np.ndarray, "B Q"]:
        """The sum of what each coordinate does by itself, (B, Q), at coordinates z (B, q) relative to the centre.

        Of a query. Between its ends a coordinate's curve is its series, and what the ends show to be missing at
        the orders k + 1 (and k + 2), so that it is exact at the ends and to order k.
        """
        k = self.coefficients.shape[1]
        total = sum((z**r) @ self.coefficients[:, r - 1] for r in range(1, k + 1))
        orders = np.arange(1, k + 1)
        by_series = np.einsum("ier,irq->ieq", self.positions[..., None] ** orders, self.coefficients)
        higher = k + 1 + np.arange(self.positions.shape[1])
        powers = self.positions[..., None] ** higher  # (q, E, E): what the missing orders are worth at the ends
        missing = np.linalg.pinv(powers) @ (self.ends - by_series)  # an end at the centre itself says nothing
        return total + sum((z**p) @ missing[:, j] for j, p in enumerate(higher))

    def powers(self, psi: Complex[np.ndarray, "m q"]) -> Complex[np.ndarray, "m k Q"]:
        """``Σ_i a_ir ψ_i^r``, (m, k, Q): what the coordinates by themselves contribute along directions (m, q)."""
        k = self.coefficients.shape[1]
        return np.stack([(psi**r) @ self.coefficients[:, r - 1] for r in range(1, k + 1)], 1)


class QueryJets(NamedTuple):
    """A query seen through a sketch, its outputs S flattened to Q.

    Attributes:
        query: the function; None where only its name is known.
        baseline: S, with nothing deleted.
        at_centre: (Q,), at the point of expansion.
        coefficients: (m, k, Q) complex, along the directions.
        singles: what each coordinate does by itself; None where that was not run.
    """

    query: Callable | None
    baseline: Float[np.ndarray, "..."]
    at_centre: Float[np.ndarray, " Q"]
    coefficients: Complex[np.ndarray, "m k Q"]
    singles: SingleCoordinates | None


class Exact(NamedTuple):
    """What is known exactly at B deletions.

    Attributes:
        change: (B, Q): the step to the centre, and what each coordinate does by itself.
        terms: (B, k, Q), of the Taylor terms: the first order of a gradient, and what a control variate says.
        first_order: (q, Q), of each coordinate; None where it is not known beforehand.
        source: where the first order is from, in words; empty where it is not known.
        interactions: whether what is left are interactions.
    """

    change: Float[np.ndarray, "B Q"]
    terms: Float[np.ndarray, "B k Q"]
    first_order: Float[np.ndarray, "q Q"] | None
    source: str
    interactions: bool


def known_exactly(
    jets: QueryJets,
    directions: Complex[np.ndarray, "m q"],
    z: Float[np.ndarray, "B q"],
    gradient: Float[np.ndarray, "q Q"] | None = None,
    control: tuple[Complex[np.ndarray, "m k Q"], Float[np.ndarray, "B k Q"]] | None = None,
    curvature: Quadratic | None = None,
) -> tuple[Exact, Complex[np.ndarray, "m k Q"], Complex[np.ndarray, "m k Q"]]:
    """Split coefficients into what is known exactly and what is left to estimate.

    Args:
        jets: of the query.
        directions: (m, q).
        z: (B, q), relative to the point of expansion.
        gradient: (q, Q), the exact first order, where it was given.
        control: a control variate: its coefficients (m, k, Q) and its exact terms (B, k, Q). It is weighted by
            regression over the directions, order by order.
        curvature: what is known of the second order. What it leaves is orthogonal to it, so that it counts in full.

    Returns:
        What is known; the coefficients (m, k, Q) that are left; and those coefficients as they were measured, whose
        sizes count: with the first order, and without the control variate.
    """
    change = np.tile(jets.at_centre - jets.baseline.reshape(-1).astype(float), (len(z), 1))
    c, first_order, source = jets.coefficients.astype(np.complex128), gradient, ""
    if jets.singles:
        change = change + jets.singles.change(z)
        c = c - jets.singles.powers(directions)
        first_order, source = jets.singles.coefficients[:, 0], "each coordinate by itself"
    elif gradient is not None:
        source = "the gradient given"
    measured = np.concatenate([jets.coefficients[:, :1].astype(np.complex128), c[:, 1:]], 1)
    if source:  # exactly: what is left has no first order
        c = np.concatenate([np.zeros_like(c[:, :1]), c[:, 1:]], 1)
    terms = np.zeros((len(z), *c.shape[1:]))
    if curvature is not None and c.shape[1] > 1:
        interactions = jets.singles is not None
        second = curvature.along(directions, interactions)[:, 1:], curvature.terms(z, interactions)[:, 1:]
        c = np.concatenate([c[:, :1], c[:, 1:2] - second[0], c[:, 2:]], 1)
        terms = np.concatenate([terms[:, :1], second[1], terms[:, 2:]], 1)
    if control is not None:
        share = _regression(c, control[0])
        c, terms = c - share * control[0], terms + share * control[1]
    if first_order is not None and not jets.singles:
        terms = np.concatenate([(terms[:, 0] + z @ first_order)[:, None], terms[:, 1:]], 1)
    return Exact(change, terms, first_order, source, jets.singles is not None), c, measured


def _regression(c: np.ndarray, control: np.ndarray) -> np.ndarray:
    """By how much of the control each order (k, Q) is explained; all of order one, or none where that is known."""
    square = (np.abs(control) ** 2).sum(0)
    share = (c * control.conj()).real.sum(0) / np.where(square > 0, square, 1)
    first = 1.0 if c[:, 0].any() else 0.0
    return np.concatenate([np.full_like(share[:1], first), share[1:]])
