"""How much each coordinate matters at first order, squared: a guess for higher orders.

No other query counts: a prediction depends on nothing but what was asked.
"""

from __future__ import annotations

from typing import Any

import jax
import numpy as np

from sketchlearn.prediction.equations import Equations
from sketchlearn.prediction.known import QueryJets, SingleCoordinates
from sketchlearn.runtime.seeds import stream
from sketchlearn.sketching.base import JetSource

PROBED_PARAMETERS = 512  # plenty for a length


def scales_of_effects(effects: np.ndarray) -> np.ndarray:
    """From first-order effects (q, P) on the parameters, or (q, Q) on the outputs of one query: (q,).

    Example:
        >>> scales_of_effects(np.array([[1.0, 1.0], [1.0, 2.0]])).round(2).tolist()
        [0.57, 1.43]
    """
    size = (effects**2).sum(1)
    return size / size.mean() + 1e-6 if size.any() else np.ones_like(size)


def scales_of_query(jets: QueryJets, equations: Equations) -> np.ndarray:
    """How much each coordinate moves this query, squared, (q,)."""
    if jets.singles is not None:
        return scales_of_effects(jets.singles.coefficients[:, 0])
    return scales_of_effects(equations.first_order(jets.coefficients[:, 0]))


def scales_of_parameters(
    parameters: Any, source: JetSource, singles: SingleCoordinates | None, equations: Equations
) -> np.ndarray:
    """How much each coordinate moves the parameters, squared, (q,): some of them, where they are many."""
    total = sum(np.size(leaf) for leaf in jax.tree.leaves(parameters))
    chosen = stream("probed parameters", 0).permutation(total)[:PROBED_PARAMETERS]
    trees = source.parts() if singles is None else [singles.coefficients]
    each = ([np.asarray(c)[:, 0].reshape(len(c), -1) for c in jax.tree.leaves(tree)] for tree in trees)
    effects = np.concatenate([np.concatenate(leaves, 1)[:, chosen] for leaves in each])
    return scales_of_effects(equations.first_order(effects) if singles is None else effects)
