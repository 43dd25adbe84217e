"""The sketch, and what can be asked of it: any query after any deletion."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np

from sketchlearn.deletions.base import Space
from sketchlearn.deletions.directions import directions
from sketchlearn.prediction import estimation as estimators
from sketchlearn.prediction.interpolation import MOST_EQUATIONS, Fitted, Interpolant
from sketchlearn.prediction.result import Prediction, predict_from
from sketchlearn.prediction.scales import of_effects
from sketchlearn.prediction.truncation import CALIBRATION, fraction_of, sizes_along, truncation
from sketchlearn.runtime.precision import matmul_precision
from sketchlearn.sketching.blind_spots import with_doubts
from sketchlearn.sketching.probes import probed
from sketchlearn.sketching.query_jets import Measured, measured, push, slices
from sketchlearn.sketching.single_coordinates import Alone, checked_gradient
from sketchlearn.training.program import check_query, check_smooth_query

ESTIMATORS = ("auto", "mean", "median_of_means", "least_squares", "kernel")
FITTED = ("auto", "least_squares", "kernel")
KEPT_INTERPOLANTS = 12  # a kept sketch of degree 3: those of all its orders, alike and scaled for three queries
PURE = 0.5  # the share of pure powers in an order above one, a guess; 0.1 to 0.5 serve microgpt alike, 0.5 the digits


class Sketch:
    """The jets of one training run; made by :func:`sketch`, asked by :meth:`predict`.

    Attributes:
        space: the deletions that can be asked for.
        degree: k.
        num_directions: m.
        key: the seed of the directions.
        parameters: what ``train`` returns with nothing deleted.
        queries: the queries that were measured in place of the coefficients, if so asked, by name.
        centre: z_0, (q,), where the run was expanded; zero unless asked for.
        parameters_at_centre: what ``train`` returns there.
        alone: what each coordinate does alone, for an additive sketch; else None.
        calibration: the numbers behind its intervals that no theory gives.
        batches: (T, B) of a run that divides by the sum of a batch's weights, which a deletion may empty; else None.
    """

    differentiates = True  # what the derivatives of a query do not show is not predicted

    def __init__(
        self,
        space: Space,
        degree: int,
        key: int,
        parameters: Any,
        coefficients: Any,
        centre: np.ndarray | None = None,
        parameters_at_centre: Any = None,
        alone: Alone | None = None,
        design: str = "independent",
        queries: dict[str, Measured] | None = None,
        num_directions: int | None = None,
        batches: np.ndarray | None = None,
    ):
        self.space, self.degree, self.key, self.design = space, degree, key, design
        self.parameters, self.alone, self.queries, self.batches = parameters, alone, queries or {}, batches
        self._jets, self.calibration = coefficients, CALIBRATION
        self.centre = np.zeros(space.dim) if centre is None else centre
        self.parameters_at_centre = parameters if centre is None else parameters_at_centre
        self.num_directions = num_directions or len(jax.tree.leaves(coefficients)[0])
        self._measured: dict[tuple[int, str], Measured] = {}
        self._interpolants: dict[tuple[int, bytes | None], Interpolant] = {}

    def __repr__(self) -> str:
        more = (", additive" if self.alone else "") + (", centred" if self.centre.any() else "")
        return f"Sketch({self.num_directions} directions, degree {self.degree}, {self.space!r}, key={self.key}{more})"

    @property
    def coefficients(self) -> Any:
        """``θ_1 .. θ_k`` of ``train(1 - G (z_0 + t ψ_i))``: the pytree of ``parameters``, leaves (m, k, ...) complex.

        Those of a stored sketch are read when asked for.
        """
        parts = list(self._parts())
        return parts[0] if len(parts) == 1 else jax.tree.map(lambda *c: np.concatenate(c), *parts)

    def _parts(self) -> Iterator[Any]:
        """The jets, a bounded part of the directions at a time."""
        if self._jets is None:
            raise ValueError(
                "this sketch keeps what was measured for the queries it was made with, not the parameters: "
                f"ask for one of {sorted(self.queries)}, or sketch without queries=."
            )
        return self._jets() if callable(self._jets) else slices(self._jets)

    def measure(self, query: Callable) -> tuple[np.ndarray, np.ndarray]:
        """The query's value at the centre (with nothing deleted, unless the sketch has another) and its coefficients.

        Args:
            query: a differentiable function of what ``train`` returns, with real floating output of some shape S.

        Returns:
            The value, shape S, and the coefficients along every direction, ``(m, k)`` followed by S, complex.
        """
        seen = self._see(query)
        shape = seen.baseline.shape
        return seen.centre.reshape(shape), seen.coefficients.reshape(self.num_directions, self.degree, *shape)

    @property
    def seen_deletions(self) -> np.ndarray | None:
        """The deletions (q, n) that an additive sketch was retrained for, which are no test of it; else None."""
        return None if self.alone is None else np.asarray(self.space.embed(np.eye(self.space.dim)), np.float64)

    def _see(self, query: Callable | str) -> Measured:
        for name, seen in self.queries.items():
            if query == name or (seen.query is not None and query is seen.query):
                return seen
        if isinstance(query, str):
            if not self.queries and self._jets is None:
                raise KeyError(f"no query is called {query!r} yet: shards of this sketch are missing.")
            if not self.queries:
                check_query(query, self.parameters)  # says what a query has to be
            raise KeyError(f"no query is called {query!r}; this sketch was made with {sorted(self.queries)}.")
        key = id(query), matmul_precision()  # a setting that the user changes is another question
        if key in self._measured and self._measured[key].query is query:
            return self._measured[key]
        check_smooth_query(query, self.parameters)
        c = push(query, self.parameters_at_centre, self._parts(), self.num_directions)
        seen = measured(query, self.parameters, self.parameters_at_centre, c, self.alone)
        if len(self._measured) >= 64:
            self._measured.pop(next(iter(self._measured)))
        self._measured[key] = seen
        return seen

    @functools.cached_property
    def directions(self) -> np.ndarray:
        """The directions ψ_i, (m, q) complex128, drawn again from the seed."""
        re, im = directions(self.key, np.arange(self.num_directions), self.space.dim, design=self.design)
        return np.asarray(re, np.float64) + 1j * np.asarray(im, np.float64)

    def predict(
        self,
        query: Callable | str,
        delete: Any,
        estimator: str = "auto",
        failure: float = 0.05,
        gradient: Any = None,
        control: bool = False,
    ) -> Prediction:
        """Predict a query after deletions: ``f(x) ≈ f(0) + Σ_r P_r(x)``.

        ``P_r(x) = C(q+r-1, r) E[<ψ, x>^r c_r(ψ)]``, estimated from the directions of the sketch. A sketch with a
        centre expands there, ``f(x_0) + Σ_r P_r(x - x_0)``; an additive one estimates interactions only, and adds
        what each coordinate does alone.

        Args:
            query: a function of what ``train`` returns, with real output; or the name of one that the sketch was
                made with.
            delete: what to delete, as the space of the sketch reads it: positions, a mask, group names, or a
                stack of them.
            estimator: ``"mean"`` (the paper's), ``"median_of_means"`` (robust), ``"least_squares"`` (order one
                solved for: exact once 2m >= q; the mean of the others), ``"kernel"`` (every order fitted, exact
                once 2m >= C(q+r-1, r), and the mean of what the fits leave), or ``"auto"``: ``"kernel"``, but from
                the first order on that is lost in noise (see ``orders_used``) the noisy mean counts only by the share
                that is expected not to be noise (see ``shrunk``). The mean is unbiased.
                So are fits for a shrinkage fixed beforehand; it is chosen by the same directions (as the share of a
                ``control`` is), which pulls a term towards zero by about a tenth of its standard error. More than
                4096 unknowns and equations are not solved, but averaged, with a warning.
            failure: δ of the median of means.
            gradient: the exact derivative of the query with respect to the coordinates at the centre, where one
                pass through training gave it (:func:`sketchlearn.gradient`): shape (q,) followed by S. Order one is
                then exact for every deletion.
            control: use what θ_1 alone determines of the orders above one as a control variate (it is exact once
                2m >= q, or in an additive sketch): weighted by regression over the directions. It costs a pass over
                the directions and the deletions, and pays for queries that bend more than the parameters
                do; on microgpt it takes 8% off the variance of order two.

        Returns:
            A :class:`Prediction`. Its errors are NaN, unknown, and a warning says so, for outputs of the query that did
            not move along any direction, and for deletions that empty a batch of a run of weighted means.

        Raises:
            ValueError: the query depends on the parameters through flat operations only (argmax, sign, a comparison),
                or not at all: its series is zero, which would be a certain zero and no answer. Or other arguments
                that do not fit.

        Example:
            >>> import jax.numpy as jnp, sketchlearn as sl
            >>> train = lambda w: jnp.sum(w * jnp.arange(4.0)) ** 2
            >>> s = sl.sketch(train, sl.Examples(4), degree=2, num_directions=4000, progress=False)
            >>> p = s.predict(lambda parameters: parameters, [0, 1])    # 36 becomes (6 - 1)² = 25
            >>> float(p.baseline), bool(abs(p.value - 25) < 4 * p.standard_error)
            (36.0, True)

        Source: Gunn, "How to sketch a learning algorithm", arXiv:2604.07328.
        """
        if estimator not in ESTIMATORS:
            raise ValueError(f"estimator must be one of {', '.join(map(repr, ESTIMATORS))}, got {estimator!r}.")
        fewest = 4 if estimator == "median_of_means" else 2
        if self.num_directions < fewest:
            raise ValueError(
                f"a standard error of the estimator {estimator!r} needs at least {fewest} directions, this sketch has "
                f"{self.num_directions}."
            )
        z = self.space.locate(delete)
        at = np.atleast_2d(z) - self.centre
        seen = self._see(query)
        first = None if gradient is None else checked_gradient(gradient, self.space, seen.baseline.shape)
        c = seen.coefficients.astype(np.complex128)
        known = np.tile(seen.centre - seen.baseline.reshape(-1).astype(float), (len(at), 1))
        if seen.alone:
            known += seen.alone.change(at)
            c -= seen.alone.powers(self.directions)
            c[:, 0] = 0  # exactly: the first order has no interactions
        elif first is not None:
            c[:, 0] = 0
        if control and self._jets is None:
            raise ValueError("control needs the parameters, and this sketch keeps queries instead.")
        raw = c.copy()
        raw[:, 0] = seen.coefficients[:, 0]  # the first order is a size, too, where it is known
        apart = self._control(seen.query, c, at) if control and seen.query else np.zeros((len(at), *c.shape[1:]))
        powers = estimators.powers(self.directions, at, self.degree, interactions=seen.alone is not None)
        scales = self._scales(seen) if estimator in FITTED and (self.alone or self._solves_first) else None
        sizes = sizes_along(self.directions, raw, bool(seen.alone)).at(at)
        how, notes = [estimator.replace("_", " ")] * self.degree, []
        if estimator == "median_of_means":
            groups = estimators.groups_for(failure, self.num_directions)
            if (reached := math.exp(-groups / 8)) > failure:
                notes.append(
                    f"{self.num_directions} directions make {groups} groups, which guarantee a failure probability of "
                    f"{reached:.2g}, not {failure:g}: use more directions."
                )
            found = estimators.median_of_means(powers, c, self.space.dim, groups)
        elif estimator == "mean":
            found = estimators.mean(powers, c, self.space.dim)
        else:
            orders = 1 if estimator == "least_squares" else self.degree
            rounding = float(np.finfo(seen.coefficients.dtype).eps)
            made = [self._fit(r, c[:, r - 1], at, rounding, r <= orders, scales) for r in range(1, self.degree + 1)]
            fits, how = [fit for fit, _ in made], [text for _, text in made]
            averaged = [fit.residuals if fit.residuals.any() else c[:, r] for r, fit in enumerate(fits)]
            left = np.stack(averaged, 1)  # of an order that is solved for, all of it
            expected = sizes_along(self.directions, left, bool(seen.alone)).at(at)
            found = estimators.with_fits(powers, fits, self.space.dim, expected, sizes * fraction_of(left, raw))
        if first is not None and not seen.alone:
            apart[:, 0] += at @ first
        found = estimators.plus(found, apart)
        if seen.alone or first is not None:
            how[0] = "each coordinate run alone" if seen.alone else "the gradient given"
        used, lost = np.ones(found.terms.shape, bool), np.zeros_like(known)
        if estimator == "auto":
            used = estimators.significant(found, expected, known if seen.alone else None)
            lost = (found.lost * ~used).sum(1)
        fraction = np.abs(np.asarray(self.space.embed(at))).mean(1)
        size = None if estimator not in FITTED else self._first_size(seen, first, at)
        lowest = 2 if seen.alone else 1
        moved = at @ seen.alone.coefficients[:, 0] if seen.alone else found.terms[:, 0]
        missing, decays = truncation(
            found.terms, used, at, fraction, sizes, moved, lost, size, lowest, self.calibration
        )
        prediction = predict_from(found, seen.baseline, known, z.ndim > 1, used, missing, decays)
        asked = {"auto": self.degree, "kernel": self.degree, "least_squares": 1}.get(estimator, 0)  # orders to fit
        unfitted = [r for r in range(1, asked + 1) if self._too_costly(r)]
        if unfitted:
            notes.append(
                f"orders {unfitted} are averaged, not fitted: more than {MOST_EQUATIONS} equations would be solved."
            )
        prediction = dataclasses.replace(prediction, warnings=(*prediction.warnings, *notes), how=tuple(how))
        return with_doubts(prediction, seen, z if z.ndim > 1 else z[None], self, first)

    def _first_size(self, seen: Measured, gradient: np.ndarray | None, at: np.ndarray) -> np.ndarray | None:
        """The size of the first order without cancellation between coordinates, (B, Q), where it is known.

        For interactions, what the lesser coordinates do: the largest has them with those only.
        """
        if seen.alone:
            squares = np.stack([(at * own) ** 2 for own in seen.alone.coefficients[:, 0].T], -1)  # (B, q, Q)
            return np.sqrt(np.maximum(squares.sum(1) - squares.max(1), 0))
        if gradient is None:
            if not self._solves_first:
                return None
            first = seen.coefficients[:, 0].astype(complex)
            gradient = self._interpolant(1).fit(first, np.eye(self.space.dim)).values
        return np.sqrt(at**2 @ gradient**2)

    @property
    def _solves_first(self) -> bool:
        return not self._too_costly(1) and self._interpolant(1).determined

    def _control(self, query: Callable, c: np.ndarray, at: np.ndarray) -> np.ndarray:
        """Subtract from c, in place, what θ_1 alone determines; return what that is at the deletions, (B, k, Q)."""

        def alone(first: np.ndarray) -> np.ndarray:  # the jet of parameters that has nothing but its first order
            return np.concatenate(
                [first[:, None], np.zeros((len(first), self.degree - 1, *first.shape[1:]))], 1
            ).astype(first.dtype)

        if self.alone:
            own = jax.tree.map(lambda a: np.asarray(a)[:, 0], self.alone.coefficients)
            first = jax.tree.map(lambda a: np.tensordot(at.astype(a.dtype), a, 1), own)
        elif self._solves_first:
            solver = self._interpolant(1)
            re, im = np.split(solver.weights(at), 2)

            def solved(a: np.ndarray) -> np.ndarray:
                used = a[: solver.num_used]
                return (np.tensordot(re.T, used.real, 1) + np.tensordot(im.T, used.imag, 1)).astype(used.real.dtype)

            every = [jax.tree.map(lambda a: np.asarray(a)[:, 0], part) for part in self._parts()]
            first = jax.tree.map(lambda *a: solved(np.concatenate(a)), *every)
        else:
            raise ValueError(
                "control needs the first order of the parameters, which is exact once twice the directions "
                f"({self.num_directions}) reach the coordinates ({self.space.dim}), or in an additive sketch."
            )
        centre = self.parameters_at_centre
        there = push(query, centre, slices(jax.tree.map(alone, first)), len(at))[:, 1:].astype(float)
        firsts = (jax.tree.map(lambda a: alone(np.asarray(a)[:, 0]), part) for part in self._parts())
        along = push(query, centre, firsts, self.num_directions)[:, 1:]
        if self.alone:  # interactions of the control, too
            only = push(query, centre, slices(jax.tree.map(alone, own)), self.space.dim)[:, 1:].astype(float)
            for r in range(1, self.degree + 1):
                along[:, r - 1] -= (self.directions**r) @ only[:, r - 1]
                there[:, r - 1] -= (at**r) @ only[:, r - 1]
        square = (np.abs(along) ** 2).sum(0)
        share = (c * along.conj()).real.sum(0) / np.where(square > 0, square, 1)
        share[0] = 1 if c[:, 0].any() else 0  # order one is known: by θ_1, or before
        c -= share * along
        return share * there

    def _fit(
        self,
        order: int,
        coefficients: np.ndarray,
        z: np.ndarray,
        rounding: float,
        fitted: bool,
        scales: np.ndarray | None,
    ) -> tuple[Fitted, str]:
        """The fit of one order that leaves least: with all coordinates alike, or scaled by what they do; or none."""
        if not fitted or self._too_costly(order):
            nothing = np.zeros((len(z), coefficients.shape[1]))
            return Fitted(nothing, coefficients, nothing, np.zeros(coefficients.shape[1], bool)), "mean"
        plain = self._interpolant(order)
        best = plain.fit(coefficients, z, rounding)
        how = "solved for" if plain.determined else "kernel, and the mean of what it leaves"
        if order > 1 and not plain.determined and scales is not None:
            other = self._interpolant(order, scales).fit(coefficients, z, rounding)
            better = (np.abs(other.residuals) ** 2).sum(0) < (np.abs(best.residuals) ** 2).sum(0)
            best = Fitted(*(np.where(better, a, b) for a, b in zip(other, best, strict=True)))
            how += f"; coordinates scaled by their first order in {better.sum()} of {len(better)} outputs"
        return best, how

    def _too_costly(self, order: int) -> bool:
        """Whether a fit of this order would take more equations than can be solved in seconds."""
        unknowns = math.comb(self.space.dim + order - 1, order)
        return min(unknowns, 2 * self.num_directions) > MOST_EQUATIONS

    def _interpolant(self, order: int, scales: np.ndarray | None = None) -> Interpolant:
        """The equations of an order, with coordinates alike or scaled; those made last are kept."""
        which = order, None if scales is None else scales.tobytes()
        if which not in self._interpolants:
            pure = 0.0 if self.alone and order > 1 else None if scales is None else PURE
            if len(self._interpolants) >= KEPT_INTERPOLANTS:  # each holds (2m, 2m) eigenvectors
                self._interpolants.pop(next(iter(self._interpolants)))
            self._interpolants[which] = Interpolant(self.directions, order, scales, pure)
        return self._interpolants[which]

    def _scales(self, seen: Measured) -> np.ndarray:
        """How much each coordinate matters at first order, squared, (q,): a guess for higher orders.

        How much it moves the parameters; where they are not kept, how much it moves this query.
        No other query counts: a prediction depends on nothing but what was asked.
        """
        # only asked for where it is exact: a guess made from the directions would bias what is averaged over them
        if self._jets is not None:
            return self._parameter_scales
        effects = (seen.alone or seen).coefficients[:, 0]
        if not self.alone:
            effects = self._interpolant(1).fit(effects.astype(complex), np.eye(self.space.dim)).values
        return of_effects(effects)

    @functools.cached_property
    def _parameter_scales(self) -> np.ndarray:
        """How much each coordinate moves the parameters at first order, squared, (q,)."""
        total = sum(np.size(leaf) for leaf in jax.tree.leaves(self.parameters))
        chosen = probed(total)
        trees = [self.alone.coefficients] if self.alone else self._parts()
        each = ([np.asarray(c)[:, 0].reshape(len(c), -1) for c in jax.tree.leaves(tree)] for tree in trees)
        effects = np.concatenate([np.concatenate(leaves, 1)[:, chosen] for leaves in each])
        if not self.alone:
            effects = self._interpolant(1).fit(effects.astype(complex), np.eye(self.space.dim)).values
        return of_effects(effects)
