"""Predictions against retraining: how right a method is, and what it costs in plain trainings."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from sketchlearn.errors import check_count, check_seed
from sketchlearn.evaluation.result import Evaluation
from sketchlearn.evaluation.scores import score
from sketchlearn.evaluation.storage import held_bytes
from sketchlearn.execution.progress import track
from sketchlearn.execution.runs import plain_program
from sketchlearn.execution.timing import priced
from sketchlearn.runtime.programs import jit
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
    seed: int = 0,
    progress: bool = False,
) -> Evaluation:
    """Compare predictions with retraining, in the unit of the query, and price them in plain trainings.

    ``LDS``: Spearman's correlation of predicted and true changes over the deletions of a set, averaged over the
    queries; its interval is a bootstrap over deletions, moved so that its mean is the LDS itself.

    Args:
        methods: name -> anything with ``predict(query, delete)``, or a function of nothing that makes it and whose
            running time is the precomputation. One that learned from retrainings says from which in an attribute
            ``seen_deletions``, (B, n): test deletions among them are counted, and a warning says so.
        bank: the truth; it retrains what it does not hold.
        query: parameters -> number or array; every output counts as one query.
        deletions: name of a set -> a stack of B deletions, as the spaces of the methods read them.
        names: of the query's outputs.
        only: method -> the sets it can be asked for, where these are not all.
        level: of the intervals, of coverage and bootstrap.
        resamples: of the bootstrap.
        seed: its seed.
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
    _check(methods, bank, query, deletions, level, resamples)
    only, rng = only or {}, stream("bootstrap", check_seed(seed))
    unknown = [n for n in only if n not in methods] + [d for sets in only.values() for d in sets if d not in deletions]
    if unknown:
        raise ValueError(f"`only` names {unknown}, which are neither methods nor sets of deletions.")
    baseline = np.asarray(jit(query)(bank.plain), np.float64)
    sets = {label: _test_set(bank, query, stack, baseline) for label, stack in deletions.items()}
    labels = [str(i) for i in range(baseline.size)] if names is None else list(names)
    if len(labels) != baseline.size:
        raise ValueError(f"the query has {baseline.size} outputs, but {len(labels)} names were given.")

    plain = _PlainRun(bank)
    rows: list[dict[str, Any]] = []
    single: list[dict[str, Any]] = []
    warnings: dict[str, list[str]] = {}
    prices: dict[str, dict[str, float]] = {}
    for name, method in track(list(methods.items()), "evaluating", "method", total=len(methods), show=progress):
        asked = {label: sets[label] for label in only.get(name, sets)}
        answers, prices[name], notes = _ask(name, method, bank, query, asked, baseline.size, plain)
        for label, answer in answers.items():
            asked_for = sets[label]
            guess = answer.prediction.change.reshape(asked_for.truth.shape)
            row, each_query = score(guess, asked_for.truth, answer.prediction, level, resamples, rng)
            if answer.seen:
                notes.append(
                    f"made from the retrained values of {answer.seen} of the {len(guess)} deletions of {label!r}: for "
                    "these it is no prediction."
                )
            about = {
                "method": name, "deletions": label, "count": len(guess), "seen": answer.seen, "share": asked_for.share
            }  # fmt: skip
            rows.append(about | row)
            single += [
                {"method": name, "deletions": label, "query": q, **of} for q, of in zip(labels, each_query, strict=True)
            ]
        warnings[name] = notes
    unit = plain.seconds()
    for row in rows:
        own = prices[str(row["method"])]
        row.update({k: v if k in ("compile_seconds", "storage") else v / unit for k, v in own.items()})
    return Evaluation(rows, single, unit, warnings)


class _TestSet(NamedTuple):
    """Deletions with the changes that retraining gave."""

    stack: list[Any]  # as the spaces of the methods read them
    truth: np.ndarray  # (B, Q)
    share: float  # of the examples that is deleted, mean
    vectors: np.ndarray  # (B, n)


class _Answer(NamedTuple):
    """What a method said of a set, and how many of its deletions the method was made from."""

    prediction: Any
    seen: int


def _check(methods: Any, bank: Any, query: Any, deletions: Any, level: Any, resamples: Any) -> None:
    """Say what is wrong with the arguments, before anything is retrained."""
    for what, given in (("methods", methods), ("deletions", deletions)):
        if not isinstance(given, Mapping):
            raise TypeError(f"{what} must be a dict from names, got {type(given).__name__}.")
    if not isinstance(bank, RetrainBank):
        raise TypeError(f"bank must be a RetrainBank, the truth to compare with, got {type(bank).__name__}.")
    if not methods or not deletions:
        raise ValueError("give at least one method and one set of deletions.")
    if not 0 < level < 1:
        raise ValueError(f"level must be between 0 and 1, got {level!r}.")
    check_count("resamples", resamples)
    if any(getattr(method, "differentiates", False) for method in methods.values()):
        check_smooth_query(query, bank.plain)


def _test_set(bank: RetrainBank, query: Callable, stack: Any, baseline: np.ndarray) -> _TestSet:
    x = np.asarray(bank.space.embed(np.atleast_2d(bank.space.locate(stack))), np.float64)
    truth = (bank.evaluated(query, 1 - x) - baseline).reshape(len(x), -1)
    return _TestSet(list(stack), truth, float(x.mean()), x)


def _ask(
    name: str,
    method: Any,
    bank: RetrainBank,
    query: Callable,
    sets: dict[str, _TestSet],
    outputs: int,
    plain: _PlainRun,
) -> tuple[dict[str, _Answer], dict[str, float], list[str]]:
    """Make a method if need be, and ask it for every set: its answers, prices and warnings."""
    plain.run()
    made, making = (method, None) if hasattr(method, "predict") else priced(method)
    plain.run()
    if not hasattr(made, "predict"):
        raise TypeError(f"method {name!r} has no predict(query, delete), nor does it make one.")
    # before it is asked: what it finds out on the way is not needed to go on; retraining needs nothing
    held = held_bytes(bank.plain if isinstance(made, RetrainBank) else made)
    first, begin = priced(functools.partial(made.predict, query, next(iter(sets.values())).stack[:1]))
    answers, running, compiling = {}, 0.0, begin.compiling + (0.0 if making is None else making.compiling)
    for label, asked in sets.items():
        prediction, cost = priced(functools.partial(made.predict, query, asked.stack))
        seen = 0 if isinstance(made, RetrainBank) else _seen(made, asked.vectors)
        answers[label] = _Answer(prediction, seen)
        running, compiling = running + cost.running, compiling + cost.compiling
    each, of_query = running / sum(len(asked.stack) for asked in sets.values()), begin.running
    if isinstance(made, RetrainBank):  # its answers were stored: what they cost is measured again
        each, of_query = _retraining_seconds(bank), 0.0
    seconds = {
        "precomputation": np.nan if making is None else making.running,
        "per_query": max(of_query - each, 0.0) / outputs,
        "per_deletion": each,
        "compile_seconds": compiling,
        "storage": held / sum(np.asarray(leaf).nbytes for leaf in jax.tree.leaves(bank.plain)),
    }
    texts = {text for answer in answers.values() for text in answer.prediction.warnings} | set(first.warnings)
    return answers, seconds, sorted(texts)


class _PlainRun:
    """The unit of all prices: one plain training, run again between the methods."""

    def __init__(self, bank: RetrainBank):
        ones = jnp.ones(bank.space.num_examples, bank.dtype)
        program = plain_program(bank.train).compiled(ones)
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
