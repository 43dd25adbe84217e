"""The training program as it is, alone or in a batch: compiled once for all who run it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax

from sketchlearn.runtime.programs import jit, once


@once
def plain_program(train: Callable, query: Callable | None = None) -> jit:
    """Weights (n,) -> what training gives, or the query of it."""
    return jit(_asked(train, query))


@once
def batched_program(train: Callable, query: Callable | None = None) -> jit:
    """Rows of weights (B, n) -> the same for each."""
    return jit(jax.vmap(_asked(train, query)))


def _asked(train: Callable, query: Callable | None) -> Callable:
    def run(weights: Any) -> Any:
        return train(weights) if query is None else query(train(weights))

    return run
