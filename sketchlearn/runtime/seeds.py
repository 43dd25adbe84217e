"""Random streams: one seed serves many purposes, and no two purposes may draw the same numbers.

Subsets that a method learns from and subsets that it is tested on, both drawn by ``default_rng(0)``, are the same
subsets, and the test then measures memory. So every purpose has a stream of its own, which is also apart from what
``numpy.random.default_rng(seed)`` and ``jax.random.key(seed)`` give to the user's own program.
"""

from __future__ import annotations

import zlib

import jax
import numpy as np

PURPOSES = (
    "directions", "orthogonal directions", "pilot directions", "test deletions", "structured test deletions",
    "planned deletions", "regression subsets", "bootstrap", "gradient projection", "layer and loss keys",
    "probed parameters", "check direction", "custom rule points", "world data", "empty places",
    "precision check", "probed coordinates", "curvature probes",
)  # fmt: skip


def _number(purpose: str) -> int:
    if purpose not in PURPOSES:
        raise ValueError(f"a stream is drawn for one of {', '.join(map(repr, PURPOSES))}, got {purpose!r}.")
    return zlib.crc32(purpose.encode())


def stream(purpose: str, seed: int, *which: int) -> np.random.Generator:
    """NumPy's generator of one purpose.

    Args:
        purpose: one of ``PURPOSES``.
        seed: the user's, a whole number.
        which: whole numbers that tell several draws of one purpose apart, such as the size of the subsets.

    Example:
        >>> a, b = stream("test deletions", 0), stream("regression subsets", 0)
        >>> a.integers(0, 100, 3).tolist() == b.integers(0, 100, 3).tolist()
        False
    """
    return np.random.default_rng([seed, _number(purpose), *which])


def jax_key(purpose: str, seed: int) -> jax.Array:
    """JAX's key of one purpose.

    Example:
        >>> import jax
        >>> bool((jax.random.key_data(jax_key("directions", 0)) == jax.random.key_data(jax.random.key(0))).all())
        False
    """
    return jax.random.fold_in(jax.random.key(seed), _number(purpose))


def subseed(purpose: str, seed: int) -> int:
    """A seed, below 2³², for a function that takes one for itself."""
    return int(np.random.SeedSequence([seed, _number(purpose)]).generate_state(1)[0])
