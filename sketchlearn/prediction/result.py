"""What a sketch, or any other method, says about deletions."""

from __future__ import annotations

import dataclasses
from statistics import NormalDist

import numpy as np

from sketchlearn.prediction import estimation as estimators


@dataclasses.dataclass(frozen=True, eq=False)
class Prediction:
    """What a sketch says about deletions, in the unit of the query.

    Shapes are for one deletion and a scalar query; a stack of B deletions adds a leading axis B,
    a query with several outputs adds its own axes last.

    Attributes:
        value: the query after the deletion, ``baseline + change``.
        baseline: the query with nothing deleted (exact).
        change: ``known``, the sum of the orders used, and ``shrunk``.
        terms: (k,), the estimated Taylor terms ``P_1(x) .. P_k(x)``; of an additive sketch those of interactions.
        standard_errors: (k,), of each term.
        standard_error: of the change.
        truncation: estimated size of the orders left out, and of what ``shrunk`` leaves of them.
        orders_used: (k,) booleans.
        warnings: what the reader should know, in words.
        known: the part of the change that was trained for, not estimated: the step to the centre, and what each
            coordinate does alone; 0 for a plain sketch.
        how: (k,), how each order was estimated, in words.
        shrunk: what is said of the orders not used: what a fit explains of directions it has not seen, and of the
            noisy rest the share that is expected not to be noise. Pulled towards zero, and closer to the truth than
            zero or the estimate itself in the mean over deletions, if not at every one.
    """

    value: np.ndarray
    baseline: np.ndarray
    change: np.ndarray
    terms: np.ndarray
    standard_errors: np.ndarray
    standard_error: np.ndarray
    truncation: np.ndarray
    orders_used: np.ndarray
    warnings: tuple[str, ...]
    known: np.ndarray | float = 0.0
    how: tuple[str, ...] = ()
    shrunk: np.ndarray | float = 0.0

    def interval(self, level: float = 0.95) -> tuple[np.ndarray, np.ndarray]:
        """Lower and upper end: ``value ± z · sqrt(standard_error² + truncation²)``, z the normal quantile."""
        if not 0 < level < 1:
            raise ValueError(f"level must be between 0 and 1, got {level!r}.")
        width = NormalDist().inv_cdf((1 + level) / 2) * np.hypot(self.standard_error, self.truncation)
        return self.value - width, self.value + width


def predict_from(
    found: estimators.Terms,
    baseline: np.ndarray,
    known: np.ndarray,
    stacked: bool,
    used: np.ndarray,
    missing: np.ndarray,
    decays: np.ndarray,
) -> Prediction:
    """The prediction that estimated terms make.

    Args:
        found: terms of B deletions, with the query's outputs flattened.
        baseline: the query with nothing deleted, in its own shape.
        known: (B, Q), the part of the change that is no estimate.
        stacked: whether a stack of deletions was asked for, or one.
        used: (B, k, Q), which terms to use.
        missing: (B, Q), the size of what it leaves out.
        decays: (B, Q), whether the used terms decay.
    """
    errors = estimators.standard_errors(found)
    change = known + ((found.terms * used).sum(1) if found.change is None else found.change)
    shrunk = np.zeros_like(change) if found.shrunk is None else (found.shrunk * ~used).sum(1)
    change = change + shrunk
    spread = np.sqrt(np.maximum(np.einsum("brsq,brq,bsq->bq", found.covariance, used, used), 0))

    def shaped(array: np.ndarray) -> np.ndarray:
        full = array.reshape(*array.shape[:-1], *baseline.shape)
        return full if stacked else full[0]

    return Prediction(
        value=shaped(baseline.reshape(-1).astype(np.float64) + change),
        baseline=baseline.astype(np.float64),
        change=shaped(change),
        terms=shaped(found.terms),
        standard_errors=shaped(errors),
        standard_error=shaped(spread),
        truncation=shaped(missing),
        orders_used=shaped(used),
        warnings=_warnings(found.terms, errors, used, decays, shrunk),
        known=shaped(known),
        shrunk=shaped(shrunk),
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
    noisy = (np.abs(terms[:, 0]) < errors[:, 0]).sum()
    if noisy:
        out.append(f"noise dominates even the first order in {noisy} of {count} predictions: use more directions.")
    if not decays.all():
        out.append(
            f"the terms do not decay in {(~decays).sum()} of {count} predictions: the deletion may lie outside the "
            "radius in which the series can be trusted, or the last order is noise."
        )
    return tuple(out)
