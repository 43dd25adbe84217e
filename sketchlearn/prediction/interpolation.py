"""Interpolating one Taylor order from its values along the directions of a sketch.

``P_r`` is a homogeneous polynomial with real coefficients, and ``c_i = P_r(ψ_i)`` are two real equations
about it each. With the Bombieri inner product, ``P(x) = <P, (x·)^r>``, these polynomials form a
reproducing-kernel space with kernel ``k(x, y) = (x·y)^r``, so the polynomial of least norm that satisfies all
equations is known in closed form. It *is* ``P_r`` once the 2m equations determine it, ``2m >= C(q+r-1, r)``: for
r = 1 this is least squares. Below that it is a fit, too small where the equations say nothing.

A fit may be wrong without knowing it, so it is used as a control variate: the mean over directions of what each
direction's own fit, made without it, leaves of its coefficient is added back. For a shrinkage fixed beforehand the
sum is unbiased for every polynomial, and its noise is that of the residuals; choosing the shrinkage by the same
residuals pulls it towards zero by about a tenth of a standard error.
"""

from __future__ import annotations

import functools
import math
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Complex, Float

from sketchlearn.prediction.calibration import CALIBRATION, Calibration

DEPENDENT = 1e-13  # smallest over largest eigenvalue at which equations count as dependent
SPARE = 8  # directions beyond those that determine a polynomial twice
MOST_EQUATIONS = 4096  # of a fit, which takes the cube of their number: 20 s; above, the mean alone is used
EPSILON = float(np.finfo(float).eps)


class Fitted(NamedTuple):
    """A fit of one order for B deletions and Q queries.

    Attributes:
        values: (B, Q), the fit at the deletions; for a fit that leaves residuals, the average over the fits that
            leave out one direction.
        residuals: (m, Q) complex, what the fit without direction i leaves of ``c_i``; zero where it is exact.
        variance: (B, Q), of ``values`` by rounding and other noise of the coefficients, where the fit is exact.
        beyond_chance: (Q,) booleans, whether the fits explain directions that they have not seen, beyond chance.
    """

    values: Float[np.ndarray, "B Q"]
    residuals: Complex[np.ndarray, "m Q"]
    variance: Float[np.ndarray, "B Q"]
    beyond_chance: Bool[np.ndarray, " Q"]


def with_real(psi: Complex[np.ndarray, "m q"], z: Float[np.ndarray, "B q"]) -> Complex[np.ndarray, "m B"]:
    """``ψ_i · z_b``, (m, B), for complex rows ψ and real rows z: two real products, where NumPy would make four."""
    return psi.real @ z.T + 1j * (psi.imag @ z.T)


def inner_products(psi: Complex[np.ndarray, "m q"]) -> tuple[Complex[np.ndarray, "m m"], Complex[np.ndarray, "m m"]]:
    """``ψ_i · ψ_j`` and ``conj(ψ_i) · ψ_j``, (m, m) each, from three real products in place of eight."""
    re, im = np.ascontiguousarray(psi.real), np.ascontiguousarray(psi.imag)
    real, imaginary, across = re @ re.T, im @ im.T, re @ im.T
    return real - imaginary + 1j * (across + across.T), real + imaginary + 1j * (across - across.T)


class Interpolant:
    """The equations of one order along m directions, factorised once for all queries and deletions.

    Args:
        directions: (m, q) complex, the ``ψ_i``.
        order: r.
        scales: (q,) positive, or ``None``: how much each coordinate is expected to matter. The kernel
            becomes ``(Σ_j s_j x_j y_j)^r``; what is exact stays exact.
        pure: the share that pure powers ``x_j^r`` are expected to have in ``|P(ψ)|²``, or ``None``: that of
            ``(x·y)^r``, in which they are a few terms among very many. The kernel becomes
            ``(x·y)^r + (g - 1) Σ_j (x_j y_j)^r`` with g for this share. Zero says that the polynomial has none
            (interactions), so that there are q unknowns less.
        calibration: the shrinkages to try, and the chance of a fit to noise.

    Example:
        >>> import numpy as np
        >>> rng = np.random.default_rng(0)
        >>> psi = rng.normal(size=(3, 2)) + 1j * rng.normal(size=(3, 2))
        >>> c = psi @ np.array([[5.0], [7.0]])                              # a linear function of two variables
        >>> Interpolant(psi, 1).fit(c, np.array([[1.0, 1.0]])).values.round(6).tolist()
        [[12.0]]

    Source: minimal-norm interpolation and its leave-one-out residuals in closed form are textbook
    (Wahba, "Spline models for observational data", 1990); the Bombieri inner product is the one of
    Gunn, arXiv:2604.07328.
    """

    def __init__(
        self,
        directions: Complex[np.ndarray, "m q"],
        order: int,
        scales: Float[np.ndarray, " q"] | None = None,
        pure: float | None = None,
        calibration: Calibration = CALIBRATION,
    ):
        m, q = directions.shape
        self.order, self.scales = order, np.ones(q) if scales is None else np.asarray(scales, float)
        self.pure, self.calibration = pure, calibration
        self.unknowns = math.comb(q + order - 1, order) - q * (pure == 0)
        self.determined = 2 * m >= self.unknowns
        # twice as many equations as unknowns are plenty, and the cost is the cube of their number
        enough = min(self.unknowns + SPARE, max(MOST_EQUATIONS // 2, math.ceil(self.unknowns / 2)))
        self._factorise(directions[:enough] if self.determined else directions)
        if self.determined and self.eigenvalues[-self.unknowns] <= DEPENDENT * self.eigenvalues[-1]:
            self.determined = False  # enough in number, but directions that repeat each other say nothing new
            self._factorise(directions)

    def _factorise(self, directions: np.ndarray) -> None:
        """The Gram matrix of the equations Re P(ψ) and Im P(ψ), from (ψ_i·ψ_j)^r and (conj(ψ_i)·ψ_j)^r."""
        self.num_used = len(directions)
        self.psi, r = directions * np.sqrt(self.scales), self.order
        plain, mixed = (inner**r for inner in inner_products(self.psi))
        self.bonus = 0.0  # g - 1
        if self.pure is not None:
            pure = inner_products(self.psi**r)
            every, alone = (np.trace(a).real for a in (mixed, pure[1]))  # E|P(ψ)|² for the kernel, and for pure powers
            self.bonus = self.pure / (1 - self.pure) * (every - alone) / alone - 1
            plain, mixed = plain + self.bonus * pure[0], mixed + self.bonus * pure[1]
        both = (plain + mixed).imag / 2
        gram = np.block([[(mixed + plain).real / 2, both], [both.T, (mixed - plain).real / 2]])
        self.eigenvalues, self.vectors = np.linalg.eigh(gram)

    @functools.cached_property
    def _squares(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        re, im = np.split(self.vectors, 2)
        return re * re, im * im, re * im

    def _cross(self, z: np.ndarray) -> np.ndarray:
        """The inner products (2m, B) of the equations with the evaluations at z."""
        z, r = np.sqrt(self.scales) * z, self.order
        powers = with_real(self.psi, z) ** r
        if self.bonus:
            powers = powers + self.bonus * with_real(self.psi**r, z**r)
        return np.concatenate([powers.real, powers.imag])

    def fit(
        self, coefficients: Complex[np.ndarray, "m Q"], z: Float[np.ndarray, "B q"], rounding: float = 2.2e-16
    ) -> Fitted:
        """Fit the coefficients (m, Q) and evaluate at coordinates z (B, q).

        ``rounding`` is the relative precision in which the coefficients were computed.
        """
        return self._fit(coefficients, self._cross(z), rounding)

    def kernel_weights(self, coefficients: Complex[np.ndarray, "m Q"]) -> Complex[np.ndarray, "m Q"]:
        """β (m, Q) complex with ``fit(c, z).values = Σ_i Re[conj(β_i) k(ψ_i, z)]``: fits are linear in the kernel."""
        m = self.num_used
        values = self._fit(coefficients, np.eye(2 * m), EPSILON).values
        return values[:m] + 1j * values[m:]

    def _fit(self, coefficients: np.ndarray, cross: np.ndarray, rounding: float) -> Fitted:
        """The fit where the evaluations have inner products ``cross`` (2m, B) with the equations."""
        used = coefficients[: self.num_used]
        y = np.concatenate([used.real, used.imag])
        if not self.determined:
            return self._shrunk(y, cross)
        values, variance = self._exact(y, cross, rounding)
        return Fitted(values, np.zeros_like(coefficients, complex), variance, np.ones(y.shape[1], bool))

    def _exact(self, y: np.ndarray, cross: np.ndarray, rounding: float) -> tuple[np.ndarray, np.ndarray]:
        """The solution where the equations determine the polynomial; noise is read off what they contradict."""
        equations = len(y)
        u, values = self.vectors[:, -self.unknowns :], self.eigenvalues[-self.unknowns :]
        at = (u.T @ cross) / values[:, None]  # of the kept eigenvectors: weights of the equations
        inside = u.T @ y
        spare = equations - self.unknowns
        contradicted = ((y - u @ inside) ** 2).sum(0) / spare if spare else 0.0
        noise = np.maximum(contradicted, rounding**2 * (y**2).mean(0))
        solution = at.T @ inside
        solving = EPSILON * values[-1] / values[0] * np.abs(solution)  # what rounding of the eigenvectors can do
        return solution, (at**2).sum(0)[:, None] * noise + solving**2

    def weights(self, z: Float[np.ndarray, "B q"]) -> Float[np.ndarray, "equations B"]:
        """What each equation, real parts first, counts in the exact values at z: (2·num_used, B)."""
        if not self.determined:
            raise ValueError(f"{self.unknowns} unknowns are not determined by {2 * len(self.psi)} equations.")
        u, values = self.vectors[:, -self.unknowns :], self.eigenvalues[-self.unknowns :]
        return u @ ((u.T @ self._cross(z)) / values[:, None])

    def _shrunk(self, y: np.ndarray, cross: np.ndarray) -> Fitted:
        """A fit for fewer equations than unknowns: the shrinkage with the least leave-one-out error, or none."""
        m = len(y) // 2
        projected, inside = self.vectors.T @ cross, self.vectors.T @ y
        left = y[:m] + 1j * y[m:]
        before = np.abs(left) ** 2
        best, chosen = before.sum(0), np.full(y.shape[1], -1)
        mean_eigenvalue = self.eigenvalues.mean()
        for i, shrinkage in enumerate(self.calibration.shrinkages):
            residuals = self._left_out(inside, shrinkage * mean_eigenvalue)
            size = (np.abs(residuals) ** 2).sum(0)
            better = size < best
            left = np.where(better, residuals, left)
            best, chosen = np.where(better, size, best), np.where(better, i, chosen)
        values = np.zeros((cross.shape[1], y.shape[1]))
        for i in np.unique(chosen[chosen >= 0]):
            of = chosen == i
            inverse = 1 / (self.eigenvalues.clip(0) + self.calibration.shrinkages[i] * mean_eigenvalue)
            weights = projected * inverse[:, None]
            out = np.concatenate([left[:, of].real, left[:, of].imag])
            # the fit without direction i differs from the fit by (weights of i)·(residual of i)
            values[:, of] = weights.T @ (inside[:, of] - self.vectors.T @ out / m)
        return Fitted(
            values, left, np.zeros_like(values), _beyond_chance(before - np.abs(left) ** 2, self.calibration.fit_chance)
        )

    def _left_out(self, inside: np.ndarray, shrinkage: float) -> np.ndarray:
        """What the fit without direction i leaves of its coefficient: ``A_ii^{-1} (A y)_i``, 2 by 2 blocks of ``A``."""
        inverse = 1 / (self.eigenvalues.clip(0) + shrinkage)
        re, im = np.split(self.vectors @ (inside * inverse[:, None]), 2)
        a, d, b = ((s @ inverse)[:, None] for s in self._squares)
        determinant = a * d - b * b
        return ((d * re - b * im) + 1j * (a * im - b * re)) / determinant


def _beyond_chance(gain: np.ndarray, chance: float) -> np.ndarray:
    """Whether the mean of (m, Q) gains of independent directions is positive by Student's one-sided test, (Q,)."""
    from scipy.special import stdtrit  # slow to import

    m = len(gain)
    if m < 2:
        return np.zeros(gain.shape[1], bool)
    return gain.mean(0) > stdtrit(m - 1, 1 - chance) * gain.std(0, ddof=1) / math.sqrt(m)
