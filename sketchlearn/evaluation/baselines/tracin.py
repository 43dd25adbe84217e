"""TracIn: gradients of examples and query compared along the way."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Float

from sketchlearn.deletions.base import Space
from sketchlearn.evaluation.baselines.base import Baseline, along_losses, query_gradients
from sketchlearn.evaluation.baselines.influence import check_problem
from sketchlearn.runtime.programs import jit
from sketchlearn.training.objective import Checkpoint, Problem


class TracIn(Baseline):
    """``change = Σ_i x_i Σ_c visits_ci ∇loss_i(θ_c)·(η_c ∇q(θ_c))`` over the checkpoints of a run.

    What each update did to the query, added up as if updates did not act on one another. With step sizes of plain
    gradient descent the sum is in the unit of the query; of Adam give ``η / sqrt(v̂ + ε)`` for every parameter.

    Args:
        problem: with checkpoints.
        space: which deletions can be asked for.

    Example:
        >>> import jax.numpy as jnp, numpy as np, sketchlearn as sl
        >>> y = jnp.array([1.0, 3.0])
        >>> start = sl.Checkpoint(jnp.array(0.0), 0.1, np.array([1, 1]))     # one step of 0.1 from zero
        >>> problem = sl.Problem(lambda p, i: 0.5 * (p - y[i]) ** 2, 2, jnp.array(0.4), checkpoints=(start,))
        >>> round(float(sl.baselines.TracIn(problem, sl.Examples(2)).predict(lambda p: p, [1]).change), 6)
        -0.3

    Source: Pruthi, Liu, Kale and Sundararajan (2020), arXiv:2002.08484.
    """

    differentiates = True

    def __init__(self, problem: Problem, space: Space):
        check_problem(problem, space)
        if not problem.checkpoints:
            raise ValueError("TracIn needs checkpoints of the training run: give the Problem some.")
        for number, checkpoint in enumerate(problem.checkpoints):
            _check(checkpoint, number, problem)
        super().__init__(space, problem.parameters)
        self.problem = problem

    def scores(self, query: Callable) -> np.ndarray:
        """(Q, n), the change of every output of the query when an example is deleted."""
        return self._once(query, lambda: self._scores(query))

    def _scores(self, query: Callable) -> np.ndarray:
        of_losses = jit(lambda t, s: along_losses(self.problem, t, s))
        total: np.ndarray | float = 0.0
        for checkpoint in self.problem.checkpoints:
            theta = ravel_pytree(checkpoint.parameters)[0]
            sizes = checkpoint.step_sizes
            flat_sizes = ravel_pytree(sizes)[0]
            scale = flat_sizes if flat_sizes.size == theta.size else flat_sizes.reshape(())
            rows = query_gradients(query, checkpoint.parameters) * scale
            total = total + np.asarray(of_losses(theta, rows), np.float64) * checkpoint.visits
        return np.asarray(total)

    def changes(self, query: Callable, x: Float[np.ndarray, "B n"]) -> Float[np.ndarray, "B *terms Q"]:
        """First-order terms (B, 1, Q)."""
        return (x @ self.scores(query).T)[:, None]


def _check(checkpoint: Checkpoint, number: int, problem: Problem) -> None:
    def like(tree: Any) -> tuple:
        return jax.tree.structure(tree), [np.shape(leaf) for leaf in jax.tree.leaves(tree)]

    parameters, steps = like(problem.parameters), checkpoint.step_sizes
    if like(checkpoint.parameters) != parameters:
        raise ValueError(
            f"checkpoint {number} holds parameters with shapes {like(checkpoint.parameters)[1]}, the Problem "
            f"{parameters[1]}, or they are other pytrees: expected the parameters of the same run."
        )
    if like(steps) != parameters and like(steps)[1] != [()]:
        raise ValueError(
            f"step_sizes of checkpoint {number} must be one number or a pytree like the parameters (shapes "
            f"{parameters[1]}), got shapes {like(steps)[1]}."
        )
    visits = np.shape(checkpoint.visits)
    if visits != (problem.num_examples,):
        raise ValueError(f"visits of checkpoint {number} must have shape ({problem.num_examples},), got {visits}.")
    numbers = [*jax.tree.leaves(checkpoint.parameters), *jax.tree.leaves(steps), checkpoint.visits]
    if not all(np.isfinite(np.asarray(x)).all() for x in numbers):
        raise ValueError(f"checkpoint {number} holds NaN or infinity.")
