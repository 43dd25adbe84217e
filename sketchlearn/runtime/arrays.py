"""What the arrays in a pytree are: of which type, traced or known, finite or not."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from sketchlearn.errors import shown


def check_dtype(dtype: DTypeLike | None) -> Any:
    """Return float32 or float64 (for ``None`` the wider one that is enabled), or say why it cannot be had."""
    if dtype is None:
        return jnp.result_type(float)
    if jnp.dtype(dtype) not in (jnp.float32, jnp.float64):
        raise TypeError(f"dtype must be float32 or float64, got {shown(dtype)}.")
    if jnp.finfo(dtype).bits > jnp.finfo(jnp.result_type(float)).bits:
        raise ValueError("float64 needs jax.config.update('jax_enable_x64', True) before the first computation.")
    return jnp.dtype(dtype)


def is_tracer(tree: Any) -> bool:
    """Whether any leaf is being traced, so that its values cannot be looked at."""
    return any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(tree))


def check_finite(name: str, tree: Any) -> None:
    """Refuse NaN and infinity in concrete arrays (traced ones cannot be looked at)."""
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        if isinstance(leaf, jax.core.Tracer):
            continue
        bad = ~np.isfinite(np.asarray(leaf))
        if bad.any():
            where = jax.tree_util.keystr(path) or "the array"
            raise ValueError(
                f"{name} must be finite, but {where} has {int(bad.sum())} entries that are NaN or infinite "
                f"(the first at index {tuple(int(i) for i in np.argwhere(bad)[0])})."
            )
