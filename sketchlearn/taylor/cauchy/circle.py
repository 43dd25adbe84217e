"""What one circle says of the Taylor coefficients, how far it is to be believed, and what a smaller one objects."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np


class Circle(NamedTuple):
    """What one circle says: per leaf the scaled coefficients ``c_r ρ^r``, and their errors at that scale."""

    radius: float
    values: list[np.ndarray]  # f at the point itself
    scaled: list[np.ndarray]  # (P, ...): index r holds c_r ρ^r
    errors: list[np.ndarray]  # (P, ...)
    tree: Any
    contradicted: bool = False  # by a smaller circle
    patched: tuple[str, ...] = ()  # functions with a derivative rule in whose body a comparison falls on a tie

    def spectrum(self) -> np.ndarray:
        """``|c_r| ρ^r`` in norm over all outputs, shape (P,)."""
        return norms(self.scaled)

    @property
    def noise(self) -> float:
        """The level of the errors, relative to the size of the function."""
        size = max(self.spectrum().max(), float(np.sqrt(sum((v**2).sum() for v in self.values))))
        return float(norms(self.errors)[1] / max(size, 1e-150))

    @property
    def finite(self) -> bool:
        """Whether the function was finite on all of the circle."""
        return bool(np.isfinite(norms(self.errors)).all())

    @property
    def usable(self) -> bool:
        """Finite, and the errors are below the largest coefficient."""
        level = norms(self.errors)
        return self.finite and bool(level[1] <= 0.1 * self.spectrum().max() or not level.any())


def compared(circle: Circle, others: list[Circle]) -> Circle:
    """The circle, with its errors raised where it contradicts smaller ones.

    A circle around a singularity does not give Taylor coefficients. Many weak ones (the square roots of an optimizer)
    hide in rounding, but a smaller circle does not enclose them, and coefficients do not depend on the radius.
    """
    level = np.zeros(len(circle.scaled[0]))
    for other in others:
        if other.radius < circle.radius:
            lift = (circle.radius / other.radius) ** np.arange(len(level))
            with np.errstate(all="ignore"):  # high orders of a small circle are infinitely uncertain
                apart = norms([a - b * like(lift, b) for a, b in zip(circle.scaled, other.scaled, strict=True)])
                known = norms(circle.errors) + lift * norms(other.errors)
            level = np.maximum(level, np.where(apart > known, apart, 0.0))
    raised = [np.maximum(e, level.max()) for e in circle.errors]
    return circle._replace(errors=raised, contradicted=True) if level.any() else circle


def like(factor: np.ndarray, array: np.ndarray) -> np.ndarray:
    """A factor for each order, (P,), in the shape that multiplies an array (P, ...)."""
    return factor.reshape((-1,) + (1,) * (array.ndim - 1))


def norms(arrays: list[np.ndarray]) -> np.ndarray:
    """The norm of every order over all outputs: of leaves (P, ...), shape (P,)."""
    return np.sqrt(sum((np.abs(a) ** 2).reshape(len(a), -1).sum(1) for a in arrays))


def error_levels(scaled: np.ndarray, size: np.ndarray, change: np.ndarray, epsilon: float) -> np.ndarray:
    """The error of every ``c_r ρ^r``: rounding, the same for all orders, and aliasing ``c_{r+P} ρ^{r+P}``.

    Where the spectrum has stopped falling its last orders are rounding. Where it still
    falls they are coefficients: aliasing is then their geometric continuation. The zeroth
    coefficient is known to be 0, so what aliasing does not explain of it is rounding.
    """
    count = len(scaled)
    width = min(max(3, count // 8), count // 2)
    last, before = np.abs(scaled[-width:]).max(0), np.abs(scaled[-2 * width : -width]).max(0)
    falling = last < 0.3 * before
    ratio = np.where(falling, last / np.where(before > 0, before, 1), 0.0) ** (1 / width)
    orders = like(np.arange(count), scaled)
    aliasing = np.where(falling, last * ratio**orders, 0.0)
    zeroth = np.abs(scaled[0])
    # where orders still fall at the end, rounding is below them, and no more than that of the function's values
    hidden = np.maximum(np.where(zeroth > 2 * last, zeroth, 0.0), np.minimum(last, epsilon * size))
    rounding = np.where(falling, hidden, last) + epsilon * change
    return 4 * (rounding + aliasing)


def relative_errors(circles: list[Circle], degree: int) -> np.ndarray:
    """The best relative error of every order 1..degree, in norm over all outputs."""
    smallest = 1e-150
    ratios = [(norms(c.errors) / np.maximum(c.spectrum(), smallest))[1 : degree + 1] for c in circles]
    return np.min(ratios, axis=0)
