"""Taylor coefficients by Cauchy's integral: the same program at points of a circle, then an FFT.

``c_r = (1/P) Σ_j f(ρ ω^j) ω^{-jr} / ρ^r`` with ``ω = exp(2πi/P)``. It shares no
rule of arithmetic with the series, costs a number of runs that is linear in
the degree, and reaches degrees of a hundred and more. Two errors bound each
coefficient (Fornberg 1981; Bornemann 2011): rounding, ``ε max|f| / ρ^r``, asks
for a large radius; aliasing, ``c_{r+P} ρ^P``, for a small one. Both show as the level
to which the spectrum ``|c_r| ρ^r`` has fallen at its last orders, and that level over
``ρ^r`` is the error that is reported.
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ..algebra import Jet, Point
from ..errors import PrecisionWarning, check_degree, is_tracer
from .interpreter import Context
from .transform import check_line, evaluate, is_jet

MAX_RADII = 4
MAX_TRIALS = 40  # halvings of a radius that was too large count as well


class CauchyCoefficients(NamedTuple):
    """Coefficients with an error estimate for each, and the radii that were used.

    Attributes:
        coefficients: a pytree like the function's value, leading axis degree + 1.
        errors: the same shapes, real: the estimated absolute error of each coefficient.
        radii: the radii of the circles, in the order in which they were tried.
        num_points: how many times the program was run, all circles together.
    """

    coefficients: Any
    errors: Any
    radii: tuple[float, ...]
    num_points: int


def cauchy_coefficients(
    f: Callable,
    point: Any,
    direction: Any,
    degree: int,
    radius: float | None = None,
    num_points: int | None = None,
    tolerance: float | None = None,
) -> CauchyCoefficients:
    """The coefficients of ``t -> f(point + t·direction)`` from values of ``f`` on circles around 0.

    Args:
        f: a pure function of one pytree of real floating arrays.
        point: where to expand.
        direction: same structure and shapes as ``point``; real or complex.
        degree: the highest order wanted; a hundred is fine in float64.
        radius: use this circle alone; by default radii are chosen from the values until every order is resolved.
        num_points: points P on each circle; by default the larger of 32 and 1.6 × degree.
        tolerance: the relative error (in norm over all outputs, order by order) that the search for radii
            aims at; by default ``1e-9`` in float64 and ``1e-4`` in float32.

    Returns:
        :class:`CauchyCoefficients`.

    Warns:
        PrecisionWarning: some order could not be brought below a relative error of 1e-3.

    Example:
        >>> import jax.numpy as jnp, sketchlearn as sl
        >>> out = sl.taylor.cauchy_coefficients(lambda x: 1 / (1 - x), jnp.float32(0), jnp.float32(0.5), degree=3)
        >>> [round(float(c), 4) for c in out.coefficients]
        [1.0, 0.5, 0.25, 0.125]

    Source: Cauchy's integral formula with a trapezoidal sum; Bornemann, "Accuracy and stability of
    computing high-order derivatives of analytic functions by Cauchy integrals" (2011).
    """
    degree = check_degree(degree)
    if is_tracer((point, direction)):
        raise TypeError(
            "the Cauchy way chooses its radius from computed values, so it cannot run inside jit, vmap or grad; "
            'use method="series" there.'
        )
    point, direction, is_complex = check_line(point, direction)
    num_points = max(32, -(-8 * degree // 5)) if num_points is None else num_points
    if num_points <= degree:
        raise ValueError(f"num_points must exceed the degree, got {num_points} points for degree {degree}.")
    if radius is not None and not (np.isfinite(radius) and radius > 0):
        raise ValueError(f"radius must be a positive number, got {radius!r}.")
    size = np.sqrt(sum(float(jnp.sum(jnp.abs(d) ** 2)) for d in jax.tree.leaves(direction)))
    if size == 0:
        raise ValueError("direction is zero: along it the function is constant.")
    epsilon = max(float(jnp.finfo(p.dtype).eps) for p in jax.tree.leaves(point))
    if tolerance is None:
        tolerance = 1e-9 if epsilon < 1e-10 else 1e-4

    try:
        run = _runner(f)
    except TypeError:  # f cannot be hashed, so nothing can be remembered for the next call
        run = _runner.__wrapped__(f)
    circles: list[_Circle] = []
    rho, wall = radius or 1 / size, np.inf  # wall: the smallest radius at which the function could not be used
    for _ in range(MAX_TRIALS):
        circle = _circle(run, point, direction, rho, num_points, is_complex)
        if radius is not None:
            circles.append(circle)
            break
        if circle.usable:
            circles.append(circle)
        else:
            wall = min(wall, rho)
        if circles:
            poor = _relative_errors(circles, degree) > tolerance
            if not poor.any() or len(circles) == MAX_RADII:
                break
        wanted = _next_radius(circles, rho, wall, degree, epsilon)
        if wanted is None:
            break
        rho = wanted
    if not circles:
        raise ValueError(
            f"the function has no finite values near the point along this direction (radii down to {rho:.1e} were "
            "tried). Does it return finite values at the point itself?"
        )
    return _collect(circles, degree, is_complex, num_points, wall)


class _Circle(NamedTuple):
    """What one circle says: per leaf the scaled coefficients ``c_r ρ^r``, and their errors at that scale."""

    radius: float
    values: list[np.ndarray]  # f at the point itself
    scaled: list[np.ndarray]  # (P, ...): index r holds c_r ρ^r
    errors: list[np.ndarray]  # (P, ...)
    tree: Any

    def spectrum(self) -> np.ndarray:
        """``|c_r| ρ^r`` in norm over all outputs, shape (P,)."""
        return _norms(self.scaled)

    @property
    def usable(self) -> bool:
        """Finite, and the errors are below the largest coefficient."""
        level = _norms(self.errors)
        return bool(np.isfinite(level).all()) and bool(level[1] <= 0.1 * self.spectrum().max() or not level.any())


def _norms(arrays: list[np.ndarray]) -> np.ndarray:
    return np.sqrt(sum((np.abs(a) ** 2).reshape(len(a), -1).sum(1) for a in arrays))


def _error_levels(scaled: np.ndarray, size: np.ndarray, epsilon: float) -> np.ndarray:
    """The error of every ``c_r ρ^r``: rounding, the same for all orders, and aliasing ``c_{r+P} ρ^{r+P}``.

    Where the spectrum has stopped falling its last orders are rounding. Where it still
    falls they are coefficients: aliasing is then their geometric continuation. The zeroth
    coefficient is known to be 0, so what aliasing does not explain of it is rounding.
    """
    count = len(scaled)
    width = max(3, count // 8)
    last, before = np.abs(scaled[-width:]).max(0), np.abs(scaled[-2 * width : -width]).max(0)
    falling = last < 0.3 * before
    ratio = np.where(falling, last / np.where(before > 0, before, 1), 0.0) ** (1 / width)
    orders = np.arange(count).reshape((-1,) + (1,) * (scaled.ndim - 1))
    aliasing = np.where(falling, last * ratio**orders, 0.0)
    zeroth = np.abs(scaled[0])
    rounding = np.where(falling, np.where(zeroth > 2 * last, zeroth, 0.0), last) + epsilon * size
    return 4 * (rounding + aliasing)


@functools.lru_cache(maxsize=16)
def _runner(f: Callable) -> Callable:
    """Compiled ``(point, direction, t) -> (f(point), real parts, imaginary parts)`` of ``f(point + t d) - f(point)``."""

    def at(point: Any, direction: Any, t: tuple) -> Any:
        def jet(p: Any, d: Any) -> Jet:
            re, im = jnp.real(d).astype(p.dtype), jnp.imag(d).astype(p.dtype)
            return Jet(p, ((t[0] * re - t[1] * im, t[0] * im + t[1] * re),))

        algebra = Point()
        out = evaluate(f, Context(algebra), jax.tree.map(jet, point, direction))
        leaves, tree = jax.tree.flatten(out, is_leaf=is_jet)
        jets = [x if isinstance(x, Jet) else Jet(x, algebra.zeros(x)) for x in leaves]
        return tree.unflatten([x.primal for x in jets]), [x.parts[0] for x in jets]

    over_points = jax.vmap(at, (None, None, 0), (None, 0))
    return jax.jit(over_points)


def _circle(run: Callable, point: Any, direction: Any, rho: float, count: int, is_complex: bool) -> _Circle:
    used = count if is_complex else count // 2 + 1  # on a real line f(t̄) is the conjugate of f(t)
    t = rho * np.exp(2j * np.pi * np.arange(used) / count)
    dtype = jnp.result_type(*[p.dtype for p in jax.tree.leaves(point)])
    value, parts = run(point, direction, (jnp.asarray(t.real, dtype), jnp.asarray(t.imag, dtype)))
    leaves, tree = jax.tree.flatten(value)
    scaled, errors = [], []
    for leaf, (re, im) in zip(leaves, parts, strict=True):
        if jnp.iscomplexobj(leaf):
            raise TypeError("the Cauchy way needs a function with real values; return real and imaginary parts apart.")
        difference = np.asarray(re, np.float64) + 1j * np.asarray(im, np.float64)
        with np.errstate(all="ignore"):  # a circle that is too large overflows; it is judged below
            if is_complex:
                s = np.fft.fft(difference, axis=0) / count
            else:
                s = np.fft.hfft(difference, n=count, axis=0).astype(complex) / count
            level = np.abs(leaf) + np.abs(difference).max(0)
            errors.append(_error_levels(s, level, float(jnp.finfo(leaf.dtype).eps)))
        s[0] = 0
        scaled.append(s)
    return _Circle(rho, [np.asarray(v) for v in leaves], scaled, errors, tree)


def _relative_errors(circles: list[_Circle], degree: int) -> np.ndarray:
    """The best relative error of every order 1..degree, in norm over all outputs."""
    smallest = 1e-150
    ratios = [(_norms(c.errors) / np.maximum(c.spectrum(), smallest))[1 : degree + 1] for c in circles]
    return np.min(ratios, axis=0)


def _next_radius(circles: list[_Circle], rho: float, wall: float, degree: int, epsilon: float) -> float | None:
    """Where to look next: ``None`` when no circle promises more.

    With ``|c_r| ρ^r ~ q^r`` the relative error of order r is ``ε q^-r`` from rounding and
    ``q^P`` from aliasing; for the highest order both are equal at ``q = ε^{1/(degree + P)}``.
    """
    if not circles:
        return rho / 4
    circle = max(circles, key=lambda c: c.radius)
    s, count = circle.spectrum(), len(circle.scaled[0])
    resolved = np.flatnonzero(s[1:] > 10 * _norms(circle.errors)[1:]) + 1
    wanted = circle.radius * 4
    if len(resolved) > 1:
        top = int(resolved.max())
        step = max(1, min(8, top // 2))
        q = (s[top] / s[top - step]) ** (1 / step) if s[top - step] > 0 else 1.0
        balanced = circle.radius * float(np.clip(epsilon ** (1 / (degree + count)) / max(q, 1e-3), 1 / 16, 16))
        if not any(abs(np.log(balanced / c.radius)) < 0.1 for c in circles):
            wanted = balanced
    if wanted >= wall:
        wanted = float(np.sqrt(circle.radius * wall))
    return None if any(abs(np.log(wanted / c.radius)) < 0.1 for c in circles) else wanted


def _collect(
    circles: list[_Circle], degree: int, is_complex: bool, num_points: int, wall: float
) -> CauchyCoefficients:
    """For every coefficient the circle that promises the smallest error."""
    orders = np.arange(1, degree + 1)
    coefficients, errors = [], []
    for i, value in enumerate(circles[0].values):
        powers = [c.radius ** orders.astype(float).reshape((degree,) + (1,) * value.ndim) for c in circles]
        found = np.stack([c.scaled[i][1 : degree + 1] / p for c, p in zip(circles, powers, strict=True)])
        error = np.stack([c.errors[i][1 : degree + 1] / p for c, p in zip(circles, powers, strict=True)])
        best = error.argmin(0)[None]
        found, error = (np.take_along_axis(x, best, 0)[0] for x in (found, error))
        full = np.concatenate([value[None].astype(complex), found])
        precision = jnp.result_type(value.dtype, jnp.complex64) if is_complex else value.dtype
        coefficients.append(jnp.asarray(full if is_complex else full.real, precision))
        zeroth = np.abs(value)[None] * np.finfo(value.dtype).eps
        errors.append(jnp.asarray(np.concatenate([zeroth, error]), value.dtype))
    lost = orders[_relative_errors(circles, degree) > 1e-3]
    # Orders lost in rounding on ever larger circles are zero; orders lost because no larger circle exists are not.
    if len(lost) and wall < 5 * max(c.radius for c in circles):
        warnings.warn(
            f"{len(lost)} of {degree} orders (the first: {lost[0]}) are known to less than three digits; the errors "
            "returned by taylor.cauchy_coefficients say how well. Use float64, more points, or a lower degree.",
            PrecisionWarning,
            stacklevel=3,
        )
    tree, radii = circles[0].tree, tuple(float(c.radius) for c in circles)
    return CauchyCoefficients(tree.unflatten(coefficients), tree.unflatten(errors), radii, num_points * len(circles))
