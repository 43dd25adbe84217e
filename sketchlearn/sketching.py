"""The sketch: jets of a training run along random complex directions, and predictions from them."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import psutil
from jax import lax

from . import _jax_compat as compat
from . import estimators
from .algebra import Algebra, Jet, StackedSeries, series
from .directions import directions
from .errors import check_count, check_degree, check_dtype, check_key
from .interpolation import Fitted, Interpolant
from .lanes import lanes, side_by_side
from .prediction import Prediction, predict_from
from .progress import track
from .spaces import Space
from .taylor.interpreter import Context
from .taylor.transform import evaluate, push_forward

LARGEST_BLOCK = 128  # larger blocks were not faster on a CPU
ESTIMATORS = ("auto", "mean", "median_of_means", "least_squares", "kernel")
MOST_EQUATIONS = 4096  # of a fit, which takes the cube of their number: 20 s; above, the mean alone is used
PROBED_PARAMETERS = 512
SMALLEST_LANE = 32  # below, each operation is too small to be fast


class Sketch:
    """The jets of one training run; made by :func:`sketch`, asked by :meth:`predict`.

    Attributes:
        space: the deletions that can be asked for.
        degree: k.
        num_directions: m.
        key: the seed of the directions.
        parameters: what ``train`` returns with nothing deleted.
        coefficients: the same pytree, every leaf (m, k, ...) complex: ``θ_1 .. θ_k`` of
            ``train(1 - t G ψ_i)``.
    """

    def __init__(self, space: Space, degree: int, key: int, parameters: Any, coefficients: Any):
        self.space, self.degree, self.key = space, degree, key
        self.parameters, self.coefficients = parameters, coefficients
        self.num_directions = len(jax.tree.leaves(coefficients)[0])
        self._measured: dict[int, tuple] = {}
        self._interpolants: dict[tuple[int, bool], Interpolant] = {}

    def __repr__(self) -> str:
        return f"Sketch({self.num_directions} directions, degree {self.degree}, {self.space!r}, key={self.key})"

    def measure(self, query: Callable) -> tuple[np.ndarray, np.ndarray]:
        """The query's value with nothing deleted, and its coefficients along every direction.

        Args:
            query: a differentiable function of what ``train`` returns, with real floating output of some shape S.

        Returns:
            The baseline, shape S, and the coefficients of shape ``(m, k)`` followed by S, complex.
        """
        if id(query) in self._measured and self._measured[id(query)][0] is query:
            return self._measured[id(query)][1:]
        check_query(query, self.parameters)

        def coefficients(jets: Any) -> Any:
            return push_forward(query, jets, value=self.parameters)

        push = jax.jit(jax.vmap(coefficients))
        found = []
        for start, stop in _blocks(self.num_directions, LARGEST_BLOCK):
            block = jax.tree.map(lambda c, a=start, b=stop: c[a:b], self.coefficients)
            found.append(np.asarray(push(block)))
        c = np.concatenate(found)
        baseline = c[0, 0].real
        if not np.isfinite(c).all():
            raise FloatingPointError("the query's coefficients are not finite: is the query differentiable there?")
        if len(self._measured) >= 64:
            self._measured.pop(next(iter(self._measured)))
        self._measured[id(query)] = (query, baseline, c[:, 1:])
        return baseline, c[:, 1:]

    @functools.cached_property
    def directions(self) -> np.ndarray:
        """The directions ψ_i, (m, q) complex128, drawn again from the seed."""
        re, im = directions(self.key, jnp.arange(self.num_directions), self.space.dim)
        return np.asarray(re, np.float64) + 1j * np.asarray(im, np.float64)

    def predict(self, query: Callable, delete: Any, estimator: str = "auto", failure: float = 0.05) -> Prediction:
        """Predict a query after deletions: ``f(x) ≈ f(0) + Σ_r P_r(x)``.

        ``P_r(x) = C(q+r-1, r) E[<ψ, x>^r c_r(ψ)]``, estimated from the directions of the sketch.

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
        stack = np.atleast_2d(z)
        baseline, c = self.measure(query)
        inner = self.directions.conj() @ stack.T
        flat = c.reshape(*c.shape[:2], -1).astype(np.complex128)
        if estimator == "median_of_means":
            groups = estimators.groups_for(failure, self.num_directions)
            found = estimators.median_of_means(inner, flat, self.space.dim, groups)
        elif estimator == "mean":
            found = estimators.mean(inner, flat, self.space.dim)
        else:
            orders = 1 if estimator == "least_squares" else self.degree
            rounding = float(np.finfo(c.dtype).eps)
            fits = [
                self._fit(r, flat[:, r - 1], stack, rounding, fitted=r <= orders) for r in range(1, self.degree + 1)
            ]
            first = None
            if (
                not self._too_costly(1) and self._interpolant(1, False).determined
            ):  # each coordinate's own effect is known
                each = self._interpolant(1, False).fit(flat[:, 0], np.eye(self.space.dim)).values
                first = np.sqrt(stack**2 @ each**2)
            found = estimators.with_fits(inner, fits, self.space.dim, first)
        used = estimators.significant(found) if estimator == "auto" else np.ones(found.terms.shape, bool)
        prediction = predict_from(found, baseline, z.ndim > 1, used)
        asked = {"auto": self.degree, "kernel": self.degree, "least_squares": 1}.get(estimator, 0)  # orders to fit
        unfitted = [r for r in range(1, asked + 1) if self._too_costly(r)]
        if unfitted:
            note = f"orders {unfitted} are averaged, not fitted: more than {MOST_EQUATIONS} equations would be solved."
            prediction = dataclasses.replace(prediction, warnings=(*prediction.warnings, note))
        return prediction

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


def sketch(
    train: Callable,
    space: Space,
    degree: int = 3,
    num_directions: int = 500,
    key: int = 0,
    batch_size: int | None = None,
    dtype: Any = None,
    progress: bool = True,
) -> Sketch:
    """Run a training program over power series along random complex directions of its weights.

    ``train(1 - t G ψ_i) = Σ_{r<=k} θ_r t^r`` for i = 1..m, with ψ_i uniform on the unit
    sphere of C^q and G the space's embedding.

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
    algebra = series(degree)
    if batch_size is None:
        batch_size = _affordable_block(train, weights, algebra)
    batch_size = min(check_count("batch_size", batch_size), m)

    width = lanes(batch_size, SMALLEST_LANE)
    blocks = list(_blocks(m, math.ceil(batch_size / width)))
    size = blocks[0][1] - blocks[0][0]  # of every block, so that one compiled program serves all
    program = jax.jit(lambda re, im: _block(train, space, weights, algebra, re, im))

    # The directions are drawn outside that program: fused into it, their last digits would depend on what it is.
    def draw(start: int) -> tuple[jax.Array, jax.Array]:
        return directions(key, jnp.arange(start, start + size), space.dim, weights.dtype)

    compiled = program.lower(*draw(0)).compile()  # before the lanes, which would each compile it
    done = zip(blocks, side_by_side(compiled, (draw(start) for start, _ in blocks), width), strict=True)
    parameters, stored = None, None
    for (start, stop), (parameters, jets) in track(done, "sketching", "direction", scale=size, total=m, show=progress):
        jets = jax.tree.map(lambda c, count=stop - start: np.asarray(c)[:count], jets)
        _check_jets(parameters, jets, start)
        if stored is None:
            stored = jax.tree.map(lambda c: np.empty((m, *c.shape[1:]), c.dtype), jets)
        for whole, part in zip(jax.tree.leaves(stored), jax.tree.leaves(jets), strict=True):
            whole[start:stop] = part
    return Sketch(space, degree, key, parameters, stored)


def _blocks(count: int, largest: int) -> Iterator[tuple[int, int]]:
    """Split ``count`` into blocks of nearly equal size, none above ``largest``."""
    size = math.ceil(count / math.ceil(count / largest))
    for start in range(0, count, size):
        yield start, min(start + size, count)


def _block(train: Callable, space: Space, weights: Any, algebra: Algebra, re: Any, im: Any) -> tuple[Any, Any]:
    """The parameters, and the jets (B, k, ...) along directions (B, q) given by their real and imaginary parts."""

    def one(re: Any, im: Any) -> tuple[Any, Any]:
        x = [-space.embed(part) for part in (re, im)]  # the weights are 1 - t x
        out = evaluate(train, Context(algebra), weight_jet(algebra, weights, x))
        jets = jax.tree.map(lambda y: y if isinstance(y, Jet) else Jet(y, algebra.zeros(y)), out, is_leaf=_is_jet)
        return (
            jax.tree.map(lambda y: y.primal, jets, is_leaf=_is_jet),
            jax.tree.map(lambda y: _complex_parts(algebra, y.parts), jets, is_leaf=_is_jet),
        )

    return jax.vmap(one, out_axes=(None, 0))(re, im)


def weight_jet(algebra: Algebra, weights: Any, direction: list[Any]) -> Jet:
    """The jet of ``weights + t·direction``, the direction as [real, imaginary]."""
    zeros = algebra.zeros(weights)
    if isinstance(algebra, StackedSeries):
        return Jet(weights, zeros.at[0].set(jnp.stack(direction)))
    return Jet(weights, (tuple(direction), *zeros[1:]))


def _is_jet(x: Any) -> bool:
    return isinstance(x, Jet)


def _complex_parts(algebra: Algebra, parts: Any) -> Any:
    if isinstance(algebra, StackedSeries):
        return lax.complex(parts[:, 0], parts[:, 1])
    return jnp.stack([lax.complex(*p) for p in parts])


def full_weights(space: Space, dtype: Any = None) -> jax.Array:
    """The weights (n,) of a training run with nothing deleted."""
    if isinstance(space, type) or not all(hasattr(space, name) for name in ("locate", "embed", "num_examples", "dim")):
        raise TypeError(f"space must be Examples(n), Candidates, Groups or the like, got {space!r}.")
    return jnp.ones(space.num_examples, check_dtype(dtype))


def check_train(train: Callable, weights: Any) -> Any:
    """The shapes of what ``train`` returns, without running it; or say why it cannot be sketched."""
    if not callable(train):
        raise TypeError(f"train must be a function of the weights, got {type(train).__name__}.")
    try:
        shapes = jax.eval_shape(train, weights)
    except Exception as error:
        raise ValueError(
            f"train failed on weights of shape {weights.shape} and dtype {weights.dtype} "
            f"({type(error).__name__}: {error})"
        ) from error
    if not jax.tree.leaves(shapes):
        raise TypeError("train returned nothing: it must return the trained parameters.")
    return shapes


def check_query(query: Callable, parameters: Any) -> Any:
    """The shape of a query's answer, without running it; or say what a query has to be."""
    if not callable(query):
        raise TypeError(f"query must be a function of the trained parameters, got {type(query).__name__}.")
    try:
        answer = jax.eval_shape(query, parameters)
    except Exception as error:
        raise ValueError(
            f"the query failed on what train returns, a pytree of structure {jax.tree.structure(parameters)} "
            f"({type(error).__name__}: {error})"
        ) from error
    if not isinstance(answer, jax.ShapeDtypeStruct):
        raise TypeError(
            "a query returns one array (or number), this one a pytree of structure "
            f"{jax.tree.structure(answer)}; stack several values into one array."
        )
    if not jnp.issubdtype(answer.dtype, jnp.floating):
        raise TypeError(
            "a query returns real floating-point numbers (a loss, a logit), this one an array of dtype "
            f"{answer.dtype}, which has no Taylor coefficients."
        )
    return answer


def _check_jets(parameters: Any, jets: Any, start: int) -> None:
    for path, leaf in jax.tree_util.tree_leaves_with_path(parameters):
        if not np.isfinite(np.asarray(leaf)).all():
            raise FloatingPointError(f"training with nothing deleted gives NaN or infinity in {_named(path)}.")
    for path, leaf in jax.tree_util.tree_leaves_with_path(jets):
        bad = np.argwhere(~np.isfinite(leaf))
        if len(bad):
            raise FloatingPointError(
                f"the jet of {_named(path)} is not finite at order {bad[0][1] + 1} along direction "
                f"{start + bad[0][0]}: training is not differentiable there (a square root of zero?), or its series "
                f"grows too fast for {leaf.dtype}. Use float64, a lower degree, or a more stable run "
                "(stability_profile shows how fast the orders grow)."
            )


def _named(path: Any) -> str:
    return f"parameter {jax.tree_util.keystr(path)}" if path else "the trained parameters"


def _affordable_block(train: Callable, weights: Any, algebra: Algebra) -> int:
    """How many directions fit into half of the free memory, by estimate."""
    program = compat.trace(train, weights)
    each = 2 * algebra.degree * compat.peak_bytes(program.jaxpr)
    return int(np.clip(_free_memory() / 2 // max(each, 1), 1, LARGEST_BLOCK))


def _free_memory() -> float:
    stats = jax.devices()[0].memory_stats() or {}
    if "bytes_limit" in stats:
        return float(stats["bytes_limit"] - stats.get("bytes_in_use", 0))
    return float(psutil.virtual_memory().available)
