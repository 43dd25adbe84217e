"""Run a traced real program over an algebra of jets.

The program is traced once with real dtypes. Equations that no jet enters are run
as they are: that is how the primal of every direction is computed once. An
equation that a jet enters is handed to its primitive's rule.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from sketchlearn.errors import UnsupportedPrimitive
from sketchlearn.runtime import jax_compat as compat
from sketchlearn.taylor.algebra import Algebra, Jet, narrow, primal, wide
from sketchlearn.taylor.registry import REFUSED, RULES, Rule

FOLLOWING = ("select_n", "jit")  # what looks behind a comparison; anything else sees its value


class Compared(NamedTuple):
    """A comparison of jets: its value, which is the real program's, and ``x > y`` or the like for small t > 0."""

    value: Any
    soon: Callable[[], Any]


class Context:
    """What a rule may need beside its inputs.

    ``order`` is the highest order that still matters: a function whose derivative
    mentions the function itself is expanded one order lower at each level.
    ``counts`` collects, for every piecewise equation that was met, how many of its
    decisions fell on a kink; ``None`` when nobody asked. ``place`` is the user's
    line to name for equations that JAX's own derivative rules made.
    """

    def __init__(
        self, algebra: Algebra, counts: dict[str, Any] | None = None, order: int | None = None, place: str = ""
    ):
        self.algebra = algebra
        self.counts = counts
        self.place = place
        self.order = algebra.degree if order is None else order

    def inner(self, order: int, algebra: Algebra | None = None, counted: bool = True, place: str = "") -> Context:
        """The context of a sub-program that is expanded apart."""
        return Context(self.algebra if algebra is None else algebra, self.counts if counted else None, order, place)

    def lift(self, x: Any) -> Jet:
        """The jet of a number that may be a constant."""
        return x if isinstance(x, Jet) else Jet(x, self.algebra.zeros(x))

    def carried(self, x: Any) -> Jet:
        """The same with every order written out: loops and branches must return what they were given."""
        jet = self.lift(x)
        return Jet(jet.primal, self.algebra.full(jet.parts))

    def where(self, eqn: Any) -> str:
        """The user's line behind an equation."""
        return compat.source_line(eqn) or self.place or "an unknown line"

    @contextmanager
    def within(self, eqn: Any) -> Iterator[None]:
        """Name this line for equations of the sub-program that have none, as those of JAX's own functions."""
        around, self.place = self.place, self.where(eqn)
        try:
            yield
        finally:
            self.place = around

    @property
    def records(self) -> bool:
        """Whether anybody asked about piecewise equations."""
        return self.counts is not None

    def record(self, eqn: Any, at_kink: Any) -> None:
        """Note a piecewise equation and how many of its decisions fell on a kink."""
        if self.counts is not None:
            site = f"{eqn.primitive.name} at {self.where(eqn)}"
            self.counts[site] = self.counts.get(site, 0) + jnp.sum(at_kink, dtype=jnp.int32)

    @contextmanager
    def collecting(self) -> Iterator[dict[str, Any] | None]:
        """Collect the counts of a sub-program apart, as control flow needs them as outputs."""
        outer, self.counts = self.counts, (None if self.counts is None else {})
        try:
            yield self.counts
        finally:
            self.counts = outer

    def add_counts(self, counts: dict[str, Any]) -> None:
        """Add what a sub-program counted."""
        if self.counts is not None:
            for site, n in counts.items():
                self.counts[site] = self.counts.get(site, 0) + n

    def evaluate(self, jaxpr: Any, consts: Sequence[Any], inputs: Sequence[Any]) -> list[Any]:
        """The outputs of a jaxpr on inputs that are arrays or jets."""
        env: dict[Any, Any] = {}

        def read(var: Any) -> Any:
            return var.val if compat.is_literal(var) else env[var]

        env.update(zip(jaxpr.constvars, consts, strict=True))
        env.update(zip(jaxpr.invars, inputs, strict=True))
        last_use = {v: i for i, e in enumerate(jaxpr.eqns) for v in e.invars if not compat.is_literal(v)}
        keep = {v for v in jaxpr.outvars if not compat.is_literal(v)}
        for i, eqn in enumerate(jaxpr.eqns):
            given = [read(v) for v in eqn.invars]
            if eqn.primitive.name not in FOLLOWING or not any(isinstance(x, Jet) for x in given):
                given = [plain_value(x) for x in given]
            env.update(zip(eqn.outvars, self.apply(eqn, given), strict=True))
            for v in {v for v in eqn.invars if not compat.is_literal(v)} - keep:
                if last_use[v] == i:
                    del env[v]
        return [plain_value(read(v)) for v in jaxpr.outvars]

    def apply(self, eqn: Any, inputs: list[Any]) -> list[Any]:
        """One equation: as it is if no jet enters, else by its rule."""
        if not any(isinstance(x, Jet) for x in inputs):
            return compat.bind(eqn, *inputs)
        rule = RULES.get(eqn.primitive.name)
        if rule is None:
            raise UnsupportedPrimitive(no_rule_message(eqn, self.where(eqn)))
        if rule.kind not in ("control flow", "constant") and any(map(_is_narrow, [*eqn.invars, *eqn.outvars])):
            return self._in_float32(rule, eqn, inputs)
        return rule.apply(self, eqn, *inputs)

    def _in_float32(self, rule: Rule, eqn: Any, inputs: list[Any]) -> list[Any]:
        """An equation with numbers of 16 bits: its parts as in float32, its value as the program rounds it."""
        params = {name: _widened(value) for name, value in eqn.params.items()}
        if (update := params.get("update_jaxpr")) is not None:  # of a scatter: what it does to two numbers
            pair = [jnp.zeros((), _widened(v.aval.dtype)) for v in update.invars]
            params["update_jaxpr"] = compat.trace(lambda *x: self.evaluate(update, (), x), *pair).jaxpr
        out = rule.apply(self, eqn.replace(params=params), *map(_widened, inputs))
        values = self.primals(eqn, map(plain_value, inputs))
        return [Jet(v, y.parts) if isinstance(y, Jet) else v for v, y in zip(values, out, strict=True)]

    def primals(self, eqn: Any, inputs: Iterable[Any]) -> list[Any]:
        """The equation's own outputs on the real values of its inputs."""
        return compat.bind(eqn, *[primal(x) for x in inputs])


def _is_narrow(var: Any) -> bool:
    return narrow(getattr(var.aval, "dtype", np.dtype(bool)))


def _widened(x: Any) -> Any:
    """A jet, an array or a parameter of an equation, with float32 for what has 16 bits."""
    if isinstance(x, Jet):
        return Jet(_widened(x.primal), x.parts)
    if isinstance(x, np.dtype):
        return wide(x)
    return x.astype(wide(x.dtype)) if hasattr(x, "astype") and narrow(x.dtype) else x


def plain_value(x: Any) -> Any:
    """The real program's value of a comparison; anything else as it is."""
    return x.value if isinstance(x, Compared) else x


def no_rule_message(eqn: Any, where: str, reason: str = "") -> str:
    """Primitive, line, reason, way out."""
    name = eqn.primitive.name
    reason = reason or REFUSED.get(name, "nobody has written its Taylor rule yet")
    return (
        f"Cannot expand the JAX primitive '{name}' in a power series: {reason}.\n"
        f"  It is used at {where}, where it depends on what is differentiated.\n"
        "  Ways out: write that step with other operations (the table 'Supported primitives' of the "
        "documentation lists them); wrap it in jax.custom_jvp, whose rule is then used; if it lies in a custom_jvp or "
        "custom_vjp function, give that plain JAX, sketchlearn.taylor.stand_in(function, plain); or add a rule "
        "(CONTRIBUTING.md shows how)."
    )
