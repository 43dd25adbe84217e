"""Any subset of the training examples."""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Float

from sketchlearn.deletions.base import register
from sketchlearn.deletions.reading import deletion_vectors
from sketchlearn.errors import check_count


@register
class Examples:
    """Any subset of all n examples: ``q = n``.

    Args:
        num_examples: n.

    Example:
        >>> space = Examples(4)
        >>> space.dim, space.locate([1, 3]).tolist()
        (4, [0.0, 1.0, 0.0, 1.0])
    """

    def __init__(self, num_examples: int):
        self.num_examples = check_count("num_examples", num_examples)
        self.dim = self.num_examples

    def __repr__(self) -> str:
        return f"Examples({self.num_examples})"

    def embed(self, z: Any) -> Any:
        """The coordinates are the deletion vector itself."""
        return z

    def locate(self, delete: Any) -> Float[np.ndarray, "*B q"]:
        """The deletion vector (n,), or (B, n)."""
        return deletion_vectors(delete, self.num_examples)

    def describe(self) -> dict:
        """What the space is, as JSON."""
        return {"num_examples": self.num_examples}

    @classmethod
    def from_description(cls, described: dict) -> Examples:
        """The space that was described."""
        return cls(described["num_examples"])
