"""A long axis run in blocks that fit into memory, side by side on the cores of a CPU."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator
from typing import Any

import jax
import numpy as np

from sketchlearn.execution.progress import track
from sketchlearn.runtime.programs import jit
from sketchlearn.runtime.workers import num_workers, side_by_side

LARGEST_BLOCK = 128  # larger blocks were not faster on a CPU
LARGEST_ON_ACCELERATOR = 1024  # one program at a time, whose operations should be large; what a crash loses, too
SMALLEST_SHARE = 32  # below, each operation is too small to be fast


def blocks(count: int, largest: int) -> Iterator[tuple[int, int]]:
    """Split ``count`` into blocks of nearly equal size, none above ``largest``."""
    size = math.ceil(count / math.ceil(count / largest))
    for start in range(0, count, size):
        yield start, min(start + size, count)


def parts_of(count: int, batch_size: int, width: int | None = None) -> list[tuple[int, int]]:
    """The blocks of a long axis that are run one by one, ``batch_size`` rows at once in all workers together."""
    return list(blocks(count, math.ceil(batch_size / (width or num_workers(batch_size, SMALLEST_SHARE)))))


def largest_block() -> int:
    """The most rows that are run at once here."""
    return LARGEST_BLOCK if jax.default_backend() == "cpu" else LARGEST_ON_ACCELERATOR


def compiled_size(size: int) -> int:
    """Rows of the program that runs blocks of a size: a multiple of four for large ones.

    So one compiled program serves different counts; the rows beyond the block, a few in a hundred,
    are run for nothing.

    Example:
        >>> [compiled_size(size) for size in (1, 21, 34, 61, 63, 64)]
        [1, 21, 36, 64, 64, 64]
    """
    return size if size <= SMALLEST_SHARE else math.ceil(size / 4) * 4


def compiled_block(
    program: jit, draw: Callable, count: int, batch_size: int, width: int | None = None
) -> tuple[Callable, int, list[tuple[int, int]]]:
    """The program compiled for the blocks of a long axis, its rows, and the blocks.

    It does not depend on which blocks are left to run, so that what goes on has the last digits of what was begun.
    """
    parts = parts_of(count, batch_size, width)
    size = compiled_size(parts[0][1] - parts[0][0])  # of every block, so that one program serves all
    return program.compiled(*draw(0, size), calls=len(parts)), size, parts


def in_blocks(
    program: jit,
    draw: Callable,
    count: int,
    batch_size: int,
    title: str,
    unit: str,
    progress: bool,
    skip: Collection[int] = (),
    width: int | None = None,
    abreast: int | None = None,
) -> Iterator[tuple[int, int, Any]]:
    """Run a program on blocks of a long leading axis, side by side on a CPU's cores.

    Args:
        program: of the arrays that ``draw`` returns; compiled once, for blocks of one size.
        draw: ``(start, size) ->`` the arrays of a block. They are made outside the program: fused into it, the last
            digits of random directions would depend on what it is.
        count: length of the axis; blocks may be drawn beyond it.
        batch_size: rows run at once.
        title, unit: of the progress bar.
        progress: show it.
        skip: where blocks start that need not be run.
        width: workers to cut ``batch_size`` for, by default as many as this machine has.
        abreast: blocks run at once, by default as many as this machine has workers.

    Yields:
        ``start, stop, program(*draw(start, size))``, in order.
    """
    every = parts_of(count, batch_size, width)
    own = every[0][1] - every[0][0]
    parts = [part for part in every if part[0] not in skip]
    if not parts:
        return
    compiled, size, _ = compiled_block(program, draw, count, batch_size, width)  # before the workers, who all would
    abreast = num_workers(batch_size, SMALLEST_SHARE) if abreast is None else abreast
    done = zip(parts, side_by_side(compiled, (draw(start, size) for start, _ in parts), abreast), strict=True)
    for (start, stop), out in track(done, title, unit, scale=own, total=sum(b - a for a, b in parts), show=progress):
        yield start, stop, out


def collect(blocks_of: Iterator[tuple[int, int, Any]], count: int, check: Callable) -> Any:
    """The blocks of a pytree (size, ...) put together to (count, ...), each checked by ``check(block, start)``."""
    whole: Any = None
    for start, stop, block in blocks_of:
        block = cut(block, stop - start)
        check(block, start)
        whole = filled(whole, block, start, count)
    return whole


def cut(block: Any, size: int) -> Any:
    """The first ``size`` rows of a block, as NumPy arrays."""
    return jax.tree.map(lambda c: np.asarray(c)[:size], block)


def filled(whole: Any, block: Any, start: int, count: int) -> Any:
    """The pytree (count, ...) with a block in its place; made if it is ``None``."""
    if whole is None:
        whole = jax.tree.map(lambda c: np.empty((count, *c.shape[1:]), c.dtype), block)
    for to, part in zip(jax.tree.leaves(whole), jax.tree.leaves(block), strict=True):
        to[start : start + len(part)] = part
    return whole
