"""Predictions against retraining: how right a method is, and what it costs in plain trainings."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from sketchlearn.errors import check_count, check_key
from sketchlearn.evaluation.result import Evaluation
from sketchlearn.evaluation.scores import score as _score
from sketchlearn.execution.progress import track
from sketchlearn.execution.timing import Price, priced
from sketchlearn.runtime.precision import jit
from sketchlearn.runtime.seeds import stream
from sketchlearn.training.program import check_smooth_query
from sketchlearn.truth.bank import RetrainBank
from sketchlearn.truth.retrain import retrain


def evaluate(
    methods: Mapping[str, Any],
    bank: RetrainBank,
    query: Callable,
    deletions: Mapping[str, Any],
    names: Sequence[str] | None = None,
    only: Mapping[str, Sequence[str]] | None = None,
    level: float = 0.95,
    resamples: int = 1000,
    key: int = 0,
    progress: bool = False,
) -> Evaluation:
    """Compare predictions with retraining, in the unit of the query, and price them in plain trainings.

    ``LDS``: Spearman's correlation of predicted and true changes over the deletions of a set, averaged over the
    queries; its interval is a bootstrap over deletions, moved so that its mean is the LDS itself.

    Args:
        methods: name -> anything with ``predict(query, delete)``, or a function of nothing that makes it and whose
            running time is the precomputation. One that learned from retrainings says from which in an attribute
            ``seen_deletions``, (B, n): test deletions among them are counted, and a warning says so.
        bank: the truth; it trains again what it does not hold.
        query: parameters -> number or array; every output counts as one query.
        deletions: name of a set -> a stack of B deletions, as the spaces of the methods read them.
        names: of the query's outputs.
        only: method -> the sets it can be asked for, where these are not all.
        level: of the intervals, of coverage and bootstrap.
        resamples: of the bootstrap.
        key: its seed.
        progress: show a progress bar.

    Returns:
        An :class:`Evaluation`.

    Example:
        >>> import jax.numpy as jnp, numpy as np, sketchlearn as sl
        >>> train, space = lambda w: w @ jnp.arange(4.0), sl.Examples(4)
        >>> bank = sl.RetrainBank(None, train, {}, space)
        >>> found = sl.evaluate({"gradient": lambda: sl.baselines.Metagradient(train, space)}, bank,
        ...                     lambda p: p, {"single": np.eye(4, dtype=bool)}, resamples=10)
        >>> found.rows[0]["lds"], found.rows[0]["rmse"] < 1e-6
        (1.0, True)

    Source: the linear datamodelling score is of Park et al., "TRAK" (2023), arXiv:2303.14186.
    """
    for what, given in (("methods", methods), ("deletions", deletions)):
        if not isinstance(given, Mapping):
            raise TypeError(f"{what} must be a dict from names, got {type(given).__name__}.")
    if not isinstance(bank, RetrainBank):
        raise TypeError(f"bank must be a RetrainBank, the truth to compare with, got {type(bank).__name__}.")
    if not methods or not deletions:
        raise ValueError("give at least one method and one set of deletions.")
    if not 0 < level < 1:
        raise ValueError(f"level must be between 0 and 1, got {level!r}.")
    only, rng = only or {}, stream("bootstrap", check_key(key))
    unknown = [n for n in only if n not in methods] + [d for sets in only.values() for d in sets if d not in deletions]
    if unknown:
        raise ValueError(f"`only` names {unknown}, which are neither methods nor sets of deletions.")
    check_count("resamples", resamples)
    if any(getattr(method, "differentiates", False) for method in methods.values()):
        check_smooth_query(query, bank.plain)  # before anything is trained again
    baseline = np.asarray(jit(query)(bank.plain), np.float64)
    stacks, truth, share, vectors = {}, {}, {}, {}
    for label, stack in deletions.items():
        z = np.atleast_2d(bank.space.locate(stack))
        x = np.asarray(bank.space.embed(z), np.float64)
        stacks[label], share[label], vectors[label] = list(stack), float(x.mean()), x
        truth[label] = (bank.evaluated(query, 1 - x) - baseline).reshape(len(x), -1)
    outputs = baseline.size
    labels = [str(i) for i in range(outputs)] if names is None else list(names)
    if len(labels) != outputs:
        raise ValueError(f"the query has {outputs} outputs, but {len(labels)} names were given.")

    plain = _PlainRun(bank)
    rows: list[dict[str, Any]] = []
    single: list[dict[str, Any]] = []
    warnings: dict[str, list[str]] = {}
    prices: dict[str, tuple[dict[str, float], float]] = {}
    for name, method in track(list(methods.items()), "evaluating", "method", total=len(methods), show=progress):
        plain.run()
        made, before = (method, None) if hasattr(method, "predict") else priced(method)
        plain.run()
        if not hasattr(made, "predict"):
            raise TypeError(f"method {name!r} has no predict(query, delete), nor does it make one.")
        asked = list(only.get(name, stacks))
        first, begin = priced(functools.partial(made.predict, query, stacks[asked[0]][:1]))
        answers, rest = {}, Price(0.0, 0.0)
        for label in asked:
            answers[label], cost = priced(functools.partial(made.predict, query, stacks[label]))
            rest = Price(rest.running + cost.running, rest.compiling + cost.compiling)
        each = rest.running / sum(len(stacks[d]) for d in asked)
        if isinstance(made, RetrainBank):  # its answers were stored: what they cost is measured again
            each, begin = _retraining_seconds(bank), Price(0.0, begin.compiling)
        spent = {
            "precomputation": np.nan if before is None else before.running,
            "per_query": max(begin.running - each, 0.0) / outputs,
            "per_deletion": each,
        }
        compiling = (0.0 if before is None else before.compiling) + begin.compiling + rest.compiling
        prices[name] = (spent, compiling)
        warnings[name] = sorted({text for answer in answers.values() for text in answer.warnings} | set(first.warnings))
        for label, answer in answers.items():
            guess = answer.change.reshape(truth[label].shape)
            row, each_query = _score(guess, truth[label], answer, level, resamples, rng)
            known = 0 if isinstance(made, RetrainBank) else _seen(made, vectors[label])
            if known:
                warnings[name].append(
                    f"made from the retrained values of {known} of the {len(guess)} deletions of {label!r}: for these "
                    "it is no prediction."
                )
            about = {"method": name, "deletions": label, "count": len(guess), "seen": known, "share": share[label]}
            rows.append(about | row)
            for q, found in zip(labels, each_query, strict=True):
                single.append({"method": name, "deletions": label, "query": q, **found})
    unit = plain.seconds()
    for row in rows:
        own, seconds = prices[str(row["method"])]
        row.update({k: v / unit for k, v in own.items()}, compile_seconds=seconds)
    return Evaluation(rows, single, unit, warnings)


class _PlainRun:
    """The unit of all prices: one plain training, run again between the methods."""

    def __init__(self, bank: RetrainBank):
        ones = jnp.ones(bank.space.num_examples, bank.dtype)
        program = jit(bank.train).lower(ones).compile()
        self._work = lambda: jax.block_until_ready(program(ones))
        self._work()
        self._times: list[float] = []

    def run(self) -> None:
        self._times.append(priced(self._work)[1].running)

    def seconds(self) -> float:
        return float(np.median(self._times))


def _retraining_seconds(bank: RetrainBank) -> float:
    """Seconds of one retraining among a block of the bank's size."""
    rows = np.full((bank.batch_size, bank.space.num_examples), 0.5)
    return priced(lambda: retrain(bank.train, rows, batch_size=bank.batch_size, dtype=bank.dtype))[1].running / len(
        rows
    )


def _seen(method: Any, x: np.ndarray) -> int:
    """How many deletion vectors (B, n) are among those that a method was made from."""
    known = getattr(method, "seen_deletions", None)
    if known is None:
        return 0
    rows = {row.tobytes() for row in np.round(np.asarray(known, np.float64), 9) + 0.0}  # no minus zero
    return sum(row.tobytes() in rows for row in np.round(x, 9) + 0.0)
