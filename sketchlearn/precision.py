"""The floating-point types in a pytree: read, converted, widened, never narrowed."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp


def floating(x: Any) -> bool:
    """Whether an array holds real floating-point numbers."""
    return hasattr(x, "dtype") and jnp.issubdtype(x.dtype, jnp.floating)


def converted(tree: Any, dtype: Any) -> Any:
    """A pytree with its floating leaves in ``dtype``; as it is for None."""
    return tree if dtype is None else jax.tree.map(lambda x: x.astype(dtype) if floating(x) else x, tree)


def wider(old: Any, new: Any) -> Any:
    """``old`` in the dtype of ``new`` where that is the wider floating one."""
    wide = floating(old) and floating(new) and jnp.finfo(new.dtype).bits > jnp.finfo(old.dtype).bits
    return old.astype(new.dtype) if wide else old


def widest(parameters: Any) -> Any:
    """The widest floating dtype among the parameters."""
    for path, leaf in jax.tree_util.tree_leaves_with_path(parameters):
        if not floating(leaf):
            raise TypeError(
                f"parameter {jax.tree_util.keystr(path)} has dtype {leaf.dtype}: only floating-point numbers can be "
                "trained. Keep other arrays inside the model or the loss."
            )
    return jnp.result_type(*[leaf.dtype for leaf in jax.tree.leaves(parameters)])
