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

from ..algebra import Jet, Point, wide
from ..errors import PrecisionWarning, check_count, check_degree, is_tracer
from ..lanes import lanes, side_by_side
from ..precision import jit, matmul_precision
from .circles import Circle, compared, error_levels, norms, relative_errors
from .interpreter import Context
from .stand_ins import registered
from .transform import check_line, evaluate, is_jet

CHUNK = 28  # points of the first circles, which only look for the scale; larger circles have a multiple
LANE = 14  # points that one program runs at once
MAX_RADII = 4
MAX_PROBES = 4
MAX_TRIALS = 40  # radii that were too large count as well
SMALL_STEP = 1.12  # between radii, where the scale is known
WITNESS = 0.25  # the power of the precision at which, in radii, a further point of every circle lies: it decides ties
PROBE = 0.55  # of a radius that serves all orders: there a first, smaller circle shows the decay


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
    if num_points is None:
        num_points = CHUNK * max(1, math.ceil(1.1 * degree / CHUNK))
    num_points = check_count("num_points", num_points)
    if num_points <= degree:
        raise ValueError(f"num_points must exceed the degree, got {num_points} points for degree {degree}.")
    fixed = [] if radius is None else [float(rho) for rho in np.ravel(radius)]
    if not all(np.isfinite(rho) and rho > 0 for rho in fixed):
        raise ValueError(f"radius must be a positive number, or several, got {radius!r}.")
    if start is not None and not (np.isfinite(start) and start > 0):
        raise ValueError(f"start must be a positive radius, got {start!r}.")
    size = np.sqrt(sum(float(jnp.sum(jnp.abs(d) ** 2)) for d in jax.tree.leaves(direction)))
    if size == 0:
        raise ValueError("direction is zero: along it the function is constant.")
    epsilon = max(float(jnp.finfo(wide(p.dtype)).eps) for p in jax.tree.leaves(point))
    if tolerance is None:
        tolerance = 1e-4 if epsilon > 1e-10 else 1e-12 if degree <= 24 else 1e-9

    try:
        prepare = _runner(f, registered())
    except TypeError:  # f cannot be hashed, so nothing can be remembered for the next call
        prepare = _runner.__wrapped__(f, registered())

    def circle_at(rho: float, count: int) -> Circle:
        return _circle(prepare, point, direction, rho, count, is_complex)

    circles = [circle for circle in (circle_at(rho, num_points) for rho in fixed) if circle.finite]
    circles = [compared(circle, circles) for circle in circles]
    search = _Search(degree, num_points, epsilon, tolerance)
    rho, count, spent = 1 / size, min(CHUNK, num_points), num_points * len(fixed)
    if start is not None:
        rho = float(start) * (PROBE if count < num_points else 1)
        search.step = SMALL_STEP
    for _ in range(0 if fixed else MAX_TRIALS):
        circle = compared(circle_at(rho, count), circles)
        spent += count
        search.tried.append((rho, circle.noise / epsilon if circle.usable else np.inf))
        if circle.usable and count == num_points:
            circles.append(circle)
            if len(circles) == MAX_RADII or not (relative_errors(circles, degree) > tolerance).any():
                break
        if circle.usable and count < num_points:  # the first, smaller circles only look for the scale
            enough = search.resolved_by(circle) >= 0.6 * count or len(search.tried) >= MAX_PROBES
            count = num_points if enough else count
            rho = search.extrapolate(circle, degree, num_points) if enough else search.extrapolate(circle, count, count)
            continue
        wanted = search.after_failure() if not circle.usable else search.after(circle)
        if wanted is None:
            if circle.usable or count == num_points:
                break
            count = num_points  # between a radius too small to say much and one too large: look with more points
        rho = wanted or rho
    if not circles:
        raise ValueError(
            "the function has no finite values near the point along this direction (radii down to "
            f"{min(fixed or [rho]):.1e} were tried). Does it return finite values at the point itself?"
        )
    wall = min([search.wall(), *(c.radius for c in circles if c.contradicted)])
    if fixed:
        wall = 0.0  # nothing was searched: whether larger circles would show more is not known, so warn
    return _collect(circles, degree, is_complex, spent, wall, tolerance)


@functools.lru_cache(maxsize=16)
def _runner(f: Callable, _: Any) -> Callable:
    """Makes compiled programs ``(point, direction, t) -> f(point), parts of f(point + t direction) - f(point)``.

    They are remembered for as long as the stand-ins stay the same.
    """

    def at(point: Any, direction: Any, t: tuple) -> Any:
        def jet(p: Any, d: Any) -> Jet:
            re, im = jnp.real(d).astype(wide(p.dtype)), jnp.imag(d).astype(wide(p.dtype))
            return Jet(p, ((t[0] * re - t[1] * im, t[0] * im + t[1] * re),))

        algebra = Point(axis="points")
        counts: dict[str, Any] = {}
        out = evaluate(f, Context(algebra, counts), jax.tree.map(jet, point, direction))
        tree: Any
        leaves, tree = jax.tree.flatten(out, is_leaf=is_jet)
        jets = [x if isinstance(x, Jet) else Jet(x, algebra.zeros(x)) for x in leaves]
        patched = {name: n for name, n in counts.items() if " at " not in name}
        return tree.unflatten([x.primal for x in jets]), [x.parts[0] for x in jets], patched

    over_points = jit(jax.vmap(at, (None, None, 0), (None, 0, None), axis_name="points"))
    programs: dict[Any, Callable] = {}

    def prepare(*args: Any) -> Callable:
        shapes = jax.tree.map(lambda x: (x.shape, x.dtype), args)
        key = tuple(jax.tree.leaves(shapes)), jax.tree.structure(args), matmul_precision()
        if key not in programs:  # compiled before it is called from several lanes
            programs[key] = over_points.lower(*args).compile()
        return programs[key]

    return prepare


def _circle(prepare: Callable, point: Any, direction: Any, rho: float, count: int, is_complex: bool) -> Circle:
    used = count if is_complex else count // 2 + 1  # on a real line f(t̄) is the conjugate of f(t)
    t = rho * np.exp(2j * np.pi * np.arange(used) / count)
    dtype = jnp.result_type(*[wide(p.dtype) for p in jax.tree.leaves(point)])
    size = math.ceil(used / math.ceil(used / LANE)) if is_complex else min(LANE, used)
    # Of a series that begins with t² the point still sees more than rounding: (ε^¼)² = √ε.
    witness = rho * float(jnp.finfo(dtype).eps) ** WITNESS
    # the last chunk is filled up, so that one program serves all
    chunks = [np.append(witness, np.resize(t[start : start + size], size)) for start in range(0, used, size)]

    def arguments(points: np.ndarray) -> tuple:
        return point, direction, (jnp.asarray(points.real, dtype), jnp.asarray(points.imag, dtype))

    program, each = prepare(*arguments(chunks[0])), (arguments(points) for points in chunks)
    found = list(side_by_side(program, each, lanes(used, LANE)))
    value, _, patched = found[0]
    with np.errstate(all="ignore"):  # a circle that is too large overflows; it is judged below
        parts = [
            [np.asarray(re[1:], np.float64) + 1j * np.asarray(im[1:], np.float64) for re, im in out[1]] for out in found
        ]
    differences = [np.concatenate(of_leaf)[:used] for of_leaf in zip(*parts, strict=True)]
    leaves, tree = jax.tree.flatten(jax.tree.map(lambda x: x.astype(wide(x.dtype)), value))
    s: Any
    scaled, errors = [], []
    for leaf, difference in zip(leaves, differences, strict=True):
        if jnp.iscomplexobj(leaf):
            raise TypeError("the Cauchy way needs a function with real values; return real and imaginary parts apart.")
        with np.errstate(all="ignore"):
            if is_complex:
                s = np.fft.fft(difference, axis=0) / count
            else:
                s = np.fft.hfft(difference, n=count, axis=0).astype(complex) / count
            change = np.abs(difference).max(0)
            errors.append(error_levels(s, np.abs(leaf) + change, change, float(jnp.finfo(leaf.dtype).eps)))
        s[0] = 0
        scaled.append(s)
    names = tuple(name for name, n in patched.items() if int(n))
    return Circle(rho, [np.asarray(v) for v in leaves], scaled, errors, tree, patched=names)


class _Search:
    """Chooses radii: large enough to lift the highest order above rounding, small enough to keep rounding small.

    Near its singularities a program amplifies rounding, so the noise of each circle is measured; a
    circle with much more than the precision's own is too large.
    """

    def __init__(self, degree: int, num_points: int, epsilon: float, tolerance: float):
        self.degree, self.num_points, self.epsilon, self.tolerance = degree, num_points, epsilon, tolerance
        self.step = 4.0  # the most from a circle that is too large to the next
        self.tried: list[tuple[float, float]] = []  # (radius, noise in units of the precision)

    def wall(self) -> float:
        """The smallest radius at which the function could not be used."""
        return min((rho for rho, noise in self.tried if noise > 1e6), default=np.inf)

    def after_failure(self) -> float | None:
        """A smaller radius, but larger than any that could be used."""
        rho = self.tried[-1][0]
        below = max((r for r, noise in self.tried if noise < 1e6 and r < rho), default=0.0)
        failures = sum(noise > 1e6 for _, noise in self.tried)  # each tells that the scale is known less well
        return rho / min(4, self.step**failures) if not below else self._between(below, rho)

    def after(self, circle: Circle) -> float | None:
        """Where to look next; ``None`` when no circle promises more."""
        rho, noise = self.tried[-1]
        if noise > 1e4:
            smaller = [r for r, _ in self.tried if r < rho]
            return self._between(max(smaller), rho) if smaller else rho / min(1.5, self.step)
        above = min((r for r, _ in self.tried if r > rho), default=np.inf)
        if self.resolved_by(circle) >= 0.8 * self.degree:  # nearly there: no further than the worst order asks for
            lacking = relative_errors([circle], self.degree) / self.tolerance
            wanted = rho * float(np.clip(1.005 * np.max(lacking ** (1 / np.arange(1, self.degree + 1))), 1.02, 1.1))
        else:
            wanted = self.extrapolate(circle, self.degree, self.num_points)
            if wanted < 1.02 * rho:
                wanted = rho * min(2, self.step)
        return wanted if wanted < 0.97 * above else self._between(rho, above)

    def _between(self, low: float, high: float) -> float | None:
        return float(max(np.sqrt(low * high), high / self.step)) if high > 1.1 * low else None

    def resolved_by(self, circle: Circle) -> int:
        """The highest order that stands ten times above the errors (0 if none does)."""
        above = np.flatnonzero(circle.spectrum()[1:] > 10 * norms(circle.errors)[1:])
        return int(above.max()) + 1 if len(above) > 1 else 0

    def extrapolate(self, circle: Circle, degree: int, num_points: int) -> float:
        """The radius for a degree, as if ``|c_r| ρ^r ~ q^r`` went on as at the last orders that are resolved.

        The relative error of the highest order is ``ε q^-degree`` from rounding and ``q^P`` from aliasing, equal
        at ``q = ε^{1/(degree + P)}``; no more is asked for than the tolerance.
        """
        s, top = circle.spectrum(), self.resolved_by(circle)
        if not top:
            return circle.radius * 4
        fall, at_last = (_fall(s[top - width : top + 1]) for width in (top - top // 2, min(8, top - top // 2)))
        q = at_last if at_last < 0.9 * fall else fall  # single orders go up and down; of entire functions all go down
        balanced = self.epsilon ** (1 / (degree + num_points))
        enough = (100 * self.epsilon / self.tolerance) ** (1 / degree)
        between = np.sqrt(balanced * min(balanced, enough))  # as far from too small as from too large
        return circle.radius * float(np.clip(between / max(q, 1e-3), 1 / 16, 16))


def _fall(spectrum: np.ndarray) -> float:
    """The factor from one order to the next, by least squares of the logarithms."""
    return float(np.exp(np.polyfit(np.arange(len(spectrum)), np.log(np.maximum(spectrum, 1e-300)), 1)[0]))


def _collect(
    circles: list[Circle], degree: int, is_complex: bool, spent: int, wall: float, tolerance: float
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
    limit = max(1e-3, 10 * tolerance)
    lost = orders[relative_errors(circles, degree) > limit]
    # Orders lost in rounding on ever larger circles are zero; orders lost because no larger circle exists are not.
    if len(lost) and wall < 5 * max(c.radius for c in circles):
        warnings.warn(
            f"{len(lost)} of {degree} orders (the first: {lost[0]}) have an estimated relative error above {limit:g}, "
            "if they are not zero; the errors returned by taylor.cauchy_coefficients say how large. Use float64, more "
            "points, a lower degree, or other radii.",
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
