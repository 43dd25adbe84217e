"""Sums of leave-one-out effects: exact for one deletion alone, blind to what deletions do to one another."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ..precision import jit
from ..retraining import RetrainBank
from .answer import Baseline


class LeaveOneOutSums(Baseline):
    """``change = Σ_j z_j (q(without j) - q)``, each effect by training again.

    One retraining for each coordinate of the bank's space: example, candidate or group.

    Args:
        bank: which trains again, and holds the space.

    Example:
        >>> import jax.numpy as jnp, sketchlearn as sl
        >>> bank = sl.RetrainBank(None, lambda w: jnp.sum(w) ** 2, {}, sl.Examples(3))
        >>> method = sl.baselines.LeaveOneOutSums(bank)
        >>> method.predict(lambda p: p, [[0], [0, 1]]).change.tolist()      # retrained: -5 and -8
        [-5.0, -10.0]
    """

    by_coordinates = True

    def __init__(self, bank: RetrainBank):
        super().__init__(bank.space, bank.plain)
        self.bank = bank
        x = np.asarray(bank.space.embed(np.eye(bank.space.dim)), np.float64)
        self._basis = x
        bank.retrained(1 - x)

    def scores(self, query: Callable) -> np.ndarray:
        """(Q, q), the change of every output of the query when one coordinate is deleted."""

        def make() -> np.ndarray:
            baseline = np.asarray(jit(query)(self.bank.plain), np.float64)
            change = self.bank.evaluated(query, 1 - self._basis) - baseline
            return change.reshape(len(change), -1).T

        return self._once(query, make)

    def changes(self, query: Callable, x: np.ndarray) -> np.ndarray:
        """Changes (B, Q)."""
        return x @ self.scores(query).T
