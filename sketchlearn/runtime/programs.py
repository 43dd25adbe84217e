"""Compiled programs, each made once in a process, in full precision.

JAX keeps what it compiled for a function object, and a closure over a training program is a new object in every call.
So a program that is made of others (:func:`once`) stays the same object for the same parts, and keeps what it compiled
for every shape. As with ``jax.jit``, a function is taken to be pure: one that reads other data than when it was traced
(a global variable that was changed since) is not traced again. Make a new function, or a new recipe.
"""

from __future__ import annotations

import functools
import math
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from types import MethodType
from typing import Any, NamedTuple, TypeVar, cast

import jax
import jax.numpy as jnp

from sketchlearn.runtime.jax_compat import trace_settings
from sketchlearn.runtime.precision import full_precision

F = TypeVar("F", bound=Callable)
LAST = 64  # programs that are kept: their training data are kept with them

# Less optimisation: XLA's CPU compiler takes a fifth of the time, and what it makes half as long again. The second
# option of the first pair is gone from JAX 0.12.
QUICK_OPTIONS: tuple[dict[str, str | bool], ...] = (
    {"xla_backend_optimization_level": "0", "xla_cpu_use_fusion_emitters": False},
    {"xla_backend_optimization_level": "0"},
)
QUICK_FLOPS = 2e10  # a second or two on one core: below, compiling is what takes the time


class jit:
    """``jax.jit`` of a function, which is traced and compiled in full precision.

    Args:
        f: as for ``jax.jit``; the same function is traced and compiled once for each setting of the precision.

    Example:
        >>> float(jit(jnp.dot)(jnp.ones(2), jnp.ones(2)))
        2.0
    """

    def __init__(self, f: Callable):
        self._program = jax.jit(f)
        self._kept: dict[Hashable, _Compiled] = {}

    def __call__(self, *args: Any) -> Any:
        """The function's value."""
        with full_precision():
            return self._program(*args)

    def lower(self, *args: Any) -> Any:
        """The program for these arguments, to be compiled."""
        with full_precision():
            return self._program.lower(*args)

    def compiled(self, *args: Any, calls: float = math.inf) -> Callable:
        """The program compiled for arguments of these shapes: once, however often it is asked for.

        Args:
            args: arrays, or their shapes.
            calls: how often it will be run. If that takes less time than compiling well, it is compiled quickly.
        """
        with full_precision():
            key = trace_settings(), jax.tree.structure(args), tuple(map(_kind, jax.tree.leaves(args)))
            kept = self._kept.get(key)
            if kept is None or calls * kept.flops_if_quick >= QUICK_FLOPS:
                kept = self._kept[key] = _compile(self._program.lower(*args), calls)
            return kept.run


class _Compiled(NamedTuple):
    run: Callable
    flops_if_quick: float  # of one call, if it was compiled quickly; else 0


def _compile(lowered: Any, calls: float) -> _Compiled:
    flops = math.inf
    if calls < math.inf and jax.default_backend() == "cpu":
        flops = (lowered.cost_analysis() or {}).get("flops", math.inf)
    if calls * flops < QUICK_FLOPS:
        for options in QUICK_OPTIONS:
            try:
                return _Compiled(lowered.compile(compiler_options=options), flops)
            except jax.errors.JaxRuntimeError:  # an option that this version does not know, or a real fault
                continue
    return _Compiled(lowered.compile(), 0.0)


def _kind(leaf: Any) -> Hashable:
    """What a program is compiled for: shape, dtype, and the place of an array that has one."""
    where = leaf.sharding if getattr(leaf, "committed", False) else None
    return jnp.shape(leaf), jnp.result_type(leaf), getattr(leaf, "weak_type", False), where


def once(make: F) -> F:
    """What makes a program of its parts, so that the same parts give the same program again.

    Parts are functions and objects, the same if they are the same object (a method, if it is the same method of the
    same object), or numbers and texts, compared by value. The last :data:`LAST` programs are kept, of all that are
    decorated.

    Example:
        >>> @once
        ... def doubled(f):
        ...     return jit(lambda x: 2 * f(x))
        >>> doubled(jnp.sin) is doubled(jnp.sin), doubled(jnp.sin) is doubled(jnp.cos)
        (True, False)
    """

    @functools.wraps(make)
    def made(*parts: Any) -> Any:
        key = (make, *map(_identity, parts))
        with _lock:
            if key in _programs:
                _programs.move_to_end(key)
                return _programs[key][0]
        program = make(*parts)
        with _lock:
            _programs[key] = program, parts  # while they live, no other object has their identity
            while len(_programs) > LAST:
                _programs.popitem(last=False)
        return program

    return cast(F, made)


_programs: OrderedDict[Hashable, tuple[Any, tuple]] = OrderedDict()
_lock = threading.Lock()


def _identity(part: Any) -> Hashable:
    if isinstance(part, MethodType):
        return "method", id(part.__self__), id(part.__func__)
    if part is None or isinstance(part, (bool, int, float, str)):
        return type(part), part
    return "object", id(part)
