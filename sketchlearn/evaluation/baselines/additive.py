"""Sums of what retraining without each coordinate does, alone and in pairs: what a sceptic would do."""

from __future__ import annotations

from collections.abc import Callable

import jax
import numpy as np
from jaxtyping import Float

from sketchlearn.errors import check_count, check_positive
from sketchlearn.evaluation.baselines.base import Baseline
from sketchlearn.execution.memory import free_memory
from sketchlearn.runtime.programs import jit
from sketchlearn.truth.bank import RetrainBank


class CoordinateSums(Baseline):
    """``change = Σ_j z_j Δ_j``, and with pairs ``+ Σ_{i<j} z_i z_j (Δ_ij - Δ_i - Δ_j)``, every Δ by retraining.

    Δ_j is the change of the query when coordinate j of the space (an example, a candidate, a group) is deleted, Δ_ij
    when i and j are. Order 1 takes q retrainings and is blind to what deletions do to one another; over examples these
    are the sums of leave-one-out effects. Order 2 takes q(q - 1)/2 more and knows every interaction of two.
    With ``fraction=0.1``, a tenth of each coordinate is deleted in its retraining and its change taken ten times: the
    first order by finite differences, which suits coordinates that overlap or are asked for in parts.

    Args:
        bank: which retrains, and holds the space.
        order: 1, or 2 for pairs as well.
        fraction: how much of each coordinate is deleted, above 0 and at most 1.

    Raises:
        MemoryError: the parameters of all retrainings do not fit into memory.

    Example:
        >>> import jax.numpy as jnp, sketchlearn as sl
        >>> bank = sl.RetrainBank(None, lambda w: jnp.sum(w) ** 2, {}, sl.Examples(3))
        >>> sl.baselines.CoordinateSums(bank).predict(lambda p: p, [[0], [0, 1]]).change.tolist()   # truth: -5, -8
        [-5.0, -10.0]
        >>> sl.baselines.CoordinateSums(bank, order=2).predict(lambda p: p, [[0], [0, 1]]).change.tolist()
        [-5.0, -8.0]
        >>> slopes = sl.baselines.CoordinateSums(bank, fraction=0.01).predict(lambda p: p, [[0]])   # -6 by derivative
        >>> slopes.change.round(2).tolist()
        [-5.99]
    """

    by_coordinates = True

    def __init__(self, bank: RetrainBank, order: int = 1, fraction: float = 1.0):
        if check_count("order", order) > 2:
            raise ValueError(f"order must be 1 (each coordinate) or 2 (pairs as well), got {order}.")
        if check_positive("fraction", fraction) > 1:
            raise ValueError(f"fraction must be at most 1, the whole coordinate, got {fraction!r}.")
        super().__init__(bank.space, bank.plain)
        self.bank, self.order, self.fraction, q = bank, order, float(fraction), bank.space.dim
        self._pairs = np.array(np.triu_indices(q, 1) if order == 2 else np.zeros((2, 0), int))
        runs = q + self._pairs.shape[1]
        needed = runs * sum(np.asarray(leaf).nbytes for leaf in jax.tree.leaves(bank.plain))
        if needed > free_memory():
            raise MemoryError(
                f"{runs} retrainings, one for each of {q} coordinates{' and their pairs' * (order == 2)}, hold "
                f"{needed / 1e9:.3g} GB of parameters, more than the memory that is free. Take "
                f"{'order=1, or ' if order == 2 else ''}a space with fewer coordinates, such as groups."
            )
        z = np.concatenate([np.eye(q), np.zeros((runs - q, q))])
        for side in self._pairs:
            z[np.arange(q, runs), side] = 1
        self.seen_deletions = np.asarray(bank.space.embed(self.fraction * z), np.float64)
        bank.retrained(1 - self.seen_deletions)

    def scores(self, query: Callable) -> np.ndarray:
        """(Q, q), the change of every output of the query for each coordinate, by itself, per unit deleted."""
        return self._effects(query)[: self.space.dim].T

    def _effects(self, query: Callable) -> np.ndarray:
        """(runs, Q): Δ_j of every coordinate, then the interaction of every pair."""

        def make() -> np.ndarray:
            baseline = np.asarray(jit(query)(self.bank.plain), np.float64)
            change = self.bank.evaluated(query, 1 - self.seen_deletions) - baseline
            change = change.reshape(len(change), -1)
            one, other = self._pairs
            change[self.space.dim :] -= change[one] + change[other]
            change[: self.space.dim] /= self.fraction
            change[self.space.dim :] /= self.fraction**2
            return change

        return self._once(query, make)

    def changes(self, query: Callable, x: Float[np.ndarray, "B n"]) -> Float[np.ndarray, "B *terms Q"]:
        """Changes (B, Q), or (B, 2, Q) by order."""
        effects, (one, other) = self._effects(query), self._pairs
        first = x @ effects[: self.space.dim]
        if self.order == 1:
            return first
        return np.stack([first, (x[:, one] * x[:, other]) @ effects[self.space.dim :]], 1)
