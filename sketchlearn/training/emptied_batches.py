"""Batches that a deletion empties, in runs that divide by the sum of a batch's weights.

``Σ_i w_i l_i / Σ_i w_i`` is not defined where all weights are zero; the step is then skipped. No series sees that
coming: where all weights of a batch are one and the same number, the mean does not depend on it at all.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from sketchlearn.deletions.base import Space
from sketchlearn.deletions.groups import Groups
from sketchlearn.runtime.seeds import stream
from sketchlearn.training.batches import PADDING
from sketchlearn.training.program import weighted_mean_batches

PROBES = 3  # random coordinates; examples that all of them weight alike have the same row of G
ALIKE = 1e-5  # relative; embedding rounds in float32
SHOWN = 5
WAYS = (
    'use reduction="mean", which asks what is left with an empty place; or let every batch mix what may be deleted '
    "(larger batches, drop_last=True for a last one that is too small, other groups)"
)


def check_emptying(train: Any, space: Space) -> None:
    """Refuse a run in which one coordinate of the space is all of a batch."""
    if text := emptying(train, space):
        raise ValueError(f"{text}: {WAYS}.")


def emptying(train: Any, space: Space) -> str:
    """Which batches one coordinate of the space can empty, in words; nothing if there is none."""
    batches = weighted_mean_batches(train)
    if batches is None:
        return ""
    numbers = _of_one_coordinate(batches, space)
    if not len(numbers):
        return ""
    batch = batches[numbers[0]]
    names = dict.fromkeys(_name(space, int(i)) for i in batch[batch != PADDING])
    more = f" ({len(numbers)} of {len(batches)} batches are like it)" if len(numbers) > 1 else ""
    return (
        f"batch {numbers[0]} holds nothing but {' and '.join(names)}{more}, whose weight cancels in a weighted mean: "
        "the series does not see a deletion that retraining answers by leaving out the step"
    )


def emptied(batches: np.ndarray, x: np.ndarray) -> list[np.ndarray]:
    """For each deletion vector (B, n) the batches of which it leaves nothing."""
    distinct, number = np.unique(np.sort(batches, 1), axis=0, return_index=True)
    present = distinct != PADDING
    out = []
    for row in x:
        left = ((1 - row)[np.maximum(distinct, 0)] * present).sum(1)
        out.append(np.sort(number[left <= ALIKE * present.sum(1)]))
    return out


def emptied_in_words(batches_of: list[np.ndarray]) -> str:
    """What to say of predictions of which some empty batches; nothing if none does."""
    count = sum(len(numbers) > 0 for numbers in batches_of)
    if not count:
        return ""
    numbers = np.unique(np.concatenate(batches_of))
    shown = ", ".join(map(str, numbers[:SHOWN])) + (", .." if len(numbers) > SHOWN else "")
    named = f"batch{'es' * (len(numbers) > 1)} {shown}"
    return (
        f"{count} of {len(batches_of)} deletions leave{'s' * (count == 1)} nothing of a batch ({named}): retraining "
        "skips that step, which no series of a weighted mean foresees. Their errors are unknown (NaN): retrain."
    )


def _of_one_coordinate(batches: np.ndarray, space: Space) -> np.ndarray:
    """The batches whose examples all have one and the same row of G, that is not zero."""
    z = stream("probed coordinates", 0).uniform(1, 2, (PROBES, space.dim)) * [[1], [1], [-1]]
    x = np.asarray(space.embed(z), np.float64)[:, np.maximum(batches, 0)]  # (PROBES, T, B)
    present, size = batches != PADDING, np.abs(x).max()
    first = np.take_along_axis(x, np.broadcast_to(present.argmax(1)[None, :, None], (PROBES, len(batches), 1)), 2)
    same = (~present | (np.abs(x - first).max(0) <= ALIKE * size)).all(1)
    return np.flatnonzero(same & (np.abs(first[..., 0]).max(0) > ALIKE * size))


def _name(space: Space, example: int) -> str:
    return f"group {space.names[space.membership[example]]!r}" if isinstance(space, Groups) else f"example {example}"
