"""Which orders count, and which are lost in noise."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float

from sketchlearn.prediction.base import Estimate
from sketchlearn.prediction.calibration import CALIBRATION, Calibration


def orders_that_count(
    estimate: Estimate, exact_change: Float[np.ndarray, "B Q"] | None = None, calibration: Calibration = CALIBRATION
) -> Bool[np.ndarray, "B k Q"]:
    """Which orders to use, (B, k, Q): all before the first that is lost in noise.

    An order is lost in noise if its standard error is larger than the order is expected to be. But a term that exceeds
    ``clear_errors`` standard errors is there, whatever was expected; among many deletions chance makes some as large,
    so the error must also be below a quarter of the largest term before, lest such chances harm. Order one has none
    before it and stands for itself: where directions are too few to solve for it, it counts from four standard errors
    on, and else by the share that is expected not to be noise. So a sketch that knows nothing says nothing.

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
    counts = (errors <= estimate.expected) | clear
    return np.cumprod(counts, axis=1).astype(bool)
