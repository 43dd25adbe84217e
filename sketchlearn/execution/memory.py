"""How much memory there is, how much is held, and how many directions fit into it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import psutil

from sketchlearn.execution.blocks import LARGEST_BLOCK
from sketchlearn.runtime import jax_compat as compat
from sketchlearn.taylor.algebra import Algebra


def affordable_block(train: Callable, weights: Any, algebra: Algebra) -> int:
    """How many directions fit into half of the free memory, by estimate."""
    program = compat.trace(train, weights)
    each = 2 * algebra.degree * compat.peak_bytes(program.jaxpr)
    return int(np.clip(free_memory() / 2 // max(each, 1), 1, LARGEST_BLOCK))


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
