"""From plain numbers to a prediction: what every baseline shares."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Float, PyTree

from sketchlearn.deletions.base import Space
from sketchlearn.deletions.centre import full_weights
from sketchlearn.prediction.result import Prediction
from sketchlearn.runtime.programs import jit
from sketchlearn.training.objective import Problem
from sketchlearn.training.program import check_query, check_smooth_query

STILL = (
    "the predicted change of {} is exactly zero after every deletion asked for: no derivative that this method takes "
    "leads there, which does not show that nothing changes."
)
NO_ERROR_BAR = "this method has no error bar: its interval is NaN, which means unknown, not zero."


class Baseline:
    """A method that predicts the change of a query after a deletion, without an error bar.

    A subclass sets ``parameters`` (what training gave) and says in ``changes(query, x)`` by how much the query,
    flattened to Q outputs, changes for every row of deletion vectors (B, n): an array (B, Q), or (B, k, Q)
    of Taylor terms.

    Args:
        space: which deletions can be asked for.
        parameters: with nothing deleted.

    Example:
        >>> import sketchlearn as sl
        >>> class Never(sl.baselines.Baseline):
        ...     def changes(self, query, x):
        ...         return 0 * x[:, :1]
        >>> float(Never(sl.Examples(3), 5.0).predict(lambda p: 2 * p, [0]).value)
        10.0
    """

    notes: tuple[str, ...] = ()
    #: deletion vectors (B, n) whose retrained values the method was made from, which must not be a test of it
    seen_deletions: Any = None
    differentiates = False  # whether ``changes`` takes derivatives of the query, which are zero for an accuracy
    reverse = True  # whether these are JAX's own, to which ``stop_gradient`` is a constant
    by_coordinates = False  # whether ``changes`` reads the space's coordinates (B, q) and not deletion vectors

    def __init__(self, space: Space, parameters: PyTree):
        full_weights(space)
        self.space, self.parameters = space, parameters
        self._known: tuple[Any, Any] = (None, None)
        self._smooth: Any = None  # the last query that was found to have derivatives

    def changes(self, query: Callable, x: Float[np.ndarray, "B n"]) -> Float[np.ndarray, "B *terms Q"]:
        """The changes (B, Q), or their Taylor terms (B, k, Q), for deletion vectors (B, n)."""
        raise NotImplementedError

    def predict(self, query: Callable, delete: Any) -> Prediction:
        """Predict a query after deletions.

        Args:
            query: a function of the trained parameters, with real output.
            delete: what to delete, as the space reads it: positions, a mask, group names, or a stack of them.

        Returns:
            A :class:`Prediction` whose ``standard_error`` and interval are NaN: unknown.

        Raises:
            ValueError: a method that takes derivatives is asked for a query that depends on the parameters through
                flat operations only (argmax, sign, a comparison), or not at all.
        """
        if self.differentiates and self._smooth is not query:
            check_smooth_query(query, self.parameters, self.reverse)
            self._smooth = query
        else:
            check_query(query, self.parameters)
        z = self.space.locate(delete)
        rows = np.atleast_2d(z)
        x = rows if self.by_coordinates else np.asarray(self.space.embed(rows), np.float64)
        baseline = np.asarray(jit(query)(self.parameters), np.float64)
        if not np.isfinite(baseline).all():
            raise FloatingPointError("the query is NaN or infinite with nothing deleted.")
        changes = np.asarray(self.changes(query, x), np.float64)
        if not np.isfinite(changes).all():
            raise FloatingPointError(
                f"{type(self).__name__} gives NaN or infinity: is its matrix singular? is the query differentiable? "
                "Try damping, or float64."
            )
        terms = changes if changes.ndim == 3 else np.zeros((len(changes), 0, changes.shape[1]))
        change = changes.sum(1) if changes.ndim == 3 else changes

        still = np.flatnonzero(~change.any(0)) if self.differentiates else np.empty(0, int)
        which = "the query" if baseline.size == 1 else f"outputs {still[:8].tolist()}{' ..' * (len(still) > 8)}"
        doubts = (STILL.format(which),) if len(still) else ()

        def shaped(array: np.ndarray) -> np.ndarray:
            full = array.reshape(*array.shape[:-1], *baseline.shape)
            return full if z.ndim > 1 else full[0]

        unknown = shaped(np.full_like(change, np.nan))
        return Prediction(
            value=shaped(baseline.reshape(-1) + change),
            baseline=baseline,
            change=shaped(change),
            terms=shaped(terms),
            standard_errors=shaped(np.full_like(terms, np.nan)),
            standard_error=unknown,
            truncation=unknown,
            orders_used=shaped(np.ones(terms.shape, bool)),
            warnings=(NO_ERROR_BAR, *self.notes, *doubts),
        )

    def _once(self, query: Callable, make: Callable[[], Any]) -> Any:
        """``make()``, kept for as long as the same query is asked."""
        if self._known[0] is not query:
            self._known = (query, make())
        return self._known[1]


def query_gradients(query: Callable, parameters: Any) -> jax.Array:
    """(Q, p), the gradient of every output of a query with respect to the flat parameters."""
    theta, back = ravel_pytree(parameters)

    def flat(t: jax.Array) -> jax.Array:
        return jnp.ravel(query(back(t)))

    return jit(jax.jacrev(flat))(theta)


def along_losses(problem: Problem, theta: jax.Array, directions: jax.Array) -> jax.Array:
    """(Q, n), ``∇loss_i · s_q`` for directions s (Q, p): one forward pass over the data for each of them."""

    def one(s: jax.Array) -> jax.Array:
        return jax.jvp(problem.losses, (theta,), (s,))[1]

    return jax.lax.map(one, directions)
