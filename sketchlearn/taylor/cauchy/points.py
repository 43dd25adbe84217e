"""A program at points of a circle, compiled once for circles of any size."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from sketchlearn.runtime.precision import matmul_precision
from sketchlearn.runtime.programs import jit
from sketchlearn.runtime.workers import num_workers, side_by_side
from sketchlearn.taylor.algebra import Jet, Point, wide
from sketchlearn.taylor.cauchy.circle import Circle, error_levels
from sketchlearn.taylor.interpreter import Context
from sketchlearn.taylor.stand_ins import registered
from sketchlearn.taylor.transform import evaluate, is_jet

CHUNK = 28  # points of the first circles, which only look for the scale; larger circles have a multiple
POINTS_AT_ONCE = 14  # points that one program runs at once
WITNESS = 0.25  # the power of the precision at which, in radii, a further point of every circle lies: it decides ties


def program_at_points(f: Callable) -> Callable:
    """What makes compiled programs of ``f`` at points of a circle; remembered for functions that can be hashed."""
    try:
        return _runner(f, registered())
    except TypeError:
        return _runner.__wrapped__(f, registered())


@functools.lru_cache(maxsize=16)
def _runner(f: Callable, _: Any) -> Callable:
    """Makes compiled programs ``(point, direction, t) -> f(point), parts of f(point + t direction) - f(point)``.

    They are remembered for as long as the stand-ins stay the same.
    """

    def at(point: Any, direction: Any, t: tuple) -> Any:
        def jet(p: Any, d: Any) -> Jet:
            re, im = jnp.real(d).astype(wide(p.dtype)), jnp.imag(d).astype(wide(p.dtype))
            return Jet(p, ((t[0] * re - t[1] * im, t[0] * im + t[1] * re),))

        algebra = Point(axis="points")
        counts: dict[str, Any] = {}
        out = evaluate(f, Context(algebra, counts), jax.tree.map(jet, point, direction))
        tree: Any
        leaves, tree = jax.tree.flatten(out, is_leaf=is_jet)
        jets = [x if isinstance(x, Jet) else Jet(x, algebra.zeros(x)) for x in leaves]
        patched = {name: n for name, n in counts.items() if " at " not in name}
        return tree.unflatten([x.primal for x in jets]), [x.parts[0] for x in jets], patched

    over_points = jit(jax.vmap(at, (None, None, 0), (None, 0, None), axis_name="points"))
    programs: dict[Any, Callable] = {}

    def prepare(*args: Any) -> Callable:
        shapes = jax.tree.map(lambda x: (x.shape, x.dtype), args)
        key = tuple(jax.tree.leaves(shapes)), jax.tree.structure(args), matmul_precision()
        if key not in programs:  # compiled before it is called from several workers
            programs[key] = over_points.lower(*args).compile()
        return programs[key]

    return prepare


def run_circle(prepare: Callable, point: Any, direction: Any, rho: float, count: int, is_complex: bool) -> Circle:
    """The program at ``count`` points of a circle of radius ρ, and its coefficients from there."""
    used = count if is_complex else count // 2 + 1  # on a real line f(t̄) is the conjugate of f(t)
    t = rho * np.exp(2j * np.pi * np.arange(used) / count)
    dtype = jnp.result_type(*[wide(p.dtype) for p in jax.tree.leaves(point)])
    size = math.ceil(used / math.ceil(used / POINTS_AT_ONCE)) if is_complex else min(POINTS_AT_ONCE, used)
    # Of a series that begins with t² the point still sees more than rounding: (ε^¼)² = √ε.
    witness = rho * float(jnp.finfo(dtype).eps) ** WITNESS
    # the last chunk is filled up, so that one program serves all
    chunks = [np.append(witness, np.resize(t[start : start + size], size)) for start in range(0, used, size)]

    def arguments(points: np.ndarray) -> tuple:
        return point, direction, (jnp.asarray(points.real, dtype), jnp.asarray(points.imag, dtype))

    program, each = prepare(*arguments(chunks[0])), (arguments(points) for points in chunks)
    outputs = list(side_by_side(program, each, num_workers(used, POINTS_AT_ONCE)))
    value, _, patched = outputs[0]
    with np.errstate(all="ignore"):  # a circle that is too large overflows; it is judged below
        parts = [
            [np.asarray(re[1:], np.float64) + 1j * np.asarray(im[1:], np.float64) for re, im in out[1]]
            for out in outputs
        ]
    differences = [np.concatenate(of_leaf)[:used] for of_leaf in zip(*parts, strict=True)]
    leaves, tree = jax.tree.flatten(jax.tree.map(lambda x: x.astype(wide(x.dtype)), value))
    s: Any
    scaled, errors = [], []
    for leaf, difference in zip(leaves, differences, strict=True):
        if jnp.iscomplexobj(leaf):
            raise TypeError("the Cauchy way needs a function with real values; return real and imaginary parts apart.")
        with np.errstate(all="ignore"):
            if is_complex:
                s = np.fft.fft(difference, axis=0) / count
            else:
                s = np.fft.hfft(difference, n=count, axis=0).astype(complex) / count
            change = np.abs(difference).max(0)
            errors.append(error_levels(s, np.abs(leaf) + change, change, float(jnp.finfo(leaf.dtype).eps)))
        s[0] = 0
        scaled.append(s)
    names = tuple(name for name, n in patched.items() if int(n))
    return Circle(rho, [np.asarray(v) for v in leaves], scaled, errors, tree, patched=names)
