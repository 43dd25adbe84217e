"""Read a program without running it: every step that has no rule, is piecewise, or drops digits."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from sketchlearn.errors import UnsupportedPrimitive
from sketchlearn.runtime import jax_compat as compat
from sketchlearn.runtime.jax_custom import call_of, of_jax
from sketchlearn.taylor.algebra import Algebra, Jet, Series
from sketchlearn.taylor.compared import Met, findings, met
from sketchlearn.taylor.interpreter import Context

LIBRARIES = ("site-packages", "dist-packages", "sketchlearn")  # lines in there are not the user's own
LARGEST_EPSILON = 0.05  # what is added to a root: a larger number is a term of a formula
CARRIES_A_ROOT = {"broadcast_in_dim", "reshape", "squeeze", "convert_element_type", "copy", "transpose", "neg"}


PRODUCTS = ("dot_general", "conv_general_dilated", "ragged_dot_general")


class Remark(NamedTuple):
    """Something about one equation that the weights reach.

    Attributes:
        kind: ``"no rule"``, ``"kink"``, ``"narrowing cast"``, ``"rounded product"``, ``"epsilon outside a root"``,
            ``"stop_gradient"``, ``"rule differs"`` or ``"stand-in differs"``.
        site: ``primitive at file:line (function)``, as in ``piecewise_report``.
        line: the innermost line of the user's own, "" where it cannot be told.
        text: what was found.
    """

    kind: str
    site: str
    line: str
    text: str


class Survey(Context):
    """A context that notes what it meets and goes on, where the others would stop."""

    def __init__(self, remarks: dict[tuple, Remark], order: int = 1, algebra: Algebra | None = None, place: str = ""):
        super().__init__(Series(0, False) if algebra is None else algebra, order=order, place=place)
        self.remarks = remarks
        self._roots: dict[int, Any] = {}  # the jets that are roots, by identity (kept alive by being here)
        self.line = ""  # the user's own line around a sub-program, for equations that have none
        self.calls: dict[tuple, Met] = {}  # of functions with derivative rules of their own

    def inner(self, order: int, algebra: Algebra | None = None, counted: bool = True, place: str = "") -> Context:
        """The same survey of a sub-program."""
        inside = Survey(self.remarks, order, self.algebra if algebra is None else algebra, place or self.place)
        inside.line, inside.calls = self.line, self.calls
        return inside

    def note(self, eqn: Any, kind: str, text: str) -> None:
        """Keep one remark for each kind and place."""
        site = f"{eqn.primitive.name} at {self.where(eqn)}"
        line = compat.users_line(eqn, LIBRARIES) or self.line
        self.remarks.setdefault((kind, site, text), Remark(kind, site, line, text))

    @property
    def records(self) -> bool:
        """Always, though nothing is counted."""
        return True

    def record(self, eqn: Any, at_kink: Any) -> None:
        """A piecewise equation."""
        self.note(eqn, "kink", "")

    def apply(self, eqn: Any, inputs: list[Any]) -> list[Any]:
        """One equation by its rule; without one, its real value goes on as if it had been expanded."""
        if not any(isinstance(x, Jet) for x in inputs):
            return compat.bind(eqn, *inputs)
        self._look(eqn, inputs)
        around, self.line = self.line, compat.users_line(eqn, LIBRARIES) or self.line
        try:
            out = super().apply(eqn, inputs)
        except UnsupportedPrimitive as error:
            self.note(eqn, "no rule", str(error))
            out = [self.lift(y) if jnp.issubdtype(y.dtype, jnp.inexact) else y for y in self.primals(eqn, inputs)]
        finally:
            self.line = around
        name = eqn.primitive.name
        if name == "sqrt" or (name in CARRIES_A_ROOT and id(inputs[0]) in self._roots):
            self._roots.update((id(y), y) for y in out if isinstance(y, Jet))
        return out

    def _look(self, eqn: Any, inputs: list[Any]) -> None:
        name, x = eqn.primitive.name, inputs[0]
        if name == "stop_gradient":
            self.note(eqn, "stop_gradient", "")
        if name in ("custom_jvp_call", "custom_vjp_call"):
            call = call_of(eqn.params)
            if not of_jax(call):
                key = (call.name, call.place, *map(id, call.rules), *(str(v.aval) for v in eqn.invars))
                site = f"{name} at {self.where(eqn)}"
                self.calls.setdefault(key, met(eqn, inputs, site, compat.users_line(eqn, LIBRARIES) or self.line))
        if name == "convert_element_type":
            old, new = jnp.result_type(x.primal), eqn.params["new_dtype"]
            if all(jnp.issubdtype(d, jnp.floating) for d in (old, new)) and jnp.finfo(new).bits < jnp.finfo(old).bits:
                self.note(eqn, "narrowing cast", f"{old} to {jnp.dtype(new)}")
        if name in PRODUCTS and (text := _rounding(eqn)):
            self.note(eqn, "rounded product", text)
        if name == "add":
            for root, other in (inputs, inputs[::-1]):
                epsilon = None if isinstance(other, (Jet, jax.core.Tracer)) else np.asarray(other)
                if id(root) in self._roots and epsilon is not None and epsilon.size == 1:
                    size = abs(float(epsilon.reshape(())))
                    if 0 < size <= LARGEST_EPSILON:
                        self.note(eqn, "epsilon outside a root", f"{size:.0e} is added to a square root")


def _rounding(eqn: Any) -> str:
    """How a product of float32 numbers loses digits on an accelerator, "" if it does not."""
    if any(v.aval.dtype != jnp.float32 for v in eqn.invars[:2]):
        return ""
    asked = eqn.params["precision"]
    named = {p.name if isinstance(p, jax.lax.Precision) else str(p) for p in jax.tree.leaves(asked)}
    if reduced := sorted(named - {"HIGHEST"}):
        return f"its precision is {', '.join(reduced)}"
    result = jnp.dtype(eqn.outvars[0].aval.dtype)
    return f"its result is {result}" if jnp.finfo(result).bits < 32 else ""


def survey(f: Callable, point: Any) -> tuple[list[Remark], Any]:
    """What there is to say about ``f`` before it is run, and which of its outputs depend on ``point``.

    Args:
        f: a function of one pytree of floating arrays.
        point: that pytree, or its shapes.

    Returns:
        The remarks, in the order of the program, and a pytree like ``f(point)`` whose leaves are (the output's shape
        and dtype, whether it depends on the point).
    """
    remarks: dict[tuple, Remark] = {}
    calls: dict[tuple, Met] = {}
    surveys: list[Any] = []
    tree: Any = None

    def run(p: Any) -> None:
        nonlocal tree
        program = compat.trace(f, p)
        leaves = [Jet(x, ()) for x in jax.tree.leaves(p)]
        looking = Survey(remarks)
        looking.calls = calls
        out = looking.evaluate(program.jaxpr, program.consts, leaves)
        tree = program.out_tree
        shapes = [v.aval for v in program.jaxpr.outvars]
        surveys.extend(
            (jax.ShapeDtypeStruct(s.shape, s.dtype), isinstance(y, Jet)) for s, y in zip(shapes, out, strict=True)
        )

    jax.eval_shape(run, point)
    for call in calls.values():  # these few functions are evaluated, at numbers of the right shape
        if fault := findings(call):
            remarks.setdefault((*fault, call.site), Remark(fault[0], call.site, call.line, fault[1]))
    return list(remarks.values()), tree.unflatten(surveys)
