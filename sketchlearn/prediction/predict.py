"""From numbers to a prediction, in pure steps: each makes new arrays and changes none.

``Sketch.predict`` reads the deletion and takes the jets of the query; what is known exactly is subtracted from them
(:func:`~sketchlearn.prediction.known.known_exactly`). Then, here: estimate each order, decide which orders count, size
what is missing, assemble.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float

from sketchlearn.prediction.base import Estimate, EstimationProblem, Estimator
from sketchlearn.prediction.known import Exact
from sketchlearn.prediction.result import Prediction, assemble
from sketchlearn.prediction.significance import orders_that_count
from sketchlearn.prediction.truncation import truncation


def predict(
    problem: EstimationProblem,
    exact: Exact,
    estimator: Estimator,
    baseline: Float[np.ndarray, "*S"],
    fractions: Float[np.ndarray, " B"],
    stacked: bool = True,
) -> Prediction:
    """What an estimator, and what is known exactly, say about deletions.

    Args:
        problem: what was measured, and what is asked.
        exact: what is known without it.
        estimator: a registered one.
        baseline: the query with nothing deleted, in its own shape.
        fractions: (B,), how much of the weights is deleted.
        stacked: whether a stack of deletions was asked for, or one.
    """
    estimate = with_exact_terms(estimator.estimate(problem), exact.terms)
    used = orders_that_count(estimate, exact.change if exact.interactions else None, problem.calibration)
    missing, decays = what_is_missing(problem, exact, estimate, used, fractions, estimator.solves)
    return assemble(estimate, exact, baseline, stacked, used, missing, decays)


def with_exact_terms(estimate: Estimate, terms: Float[np.ndarray, "B k Q"]) -> Estimate:
    """The estimate with what was taken out of the coefficients before, (B, k, Q), added again."""
    return estimate._replace(
        terms=estimate.terms + terms,
        change=None if estimate.change is None else estimate.change + terms.sum(1),
        shrunk=None if estimate.shrunk is None else estimate.shrunk + terms,
    )


def what_is_missing(
    problem: EstimationProblem,
    exact: Exact,
    estimate: Estimate,
    used: Bool[np.ndarray, "B k Q"],
    fractions: Float[np.ndarray, " B"],
    solves: bool,
) -> tuple[Float[np.ndarray, "B Q"], Bool[np.ndarray, "B Q"]]:
    """The size of what is left out, (B, Q), and whether the terms used decay, (B, Q).

    Args:
        problem: what was measured, and what is asked.
        exact: what is known without it.
        estimate: exact parts included.
        used: (B, k, Q), which orders are used.
        fractions: (B,), how much of the weights is deleted.
        solves: whether the first order is solved for where it is determined, so that its size is known, too.
    """
    z = problem.deletions
    moved = z @ exact.first_order if exact.interactions and exact.first_order is not None else estimate.terms[:, 0]
    dropped = np.zeros_like(exact.change)
    if estimate.expected is not None and estimate.shrunk_error is not None:
        dropped = (estimate.shrunk_error * ~used).sum(1)
    size = first_order_size(problem, exact) if solves else None
    lowest = 2 if exact.interactions else 1
    return truncation(
        estimate.terms, used, z, fractions, problem.sizes, moved, dropped, size, lowest, problem.calibration
    )


def first_order_size(problem: EstimationProblem, exact: Exact) -> Float[np.ndarray, "B Q"] | None:
    """The size of the first order without cancellation between coordinates, (B, Q), where it is known.

    For interactions, what the lesser coordinates do: the largest has them with those only.
    """
    z, effects = problem.deletions, exact.first_order
    if exact.interactions and effects is not None:
        squares = np.stack([(z * own) ** 2 for own in effects.T], -1)  # (B, q, Q)
        return np.sqrt(np.maximum(squares.sum(1) - squares.max(1), 0))
    if effects is None:
        if not problem.equations.solve_first:
            return None
        effects = problem.equations.first_order(problem.measured[:, 0])
    return np.sqrt(z**2 @ effects**2)
