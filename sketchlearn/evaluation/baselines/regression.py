"""Datamodels: a linear regression of the query on which examples were there, from many retrainings."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from jaxtyping import Float

from sketchlearn.errors import check_count, check_seed
from sketchlearn.evaluation.baselines.base import Baseline
from sketchlearn.runtime.programs import jit
from sketchlearn.runtime.seeds import stream
from sketchlearn.truth.bank import RetrainBank


class DatamodelRegression(Baseline):
    """``change = c·z``, fitted to retrainings on random subsets by scikit-learn.

    The linear model of the query that is best for random deletions of the share that it was fitted on. It has no
    constant: subsets of one size leave it undetermined beside the mean of c, and nothing deleted changes nothing.

    Args:
        bank: which retrains, and holds the space.
        num_subsets: retrainings.
        fraction: share of the space's coordinates deleted in each of them.
        penalty: ``"ridge"`` or ``"lasso"``, its strength chosen by cross-validation.
        seed: of the subsets. They have a stream of their own: :func:`sketchlearn.random_deletions` of the same seed
            draws others.

    Example:
        >>> import jax.numpy as jnp, sketchlearn as sl
        >>> bank = sl.RetrainBank(None, lambda w: w @ jnp.arange(4.0), {}, sl.Examples(4))
        >>> method = sl.baselines.DatamodelRegression(bank, num_subsets=40, fraction=0.5)
        >>> round(float(method.predict(lambda p: p, [3]).change), 2)
        -3.0

    Source: Ilyas et al., "Datamodels" (2022), arXiv:2202.00622.
    """

    by_coordinates = True

    def __init__(
        self, bank: RetrainBank, num_subsets: int = 500, fraction: float = 0.1, penalty: str = "ridge", seed: int = 0
    ):
        if not 0 < fraction < 1:
            raise ValueError(f"fraction must be between 0 and 1, got {fraction!r}.")
        if penalty not in ("ridge", "lasso"):
            raise ValueError(f'penalty must be "ridge" or "lasso", got {penalty!r}.')
        super().__init__(bank.space, bank.plain)
        self.bank, self.penalty = bank, penalty
        count, q = check_count("num_subsets", num_subsets, 10), bank.space.dim
        rng = stream("regression subsets", check_seed(seed))
        size = min(max(round(fraction * q), 1), q - 1)
        self._z = np.zeros((count, q))
        for row in self._z:
            row[rng.choice(q, size, replace=False)] = 1
        self.seen_deletions = np.asarray(bank.space.embed(self._z), np.float64)
        bank.retrained(1 - self.seen_deletions)

    def _fit(self, query: Callable) -> np.ndarray:
        from sklearn.linear_model import LassoCV, RidgeCV  # slow to import

        values = self.bank.evaluated(query, 1 - self.seen_deletions).reshape(len(self._z), -1)
        change = values - np.asarray(jit(query)(self.bank.plain), np.float64).reshape(-1)
        slopes = []
        for column in change.T:
            scale = np.abs(column).max() or 1.0
            if self.penalty == "ridge":
                model = RidgeCV(np.logspace(-6, 6, 25), fit_intercept=False)
            else:
                model = LassoCV(cv=5, max_iter=10000, fit_intercept=False)
            slopes.append(model.fit(self._z, column / scale).coef_ * scale)
        return np.array(slopes)

    def changes(self, query: Callable, x: Float[np.ndarray, "B n"]) -> Float[np.ndarray, "B *terms Q"]:
        """First-order terms (B, 1, Q)."""
        return (x @ self._once(query, lambda: self._fit(query)).T)[:, None]
