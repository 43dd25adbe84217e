"""Order one solved for, the mean of the others."""

from __future__ import annotations

from sketchlearn.prediction.base import Estimate, EstimationProblem, register
from sketchlearn.prediction.fits import fitted


@register("least_squares", "order one solved for (exact once 2m >= q), the mean of the others", solves=True)
def least_squares(problem: EstimationProblem) -> Estimate:
    """A fit of order one, and no order is dropped."""
    return fitted(problem, orders=1)._replace(expected=None)
