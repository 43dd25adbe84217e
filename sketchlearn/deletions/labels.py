"""Labels of examples: which values can name a group, and which group each example belongs to."""

from __future__ import annotations

import datetime
from typing import Any

import jax
import numpy as np

TRUTH, WHOLE, NUMBER, TEXT, DAY, TIME = "truth values", "whole numbers", "numbers", "text", "days", "times"
CONTAINERS = (tuple, list, set, frozenset, dict, range, np.ndarray, jax.Array)
SHOWN = 10  # positions in a message


def plain(value: Any) -> Any:
    """A scalar of NumPy or JAX as Python's; everything else as it is."""
    if isinstance(value, (np.ndarray, jax.Array)) and value.ndim == 0:
        value = np.asarray(value)[()]
    if isinstance(value, np.datetime64):
        coarse = value if np.datetime_data(value)[0] in "YMWD" else value.astype("datetime64[us]")
        value_of_day = coarse.astype("datetime64[D]").tolist() if coarse is value else coarse.tolist()
        # Python has no finer times than microseconds, and no years above 9999
        return value_of_day if isinstance(value_of_day, datetime.date) and coarse == value else value
    return value.item() if isinstance(value, np.generic) and value.dtype.kind in "biufUS" else value


def kind(value: Any) -> str:
    """What sort of a label a plain value is: values of two kinds are never the same label."""
    if isinstance(value, bool):
        return TRUTH
    if isinstance(value, int):
        return WHOLE
    if isinstance(value, (float, np.floating)):
        return NUMBER
    if isinstance(value, str):
        return TEXT
    if isinstance(value, datetime.date):
        return TIME if isinstance(value, datetime.datetime) else DAY
    return f"values of type {type(value).__name__}"


def key(value: Any) -> Any:
    """What a label is looked up by: a day is its first moment, so that pandas' days are found by Python's."""
    return datetime.datetime.combine(value, datetime.time()) if kind(value) == DAY else value


def grouped(labels: Any) -> tuple[list[Any], np.ndarray, str]:
    """The names of the groups in order, the number of each example's group (n,), and the kind of the names.

    Args:
        labels: the group of each example: truth values, numbers, text, days or times, or other values of one type
            that can be compared. Missing values and mixtures are refused.

    Example:
        >>> names, membership, kind = grouped(["b", "a", "b"])
        >>> names, membership.tolist(), kind
        (['a', 'b'], [1, 0, 1], 'text')
    """
    listed = isinstance(labels, (list, tuple))
    if listed and any(isinstance(v, tuple) for v in labels):
        raise ValueError(
            "a label is one value, got a tuple: join its parts, for instance '/'.join(map(str, label)), or number "
            "the groups."
        )
    if listed and not any(isinstance(v, (list, range, np.ndarray, jax.Array)) and np.ndim(v) for v in labels):
        array = np.empty(len(labels), object)  # as they are: NumPy would turn 1 and "1" into the same text
        array[:] = labels
    else:
        try:
            array = np.asarray(labels)
        except ValueError as error:
            raise ValueError(f"labels must be a list with the group of every example ({error}).") from error
    if array.ndim != 1 or not len(array):
        raise ValueError(f"labels must be a list with the group of every example, got shape {array.shape}.")
    if array.dtype.kind in "biuU":
        names, membership = np.unique(array, return_inverse=True)
        return names.tolist(), membership, {"b": TRUTH, "U": TEXT}.get(array.dtype.kind, WHOLE)
    return _by_value([plain(v) for v in array])


def _by_value(values: list[Any]) -> tuple[list[Any], np.ndarray, str]:
    missing = [i for i, value in enumerate(values) if is_missing(value)]
    if missing:
        raise ValueError(
            f"{len(missing)} examples have no label ({values[missing[0]]!r}): {missing[:SHOWN]}"
            f"{' ...' if len(missing) > SHOWN else ''}. Give them one, for instance 'unknown', "
            "or each its own if they are not to be deleted together."
        )
    kinds = {kind(value): value for value in values}
    if set(kinds) == {WHOLE, NUMBER}:
        values, kinds = [float(value) for value in values], {NUMBER: 0.0}
    if len(kinds) > 1:
        (one, a), (two, b), *_ = kinds.items()
        raise TypeError(f"labels are of one kind, these mix {one} ({a!r}) and {two} ({b!r}): write str(...) of each.")
    (only, example), *_ = kinds.items()
    if isinstance(example, (*CONTAINERS, np.datetime64)):
        what = "a time finer than microseconds" if isinstance(example, np.datetime64) else f"{example!r}"
        raise TypeError(f"a label is one value (text, a number, a day), got {what}: write it as text, or round it.")
    try:
        names = sorted({key(value): value for value in values}.values())
        number = {key(name): i for i, name in enumerate(names)}
    except TypeError as error:
        raise TypeError(f"labels must be values that can be compared ({error}): write str(...) of each.") from error
    return names, np.array([number[key(value)] for value in values]), only


def is_missing(value: Any) -> bool:
    """Whether a label is None, NaN, NaT or pandas' NA: none of them says which group is meant."""
    if value is None:
        return True
    try:
        return bool(value != value)
    except TypeError:  # NA is neither equal to itself nor unequal
        return True
    except ValueError:  # an array
        return False
