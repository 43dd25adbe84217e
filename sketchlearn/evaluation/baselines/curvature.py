"""Exact first order and leading curvature of whatever query is asked, in the form of the other methods."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from jax.typing import DTypeLike

from sketchlearn.deletions.base import Space
from sketchlearn.errors import check_count
from sketchlearn.evaluation.baselines.additive import CoordinateSums
from sketchlearn.evaluation.baselines.metagradient import Metagradient
from sketchlearn.prediction.result import Prediction
from sketchlearn.truth.curvature import Curvature, curvature


class LeadingCurvature(Metagradient):
    """``change = g·z + ½ Σ_i λ_i (v_i·z)²`` by Hessian products through training, with an interval.

    As :func:`sketchlearn.curvature`, which it calls once for each query; see there for what a query costs.

    Args:
        train: weights (n,) -> parameters, pure.
        space: which deletions can be asked for.
        products: of the Hessian with a vector, for each output of a query; at most as many as coordinates are made.
        sums: where retraining without each coordinate was afforded. What a coordinate does by itself is then exact,
            and the curvature adds what two of them do together.
        dtype: of the weights.

    Example:
        >>> import jax.numpy as jnp, sketchlearn as sl
        >>> method = sl.baselines.LeadingCurvature(lambda w: jnp.sum(w) ** 2, sl.Examples(3), products=1)
        >>> method.predict(lambda p: p, [0, 1]).change.round(6).tolist()      # 9 becomes 1
        -8.0
    """

    def __init__(
        self,
        train: Callable,
        space: Space,
        products: int = 32,
        sums: CoordinateSums | None = None,
        dtype: DTypeLike | None = None,
    ):
        super().__init__(train, space, dtype)
        self.sums, self.products = sums, min(check_count("products", products, lowest=0), space.dim)
        if sums is not None:
            self.seen_deletions = sums.seen_deletions

    def predict(self, query: Callable, delete: Any) -> Prediction:
        """Predict a query after deletions; the first time that a query is asked, its products are made."""
        found, single_changes = self._once(query, lambda: self._of(query))
        return found.predict(delete, single_changes)

    def _of(self, query: Callable) -> tuple[Curvature, np.ndarray | None]:
        dtype = self.weights.dtype
        found = curvature(self.train, query, self.space, self.products, dtype=dtype, progress=False)
        if self.sums is None:
            return found, None
        return found, self.sums.scores(query).T.reshape(self.space.dim, *found.baseline.shape)
