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
from typing import Any, TypeVar, cast

import jax
import jax.numpy as jnp

from sketchlearn.runtime.jax_compat import all_equations, operations, trace_settings
from sketchlearn.runtime.precision import full_precision

F = TypeVar("F", bound=Callable)
LAST = 64  # programs that are kept: their training data are kept with them

# Less optimisation: XLA's CPU compiler takes a quarter of the time, and what it makes takes two to three times as long
# to run. The second option of the first pair is gone from JAX 0.12.
QUICK_OPTIONS: tuple[dict[str, str | bool], ...] = (
    {"xla_backend_optimization_level": "0", "xla_cpu_use_fusion_emitters": False},
    {"xla_backend_optimization_level": "0"},
)
# Compiling well costs 1.2 ms more for an equation and saves 0.1 ns for a number computed, so it pays from some ten
# million numbers an equation on: half of what was measured on two language models, for it is no loss to compile well.
WELL_FROM = 6e6


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
            calls: how often it will be run. On a CPU it is compiled quickly if it computes so little that compiling
                well would take longer than it saves.
        """
        with full_precision():
            key = trace_settings(), jax.tree.structure(args), tuple(map(_kind, jax.tree.leaves(args)))
            if key not in self._kept:
                self._kept[key] = _Compiled(self._program.trace(*args))
            return self._kept[key].run(calls)


class _Compiled:
    """A traced program, and what it was compiled to: well, quickly, or both.

    Which of them is run depends on nothing but the program and ``calls``, so that its last digits do not, either.
    """

    def __init__(self, traced: Any):
        self.traced = traced
        self.well_from = math.inf  # calls
        if jax.default_backend() == "cpu":
            program = traced.jaxpr.jaxpr
            self.well_from = WELL_FROM * sum(1 for _ in all_equations(program)) / max(operations(program), 1)
        self.runs: dict[bool, Callable] = {}

    def run(self, calls: float) -> Callable:
        quickly = calls < self.well_from < math.inf
        if quickly not in self.runs:
            self.runs[quickly] = _compile(self.traced.lower(), quickly)
        return self.runs[quickly]


def _compile(lowered: Any, quickly: bool) -> Callable:
    for options in QUICK_OPTIONS if quickly else ():
        try:
            return lowered.compile(compiler_options=options)
        except jax.errors.JaxRuntimeError:  # an option that this version does not know, or a real fault
            continue
    return lowered.compile()


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
