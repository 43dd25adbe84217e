"""Which parameters are looked at where not all of them are needed."""

from __future__ import annotations

import numpy as np

from sketchlearn.runtime.seeds import stream

PROBED_PARAMETERS = 512  # plenty for a length


def probed(total: int) -> np.ndarray:
    """Which of all parameters to look at."""
    return stream("probed parameters", 0).permutation(total)[:PROBED_PARAMETERS]
