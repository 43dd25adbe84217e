"""Control flow is rebuilt with the public functions of ``jax.lax``; decisions are the real program's."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from sketchlearn.errors import UnsupportedPrimitive
from sketchlearn.runtime import jax_compat as compat
from sketchlearn.taylor.algebra import Jet, Point, Series, primal
from sketchlearn.taylor.interpreter import Context
from sketchlearn.taylor.registry import register


def _call(ctx: Context, eqn: Any, *inputs: Any) -> list[Any]:
    try:
        with ctx.within(eqn):
            return ctx.evaluate(*compat.called_program(eqn.params), inputs)
    except UnsupportedPrimitive:
        if any(jnp.issubdtype(v.aval.dtype, jnp.inexact) for v in eqn.outvars):
            raise
        ctx.record(eqn, False)  # whole numbers and truth values are constants however they are found, as by signbit
        return ctx.primals(eqn, inputs)


for _name in ("jit", "composite", "closed_call", "eval_jaxpr"):
    register(_name, "control flow", _call, "walked into")


def _checkpoint(ctx: Context, eqn: Any, *inputs: Any) -> list[Any]:
    """What ``jax.checkpoint`` computes again in a backward pass: of barred inputs, as in JAX's own lowering.

    Without the bar XLA would see that all of it was computed before, and keep every order of it instead.
    """
    if eqn.params.get("differentiated") and eqn.params.get("prevent_cse"):
        inputs = jax.lax.optimization_barrier(tuple(inputs))
    return _call(ctx, eqn, *inputs)


register("remat2", "control flow", _checkpoint, "jax.checkpoint: walked into, computed again where the program does")


def _is_jet(x: Any) -> bool:
    return isinstance(x, Jet)


def _depends(ctx: Context, jaxpr: Any, consts: Sequence[Any], inputs: Sequence[Any]) -> list[bool]:
    """Which outputs of a jaxpr are jets; found with jets that have no parts, which costs next to nothing."""
    # (Cauchy's way continues the bodies of custom_jvp functions, so there the answer may be another.)
    algebra = ctx.algebra if isinstance(ctx.algebra, Point) else Series(0, ctx.algebra.complex)
    light = ctx.inner(1, algebra, counted=False)
    depends: list[bool] = []

    def run(values: list[Any]) -> list[Any]:
        jets = [light.lift(v) if _is_jet(x) else v for v, x in zip(values, inputs, strict=True)]
        out = light.evaluate(jaxpr, consts, jets)
        depends.extend(map(_is_jet, out))
        return [primal(o) for o in out]

    jax.eval_shape(run, [primal(x) for x in inputs])
    return depends


def _fixpoint(moved: Callable, carry: list[Any], ctx: Context) -> list[Any]:
    """Lift every carried number that becomes a jet in some round, so that the carry keeps its type.

    ``moved(carry)`` says which outputs of a round are jets.
    """
    carry = [ctx.carried(c) if _is_jet(c) else c for c in carry]
    while True:
        grown = [new and not _is_jet(c) for c, new in zip(carry, moved(carry), strict=False)]
        if not any(grown):
            return carry
        carry = [ctx.carried(c) if g else c for c, g in zip(carry, grown, strict=True)]


def _keep_types(ctx: Context, out: list[Any], like: list[Any]) -> list[Any]:
    return [ctx.carried(o) if _is_jet(c) else o for o, c in zip(out, like, strict=True)]


def _total(counts: Any) -> Any:
    return {} if counts is None else counts


def _first(x: Any) -> Any:
    """Something like the first slice of a scanned input: the right shape, dtype and kind."""
    value = primal(x)
    slice_ = jnp.empty(value.shape[1:], value.dtype) if jnp.issubdtype(value.dtype, jnp.number) else value[0]
    return Jet(slice_, ()) if _is_jet(x) else slice_


def _scan(ctx: Context, eqn: Any, *inputs: Any) -> list[Any]:
    num_consts, num_carry = compat.scan_layout(eqn.params)
    jaxpr, jaxpr_consts = compat.split_consts(eqn.params["jaxpr"])
    consts, carry = list(inputs[:num_consts]), list(inputs[num_consts : num_consts + num_carry])
    algebra = ctx.algebra
    xs = [algebra.scan_in(x) if _is_jet(x) else x for x in inputs[num_consts + num_carry :]]

    def step(carry: list[Any], x: list[Any]) -> tuple:
        with ctx.collecting() as counts:
            out = ctx.evaluate(jaxpr, jaxpr_consts, [*consts, *carry, *x])
        return out[:num_carry], (out[num_carry:], _total(counts))

    first = [_first(x) for x in inputs[num_consts + num_carry :]]
    carry = _fixpoint(lambda c: _depends(ctx, jaxpr, jaxpr_consts, [*consts, *c, *first]), carry, ctx)

    def body(c: list[Any], x: list[Any]) -> tuple:
        out, ys = step(c, x)
        return _keep_types(ctx, out, c), ys

    done: Any = lax.scan(
        body, carry, xs, length=eqn.params["length"], reverse=eqn.params["reverse"], unroll=eqn.params["unroll"]
    )
    carry, (ys, counts) = done
    ctx.add_counts(jax.tree.map(lambda n: jnp.sum(n, dtype=jnp.int32), counts))
    return [*carry, *[algebra.scan_out(y) if _is_jet(y) else y for y in ys]]


register("scan", "control flow", _scan)


def _where(ctx: Context, condition: Any, a: Any, b: Any) -> Any:
    """``a`` where a condition on the leading axes holds, else ``b``: both jets of all orders, or both arrays."""

    def pick(p: Any, q: Any) -> Any:
        return lax.select(lax.broadcast_in_dim(condition, p.shape, range(condition.ndim)), p, q)

    if not _is_jet(a):
        return pick(a, b)
    return Jet(pick(a.primal, b.primal), ctx.algebra.map(pick, a.parts, b.parts))


def _while(ctx: Context, eqn: Any, *inputs: Any) -> list[Any]:
    p = eqn.params
    m, n = p["cond_nconsts"], p["cond_nconsts"] + p["body_nconsts"]
    cond_consts, body_consts, carry = list(inputs[:m]), list(inputs[m:n]), list(inputs[n:])
    cond_jaxpr, cond_closed = compat.split_consts(p["cond_jaxpr"])
    body_jaxpr, body_closed = compat.split_consts(p["body_jaxpr"])

    def step(carry: list[Any]) -> tuple:
        with ctx.collecting() as counts:
            note(carry)
            out = ctx.evaluate(body_jaxpr, body_closed, [*body_consts, *carry])
        return out, _total(counts)

    def note(carry: list[Any]) -> None:  # the comparisons that decide whether to go on are recorded like any other
        if ctx.records:
            ctx.evaluate(cond_jaxpr, cond_closed, [*cond_consts, *carry])

    carry = _fixpoint(lambda c: _depends(ctx, body_jaxpr, body_closed, [*body_consts, *c]), carry, ctx)
    sites = [] if ctx.counts is None else jax.eval_shape(lambda c: step(c)[1], carry)
    none = {site: jnp.zeros((), jnp.int32) for site in sites}

    def wanted(carry: list[Any]) -> Any:  # under vmap of the program: one answer for each of its examples
        return ctx.evaluate(cond_jaxpr, cond_closed, [primal(x) for x in [*cond_consts, *carry]])[0]

    def going(state: tuple) -> Any:
        return jnp.any(wanted(state[0]))

    def body(state: tuple) -> tuple:
        out, counts = step(state[0])
        out = _keep_types(ctx, out, carry)
        if cond_jaxpr.outvars[0].aval.shape:  # an example that has arrived waits for the others
            go_on = wanted(state[0])
            out = [_where(ctx, go_on, new, old) for new, old in zip(out, state[0], strict=True)]
        return out, jax.tree.map(jnp.add, state[1], counts)

    carry_out, counts = lax.while_loop(going, body, (carry, none))
    ctx.add_counts(counts)
    note(carry_out)
    return list(carry_out)


register("while", "control flow", _while, "the number of rounds is the real program's")


def _cond(ctx: Context, eqn: Any, index: Any, *inputs: Any) -> list[Any]:
    branches = [compat.split_consts(b) for b in eqn.params["branches"]]

    def run(branch: tuple[Any, Any]) -> Callable:
        def call(inputs: list[Any]) -> tuple:
            with ctx.collecting() as counts:
                out = ctx.evaluate(*branch, inputs)
            return out, _total(counts)

        return call

    calls = [run(b) for b in branches]
    lifted = [any(moved) for moved in zip(*[_depends(ctx, *b, inputs) for b in branches], strict=True)]
    counted = [] if ctx.counts is None else [jax.eval_shape(c, list(inputs))[1] for c in calls]
    sites = sorted({site for counts in counted for site in counts})

    def alike(call: Callable) -> Callable:
        def branch(inputs: list[Any]) -> tuple:
            out, counts = call(inputs)
            return (
                [ctx.carried(o) if up else o for o, up in zip(out, lifted, strict=True)],
                {site: jnp.asarray(counts.get(site, 0), jnp.int32) for site in sites},
            )

        return branch

    out, counts = lax.switch(primal(index), [alike(c) for c in calls], list(inputs))
    ctx.add_counts(counts)
    return out


register("cond", "control flow", _cond, "the branch is the real program's")
