"""What JAX keeps of a ``custom_jvp`` or ``custom_vjp`` function in the equation of its call.

The function itself is gone when the program has been traced: the equation has its body as a jaxpr, and the functions of
its derivative rule inside closures of JAX's own. Those are the very objects that the user handed to ``defjvp`` or
``defvjp``, so they tell the function. The closures are also the only place that remembers how the arguments were
structured and mapped over. The names of these closures are JAX's own, and this module is the one place that knows them.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax

RULES = ("jvp_jaxpr_fun", "jvp_jaxpr_thunk", "fwd_jaxpr_thunk", "bwd")


class Mapped(NamedTuple):
    """One ``vmap`` around the call: which axis of each operand, and of each result, it runs over."""

    in_axes: tuple[int | None, ...]
    out_axes: tuple[int | None, ...] | None  # None where JAX does not tell


class Call(NamedTuple):
    """A call of a function with a derivative rule of its own.

    Attributes:
        name, place: of the function, and where it is defined as ``file:line``; "" where JAX does not tell.
        rules: the functions of its derivative rule, and what JAX wrapped around them.
        layers: what stands between the operands and the arguments, from the outside in: the number of leading operands
            that the body closes over, or a :class:`Mapped`.
        in_tree: the structure of the arguments that are differentiated, None where JAX does not tell.
        static: the arguments that are not (``nondiff_argnums``).
    """

    name: str
    place: str
    rules: tuple[Callable, ...]
    layers: tuple[int | Mapped, ...]
    in_tree: Any
    static: tuple


def is_custom(function: Any) -> bool:
    """Whether a function has a derivative rule of its own."""
    return isinstance(function, (jax.custom_jvp, jax.custom_vjp))


def rules_of(function: Any) -> tuple[Callable, ...]:
    """The functions of the derivative rule of a ``custom_jvp`` or ``custom_vjp`` function."""
    rules = [getattr(function, name, None) for name in ("jvp", "fwd", "bwd")]
    return tuple(f for f in rules if f is not None)


def place_of(function: Any) -> str:
    """Where a function is defined, as ``file:line``; "" where it cannot be told."""
    code = getattr(getattr(function, "fun", function), "__code__", None)
    return f"{code.co_filename}:{code.co_firstlineno}" if code else ""


def call_of(params: dict[str, Any]) -> Call:
    """What the parameters of a ``custom_jvp_call`` or ``custom_vjp_call`` equation tell."""
    source = str(getattr(_body(params).debug_info, "func_src_info", "") or "")
    name, _, place = source.partition(" at ")
    in_tree, static = None, ()
    behind = [function for key in RULES if key in params for function in _behind(params[key])]
    for wrapped in [x for kind, x in behind if kind == "wrapped"]:
        for transform, arguments in wrapped.transforms:
            in_tree = next((a for a in arguments if isinstance(a, jax.tree_util.PyTreeDef)), in_tree)
            if "static" in transform.__name__:
                static = tuple(a.val for a in arguments[0])
    rules = tuple(f for kind, f in behind if kind == "function" and not _of_tracing(f))
    return Call(name or "unknown", place, rules, tuple(_layers(params)), in_tree, static)


def of_jax(call: Call) -> bool:
    """Whether a function and its rule are JAX's own."""
    inside = re.search(r"[/\\]jax[/\\]_src[/\\]", call.place)
    return bool(inside) and all(str(rule.__module__).split(".")[0] == "jax" for rule in call.rules)


def _of_tracing(function: Callable) -> bool:
    """Whether JAX made a function while it traced, anew every time."""
    inside = str(getattr(function, "__module__", "")).startswith("jax._src.interpreters")
    return inside or str(getattr(function, "__qualname__", "")).startswith(("lift_", "_memoize"))


def _body(params: dict[str, Any]) -> Any:
    return getattr(params["call_jaxpr"], "jaxpr", params["call_jaxpr"])


def _layers(params: dict[str, Any]) -> Iterator[int | Mapped]:
    count = int(params["num_consts"])
    if count:
        yield count
    key = next((k for k in RULES[:3] if k in params), "")
    behind = list(_behind(params.get(key)))
    transforms = [t.__name__ for kind, x in behind if kind == "wrapped" for t, _ in x.transforms]
    if any("batch" in name for name in transforms):
        _run(params, key, len(_body(params).invars) - count)  # what is known of the results is filled in only then
    for kind, function in behind:
        if kind == "consts" and function:
            yield function
        for (transform, arguments), store in zip(*_steps(kind, function), strict=True):
            if "batch" in transform.__name__:
                axes = arguments[-1]
                axes = tuple(axes() if callable(axes) else axes)
                axes = axes[::2] if key == "fwd_jaxpr_thunk" else axes  # each with whether it is differentiated
                try:
                    out = tuple(store.val)[-len(_body(params).outvars) :]
                except Exception:  # the store is empty, or of another kind
                    out = None
                yield Mapped(axes, out)


def _steps(kind: str, function: Any) -> tuple:
    return (function.transforms, function.stores) if kind == "wrapped" else ((), ())


def _run(params: dict[str, Any], key: str, arguments: int) -> None:
    try:
        params[key].call_wrapped(*[key == "fwd_jaxpr_thunk"] * arguments)
    except Exception:  # what is not told then is asked for, and refused, where it is needed
        return


def _behind(start: Any) -> Iterator[tuple[str, Any]]:
    """What a closure of JAX's holds, from the outside in: wrapped functions, functions, numbers of constants.

    A function of somebody else's ends the walk, so that what a rule itself closes over is not taken for it.
    """
    seen: set[int] = set()
    waiting = [start]
    while waiting:
        x = waiting.pop(0)
        if x is None or id(x) in seen:
            continue
        seen.add(id(x))
        if hasattr(x, "transforms") and hasattr(x, "f"):
            yield "wrapped", x
            waiting.append(x.f)
        elif isinstance(x, functools.partial):
            yield "function", x
        elif callable(x) and hasattr(x, "__code__"):
            yield "function", x
            if str(x.__module__).split(".")[0] == "jax":
                cells = dict(zip(x.__code__.co_freevars, x.__closure__ or (), strict=True))
                held = {name: _content(cell) for name, cell in cells.items()}
                if isinstance(held.get("num_consts"), int) and x.__qualname__.startswith("lift_"):
                    yield "consts", held["num_consts"]
                several = [x for v in held.values() if isinstance(v, (tuple, list)) for x in v]  # defjvps has one each
                waiting += [v for v in [*held.values(), *several] if callable(v) or hasattr(v, "transforms")]
        elif callable(x):
            yield "function", x


def _content(cell: Any) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # empty
        return None
