"""The table of rules: which primitive is handled, by what kind of rule, and which is refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

KINDS = ("linear", "bilinear", "analytic", "piecewise", "constant", "algebraic", "control flow")


class Rule(NamedTuple):
    """How one primitive acts on jets: ``apply(context, eqn, *inputs) -> list of outputs``."""

    primitive: str
    kind: str
    apply: Callable[..., list[Any]]
    note: str = ""


RULES: dict[str, Rule] = {}
REFUSED: dict[str, str] = {}
STAND_INS: dict[str, Callable] = {}


def register(primitive: str, kind: str, apply: Callable[..., list[Any]], note: str = "") -> None:
    """Add a rule; a primitive has exactly one."""
    if kind not in KINDS:
        raise ValueError(f"kind must be one of {KINDS}, got {kind!r}.")
    if primitive in RULES:
        raise ValueError(f"primitive {primitive!r} has a rule already, of kind {RULES[primitive].kind!r}.")
    RULES[primitive] = Rule(primitive, kind, apply, note)


def refuse(primitive: str, reason: str) -> None:
    """Record why a primitive has no rule, for the message that the user will read."""
    REFUSED[primitive] = reason


def stand_in(name: str, function: Callable) -> None:
    """Evaluate ``function`` wherever a ``custom_jvp`` or ``custom_vjp`` function called ``name`` is met.

    A ``custom_vjp`` has no forward derivative rule, and the body of either may
    be bit tricks that no series can enter; ``function`` is the same mathematics in
    plain JAX. It takes the same arguments.

    Example:
        >>> import jax, jax.numpy as jnp, sketchlearn as sl
        >>> @jax.custom_vjp
        ... def cube(x):
        ...     return x**3
        >>> cube.defvjp(lambda x: (x**3, x), lambda x, g: (3 * x**2 * g,))
        >>> sl.taylor.stand_in("cube", lambda x: x**3)
        >>> sl.taylor_coefficients(cube, 2.0, 1.0, degree=3).tolist()
        [8.0, 12.0, 6.0, 1.0]
    """
    if not callable(function):
        raise TypeError(f"stand_in expected a function for {name!r}, got {type(function).__name__}.")
    STAND_INS[name] = function


def supported_primitives() -> list[Rule]:
    """Every primitive with a rule, sorted by kind and name (the table in the documentation)."""
    return sorted(RULES.values(), key=lambda rule: (KINDS.index(rule.kind), rule.primitive))


def refused_primitives() -> dict[str, str]:
    """Primitives that are refused on purpose, each with the reason."""
    return dict(sorted(REFUSED.items()))
