"""Projected gradients, in the manner of TRAK: the empirical Fisher matrix after a random projection."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from sketchlearn.deletions.base import Space
from sketchlearn.errors import check_count, check_seed
from sketchlearn.evaluation.baselines.base import Baseline, query_gradients
from sketchlearn.evaluation.baselines.influence import check_problem
from sketchlearn.runtime.precision import full_precision
from sketchlearn.runtime.programs import jit
from sketchlearn.runtime.seeds import jax_key
from sketchlearn.training.objective import Problem


class ProjectedGradients(Baseline):
    """``change = φ_q·(ΦᵀΦ + δI)⁻¹ Σ_i x_i φ_i`` with ``φ = P∇``: gradients (n, p) projected to a few dimensions.

    Influence functions with the matrix of gradient products in place of the Hessian, as TRAK makes possible for
    large models; from one run, and with gradients of losses where TRAK averages runs and uses margins.

    Args:
        problem: the objective and the trained parameters.
        space: which deletions can be asked for.
        dim: of the projection; ``None`` projects nothing.
        damping: δ.
        seed: seed of the projection.

    Example:
        >>> import jax.numpy as jnp, sketchlearn as sl
        >>> world = sl.worlds.Ridge(jnp.array([[1.0], [1.0]]), jnp.array([1.0, 4.0]))
        >>> method = sl.baselines.ProjectedGradients(world.problem(), sl.Examples(2), dim=None)
        >>> round(float(method.predict(lambda p: p[0], [1]).change), 4)      # -(7/3) / ((2/3)² + (7/3)²)
        -0.3962

    Source: Park et al., "TRAK" (2023), arXiv:2303.14186.
    """

    differentiates = True

    def __init__(self, problem: Problem, space: Space, dim: int | None = 256, damping: float = 0.0, seed: int = 0):
        check_problem(problem, space)
        if not damping >= 0:
            raise ValueError(f"damping must be at least 0, got {damping!r}.")
        super().__init__(space, problem.parameters)
        theta = problem.flat
        if dim is None:
            self._project = jnp.eye(theta.size, dtype=theta.dtype)
        else:
            shape = (theta.size, check_count("dim", dim))
            drawn = jax.random.normal(jax_key("gradient projection", check_seed(seed)), shape, theta.dtype)
            self._project = drawn / dim**0.5

        def row(i: jax.Array) -> jax.Array:
            return jax.grad(lambda t: problem.loss(problem.unflatten(t), i))(theta) @ self._project

        rows = jit(lambda: jax.lax.map(row, jnp.arange(problem.num_examples), batch_size=32))()
        self._features = np.asarray(rows, np.float64)
        self._matrix = self._features.T @ self._features + damping * np.eye(self._features.shape[1])
        if np.linalg.matrix_rank(self._matrix) < len(self._matrix):
            raise ValueError(
                f"gradients of {problem.num_examples} examples do not span {len(self._matrix)} dimensions: take a "
                "smaller dim, or damping."
            )

    def scores(self, query: Callable) -> np.ndarray:
        """(Q, n), the change of every output of the query when an example is deleted."""

        def make() -> np.ndarray:
            with full_precision():
                asked = np.asarray(query_gradients(query, self.parameters) @ self._project, np.float64)
            return np.linalg.solve(self._matrix, asked.T).T @ self._features.T

        return self._once(query, make)

    def changes(self, query: Callable, x: Float[np.ndarray, "B n"]) -> Float[np.ndarray, "B *terms Q"]:
        """First-order terms (B, 1, Q)."""
        return (x @ self.scores(query).T)[:, None]
