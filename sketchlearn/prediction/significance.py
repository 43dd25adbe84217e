"""Which orders count, and which are lost in noise."""

from __future__ import annotations

import math

import numpy as np
from jaxtyping import Bool, Float

from sketchlearn.prediction.base import Estimate
from sketchlearn.prediction.calibration import CALIBRATION, Calibration


def standing_out(num_directions: int, errors: float) -> float:
    """How many standard errors are as rare by chance as so many of a normal variable, if m directions tell the error.

    The quantile of Student's distribution with m - 1 degrees of freedom, in the approximation of Wallace.

    Args:
        num_directions: m, at least 2.
        errors: of a normal variable.

    Example:
        >>> round(standing_out(8, 4.0), 1), round(standing_out(1000, 4.0), 1)
        (8.6, 4.0)

    Source: Wallace, "Bounds on normal approximations to Student's and the chi-square distributions" (1959).
    """
    freedom = num_directions - 1
    normal = errors * (8 * freedom + 3) / (8 * freedom + 1)
    return math.sqrt(freedom * math.expm1(min(normal**2 / freedom, 100.0)))


def orders_that_count(
    estimate: Estimate, exact_change: Float[np.ndarray, "B Q"] | None = None, calibration: Calibration = CALIBRATION
) -> Bool[np.ndarray, "B k Q"]:
    """Which orders to use, (B, k, Q): all before the first that is lost in noise.

    An order is lost in noise if its standard error is larger than the order is expected to be. But a term that exceeds
    ``clear_errors`` standard errors is there, whatever was expected; among many deletions chance makes some as large,
    so the error must also be below a quarter of the largest term before, lest such chances harm. Order one has none
    before it: where directions are too few to solve for it, it must stand out from chance by itself
    (``standing_out``), or it counts by the share that is expected not to be noise. So a sketch that knows nothing
    says that nothing changes.

    Args:
        estimate: the estimates; of one without an expected size all orders count.
        exact_change: (B, Q), what the coordinates do by themselves, if the terms are interactions: it stands for the
            term before.
        calibration: the numbers that no theory gives.
    """
    if estimate.expected is None:
        return np.ones(estimate.terms.shape, bool)
    errors, size = estimate.standard_errors, np.abs(estimate.terms)
    largest = np.maximum.accumulate(size, 1)
    before = np.concatenate([largest[:, :1], largest[:, :-1]], 1)
    if exact_change is not None:
        before = np.maximum(before, np.abs(exact_change)[:, None])
    clear = (size >= calibration.clear_errors * errors) & (errors <= calibration.harmless_error * before)
    enough = 1 / calibration.harmless_error
    if estimate.num_directions is not None:
        enough = standing_out(estimate.num_directions, enough)
    clear[:, 0] = size[:, 0] >= enough * errors[:, 0]
    counts = (errors <= estimate.expected) | clear
    return np.cumprod(counts, axis=1).astype(bool)
