"""The exceptions and warnings of the package, and the checks of plain arguments that raise them."""

from __future__ import annotations

from typing import Any

import numpy as np


class UnsupportedPrimitive(NotImplementedError):
    """A program uses a JAX primitive for which no Taylor rule exists, or is refused."""


class FlatQuery(ValueError):
    """A query that no smooth operation leads to from the parameters: its derivatives are zero, and say nothing."""


class FlatTraining(ValueError):
    """A training program whose parameters no smooth operation leads to from the weights."""


class StoreError(RuntimeError):
    """A stored sketch is damaged, unfinished, of other arguments, or cannot be written; the message names the file."""


class PrecisionWarning(UserWarning):
    """A number was computed, but fewer of its digits can be trusted than usual."""


LONGEST_SHOWN = 200  # letters


def shown(value: object) -> str:
    """A value as an error message shows it: its ``repr``, the beginning alone of a long one.

    Example:
        >>> shown([1, 2]), len(shown(list(range(1000))))
        ('[1, 2]', 200)
    """
    text = repr(value)
    return text if len(text) <= LONGEST_SHOWN else f"{text[: LONGEST_SHOWN - 3]}..."


def check_degree(degree: Any, lowest: int = 1) -> int:
    """Return ``degree`` as an int, or say what a degree has to be."""
    if isinstance(degree, bool) or not isinstance(degree, (int, np.integer)):
        raise TypeError(f"degree must be a whole number, got {shown(degree)} of type {type(degree).__name__}.")
    if degree < lowest:
        raise ValueError(f"degree must be at least {lowest}, got {degree}. Degree 1 is the first derivative.")
    return int(degree)


def check_count(name: str, value: Any, lowest: int = 1) -> int:
    """Return ``value`` as an int of at least ``lowest``, or say what was expected."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
        raise TypeError(f"{name} must be a whole number, got {shown(value)} of type {type(value).__name__}.")
    if value < lowest:
        raise ValueError(f"{name} must be at least {lowest}, got {value}.")
    return int(value)


def check_positive(name: str, value: Any) -> float:
    """Return ``value`` as a positive finite float, or say what was expected."""
    if isinstance(value, bool) or not isinstance(value, (int, float, np.integer, np.floating)):
        raise TypeError(f"{name} must be a number, got {shown(value)} of type {type(value).__name__}.")
    if not (np.isfinite(value) and value > 0):
        raise ValueError(f"{name} must be positive and finite, got {value}.")
    return float(value)


def check_seed(seed: Any) -> int:
    """Return ``seed`` as an int, or say what a seed has to be."""
    if check_count("seed", seed, lowest=0) >= 2**32:  # more bits would be dropped in one precision and not in the other
        raise ValueError(f"seed must be below 2**32, got {seed}.")
    return int(seed)
