"""A training objective example by example: what methods that look at single losses need to know."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import PyTree

from sketchlearn.runtime.precision import in_full_precision, shapes_of


@dataclasses.dataclass(frozen=True, eq=False)
class Checkpoint:
    """A point that a training run passed through, and what was done near it.

    Attributes:
        parameters: there.
        step_sizes: what multiplied the gradient in an update: a number, or a pytree like the parameters.
        visits: (n,), how often each example was used before the next checkpoint.
    """

    parameters: PyTree
    step_sizes: PyTree
    visits: np.ndarray


@dataclasses.dataclass(frozen=True, eq=False)
class Problem:
    """The objective ``Σ_i w_i loss(θ, i) + penalty(θ)``, and where training with all weights one arrived.

    Attributes:
        loss: ``(parameters, i) -> number``, of training example i without its weight; i may be traced.
        num_examples: n.
        parameters: the trained ones, a pytree of floating arrays.
        penalty: ``parameters -> number``, or ``None``.
        outputs: ``(parameters, i) -> array``, and
        output_loss: ``(array, i) -> number``, with ``loss = output_loss(outputs(θ, i), i)``: for the generalised
            Gauss-Newton matrix only.
        checkpoints: of the run, for TracIn only.

    Example:
        >>> import jax.numpy as jnp
        >>> y = jnp.array([1.0, 3.0])
        >>> problem = Problem(lambda p, i: 0.5 * (p - y[i]) ** 2, 2, jnp.array(2.0))
        >>> float(problem.objective(problem.flat, jnp.ones(2)))
        1.0
    """

    loss: Callable
    num_examples: int
    parameters: PyTree
    penalty: Callable | None = None
    outputs: Callable | None = None
    output_loss: Callable | None = None
    checkpoints: tuple[Checkpoint, ...] = ()

    def __post_init__(self) -> None:
        leaves = jax.tree.leaves(self.parameters)
        if not leaves or not all(jnp.issubdtype(jnp.result_type(leaf), jnp.floating) for leaf in leaves):
            raise TypeError("parameters must be a pytree of floating-point arrays.")
        shape = shapes_of(self.loss, self.parameters, 0)
        if getattr(shape, "shape", None) != ():
            raise TypeError(f"loss(parameters, i) must return one number, got {shape}.")

    @property
    def flat(self) -> jax.Array:
        """The trained parameters as one vector (p,)."""
        return ravel_pytree(self.parameters)[0]

    def unflatten(self, theta: jax.Array) -> PyTree:
        """The pytree of a vector (p,)."""
        return ravel_pytree(self.parameters)[1](theta)

    @in_full_precision
    def losses(self, theta: jax.Array) -> jax.Array:
        """The losses of all examples, (n,), at a vector of parameters."""
        parameters = self.unflatten(theta)
        return jax.vmap(lambda i: self.loss(parameters, i))(jnp.arange(self.num_examples))

    @in_full_precision
    def objective(self, theta: jax.Array, weights: jax.Array) -> jax.Array:
        """``Σ_i w_i loss(θ, i) + penalty(θ)`` at a vector of parameters."""
        total = weights @ self.losses(theta)
        return total if self.penalty is None else total + self.penalty(self.unflatten(theta))

    @in_full_precision
    def hessian(self, theta: jax.Array, weights: jax.Array) -> jax.Array:
        """The dense matrix (p, p) of second derivatives of the objective, one product for each of its rows."""
        gradient = jax.grad(self.objective)

        def row(v: jax.Array) -> jax.Array:
            return jax.jvp(lambda t: gradient(t, weights), (theta,), (v,))[1]

        return jax.lax.map(row, jnp.eye(len(theta), dtype=theta.dtype), batch_size=min(len(theta), 32))

    @in_full_precision
    def gauss_newton_product(self, theta: jax.Array, v: jax.Array) -> jax.Array:
        """``Σ_i J_iᵀ B_i J_i v`` plus the penalty's Hessian: J of the outputs, B second derivatives of output_loss."""
        if self.outputs is None or self.output_loss is None:
            raise ValueError("the Gauss-Newton matrix needs outputs and output_loss of the problem.")
        outputs, output_loss = self.outputs, self.output_loss
        every = jnp.arange(self.num_examples)

        def all_outputs(t: jax.Array) -> jax.Array:
            parameters = self.unflatten(t)
            return jax.vmap(lambda i: outputs(parameters, i))(every)

        z, tangent = jax.jvp(all_outputs, (theta,), (v,))
        slope = jax.grad(lambda z: jax.vmap(output_loss)(z, every).sum())
        (out,) = jax.vjp(all_outputs, theta)[1](jax.jvp(slope, (z,), (tangent,))[1])
        if self.penalty is not None:
            penalty = self.penalty
            curve = jax.grad(lambda t: penalty(self.unflatten(t)))
            out = out + jax.jvp(curve, (theta,), (v,))[1]
        return out
