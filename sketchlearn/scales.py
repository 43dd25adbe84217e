"""How much each coordinate of a deletion matters at first order, squared: a guess for higher orders."""

from __future__ import annotations

import numpy as np

from .seeds import stream

PROBED_PARAMETERS = 512  # plenty for a length


def of_outputs(effects: np.ndarray) -> np.ndarray:
    """From first-order effects (q, Q) on the outputs of one query, each in units of its own: (q,).

    Example:
        >>> of_outputs(np.array([[1.0, 1000.0], [1.0, 3000.0]])).round(2).tolist()
        [0.6, 1.4]
    """
    square = effects**2
    whole = square.sum(0)
    return _relative((square / np.where(whole > 0, whole, 1)).sum(1))


def of_parameters(effects: np.ndarray) -> np.ndarray:
    """From first-order effects (q, P) on the parameters: (q,)."""
    return _relative((effects**2).sum(1))


def probed(total: int) -> np.ndarray:
    """Which of all parameters to look at."""
    return stream("probed parameters", 0).permutation(total)[:PROBED_PARAMETERS]


def _relative(size: np.ndarray) -> np.ndarray:
    """Sizes over their mean, none of them zero."""
    return size / size.mean() + 1e-6 if size.any() else np.ones_like(size)
