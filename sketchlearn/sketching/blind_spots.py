"""What a prediction does not know and its numbers do not show: errors become NaN there, and a warning says why."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from sketchlearn.deletions.base import Space
from sketchlearn.errors import FlatQuery
from sketchlearn.prediction.known import QueryJets
from sketchlearn.prediction.result import Prediction
from sketchlearn.taylor.flatness import unmoved
from sketchlearn.training.emptied_batches import emptied, emptied_in_words

BLIND = 1e-6  # of what retraining without a coordinate shows: a series that small has not seen it coming
ROUNDING = 1e-4  # relative, of a query: a change below that may be rounding in float32
AGREES = 0.05  # relative, of a gradient and the directions; rounding in float32 makes a thousandth of a long run


def with_blind_spots(
    prediction: Prediction, jets: QueryJets, z: np.ndarray, made: Any, gradient: np.ndarray | None = None
) -> Prediction:
    """The prediction with NaN, unknown, for its errors where zero coefficients would make them a certain zero.

    Args:
        prediction: of B deletions.
        jets: the query along the directions.
        z: (B, q), the deletions' coordinates.
        made: the sketch.
        gradient: (q, Q), if the first order was given.

    Raises:
        FlatQuery: no output of the query moved, and flat operations are in the way.
    """
    where, notes = np.zeros((len(z), jets.coefficients.shape[2]), bool), []
    still = np.logical_not(jets.coefficients.any((0, 1)))
    if still.any():
        text, flat = unmoved(still, jets.query, made.parameters)
        if still.all() and flat:
            raise FlatQuery(text)
        notes.append(f"{text} The predicted change of zero has an unknown error (NaN).")
        where |= still & ~_moves_one(jets, z, made.centre)[:, None]
    if jets.singles and (text := _blind(jets, z - made.centre, where)):
        notes.append(text)
    notes += emptying_unknown(made.batches, made.space, z, where)
    if gradient is not None and not jets.singles and (text := _disagreement(gradient, jets, made.directions)):
        notes.append(text)
    if not notes:
        return prediction
    prediction = dataclasses.replace(prediction, warnings=(*prediction.warnings, *notes))
    return unknown(prediction, where)


def emptying_unknown(batches: np.ndarray | None, space: Space, z: np.ndarray, where: np.ndarray) -> list[str]:
    """What to say of deletions with coordinates z (B, q) that empty a batch; marks them in ``where``, (B, Q)."""
    if batches is None:
        return []
    gone = emptied(batches, np.asarray(space.embed(z), np.float64))
    text = emptied_in_words(gone)
    if text:
        where |= np.array([len(numbers) > 0 for numbers in gone])[:, None]
    return [text] if text else []


def unknown(prediction: Prediction, where: np.ndarray) -> Prediction:
    """The prediction with errors of NaN, which means unknown, for the deletions and outputs in ``where``, (B, Q)."""
    shape, size = np.shape(prediction.standard_error), np.size(prediction.standard_error)
    orders = np.size(prediction.standard_errors) // max(size, 1)
    where_outputs = where.reshape(shape)
    each = np.repeat(where[:, None], orders, 1).reshape(np.shape(prediction.standard_errors))
    return dataclasses.replace(
        prediction,
        standard_errors=np.where(each, np.nan, prediction.standard_errors),
        standard_error=np.where(where_outputs, np.nan, prediction.standard_error),
        truncation=np.where(where_outputs, np.nan, prediction.truncation),
    )


def _moves_one(jets: QueryJets, z: np.ndarray, centre: np.ndarray) -> np.ndarray:
    """Which deletions (B,) move one coordinate only, to an end at which an additive sketch has retrained."""
    if jets.singles is None:
        return np.zeros(len(z), bool)
    at = z - centre
    ends = (at[:, :, None] == jets.singles.positions).any(2)
    return ((at != 0).sum(1) == 1) & (ends | (at == 0)).all(1)


def _blind(jets: QueryJets, at: np.ndarray, where: np.ndarray) -> str:
    """What to say of coordinates whose series are zero though the run without them moved; marks deletions in where.

    So it is where the weights of a batch cancel, in a mean that a program of the user's own takes.
    """
    coefficients, ends = jets.singles.coefficients, np.abs(jets.singles.ends[:, 0])  # type: ignore[union-attr]
    series = np.abs(coefficients).sum(1)  # (q, Q)
    moved = (ends > ROUNDING * np.abs(jets.baseline.reshape(-1))) & jets.coefficients.any((0, 1))
    flat = moved & (series <= BLIND * ends)
    among = ((at != 0) & ((at != 0).sum(1) > 1)[:, None]).astype(float) @ flat > 0
    if not among.any():
        return ""
    where |= among
    numbers = np.flatnonzero(flat.any(1))
    shown = ", ".join(map(str, numbers[:8])) + (", .." if len(numbers) > 8 else "")
    return (
        f"coordinates {shown} have a series of zero, and yet the run without them, retrained, moved the query: they "
        "act by a jump (a weight that cancels in a mean, a kink), of which no interaction is known. Errors of "
        "deletions that hold them among others are unknown (NaN)."
    )


def _disagreement(gradient: np.ndarray, jets: QueryJets, directions: np.ndarray) -> str:
    """What to say of a gradient (q, Q) that is not the first order along the directions, ``c_1(ψ) = ψ · g``."""
    first = jets.coefficients[:, 0].astype(complex)
    off = np.sqrt((np.abs(directions @ gradient - first) ** 2).mean(0))
    size = np.sqrt((np.abs(first) ** 2).mean(0))
    wrong = np.flatnonzero(off > AGREES * size)
    if not len(wrong):
        return ""
    worst = wrong[np.argmax(off[wrong] / np.maximum(size[wrong], 1e-300))]
    return (
        f"the gradient given is not the first order that the directions show: for output {worst} of the query they "
        f"differ by {off[worst]:.2g}, where the size of the first order along a direction is {size[worst]:.2g}. Was it "
        "made with a stop_gradient on the way, at another centre, or of another query?"
    )
