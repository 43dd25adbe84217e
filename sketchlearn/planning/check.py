"""Look a training program over before anything is spent: what cannot be expanded, what to mend, how stable it is."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from sketchlearn.deletions.base import Space
from sketchlearn.deletions.centre import full_weights
from sketchlearn.deletions.examples import Examples
from sketchlearn.errors import FlatQuery, FlatTraining, check_count, check_degree
from sketchlearn.planning.stability import StabilityProfile, stability_profile
from sketchlearn.planning.traces import traces_differ
from sketchlearn.runtime.arrays import check_dtype, check_finite
from sketchlearn.runtime.precision import shapes_of
from sketchlearn.runtime.seeds import jax_key
from sketchlearn.taylor import piecewise_report
from sketchlearn.taylor.algebra import narrow, wide
from sketchlearn.taylor.dependence import Flat, dependence, named
from sketchlearn.taylor.flatness import CONNECT, SMOOTH_QUERY, SMOOTH_TRAINING
from sketchlearn.taylor.survey import Remark, survey
from sketchlearn.training.emptied_batches import WAYS, emptying
from sketchlearn.training.program import check_query, num_examples_of, stepwise

TITLES = {
    "cannot be traced": "JAX cannot trace it",
    "two traces differ": "It is not the same program twice",
    "no dependence": "Nothing it returns depends on the weights",
    "flat query": "The query has no series",
    "emptied batch": "A deletion empties a batch",
    "no number": "It returns something that is no floating-point number",
    "no rule": "Operations without a Taylor rule",
    "no rule in query": "Operations of the training loss, as a query, without a Taylor rule",
    "cannot be run": "It fails when it is run",
    "not finite": "Not finite",
    "stand-in differs": "Stand-ins that differ from their functions",
    "rule differs": "Custom derivatives that differ from their functions",
    "16 bits": "Numbers of 16 bits",
    "narrowing cast": "Digits are dropped",
    "rounded product": "Products that an accelerator rounds",
    "epsilon outside a root": "Epsilons outside roots",
    "unseen examples": "Examples that no step sees",
    "flat operation": "Flat operations",
    "kink": "Piecewise operations",
    "stop_gradient": "stop_gradient",
}
BLOCKING = (
    *("cannot be traced", "two traces differ", "no dependence", "flat query", "emptied batch", "no number", "no rule"),
    *("cannot be run", "not finite", "stand-in differs"),
)
FIXES = {
    "cannot be traced": "write it in jax.numpy, without float(w), numpy functions or a Python `if` on what depends on "
    "the weights, and let it accept weights of that shape and dtype",
    "two traces differ": "draw random numbers from a fixed jax.random.key, and close over data that does not change",
    "no dependence": CONNECT,
    "flat query": SMOOTH_QUERY[0].lower() + SMOOTH_QUERY[1:],
    "emptied batch": f"{WAYS}; or name the deletions you will ask for, space=Groups(..) or the like",
    "no number": "return parameters alone; step counters and keys have no Taylor coefficients, and of complex "
    "numbers real and imaginary part are two arrays",
    "no rule": "write that step with other operations",
    "no rule in query": "nothing, unless you predict this loss: then as for an operation of training. Stability is "
    "measured with the squared norm of what training returns",
    "not finite": "mend the run before it is sketched",
    "cannot be run": "see that it runs by itself, train(jnp.ones(n)) and jax.jit(train)(jnp.ones(n))",
    "stand-in differs": "give sketchlearn.taylor.stand_in the same values in plain JAX",
    "rule differs": "decide which is meant: the series follows the derivative rule, retraining the function's values. "
    "To predict retraining, give the values in plain JAX, sketchlearn.taylor.stand_in(function, plain); the gradients "
    "that training takes go on to use the rule. (Values with jumps, as those of rounding, have slope zero between "
    "them, and no series sees the jumps.)",
    "16 bits": "nothing, if effects of that size are all you ask for: coefficients are computed in float32, but a "
    'retrained model is rounded to 16 bits itself. Otherwise keep them in float32, Recipe(..., dtype="float32")',
    "narrowing cast": "give the layer the dtype of the weights (param_dtype=..., dtype=...), or run all in the narrow "
    "type; what is computed there is no more exact than it",
    "rounded product": "nothing, if three digits are enough; else leave precision= and jax_default_matmul_precision "
    "unset, so that all products are computed in full float32 (a CPU always does)",
    "epsilon outside a root": "put it inside, sqrt(x + eps**2), as optax.adam(eps=0.0, eps_root=...) and "
    "optax.rmsprop(eps_in_sqrt=True) do: where x is near zero the series of sqrt(x) has a tiny radius",
    "unseen examples": "deleting them changes nothing; leave them out or add batches",
    "flat operation": "nothing, where the rest of the step carries the dependence; else "
    + SMOOTH_TRAINING
    + ". Dependence through a flat operation is not in the series",
    "kink": "nothing, as long as no decision is close to its kink; else a smooth function (gelu for relu, no clipping)",
    "stop_gradient": "nothing: the update is computed as you wrote it, and the series follows all that it depends on",
}
JUMPS = ("sign", "round", "floor", "ceil", "argmax", "argmin", "top_k", "sort", "convert_element_type")
SHORT = 50  # steps of a recipe that are run
SHOWN = 8  # places of one kind


@dataclasses.dataclass(frozen=True)
class Finding:
    """One thing that was noticed.

    Attributes:
        kind: ``"no rule"``, ``"kink"``, ``"narrowing cast"``, ``"epsilon outside a root"``, ``"cannot be traced"`` and
            so on: a key of the table of titles.
        where: ``primitive at file:line (function)``, with the user's own line if that is another; "" for the whole.
        message: what was found.
        fix: what to do about it.
    """

    kind: str
    where: str
    message: str
    fix: str

    @property
    def blocking(self) -> bool:
        """Whether a sketch would fail or be wrong."""
        return self.kind in BLOCKING


@dataclasses.dataclass(frozen=True, eq=False)
class CheckReport:
    """What :func:`check` found; print it.

    Attributes:
        findings: the blocking ones first.
        stability: a :class:`StabilityProfile` of the short run, None if nothing was run.
        steps: how many steps that run had, None if it was the whole of ``train``.
        num_parameters: numbers that ``train`` returns, 0 if it cannot be traced.
    """

    findings: tuple[Finding, ...]
    stability: StabilityProfile | None
    steps: int | None
    num_parameters: int

    @property
    def ok(self) -> bool:
        """Whether nothing stands in the way of a sketch."""
        return not any(f.blocking for f in self.findings)

    def __str__(self) -> str:
        lines = [f"{'Ready to sketch' if self.ok else 'Not ready'}: {self.num_parameters} numbers are returned."]
        for kind, title in TITLES.items():
            of_kind = [f for f in self.findings if f.kind == kind]
            if not of_kind:
                continue
            lines += ["", f"{title} ({'must be mended' if kind in BLOCKING else 'look at it'}):"]
            for f in of_kind[:SHOWN]:
                lines.append(f"  - {': '.join(part for part in (f.where, f.message) if part)}")
            lines += [f"  .. and {len(of_kind) - SHOWN} more"] * (len(of_kind) > SHOWN)
            lines += [f"  What to do: {fix}." for fix in dict.fromkeys(f.fix for f in of_kind)]
        return "\n".join([*lines, "", self._stability_text()])

    def _stability_text(self) -> str:
        if self.stability is None:
            return "Stability was not measured."
        over = "the whole run" if self.steps is None else f"the first {self.steps} steps"
        sizes = ", ".join(f"{x:.2g}" for x in self.stability.bombieri())
        text = f"Stability over {over}: norms of orders 1, 2, ..: {sizes}."
        if np.isfinite(self.stability.radius):
            text += (
                f" By these, the bounds on the terms, for whatever examples, shrink from order to order while fewer "
                f"than about {self.stability.radius**2:.2g} of them are deleted (the square of the radius)."
            )
        return text + " A longer run can be less stable: sketchlearn.stability_profile measures it."


def check(
    train: Callable,
    weights: Any = None,
    query: Callable | None = None,
    stability: bool | None = None,
    degree: int = 3,
    num_directions: int = 3,
    steps: int = SHORT,
    space: Space | None = None,
) -> CheckReport:
    """Look a training program over without starting the long run.

    The program is traced, not run: that finds what has no Taylor rule, what is piecewise, what drops digits, and
    epsilons outside roots, each with its line. Flat operations (a sign, an argmax), through which no series passes, are
    told apart from other piecewise ones, and so are queries that depend on the parameters through them alone. A
    function with a derivative rule of its own (``jax.custom_jvp``) is evaluated at random points: where the rule is not
    the derivative of the values (a reversed, straight-through or surrogate gradient), the series follows the rule and
    retraining the values, and the report shows both numbers. Whatever fails in the program is reported, not raised. A
    :class:`Recipe` is then run for a few steps, to see that it is finite, how many decisions lie exactly on a kink, and
    how fast its orders grow.

    Args:
        train: weights (n,) -> parameters.
        weights: n, or the weights (n,) to look at; by default ``train.num_examples`` ones.
        query: parameters -> a number, for the stability; by default the mean training loss of a recipe, and the
            squared norm of what any other function returns.
        stability: run the program for its stability; by default a recipe's first steps only. True runs any other
            ``train`` as a whole, ``num_directions`` times and over power series.
        degree: orders of the stability run.
        num_directions: of the stability run.
        steps: of a recipe that are run.
        space: the deletions that will be asked for, by default of single examples: which batches of a recipe with
            ``reduction="weighted mean"`` one of its coordinates can empty.

    Returns:
        A :class:`CheckReport`: ``print`` it, or ask ``.ok``.

    Example:
        >>> import jax.numpy as jnp, sketchlearn as sl
        >>> report = sl.check(lambda w: jnp.sqrt(jnp.sum(w**2)) + 1e-8, 4)
        >>> report.ok, [f.kind for f in report.findings]
        (True, ['epsilon outside a root'])
    """
    degree, num_directions = check_degree(degree), check_count("num_directions", num_directions)
    steps = check_count("steps", steps)
    if not callable(train):
        raise TypeError(f"train must be a function of the weights, got {type(train).__name__}.")
    weights = _weights(train, weights)
    if space is not None and full_weights(space).shape != weights.shape:
        raise ValueError(f"the space must be of {len(weights)} examples, as the weights are, got {space!r}.")
    if query is not None and not callable(query):
        raise TypeError(f"query must be a function of the trained parameters, got {type(query).__name__}.")
    try:
        remarks, outputs = survey(train, jax.ShapeDtypeStruct(weights.shape, weights.dtype))
        differs = traces_differ(train, weights)
    except Exception as error:  # whatever the user's program raises is what there is to report
        return CheckReport((_plain("cannot be traced", _said(error)),), None, None, 0)
    flat = _flat(train, weights, remarks, outputs)
    findings = _without_flat([_from_remark(r) for r in remarks], flat) + _of_outputs(outputs, flat)
    if text := emptying(train, Examples(len(weights)) if space is None else space):
        findings.append(_plain("emptied batch", text))
    if differs:
        findings.append(_plain("two traces differ", "traced twice, it gave two programs"))
    run = stepwise(train)
    if run is not None:
        unseen = np.setdiff1d(np.arange(len(weights)), run.batches)
        if len(unseen):
            findings.append(_plain("unseen examples", f"{len(unseen)} of {len(weights)}, the first is {unseen[0]}"))
    report = CheckReport(tuple(findings), None, None, sum(s.size for s, _ in _pairs(outputs)))
    short: Any = train if run is None else run.shortened(steps)
    measured: Callable = _squared_norm
    if report.ok:
        measured, more = _of_query(short, query, weights)
        report = dataclasses.replace(report, findings=(*report.findings, *more))
    if report.ok and (stability or (stability is None and run is not None)):
        try:
            report = _after_running(report, short, weights, measured, degree, num_directions)
        except Exception as error:  # as above
            report = dataclasses.replace(report, findings=(*report.findings, _plain("cannot be run", _said(error))))
    order = list(TITLES)
    findings = sorted(report.findings, key=lambda f: order.index(f.kind))
    return dataclasses.replace(report, findings=tuple(findings), steps=None if run is None else short.num_steps)


def _weights(train: Callable, weights: Any) -> jax.Array:
    if weights is None:
        weights = num_examples_of(train)
        if weights is None:
            raise TypeError("the number of training examples is not known: pass it as the second argument.")
    if np.ndim(weights) == 0:
        run = stepwise(train)
        return jnp.ones(check_count("weights", weights), check_dtype(None) if run is None else run.dtype)
    weights = jnp.asarray(weights)
    if weights.ndim != 1 or not jnp.issubdtype(weights.dtype, jnp.floating):
        raise TypeError(f"weights must be n or floating of shape (n,), got {weights.dtype} of shape {weights.shape}.")
    check_finite("weights", weights)
    return weights


def _said(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0] if lines else ''}"


def _of_query(train: Callable, query: Callable | None, weights: Any) -> tuple[Callable, list[Finding]]:
    """The query to measure stability with, and what there is to say about it."""
    trained = shapes_of(train, jax.ShapeDtypeStruct(weights.shape, weights.dtype))
    own = _query(train) if query is None else query
    shape = check_query(own, trained)  # an argument that is no query is refused, as everywhere
    try:
        remarks, _ = survey(own, trained)
    except Exception as error:
        return own, [_plain("cannot be traced", f"the query: {_said(error)}")]
    findings = [_from_remark(r) for r in remarks if r.kind in ("no rule", "rule differs", "stand-in differs")]
    if query is None:
        findings = [dataclasses.replace(f, kind="no rule in query") if f.kind == "no rule" else f for f in findings]
    if narrow(shape.dtype):
        findings.append(_plain("16 bits", f"the query returns {shape.dtype}"))
    owed = dependence(own, trained)
    if query is not None and not any(owed.reached):
        where = f"through {named(owed.through)} only" if owed.through else "not at all: it is a constant"
        findings.append(_plain("flat query", f"it depends on the parameters {where}"))
    refused = any(f.kind == "no rule in query" for f in findings)
    return _squared_norm if refused else own, findings


def _plain(kind: str, message: str) -> Finding:
    return Finding(kind, "", message, FIXES[kind])


def _from_remark(remark: Remark) -> Finding:
    where = remark.site if remark.line in remark.site else f"{remark.site}, called from {remark.line}"
    if remark.kind != "no rule":
        return Finding(remark.kind, where, remark.text, FIXES[remark.kind])
    message, _, fix = re.sub(r"\s+", " ", remark.text).partition("Way")
    reason = re.sub(r" It is (used|called) at .*", "", message).strip()
    return Finding(remark.kind, where, reason, re.sub(r"^s? ?(out)?: ?", "", fix).rstrip(". ") or FIXES["no rule"])


def _pairs(outputs: Any) -> list[Any]:
    return jax.tree.leaves(outputs, is_leaf=lambda x: isinstance(x, tuple) and isinstance(x[0], jax.ShapeDtypeStruct))


def _flat(train: Callable, weights: Any, remarks: list[Remark], outputs: Any) -> tuple[Flat, ...]:
    """The flat operations that stand in the way of the dependence, comparisons only where nothing passes them."""
    nothing = not any(depends for _, depends in _pairs(outputs))
    if not nothing and not any(r.kind == "kink" and r.site.startswith(JUMPS) for r in remarks):
        return ()
    of_weights = dependence(train, jax.ShapeDtypeStruct(weights.shape, weights.dtype))
    return of_weights.through if nothing else tuple(f for f in of_weights.met if f.name in JUMPS)


def _without_flat(findings: list[Finding], flat: tuple[Flat, ...]) -> list[Finding]:
    """The findings, flat operations not also among the piecewise ones."""
    sites = {f.site for f in flat}
    return [f for f in findings if f.kind != "kink" or f.where.split(", called from")[0] not in sites]


def _of_outputs(outputs: Any, flat: tuple[Flat, ...]) -> list[Finding]:
    pairs = _pairs(outputs)
    integers = [s for s, _ in pairs if not jnp.issubdtype(s.dtype, jnp.floating)]
    findings = [_plain("no number", f"an array of dtype {s.dtype} and shape {s.shape}") for s in integers]
    if any(narrow(s.dtype) for s, _ in pairs):
        count = sum(s.size for s, _ in pairs if narrow(s.dtype))
        kinds = ", ".join(sorted({str(s.dtype) for s, _ in pairs if narrow(s.dtype)}))
        findings.append(_plain("16 bits", f"{count} of the numbers that training returns are {kinds}"))
    if any(depends for _, depends in pairs):
        return findings + [_from_remark(Remark("flat operation", f.site, f.line, "")) for f in flat]
    if flat:
        text = f"no output is reached from the weights but through {named(flat)}, flat between jumps"
        return [*findings, Finding("no dependence", "", text, SMOOTH_TRAINING)]
    return [*findings, _plain("no dependence", "no output is reached from the weights")]


def _after_running(
    report: CheckReport, short: Any, weights: Any, query: Callable, degree: int, num_directions: int
) -> CheckReport:
    run = stepwise(short)
    failure = None if run is None else run.first_failure(weights)
    if failure is not None:
        return dataclasses.replace(report, findings=(*report.findings, _plain("not finite", str(failure))))
    findings = _with_counts(list(report.findings), piecewise_report(short, weights))
    try:
        profile = stability_profile(
            lambda w: short(jnp.asarray(w, weights.dtype)),
            query,
            degree,
            num_directions,
            Examples(len(weights)),
            progress=False,
        )
    except FloatingPointError as error:
        findings.append(_plain("not finite", _failure_along(short, weights, degree) or str(error)))
        profile = None
    except (FlatTraining, FlatQuery) as error:  # as only numbers tell: carried by a loop, and zero all the same
        kind = "no dependence" if isinstance(error, FlatTraining) else "flat query"
        fix = SMOOTH_TRAINING if isinstance(error, FlatTraining) else FIXES["flat query"]
        findings.append(Finding(kind, "", str(error).partition(". ")[0], fix))
        profile = None
    return dataclasses.replace(report, findings=tuple(findings), stability=profile)


def _with_counts(findings: list[Finding], counts: dict[str, int]) -> list[Finding]:
    """The findings with how many decisions lay on a kink."""
    extremes = {site.partition(" at ")[2] for site in counts if re.match("(reduce_)?(max|min) at", site)}
    for site, count in counts.items():
        name, _, place = site.partition(" at ")
        if not count or (name == "eq" and place in extremes):  # the derivative of a maximum asks which side it equals
            continue
        message = f"{count} decision{'s' * (count > 1)} exactly on the kink"
        same = [i for i, f in enumerate(findings) if f.kind == "kink" and f.where.split(", called from")[0] == site]
        for i in same:
            findings[i] = dataclasses.replace(findings[i], message=message)
        if not same:
            findings.append(Finding("kink", site, message, FIXES["kink"]))
    return findings


def _failure_along(short: Any, weights: Any, degree: int) -> str:
    """Which step breaks the series, along one random direction."""
    run = stepwise(short)
    if run is None:
        return ""
    direction = jax.random.normal(jax_key("check direction", 0), weights.shape, weights.dtype) / len(weights) ** 0.5
    return str(run.first_failure(weights, direction, degree) or "")


def _query(train: Any) -> Callable:
    run = stepwise(train)
    if run is None:
        return _squared_norm
    first = run.batches[0][run.batches[0] >= 0]
    return run.query(jax.tree.map(lambda x: x[first], run.examples))


def _squared_norm(out: Any) -> Any:
    return sum((jnp.sum(x.astype(wide(x.dtype)) ** 2) for x in jax.tree.leaves(out)), start=jnp.zeros(()))
