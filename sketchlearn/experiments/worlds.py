"""Exactly solvable worlds: training programs whose answer to every deletion is known without training."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from sketchlearn.deletions.reading import deletion_vectors
from sketchlearn.errors import check_count, check_seed
from sketchlearn.runtime.precision import in_full_precision
from sketchlearn.training.objective import Problem


@dataclasses.dataclass(frozen=True, eq=False)
class Ridge:
    """Ridge regression, ``θ(w) = argmin Σ_i w_i (y_i - u_i·θ)²/2 + λ|θ|²/2``, deletions in closed form.

    The down-weighting by t of example i alone moves θ by ``-t A⁻¹u_i e_i / (1 - t h_i)``, with e_i its residual: a
    series in t with its pole at ``1/h_i``, one over the leverage ``h_i = u_i·A⁻¹u_i``.

    Args:
        features: (n, p), the inputs u_i.
        targets: (n,).
        penalty: λ > 0.

    Example:
        >>> import jax.numpy as jnp, sketchlearn as sl
        >>> world = sl.worlds.Ridge(jnp.array([[1.0], [1.0]]), jnp.array([1.0, 4.0]), penalty=1.0)
        >>> world.leverage().round(4).tolist(), world.without([1]).round(4).tolist()
        ([0.3333, 0.3333], [0.5])

    Source: Cook and Weisberg, "Residuals and Influence in Regression" (1982).
    """

    features: Any
    targets: Any
    penalty: float = 1.0

    def __post_init__(self) -> None:
        _check_data(self.features, self.targets, self.penalty)

    @property
    def num_examples(self) -> int:
        """n."""
        return int(self.features.shape[0])

    @in_full_precision
    def train(self, weights: Any) -> jax.Array:
        """The parameters (p,) for weights (n,), by the normal equations."""
        p = self.features.shape[1]
        matrix = (self.features.T * weights) @ self.features + self.penalty * jnp.eye(p, dtype=self.features.dtype)
        return jnp.linalg.solve(matrix, self.features.T @ (weights * self.targets))

    def leverage(self) -> np.ndarray:
        """(n,), ``h_i``: one over the radius of the series in the weight of one example."""
        x = np.asarray(self.features, np.float64)
        return np.einsum("ip,pi->i", x, np.linalg.solve(self._matrix(), x.T))

    def without(self, delete: Any) -> np.ndarray:
        """The parameters after a deletion, from those before: ``θ - A⁻¹X_Dᵀ(I - H_DD)⁻¹ r_D``; whole examples only."""
        x = deletion_vectors(delete, self.num_examples)
        if x.ndim != 1 or not np.isin(x, (0, 1)).all():
            raise ValueError("the closed form is for one deletion of whole examples.")
        features, targets = np.asarray(self.features, np.float64), np.asarray(self.targets, np.float64)
        theta = np.linalg.solve(self._matrix(), features.T @ targets)
        gone = features[x == 1]
        effect = np.linalg.solve(self._matrix(), gone.T)
        residual = targets[x == 1] - gone @ theta
        return theta - effect @ np.linalg.solve(np.eye(len(gone)) - gone @ effect, residual)

    def problem(self) -> Problem:
        """The objective example by example, at its optimum."""
        return Problem(
            lambda theta, i: (self.targets[i] - self.features[i] @ theta) ** 2 / 2,
            self.num_examples,
            self.train(jnp.ones(self.num_examples, self.features.dtype)),
            penalty=lambda theta: self.penalty * theta @ theta / 2,
            outputs=lambda theta, i: self.features[i] @ theta,
            output_loss=lambda z, i: (self.targets[i] - z) ** 2 / 2,
        )

    def _matrix(self) -> np.ndarray:
        x = np.asarray(self.features, np.float64)
        return x.T @ x + self.penalty * np.eye(x.shape[1])


@dataclasses.dataclass(frozen=True, eq=False)
class LinearDescent:
    """Gradient descent on the ridge objective from zero, known after any number of steps.

    ``θ_T(w) = (I - (I - ηA(w))^T) θ*(w)``, with the matrix A(w) and the minimum ``θ*(w)`` of :class:`Ridge`.

    Args:
        ridge: the objective.
        rate: η.
        steps: T.

    Example:
        >>> import jax.numpy as jnp, sketchlearn as sl
        >>> ridge = sl.worlds.Ridge(jnp.array([[1.0], [1.0]]), jnp.array([1.0, 4.0]))
        >>> sl.worlds.LinearDescent(ridge, rate=0.1, steps=1).train(jnp.ones(2)).round(4).tolist()
        [0.5]
    """

    ridge: Ridge
    rate: float
    steps: int

    @property
    def num_examples(self) -> int:
        """n."""
        return self.ridge.num_examples

    @in_full_precision
    def train(self, weights: Any) -> jax.Array:
        """The parameters (p,) for weights (n,), step by step."""
        x, y, penalty = self.ridge.features, self.ridge.targets, self.ridge.penalty

        def step(theta: Any, _: Any) -> tuple[Any, None]:
            return theta - self.rate * (x.T @ (weights * (x @ theta - y)) + penalty * theta), None

        return jax.lax.scan(step, jnp.zeros(x.shape[1], x.dtype), None, length=self.steps)[0]

    def exact(self, weights: Any) -> np.ndarray:
        """The same from the eigenvalues of A(w), without a step."""
        x, w = np.asarray(self.ridge.features, np.float64), np.asarray(weights, np.float64)
        values, vectors = np.linalg.eigh((x.T * w) @ x + self.ridge.penalty * np.eye(x.shape[1]))
        along = vectors.T @ (x.T @ (w * np.asarray(self.ridge.targets, np.float64)))
        return vectors @ ((1 - (1 - self.rate * values) ** self.steps) / values * along)


@dataclasses.dataclass(frozen=True, eq=False)
class Logistic:
    """Logistic regression, ``argmin Σ_i w_i log(1 + exp(-y_i x_i·θ)) + λ|θ|²/2``, by Newton's method to rounding.

    For small down-weights ε the known laws hold: influence errs by ε², the second-order term leaves ε³, one Newton
    step ε² times a constant that comes from the third derivative alone.

    Args:
        features: (n, p).
        targets: (n,), -1 or 1.
        penalty: λ > 0.
        steps: of Newton's method.

    Example:
        >>> import jax.numpy as jnp, sketchlearn as sl
        >>> world = sl.worlds.Logistic(jnp.array([[1.0], [-1.0]]), jnp.array([1.0, 1.0]))
        >>> world.train(jnp.ones(2)).tolist()
        [0.0]
    """

    features: Any
    targets: Any
    penalty: float = 1.0
    steps: int = 12

    def __post_init__(self) -> None:
        _check_data(self.features, self.targets, self.penalty)
        if not np.isin(np.asarray(self.targets), (-1, 1)).all():
            raise ValueError("targets of a logistic regression must be -1 or 1.")

    @property
    def num_examples(self) -> int:
        """n."""
        return int(self.features.shape[0])

    @in_full_precision
    def train(self, weights: Any) -> jax.Array:
        """The parameters (p,) for weights (n,)."""
        signed = self.features * self.targets[:, None]
        ridge = self.penalty * jnp.eye(signed.shape[1], dtype=signed.dtype)

        def step(theta: Any, _: Any) -> tuple[Any, None]:
            s = jax.nn.sigmoid(-signed @ theta)
            gradient = self.penalty * theta - signed.T @ (weights * s)
            return theta - jnp.linalg.solve((signed.T * (weights * s * (1 - s))) @ signed + ridge, gradient), None

        return jax.lax.scan(step, jnp.zeros(signed.shape[1], signed.dtype), None, length=self.steps)[0]

    def problem(self) -> Problem:
        """The objective example by example, at its optimum."""
        return Problem(
            lambda theta, i: jax.nn.softplus(-self.targets[i] * (self.features[i] @ theta)),
            self.num_examples,
            self.train(jnp.ones(self.num_examples, self.features.dtype)),
            penalty=lambda theta: self.penalty * theta @ theta / 2,
            outputs=lambda theta, i: self.features[i] @ theta,
            output_loss=lambda z, i: jax.nn.softplus(-self.targets[i] * z),
        )


@dataclasses.dataclass(frozen=True, eq=False)
class PolynomialLearner:
    """A learner whose parameters are a polynomial of the weights: every series of its degree is exact.

    ``θ(w) = Σ_r b_r ⊙ (a_r·(1 - w))^r / r!`` for r = 0 .. degree, with random vectors.

    Args:
        num_examples: n.
        degree: the highest power.
        num_parameters: p.
        seed: seed of the random vectors.

    Example:
        >>> import jax.numpy as jnp, sketchlearn as sl
        >>> world = sl.worlds.PolynomialLearner(5, degree=2)
        >>> bool(jnp.allclose(world.train(jnp.ones(5)), world.terms(jnp.zeros(5))[0]))
        True
    """

    num_examples: int
    degree: int = 2
    num_parameters: int = 3
    seed: int = 0

    @in_full_precision
    def terms(self, x: Any) -> Any:
        """(degree + 1, p), the terms of every order at a deletion vector ``x = 1 - w``."""
        n, k = check_count("num_examples", self.num_examples), check_count("degree", self.degree)
        rng = np.random.default_rng(check_seed(self.seed))
        a = jnp.asarray(rng.normal(size=(k + 1, self.num_parameters, n)))
        b = jnp.asarray(rng.normal(size=(k + 1, self.num_parameters)))
        x = jnp.asarray(x)
        return jnp.stack([b[r] * (a[r].astype(x.dtype) @ x) ** r / math.factorial(r) for r in range(k + 1)])

    @in_full_precision
    def train(self, weights: Any) -> jax.Array:
        """The parameters (p,) for weights (n,)."""
        return self.terms(1 - jnp.asarray(weights)).sum(0)


def _check_data(features: Any, targets: Any, penalty: float) -> None:
    if np.ndim(features) != 2 or np.shape(targets) != np.shape(features)[:1]:
        raise ValueError(f"features must be (n, p) and targets (n,), got {np.shape(features)} and {np.shape(targets)}.")
    if not penalty > 0:
        raise ValueError(f"penalty must be positive, so that the minimum is one point, got {penalty!r}.")
