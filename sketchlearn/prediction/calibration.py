"""The numbers behind estimators and intervals that no theory gives, all in one place."""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True)
class Calibration:
    """What was tuned: on three training programs, and judged on others (``python -m benchmarks.calibration``).

    The first five are the intervals'. They were chosen by coverage. The others belong to the estimators.

    Attributes:
        deletion_excess: by how much the orders of deletions exceed those of directions: deletions move all coordinates
            in one sense, directions in all.
        few_coordinates: up to so many coordinates a deletion is judged by its own terms.
        full_bend: the deleted fraction of the weights from which the first order counts in full as a guess for what
            is left out; below, less by its root.
        aimed_ratio: from so many times its typical first order on, a deletion was chosen to move the query: chance
            hardly does.
        most_growth: the largest growth from an order to the next that is believed: a tiny order before says nothing.
        clear_errors: standard errors from which on a term is there, however small such terms are elsewhere.
        harmless_error: of the largest term before: so large an error of a clear term does no harm.
        curvature_excess: by how much what a curvature leaves out exceeds the typical size that its products show.
        curvature_bend: how many times its own second order, as far as that is not typical, a deletion's higher orders
            may be. Both were chosen on microgpt with two lists of names and on digits, and judged on a run of microgpt
            from other initial weights (``python -m benchmarks --only curvature``).
        pure_share: the share of pure powers in an order above one, a guess; 0.1 to 0.5 serve microgpt alike, 0.5 the
            digits.
        fit_chance: the probability that a fit to nothing but noise counts as beyond chance, were it one fit; the best
            of a dozen is chosen.
        shrinkages: of a fit, relative to the mean eigenvalue of its equations; the one with the least leave-one-out
            error is taken.
    """

    deletion_excess: float = 2.0
    few_coordinates: float = 10.0
    full_bend: float = 0.2
    aimed_ratio: float = 1.5
    most_growth: float = 2.0
    clear_errors: float = 3.0
    harmless_error: float = 0.25
    curvature_excess: float = 1.3
    curvature_bend: float = 6.0
    pure_share: float = 0.5
    fit_chance: float = 0.02
    shrinkages: tuple[float, ...] = (1e-8, 1e-4, 1e-2, 1e-1, 1.0, 10.0)


CALIBRATION = Calibration()
