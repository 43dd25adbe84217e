"""The mean over directions: the paper's estimator."""

from __future__ import annotations

from sketchlearn.prediction.averages import average
from sketchlearn.prediction.base import Estimate, EstimationProblem, register


@register("mean", "the mean over the directions, unbiased: the paper's")
def mean(problem: EstimationProblem) -> Estimate:
    """``P_r(z) ≈ mean_i C(q+r-1, r) Re[<ψ_i, z>^r c_ir]``."""
    terms, covariance = average(problem.powers, problem.coefficients, problem.dim)
    return Estimate(terms, covariance, ("mean",) * problem.degree)
