"""The equations of every order along the directions of one sketch, factorised once and kept."""

from __future__ import annotations

import functools
import math

import numpy as np
from jaxtyping import Complex, Float, Num

from sketchlearn.prediction import interpolation
from sketchlearn.prediction.calibration import CALIBRATION, Calibration
from sketchlearn.prediction.interpolation import Interpolant

KEPT = 12  # a kept sketch of degree 3: the equations of all its orders, alike and scaled for three queries


class Equations:
    """The equations of every order, with coordinates alike or scaled.

    Args:
        directions: (m, q) complex.
        interactions: whether polynomials above order one are without pure powers.
        calibration: the numbers that no theory gives.
    """

    def __init__(
        self, directions: Complex[np.ndarray, "m q"], interactions: bool = False, calibration: Calibration = CALIBRATION
    ):
        self.directions, self.interactions, self.calibration = directions, interactions, calibration
        self._kept: dict[tuple[int, bytes | None], Interpolant] = {}

    def of(self, order: int, scales: Float[np.ndarray, " q"] | None = None) -> Interpolant:
        """The equations of an order, with coordinates alike or scaled by ``scales`` (q,); those made last are kept."""
        which = order, None if scales is None else scales.tobytes()
        if which not in self._kept:
            guessed = None if scales is None else self.calibration.pure_share
            pure = 0.0 if self.interactions and order > 1 else guessed
            if len(self._kept) >= KEPT:  # each holds (2m, 2m) eigenvectors
                self._kept.pop(next(iter(self._kept)))
            self._kept[which] = Interpolant(self.directions, order, scales, pure, self.calibration)
        return self._kept[which]

    def too_many(self, order: int) -> bool:
        """Whether a fit of this order would take more equations than can be solved in seconds."""
        m, q = self.directions.shape
        unknowns = math.comb(q + order - 1, order)
        return min(unknowns, 2 * m) > interpolation.MOST_EQUATIONS

    @functools.cached_property
    def solve_first(self) -> bool:
        """Whether they determine the first order."""
        return not self.too_many(1) and self.of(1).determined

    def first_order(self, coefficients: Num[np.ndarray, "m Q"]) -> Float[np.ndarray, "q Q"]:
        """The first order (q, Q) that the coefficients (m, Q) of order one determine."""
        return self.of(1).fit(coefficients.astype(complex), np.eye(self.directions.shape[1])).values
