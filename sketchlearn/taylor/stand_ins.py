"""Plain JAX in place of functions with derivative rules of their own: found by the function itself, not by its name."""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax

from sketchlearn.errors import UnsupportedPrimitive
from sketchlearn.runtime import jax_compat as compat
from sketchlearn.runtime.jax_custom import Call, Mapped, is_custom, of_jax, place_of, rules_of


class StandIn(NamedTuple):
    """A function with a derivative rule of its own, and what is evaluated in its place."""

    function: Any
    plain: Callable


STAND_INS: dict[int, StandIn] = {}  # by the function's identity; held here, so that no other can get it
OF_JAX: dict[str, Callable] = {}  # by name, for functions inside JAX that nobody else can name


def stand_in(function: Callable, plain: Callable) -> None:
    """Evaluate ``plain`` wherever the ``custom_jvp`` or ``custom_vjp`` function ``function`` is met.

    A ``custom_vjp`` has no forward derivative rule, the body of either may be bit tricks that no series can enter, and
    the rule of a ``custom_jvp`` may on purpose not be the derivative of its values (a reversed or straight-through
    gradient). ``plain`` is what the series follows: the same values in plain JAX. The gradients that training takes
    go on to use the function's own rule. ``plain`` takes the same arguments and returns the same shapes.

    The function is recognised by itself, so that others of the same name or from the same line keep their own
    meaning. A function that is defined anew (a notebook's cell run again, a closure called again) is another one, and
    needs a stand-in of its own.

    Args:
        function: made by ``jax.custom_jvp``, ``jax.custom_vjp`` or ``jax.custom_gradient``, or ``jax.jit`` of such.
        plain: a function of the same arguments in plain JAX.

    Raises:
        TypeError: ``function`` is a name, or has no derivative rule of its own; ``plain`` is not callable.
        ValueError: ``plain`` is the function itself, or another function that has a stand-in cannot be told apart.

    Example:
        >>> import jax, jax.numpy as jnp, sketchlearn as sl
        >>> @jax.custom_vjp
        ... def cube(x):
        ...     return x**3
        >>> cube.defvjp(lambda x: (x**3, x), lambda x, g: (3 * x**2 * g,))
        >>> sl.taylor.stand_in(cube, lambda x: x**3)
        >>> sl.taylor_coefficients(cube, 2.0, 1.0, degree=3).tolist()
        [8.0, 12.0, 6.0, 1.0]
    """
    if isinstance(function, str):
        raise TypeError(
            f"stand_in takes the function itself, not its name {function!r}, which other functions may have too: "
            f"stand_in({function if function.isidentifier() else 'function'}, plain)."
        )
    custom = _custom(function)
    if not callable(plain):
        raise TypeError(
            f"stand_in expected plain JAX, a function, for {described(custom)}, got {type(plain).__name__}."
        )
    if _custom(plain, refuse=False) is custom:
        raise ValueError("a stand-in is other, plain JAX for the function, and this is the function itself.")
    if not rules_of(custom):
        raise ValueError(f"{described(custom)} has no derivative rule yet: call its defjvp or defvjp first.")
    for other in STAND_INS.values():
        if other.function is not custom and _same_rules(other.function, custom):
            if not _same_code(other.function.fun, custom.fun):
                raise ValueError(
                    f"{described(custom)} cannot be told from another function that has a stand-in: both come from the "
                    "same line and have the same functions as their derivative rule. Define the rule inside the "
                    "function that makes them, or pass what differs as an argument."
                )
            del STAND_INS[id(other.function)]
            break
    STAND_INS[id(custom)] = StandIn(custom, plain)


def registered() -> tuple[StandIn, ...]:
    """All stand-ins: what a program that is remembered was made with."""
    return tuple(STAND_INS.values())


def find(call: Call, eqn: Any) -> StandIn | None:
    """The stand-in of the function behind an equation, if it has one."""
    if call.name in OF_JAX and of_jax(call):
        return StandIn(None, OF_JAX[call.name])
    fitting = [entry for entry in STAND_INS.values() if _fits(entry.function, call)]
    if not fitting:
        return None
    if len(fitting) > 1 or not _has_body(fitting[0].function, call, eqn):
        raise UnsupportedPrimitive(
            f"Cannot tell which function {said(call)} is: another one from the same line, with the same functions as "
            "its derivative rule, has a stand-in.\n"
            "  Way out: define the derivative rule inside the function that makes them, so that each has its own; or "
            "pass what differs as an argument."
        )
    return fitting[0]


def flat(entry: StandIn, call: Call, where: str) -> Callable:
    """The stand-in as a function of the operands of the equation, which returns the leaves of its results."""

    def leaves(*operands: Any) -> list[Any]:
        return jax.tree.leaves(entry.plain(*_arguments(entry.function, call, operands)))

    made: Callable = leaves
    for layer in reversed(call.layers):
        made = _under(made, layer, call, where)
    return made


def _under(f: Callable, layer: int | Mapped, call: Call, where: str) -> Callable:
    if isinstance(layer, int):  # what the body closes over, and the stand-in has by itself
        return lambda *operands: f(*operands[layer:])
    if all(axis is None for axis in layer.in_axes):
        return f
    if layer.out_axes is None:
        raise UnsupportedPrimitive(
            f"Cannot put a stand-in in place of {said(call)} under vmap: this version of JAX does not tell how its "
            f"results are mapped.\n  It is called at {where}.\n  Way out: call it on whole arrays, without vmap."
        )
    return jax.vmap(f, layer.in_axes, list(layer.out_axes))


def _arguments(function: Any, call: Call, operands: Sequence[Any]) -> list[Any]:
    """The arguments of a call, as the user wrote them, from its operands."""
    given = list(operands) if call.in_tree is None else list(call.in_tree.unflatten(operands))
    positions = dict(zip(getattr(function, "nondiff_argnums", ()), call.static, strict=False))
    for position in sorted(positions):
        given.insert(position, positions[position])
    return given


def _custom(function: Any, refuse: bool = True) -> Any:
    """The function with a derivative rule behind ``jax.jit`` and ``functools.wraps``."""
    wrapped = function
    while not is_custom(wrapped) and hasattr(wrapped, "__wrapped__"):
        wrapped = wrapped.__wrapped__
    if is_custom(wrapped) or not refuse:
        return wrapped
    raise TypeError(
        "stand_in takes a function made by jax.custom_jvp, jax.custom_vjp or jax.custom_gradient, got "
        f"{getattr(function, '__name__', type(function).__name__)!r}, which has no derivative rule of its own. A "
        "primitive has to be wrapped in jax.custom_jvp."
    )


def _innermost(fun: Any) -> Any:
    while isinstance(fun, functools.partial) or hasattr(fun, "__wrapped__"):
        fun = fun.func if isinstance(fun, functools.partial) else fun.__wrapped__
    return fun


def described(function: Any) -> str:
    """A function for messages: its name and where it is defined."""
    fun = _innermost(function.fun)
    place = place_of(fun)
    return f"'{getattr(fun, '__name__', type(fun).__name__)}'{place and f' of {place}'}"


def said(call: Call) -> str:
    """The function behind a call, for messages: JAX's own name and place, or those of the rule where they say more."""
    if call.name == "wrapped_fun" and "jax" in call.place:  # so JAX calls whatever jax.custom_gradient makes
        return "a function made by jax.custom_gradient"
    return f"'{call.name}'{call.place and f' of {call.place}'}"


def _fits(function: Any, call: Call) -> bool:
    place = place_of(_innermost(function.fun))
    if place and call.place and place != call.place:
        return False
    if not call.rules:  # JAX does not tell: the line is what is left
        return bool(place) and place == call.place
    return all(any(rule is own for own in call.rules) for rule in rules_of(function))


def _same_rules(a: Any, b: Any) -> bool:
    rules = rules_of(a), rules_of(b)
    places = [place_of(_innermost(f.fun)) for f in (a, b)]
    return places[0] == places[1] and len(rules[0]) == len(rules[1]) and all(map(lambda x, y: x is y, *rules))


def _held(fun: Any) -> list[Any]:
    """What a function has beside its code: what it closes over, its defaults, what a partial fixes."""
    if isinstance(fun, functools.partial):
        return [*fun.args, *fun.keywords.items(), *_held(fun.func)]
    inner = _innermost(fun)
    defaults = [*(getattr(inner, "__defaults__", None) or ()), getattr(inner, "__kwdefaults__", None)]
    try:
        cells = list(inspect.getclosurevars(inner).nonlocals.items())
    except (TypeError, ValueError):  # no Python function
        cells = []
    return [x for x in [*cells, *defaults] if x is not None]


def _same_code(a: Any, b: Any) -> bool:
    codes = [getattr(_innermost(f), "__code__", f) for f in (a, b)]
    try:
        return codes[0] == codes[1] and bool(_held(a) == _held(b))
    except (TypeError, ValueError):  # arrays have no one answer
        return False


def _has_body(function: Any, call: Call, eqn: Any) -> bool:
    """Whether the body that was called is the function's own.

    Only a function that closes over something can share line and rule with another; and under ``vmap`` the bodies
    cannot be compared.
    """
    if not _held(function.fun) or any(isinstance(layer, Mapped) for layer in call.layers):
        return True
    shapes = [
        jax.ShapeDtypeStruct(v.aval.shape, v.aval.dtype, weak_type=getattr(v.aval, "weak_type", False))
        for v in eqn.invars[sum(layer for layer in call.layers if isinstance(layer, int)) :]
    ]
    own = compat.trace(lambda *leaves: function.fun(*_arguments(function, call, leaves)), *shapes)
    met, _ = compat.split_consts(eqn.params["call_jaxpr"])
    return _outline(own.jaxpr) == _outline(met)


def _outline(jaxpr: Any) -> list[tuple]:
    """The steps of a program without the names of its variables."""

    def inputs(eqn: Any) -> list[str]:
        return [str(v.val) if compat.is_literal(v) else str(v.aval) for v in eqn.invars]

    return [(e.primitive.name, inputs(e), re.sub(r"0x[0-9a-f]+", "", str(e.params))) for e in jaxpr.eqns]
