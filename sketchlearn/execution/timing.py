"""What a computation costs: seconds of running, apart from those of tracing and compiling."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from typing import Any

import jax

from sketchlearn.runtime import jax_compat as compat


@dataclasses.dataclass(frozen=True)
class Price:
    """Seconds of a computation: ``running`` without tracing and compiling, and ``compiling``."""

    running: float
    compiling: float


def priced(work: Callable[[], Any]) -> tuple[Any, Price]:
    """``work()`` and its price. Spans of compiling that overlap (nested traces, threads) count once.

    Example:
        >>> import jax.numpy as jnp
        >>> value, price = priced(lambda: jax.jit(lambda x: x + 1)(jnp.ones(3)))
        >>> price.running >= 0, price.compiling > 0
        (True, True)
    """
    spans: list[tuple[float, float]] = []
    stop = compat.compile_spans(spans)
    begin = time.perf_counter()
    try:
        value = work()
        jax.block_until_ready([leaf for leaf in jax.tree.leaves(value) if isinstance(leaf, jax.Array)])
    finally:
        end = time.perf_counter()
        stop()
    compiling = union_length([(max(a, begin), min(b, end)) for a, b in spans])
    return value, Price(end - begin - compiling, compiling)


def union_length(spans: list[tuple[float, float]]) -> float:
    """The length of the union of intervals.

    Example:
        >>> union_length([(0.0, 2.0), (1.0, 3.0), (5.0, 6.0)])
        4.0
    """
    total, reached = 0.0, float("-inf")
    for a, b in sorted(spans):
        total += max(b - max(a, reached), 0.0)
        reached = max(reached, b)
    return total
