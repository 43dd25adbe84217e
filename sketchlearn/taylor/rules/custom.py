"""Functions with derivative rules of their own: the rule is followed, or the function's stand-in."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from sketchlearn.errors import UnsupportedPrimitive
from sketchlearn.runtime import jax_compat as compat
from sketchlearn.runtime.jax_custom import Call, call_of
from sketchlearn.taylor import stand_ins
from sketchlearn.taylor.algebra import Jet, Point, Series, differentiate_log, integrate_log, primal
from sketchlearn.taylor.interpreter import Context
from sketchlearn.taylor.registry import register

PATCHING = ("eq", "ne", "sign")  # what tells the one point at which a formula is replaced by its limit


def _is_jet(x: Any) -> bool:
    return isinstance(x, Jet)


def through_jvp(ctx: Context, eqn: Any, inputs: tuple) -> list[Any]:
    """Expand through the derivative rule: ``t y'(t) = ∂f(x(t)) · t x'(t)``, so ``y_r`` is its r-th part over r.

    The tangent ``t x'(t)`` has no constant part, so the rule needs ``x`` and, where it
    mentions the function again, ``y`` only to one order less: that is ``ctx.order``.
    """
    values = ctx.primals(eqn, inputs)
    if ctx.order == 0:
        return values
    moving = [i for i, x in enumerate(inputs) if _is_jet(x)]
    at = [primal(x) for x in inputs]

    def rule(xs: tuple, held: list[Any], tangents: tuple) -> list[Any]:
        def fn(*moved: Any) -> list[Any]:
            args = list(held)
            for i, x in zip(moving, moved, strict=True):
                args[i] = x
            return compat.bind(eqn, *args)

        return jax.jvp(fn, xs, tangents)[1]

    jets = [inputs[i] for i in moving]
    algebra = ctx.algebra
    tangents = [Jet(jnp.zeros_like(j.primal), differentiate_log(algebra, j.parts)) for j in jets]
    program = compat.trace(rule, tuple(j.primal for j in jets), at, tuple(t.primal for t in tangents))
    inner = ctx.inner(ctx.order - 1, place=ctx.where(eqn))
    out = inner.evaluate(program.jaxpr, program.consts, [*jets, *at, *tangents])
    return [Jet(v, integrate_log(algebra, t.parts)) if _is_jet(t) else v for v, t in zip(values, out, strict=True)]


def _refuse_closure(ctx: Context, eqn: Any, call: Call, inputs: tuple) -> None:
    closed = sum(layer for layer in call.layers if isinstance(layer, int))
    if any(map(_is_jet, inputs[:closed])):
        raise UnsupportedPrimitive(
            f"Cannot expand {stand_ins.said(call)} in a power series: it closes over a number that depends on what is "
            f"differentiated, of which its derivative rule knows nothing.\n  It is called at {ctx.where(eqn)}.\n"
            "  Way out: pass that number as an argument."
        )


def _stand_in(ctx: Context, eqn: Any, inputs: tuple, call: Call, entry: stand_ins.StandIn) -> list[Any]:
    plain, where = stand_ins.flat(entry, call, ctx.where(eqn)), ctx.where(eqn)
    wanted = [v.aval for v in eqn.outvars]
    values = ctx.primals(eqn, inputs)
    try:
        shapes = [y.shape for y in jax.eval_shape(plain, *[primal(x) for x in inputs])]
    except UnsupportedPrimitive:
        raise
    except Exception as error:
        raise ValueError(
            f"the stand-in of {stand_ins.said(call)} failed on the arguments of the call at {where} "
            f"({type(error).__name__}: {error}): it must take the same."
        ) from error
    if shapes != [aval.shape for aval in wanted]:
        raise ValueError(
            f"the stand-in of {stand_ins.said(call)} returns arrays of shapes {shapes}, and the function itself "
            f"{[aval.shape for aval in wanted]} (called at {where}): it must return the same."
        )

    def typed(*operands: Any) -> list[Any]:
        return [jnp.asarray(y, aval.dtype) for y, aval in zip(plain(*operands), wanted, strict=True)]

    program = compat.trace(typed, *[primal(x) for x in inputs])
    if any(stand_ins.find(call_of(e.params), e) is entry for e in _custom_calls(program.jaxpr)):
        raise ValueError(f"the stand-in of {stand_ins.said(call)} calls the function itself: write it in plain JAX.")
    with ctx.within(eqn):
        out = ctx.evaluate(program.jaxpr, program.consts, inputs)
    return [Jet(v, o.parts) if _is_jet(o) else v for v, o in zip(values, out, strict=True)]


@functools.cache
def _maxima() -> frozenset[tuple[str, str]]:
    """JAX's own relu and relu6, by name and place.

    Their derivative rules know one side of a kink, and ``relu(x) - relu(-x)`` needs both; their bodies are maxima,
    which go the way their arguments go.
    """
    maxima = [call_of(e.params) for f in (jax.nn.relu, jax.nn.relu6) for e in _custom_calls(compat.trace(f, 1.0).jaxpr)]
    return frozenset((call.name, call.place) for call in maxima if call.place)


def _custom_calls(jaxpr: Any) -> list[Any]:
    return [e for e in compat.all_equations(jaxpr) if e.primitive.name in ("custom_jvp_call", "custom_vjp_call")]


def _ruled(ctx: Context, eqn: Any, inputs: tuple) -> list[bool]:
    """Which outputs of a function depend on its inputs by its derivative rule."""
    light = ctx.inner(1, Series(1, False), counted=False)
    ruled: list[bool] = []

    def run(values: list[Any]) -> list[Any]:
        jets = [Jet(v, ((v,),)) if _is_jet(x) else v for v, x in zip(values, inputs, strict=True)]
        out = through_jvp(light, eqn, tuple(jets))
        ruled.extend(map(_is_jet, out))
        return [primal(o) for o in out]

    jax.eval_shape(run, [primal(x) for x in inputs])
    return ruled


def _body_continued(ctx: Context, eqn: Any, call: Call, inputs: tuple) -> list[Any]:
    """The body at complex points, for a finite step has no derivative rule; noting where it is patched."""
    with ctx.within(eqn), ctx.collecting() as counts:
        out = ctx.evaluate(*compat.split_consts(eqn.params["call_jaxpr"]), inputs)
    recorded = {} if counts is None else counts
    jumps = [n for site, n in recorded.items() if site.split(" at ")[0] in PATCHING]
    within = {site: n for site, n in recorded.items() if " at " not in site}  # from a function that this one calls
    ctx.add_counts(within | ({call.name: sum(jumps)} if jumps else {}))
    if all(map(_is_jet, out)):
        return out
    # a body may be constant where its rule has a slope (a straight-through estimate): NaN there, and not wrong
    ruled = _ruled(ctx, eqn, inputs)
    return [
        Jet(o, ((o * jnp.nan,) * 2,)) if moves and not _is_jet(o) else o for o, moves in zip(out, ruled, strict=True)
    ]


@functools.cache
def _sinc_patch() -> tuple[str, str]:
    """JAX's own function for sinc at 0, by name and place: its body is a constant."""
    calls = [call_of(e.params) for e in _custom_calls(compat.trace(jnp.sinc, 1.0).jaxpr)]
    return (calls[0].name, calls[0].place) if calls else ("not found", "")


def _sinc_at_zero(ctx: Context, eqn: Any, name: str, x: Any) -> Any:
    """sin(z)/z, or 0 for its odd derivatives; an even one is refused where it is needed."""
    (value,) = ctx.primals(eqn, (x,))
    re, im = x.parts[0]
    z = lax.complex(x.primal + re, im)
    still = z == 0
    y = jnp.where(still, 1, jnp.sin(z) / jnp.where(still, 1, z)) - 1
    ctx.add_counts({name: jnp.sum((x.primal == 0) & (value != 1), dtype=jnp.int32)})
    return Jet(value, ((jnp.real(y), jnp.imag(y)),))


def _custom_jvp(ctx: Context, eqn: Any, *inputs: Any) -> list[Any]:
    call = call_of(eqn.params)
    _refuse_closure(ctx, eqn, call, inputs)
    if entry := stand_ins.find(call, eqn):
        return _stand_in(ctx, eqn, inputs, call, entry)
    if (call.name, call.place) in _maxima():
        with ctx.within(eqn):
            return ctx.evaluate(*compat.split_consts(eqn.params["call_jaxpr"]), inputs)
    if isinstance(ctx.algebra, Point):
        if (call.name, call.place) == _sinc_patch():
            return [_sinc_at_zero(ctx, eqn, call.name, *inputs)]
        return _body_continued(ctx, eqn, call, inputs)
    try:
        return through_jvp(ctx, eqn, inputs)
    except jax.errors.UnexpectedTracerError as error:
        raise UnsupportedPrimitive(
            f"Cannot expand {stand_ins.said(call)} in a power series: its derivative rule closes over a number that "
            f"belongs to the program around it.\n  It is called at {ctx.where(eqn)}.\n"
            "  Way out: pass that number as an argument."
        ) from error


register(
    "custom_jvp_call",
    "control flow",
    _custom_jvp,
    "its derivative rule (Cauchy, and JAX's relu and relu6: its body), or its stand-in",
)


def _custom_vjp(ctx: Context, eqn: Any, *inputs: Any) -> list[Any]:
    call = call_of(eqn.params)
    if entry := stand_ins.find(call, eqn):
        _refuse_closure(ctx, eqn, call, inputs)
        return _stand_in(ctx, eqn, inputs, call, entry)
    name = call.name if call.name.isidentifier() and call.name != "wrapped_fun" else "function"
    raise UnsupportedPrimitive(
        f"Cannot expand the custom_vjp function {stand_ins.said(call)} in a power series: it has a backward rule only, "
        "and its body may not be the function that the rule differentiates.\n"
        f"  It is called at {ctx.where(eqn)}.\n"
        f"  Way out: sketchlearn.taylor.stand_in({name}, plain), with that function itself and the same mathematics in "
        "plain JAX; or, where you cannot reach it, write that step with other operations."
    )


register("custom_vjp_call", "control flow", _custom_vjp, "through taylor.stand_in only")
