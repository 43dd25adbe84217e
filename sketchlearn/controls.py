"""What is known exactly about a query's dependence on the weights, and so need not be estimated.

Each is a *control variate*: subtracted from the coefficients before anything is estimated, and added back to
the prediction. Exact parts cost no noise, and what they leave is smaller.

* :class:`Alone`: what each coordinate (an example, a group) does alone. Training without it gives the end of its
  curve, a power series in real arithmetic the beginning. The sketch then carries interactions only.
* the first order: from :class:`Alone`, from a gradient through training, or solved for.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from .algebra import series
from .emptied import check_emptying
from .errors import FlatQuery, FlatTraining, check_finite
from .failures import explanation
from .flatness import unmoved, why_flat_training
from .precision import jit
from .running import (
    centre_of,
    check_jets,
    check_parameters,
    check_smooth_query,
    check_train,
    collect,
    full_weights,
    in_blocks,
    jets_along,
)
from .spaces import Space
from .taylor.dependence import dependence


def gradient(train: Callable, query: Callable, space: Space, centre: Any = None, dtype: Any = None) -> np.ndarray:
    """The exact derivative of a query with respect to every coordinate of a space: one pass back through training.

    ``g_i = d/dz_i query(train(1 - G z))`` at the centre: what deleting coordinate i does at first order, in
    the unit of the query.

    Args:
        train: weights (n,) -> parameters.
        query: parameters -> real array of shape S.
        space: of the deletions.
        centre: as in :func:`sketchlearn.sketch`.
        dtype: of the weights.

    Returns:
        Shape (q,) followed by S, float64. The reverse pass keeps what training did at every step in memory, or at about
        √T steps where ``train`` has a ``train_checkpointed``, as recipes have.

    Raises:
        ValueError: the query, or what ``train`` returns, depends on the weights through flat operations only (argmax,
            sign) or through ``stop_gradient``, a constant to reverse mode: the derivative is a certain zero.

    Warns:
        UserWarning: the derivative of some outputs is exactly zero for every coordinate.

    Example:
        >>> import sketchlearn as sl
        >>> sl.gradient(lambda w: w.sum() ** 2, lambda y: y, sl.Examples(3)).tolist()    # 9 becomes (3 - t)²
        [-6.0, -6.0, -6.0]

    Source: reverse mode through training, as in MAGIC (Ilyas and Engstrom, 2025).
    """
    full_weights(space, dtype)
    check_emptying(train, space)
    found, text = gradient_or_why_not(train, query, space, centre, dtype)
    if text:
        warnings.warn(text, UserWarning, stacklevel=2)
    return found


def gradient_or_why_not(
    train: Callable, query: Callable, space: Space, centre: Any = None, dtype: Any = None
) -> tuple[np.ndarray, str]:
    """The gradient of :func:`gradient`, and what is to be said of outputs for which it is exactly zero."""
    weights = full_weights(space, dtype)
    parameters = check_train(train, weights)
    shape = check_smooth_query(query, parameters, reverse=True)
    run = getattr(train, "train_checkpointed", train)
    start = centre_of(space, centre)
    z = jnp.asarray(np.zeros(space.dim) if start is None else start, weights.dtype)

    def rows(z: jax.Array) -> jax.Array:
        values, back = jax.vjp(lambda z: jnp.ravel(query(run(weights - space.embed(z)))), z)
        # one output after the other: all at once would keep the memory of a pass for each
        return jax.lax.map(lambda v: back(v)[0], jnp.eye(values.size, dtype=values.dtype))

    found = np.asarray(jit(rows)(z), float)
    if not np.isfinite(found).all():
        raise FloatingPointError(f"the gradient through training is not finite.{explanation(train, weights)}")
    still, text = np.logical_not(found.any(1)), ""
    if still.any():
        if still.all() and not any(dependence(train, weights, reverse=True).reached):
            raise FlatTraining(why_flat_training(train, weights, reverse=True))
        text, flat = unmoved(still, query, parameters, reverse=True)
        if still.all() and flat:
            raise FlatQuery(text)
    return found.T.reshape(space.dim, *shape.shape), text


def checked_gradient(gradient: Any, space: Space, shape: tuple[int, ...]) -> np.ndarray:
    """A gradient that was given for a query of some shape, as (q, Q); or what is wrong with it."""
    expected, array = (space.dim, *shape), np.asarray(gradient, float)
    if array.shape != expected:
        raise ValueError(
            f"gradient must have shape {expected}, a row for each coordinate of {space!r}, got {array.shape}."
        )
    check_finite("gradient", array)
    return array.reshape(space.dim, -1)


class Alone(NamedTuple):
    """The run with one coordinate moved at a time, for every coordinate: of parameters, or of a query.

    Attributes:
        ends: leaves (q, E, ...): trained with coordinate i moved by ``positions[i, e]``, to deleted and, if the
            centre is not 0, to kept. Of a query, the change from the centre, (q, E, Q).
        coefficients: leaves (q, k, ...), the orders 1..k along each coordinate.
        positions: (q, E).
    """

    ends: Any
    coefficients: Any
    positions: np.ndarray

    def change(self, z: np.ndarray) -> np.ndarray:
        """The sum of what each coordinate does alone, (B, Q), at coordinates z (B, q) relative to the centre.

        Of a query. Between its ends a coordinate's curve is its series, and what the ends show to be missing at
        the orders k + 1 (and k + 2), so that it is exact at the ends and to order k.
        """
        k = self.coefficients.shape[1]
        total = sum((z**r) @ self.coefficients[:, r - 1] for r in range(1, k + 1))
        orders = np.arange(1, k + 1)
        by_series = np.einsum("ier,irq->ieq", self.positions[..., None] ** orders, self.coefficients)
        higher = k + 1 + np.arange(self.positions.shape[1])
        powers = self.positions[..., None] ** higher  # (q, E, E): what the missing orders are worth at the ends
        missing = np.linalg.pinv(powers) @ (self.ends - by_series)  # an end at the centre itself says nothing
        return total + sum((z**p) @ missing[:, j] for j, p in enumerate(higher))

    def powers(self, psi: np.ndarray) -> np.ndarray:
        """``Σ_i a_ir ψ_i^r``, (m, k, Q): what the coordinates alone contribute along directions (m, q)."""
        k = self.coefficients.shape[1]
        return np.stack([(psi**r) @ self.coefficients[:, r - 1] for r in range(1, k + 1)], 1)


def run_alone(
    train: Callable,
    space: Space,
    degree: int,
    weights: jax.Array,
    centre: np.ndarray,
    batch_size: int,
    progress: bool,
) -> Alone:
    """Run every coordinate alone: once as a series at the centre ``weights``, once to each of its ends."""
    q, dtype = space.dim, weights.dtype
    algebra = series(degree, complex=False)

    def basis(start: int, size: int) -> jax.Array:
        return jax.nn.one_hot(start + jnp.arange(size), q, dtype=dtype)

    found = in_blocks(
        lambda z: jets_along(train, space, weights, algebra, z)[1], lambda *at: (basis(*at),), q, batch_size,
        "each alone, as a series", "coordinate", progress,
    )  # fmt: skip
    coefficients = collect(found, q, check_jets)
    positions = np.stack([1 - centre, -centre], 1) if centre.any() else 1 - centre[:, None]
    ends = []
    for e in range(positions.shape[1]):
        along = jnp.asarray(positions[:, e], dtype)

        def moved(start: int, size: int, along: Any = along) -> tuple[jax.Array]:
            at = basis(start, size)
            return (weights - space.embed(at * along),)

        trained = in_blocks(
            jax.vmap(train), moved, q, batch_size, "each alone, trained again", "coordinate", progress
        )  # fmt: skip
        ends.append(collect(trained, q, lambda block, start: check_parameters(block, "training without a coordinate")))
    return Alone(jax.tree.map(lambda *leaves: np.stack(leaves, 1), *ends), coefficients, positions)
