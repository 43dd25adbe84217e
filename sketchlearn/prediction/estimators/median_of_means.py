"""The median of the means of groups of directions: robust against heavy tails."""

from __future__ import annotations

import math

import numpy as np
from jaxtyping import Complex

from sketchlearn.prediction.averages import average
from sketchlearn.prediction.base import Estimate, EstimationProblem, register


@register("median_of_means", "the median of the means of groups of directions, robust", fewest_directions=4)
def median_of_means(problem: EstimationProblem) -> Estimate:
    """As many groups as the failure probability asks for, and a note where the directions make fewer."""
    m, failure = len(problem.directions), problem.failure
    groups = groups_for(failure, m)
    notes: tuple[str, ...] = ()
    if (reached := math.exp(-groups / 8)) > failure:
        notes = (
            f"{m} directions make {groups} groups, which guarantee a failure probability of "
            f"{reached:.2g}, not {failure:g}: use more directions.",
        )
    estimate = median_of_groups(problem.powers, problem.coefficients, problem.dim, groups)
    return estimate._replace(estimated_by=("median of means",) * problem.degree, notes=notes)


def median_of_groups(
    powers: Complex[np.ndarray, "k m B"], coefficients: Complex[np.ndarray, "m k Q"], dim: int, num_groups: int
) -> Estimate:
    """The median of the averages of ``num_groups`` groups of directions.

    With p groups of m/p directions the change is off by more than twice a group's
    standard deviation with probability at most ``exp(-p/8)``. Each term is the median of
    its own averages; the change is the median of the groups' changes. Standard errors are those of
    the median of many groups, ``sqrt(π/2p)`` times their spread; for two groups that is a quarter too large.

    Args:
        powers: (k, m, B) complex.
        coefficients: (m, k, Q) complex.
        dim: q.
        num_groups: p, at most m.
    """
    groups = np.array_split(np.arange(powers.shape[1]), num_groups)
    means = np.stack([average(powers[:, g], coefficients[g], dim)[0] for g in groups])  # (p, B, k, Q)
    centred = means - means.mean(0)
    covariance = np.einsum("pbrq,pbsq->brsq", centred, centred) / max(num_groups - 1, 1)
    change = np.median(means.sum(2), 0)
    return Estimate(np.median(means, 0), covariance * math.pi / (2 * num_groups), change=change)


def groups_for(failure: float, num_directions: int) -> int:
    """How many groups a failure probability δ asks for: ``p = 8 ln(1/δ)``.

    Example:
        >>> groups_for(0.05, 500)
        24
    """
    if not 0 < failure < 1:
        raise ValueError(f"failure must be a probability between 0 and 1, got {failure!r}.")
    return max(2, min(math.ceil(8 * math.log(1 / failure)), num_directions // 2))  # one group alone has no spread
