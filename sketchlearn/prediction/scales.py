"""How much each coordinate of a deletion matters at first order, squared: a guess for higher orders."""

from __future__ import annotations

import numpy as np


def of_effects(effects: np.ndarray) -> np.ndarray:
    """From first-order effects (q, P) on the parameters, or (q, Q) on the outputs of one query: (q,).

    Example:
        >>> of_effects(np.array([[1.0, 1.0], [1.0, 2.0]])).round(2).tolist()
        [0.57, 1.43]
    """
    size = (effects**2).sum(1)
    return size / size.mean() + 1e-6 if size.any() else np.ones_like(size)
