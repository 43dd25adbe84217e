"""What a command trains, and what it deletes, as they are written on the command line."""

from __future__ import annotations

import argparse
import importlib
import os
import re
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from sketchlearn.deletions.base import Space
from sketchlearn.deletions.groups import Groups
from sketchlearn.experiments import microgpt
from sketchlearn.training.program import num_examples_of


class Run(NamedTuple):
    """A training program for the command line: microgpt, or one that the user names."""

    train: Callable
    num_examples: int
    experiment: microgpt.Experiment | None = None


def program_of(args: argparse.Namespace) -> Run:
    """What the arguments ask to train."""
    if args.train is None:
        count = 1000 if args.examples is None else args.examples
        experiment = microgpt.paper_experiment(args.names, num_examples=count)
        return Run(experiment.train, experiment.num_examples, experiment)
    train = function_named(args.train)
    count = num_examples_of(train) if args.examples is None else args.examples
    if count is None:
        raise ValueError(f"how many examples {args.train} has is not known: give --examples.")
    return Run(train, int(count))


def function_named(text: str) -> Callable:
    """The function ``module:name``, where modules of the working directory are found, too."""
    module, colon, name = text.partition(":")
    if not (module and colon and name):
        raise ValueError(f"expected MODULE:NAME, got {text!r}.")
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        imported = importlib.import_module(module)
    except ImportError as error:
        raise ValueError(f"{module} cannot be imported ({error}).") from error
    if not callable(getattr(imported, name, None)):
        raise ValueError(f"{module} has no function {name!r}.")
    return getattr(imported, name)


def asked(text: str, run: Run, space: Space) -> Any:
    """What to delete, as the space reads it: groups by their letters, positions of whole groups, else positions."""
    if not isinstance(space, Groups):
        return _mask(text, run)
    letters = [letter for letter in text if letter != ","]
    if letters and all(letter.isalpha() for letter in letters):
        return letters
    return _mask(text, run)


def _mask(text: str, run: Run) -> np.ndarray:
    """The examples to delete, (n,) truth values: of two examples, positions 0 and 1 might be read as a mask."""
    positions = _positions(text, run)
    if positions.max() >= run.num_examples:
        raise IndexError(
            f"--delete names example {positions.max()}, but there are {run.num_examples} examples, 0 to "
            f"{run.num_examples - 1}."
        )
    return np.isin(np.arange(run.num_examples), positions)


def _positions(text: str, run: Run) -> np.ndarray:
    if re.fullmatch(r"[\d,\-]+", text):
        if not re.fullmatch(r"\d+(-\d+)?(,\d+(-\d+)?)*", text):
            raise ValueError(f"--delete takes positions such as 3,8,20-29, counted from 0, got {text!r}.")
        ranges = [[int(end) for end in part.split("-")] for part in text.split(",")]
        if any(ends[0] > ends[-1] for ends in ranges):
            raise ValueError(f"a range of positions goes upwards, as in 20-29, got {text!r}.")
        return np.unique(np.concatenate([np.arange(ends[0], ends[-1] + 1) for ends in ranges]))
    if run.experiment is None:
        raise ValueError(f"--delete takes positions such as 3,8,20-29 for your own program, got {text!r}.")
    chosen = run.experiment.containing(text)
    if not len(chosen):
        raise ValueError(f"none of the {run.num_examples} training names contains {text!r}.")
    return chosen
