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
import math
import warnings
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from sketchlearn.errors import PrecisionWarning, check_count, check_degree
from sketchlearn.runtime.arrays import is_tracer
from sketchlearn.taylor.algebra import wide
from sketchlearn.taylor.cauchy.circle import Circle, compared, relative_errors
from sketchlearn.taylor.cauchy.points import CHUNK, program_at_points, run_circle
from sketchlearn.taylor.cauchy.search import Search
from sketchlearn.taylor.transform import check_line


class CauchyCoefficients(NamedTuple):
    """Coefficients with an error estimate for each, and the radii that were used.

    Attributes:
        coefficients: a pytree like the function's value, leading axis degree + 1.
        errors: the same shapes, real: the estimated absolute error of each coefficient.
        radii: radii that suffice for the tolerance (or for what was reached); passing them as ``radius`` for a
            similar direction saves the search.
        num_points: how many points the program was run at, all circles together.
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
    radius: float | Sequence[float] | None = None,
    num_points: int | None = None,
    tolerance: float | None = None,
    start: float | None = None,
) -> CauchyCoefficients:
    """The coefficients of ``t -> f(point + t·direction)`` from values of ``f`` on circles around 0.

    Args:
        f: a pure function of one pytree of real floating arrays.
        point: where to expand.
        direction: same structure and shapes as ``point``; real or complex.
        degree: the highest order wanted; a hundred is fine in float64.
        radius: use this circle (or these) alone; by default radii are chosen from the values until every order
            is resolved.
        num_points: points P on each circle; by default 28, or the multiple of 28 from 1.1 × degree on.
        tolerance: the relative error (in norm over all outputs, order by order) that the search for radii
            aims at; by default ``1e-12`` to degree 24 and ``1e-9`` above in float64, ``1e-4`` in float32.
        start: a radius that served a similar direction, if one is known: the search begins near it. Either way smaller
            circles of few points look for the scale first, where they are cheaper.

    Returns:
        :class:`CauchyCoefficients`.

    Warns:
        PrecisionWarning: some order could not be brought below a relative error of 1e-3 (or ten times the tolerance, if
            that is more); on given circles also where it may just be zero. Errors are read off the decay of the orders:
            a function that has none of the last orders of a circle, as ``x**30`` on 28 points, hides what is folded
            back into lower ones, and another ``num_points`` shows it.

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
    count = _checked_points(num_points, degree)
    fixed = _checked_radii(radius, start)
    size = np.sqrt(sum(float(jnp.sum(jnp.abs(d) ** 2)) for d in jax.tree.leaves(direction)))
    if size == 0:
        raise ValueError("direction is zero: along it the function is constant.")
    epsilon = max(float(jnp.finfo(wide(p.dtype)).eps) for p in jax.tree.leaves(point))
    if tolerance is None:
        tolerance = 1e-4 if epsilon > 1e-10 else 1e-12 if degree <= 24 else 1e-9
    circle_at = functools.partial(run_circle, program_at_points(f), point, direction, is_complex=is_complex)
    if fixed:
        circles = [circle for circle in (circle_at(rho, count) for rho in fixed) if circle.finite]
        circles = [compared(circle, circles) for circle in circles]
        smallest, spent, wall = min(fixed), count * len(fixed), 0.0  # whether larger circles show more is not known
    else:
        search = Search(degree, count, epsilon, tolerance)
        circles = search.run(circle_at, 1 / size, start)
        smallest, spent = search.tried[-1][0], search.spent
        wall = min([search.wall(), *(c.radius for c in circles if c.contradicted)])
    if not circles:
        raise ValueError(
            "the function has no finite values near the point along this direction (radii down to "
            f"{smallest:.1e} were tried). Does it return finite values at the point itself?"
        )
    return _collect(circles, degree, is_complex, spent, wall, tolerance)


def _checked_points(num_points: int | None, degree: int) -> int:
    count = CHUNK * max(1, math.ceil(1.1 * degree / CHUNK)) if num_points is None else num_points
    if check_count("num_points", count) <= degree:
        raise ValueError(f"num_points must exceed the degree, got {count} points for degree {degree}.")
    return int(count)


def _checked_radii(radius: float | Sequence[float] | None, start: float | None) -> list[float]:
    fixed = [] if radius is None else [float(rho) for rho in np.ravel(radius)]
    if not all(np.isfinite(rho) and rho > 0 for rho in fixed):
        raise ValueError(f"radius must be a positive number, or several, got {radius!r}.")
    if start is not None and not (np.isfinite(start) and start > 0):
        raise ValueError(f"start must be a positive radius, got {start!r}.")
    return fixed


def _collect(
    circles: list[Circle], degree: int, is_complex: bool, spent: int, wall: float, tolerance: float
) -> CauchyCoefficients:
    """For every coefficient the circle that promises the smallest error."""
    orders = np.arange(1, degree + 1)
    coefficients, errors = [], []
    for i, value in enumerate(circles[0].values):
        powers = [c.radius ** orders.astype(float).reshape((degree,) + (1,) * value.ndim) for c in circles]
        best_of = np.stack([c.scaled[i][1 : degree + 1] / p for c, p in zip(circles, powers, strict=True)])
        error = np.stack([c.errors[i][1 : degree + 1] / p for c, p in zip(circles, powers, strict=True)])
        best = error.argmin(0)[None]
        best_of, error = (np.take_along_axis(x, best, 0)[0] for x in (best_of, error))
        full = np.concatenate([value[None].astype(complex), best_of])
        precision = jnp.result_type(value.dtype, jnp.complex64) if is_complex else value.dtype
        coefficients.append(jnp.asarray(full if is_complex else full.real, precision))
        zeroth = np.abs(value)[None] * np.finfo(value.dtype).eps
        errors.append(jnp.asarray(np.concatenate([zeroth, error]), value.dtype))
    limit = max(1e-3, 10 * tolerance)
    unresolved = orders[relative_errors(circles, degree) > limit]
    # Orders lost in rounding on ever larger circles are zero; orders lost because no larger circle exists are not.
    if len(unresolved) and wall < 5 * max(c.radius for c in circles):
        warnings.warn(
            f"{len(unresolved)} of {degree} orders (the first: {unresolved[0]}) have an estimated relative error above "
            f"{limit:g}, if they are not zero; the errors returned by taylor.cauchy_coefficients say how large. Use "
            "float64, more points, a lower degree, or other radii.",
            PrecisionWarning,
            stacklevel=3,
        )
    if circles[0].patched:
        warnings.warn(
            f"{', '.join(circles[0].patched)}: a comparison inside falls on a tie at the point itself, as where a "
            "formula is replaced by its limit. Circles continue what is computed there, which may miss what the "
            'function\'s derivative rule knows: compare with method="series".',
            PrecisionWarning,
            stacklevel=3,
        )
    tree = circles[0].tree
    return CauchyCoefficients(
        tree.unflatten(coefficients), tree.unflatten(errors), _enough(circles, degree, tolerance), spent
    )


def _enough(circles: list[Circle], degree: int, tolerance: float) -> tuple[float, ...]:
    """The radii of as few circles as do what all of them do together, found greedily."""
    errors = {c.radius: relative_errors([c], degree) for c in circles}
    goal = np.maximum(tolerance, 3 * np.min(list(errors.values()), axis=0))
    chosen: list[float] = []
    unmet = np.ones(degree, bool)
    while unmet.any():
        best = max(errors, key=lambda rho: int((errors[rho] <= goal)[unmet].sum()))
        chosen.append(float(best))
        unmet &= errors[best] > goal
    return tuple(sorted(chosen))
