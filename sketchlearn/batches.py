"""Which examples each step of a training run sees: an array of positions, drawn once from a seed."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .errors import check_count, check_key

PADDING = -1  # an empty place in a batch


def minibatches(
    num_examples: int, batch_size: int, epochs: int = 1, seed: int = 0, drop_last: bool = False, shuffle: bool = True
) -> np.ndarray:
    """The batches of a training run: every example once an epoch, in a new order each time.

    Row t holds the positions of the examples that step t sees, so that an example seen in
    several epochs stays one example with one weight. Where ``batch_size`` does not divide
    ``num_examples``, the last batch of an epoch is filled up with -1, which stands for no example.

    Args:
        num_examples: n.
        batch_size: B, at most n.
        epochs: passes over the examples.
        seed: of the orders, a whole number.
        drop_last: leave the incomplete batch of each epoch out instead of filling it up.
        shuffle: draw an order for each epoch; otherwise the examples come as they are numbered.

    Returns:
        (T, B) int32, T = epochs · ceil(n / B), or epochs · floor(n / B) with ``drop_last``.

    Example:
        >>> minibatches(5, 2, shuffle=False).tolist()
        [[0, 1], [2, 3], [4, -1]]
        >>> minibatches(5, 2, epochs=2, drop_last=True).shape
        (4, 2)
    """
    num_examples, size = check_count("num_examples", num_examples), check_count("batch_size", batch_size)
    epochs, draw = check_count("epochs", epochs), np.random.default_rng(check_key(seed))
    if size > num_examples:
        raise ValueError(f"batch_size must be at most the number of examples, {num_examples}, got {size}.")
    steps = num_examples // size if drop_last else -(-num_examples // size)
    rows = np.full((epochs, steps * size), PADDING, np.int32)
    for row in rows:
        order = draw.permutation(num_examples) if shuffle else np.arange(num_examples)
        kept = min(num_examples, steps * size)
        row[:kept] = order[:kept]
    return rows.reshape(-1, size)


def check_batches(batches: Any, num_examples: int) -> np.ndarray:
    """The batches as (T, B) int32, or what is wrong with them."""
    found = np.asarray(batches)
    if found.ndim != 2 or not found.size:
        hint = " For one example a step write batches[:, None]." if found.ndim == 1 else ""
        raise ValueError(f"batches must have shape (steps, batch size), got {found.shape}.{hint}")
    if not np.issubdtype(found.dtype, np.integer):
        raise TypeError(f"batches must hold positions of examples, whole numbers, got dtype {found.dtype}.")
    if found.min() < PADDING or found.max() >= num_examples:
        raise ValueError(
            f"batches must hold positions 0 to {num_examples - 1}, or {PADDING} for an empty place, got values from "
            f"{found.min()} to {found.max()}."
        )
    empty = np.flatnonzero((found == PADDING).all(1))
    if len(empty):
        raise ValueError(f"batch {empty[0]} holds no example at all: leave it out.")
    return found.astype(np.int32)


def count_examples(examples: Any) -> int:
    """n, the common length of the leading axes of a pytree of arrays."""
    lengths = {jnp.shape(x)[:1] for x in jax.tree.leaves(examples)}
    if len(lengths) != 1 or lengths & {(), (0,)}:
        raise ValueError(
            "examples must be arrays with one leading axis of the same length, at least 1, got shapes "
            f"{[jnp.shape(x) for x in jax.tree.leaves(examples)]}."
        )
    return int(lengths.pop()[0])
