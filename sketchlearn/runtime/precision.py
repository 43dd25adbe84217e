"""In which precision a program runs: how its products are computed, and the floating-point types in its arrays.

On a GPU or TPU JAX by default rounds the factors of float32 products and convolutions (to TF32 on an H100, a relative
error of 5e-4). The package asks for all digits, unless the user has said otherwise: an operation's own ``precision=``
is kept, and so is a setting ``jax_default_matmul_precision``.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar, cast

import jax
import jax.numpy as jnp

F = TypeVar("F", bound=Callable)
FULL = "highest"


@contextmanager
def full_precision() -> Iterator[None]:
    """Trace products of matrices and convolutions in full precision, where the user has set no other.

    JAX writes the precision into a product when the product is traced, so the tracing has to happen in here. What is
    only run in here, a compiled program, does not change.

    Example:
        >>> with full_precision():
        ...     "HIGHEST" in str(jax.make_jaxpr(jnp.dot)(jnp.ones(2), jnp.ones(2)))
        True
    """
    if _setting() is None:
        with jax.default_matmul_precision(FULL):
            yield
    else:
        yield


@contextmanager
def asked_precision(precision: Any) -> Iterator[None]:
    """Products in a precision that the user names, or for None in the one that is set."""
    if precision is None:
        yield
        return
    try:
        context = jax.default_matmul_precision(precision)
        context.__enter__()
    except ValueError:
        raise ValueError(
            f'precision must be a name that JAX knows, "highest", "high" or "default" for instance, got {precision!r}.'
        ) from None
    try:
        yield
    finally:
        context.__exit__(None, None, None)


def in_full_precision(f: F) -> F:
    """The function, with whatever it traces or computes in :func:`full_precision`."""

    @functools.wraps(f)
    def run(*args: Any, **options: Any) -> Any:
        with full_precision():
            return f(*args, **options)

    return cast(F, run)


def _setting() -> str | None:
    config: Any = jax.config
    return config.jax_default_matmul_precision


def matmul_precision() -> str:
    """The precision in which products are traced now: ``"HIGHEST"``, or what the user has set.

    Example:
        >>> with jax.default_matmul_precision("tensorfloat32"):
        ...     matmul_precision()
        'HIGH'
    """
    setting = _setting() or FULL
    try:
        return str(jax.lax.Precision(setting).name)  # one name for "highest" and "float32"
    except ValueError:  # the name of an algorithm, for instance "TF32_TF32_F32_X3"
        return str(setting)


def shapes_of(f: Callable, *args: Any) -> Any:
    """``jax.eval_shape``, with a trace that a compiled program goes on with."""
    with full_precision():
        return jax.eval_shape(f, *args)


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
