"""Random directions: uniform on the unit sphere of C^q, each from its own seed or orthogonal in blocks."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from jaxtyping import Float

from sketchlearn.runtime.seeds import jax_key

DESIGNS = ("independent", "orthogonal")
LARGEST_BASIS = 4096  # of orthogonal directions: drawing one takes the cube of its size


def directions(
    seed: int, indices: Any, dim: int, dtype: DTypeLike | None = None, design: str = "independent"
) -> tuple[Float[jax.Array, "B {dim}"], Float[jax.Array, "B {dim}"]]:
    """Real and imaginary parts of the directions with the given numbers.

    ``ψ = g / |g|`` with ``g`` a standard complex Gaussian in C^q. Direction number i
    depends on ``seed``, ``i`` and ``dim`` alone, not on how many are drawn together; it is
    drawn in float32, so it is the same direction in every precision, up to the rounding of
    ``|g|``. (Fused into a larger compiled program it is the same to the roundings of float32 only.)

    Args:
        seed: a whole number.
        indices: numbers of the directions, shape (B,).
        dim: q.
        dtype: of the parts; the default float if not given.
        design: ``"independent"``, or ``"orthogonal"``: each direction is uniform as before, but every q of them in
            a row are the columns of one unitary matrix (Haar: the phases of QR removed, Mezzadri 2007), so
            that together they see every coordinate equally.

    Returns:
        Two arrays (B, q).

    Example:
        >>> re, im = directions(0, jnp.arange(3), 5)
        >>> re.shape, bool(jnp.allclose((re**2 + im**2).sum(1), 1))
        ((3, 5), True)
    """
    dtype = jnp.dtype(jnp.result_type(float) if dtype is None else dtype)
    if design == "independent":
        return _draw(jax_key("directions", seed), jnp.asarray(indices), dim, dtype)
    block, column = np.divmod(np.asarray(indices), dim)
    psi = np.stack([_unitary(seed, int(b), dim)[:, j] for b, j in zip(block, column, strict=True)])
    return jnp.asarray(psi.real, dtype), jnp.asarray(psi.imag, dtype)


def check_design(design: str, dim: int) -> str:
    """Return the design, or say what it has to be."""
    if design not in DESIGNS:
        raise ValueError(f"design must be one of {', '.join(map(repr, DESIGNS))}, got {design!r}.")
    if design == "orthogonal" and dim > LARGEST_BASIS:
        raise ValueError(
            f"orthogonal directions in {dim} dimensions would take too long to draw (at most {LARGEST_BASIS}): "
            'use design="independent", or a space with fewer coordinates.'
        )
    return design


@functools.lru_cache(maxsize=2)
def _unitary(seed: int, block: int, dim: int) -> np.ndarray:
    """A unitary matrix (q, q) drawn uniformly (Haar measure) from its own seed."""
    own = jax.random.fold_in(jax_key("orthogonal directions", seed), block)
    g = np.asarray(jax.random.normal(own, (2, dim, dim), jnp.float32), np.float64)
    q, r = np.linalg.qr(g[0] + 1j * g[1])
    phases = np.diagonal(r) / np.abs(np.diagonal(r))
    return q * phases


@functools.partial(jax.jit, static_argnames=("dim", "dtype"))
def _draw(root: jax.Array, indices: jax.Array, dim: int, dtype: Any) -> tuple[jax.Array, jax.Array]:
    def one(i: Any) -> tuple[jax.Array, jax.Array]:
        g = jax.random.normal(jax.random.fold_in(root, i), (2, dim), jnp.float32).astype(dtype)
        g = g / jnp.sqrt(jnp.sum(g * g))
        return g[0], g[1]

    return jax.vmap(one)(indices)
