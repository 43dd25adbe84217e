"""Which examples each step of a training run sees: an array of positions, drawn once from a seed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Int32

from sketchlearn.errors import check_count, check_seed
from sketchlearn.runtime.programs import jit
from sketchlearn.runtime.seeds import stream

PADDING = -1  # an empty place in a batch
TRIES = 4  # examples may be equal, so that one in the place of another shows nothing


def minibatches(
    num_examples: int, batch_size: int, epochs: int = 1, seed: int = 0, drop_last: bool = False, shuffle: bool = True
) -> Int32[np.ndarray, "T {batch_size}"]:
    """The batches of a training run: every example once an epoch, in a new order each time.

    Row t holds the positions of the examples that step t sees, so that an example seen in
    several epochs stays one example with one weight. Where ``batch_size`` does not divide
    ``num_examples``, the last batch of an epoch is filled up with -1, which stands for no example. (A layer that looks
    at the whole batch, as BatchNorm does, needs ``drop_last``, or a size that divides: see :class:`Recipe`.)

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
    epochs, draw = check_count("epochs", epochs), np.random.default_rng(check_seed(seed))
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
    positions = np.asarray(batches)
    if positions.ndim != 2 or not positions.size:
        hint = " For one example a step write batches[:, None]." if positions.ndim == 1 else ""
        raise ValueError(f"batches must have shape (steps, batch size), got {positions.shape}.{hint}")
    if not np.issubdtype(positions.dtype, np.integer):
        raise TypeError(f"batches must hold positions of examples, whole numbers, got dtype {positions.dtype}.")
    if positions.min() < PADDING or positions.max() >= num_examples:
        raise ValueError(
            f"batches must hold positions 0 to {num_examples - 1}, or {PADDING} for an empty place, got values from "
            f"{positions.min()} to {positions.max()}."
        )
    empty = np.flatnonzero((positions == PADDING).all(1))
    if len(empty):
        raise ValueError(f"batch {empty[0]} holds no example at all: leave it out.")
    return positions.astype(np.int32)


def count_examples(examples: Any) -> int:
    """n, the common length of the leading axes of a pytree of arrays."""
    lengths = {jnp.shape(x)[:1] for x in jax.tree.leaves(examples)}
    if len(lengths) != 1 or lengths & {(), (0,)}:
        raise ValueError(
            "examples must be arrays with one leading axis of the same length, at least 1, got shapes "
            f"{[jnp.shape(x) for x in jax.tree.leaves(examples)]}."
        )
    return int(lengths.pop()[0])


def filled(positions: Any) -> Any:
    """Positions (.., B) whose empty places hold the first example of their own batch.

    A loss has to be evaluated on something there, and nothing of an example that the step does not see may enter.
    """
    xp: Any = np if isinstance(positions, np.ndarray) else jnp
    first = xp.take_along_axis(positions, xp.argmax(positions >= 0, axis=-1, keepdims=True), axis=-1)
    return xp.where(positions >= 0, positions, xp.maximum(first, 0))


def check_empty_places(batches: np.ndarray, examples: Any, parameters: Any, losses_of: Callable) -> None:
    """Refuse a loss that depends on what stands in the empty places of a batch.

    It is looked at where training starts, and off there: with a last layer of zeros the losses show nothing.

    Args:
        batches: (T, B).
        examples: a pytree of arrays with leading axis n.
        parameters: to start from.
        seen: (parameters, positions (B,) with all places taken, which are present (B,)) -> a pytree that must depend
            on those alone that are present.
    """
    number = int((batches == PADDING).any(1).argmax())
    present, usual = batches[number] >= 0, filled(batches[number])
    finite = np.ones(count_examples(examples), bool)
    for leaf in jax.tree.leaves(examples):
        if jnp.issubdtype(leaf.dtype, jnp.inexact):
            finite &= np.isfinite(np.asarray(leaf).reshape(len(leaf), -1)).all(1)
    others = np.setdiff1d(np.unique(batches[batches >= 0]), usual[~present])
    others = others[finite[others]]
    noise = stream("empty places", 0)
    moved = jax.tree.map(lambda p: p + 0.1 * noise.normal(size=p.shape).astype(p.dtype), parameters)
    once = jit(losses_of)

    def run(positions: Any) -> list[Any]:
        return jax.tree.leaves([once(p, positions, present) for p in (parameters, moved)])

    expected = run(usual)
    for shift in range(min(TRIES, len(others))):
        positions = usual.copy()
        positions[~present] = np.roll(others, -shift)[np.arange((~present).sum()) % len(others)]
        for a, b in zip(run(positions), expected, strict=True):
            if not jnp.issubdtype(jnp.result_type(a), jnp.floating):
                continue
            # one program on other numbers: rounding at most, where any use of the empty places shows in the digits
            slack = 100 * float(jnp.finfo(jnp.result_type(a)).eps)
            if not np.allclose(a, b, rtol=slack, atol=slack, equal_nan=True):
                raise ValueError(
                    f"batch {number} has empty places (-1), and what stands there changes the losses or the running "
                    "statistics of its examples: a layer looks at the whole batch, as BatchNorm does. Use "
                    "minibatches(..., drop_last=True), a batch size that divides the number of examples, a layer "
                    "such as LayerNorm or GroupNorm, or tell the layer which examples are there: a loss may have an "
                    "argument `present`, (B,) truth values, for BatchNorm's mask=present[:, None]."
                )
