"""Every order fitted by a kernel, and the mean of what the fits leave."""

from __future__ import annotations

from sketchlearn.prediction.base import Estimate, EstimationProblem, register
from sketchlearn.prediction.fits import fitted


@register(
    "kernel", "every order fitted (exact once 2m >= C(q+r-1, r)), and the mean of what the fits leave", solves=True
)
def kernel(problem: EstimationProblem) -> Estimate:
    """Fits of all orders, and no order is dropped."""
    return fitted(problem, orders=problem.degree)._replace(expected=None)
