"""The truth: retraining, many deletions at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from jaxtyping import PyTree

from sketchlearn.errors import check_count
from sketchlearn.execution.progress import track
from sketchlearn.execution.runs import batched_program, plain_program
from sketchlearn.runtime.arrays import check_dtype
from sketchlearn.runtime.workers import num_workers, side_by_side
from sketchlearn.training.nonfinite import explanation
from sketchlearn.training.program import check_query, check_train

BLOCK = 32  # trainings at once; on two cores larger blocks were not faster


def retrain(
    train: Callable,
    weights: Any,
    query: Callable | None = None,
    batch_size: int = BLOCK,
    dtype: DTypeLike | None = None,
    progress: bool = False,
) -> PyTree:
    """Train again for every row of weights, in blocks that are run at once.

    Rows of ones (nothing deleted) are the plain run, ``jax.jit(train)(ones)``, to the bit (on a GPU or TPU: of that
    run with ``jax.default_matmul_precision("highest")``, unless you set another). The other rows
    do not depend on which rows stand beside them; a block of another size may round them differently.

    Args:
        train: weights (n,) -> parameters, pure.
        weights: (B, n) or (n,), real; 1 keeps an example, 0 deletes it. Of deletions ``x`` they are ``1 - x``.
        query: what to keep of the parameters; all of them if not given.
        batch_size: trainings run at once.
        dtype: of the weights, float32 or float64; by default the wider one that is enabled.
        progress: show a progress bar.

    Returns:
        The parameters, or the query's values, with a leading axis B unless one row was given; NumPy arrays.

    Raises:
        FloatingPointError: a training run gives NaN or infinity.

    Example:
        >>> import jax.numpy as jnp, sketchlearn as sl
        >>> sl.retrain(lambda w: w @ jnp.arange(3.0), [[1.0, 1, 1], [1, 1, 0]], query=lambda p: 2 * p).tolist()
        [6.0, 2.0]
    """
    batch_size = check_count("batch_size", batch_size)
    rows = np.asarray(weights, np.float64)
    if rows.ndim not in (1, 2) or not rows.size or not np.isfinite(rows).all():
        raise ValueError(f"weights must be finite numbers of shape (n,) or (B, n), B at least 1, got {rows.shape}.")
    stack = np.atleast_2d(rows).astype(check_dtype(dtype))
    shapes = check_train(train, jnp.asarray(stack[0]))
    if query is not None:
        shapes = check_query(query, shapes)
    out = jax.tree.map(lambda s: np.empty((len(stack), *s.shape), s.dtype), shapes)
    for where, part in retrained_blocks(train, stack, query, batch_size, progress):
        for whole, piece in zip(jax.tree.leaves(out), jax.tree.leaves(part), strict=True):
            whole[where] = piece
    return out if rows.ndim == 2 else jax.tree.map(lambda leaf: leaf[0], out)


def retrained_blocks(
    train: Callable, stack: np.ndarray, query: Callable | None, batch_size: int, show: bool
) -> Iterator[tuple[np.ndarray, Any]]:
    """Yield (rows, what training gives for them); the rows of ones first, then block after block."""

    ones = np.ones_like(stack[0])
    plain = (stack == ones).all(1)
    if plain.any():
        kept = jax.tree.map(
            lambda leaf: np.asarray(leaf)[None], jax.device_get(plain_program(train, query)(jnp.asarray(ones)))
        )
        check_finite_runs(kept, train, ones[None])
        yield np.flatnonzero(plain), kept
    rest = np.flatnonzero(~plain)
    if not len(rest):
        return
    starts = range(0, len(rest), batch_size)
    padded = np.concatenate([rest, np.repeat(rest[:1], -len(rest) % batch_size)])

    def arguments() -> Iterator[tuple]:
        for start in starts:
            yield (jnp.asarray(stack[padded[start : start + batch_size]]),)

    # always of one size: a row's last digits may depend on the size of its block, so not on how many are asked for
    compiled = batched_program(train, query).compiled(jnp.asarray(stack[padded[:batch_size]]))
    done = side_by_side(compiled, arguments(), num_workers(batch_size * min(len(starts), 2), batch_size))
    for start, block in track(
        zip(starts, done, strict=True), "retraining", "run", scale=batch_size, total=len(rest), show=show
    ):
        where = rest[start : start + batch_size]
        count = len(where)
        block = jax.tree.map(lambda leaf, count=count: np.asarray(leaf)[:count], jax.device_get(block))
        check_finite_runs(block, train, stack[where])
        yield where, block


def check_finite_runs(block: Any, train: Callable, rows: np.ndarray) -> None:
    """Refuse results (B, ...) that are not finite, naming the first row of the weights (B, n) that gives them."""
    for leaf in jax.tree.leaves(block):
        bad = np.flatnonzero(~np.isfinite(leaf).reshape(len(rows), -1).all(1))
        if len(bad):
            row, gone = rows[bad[0]], np.flatnonzero(rows[bad[0]] != 1)
            which = f"with {len(gone)} examples weighted down or deleted, the first {gone[0]}," if len(gone) else ""
            raise FloatingPointError(
                f"the training run {which or 'with nothing deleted'} or the query of it gives NaN or infinity."
                f"{explanation(train, jnp.asarray(row))}"
            )
