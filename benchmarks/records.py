"""What every subject shares: records, timing in turns, kept sketches, scores."""

from __future__ import annotations

import random
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from scipy.stats import spearmanr

import sketchlearn as sl


class Record(NamedTuple):
    """One measured number.

    Attributes:
        id: subject and label, for a program to find.
        label: what was measured.
        value: the number, or what happened in its place.
        unit: of the value.
        reference: what it is over, or what to hold it against.
        machine: where, with which JAX, on which names.
    """

    id: str
    label: str
    value: float | str
    unit: str
    reference: str
    machine: str


class Subject(NamedTuple):
    """A function that measures, and the unit and reference of its labels: the first pattern that fits decides."""

    measure: Callable
    units: tuple[tuple[str, str, str], ...]

    def records(self, figures: dict[str, Any], machine: str) -> list[Record]:
        """The figures by label, as records."""
        out = []
        for label, value in figures.items():
            unit, reference = next((unit, of) for pattern, unit, of in self.units if re.search(pattern, label))
            name = re.sub(r"[^a-z0-9]+", "-", label.lower()).strip("-")
            out.append(Record(f"{self.measure.__name__}/{name}", label, value, unit, reference, machine))
        return out


SUBJECTS: dict[str, Subject] = {}


def subject(*units: tuple[str, str, str]) -> Callable:
    """Make a function, which returns numbers by label, known by its name."""

    def known(measure: Callable) -> Callable:
        SUBJECTS[measure.__name__] = Subject(measure, units)
        return measure

    return known


class Cache:
    """Where sketches are kept, to go on after a stop."""

    folder: Path | None = None


def interleaved(programs: dict, repeats: int = 5) -> dict[str, float]:
    """The smallest time of each compiled program, all measured in turns."""
    times: dict = {name: [] for name in programs}
    for _ in range(repeats):
        for name, run in programs.items():
            start = time.perf_counter()
            jax.block_until_ready(run())
            times[name].append(time.perf_counter() - start)
    return {name: min(t) for name, t in times.items()}


def compiled(f, *args):
    """The program ready to run, and the seconds that compiling took."""
    lowered = jax.jit(f).lower(*args)
    start = time.perf_counter()
    program = lowered.compile()
    return program, time.perf_counter() - start


def bind(program, *args):
    """The program on these arguments, as a function of nothing."""
    return lambda: program(*args)


def kept_sketch(name, *args, **options):
    """A sketch, kept under this name where there is a cache."""
    return sl.sketch(*args, progress=False, store=Cache.folder / name if Cache.folder else None, **options)


def rms(x):
    return float(np.sqrt(np.mean(np.square(x))))


def held_out_names(experiment, names, count=20):
    """The names that follow the training set in the shuffled list."""
    documents = sl.datasets.load_names(names)
    random.Random(42).shuffle(documents)
    return documents[experiment.num_examples : experiment.num_examples + count]


def retrained(experiment, query, deletions):
    """The query after training without each deletion, (B, names)."""
    return sl.retrain(experiment.train, 1 - np.asarray(deletions), query, dtype=experiment.dtype).astype(np.float64)


def sums_of_retrainings(train, space, query, asked, order, dtype):
    """What retraining without each coordinate, and without each pair of them, adds up to."""
    bank = sl.RetrainBank(None, train, {}, space, dtype=dtype)
    return sl.baselines.CoordinateSums(bank, order).predict(query, asked).value


def within_intervals(found, truth):
    """Where the 95% interval holds the truth, to the rounding of a float32 training (1e-5 nats): exact parts have
    intervals of no width."""
    low, high = found.interval(0.95)
    return (low - 1e-5 <= truth) & (truth <= high + 1e-5)


def lds_of_sets(found, truth, sets):
    """Rank correlations averaged over test names, one of each set of deletions, (sets,)."""
    pairs = zip(np.split(np.asarray(found), sets), np.split(truth, sets), strict=True)
    return np.array([np.mean([spearmanr(*ab).statistic for ab in zip(f.T, t.T, strict=True)]) for f, t in pairs])
