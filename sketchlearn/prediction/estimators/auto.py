"""The default: the kernel, without the orders that are lost in noise."""

from __future__ import annotations

from sketchlearn.prediction.base import Estimate, EstimationProblem, register
from sketchlearn.prediction.fits import fitted


@register(
    "auto", "the default: the kernel; an order lost in noise is shrunk to what is expected not to be noise", solves=True
)
def auto(problem: EstimationProblem) -> Estimate:
    """Fits of all orders, and the sizes by which orders are dropped."""
    return fitted(problem, orders=problem.degree)
