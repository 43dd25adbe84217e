"""Slow and obviously right versions of what the package does fast: the oracles of its tests."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from sketchlearn.runtime.precision import in_full_precision
from sketchlearn.runtime.programs import jit


@in_full_precision
def nested_jvp(f: Callable, point: Any, direction: Any, degree: int) -> Any:
    """Taylor coefficients along a real direction by ``degree`` nested calls of ``jax.jvp``.

    ``c_r = g^(r)(0) / r!`` with ``g(t) = f(point + t·direction)``. The cost doubles
    with every order, and ``stop_gradient`` is treated as a constant.

    Args:
        f: a function of one pytree.
        point: where to expand; pytree of real arrays.
        direction: the same structure, real.
        degree: highest order.

    Returns:
        A pytree like ``f(point)`` with a leading axis ``degree + 1``.

    Example:
        >>> import jax.numpy as jnp
        >>> nested_jvp(lambda x: x**3, 2.0, 1.0, degree=3).tolist()
        [8.0, 12.0, 6.0, 1.0]
    """

    def g(t: Any) -> Any:
        return f(jax.tree.map(lambda p, d: p + t * d, point, direction))

    def derivative(h: Callable) -> Callable:
        return lambda t: jax.jvp(h, (t,), (jnp.ones_like(t),))[1]

    orders = [g]
    for _ in range(degree):
        orders.append(derivative(orders[-1]))
    zero = jnp.zeros((), jnp.result_type(*jax.tree.leaves(point), float))
    terms = [jax.tree.map(lambda v, r=r: v / math.factorial(r), h(zero)) for r, h in enumerate(orders)]
    return jax.tree.map(lambda *c: jnp.stack(c), *terms)


def retrain(train: Callable, query: Callable, deletions: Any, num_examples: int) -> jax.Array:
    """The truth: ``query(train(weights))`` for every deletion, by retraining from scratch.

    Args:
        train: weights (n,) -> parameters.
        query: parameters -> a real number (or array).
        deletions: (B, n) or (n,), 1 where an example is deleted, 0 where it is kept.
        num_examples: n.

    Returns:
        The values, shape (B,) or ().

    Example:
        >>> import jax.numpy as jnp
        >>> retrain(lambda w: w.sum(), lambda p: 2 * p, jnp.array([[0, 0, 1], [1, 1, 1]]), 3).tolist()
        [4.0, 0.0]
    """
    x = jnp.asarray(deletions, float)
    if x.shape[-1:] != (num_examples,) or x.ndim > 2:
        raise ValueError(f"deletions must have shape (B, {num_examples}) or ({num_examples},), got {x.shape}.")
    one = jit(lambda w: query(train(w)))
    return one(1 - x) if x.ndim == 1 else jnp.stack([one(1 - row) for row in x])


def homogeneous_terms(num_variables: int, degree: int) -> np.ndarray:
    """The exponents of all monomials of one degree, shape (C(n+r-1, r), n).

    Args:
        num_variables: n.
        degree: r, the sum of every row.

    Example:
        >>> homogeneous_terms(2, 2).tolist()
        [[2, 0], [1, 1], [0, 2]]
    """
    rows = []
    for choice in itertools.combinations_with_replacement(range(num_variables), degree):
        row = [0] * num_variables
        for i in choice:
            row[i] += 1
        rows.append(row)
    return np.array(rows, int).reshape(-1, num_variables)


def bombieri_norm(exponents: np.ndarray, coefficients: np.ndarray) -> float:
    """``||P||_B`` of a homogeneous polynomial: ``sqrt(Σ |a_α|² α! / r!)``, the Frobenius norm of its tensor.

    Args:
        exponents: (terms, n), each row with the sum r, no two the same.
        coefficients: (terms,), of the monomials.

    Example:
        >>> float(bombieri_norm(np.array([[2, 0], [1, 1], [0, 2]]), np.array([1.0, 2.0, 1.0])))  # (x + y)²
        2.0
    """
    factorial = np.vectorize(math.factorial)
    weights = factorial(exponents).prod(1) / factorial(exponents.sum(1))
    return float(np.sqrt((np.abs(coefficients) ** 2 * weights).sum()))
