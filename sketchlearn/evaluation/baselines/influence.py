"""Influence functions: the first order of the optimum, as if training had arrived there."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.sparse.linalg import cg
from jaxtyping import Float

from sketchlearn.deletions.base import Space
from sketchlearn.errors import check_count
from sketchlearn.evaluation.baselines.base import Baseline, along_losses, query_gradients
from sketchlearn.runtime.programs import jit
from sketchlearn.training.objective import Problem

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

    Raises:
        ValueError: arguments that do not fit; with ``"exact"`` a singular Hessian, or more than 5,000 parameters.

    Example:
        >>> import jax.numpy as jnp, sketchlearn as sl
        >>> world = sl.worlds.Ridge(jnp.array([[1.0], [1.0]]), jnp.array([1.0, 4.0]))
        >>> method = sl.baselines.Influence(world.problem(), sl.Examples(2))
        >>> round(float(method.predict(lambda p: p[0], [1]).change), 4)      # A = 3, residual 4 - 5/3
        -0.7778

    Source: Koh and Liang (2017), arXiv:1703.04730; Gauss-Newton: Martens (2020), arXiv:1412.1193.
    """

    differentiates = True

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
            matrix, convex = dense_hessian(problem, damping)
            if not convex:
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
        self._solve = jit(lambda rows: jax.lax.map(self._by_cg, rows))

    def _by_cg(self, row: jax.Array) -> tuple[jax.Array, jax.Array]:
        def product(v: jax.Array) -> jax.Array:
            return self._product(v) + self.damping * v

        solution = cg(product, row, tol=self.tolerance, maxiter=self.max_iterations)[0]
        return solution, jnp.linalg.norm(product(solution) - row) / jnp.maximum(jnp.linalg.norm(row), 1e-30)

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
        effects = jit(lambda s: along_losses(self.problem, self.problem.flat, s))(solved)
        return np.asarray(effects, np.float64)

    def changes(self, query: Callable, x: Float[np.ndarray, "B n"]) -> Float[np.ndarray, "B *terms Q"]:
        """First-order terms (B, 1, Q)."""
        return (x @ self.scores(query).T)[:, None]


def check_problem(problem: Any, space: Space) -> None:
    """Refuse what is not a problem, or not of the space's examples."""
    if not isinstance(problem, Problem):
        raise TypeError(f"problem must be a sketchlearn.Problem, got {type(problem).__name__}.")
    if problem.num_examples != space.num_examples:
        raise ValueError(f"the problem has {problem.num_examples} examples, the space {space.num_examples}.")


def dense_hessian(problem: Problem, damping: float = 0.0) -> tuple[np.ndarray, bool]:
    """``H + δI`` (p, p) in float64, and whether it is positive definite; refuse a singular or too large one."""
    theta = problem.flat
    if theta.size > LARGEST_DENSE:
        raise ValueError(
            f"{theta.size} parameters are too many for a dense Hessian (at most {LARGEST_DENSE}): use Influence with "
            'solver="cg" or "gauss_newton".'
        )
    hessian = jit(problem.hessian)(theta, jnp.ones(problem.num_examples, theta.dtype))
    matrix = np.asarray(hessian, np.float64) + damping * np.eye(theta.size)
    if not np.isfinite(matrix).all():
        raise FloatingPointError("the Hessian of the objective is not finite at these parameters.")
    eigenvalues = np.linalg.eigvalsh(matrix)
    size = np.abs(eigenvalues)
    if size.min() <= jnp.finfo(theta.dtype).eps * size.max():  # what its entries are rounded to
        raise ValueError(
            f"the Hessian is singular in {theta.dtype} (its eigenvalues lie between {size.min():.1e} and "
            f"{size.max():.1e} in size): the losses do not determine every direction of the parameters. Give the "
            "Problem a penalty, train in float64, or add damping where the method takes it."
        )
    return matrix, bool(eigenvalues[0] > 0)


def solve_without(matrix: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Solve with a symmetric matrix from which a deletion was taken, or say that it left too little."""
    import scipy.linalg  # slow to import

    with warnings.catch_warnings():
        warnings.simplefilter("error", scipy.linalg.LinAlgWarning)  # a condition number beyond the precision
        try:
            return scipy.linalg.solve(matrix, right, assume_a="sym")
        except (np.linalg.LinAlgError, scipy.linalg.LinAlgWarning):
            raise ValueError(
                "after this deletion the Hessian is singular: the examples that are left do not determine every "
                "direction of the parameters. Delete less, give the Problem a penalty, or add damping."
            ) from None
