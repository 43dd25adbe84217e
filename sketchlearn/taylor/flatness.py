"""What to say where a power series cannot answer, because nothing smooth leads from the weights to the answer.

The series of such a program is zero at every order, exactly and without noise. That is no prediction of no change: it
is refused before anything is run, or said in words where only the numbers show it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from sketchlearn.taylor.dependence import Flat, dependence, named

SMOOTH_QUERY = (
    "Ask for a smooth query: a loss, a margin (the logit of the right class less the largest of the others), or a "
    "soft accuracy, jax.nn.sigmoid(margin / temperature). Retraining (sketchlearn.retrain, RetrainBank) answers any "
    "query"
)
SMOOTH_TRAINING = (
    "use an optimizer whose steps are smooth in the gradient (adam, sgd with momentum) in place of one that takes "
    "signs (lion, sign_sgd, rprop), or a smooth function in place of the flat one (g / sqrt(g**2 + 1e-8) for sign(g))"
)
CONNECT = "multiply each example's loss by its weight, and return the trained parameters"
STOPPED = "Sketch the run instead (sketchlearn.sketch): its series passes through stop_gradient"
UNTOUCHED = (
    "it reads nothing that training changes (a constant, a parameter that no step touches or that training reaches by "
    "flat operations only, which sketchlearn.check names), or it is flat there"
)


def flat_query(flat: Sequence[Flat]) -> str:
    """Why a query that depends on the parameters through these operations only, or not at all, has no answer."""
    if not flat:
        return (
            "the query does not depend on what training returns: it is a constant, and a prediction of no change "
            "would say nothing about the training run."
        )
    return f"the query depends on the parameters only through {_blind(flat)}. {_way(flat, SMOOTH_QUERY)}."


def flat_training(flat: Sequence[Flat]) -> str:
    """Why a training program that depends on the weights through these operations only has no series."""
    if not flat:
        return f"what train returns does not depend on the weights: {CONNECT}."
    way = _way(flat, f"{SMOOTH_TRAINING[0].upper()}{SMOOTH_TRAINING[1:]}")
    return f"what train returns depends on the weights only through {_blind(flat)}. {way}."


def why_flat_training(train: Callable, weights: Any, reverse: bool = False) -> str:
    """The same of a program whose series, or derivative, was found to be zero: its flat operations are looked up."""
    of_weights = dependence(train, weights, reverse)
    return flat_training(of_weights.met if any(of_weights.reached) else of_weights.through)


def unmoved(which: np.ndarray, query: Callable | None, parameters: Any, reverse: bool = False) -> tuple[str, bool]:
    """What to say of outputs whose coefficients are all exactly zero, and whether the query has flat operations.

    Args:
        which: (Q,) booleans, the outputs.
        query: None where only its name is known.
        parameters: what it is a function of.
        reverse: whether the coefficients are JAX's own derivatives.
    """
    flat = () if query is None else dependence(query, parameters, reverse).met
    reason = f"the query passes through {_blind(flat)}" if flat else UNTOUCHED
    return f"{_outputs(which)} did not move along any direction: {reason}. {_way(flat, SMOOTH_QUERY)}.", bool(flat)


def _blind(flat: Sequence[Flat]) -> str:
    """Operations by name and place, and what derivatives see of them."""
    if any(f.name == "stop_gradient" for f in flat):
        return f"{named(flat)}: a constant to JAX's own derivatives, which are zero whatever a deletion does"
    return f"{named(flat)}: flat between jumps, so that derivatives and power series are zero whatever a deletion does"


def _way(flat: Sequence[Flat], otherwise: str) -> str:
    return STOPPED if any(f.name == "stop_gradient" for f in flat) else otherwise


def _outputs(which: np.ndarray) -> str:
    if which.all():
        return "the query" if len(which) == 1 else f"every one of the {len(which)} outputs of the query"
    numbers = np.flatnonzero(which)
    shown = ", ".join(map(str, numbers[:8])) + (", .." if len(numbers) > 8 else "")
    return f"output{'s' * (len(numbers) > 1)} {shown} of the query"
