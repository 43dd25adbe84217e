"""The search for the radii of circles."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from sketchlearn.taylor.cauchy.circle import Circle, compared, norms, relative_errors
from sketchlearn.taylor.cauchy.points import CHUNK

MAX_RADII = 4
MAX_PROBES = 4
MAX_TRIALS = 40  # radii that were too large count as well
SMALL_STEP = 1.12  # between radii, where the scale is known
PROBE = 0.55  # of a radius that serves all orders: there a first, smaller circle shows the decay


class Search:
    """Chooses radii: large enough to lift the highest order above rounding, small enough to keep rounding small.

    Near its singularities a program amplifies rounding, so the noise of each circle is measured; a
    circle with much more than the precision's own is too large.
    """

    def __init__(self, degree: int, num_points: int, epsilon: float, tolerance: float):
        self.degree, self.num_points, self.epsilon, self.tolerance = degree, num_points, epsilon, tolerance
        self.step = 4.0  # the most from a circle that is too large to the next
        self.tried: list[tuple[float, float]] = []  # (radius, noise in units of the precision)
        self.spent = 0  # points

    def run(self, circle_at: Callable[[float, int], Circle], rho: float, start: float | None) -> list[Circle]:
        """The circles that serve the coefficients best, at most ``MAX_RADII``.

        Args:
            circle_at: the circle of a radius and a number of points.
            rho: where to look first.
            start: a radius that served a similar direction, or None.
        """
        circles: list[Circle] = []
        count = min(CHUNK, self.num_points)
        if start is not None:
            rho = float(start) * (PROBE if count < self.num_points else 1)
            self.step = SMALL_STEP
        for _ in range(MAX_TRIALS):
            circle = compared(circle_at(rho, count), circles)
            self.spent += count
            self.tried.append((rho, circle.noise / self.epsilon if circle.usable else np.inf))
            whole = count == self.num_points
            if circle.usable and whole:
                circles.append(circle)
                if len(circles) == MAX_RADII or not (relative_errors(circles, self.degree) > self.tolerance).any():
                    break
            if circle.usable and not whole:  # the first, smaller circles only look for the scale
                enough = self.resolved_by(circle) >= 0.6 * count or len(self.tried) >= MAX_PROBES
                count = self.num_points if enough else count
                rho = self.extrapolate(circle, self.degree if enough else count, count)
                continue
            wanted = self.after(circle) if circle.usable else self.after_failure()
            if wanted is None:
                if whole:
                    break
                count = self.num_points  # between a radius too small to say much and one too large: more points
            rho = wanted or rho
        return circles

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
