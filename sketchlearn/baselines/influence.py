"""Influence functions: the first order of the optimum, as if training had arrived there."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.sparse.linalg import cg

from ..errors import check_count
from ..problem import Problem
from ..spaces import Space
from .answer import Baseline, along_losses, query_gradients

LARGEST_DENSE = 5000  # parameters: a matrix of 200 MB in float64


class Influence(Baseline):
    """Influence functions: ``change = ∇q·(H + δI)⁻¹ Σ_i x_i ∇loss_i``, H of the objective with all examples.

    Exact at first order where the parameters are the minimum of a convex objective. Elsewhere it answers for
    a minimum that training did not reach.

    Args:
        problem: the objective and the trained parameters.
        space: which deletions can be asked for.
        solver: ``"exact"`` (dense matrix), ``"cg"`` (conjugate gradients on Hessian products), or ``"gauss_newton"``
            (the same on the generalised Gauss-Newton matrix, which is never indefinite).
        damping: δ, added to the diagonal.
        tolerance: relative residual at which CG stops.
        max_iterations: of CG.

    Example:
        >>> import jax.numpy as jnp, sketchlearn as sl
        >>> world = sl.worlds.Ridge(jnp.array([[1.0], [1.0]]), jnp.array([1.0, 4.0]))
        >>> method = sl.baselines.Influence(world.problem(), sl.Examples(2))
        >>> round(float(method.predict(lambda p: p[0], [1]).change), 4)      # A = 3, residual 4 - 5/3
        -0.7778

    Source: Koh and Liang (2017), arXiv:1703.04730; Gauss-Newton: Martens (2020), arXiv:1412.1193.
    """

    def __init__(
        self,
        problem: Problem,
        space: Space,
        solver: str = "exact",
        damping: float = 0.0,
        tolerance: float = 1e-6,
        max_iterations: int = 1000,
    ):
        if solver not in ("exact", "cg", "gauss_newton"):
            raise ValueError(f'solver must be "exact", "cg" or "gauss_newton", got {solver!r}.')
        if not damping >= 0:
            raise ValueError(f"damping must be at least 0, got {damping!r}.")
        check_problem(problem, space)
        super().__init__(space, problem.parameters)
        self.problem, self.solver, self.damping, self.tolerance = problem, solver, damping, tolerance
        self.max_iterations = check_count("max_iterations", max_iterations)
        theta, weights = problem.flat, jnp.ones(problem.num_examples, problem.flat.dtype)
        if solver == "exact":
            matrix = dense_hessian(problem) + damping * np.eye(theta.size)
            if np.linalg.eigvalsh(matrix)[0] <= 0:
                self.notes = (
                    "the Hessian is not positive definite: training did not arrive at a minimum, and influence "
                    "functions describe a point that is none. Add damping.",
                )
            self._inverse = np.linalg.inv(matrix)
        elif solver == "cg":
            slope = jax.grad(problem.objective)
            self._product = lambda v: jax.jvp(lambda t: slope(t, weights), (theta,), (v,))[1]
        else:
            self._product = lambda v: problem.gauss_newton_product(theta, v)
        self._solve = jax.jit(lambda rows: jax.lax.map(self._by_cg, rows))

    def _by_cg(self, row: jax.Array) -> tuple[jax.Array, jax.Array]:
        def product(v: jax.Array) -> jax.Array:
            return self._product(v) + self.damping * v

        found = cg(product, row, tol=self.tolerance, maxiter=self.max_iterations)[0]
        return found, jnp.linalg.norm(product(found) - row) / jnp.maximum(jnp.linalg.norm(row), 1e-30)

    def scores(self, query: Callable) -> np.ndarray:
        """(Q, n), the change of every output of the query when an example is deleted."""
        return self._once(query, lambda: self._scores(query))

    def _scores(self, query: Callable) -> np.ndarray:
        rows = query_gradients(query, self.parameters)
        if self.solver == "exact":
            solved = jnp.asarray(np.asarray(rows, np.float64) @ self._inverse, rows.dtype)
        else:
            solved, residual = self._solve(rows)
            self.notes = ()
            if not float(residual.max()) <= 10 * self.tolerance:
                self.notes = (
                    f"conjugate gradients stopped at a relative residual of {float(residual.max()):.1e} (asked: "
                    f"{self.tolerance:.0e}): the matrix is indefinite or ill-conditioned; add damping.",
                )
        found = jax.jit(lambda s: along_losses(self.problem, self.problem.flat, s))(solved)
        return np.asarray(found, np.float64)

    def changes(self, query: Callable, x: np.ndarray) -> np.ndarray:
        """First-order terms (B, 1, Q)."""
        return (x @ self.scores(query).T)[:, None]


def check_problem(problem: Any, space: Space) -> None:
    """Refuse what is not a problem, or not of the space's examples."""
    if not isinstance(problem, Problem):
        raise TypeError(f"problem must be a sketchlearn.Problem, got {type(problem).__name__}.")
    if problem.num_examples != space.num_examples:
        raise ValueError(f"the problem has {problem.num_examples} examples, the space {space.num_examples}.")


def dense_hessian(problem: Problem) -> np.ndarray:
    """(p, p) in float64, or say that there are too many parameters for it."""
    theta = problem.flat
    if theta.size > LARGEST_DENSE:
        raise ValueError(
            f"{theta.size} parameters are too many for a dense Hessian (at most {LARGEST_DENSE}): use Influence with "
            'solver="cg" or "gauss_newton".'
        )
    return np.asarray(jax.jit(problem.hessian)(theta, jnp.ones(problem.num_examples, theta.dtype)), np.float64)
