"""What a sketch, or any other method, says about deletions."""

from __future__ import annotations

import dataclasses
from statistics import NormalDist
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Bool, Float

from sketchlearn.prediction.base import Estimate
from sketchlearn.prediction.known import Exact

if TYPE_CHECKING:
    Values = np.ndarray
else:
    Values = Float[np.ndarray, "..."] | np.floating  # one number is NumPy's scalar


@dataclasses.dataclass(frozen=True, eq=False)
class Prediction:
    """What a sketch says about deletions, in the unit of the query.

    Shapes are for one deletion and a scalar query; a stack of B deletions adds a leading axis B,
    a query with several outputs adds its own axes last.

    Attributes:
        value: the query after the deletion, ``baseline + change``.
        baseline: the query with nothing deleted (exact).
        change: ``exact_change``, the sum of the orders used, and ``shrunk_change``.
        terms: (k,), the estimated Taylor terms ``P_1(x) .. P_k(x)``; of an additive sketch those of interactions.
        standard_errors: (k,), of each term.
        standard_error: of the change.
        truncation: estimated size of the orders left out, and of what ``shrunk_change`` leaves of them.
        orders_used: (k,) booleans.
        warnings: what the reader should know, in words.
        exact_change: the part of the change that was retrained for, not estimated: the step to the centre, and what
            each coordinate does by itself; 0 for a plain sketch.
        estimated_by: (k,), how each order was estimated, in words.
        shrunk_change: what is said of the orders not used: what a fit explains of directions it has not seen, and of
            the noisy rest the share that is expected not to be noise. Pulled towards zero, and closer to the truth
            than zero or the estimate itself in the mean over deletions, if not at every one.
    """

    value: Values
    baseline: Float[np.ndarray, "..."]
    change: Values
    terms: Float[np.ndarray, "..."]
    standard_errors: Float[np.ndarray, "..."]
    standard_error: Values
    truncation: Values
    orders_used: Bool[np.ndarray, "..."]
    warnings: tuple[str, ...]
    exact_change: Values | float = 0.0
    estimated_by: tuple[str, ...] = ()
    shrunk_change: Values | float = 0.0

    def interval(self, level: float = 0.95) -> tuple[Values, Values]:
        """Lower and upper end: ``value ± z · sqrt(standard_error² + truncation²)``, z the normal quantile."""
        if not 0 < level < 1:
            raise ValueError(f"level must be between 0 and 1, got {level!r}.")
        width = NormalDist().inv_cdf((1 + level) / 2) * np.hypot(self.standard_error, self.truncation)
        return self.value - width, self.value + width


def assemble(
    estimate: Estimate,
    exact: Exact,
    baseline: Float[np.ndarray, "*S"],
    stacked: bool,
    used: Bool[np.ndarray, "B k Q"],
    missing: Float[np.ndarray, "B Q"],
    decays: Bool[np.ndarray, "B Q"],
) -> Prediction:
    """The prediction that estimated terms make.

    Args:
        estimate: of the terms of B deletions, exact parts included, with the query's outputs flattened.
        exact: what is known without it.
        baseline: the query with nothing deleted, in its own shape.
        stacked: whether a stack of deletions was asked for, or one.
        used: (B, k, Q), which terms to use.
        missing: (B, Q), the size of what it leaves out.
        decays: (B, Q), whether the used terms decay.
    """
    errors = estimate.standard_errors
    summed = (estimate.terms * used).sum(1) if estimate.change is None else estimate.change
    shrunk = np.zeros_like(exact.change) if estimate.shrunk is None else (estimate.shrunk * ~used).sum(1)
    change = exact.change + summed + shrunk
    spread = np.sqrt(np.maximum(np.einsum("brsq,brq,bsq->bq", estimate.covariance, used, used), 0))
    estimated_by = (exact.source or estimate.estimated_by[0], *estimate.estimated_by[1:])

    def shaped(array: np.ndarray) -> Any:
        full = array.reshape(*array.shape[:-1], *baseline.shape)
        return full if stacked else full[0]

    return Prediction(
        value=shaped(baseline.reshape(-1).astype(np.float64) + change),
        baseline=baseline.astype(np.float64),
        change=shaped(change),
        terms=shaped(estimate.terms),
        standard_errors=shaped(errors),
        standard_error=shaped(spread),
        truncation=shaped(missing),
        orders_used=shaped(used),
        warnings=(*_warnings(estimate.terms, errors, used, decays, shrunk), *estimate.notes),
        exact_change=shaped(exact.change),
        estimated_by=estimated_by,
        shrunk_change=shaped(shrunk),
    )


def _warnings(
    terms: np.ndarray, errors: np.ndarray, used: np.ndarray, decays: np.ndarray, shrunk: np.ndarray
) -> tuple[str, ...]:
    """What a reader of these predictions should know."""
    out = []
    count = used.shape[0] * used.shape[2]
    if not used.all():
        dropped = [f"{(~used[:, r]).sum()} at order {r + 1}" for r in range(used.shape[1]) if not used[:, r].all()]
        text = f"orders dropped because noise exceeds them, of {count} predictions: {', '.join(dropped)}"
        if fitted := np.count_nonzero(shrunk):
            text += f"; shrunk estimates of them are used in {fitted}"
        out.append(text + ".")
    noisy = ((np.abs(terms[:, 0]) < errors[:, 0]) | ~used[:, 0]).sum()
    if noisy:
        out.append(
            f"noise dominates even the first order in {noisy} of {count} predictions: give that order (gradient=), ask "
            "in a smaller space (groups, candidates), or use more directions."
        )
    if not decays.all():
        out.append(
            f"the terms do not decay in {(~decays).sum()} of {count} predictions: the deletion may lie outside the "
            "radius in which the series can be trusted, or the last order is noise."
        )
    return tuple(out)
