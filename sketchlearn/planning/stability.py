"""Stability: how fast the Taylor orders of a training run grow."""

from __future__ import annotations

import dataclasses
import math
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from sketchlearn.deletions.base import Space
from sketchlearn.deletions.centre import full_weights
from sketchlearn.deletions.directions import directions
from sketchlearn.deletions.examples import Examples
from sketchlearn.errors import FlatQuery, FlatTraining, check_count, check_degree, check_seed
from sketchlearn.execution.progress import track
from sketchlearn.sketching.make import sketch
from sketchlearn.taylor.cauchy.coefficients import cauchy_coefficients
from sketchlearn.taylor.dependence import dependence
from sketchlearn.taylor.flatness import flat_training, unmoved
from sketchlearn.training.emptied_batches import check_emptying
from sketchlearn.training.program import check_smooth_query, check_train, num_examples_of

SERIES_LIMIT = 12  # above this degree circles cost less than series
CIRCLES_AIM_AT = 0.1  # estimated relative error of a norm, which is read on a logarithmic axis


@dataclasses.dataclass(frozen=True, eq=False)
class StabilityProfile:
    """Estimated Bombieri norms of the Taylor polynomials of a training run.

    The estimates are right in the mean square, ``E norms² = ||P_r||_B²``, and how many directions that takes depends on
    the order: the relative variance of ``norms²`` is at most ``C(2r, r) - 1``, which powers of a linear form nearly
    reach. A dozen directions know the norms of orders one to three; at high orders they know what *random directions*
    see, and the norm, which a few rare directions make, may be far larger.

    Attributes:
        norms: (m, k), ``sqrt(C(q+r-1, r)) |c_r(ψ_i)|`` along each direction.
        errors: (m, k), estimated absolute errors of ``norms`` (zero where the series way was used).
        radius: the R at which the terms ``R^r`` times the estimated norms stop decaying, from the last half of the
            orders: as random directions see it, an upper end for deletions that few orders predict. The radius of the
            norms themselves may be several times smaller. Infinite where all those orders vanish, NaN where some do,
            or all orders, or there is one order only.
        dim: q.
        circles: radii of the circles that served the first direction (empty where the series way was used); passing
            them as ``circles`` saves the search in a run with another query.
    """

    norms: Float[np.ndarray, "m k"]
    errors: Float[np.ndarray, "m k"]
    radius: float
    dim: int
    circles: tuple[float, ...] = ()

    def bombieri(self) -> Float[np.ndarray, " k"]:
        """(k,), the estimate of ``||P_r||_B`` over all directions."""
        return np.sqrt((self.norms**2).mean(0))

    def plot(self, ax: Any = None) -> Any:
        """Draw log2 of the norms against the order, one line for each direction; returns the axes."""
        from sketchlearn.plotting import draw_stability  # drawing is the outermost layer

        return draw_stability(self, ax)


def stability_profile(
    train: Callable,
    query: Callable,
    degree: int = 12,
    num_directions: int = 12,
    space: Space | None = None,
    seed: int = 0,
    method: str | None = None,
    progress: bool = True,
    circles: Sequence[float] | None = None,
) -> StabilityProfile:
    """Measure the norm of every Taylor order of ``x -> query(train(1 - x))``.

    ``E|c_r(ψ)|² = ||P_r||_B² / C(q+r-1, r)`` for ψ uniform on the unit sphere of C^q, so
    ``sqrt(C(q+r-1, r)) |c_r|`` estimates the norm from a single direction (at high orders it is typical of directions,
    and the norm may be far larger: see :class:`StabilityProfile`).

    Args:
        train: weights (n,) -> parameters, pure.
        query: parameters -> a real number.
        degree: k, the highest order.
        num_directions: m.
        space: which deletions are meant; all examples by default, whose number is then read
            from ``train.num_examples`` or from the object that ``train`` is a method of.
        seed: the seed of the directions.
        method: ``"series"`` or ``"cauchy"``; by default series to degree 12, circles above.
        progress: show a progress bar.
        circles: radii for the Cauchy way, used alone and along every direction. By default each direction's own are
            searched for, beginning with those of the direction before.

    Returns:
        A :class:`StabilityProfile`.

    Raises:
        ValueError, TypeError: arguments that do not fit; a query or parameters that depend on the weights through flat
            operations only (argmax, sign), whose orders are all zero.

    Warns:
        UserWarning: every order is zero, though no operation is flat.
        PrecisionWarning: from circles, where orders along some direction are not resolved; see ``errors``.

    Example:
        >>> import jax.numpy as jnp, sketchlearn as sl
        >>> profile = sl.stability_profile(
        ...     lambda w: w, lambda w: 1 / (2 - jnp.mean(w)), degree=4, num_directions=3,
        ...     space=sl.Examples(5), progress=False)
        >>> profile.norms.shape
        (3, 4)

    Source: the stability figure of Gunn, arXiv:2604.07328; the norm is Bombieri's.
    """
    degree, m = check_degree(degree), check_count("num_directions", num_directions)
    if method not in (None, "series", "cauchy"):
        raise ValueError(f'method must be "series" or "cauchy", got {method!r}.')
    space, seed = Examples(_count_examples(train)) if space is None else space, check_seed(seed)
    parameters = check_train(train, full_weights(space))
    shape = check_smooth_query(query, parameters)
    if shape.shape:
        raise TypeError(f"the query of a stability profile returns one number, got an array of shape {shape.shape}.")
    check_emptying(train, space)
    used: tuple[float, ...] = ()
    if method == "series" or (method is None and degree <= SERIES_LIMIT):
        if circles is not None:
            raise ValueError('circles are radii for the Cauchy way: give method="cauchy", too.')
        made = sketch(train, space, degree, m, seed, progress=progress)
        _, c = made.measure(query)
        errors = np.zeros(c.shape)
    else:
        c, errors, used = _on_circles(train, query, space, degree, m, seed, progress, circles)
    if not c.any():
        text, flat = unmoved(np.ones(1, bool), query, parameters)
        if flat:
            raise FlatQuery(text)
        warnings.warn(f"{text} The norms are zero, and the radius is unknown (NaN).", UserWarning, stacklevel=2)
    # isqrt, because the binomial coefficient itself may exceed the largest float (n = 50,000, r = 100)
    scale = np.array([math.isqrt(math.comb(space.dim + r - 1, r) << 104) / 2**52 for r in range(1, degree + 1)])
    norms, errors = np.abs(c) * scale, errors * scale
    resolved = np.where((norms > errors).any(0), np.sqrt((norms**2).mean(0)), 0.0)
    return StabilityProfile(norms, errors, _radius(resolved) if c.any() else math.nan, space.dim, used)


def _on_circles(
    train: Callable,
    query: Callable,
    space: Space,
    degree: int,
    m: int,
    seed: int,
    progress: bool,
    radii: Sequence[float] | None,
) -> tuple[np.ndarray, np.ndarray, tuple[float, ...]]:
    weights = full_weights(space)

    def f(w: Any) -> Any:
        return query(train(w))

    re, im = directions(seed, jnp.arange(m), space.dim, weights.dtype)
    coefficients, errors = [], []
    start: float | None = None
    used: tuple[float, ...] = ()
    for i in track(range(m), "stability", "direction", total=m, show=progress):
        direction = -jax.lax.complex(space.embed(re[i]), space.embed(im[i]))
        out = cauchy_coefficients(f, weights, direction, degree, radius=radii, tolerance=CIRCLES_AIM_AT, start=start)
        used, start = used or out.radii, max(out.radii)  # the radii of directions differ by tenths, which matter
        coefficients.append(np.asarray(out.coefficients)[1:])
        errors.append(np.asarray(out.errors)[1:])
        if not i and not coefficients[0].any() and not any((of_weights := dependence(train, weights)).reached):
            raise FlatTraining(flat_training(of_weights.through))
    return np.stack(coefficients), np.stack(errors), used


def _radius(norms: np.ndarray) -> float:
    """The radius of convergence by the root test, from the slope of log norm over the last half of the orders."""
    k = len(norms)
    orders = np.arange(1, k + 1)[(k - 1) // 2 :]
    kept = norms[(k - 1) // 2 :]
    if len(orders) < 2 or not (kept > 0).all():
        return float("inf") if not kept.any() else float("nan")
    return float(np.exp(-np.polyfit(orders, np.log(kept), 1)[0]))


def _count_examples(train: Callable) -> int:
    count = num_examples_of(train)
    if count is None:
        raise TypeError("the number of training examples is not known: pass space=sketchlearn.Examples(n).")
    return count
