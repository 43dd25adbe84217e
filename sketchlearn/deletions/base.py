"""What a deletion space is: a linear map ``x = G z`` from coordinates in R^q to deletion vectors in R^n.

A newcomer starts here. A space says which deletions a sketch can be asked for, and how they are written: ``locate``
reads what a user writes and returns coordinates z, ``embed`` turns coordinates into the deletion vector x, and training
runs with the weights ``1 - x``. ``dim``, the number of coordinates, decides how hard everything is to estimate.

Any class with the four members of :class:`Space` can be given to ``sketchlearn.sketch``. To be kept in a store and
opened again without being passed, it is registered, and says what it is as JSON:

    @register
    class Halves:
        ...

        def describe(self) -> dict: ...

        @classmethod
        def from_description(cls, described: dict) -> Halves: ...
"""

from __future__ import annotations

from typing import Any, Protocol, TypeVar, runtime_checkable

import numpy as np
from jaxtyping import Float


@runtime_checkable
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

    def embed(self, z: Any) -> Any:
        """``x = G z``: coordinates (..., q) to deletion vectors (..., n)."""
        ...

    def locate(self, delete: Any) -> Float[np.ndarray, "*B q"]:
        """The coordinates (q,) of a deletion, or (B, q) of a stack of them."""
        ...


@runtime_checkable
class SpaceOfNames(Space, Protocol):
    """A space whose deletions are written as names, so that numbers need another way in."""

    def locate_vectors(self, delete: Any) -> Float[np.ndarray, "*B q"]:
        """The coordinates of masks or vectors of fractions over the examples, whatever the names."""
        ...


C = TypeVar("C", bound=type)
SPACES: dict[str, Any] = {}


def register(space: C) -> C:
    """Make a class of spaces known to stores by its name."""
    SPACES[space.__name__] = space
    return space


def describe(space: Space) -> dict:
    """A space as JSON, from which :func:`from_description` builds it again; one not registered, what it looks like."""
    kind = type(space)
    if SPACES.get(kind.__name__) is kind:
        registered: Any = space
        return {"kind": kind.__name__, **registered.describe()}
    return {"kind": repr(space), "dim": space.dim, "num_examples": space.num_examples}


def from_description(described: dict) -> Space:
    """The space of :func:`describe`."""
    kind = described["kind"]
    if kind not in SPACES:
        raise ValueError(f"the space {kind} is not registered: give space= to open_sketch.")
    return SPACES[kind].from_description(described)


def coordinates_of_fractions(space: Space, fractions: np.ndarray) -> np.ndarray:
    """The coordinates of vectors of fractions over the examples."""
    return space.locate_vectors(fractions) if isinstance(space, SpaceOfNames) else space.locate(fractions)
