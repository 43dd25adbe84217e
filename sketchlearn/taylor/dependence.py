"""What a program's outputs owe to its input: a smooth dependence, or one through flat operations alone.

A sign, a rounding, a comparison, an argmax are constant between their jumps. The power series of whatever is made of
them alone is zero, and that zero is no answer.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from sketchlearn.runtime import jax_compat as compat
from sketchlearn.runtime.jax_custom import call_of
from sketchlearn.taylor.algebra import Algebra, Jet
from sketchlearn.taylor.interpreter import Context, plain_value
from sketchlearn.taylor.registry import RULES
from sketchlearn.taylor.survey import LIBRARIES, Remark, Survey

COMPARISONS = {"eq": "==", "ne": "!=", "lt": "<", "le": "<=", "gt": ">", "ge": ">=", "lt_to": "<", "le_to": "<="}
SHOWN = 3  # places named in one message


class Flat(NamedTuple):
    """A flat operation that the input reaches.

    Attributes:
        name: of its primitive.
        site: ``primitive at file:line (function)``.
        line: the innermost line of the user's own, "" where it cannot be told.
        what: the operation in words.
    """

    name: str
    site: str
    line: str
    what: str

    def __str__(self) -> str:
        place = _short(self.site.partition(" at ")[2])
        line = _short(self.line)
        return f"{self.what} at {place}" + (f", called from {line}" if line and line != place else "")


class Dependence(NamedTuple):
    """How a function depends on its input.

    Attributes:
        reached: for each leaf of the result, whether the input reaches it by smooth operations. (What a loop carries
            counts as reached if any round reaches it, though its series may be zero at the end.)
        flattened: for each leaf that is not reached, the flat operations that it depends through, none if it does not
            depend on the input at all.
        met: all flat operations whose results were used as numbers. A comparison that only chooses between values,
            as in ``jnp.where``, is not among them.
    """

    reached: tuple[bool, ...]
    flattened: tuple[tuple[Flat, ...], ...]
    met: tuple[Flat, ...]

    @property
    def through(self) -> tuple[Flat, ...]:
        """The flat operations that any output depends through, each once."""
        return _union(self.flattened)


def dependence(f: Callable, point: Any, reverse: bool = False) -> Dependence:
    """How ``f`` depends on ``point``, without running it.

    Args:
        f: a function of one pytree of floating arrays.
        point: that pytree, or its shapes.
        reverse: as JAX's own derivatives see it, to which ``stop_gradient`` is a constant.

    Example:
        >>> import jax.numpy as jnp
        >>> found = dependence(lambda x: (jnp.sin(x), jnp.sign(x)), jnp.ones(3))
        >>> found.reached, [flat.name for flat in found.through]
        ((True, False), ['sign'])
    """
    flows: list[Any] = []

    def run(p: Any) -> None:
        program = compat.trace(f, p)
        context = Flow({}, reverse=reverse)
        leaves = [Jet(x, ()) if jnp.issubdtype(jnp.result_type(x), jnp.inexact) else x for x in jax.tree.leaves(p)]
        out = context.evaluate(program.jaxpr, program.consts, leaves)
        sites = tuple(() if isinstance(y, Jet) else context.sites(y) for y in out)
        reached = tuple(isinstance(y, Jet) for y in out)
        flows.append(Dependence(reached, sites, tuple(context.state.numbers)))

    jax.eval_shape(run, point)
    return flows[0]


def named(flat: Sequence[Flat]) -> str:
    """Flat operations with their places, in words."""
    shown = list(dict.fromkeys(map(str, sorted(flat, key=lambda f: f.what in COMPARISONS.values()))))
    more = f", and {len(shown) - SHOWN} more" if len(shown) > SHOWN else ""
    return ", ".join(shown[:SHOWN]) + more


class _State:
    """What all contexts of one look share."""

    def __init__(self) -> None:
        self.held: dict[int, tuple[Any, tuple[Flat, ...]]] = {}  # by identity; the values are kept alive by being here
        self.numbers: dict[Flat, None] = {}
        self.entering: dict[int, list[tuple[Flat, ...]]] = {}  # of the inputs of a loop's body or a branch
        self.leaving: dict[int, list[tuple[Flat, ...]]] = {}  # of the outputs of a program
        self.rounds: dict[int, list[tuple[Flat, ...]]] = {}  # what a loop's inputs were found to depend through
        self.nan_tests: dict[int, Any] = {}  # the values of x != x, by identity


class Flow(Survey):
    """A survey that also follows what flat operations return."""

    def __init__(
        self,
        remarks: dict[tuple, Remark],
        order: int = 1,
        algebra: Algebra | None = None,
        place: str = "",
        reverse: bool = False,
        state: _State | None = None,
    ):
        super().__init__(remarks, order, algebra, place)
        self.reverse, self.state = reverse, _State() if state is None else state

    def inner(self, order: int, algebra: Algebra | None = None, counted: bool = True, place: str = "") -> Context:
        """The same look at a sub-program."""
        algebra = self.algebra if algebra is None else algebra
        flow = Flow(self.remarks, order, algebra, place or self.place, self.reverse, self.state)
        flow.line = self.line
        return flow

    def sites(self, x: Any) -> tuple[Flat, ...]:
        """The flat operations that a value depends through."""
        return self.state.held.get(id(plain_value(x)), (None, ()))[1]

    def evaluate(self, jaxpr: Any, consts: Sequence[Any], inputs: Sequence[Any]) -> list[Any]:
        """The outputs of a jaxpr; what they depend through is remembered for the loop around."""
        for x, sites in zip(inputs, self.state.entering.get(id(jaxpr), ()), strict=False):
            self._hold(x, sites)
        out = super().evaluate(jaxpr, consts, inputs)
        self.state.leaving[id(jaxpr)] = [self.sites(y) for y in out]
        return out

    def apply(self, eqn: Any, inputs: list[Any]) -> list[Any]:
        """One equation; its outputs that are no jets depend through what its inputs do, and through itself."""
        name, held = eqn.primitive.name, _union(map(self.sites, inputs))
        moving = any(isinstance(x, Jet) for x in inputs)
        if self.reverse and moving and name == "stop_gradient":
            out, here = self.primals(eqn, inputs), (*held, self._flat(eqn, inputs))
        elif name in ("scan", "while", "cond"):
            return self._around(eqn, inputs)
        elif name == "select_n" and id(inputs[0]) in self.state.nan_tests and not isinstance(inputs[1], Jet):
            out, here = self.primals(eqn, inputs), self.sites(inputs[1])  # what is chosen unless there is a NaN
        else:
            out = super().apply(eqn, inputs)
            if moving and name == "ne" and eqn.invars[0] is eqn.invars[1]:
                self.state.nan_tests[id(out[0])] = out[0]
            walked = getattr(RULES.get(name), "kind", "") == "control flow"
            if moving and walked and not (name == "custom_jvp_call" and self.order):
                return out  # what is inside was looked at, and what a function of order zero returns is not missed
            here = (*held, self._flat(eqn, inputs)) if moving else held
        for y in out:
            self._hold(y, here)
        return out

    def _around(self, eqn: Any, inputs: list[Any]) -> list[Any]:
        """Control flow, whose sub-programs are run on values of their own: what those depend through is handed over."""
        name, p = eqn.primitive.name, eqn.params
        if not any(isinstance(x, Jet) for x in inputs):
            out = super().apply(eqn, inputs)
            for y in out:
                self._hold(y, _union(map(self.sites, inputs)))
            return out
        known = self.state.rounds.get(id(eqn), [()] * len(inputs))  # by a look at it before, in a loop around
        sites = [_union(pair) for pair in zip(map(self.sites, inputs), known, strict=True)]
        if name == "cond":
            programs, first, start, count = [compat.split_consts(b)[0] for b in p["branches"]], 1, 0, 0
        elif name == "scan":
            programs, first, (start, count) = [compat.split_consts(p["jaxpr"])[0]], 0, compat.scan_layout(p)
        else:
            programs, first = [compat.split_consts(p["body_jaxpr"])[0]], p["cond_nconsts"]
            start = first + p["body_nconsts"]
            count = len(inputs) - start
        while True:
            for jaxpr in programs:
                self.state.entering[id(jaxpr)] = sites[first:]
            out = super().apply(eqn, inputs)
            left = [self.state.leaving.get(id(jaxpr), [()] * len(out)) for jaxpr in programs]
            leaving = [_union(each) for each in zip(*left, strict=True)]
            grown = list(sites)
            for i in range(count):  # what one round leaves, the next one finds
                leaving[i] = grown[start + i] = _union([sites[start + i], leaving[i]])
            if grown == sites:
                break
            sites = grown
        self.state.rounds[id(eqn)] = sites
        decided = sites[:1] if name == "cond" else []
        if name == "while":
            decided = self.state.leaving.get(id(compat.split_consts(p["cond_jaxpr"])[0]), [])
        for y, more in zip(out, leaving, strict=True):
            self._hold(y, _union([more, *decided]))
        return out

    def _hold(self, y: Any, sites: Sequence[Flat]) -> None:
        y = plain_value(y)
        if not sites or isinstance(y, Jet):
            return
        self.state.held[id(y)] = (y, _union([self.sites(y), sites]))
        if jnp.issubdtype(jnp.result_type(y), jnp.inexact):
            self.state.numbers.update(dict.fromkeys(sites))

    def _flat(self, eqn: Any, inputs: list[Any]) -> Flat:
        name = eqn.primitive.name
        what = COMPARISONS.get(name, name)
        if name == "convert_element_type":
            what = f"the cast to {jnp.dtype(eqn.params['new_dtype'])}"
        elif name == "sort":
            what = "argsort"
        elif name.startswith("custom_"):
            what = f"{call_of(eqn.params).name} (whose derivative rule gives zero)"
        line = compat.users_line(eqn, LIBRARIES) or self.line
        return Flat(name, f"{name} at {self.where(eqn)}", line, what)


def _union(each: Iterable[Sequence[Flat]]) -> tuple[Flat, ...]:
    return tuple(dict.fromkeys(flat for sites in each for flat in sites))


def _short(line: str) -> str:
    """A place without the directories of its file."""
    path, colon, rest = line.partition(":")
    return os.path.basename(path) + colon + rest
