"""The three figures of the paper, as numbers: what is drawn, and the settings that made it."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

from sketchlearn.deletions.examples import Examples
from sketchlearn.experiments.microgpt import Experiment
from sketchlearn.planning.stability import StabilityProfile, stability_profile
from sketchlearn.runtime.programs import jit
from sketchlearn.sketching.make import sketch
from sketchlearn.taylor import taylor_coefficients
from sketchlearn.truth.retrain import retrain


@dataclasses.dataclass(frozen=True, eq=False)
class Curve:
    """A query along ``s·x``, s from 0 (nothing deleted) to 1 (all of D deleted): predictions and truth.

    Attributes:
        query: the test name.
        deleted: how many names D holds.
        terms: (k,), Taylor terms at s = 1.
        fractions: (S,), the values of s of the smooth curves.
        predictions: (k + 1, S), by the orders up to 0, 1, .., k.
        deviation: (S,), one standard deviation of the highest prediction; ``None`` where it is exact.
        retrained_at: (R,), the s at which the model was retrained.
        retrained: (R,), its loss there.
        settings: what was asked for.
    """

    query: str
    deleted: int
    terms: np.ndarray
    fractions: np.ndarray
    predictions: np.ndarray
    deviation: np.ndarray | None
    retrained_at: np.ndarray
    retrained: np.ndarray
    settings: dict[str, Any]


def _names_with_an_x(experiment: Experiment) -> np.ndarray:
    if not len(experiment.deleted):
        raise ValueError(f"none of the {experiment.num_examples} training names has an x: train on more of them.")
    return experiment.deleted


def stability_figure(
    experiment: Experiment,
    degree: int = 100,
    num_directions: int = 12,
    seed: int = 0,
    query: str = "max",
    progress: bool = True,
    circles: Sequence[float] | None = None,
) -> StabilityProfile:
    """Figure 1: the norm of every Taylor order of the trained model's loss."""
    loss = experiment.query(query)
    return stability_profile(
        experiment.train, loss, degree, num_directions, seed=seed, progress=progress, circles=circles
    )


def retrain_along(
    experiment: Experiment, query: str | list[str], deleted: np.ndarray, fractions: np.ndarray
) -> np.ndarray:
    """The loss after training with the names in D down-weighted by each fraction: (R,), or (R, names) for a list."""
    x = np.zeros(experiment.num_examples)
    x[deleted] = 1
    loss = experiment.query(query)
    weights = 1 - np.outer(fractions, x)
    losses = retrain(experiment.train, weights, loss, batch_size=len(weights), dtype=experiment.dtype)
    return np.asarray(losses, np.float64)


def taylor_figure(experiment: Experiment, degree: int = 6, query: str = "max", retrainings: int = 11) -> Curve:
    """Figure 2: the exact Taylor polynomials along one deletion, against retraining.

    D is the set of names with an x.
    """
    deleted, loss = _names_with_an_x(experiment), experiment.query(query)
    direction = np.zeros(experiment.num_examples)
    direction[deleted] = -1  # the weights are 1 - s x

    def coefficients(weights: Any) -> Any:
        return taylor_coefficients(
            lambda w: loss(experiment.train(w)), weights, jnp.asarray(direction, experiment.dtype), degree
        )

    c = np.asarray(jit(coefficients)(jnp.ones(experiment.num_examples, experiment.dtype)), np.float64)
    s, at = np.linspace(0, 1, 101), np.linspace(0, 1, retrainings)
    predictions = np.stack([np.polynomial.polynomial.polyval(s, c[: r + 1]) for r in range(degree + 1)])
    truth = retrain_along(experiment, query, deleted, at)
    settings = {"degree": degree, "retrainings": retrainings, "dtype": str(experiment.dtype)}
    return Curve(query, len(deleted), c[1:], s, predictions, None, at, truth, settings)


def sketch_figure(
    experiment: Experiment,
    degree: int = 3,
    num_directions: int = 500,
    seed: int = 0,
    query: str = "max",
    estimators: Sequence[str] = ("mean",),
    retrainings: int = 11,
    progress: bool = True,
) -> list[Curve]:
    """Figure 3: the sketch's prediction along one deletion, with a band of one standard error, against retraining.

    One curve for each estimator, all of the same directions.
    """
    deleted, loss = _names_with_an_x(experiment), experiment.query(query)
    made = sketch(
        experiment.train, Examples(experiment.num_examples), degree, num_directions, seed,
        dtype=experiment.dtype, progress=progress,
    )  # fmt: skip
    s, at = np.linspace(0, 1, 101), np.linspace(0, 1, retrainings)
    x = np.zeros(experiment.num_examples)
    x[deleted] = 1
    truth = retrain_along(experiment, query, deleted, at)
    curves = []
    for estimator in estimators:
        prediction = made.predict(loss, np.outer(s[1:], x), estimator=estimator)
        used = prediction.terms * prediction.orders_used
        partial = float(prediction.baseline) + np.cumsum(np.concatenate([np.zeros((len(used), 1)), used], 1), 1)
        partial[:, -1] = (
            prediction.value
        )  # a median of sums is not the sum of the medians; and what fits say of lost orders
        predictions = np.concatenate([np.full((1, degree + 1), float(prediction.baseline)), partial]).T
        settings = {
            "degree": degree,
            "num_directions": num_directions,
            "seed": seed,
            "estimator": estimator,
            "retrainings": retrainings,
            "dtype": str(experiment.dtype),
        }
        deviation = np.concatenate([[0.0], prediction.standard_error])
        curves.append(Curve(query, len(deleted), prediction.terms[-1], s, predictions, deviation, at, truth, settings))
    return curves
