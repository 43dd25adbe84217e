"""The exact first order of training: in reverse mode for one query, in forward mode for one deletion."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from jaxtyping import Float

from sketchlearn.deletions.base import Space
from sketchlearn.deletions.centre import full_weights
from sketchlearn.deletions.examples import Examples
from sketchlearn.errors import FlatTraining
from sketchlearn.evaluation.baselines.base import Baseline
from sketchlearn.execution.runs import plain_program
from sketchlearn.runtime.programs import jit
from sketchlearn.taylor.dependence import dependence
from sketchlearn.taylor.flatness import flat_training
from sketchlearn.training.emptied_batches import check_emptying
from sketchlearn.training.program import check_train
from sketchlearn.truth.gradient import gradient_or_why_not


class Metagradient(Baseline):
    """First order through training in reverse mode: ``change = -Σ_i x_i ∂q(θ(w))/∂w_i``, all examples at once.

    One pass for each output of a query, whatever is deleted. Memory is that of reverse mode through ``train``:
    build its loop with :func:`sketchlearn.checkpointed_scan` (microgpt: ``experiment.train_checkpointed``).
    A ``stop_gradient`` in ``train`` is taken as a constant, unlike in a sketch.

    Args:
        train: weights (n,) -> parameters, pure.
        space: which deletions can be asked for.
        dtype: of the weights.

    Example:
        >>> import jax.numpy as jnp, sketchlearn as sl
        >>> method = sl.baselines.Metagradient(lambda w: jnp.sum(w) ** 2, sl.Examples(3))
        >>> float(method.predict(lambda p: p, [0]).change)      # 9 becomes 4; the slope says 3
        -6.0

    Source: Maclaurin, Duvenaud and Adams (2015); as data attribution, Ilyas and Engstrom, "MAGIC" (2025).
    """

    differentiates = True

    def __init__(self, train: Callable, space: Space, dtype: DTypeLike | None = None):
        self.weights = full_weights(space, dtype)
        check_train(train, self.weights)
        check_emptying(train, space)
        self.train = train
        super().__init__(space, plain_program(train)(self.weights))

    def gradient(self, query: Callable) -> np.ndarray:
        """(n, Q), what deleting each example does at first order to every output of the query."""
        n = self.space.num_examples
        return self._once(
            query,
            lambda: gradient_or_why_not(self.train, query, Examples(n), dtype=self.weights.dtype)[0].reshape(n, -1),
        )

    def changes(self, query: Callable, x: Float[np.ndarray, "B n"]) -> Float[np.ndarray, "B *terms Q"]:
        """First-order terms (B, 1, Q)."""
        return (x @ self.gradient(query))[:, None]


class ForwardFirstOrder(Baseline):
    """First order through training in forward mode: the parameters' derivative along a deletion, then any query.

    One forward pass for each deletion, kept for every later query: the mirror image of :class:`Metagradient`.

    Args:
        train: weights (n,) -> parameters, pure.
        space: which deletions can be asked for.
        dtype: of the weights.

    Example:
        >>> import jax.numpy as jnp, sketchlearn as sl
        >>> method = sl.baselines.ForwardFirstOrder(lambda w: jnp.sum(w) ** 2, sl.Examples(3))
        >>> method.predict(lambda p: p, [[0], [0, 1]]).change.tolist()
        [-6.0, -12.0]
    """

    differentiates = True

    def __init__(self, train: Callable, space: Space, dtype: DTypeLike | None = None):
        self.weights = full_weights(space, dtype)
        check_train(train, self.weights)
        check_emptying(train, space)
        self.train = train
        super().__init__(space, plain_program(train)(self.weights))
        self._along = jit(lambda x: jax.jvp(train, (self.weights,), (-x,))[1])
        self._tangents: dict[bytes, Any] = {}

    def changes(self, query: Callable, x: Float[np.ndarray, "B n"]) -> Float[np.ndarray, "B *terms Q"]:
        """First-order terms (B, 1, Q)."""
        push = jit(lambda t: jnp.ravel(jax.jvp(query, (self.parameters,), (t,))[1]))
        out = []
        for row in x:
            key = row.tobytes()
            if key not in self._tangents:
                tangent = self._along(jnp.asarray(row, self.weights.dtype))
                self._check_moved(tangent)
                self._tangents[key] = tangent
            out.append(np.asarray(push(self._tangents[key])))
        return np.stack(out)[:, None]

    def _check_moved(self, tangent: Any) -> None:
        """Refuse training whose derivative is zero because it stops at flat operations."""
        if not any(np.any(leaf) for leaf in jax.tree.leaves(tangent)):
            of_weights = dependence(self.train, self.weights, reverse=True)
            if not any(of_weights.reached):
                raise FlatTraining(flat_training(of_weights.through))
