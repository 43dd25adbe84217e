"""What a deletion space is: a linear map ``x = G z`` from coordinates in C^q to deletion vectors in C^n."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np

from sketchlearn.runtime.precision import in_full_precision


class Space(Protocol):
    """What a sketch needs of a space of deletions."""

    @property
    def dim(self) -> int:
        """The number q of free coordinates, which the constants of every estimator use."""
        ...

    @property
    def num_examples(self) -> int:
        """The number n of training examples."""
        ...

    @in_full_precision
    def embed(self, z: Any) -> Any:
        """``x = G z``: coordinates (..., q) to deletion vectors (..., n)."""
        ...

    def locate(self, delete: Any) -> np.ndarray:
        """The coordinates (q,) of a deletion, or (B, q) of a stack of them."""
        ...
