"""The exact first order: one pass back through training."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from jaxtyping import Float

from sketchlearn.deletions.base import Space
from sketchlearn.deletions.centre import centre_of, full_weights
from sketchlearn.errors import FlatQuery, FlatTraining
from sketchlearn.runtime.programs import jit, once
from sketchlearn.taylor.dependence import dependence
from sketchlearn.taylor.flatness import unmoved, why_flat_training
from sketchlearn.training.emptied_batches import check_emptying
from sketchlearn.training.nonfinite import explanation
from sketchlearn.training.program import check_smooth_query, check_train, for_reverse_mode


def gradient(
    train: Callable, query: Callable, space: Space, centre: Any = None, dtype: DTypeLike | None = None
) -> Float[np.ndarray, " q *S"]:
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
    derivative, text = gradient_or_why_not(train, query, space, centre, dtype)
    if text:
        warnings.warn(text, UserWarning, stacklevel=2)
    return derivative


def gradient_or_why_not(
    train: Callable, query: Callable, space: Space, centre: Any = None, dtype: DTypeLike | None = None
) -> tuple[np.ndarray, str]:
    """The gradient of :func:`gradient`, and what is to be said of outputs for which it is exactly zero."""
    asked = WeightedQuery.of(train, query, space, centre, dtype)

    derivative = asked.on_coordinates(slopes_program(train, query)(asked.base))
    asked.check_finite("gradient", derivative)
    text = asked.about_zeros(np.logical_not(derivative.any(1)))
    return derivative.T.reshape(space.dim, *asked.shape), text


def weighted_outputs(train: Callable, query: Callable) -> Callable[[jax.Array], jax.Array]:
    """Weights (n,) -> the query's outputs (Q,), as reverse mode should go back through it."""
    program = for_reverse_mode(train)
    return lambda weights: jnp.ravel(query(program(weights)))


@once
def slopes_program(train: Callable, query: Callable) -> jit:
    """Weights (n,) -> the derivatives (Q, n) of the query's outputs with respect to them, by reverse mode."""
    outputs = weighted_outputs(train, query)

    def rows(weights: jax.Array) -> jax.Array:
        values, back = jax.vjp(outputs, weights)
        # one output after the other: all at once would keep the memory of a pass for each
        return jax.lax.map(lambda v: back(v)[0], jnp.eye(values.size, dtype=values.dtype))

    return jit(rows)


class WeightedQuery(NamedTuple):
    """A query as a function of the coordinates of a deletion, ``z -> query(train(1 - G z))``, for reverse mode.

    Attributes:
        train: weights (n,) -> parameters.
        query: parameters -> array.
        space: of the deletions.
        weights: (n,) ones.
        centre: (q,), where derivatives are taken.
        parameters: the shapes of what ``train`` returns.
        shape: of the query's answer, S.
    """

    train: Callable
    query: Callable
    space: Space
    weights: jax.Array
    centre: jax.Array
    parameters: Any
    shape: tuple[int, ...]

    @classmethod
    def of(cls, train: Callable, query: Callable, space: Space, centre: Any, dtype: DTypeLike | None) -> WeightedQuery:
        """It, once program and query are found to be what they have to be."""
        weights = full_weights(space, dtype)
        parameters = check_train(train, weights)
        shape = check_smooth_query(query, parameters, reverse=True).shape
        start = centre_of(space, centre)
        z = jnp.asarray(np.zeros(space.dim) if start is None else start, weights.dtype)
        return cls(train, query, space, weights, z, parameters, shape)

    @property
    def base(self) -> jax.Array:
        """The weights (n,) at the centre."""
        return self.weights - self.space.embed(self.centre)

    def outputs(self, z: jax.Array) -> jax.Array:
        """The query's outputs at coordinates z (q,), flattened to (Q,)."""
        return weighted_outputs(self.train, self.query)(self.weights - self.space.embed(z))

    def on_coordinates(self, derivatives: Any) -> np.ndarray:
        """Derivatives (B, n) by the weights as derivatives (B, q) by the coordinates: ``-Gᵀ``; float64."""
        _, back = jax.vjp(self.space.embed, self.centre)
        return np.asarray(jax.vmap(lambda row: back(-row)[0])(derivatives), float)

    def check_finite(self, what: str, derivative: np.ndarray) -> None:
        """Refuse a derivative that is not finite, and say where training stopped being so."""
        if not np.isfinite(derivative).all():
            raise FloatingPointError(
                f"the {what} through training is not finite.{explanation(self.train, self.weights)}"
            )

    def about_zeros(self, still: np.ndarray) -> str:
        """What is to be said of outputs (Q,) whose derivative is exactly zero; refuse if that is all of them."""
        if not still.any():
            return ""
        if still.all() and not any(dependence(self.train, self.weights, reverse=True).reached):
            raise FlatTraining(why_flat_training(self.train, self.weights, reverse=True))
        text, flat = unmoved(still, self.query, self.parameters, reverse=True)
        if still.all() and flat:
            raise FlatQuery(text)
        return text
