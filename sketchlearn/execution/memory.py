"""How much memory there is, how much is held, and how many directions fit into it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import psutil

from sketchlearn.execution.blocks import largest_block
from sketchlearn.runtime import jax_compat as compat

ATTEMPTS = 4  # the need of n directions is close to a line in n, so the second already fits


def estimated_block(train: Callable, weights: Any, degree: int) -> int:
    """How many directions fit into half of the free memory, by an estimate before anything is compiled."""
    each = _estimated_bytes(train, weights, degree)
    return int(np.clip(free_memory() / 2 // max(each, 1), 1, largest_block()))


def block_bytes(compiled: Any, size: int, train: Callable, weights: Any, degree: int) -> float:
    """What a compiled block of ``size`` directions needs: by the compiler, or by estimate where it does not say."""
    told = compat.working_bytes(compiled)
    return size * _estimated_bytes(train, weights, degree) if told is None else told


def _estimated_bytes(train: Callable, weights: Any, degree: int) -> int:
    return 2 * degree * compat.peak_bytes(compat.trace(train, weights).jaxpr)


def better_block(tried: int, needed: float, most: int) -> int:
    """How many directions to run at once, if ``tried`` of them need so many bytes: ``tried`` itself where that is well.

    As many as fit into half of the free memory, at most ``most``. A program that is compiled is kept if twice as many
    would not fit: compiling again would cost more than it brings.
    """
    budget = free_memory() / 2
    fitting = int(np.clip(0.9 * tried * budget / max(needed, 1), 1, most))  # what does not grow with them has a tenth
    return fitting if needed > budget or fitting >= 2 * tried else tried


def fitting_block(needed: Callable[[int], float], first: int, most: int) -> int:
    """How many directions to run at once, by what the compiler says: ``needed(n)`` compiles for n, and says its bytes.

    Args:
        needed: bytes that n directions at once need.
        first: how many to try first.
        most: how many there are.
    """
    tried = min(first, most)
    for _ in range(ATTEMPTS):
        better = better_block(tried, needed(tried), most)
        if better == tried:
            break
        tried = better
    return tried


def check_block(needed: float, size: int, degree: int) -> None:
    """Refuse to run what will not fit, with what to change."""
    free = free_memory()
    if needed <= free:
        return
    fitting = int(size * free / needed)
    change = (
        f"pass a smaller batch_size (about {fitting})"
        if fitting
        else "put jax.checkpoint around the layers of the model (in a lax.scan), take smaller batches, a lower degree "
        "or float32, or a device with more memory"
    )
    what = f"1 direction of degree {degree} needs" if size == 1 else f"{size} directions of degree {degree} need"
    raise MemoryError(
        f"{what} {needed / 1e9:.3g} GB of memory at once, by the compiler's account, and {free / 1e9:.3g} GB are free: "
        f"{change}."
    )


def check_memory(expected: int) -> None:
    """Refuse to begin what will not fit."""
    free = psutil.virtual_memory().available
    if expected > free:
        raise MemoryError(
            f"the sketch needs about {expected / 1e9:.3g} GB of memory, and {free / 1e9:.3g} GB are free: keep it on "
            "disk (store=path), or only measurements (queries=); or fewer directions, or a lower degree."
        )


def held_memory() -> int:
    """Bytes of the computer's memory that this process holds now."""
    return psutil.Process().memory_info().rss


def free_memory() -> float:
    """Bytes of the device's memory, or of the computer's, that are free now."""
    stats = jax.local_devices()[0].memory_stats() or {}
    if "bytes_limit" in stats:
        return float(stats["bytes_limit"] - stats.get("bytes_in_use", 0))
    return float(psutil.virtual_memory().available)
