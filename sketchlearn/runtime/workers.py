"""Running one compiled program on several inputs side by side.

A program of many small arrays leaves half of a CPU's cores idle: each of its operations is too small
to be split. Running it on two halves of a block at once, in two threads (JAX releases Python's lock while it
computes), took a third off the time of sketching on two cores.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax
import jax.numpy as jnp

MOST = 8


def num_workers(work: int, least: int) -> int:
    """How many workers to split ``work`` into: one for each core of a CPU, none below ``least``; else one."""
    if jax.default_backend() != "cpu":
        return 1  # an accelerator is kept busy by one program
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(cores, MOST, work // least))


def waits_for_its_own_threads(program: Callable) -> bool:
    """Whether a compiled program calls LAPACK (``solve``, ``cholesky``, ``qr``, ``eigh``, ...) on a CPU.

    jaxlib 0.10 divides a batch of matrices among the threads of XLA's pool, and waits for them in a thread of that
    pool. Two programs at once then hold all threads, each waiting for the others, and neither ever ends.
    """
    return isinstance(program, jax.stages.Compiled) and "lapack_" in (program.as_text() or "")


def side_by_side(program: Callable, arguments: Iterable[tuple], width: int) -> Iterator[Any]:
    """Yield ``program(*args)`` for every tuple of arguments, in order, with up to ``width`` running at once.

    The arguments are made by the calling thread, and the program should be compiled: JAX's
    settings (the precision, for one) belong to a thread. No more results than ``width`` are held; an
    exception stops what has not begun. A compiled program that would stop for ever beside itself
    (see :func:`waits_for_its_own_threads`) runs alone.

    Example:
        >>> list(side_by_side(lambda x: x * x, [(1,), (2,), (3,)], width=2))
        [1, 4, 9]
    """
    alone = width > 1 and waits_for_its_own_threads(program)
    if alone or (width <= 1 and jax.default_backend() == "cpu"):
        for args in arguments:
            yield jax.block_until_ready(program(*args)) if alone else program(*args)
        return
    if width <= 1:  # an accelerator computes one while the computer reads, checks and writes the one before
        begun: deque = deque()
        for args in arguments:
            begun.append(program(*args))
            if len(begun) > 1:
                yield begun.popleft()
        yield from begun
        return
    wide = jnp.result_type(float) == jnp.float64

    def finish(args: tuple) -> Any:
        with jax.enable_x64(wide):
            return jax.block_until_ready(program(*args))

    waiting: deque = deque()
    pool = ThreadPoolExecutor(width)
    try:
        for args in arguments:
            if len(waiting) == width:
                yield waiting.popleft().result()
            waiting.append(pool.submit(finish, args))
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
