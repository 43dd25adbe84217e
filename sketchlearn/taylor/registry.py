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


def supported_primitives() -> list[Rule]:
    """Every primitive with a rule, sorted by kind and name (the table in the documentation)."""
    return sorted(RULES.values(), key=lambda rule: (KINDS.index(rule.kind), rule.primitive))


def refused_primitives() -> dict[str, str]:
    """Primitives that are refused on purpose, each with the reason."""
    return dict(sorted(REFUSED.items()))
