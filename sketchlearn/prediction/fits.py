"""Fits of Taylor orders, and the mean over directions of what they leave."""

from __future__ import annotations

import numpy as np
from jaxtyping import Complex, Float

from sketchlearn.prediction import interpolation
from sketchlearn.prediction.averages import average
from sketchlearn.prediction.base import Estimate, EstimationProblem
from sketchlearn.prediction.interpolation import Fitted
from sketchlearn.prediction.sizes import fraction_of, sizes_along


def fitted(problem: EstimationProblem, orders: int) -> Estimate:
    """Fits of the first ``orders`` orders, the mean of the others, and the sizes by which they are judged.

    Args:
        problem: what was measured, and what is asked.
        orders: how many orders to fit; one with too many equations is averaged all the same, with a note.
    """
    fits, estimated_by = zip(*(fit_order(problem, r, r <= orders) for r in range(1, problem.degree + 1)), strict=True)
    c = problem.coefficients
    # of an order that is solved for, which leaves nothing, all of it
    left = np.stack([f.residuals if f.residuals.any() else c[:, r] for r, f in enumerate(fits)], 1)
    expected = sizes_along(problem.directions, left, problem.interactions).at(problem.deletions)
    remaining = problem.sizes * fraction_of(left, problem.measured)
    costly = [r for r in range(1, orders + 1) if problem.equations.too_many(r)]
    notes: tuple[str, ...] = ()
    if costly:
        most = interpolation.MOST_EQUATIONS
        notes = (f"orders {costly} are averaged, not fitted: more than {most} equations would be solved.",)
    estimate = with_fits(problem.powers, list(fits), problem.dim, expected, remaining)
    return estimate._replace(estimated_by=estimated_by, notes=notes)


def fit_order(problem: EstimationProblem, order: int, wanted: bool = True) -> tuple[Fitted, str]:
    """The fit of one order that leaves least, with coordinates alike or scaled by what they do at first order; or none.

    Returns:
        The fit, and how it was made, in words.
    """
    c, z = problem.coefficients[:, order - 1], problem.deletions
    if not wanted or problem.equations.too_many(order):
        nothing = np.zeros((len(z), c.shape[1]))
        return Fitted(nothing, c, nothing, np.zeros(c.shape[1], bool)), "mean"
    alike = problem.equations.of(order)
    best = alike.fit(c, z, problem.rounding)
    if alike.determined:
        return best, "solved for"
    how = "kernel, and the mean of what it leaves"
    if order > 1 and problem.coordinate_scales is not None:
        other = problem.equations.of(order, problem.coordinate_scales()).fit(c, z, problem.rounding)
        better = (np.abs(other.residuals) ** 2).sum(0) < (np.abs(best.residuals) ** 2).sum(0)
        best = Fitted(*(np.where(better, a, b) for a, b in zip(other, best, strict=True)))
        how += f"; coordinates scaled by their first order in {better.sum()} of {len(better)} outputs"
    return best, how


def with_fits(
    powers: Complex[np.ndarray, "k m B"],
    fits: list[Fitted],
    dim: int,
    expected: Float[np.ndarray, "B k Q"],
    remaining: Float[np.ndarray, "B k Q"],
) -> Estimate:
    """Fits of every order, plus the mean over directions of what they leave; exact where a fit is.

    Where that mean is mostly noise, a share of it is better than all: ``shrunk`` is the fit, if that is beyond chance,
    and ``S² / (S² + e²)`` of what the sum says beyond it, for a remainder of expected size S and a standard error e
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
    left, covariance = average(powers, np.stack([fit.residuals for fit in fits], 1), dim)
    covariance = covariance + _on_diagonal(np.stack([fit.variance for fit in fits], 1))
    values = np.stack([fit.values for fit in fits], 1)
    terms, sure = left + values, values * np.stack([fit.beyond_chance for fit in fits])
    signal, noise = expected**2, np.maximum(np.einsum("brrq->brq", covariance), 0)
    share = np.divide(signal, signal + noise, out=np.ones_like(noise), where=noise > 0)
    error = share**2 * noise + (1 - share) ** 2 * remaining**2
    return Estimate(
        terms, covariance, expected=expected, shrunk=sure + share * (terms - sure), shrunk_error=error,
        num_directions=powers.shape[1],
    )  # fmt: skip


def _on_diagonal(variances: np.ndarray) -> np.ndarray:
    """(B, k, Q) as the diagonals of (B, k, k, Q)."""
    return np.einsum("brq,rs->brsq", variances, np.eye(variances.shape[1]))
