"""Planning a sketch: what m directions of degree k cost, what error to expect, and which (m, k) to take."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from jax.typing import DTypeLike
from jaxtyping import Float

from sketchlearn.deletions.base import Space
from sketchlearn.deletions.centre import full_weights
from sketchlearn.errors import FlatQuery, check_count, check_degree, check_positive, check_seed
from sketchlearn.execution.units import duration
from sketchlearn.planning.pilot import Cost, Pilot, run_pilot
from sketchlearn.planning.report import advice, in_words, notes
from sketchlearn.planning.variance import chi_square_factors, contribution_variance, is_exact
from sketchlearn.runtime.precision import asked_precision
from sketchlearn.runtime.seeds import stream
from sketchlearn.taylor.flatness import unmoved
from sketchlearn.training.program import check_train

SHARE = 0.05  # of the coordinates, in a typical deletion
MOST_DELETIONS = 16  # more would cost more than the pilot's directions
KNEE = 1.25  # the knee of the curve: the least error, or up to a quarter more


class Row(NamedTuple):
    """A sketch that could be made: its cost, and the error to expect after a typical deletion.

    Errors are root mean squares over the pilot's deletions and the query's outputs, in the query's unit.

    Attributes:
        degree: k.
        num_directions: m.
        seconds: to compile and to run.
        peak_bytes: the largest total size of arrays.
        disk_bytes: of the jets and the parameters.
        noise: of all k orders, by the finite number of directions.
        truncation: what the orders up to k leave out, measured.
        error: noise and truncation of the first ``orders`` orders together.
        error_low: lower end of the 95% interval that the size of the pilot leaves open.
        error_high: its upper end.
        orders: how many of the k orders to use so that the error is least, as the estimator ``"auto"`` tries to.
    """

    degree: int
    num_directions: int
    seconds: float
    peak_bytes: float
    disk_bytes: int
    noise: float
    truncation: float
    error: float
    error_low: float
    error_high: float
    orders: int


@dataclasses.dataclass(frozen=True, eq=False)
class Plan:
    """What sketches of one training run would cost and say; made by :func:`plan`.

    Attributes:
        rows: one :class:`~sketchlearn.planning.plan.Row` for each degree and number of directions, by degree.
        recommended: the row to take, or ``None`` where none does what was asked.
        rule: how it was chosen, in words.
        advice: about the deletion space, in sentences.
        warnings: what the reader should know, in sentences.
        change: root mean square of the true change of the query after the pilot's deletions.
        training_seconds: of one plain training, in a batch.
        costs: of each degree, as measured.
        variances: (k, 3), of the contribution of one direction to the plain mean of each order: lower end of its 95%
            interval, estimate, upper end.
        truncations: (k + 1, 3), squared, of the orders up to 0, 1, .., k: the same.
        dim: q.
        title: what was planned and what the pilot was.
        space: the deletion space.
        others: the plans of the other spaces, where several were given; the recommended row is this plan's.
    """

    rows: tuple[Row, ...]
    recommended: Row | None
    rule: str
    advice: tuple[str, ...]
    warnings: tuple[str, ...]
    change: float
    training_seconds: float
    costs: tuple[Cost, ...]
    variances: Float[np.ndarray, "k 3"]
    truncations: Float[np.ndarray, "orders 3"]
    dim: int
    title: str
    seconds: float | None = None
    tolerance: float | None = None
    space: Space | None = None
    others: tuple[Plan, ...] = ()

    def noise(self, num_directions: int) -> Float[np.ndarray, " k"]:
        """The standard deviation (k,) of each order by itself: of the plain mean, or 0 where the order is solved for.

        The fits of the default estimator have no more, and little less unless they are close to exact.
        """
        m = check_count("num_directions", num_directions, lowest=2)
        return np.sqrt(self._noise_squared(m)[:, 1])

    def at(self, degree: int, num_directions: int) -> Row:
        """The row of any degree up to the pilot's and any number of directions.

        Args:
            degree: k, at most that of the pilot.
            num_directions: m, at least 2.
        """
        k, m = check_degree(degree), check_count("num_directions", num_directions, lowest=2)
        if k > len(self.costs):
            raise ValueError(f"the pilot ran degrees 1 to {len(self.costs)}, so degree {k} cannot be planned from it.")
        noise = np.cumsum(self._noise_squared(m)[:k], axis=0)
        errors = np.sqrt(noise + self.truncations[1 : k + 1])
        orders = int(errors[:, 1].argmin()) + 1
        low, middle, high = errors[orders - 1]
        cost = self.costs[k - 1]
        return Row(
            k, m, cost.seconds(m), cost.peak_bytes(m), cost.disk_bytes(m), float(np.sqrt(noise[-1, 1])),
            float(np.sqrt(self.truncations[k, 1])), float(middle), float(low), float(high), orders,
        )  # fmt: skip

    def _noise_squared(self, m: int) -> np.ndarray:
        solved = np.array([is_exact(self.dim, r, m) for r in range(1, len(self.costs) + 1)])
        return np.where(solved[:, None], 0.0, self.variances / m)

    def plot(self, ax: Any = None) -> Any:
        """Draw the expected error against the time, one line for each degree; returns the axes."""
        from sketchlearn.plotting import draw_plan  # drawing is the outermost layer

        return draw_plan(self, ax)

    def __str__(self) -> str:
        return in_words(self)


def plan(
    train: Callable,
    space: Space | Sequence[Space],
    query: Callable,
    delete: Any = None,
    degree: int = 3,
    num_directions: int = 500,
    pilot: int = 8,
    seed: int = 0,
    seconds: float | None = None,
    tolerance: float | None = None,
    dtype: DTypeLike | None = None,
    progress: bool = True,
    precision: str | None = None,
) -> Plan:
    """Run a pilot of a few directions and say what a sketch would cost, and how wrong it would be.

    Expected squared error of the first j orders: ``Σ_{r<=j} V_r / m + E (f(x) - f(0) - Σ_{r<=j} P_r(x))²``. ``V_r``
    is the variance of one direction's contribution to the plain mean, (``sketchlearn.planning.variance``), and 0 where
    2m real equations determine the order, ``2m >= C(q+r-1, r)``. The rest is measured: the pilot retrains without
    each deletion and runs the series along it. Orders are counted as independent. The pilot's
    directions are others than those of a sketch with the same seed, so that the plan does not see what it plans.

    Args:
        train: weights (n,) -> parameters.
        space: which deletions can be asked for; or several spaces, each of which holds the deletions given. They are
            planned one after the other, and the recommendation is made among all of them.
        query: parameters -> real number or array; of an array, root mean squares are planned.
        delete: the deletions to plan for, as the space reads them, at most 16 of which are run. By default typical
            ones: random sets of a twentieth of the space's coordinates (at least one), as many as the pilot has
            directions.
        degree: the highest k considered; programs of every degree up to it are compiled and timed.
        num_directions: the largest m considered.
        pilot: directions of the pilot, at least 2.
        seed: the seed of directions and deletions.
        seconds: the time there is: recommend the least expected error within it.
        tolerance: an error that is good enough: recommend the cheapest sketch that reaches it.
        dtype: of the weights.
        progress: show a progress bar.
        precision: of products, as in :func:`sketchlearn.sketch`.

    Returns:
        A :class:`Plan`; print it, or ``.plot()`` it.

    Raises:
        ValueError, TypeError: arguments that do not fit; a query or parameters that depend on the weights through flat
            operations only (argmax, sign), whose series is a certain zero.
        FloatingPointError: training, its jets, the query or training without a deletion are not finite.

    Example:
        >>> import jax.numpy as jnp, sketchlearn as sl
        >>> found = sl.plan(lambda w: w.sum() ** 2, sl.Examples(6), lambda y: y, degree=2, num_directions=16,
        ...                 tolerance=1e-3, progress=False)
        >>> found.recommended.degree, found.recommended.num_directions      # C(7, 2) = 21 unknowns, two equations each
        (2, 11)
    """
    degree, m = check_degree(degree), check_count("num_directions", num_directions, lowest=2)
    pilot, seed = check_count("pilot", pilot, lowest=2), check_seed(seed)
    if precision is not None:
        with asked_precision(precision):
            return plan(train, space, query, delete, degree, m, pilot, seed, seconds, tolerance, dtype, progress)
    limit = None if seconds is None else check_positive("seconds", seconds)
    wanted = None if tolerance is None else check_positive("tolerance", tolerance)
    if isinstance(space, Sequence):
        return _among(
            space, delete, limit, wanted,
            lambda s: plan(train, s, query, delete, degree, m, pilot, seed, seconds, tolerance, dtype, progress),
        )  # fmt: skip
    full_weights(space, dtype)
    warnings = []
    z = _typical(space, pilot, seed) if delete is None else np.atleast_2d(space.locate(delete))
    if len(z) > MOST_DELETIONS:
        chosen = np.sort(stream("planned deletions", seed).permutation(len(z))[:MOST_DELETIONS])
        warnings.append(f"{MOST_DELETIONS} of the {len(z)} deletions were run, chosen at random.")
        z = z[chosen]
    every_one = delete is None and len(z) == space.dim  # each coordinate alone: none is left to chance
    sampled = bool(warnings) or (delete is None and not every_one)
    pilot_run = run_pilot(train, space, query, z, degree, pilot, m, seed, dtype, progress)

    q = space.dim
    still = np.logical_not(pilot_run.coefficients.any((0, 1)))
    if still.any():
        text, flat = unmoved(still, query, check_train(train, full_weights(space, dtype)))
        if still.all() and flat:
            raise FlatQuery(text)
        warnings.append(f"{text} Its noise of zero is no promise.")
    variances, truncations = _squared_errors(pilot_run, z, q, sampled)
    kind = ("random deletion" if delete is None else "given deletion") + "s" * (len(z) > 1)
    size = f"{np.count_nonzero(z, 1).mean():.3g} of {q} coordinates each"
    title = f"Sketches of up to {m} directions over {space!r}; pilot: {pilot} directions, {len(z)} {kind} ({size})."
    planned = Plan(
        (), None, "", (), (), float(np.sqrt(truncations[0, 1])), pilot_run.training_seconds, pilot_run.costs,
        variances, truncations, q, title, limit, wanted, space,
    )  # fmt: skip
    rows = tuple(planned.at(k, count) for k in range(1, degree + 1) for count in _ladder(q, degree, m))
    recommended, rule = _recommend(rows, limit, wanted)
    warnings += notes(planned, rows, recommended, pilot)
    return dataclasses.replace(
        planned, rows=rows, recommended=recommended, rule=rule, advice=advice(q, degree, m), warnings=tuple(warnings)
    )


def _squared_errors(pilot: Pilot, z: np.ndarray, q: int, sampled: bool) -> tuple[np.ndarray, np.ndarray]:
    """What a pilot says of noise and truncation, squared: each with the ends of its 95% interval.

    Args:
        seen: the pilot.
        z: (D, q), its deletions.
        q: coordinates of the space.
        sampled: whether the deletions are a sample of others, so that their number leaves something open.

    Returns:
        The variances (k, 3) of one direction's contribution to each order, and (k + 1, 3), what the orders up to 0, 1,
        .., k leave out.
    """
    degree, outputs = pilot.coefficients.shape[1], pilot.changes.shape[1]
    variances = []
    for r in range(1, degree + 1):
        squares = np.abs(pilot.coefficients[:, r - 1]) ** 2 * math.comb(q + r - 1, r)  # (pilot, Q), mean ||P_r||²
        variance = contribution_variance(q, r, (z**2).sum(1)[:, None], squares.mean(0), pilot.terms[:, r - 1])
        variances.append(variance.mean() * chi_square_factors(squares.mean(1), 1 / outputs))
    left = np.stack([pilot.changes - pilot.terms[:, :j].sum(1) for j in range(degree + 1)]) ** 2  # (k + 1, D, Q)
    ends = [chi_square_factors(s.mean(1), 2 / outputs) if sampled else np.ones(3) for s in left]
    return np.array(variances), np.stack([s.mean() * end for s, end in zip(left, ends, strict=True)])


def _among(
    spaces: Sequence[Space], delete: Any, seconds: float | None, tolerance: float | None, one: Callable[[Space], Plan]
) -> Plan:
    """The plan of the space whose sketch is recommended among all; the plans of the others with it."""
    if delete is None or not spaces:
        raise ValueError("to choose among spaces give at least one, and delete=: deletions that all of them hold.")
    plans = [one(space) for space in spaces]
    row, rule = _recommend(tuple(row for planned in plans for row in planned.rows), seconds, tolerance)
    best = next((planned for planned in plans if row in planned.rows), plans[0])
    others = tuple(planned for planned in plans if planned is not best)
    return dataclasses.replace(best, recommended=row, rule=f"{rule}, of {len(plans)} spaces", others=others)


def _typical(space: Space, count: int, seed: int) -> np.ndarray:
    """Coordinates of different random deletions of a twentieth of the space, at least one coordinate."""
    q, draw = space.dim, stream("planned deletions", seed)
    size = max(1, round(SHARE * q))
    if size == 1:
        coordinates = np.eye(q)[draw.permutation(q)[:count]]
    else:
        coordinates = np.zeros((count, q))
        for row in coordinates:
            row[draw.choice(q, size, replace=False)] = 1
    x = np.asarray(space.embed(coordinates))
    if (x < -1e-6).any() or (x > 1 + 1e-6).any():
        raise ValueError(
            "this space's coordinates are no deletions by themselves (fractions outside 0 to 1), so none can be drawn: "
            "pass delete= with deletions that you will ask for."
        )
    return coordinates


def _ladder(dim: int, degree: int, most: int) -> list[int]:
    """Numbers of directions: powers of two from 8, those from which an order is exact, and the largest."""
    powers = [2**i for i in range(3, most.bit_length())]
    exact = [math.ceil(math.comb(dim + r - 1, r) / 2) for r in range(1, degree + 1)]
    return sorted({m for m in [*powers, *exact] if 2 <= m < most} | {most})


def _recommend(rows: tuple[Row, ...], seconds: float | None, tolerance: float | None) -> tuple[Row | None, str]:
    """The row to take and the rule that chose it."""
    rows = tuple(row for row in rows if row.orders == row.degree)  # orders that are better left out need not be run
    within = "" if seconds is None else f" within {duration(seconds)}"
    affordable = [row for row in rows if seconds is None or row.seconds <= seconds]
    if not affordable:
        return None, f"no sketch is made{within}; the cheapest takes {duration(min(r.seconds for r in rows))}"
    least = min(affordable, key=lambda row: (row.error, row.seconds))
    if tolerance is not None:
        good = [row for row in affordable if row.error <= tolerance]
        if not good:
            return None, f"no sketch reaches {tolerance:g}{within}; the least expected error is {least.error:.2g}"
        return min(good, key=lambda row: row.seconds), f"the cheapest that reaches {tolerance:g}{within}"
    if seconds is not None:
        return least, f"the least expected error{within}"
    near = [row for row in rows if row.error <= KNEE * least.error]
    return min(near, key=lambda row: row.seconds), f"the cheapest within {KNEE - 1:.0%} of the least expected error"
