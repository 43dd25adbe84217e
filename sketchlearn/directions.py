"""Random directions: uniform on the unit sphere of C^q, each from its own seed."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp


def directions(key: int, indices: Any, dim: int, dtype: Any = None) -> tuple[jax.Array, jax.Array]:
    """Real and imaginary parts of the directions with the given numbers.

    ``ψ = g / |g|`` with ``g`` a standard complex Gaussian in C^q. Direction number i
    depends on ``key``, ``i`` and ``dim`` alone, not on how many are drawn together; it is
    drawn in float32, so it is the same direction in every precision, up to the rounding of
    ``|g|``. (Fused into a larger compiled program it is the same to the roundings of float32 only.)

    Args:
        key: a whole number, the seed.
        indices: numbers of the directions, shape (B,).
        dim: q.
        dtype: of the parts; the default float if not given.

    Returns:
        Two arrays (B, q).

    Example:
        >>> re, im = directions(0, jnp.arange(3), 5)
        >>> re.shape, bool(jnp.allclose((re**2 + im**2).sum(1), 1))
        ((3, 5), True)
    """
    dtype = jnp.dtype(jnp.result_type(float) if dtype is None else dtype)
    return _draw(jax.random.key(key), jnp.asarray(indices), dim, dtype)


@functools.partial(jax.jit, static_argnames=("dim", "dtype"))
def _draw(root: jax.Array, indices: jax.Array, dim: int, dtype: Any) -> tuple[jax.Array, jax.Array]:
    def one(i: Any) -> tuple[jax.Array, jax.Array]:
        g = jax.random.normal(jax.random.fold_in(root, i), (2, dim), jnp.float32).astype(dtype)
        g = g / jnp.sqrt(jnp.sum(g * g))
        return g[0], g[1]

    return jax.vmap(one)(indices)
