"""The sketch: jets of a training run along random complex directions, and predictions from them."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from . import estimators
from .algebra import series
from .controls import Alone, run_alone
from .directions import check_design, directions
from .errors import check_count, check_degree, check_finite, check_key
from .interpolation import Fitted, Interpolant
from .prediction import Prediction, predict_from
from .running import (
    LARGEST_BLOCK,
    affordable_block,
    blocks,
    check_jets,
    check_parameters,
    check_query,
    check_train,
    collect,
    full_weights,
    in_blocks,
    jets_along,
)
from .spaces import Space
from .taylor.transform import push_forward

ESTIMATORS = ("auto", "mean", "median_of_means", "least_squares", "kernel")
MOST_EQUATIONS = 4096  # of a fit, which takes the cube of their number: 20 s; above, the mean alone is used
PROBED_PARAMETERS = 512


class Measured(NamedTuple):
    """A query seen through a sketch, its outputs S flattened to Q."""

    query: Callable
    baseline: np.ndarray  # S, with nothing deleted
    centre: np.ndarray  # (Q,), at the centre
    coefficients: np.ndarray  # (m, k, Q) complex
    alone: Alone | None


class Sketch:
    """The jets of one training run; made by :func:`sketch`, asked by :meth:`predict`.

    Attributes:
        space: the deletions that can be asked for.
        degree: k.
        num_directions: m.
        key: the seed of the directions.
        parameters: what ``train`` returns with nothing deleted.
        coefficients: the same pytree, every leaf (m, k, ...) complex: ``θ_1 .. θ_k`` of
            ``train(1 - G (z_0 + t ψ_i))``.
        centre: z_0, (q,), where the run was expanded; zero unless asked for.
        parameters_at_centre: what ``train`` returns there.
        alone: what each coordinate does alone, for an additive sketch; else None.
    """

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
    ):
        self.space, self.degree, self.key, self.design = space, degree, key, design
        self.parameters, self.coefficients, self.alone = parameters, coefficients, alone
        self.centre = np.zeros(space.dim) if centre is None else centre
        self.parameters_at_centre = parameters if centre is None else parameters_at_centre
        self.num_directions = len(jax.tree.leaves(coefficients)[0])
        self._measured: dict[int, Measured] = {}
        self._interpolants: dict[tuple[int, bool], Interpolant] = {}

    def __repr__(self) -> str:
        more = ", additive" if self.alone else ""
        more += ", centred" if self.centre.any() else ""
        return f"Sketch({self.num_directions} directions, degree {self.degree}, {self.space!r}, key={self.key}{more})"

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

    def _see(self, query: Callable) -> Measured:
        if id(query) in self._measured and self._measured[id(query)].query is query:
            return self._measured[id(query)]
        check_query(query, self.parameters)
        baseline = np.asarray(jax.jit(query)(self.parameters))
        c = self._push(query, self.coefficients)
        alone = None
        if self.alone:
            ends = [np.asarray(x) for x in _in_batches(jax.jit(jax.vmap(jax.vmap(query))), self.alone.ends)]
            at_ends = np.concatenate(ends).reshape(*self.alone.positions.shape, -1).astype(float)
            own = self._push(query, self.alone.coefficients)
            alone = Alone(at_ends - own[0, 0], own[:, 1:].astype(float), self.alone.positions)
        centre = c[0, 0].real if self.centre.any() else baseline.reshape(-1)
        if len(self._measured) >= 64:
            self._measured.pop(next(iter(self._measured)))
        self._measured[id(query)] = Measured(query, baseline, centre, c[:, 1:], alone)
        return self._measured[id(query)]

    def _push(self, query: Callable, jets: Any) -> np.ndarray:
        """The query's coefficients (M, k+1, Q) along M jets with leaves (M, k, ...)."""

        def coefficients(jets: Any) -> Any:
            return push_forward(query, jets, value=self.parameters_at_centre)

        c = np.concatenate([np.asarray(x) for x in _in_batches(jax.jit(jax.vmap(coefficients)), jets)])
        if not np.isfinite(c).all():
            raise FloatingPointError("the query's coefficients are not finite: is the query differentiable there?")
        return c.reshape(*c.shape[:2], -1)

    @functools.cached_property
    def directions(self) -> np.ndarray:
        """The directions ψ_i, (m, q) complex128, drawn again from the seed."""
        re, im = directions(self.key, jnp.arange(self.num_directions), self.space.dim, design=self.design)
        return np.asarray(re, np.float64) + 1j * np.asarray(im, np.float64)

    def predict(
        self, query: Callable, delete: Any, estimator: str = "auto", failure: float = 0.05, gradient: Any = None
    ) -> Prediction:
        """Predict a query after deletions: ``f(x) ≈ f(0) + Σ_r P_r(x)``.

        ``P_r(x) = C(q+r-1, r) E[<ψ, x>^r c_r(ψ)]``, estimated from the directions of the sketch. A sketch with a
        centre expands there, ``f(x_0) + Σ_r P_r(x - x_0)``; an additive one estimates interactions only, and adds
        what each coordinate does alone.

        Args:
            query: a function of what ``train`` returns, with real output.
            delete: what to delete, as the space of the sketch reads it: positions, a mask, group names, or a
                stack of them.
            estimator: ``"mean"`` (the paper's), ``"median_of_means"`` (robust), ``"least_squares"`` (order one
                solved for: exact once 2m >= q; the mean of the others), ``"kernel"`` (every order fitted, exact
                once 2m >= C(q+r-1, r), and the mean of what the fits leave), or ``"auto"``: ``"kernel"``,
                stopping before the first order that is lost in noise (see ``orders_used``). All but the median are
                unbiased as long as no order is dropped.
            failure: δ of the median of means.
            gradient: the exact derivative of the query with respect to the coordinates at the centre, where one
                pass through training gave it (:func:`sketchlearn.gradient`): shape (q,) followed by S. Order one is
                then exact for every deletion, and so is its part of every other order's noise.

        Returns:
            A :class:`Prediction`.

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
        first = None if gradient is None else self._check_gradient(gradient, seen)
        c = seen.coefficients.astype(np.complex128)
        known = np.tile(seen.centre - seen.baseline.reshape(-1).astype(float), (len(at), 1))
        if seen.alone:
            known += seen.alone.change(at)
            c -= seen.alone.powers(self.directions)
            c[:, 0] = 0  # exactly: the first order has no interactions
        elif first is not None:
            c[:, 0] = 0
        inner = self.directions.conj() @ at.T
        if estimator == "median_of_means":
            groups = estimators.groups_for(failure, self.num_directions)
            found = estimators.median_of_means(inner, c, self.space.dim, groups)
        elif estimator == "mean":
            found = estimators.mean(inner, c, self.space.dim)
        else:
            orders = 1 if estimator == "least_squares" else self.degree
            rounding = float(np.finfo(seen.coefficients.dtype).eps)
            fits = [self._fit(r, c[:, r - 1], at, rounding, fitted=r <= orders) for r in range(1, self.degree + 1)]
            found = estimators.with_fits(inner, fits, self.space.dim)
        if first is not None and not seen.alone:
            found.terms[:, 0] = at @ first
            if found.change is not None:
                found = found._replace(change=found.change + at @ first)
        reference = known if seen.alone else None
        used = estimators.significant(found, reference) if estimator == "auto" else np.ones(found.terms.shape, bool)
        each = self._each_alone(seen, first)
        sizes = None if each is None or estimator in ("mean", "median_of_means") else np.sqrt(at**2 @ each**2)
        prediction = predict_from(found, seen.baseline, known, z.ndim > 1, used, sizes)
        asked = {"auto": self.degree, "kernel": self.degree, "least_squares": 1}.get(estimator, 0)  # orders to fit
        unfitted = [r for r in range(1, asked + 1) if self._too_costly(r)]
        if unfitted:
            note = f"orders {unfitted} are averaged, not fitted: more than {MOST_EQUATIONS} equations would be solved."
            prediction = dataclasses.replace(prediction, warnings=(*prediction.warnings, note))
        return prediction

    def _each_alone(self, seen: Measured, gradient: np.ndarray | None) -> np.ndarray | None:
        """The first-order effect of every coordinate, (q, Q), where it is known exactly."""
        if seen.alone:
            return seen.alone.coefficients[:, 0]
        if gradient is not None:
            return gradient
        if self._too_costly(1) or not self._interpolant(1, False).determined:
            return None
        return self._interpolant(1, False).fit(seen.coefficients[:, 0].astype(complex), np.eye(self.space.dim)).values

    def _check_gradient(self, gradient: Any, seen: Measured) -> np.ndarray:
        expected = (self.space.dim, *seen.baseline.shape)
        array = np.asarray(gradient, float)
        if array.shape != expected:
            raise ValueError(
                f"gradient must have shape {expected}, a row for each coordinate of {self.space!r}, got {array.shape}."
            )
        check_finite("gradient", array)
        return array.reshape(self.space.dim, -1)

    def _fit(self, order: int, coefficients: np.ndarray, z: np.ndarray, rounding: float, fitted: bool) -> Fitted:
        """The fit of one order that leaves least: with all coordinates alike, or scaled by what they do; or none."""
        if not fitted or self._too_costly(order):
            nothing = np.zeros((len(z), coefficients.shape[1]))
            return Fitted(nothing, coefficients, nothing)
        best = self._interpolant(order, False).fit(coefficients, z, rounding)
        if order > 1 and not self._interpolant(order, False).determined:
            other = self._interpolant(order, True).fit(coefficients, z, rounding)
            better = (np.abs(other.residuals) ** 2).sum(0) < (np.abs(best.residuals) ** 2).sum(0)
            best = Fitted(*(np.where(better, a, b) for a, b in zip(other, best, strict=True)))
        return best

    def _too_costly(self, order: int) -> bool:
        """Whether a fit of this order would take more equations than can be solved in seconds."""
        return 2 * min(self.num_directions, math.comb(self.space.dim + order - 1, order)) > MOST_EQUATIONS

    def _interpolant(self, order: int, scaled: bool) -> Interpolant:
        if (order, scaled) not in self._interpolants:
            self._interpolants[order, scaled] = Interpolant(self.directions, order, self._scales if scaled else None)
        return self._interpolants[order, scaled]

    @functools.cached_property
    def _scales(self) -> np.ndarray:
        """How much each coordinate moves the parameters at first order, squared, (q,): a guess for higher orders."""
        first = [np.asarray(c[:, 0]).reshape(self.num_directions, -1) for c in jax.tree.leaves(self.coefficients)]
        every = np.concatenate(first, 1)
        chosen = np.random.default_rng(0).permutation(every.shape[1])[:PROBED_PARAMETERS]  # plenty for a length
        effects = self._interpolant(1, False).fit(every[:, chosen].astype(complex), np.eye(self.space.dim))
        size = (effects.values**2).sum(1)
        return size / size.mean() + 1e-6 if size.any() else np.ones_like(size)


def _in_batches(run: Callable, tree: Any) -> Iterator[Any]:
    """Run a vectorised function over the leading axis of a pytree, a bounded part of it at a time."""
    for start, stop in blocks(len(jax.tree.leaves(tree)[0]), LARGEST_BLOCK):
        yield run(jax.tree.map(lambda c, a=start, b=stop: c[a:b], tree))


def sketch(
    train: Callable,
    space: Space,
    degree: int = 3,
    num_directions: int = 500,
    key: int = 0,
    batch_size: int | None = None,
    dtype: Any = None,
    progress: bool = True,
    *,
    additive: bool = False,
    centre: Any = None,
    design: str = "independent",
) -> Sketch:
    """Run a training program over power series along random complex directions of its weights.

    ``train(1 - G (z_0 + t ψ_i)) = Σ_{r<=k} θ_r t^r`` for i = 1..m, with ψ_i uniform on the unit
    sphere of C^q, G the space's embedding and z_0 the centre, 0 if not given.

    Args:
        train: weights (n,) -> parameters; a pure JAX function, any pytree of floating arrays.
        space: which deletions can be asked for, for instance ``Examples(n)``.
        degree: k, the highest order kept.
        num_directions: m; the error of a prediction falls like ``1/sqrt(m)``.
        key: the seed of the directions, a whole number.
        batch_size: directions run at once; by default as many as half the free memory
            holds by estimate, at most 128. It changes no result beyond rounding.
        dtype: of the weights, float32 or float64; by default the wider one that is enabled.
        progress: show a progress bar (on stderr).
        additive: also run each of the q coordinates alone, as a real series and trained again without it (about
            q/3 complex directions and q trainings). Deletions of one coordinate are then exact, and of the others
            only interactions are estimated.
        centre: where to expand instead of at full weights: a fraction between 0 and 1 by which every coordinate is
            weighted down, or a vector (n,) of fractions that the space contains. For large deletions: the
            expected deleted fraction.
        design: of the directions, ``"independent"`` or ``"orthogonal"`` (in blocks of q; the standard errors, which
            count them as independent, are then too large for order one).

    Returns:
        A :class:`Sketch`.

    Raises:
        UnsupportedPrimitive: the program uses an operation without a Taylor rule.
        FloatingPointError: the training run or its jets are not finite.
        ValueError, TypeError: arguments that do not fit, ``train`` refusing weights of shape (n,).

    Example:
        >>> import jax.numpy as jnp, sketchlearn as sl
        >>> s = sl.sketch(lambda w: w.sum() ** 2, sl.Examples(3), degree=2, num_directions=8, progress=False)
        >>> s
        Sketch(8 directions, degree 2, Examples(3), key=0)
    """
    degree, m = check_degree(degree), check_count("num_directions", num_directions)
    key = check_key(key)
    weights = full_weights(space, dtype)
    check_train(train, weights)
    check_design(design, space.dim)
    start_at = _centre(space, centre)
    base = weights if start_at is None else weights - space.embed(jnp.asarray(start_at, weights.dtype))
    algebra = series(degree)
    if batch_size is None:
        batch_size = affordable_block(train, weights, algebra)
    batch_size = min(check_count("batch_size", batch_size), m)
    parameters_at_centre = None

    def draw(start: int, size: int) -> tuple[jax.Array, jax.Array]:
        return directions(key, jnp.arange(start, start + size), space.dim, weights.dtype, design)

    def jets() -> Iterator[tuple[int, int, Any]]:
        nonlocal parameters_at_centre
        program = functools.partial(jets_along, train, space, base, algebra)
        for start, stop, (found, block) in in_blocks(program, draw, m, batch_size, "sketching", "direction", progress):
            check_parameters(found)
            parameters_at_centre = found
            yield start, stop, block

    coefficients = collect(jets(), m, check_jets)
    parameters = parameters_at_centre
    if start_at is not None:
        parameters = jax.jit(train)(weights)
        check_parameters(parameters)
    alone = None
    if additive:
        zero = np.zeros(space.dim) if start_at is None else start_at
        alone = run_alone(train, space, degree, base, zero, min(batch_size, space.dim), progress)
    return Sketch(space, degree, key, parameters, coefficients, start_at, parameters_at_centre, alone, design)


def _centre(space: Space, centre: Any) -> np.ndarray | None:
    """The coordinates of the centre, (q,), or None for full weights."""
    if centre is None:
        return None
    if np.ndim(centre) == 0:
        if isinstance(centre, bool) or not 0 < float(centre) < 1:
            raise ValueError(
                "centre must be a fraction between 0 and 1 by which every coordinate is weighted down, "
                f"or a vector (n,) of fractions, got {centre!r}."
            )
        return np.full(space.dim, float(centre))
    found = space.locate(np.asarray(centre, float))
    if found.ndim != 1 or (found < 0).any() or (found >= 1).any():
        raise ValueError(
            "a centre is one vector of fractions, at least 0 and below 1 (at 1 an example would have no weight left)."
        )
    return found
