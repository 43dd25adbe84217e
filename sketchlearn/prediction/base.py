"""What an estimator is: a function from an :class:`EstimationProblem` to an :class:`Estimate`, with a name.

A newcomer starts here. An estimator is given what was measured, the coefficients ``c_ir`` of a query along random
directions ``ψ_i``, and what is asked, deletions with coordinates z; it says how large the Taylor terms ``P_r(z)`` are,
and how uncertain. To add one, write a file in ``estimators/``:

    @register("trimmed_mean", "the mean without the largest tenth of the contributions")
    def trimmed_mean(problem: EstimationProblem) -> Estimate:
        ...

and import it in ``estimators/__init__.py``. It is then known to ``Sketch.predict``, to the command line, to the error
messages and to the reference in the book. Everything in this room is NumPy, with m directions, k orders, q coordinates,
Q outputs of the query and B deletions.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from jaxtyping import Complex, Float

from sketchlearn.prediction.averages import powers_along
from sketchlearn.prediction.calibration import CALIBRATION, Calibration
from sketchlearn.prediction.equations import Equations
from sketchlearn.prediction.sizes import sizes_along


@dataclasses.dataclass(frozen=True, eq=False)
class EstimationProblem:
    """What is to be estimated, from what. Nothing in it is changed; a step makes a new one.

    Attributes:
        directions: (m, q) complex, the ``ψ_i``, uniform on the unit sphere.
        deletions: (B, q), coordinates z relative to the point of expansion.
        coefficients: (m, k, Q) complex, the ``c_ir``, without what is known exactly.
        measured: (m, k, Q) complex: the coefficients with the first order, which counts as a size even where it is
            known exactly, and before a control variate was subtracted.
        equations: of every order along the directions, factorised once for all queries of a sketch.
        interactions: whether the polynomials are without pure powers ``z_j^r``, as they are where it is known what
            each coordinate does by itself.
        coordinate_scales: a function that returns (q,), how much each coordinate matters at first order, squared;
            None where that is not known without noise.
        rounding: the relative precision of the coefficients.
        failure: the probability δ with which a guarantee may fail, for estimators that give one.
        calibration: the numbers that no theory gives.
    """

    directions: Complex[np.ndarray, "m q"]
    deletions: Float[np.ndarray, "B q"]
    coefficients: Complex[np.ndarray, "m k Q"]
    measured: Complex[np.ndarray, "m k Q"]
    equations: Equations
    interactions: bool = False
    coordinate_scales: Callable[[], np.ndarray] | None = None
    rounding: float = 2.2e-16
    failure: float = 0.05
    calibration: Calibration = CALIBRATION

    @property
    def degree(self) -> int:
        """k."""
        return self.coefficients.shape[1]

    @property
    def dim(self) -> int:
        """q."""
        return self.directions.shape[1]

    @functools.cached_property
    def powers(self) -> Complex[np.ndarray, "k m B"]:
        """(k, m, B), the ``<ψ_i, z>^r`` that the coefficients are weighted with."""
        return powers_along(self.directions, self.deletions, self.degree, self.interactions)

    @functools.cached_property
    def sizes(self) -> Float[np.ndarray, "B k Q"]:
        """(B, k, Q), how large each order is at deletions of these lengths, by what it is along the directions."""
        return sizes_along(self.directions, self.measured, self.interactions).at(self.deletions)


class Estimate(NamedTuple):
    """What an estimator says of the terms ``P_r(z)``, r = 1..k, for B deletions and Q outputs.

    Attributes:
        terms: (B, k, Q).
        covariance: (B, k, k, Q), of the terms.
        estimated_by: (k,), how each order was estimated, in words.
        change: (B, Q), where it is not the sum of the terms (a median of sums is not the sum of medians); else None.
        expected: (B, k, Q), the size that what was averaged or solved for is expected to have: an order whose standard
            error is larger is dropped (:func:`~sketchlearn.prediction.significance.orders_that_count`). None if all
            orders shall be used.
        shrunk: (B, k, Q), what to say of an order that is dropped; None for nothing.
        shrunk_error: (B, k, Q), the mean square error of that.
        notes: what the user should know, in sentences.
        num_directions: m, from whose spread the covariance was estimated; None where it is no estimate.
    """

    terms: Float[np.ndarray, "B k Q"]
    covariance: Float[np.ndarray, "B k k Q"]
    estimated_by: tuple[str, ...] = ()
    change: Float[np.ndarray, "B Q"] | None = None
    expected: Float[np.ndarray, "B k Q"] | None = None
    shrunk: Float[np.ndarray, "B k Q"] | None = None
    shrunk_error: Float[np.ndarray, "B k Q"] | None = None
    notes: tuple[str, ...] = ()
    num_directions: int | None = None

    @property
    def standard_errors(self) -> Float[np.ndarray, "B k Q"]:
        """The standard error of every term, (B, k, Q)."""
        return np.sqrt(np.maximum(np.einsum("brrq->brq", self.covariance), 0))


class Estimator(NamedTuple):
    """A registered estimator.

    Attributes:
        name: as it is given to ``Sketch.predict``.
        summary: what it does, in a line.
        estimate: the function.
        fewest_directions: with fewer it has no standard error.
        solves: whether it solves for the first order where the directions determine it. What is left out is then
            judged by that, too.
    """

    name: str
    summary: str
    estimate: Callable[[EstimationProblem], Estimate]
    fewest_directions: int = 2
    solves: bool = False


ESTIMATORS: dict[str, Estimator] = {}


def register(
    name: str, summary: str, fewest_directions: int = 2, solves: bool = False
) -> Callable[[Callable[[EstimationProblem], Estimate]], Callable[[EstimationProblem], Estimate]]:
    """Make a function known as the estimator of this name; see :class:`Estimator` for the arguments."""

    def known(estimate: Callable[[EstimationProblem], Estimate]) -> Callable[[EstimationProblem], Estimate]:
        if name in ESTIMATORS:
            raise ValueError(f"there is an estimator {name!r} already.")
        ESTIMATORS[name] = Estimator(name, summary, estimate, fewest_directions, solves)
        return estimate

    return known


def estimators() -> dict[str, str]:
    """The estimators that ``Sketch.predict`` knows, each with a line that says what it does.

    Example:
        >>> import sketchlearn as sl
        >>> list(sl.estimators())
        ['auto', 'kernel', 'least_squares', 'mean', 'median_of_means']
    """
    return {name: ESTIMATORS[name].summary for name in sorted(ESTIMATORS)}


def find_estimator(name: str, num_directions: int) -> Estimator:
    """The estimator of this name, if so many directions are enough for it."""
    if name not in ESTIMATORS:
        raise ValueError(f"estimator must be one of {', '.join(map(repr, estimators()))}, got {name!r}.")
    chosen = ESTIMATORS[name]
    if num_directions < chosen.fewest_directions:
        raise ValueError(
            f"a standard error of the estimator {name!r} needs at least {chosen.fewest_directions} directions, this "
            f"sketch has {num_directions}."
        )
    return chosen
