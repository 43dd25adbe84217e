"""Beyond first order where the objective is convex: group terms, a Newton step, and the whole series of the optimum."""

from __future__ import annotations

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from sketchlearn.deletions.base import Space
from sketchlearn.errors import check_degree
from sketchlearn.evaluation.baselines.base import Baseline
from sketchlearn.evaluation.baselines.influence import check_problem, dense_hessian, solve_without
from sketchlearn.runtime.programs import jit
from sketchlearn.taylor import taylor_coefficients
from sketchlearn.training.objective import Problem

NOT_THERE = "the gradient of the objective is not zero at these parameters: the method assumes that it is."


class _AtOptimum(Baseline):
    """Methods that read the objective's derivatives at its minimum, and evaluate the query where they arrive."""

    def __init__(self, problem: Problem, space: Space, damping: float = 0.0):
        if not damping >= 0:
            raise ValueError(f"damping must be at least 0, got {damping!r}.")
        check_problem(problem, space)
        super().__init__(space, problem.parameters)
        self.problem = problem
        self.hessian, _ = dense_hessian(problem, damping)
        theta = problem.flat
        self._gradient = jit(jax.grad(problem.objective))
        self._data_gradient = jit(jax.grad(lambda t, x: x @ problem.losses(t)))
        slope = np.asarray(self._gradient(theta, jnp.ones(problem.num_examples, theta.dtype)))
        step = np.linalg.solve(self.hessian, slope)
        if np.linalg.norm(step) > 1e-3 * (1 + np.linalg.norm(theta)):  # a Newton step of a thousandth of θ
            self.notes = (NOT_THERE,)

    def move(self, x: np.ndarray) -> np.ndarray:
        """By how much the deletion x (n,) moves the parameters (p,)."""
        raise NotImplementedError

    def changes(self, query: Callable, x: Float[np.ndarray, "B n"]) -> Float[np.ndarray, "B *terms Q"]:
        """The query at the moved parameters, less the query at the trained ones: (B, Q)."""
        theta = self.problem.flat
        value = jit(lambda t: jnp.ravel(query(self.problem.unflatten(t))))
        moved = [value(theta + jnp.asarray(self.move(row), theta.dtype)) for row in x]
        return np.stack(moved).astype(np.float64) - np.asarray(value(theta), np.float64)

    def _slope(self, x: np.ndarray) -> np.ndarray:
        theta = self.problem.flat
        return np.asarray(self._data_gradient(theta, jnp.asarray(x, theta.dtype)), np.float64)


class GroupInfluence(_AtOptimum):
    """Second-order group influence: ``θ + d + H⁻¹H_D d`` with ``d = H⁻¹g_D``, third derivatives neglected.

    ``g_D`` and ``H_D`` are the gradient and Hessian of the deleted losses: the first two terms of the Newton step's
    geometric series, so that members of a group are seen together.

    Args:
        problem: the objective, and its minimum.
        space: which deletions can be asked for.
        damping: added to the diagonal of H.

    Raises:
        ValueError: H is singular in the precision of the parameters, or too large for a dense matrix.

    Example:
        >>> import jax.numpy as jnp, sketchlearn as sl
        >>> world = sl.worlds.Ridge(jnp.array([[1.0], [1.0]]), jnp.array([1.0, 4.0]))
        >>> method = sl.baselines.GroupInfluence(world.problem(), sl.Examples(2))
        >>> round(float(method.predict(lambda p: p[0], [1]).change), 4)      # -7/9 (1 + 1/3); retrained: -7/6
        -1.037

    Source: Basu, You and Feizi (2020), arXiv:1911.00418, with sums of losses in place of renormalised means.
    """

    def __init__(self, problem: Problem, space: Space, damping: float = 0.0):
        super().__init__(problem, space, damping)
        theta = problem.flat
        slope = jax.grad(lambda t, x: x @ problem.losses(t))
        self._deleted_product = jit(lambda x, v: jax.jvp(lambda t: slope(t, x), (theta,), (v,))[1])

    def move(self, x: np.ndarray) -> np.ndarray:
        """``d + H⁻¹H_D d``."""
        first = np.linalg.solve(self.hessian, self._slope(x))
        dtype = self.problem.flat.dtype
        product = self._deleted_product(jnp.asarray(x, dtype), jnp.asarray(first, dtype))
        return first + np.linalg.solve(self.hessian, np.asarray(product, np.float64))


class NewtonStep(_AtOptimum):
    """One Newton step on the objective without the deleted examples: ``θ + (H - H_D)⁻¹ g_D``.

    Exact for a quadratic objective, whatever is deleted.

    Args:
        problem: the objective, and its minimum.
        space: which deletions can be asked for.
        damping: added to the diagonal.

    Raises:
        ValueError: H is singular in the precision of the parameters, with all examples or without the deleted ones.

    Example:
        >>> import jax.numpy as jnp, sketchlearn as sl
        >>> world = sl.worlds.Ridge(jnp.array([[1.0], [1.0]]), jnp.array([1.0, 4.0]))
        >>> method = sl.baselines.NewtonStep(world.problem(), sl.Examples(2))
        >>> round(float(method.predict(lambda p: p[0], [1]).change), 4)
        -1.1667

    Source: Beirami et al. (2017), arXiv:1711.05323; Koh et al. (2019), arXiv:1905.13289.
    """

    def __init__(self, problem: Problem, space: Space, damping: float = 0.0):
        super().__init__(problem, space, damping)
        self._full = jit(problem.hessian)
        self._damping = damping

    def move(self, x: np.ndarray) -> np.ndarray:
        """``(H - H_D)⁻¹ g_D``."""
        theta = self.problem.flat
        left = np.asarray(self._full(theta, jnp.asarray(1 - x, theta.dtype)), np.float64)
        return solve_without(left + self._damping * np.eye(theta.size), self._slope(x))


class InfinitesimalJackknife(_AtOptimum):
    """The Taylor series of the optimum in the deleted share t, to any order, at t = 1.

    ``∇L(θ(t), 1 - t x) = 0`` is solved by the iteration ``θ <- θ - H⁻¹ ∇L(θ, 1 - t x)``, each round of which makes
    one more order exact; it is run over power series.

    Args:
        problem: the objective, and its minimum.
        space: which deletions can be asked for.
        order: k; 1 is influence functions.

    Raises:
        ValueError: H is singular in the precision of the parameters, or too large for a dense matrix.

    Example:
        >>> import jax.numpy as jnp, sketchlearn as sl
        >>> world = sl.worlds.Ridge(jnp.array([[1.0], [1.0]]), jnp.array([1.0, 4.0]))
        >>> method = sl.baselines.InfinitesimalJackknife(world.problem(), sl.Examples(2), order=3)
        >>> method.predict(lambda p: p[0], [1]).terms.round(4).tolist()      # -7/9, times the leverage 1/3 each
        [-0.7778, -0.2593, -0.0864]

    Source: Giordano, Jordan and Broderick (2019), arXiv:1907.12116.
    """

    differentiates = True
    reverse = False

    def __init__(self, problem: Problem, space: Space, order: int = 2):
        super().__init__(problem, space)
        self.order = check_degree(order)

    def changes(self, query: Callable, x: Float[np.ndarray, "B n"]) -> Float[np.ndarray, "B *terms Q"]:
        """Taylor terms (B, k, Q)."""
        theta = self.problem.flat
        inverse = jnp.asarray(np.linalg.inv(self.hessian), theta.dtype)

        def answer(t: jax.Array, row: jax.Array) -> jax.Array:
            point = theta
            for _ in range(self.order):
                point = point - inverse @ jax.grad(self.problem.objective)(point, 1 - t * row)
            return jnp.ravel(query(self.problem.unflatten(point)))

        def terms(row: jax.Array) -> jax.Array:
            zero = jnp.zeros((), theta.dtype)
            return taylor_coefficients(lambda t: answer(t, row), zero, jnp.ones_like(zero), self.order)[1:]

        program = jit(terms)
        out = np.stack([np.asarray(program(jnp.asarray(row, theta.dtype))) for row in x])
        return out.reshape(len(x), self.order, math.prod(out.shape[2:]))
