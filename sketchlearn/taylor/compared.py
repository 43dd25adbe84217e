"""Whether a derivative rule, or a stand-in, belongs to the function that it was given for: looked at in some points."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from sketchlearn.runtime import jax_compat as compat
from sketchlearn.runtime.jax_custom import call_of
from sketchlearn.runtime.seeds import stream
from sketchlearn.taylor import stand_ins
from sketchlearn.taylor.algebra import Jet

POINTS = 16
LARGE = 100_000  # numbers in the operands: above, fewer points
STEPS = {64: 1e-3, 32: 3e-2, 16: 0.25}  # by bits: where rounding and curvature spoil a difference about equally
AGREE = 0.05  # differences over three steps that agree to this tell a slope; near a kink or a pole they do not
APART = 0.02  # relative: a rule is off by a sign or a factor, not by a rounding
SHARE = 0.05  # of all numbers compared that have to be off; a steep function's slopes may agree by chance


class Met(NamedTuple):
    """A call that was met: its equation, which operands move, and the constants among the others."""

    eqn: Any
    moving: tuple[bool, ...]
    known: tuple[Any, ...]  # None where not known
    site: str
    line: str


def met(eqn: Any, inputs: list[Any], site: str, line: str) -> Met:
    """What is needed of a call to look at it later."""
    moving = tuple(isinstance(x, Jet) for x in inputs)
    known = tuple(None if isinstance(x, (Jet, jax.core.Tracer)) else x for x in inputs)
    return Met(eqn, moving, known, site, line)


def findings(call: Met) -> tuple[str, str] | None:
    """The kind of a fault, and what was seen; None where nothing is to be said.

    A function that cannot be evaluated by itself, or is not finite at the points, is not judged.
    """
    try:
        entry = stand_ins.find(call_of(call.eqn.params), call.eqn)
        if entry is not None:
            return _stand_in_apart(call, entry)
        return _rule_apart(call) if call.eqn.primitive.name == "custom_jvp_call" else None
    except Exception:  # the run itself will say what cannot be evaluated
        return None


def _rule_apart(call: Met) -> tuple[str, str] | None:
    outputs = [i for i, v in enumerate(call.eqn.outvars) if _floating(v)]

    def around(operands: list[Any]) -> Callable:
        def f(*moved: Any) -> list[Any]:
            out = compat.bind(call.eqn, *_placed(call, operands, moved))
            return [out[i] for i in outputs]

        return f

    compared = []
    for operands, moved, directions in _points(call):
        f, h = around(operands), max(STEPS[max(16, jnp.finfo(x.dtype).bits)] for x in moved)
        tangents = jax.jvp(f, tuple(moved), tuple(directions))[1]
        slopes = [_slope(f, moved, directions, h / 2**i) for i in range(3)]
        for j, rule in enumerate(tangents):
            compared.append(_compared([s[j] for s in slopes], np.asarray(rule, float)))
    apart = np.concatenate([s[0] for s in compared])
    if apart.sum() < max(2, SHARE * apart.size):
        return None
    rates, rules = (np.concatenate([s[i] for s in compared]) for i in (1, 2))
    worst = int(np.argmax(np.where(apart, np.abs(rates - rules), -1)))
    return (
        "rule differs",
        f"{stand_ins.said(call_of(call.eqn.params))}: along a random direction its values change at a rate of "
        f"{rates[worst]:.3g}, and its derivative rule says {rules[worst]:.3g}",
    )


class Slope(NamedTuple):
    """A central difference, the rounding in it, and the steepest slope that its step can resolve."""

    value: np.ndarray
    noise: np.ndarray
    steepest: float


def _slope(f: Callable, moved: list[Any], directions: list[Any], h: float) -> list[Slope]:
    def at(s: int) -> list[Any]:
        return f(*[x + jnp.asarray(s * h, x.dtype) * d for x, d in zip(moved, directions, strict=True)])

    out = []
    for up, down in zip(at(1), at(-1), strict=True):
        a, b = np.asarray(up, float), np.asarray(down, float)
        size = np.maximum(np.abs(a), np.abs(b))
        steepest = 4 * float(np.max(np.where(np.isfinite(size), size, 0), initial=0.0)) / h
        out.append(Slope((a - b) / (2 * h), 8 * float(jnp.finfo(up.dtype).eps) * size / h, steepest))
    return out


def _compared(slopes: list[Slope], rule: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Which entries are apart for certain, the slopes, and what the rule says; flat."""
    first, second, (last, noise, steepest) = slopes
    with np.errstate(all="ignore"):
        spread = np.maximum(np.abs(first.value - last), np.abs(second.value - last))
        size = np.maximum(np.abs(last), np.abs(rule))
        scale = np.max(np.where(np.isfinite(size), size, 0), initial=0.0)
        told = np.isfinite(spread) & (np.abs(rule) <= steepest) & (spread <= AGREE * np.abs(last) + noise)
        apart = told & (np.abs(last - rule) > 4 * spread + noise + APART * size + 1e-3 * scale)
    return apart.ravel(), last.ravel(), rule.ravel()


def _stand_in_apart(call: Met, entry: stand_ins.StandIn) -> tuple[str, str] | None:
    made = stand_ins.flat(entry, call_of(call.eqn.params), "")
    count = total = 0
    worst, shown = -1.0, (0.0, 0.0)
    for operands, moved, _ in _points(call):
        args = _placed(call, operands, moved)
        for own, other in zip(compat.bind(call.eqn, *args), made(*args), strict=True):
            a, b = np.asarray(own, float).ravel(), np.asarray(other, float).ravel()
            epsilon = float(jnp.finfo(own.dtype).eps) if jnp.issubdtype(own.dtype, jnp.floating) else 0.0
            with np.errstate(all="ignore"):
                finite = np.isfinite(a) & np.isfinite(b)
                scale = np.max(np.abs(a[finite]), initial=0.0)
                off = np.where(finite, np.abs(a - b) - 1e3 * epsilon * scale - 1e-3 * np.abs(a), -1)
            count, total = count + int((off > 0).sum()), total + len(a)
            if len(off) and off.max() > worst:
                worst, shown = float(off.max()), (float(a[off.argmax()]), float(b[off.argmax()]))
    if count < max(2, SHARE * total):
        return None
    return (
        "stand-in differs",
        f"{stand_ins.said(call_of(call.eqn.params))}: at a random point it is {shown[0]:.3g}, and its stand-in "
        f"{shown[1]:.3g}",
    )


def _floating(var: Any) -> bool:
    return jnp.issubdtype(var.aval.dtype, jnp.floating)


def _points(call: Met) -> Any:
    """Operands, those that move among them, and directions: normal numbers, half of the points positive."""
    rng = stream("custom rule points", 0)
    size = sum(v.aval.size for v in call.eqn.invars)
    for i in range(POINTS if size < LARGE else 4):
        operands = []
        for var, known in zip(call.eqn.invars, call.known, strict=True):
            drawn = rng.normal(size=var.aval.shape)
            drawn = np.abs(drawn) if i % 2 else drawn
            operands.append(
                jnp.asarray(drawn if _floating(var) else drawn > 0, var.aval.dtype) if known is None else known
            )
        moved = [x for x, moves in zip(operands, call.moving, strict=True) if moves]
        yield (
            operands,
            moved,
            [jnp.asarray(rng.choice([-1, 1], x.shape) * rng.uniform(0.5, 1.5, x.shape), x.dtype) for x in moved],
        )


def _placed(call: Met, operands: list[Any], moved: Any) -> list[Any]:
    moved = iter(moved)
    return [next(moved) if moves else x for x, moves in zip(operands, call.moving, strict=True)]
