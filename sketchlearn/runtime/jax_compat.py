"""Everything that touches the inside of a jaxpr and differs between JAX versions.

Since JAX 0.11 a jaxpr carries its own constants and ``scan`` describes its
operands by a tree; before, a ``ClosedJaxpr`` held the constants and ``scan``
counted its operands. The rest of the package sees neither.
"""

from __future__ import annotations

import math
import os
import time
import warnings
from collections.abc import Callable, Hashable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.monitoring
import numpy as np
from jax.extend.core import Literal

from sketchlearn.runtime.precision import full_precision

FUSIONS = "--xla_cpu_experimental_ynn_fusion_type"
RIGHT_FUSIONS = "LIBRARY_FUSION_TYPE_INDIVIDUAL_DOT,LIBRARY_FUSION_TYPE_INDIVIDUAL_CONVOLUTION"


def avoid_wrong_fusions() -> None:
    """Keep XLA's CPU compiler from fusions that give wrong numbers, where JAX has not begun to compute.

    From jaxlib 0.10.2 on (0.12.0.1 is the latest that was tried) some products of matrices that are fused with sums
    and with elementwise operations are wrong on large arrays, silently: https://github.com/jax-ml/jax/issues/39103 is
    one case. Products and convolutions by themselves are right, and as fast. A choice in ``XLA_FLAGS`` is respected.
    """
    from jax._src import xla_bridge

    flags = os.environ.get("XLA_FLAGS", "")
    if FUSIONS in flags:
        return
    if xla_bridge.backends_are_initialized():
        if jax.default_backend() == "cpu":
            warnings.warn(
                "JAX computed something before sketchlearn was imported, so its CPU compiler may still use fusions "
                f"that give wrong numbers on large arrays. Import sketchlearn first, or set XLA_FLAGS={FUSIONS}="
                f"{RIGHT_FUSIONS} before Python starts.",
                RuntimeWarning,
                stacklevel=3,
            )
        return
    os.environ["XLA_FLAGS"] = f"{flags} {FUSIONS}={RIGHT_FUSIONS}".strip()


class Program(NamedTuple):
    """A traced function: its jaxpr, the constants it closes over, its output structure."""

    jaxpr: Any
    consts: Sequence[Any]
    out_tree: Any


def trace(f: Callable, *args: Any) -> Program:
    """Trace ``f(*args)`` once with the dtypes of ``args``, products in full precision."""
    with full_precision():
        closed, shapes = jax.make_jaxpr(f, return_shape=True)(*args)
    return Program(*split_consts(closed), jax.tree.structure(shapes))


def split_consts(closed: Any) -> tuple[Any, Sequence[Any]]:
    """The open jaxpr of a jaxpr-valued parameter, and its constants."""
    return getattr(closed, "jaxpr", closed), getattr(closed, "consts", ())


def all_constants(jaxpr: Any, consts: Sequence[Any]) -> Iterator[Any]:
    """The constants of a program and of the programs inside it (``jit``, ``scan``, branches), in order."""

    def is_program(x: Any) -> bool:
        return hasattr(x, "eqns") or hasattr(x, "jaxpr")

    yield from consts
    for eqn in jaxpr.eqns:
        for _, parameter in sorted(eqn.params.items()):
            for value in jax.tree.leaves(parameter, is_leaf=is_program):
                if is_program(value):
                    yield from all_constants(*split_consts(value))


def all_equations(jaxpr: Any) -> Iterator[Any]:
    """The equations of a program and of the programs inside it, in order."""
    for eqn in jaxpr.eqns:
        yield eqn
        for inner in [j for p in eqn.params.values() for j in _jaxprs(p)]:
            yield from all_equations(split_consts(inner)[0])


def is_literal(var: Any) -> bool:
    """Whether an input of an equation is a constant written into it."""
    return isinstance(var, Literal)


def bind(eqn: Any, *args: Any) -> list[Any]:
    """Run one equation as JAX would; always a list of outputs."""
    params = eqn.primitive.get_bind_params(eqn.params)
    with eqn.ctx.manager:
        out = eqn.primitive.bind(*args, **params)
    return list(out) if eqn.primitive.multiple_results else [out]


def called_program(params: dict[str, Any]) -> tuple[Any, Sequence[Any]]:
    """The jaxpr that a call (``jit``, ``remat``, ``composite``) walks into, and its constants."""
    return split_consts(params["jaxpr"] if "jaxpr" in params else params["call_jaxpr"])


def reducer(params: dict[str, Any]) -> tuple[Any, Sequence[Any]]:
    """The jaxpr that a ``reduce`` combines two numbers by, and its constants."""
    jaxpr, consts = split_consts(params["jaxpr"])
    return jaxpr, params.get("consts", consts)


def run(jaxpr: Any, consts: Sequence[Any], inputs: Sequence[Any]) -> list[Any]:
    """The outputs of a jaxpr on arrays."""
    env = dict(zip([*jaxpr.constvars, *jaxpr.invars], [*consts, *inputs], strict=True))

    def read(var: Any) -> Any:
        return var.val if is_literal(var) else env[var]

    for eqn in jaxpr.eqns:
        env.update(zip(eqn.outvars, bind(eqn, *map(read, eqn.invars)), strict=True))
    return [read(v) for v in jaxpr.outvars]


def scan_layout(params: dict[str, Any]) -> tuple[int, int]:
    """(number of constants, number of carried values) of a ``scan`` equation."""
    if "num_consts" in params:
        return params["num_consts"], params["num_carry"]
    consts, carry, _ = params["ft_in"].unpack()
    return len(consts), len(carry)


def source_line(eqn: Any) -> str:
    """``file:line (function)`` of the user's code behind an equation."""
    try:
        from jax._src import source_info_util

        return source_info_util.summarize(eqn.source_info)
    except Exception:  # the place is a courtesy; its absence must not hide the message
        return ""


def users_line(eqn: Any, packages: Sequence[str]) -> str:
    """``file:line (function)`` of the innermost frame behind an equation that is in none of ``packages``."""
    try:
        from jax._src import source_info_util

        lines = source_info_util.summarize(eqn.source_info, num_frames=200).split("\n")
    except Exception:  # a courtesy, as above
        return ""
    own = [line for line in lines if not any(f"/{name}/" in line.replace("\\", "/") for name in packages)]
    return own[-1] if own else ""


def peak_bytes(jaxpr: Any) -> int:
    """An estimate of the memory a program needs: the largest total size of arrays alive at one time."""

    def size(var: Any) -> int:
        aval = var.aval
        return int(np.prod(getattr(aval, "shape", ()))) * int(getattr(getattr(aval, "dtype", None), "itemsize", 0))

    last_use = {v: i for i, e in enumerate(jaxpr.eqns) for v in e.invars if not is_literal(v)}
    last_use.update({v: len(jaxpr.eqns) for v in jaxpr.outvars if not is_literal(v)})
    alive = sum(size(v) for v in [*jaxpr.invars, *jaxpr.constvars])
    peak = alive
    for i, eqn in enumerate(jaxpr.eqns):
        inner = [peak_bytes(split_consts(j)[0]) for p in eqn.params.values() for j in _jaxprs(p)]
        alive += sum(size(v) for v in eqn.outvars)
        peak = max(peak, alive + max(inner, default=0))
        alive -= sum(size(v) for v in {v for v in eqn.invars if not is_literal(v)} if last_use[v] == i)
    return peak


def operations(jaxpr: Any) -> float:
    """How many numbers a program computes, a product of matrices counted by its multiplications and additions.

    A loop counts as often as it runs; one that decides for itself when to stop counts as infinitely many.
    """
    total = 0.0
    for eqn in jaxpr.eqns:
        inner = [operations(split_consts(j)[0]) for p in eqn.params.values() for j in _jaxprs(p)]
        name = eqn.primitive.name
        if name == "while":
            return math.inf
        if name == "cond":
            total += max(inner, default=0.0)
        elif inner and not name.startswith(("reduce", "scatter", "sort")):  # those hold what combines two numbers
            total += eqn.params.get("length", 1) * sum(inner) if name == "scan" else sum(inner)
        else:
            total += _own_operations(eqn)
    return total


def _own_operations(eqn: Any) -> float:
    out = float(sum(math.prod(v.aval.shape) for v in eqn.outvars if hasattr(v.aval, "shape")))
    if eqn.primitive.name == "dot_general":
        (contracted, _), _ = eqn.params["dimension_numbers"]
        return 2 * out * math.prod(eqn.invars[0].aval.shape[i] for i in contracted)
    if eqn.primitive.name == "conv_general_dilated":
        kernel, layout = eqn.invars[1].aval.shape, eqn.params["dimension_numbers"].rhs_spec
        return 2 * out * math.prod(kernel) / kernel[layout[0]]
    return out


def _jaxprs(param: Any) -> list[Any]:
    """The jaxprs in an equation's parameter."""
    if isinstance(param, (tuple, list)):
        return [j for p in param for j in _jaxprs(p)]
    return [param] if hasattr(split_consts(param)[0], "eqns") else []


def working_bytes(compiled: Any) -> int | None:
    """The bytes of arguments, temporaries and results of a compiled program, where its backend tells."""
    try:
        memory = compiled.memory_analysis()
        own = memory.output_size_in_bytes - memory.alias_size_in_bytes
        return int(memory.temp_size_in_bytes + memory.argument_size_in_bytes + own)
    except (AttributeError, NotImplementedError, TypeError, jax.errors.JaxRuntimeError):  # not every backend does
        return None


def compile_spans(spans: list[tuple[float, float]]) -> Callable[[], None]:
    """Append (begin, end) of all tracing and compiling, by ``time.perf_counter``, until the result is called."""

    def heard(event: str, duration_secs: float, **_: Any) -> None:
        if event.startswith("/jax/core/compile/"):
            now = time.perf_counter()
            spans.append((now - duration_secs, now))

    jax.monitoring.register_event_duration_secs_listener(heard)
    return lambda: jax.monitoring.unregister_event_duration_listener(heard)


def trace_settings() -> Hashable:
    """All of JAX's settings that change what a trace gives: the precision of products, the width of numbers, ..."""
    from jax._src.config import trace_context

    return trace_context()
