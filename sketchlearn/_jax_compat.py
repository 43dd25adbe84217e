"""Everything that touches the inside of a jaxpr and differs between JAX versions.

Since JAX 0.11 a jaxpr carries its own constants and ``scan`` describes its
operands by a tree; before, a ``ClosedJaxpr`` held the constants and ``scan``
counted its operands. The rest of the package sees neither.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
from jax.extend.core import Literal


class Program(NamedTuple):
    """A traced function: its jaxpr, the constants it closes over, its output structure."""

    jaxpr: Any
    consts: Sequence[Any]
    out_tree: Any


def trace(f: Callable, *args: Any) -> Program:
    """Trace ``f(*args)`` once with the dtypes of ``args``."""
    closed, shapes = jax.make_jaxpr(f, return_shape=True)(*args)
    return Program(*split_consts(closed), jax.tree.structure(shapes))


def split_consts(closed: Any) -> tuple[Any, Sequence[Any]]:
    """The open jaxpr of a jaxpr-valued parameter, and its constants."""
    return getattr(closed, "jaxpr", closed), getattr(closed, "consts", ())


def is_literal(var: Any) -> bool:
    return isinstance(var, Literal)


def bind(eqn: Any, *args: Any) -> list[Any]:
    """Run one equation as JAX would; always a list of outputs."""
    params = eqn.primitive.get_bind_params(eqn.params)
    with eqn.ctx.manager:
        out = eqn.primitive.bind(*args, **params)
    return list(out) if eqn.primitive.multiple_results else [out]


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


def function_name(params: dict[str, Any]) -> str:
    """The name of the function behind a ``custom_jvp`` or ``custom_vjp`` equation."""
    jaxpr, _ = split_consts(params["call_jaxpr"])
    return str(getattr(jaxpr.debug_info, "func_name", "") or "unknown").split(" ")[0]
