"""Spaces as JSON, for stores."""

from __future__ import annotations

import numpy as np

from sketchlearn.deletions.base import Space
from sketchlearn.deletions.candidates import Candidates
from sketchlearn.deletions.examples import Examples
from sketchlearn.deletions.groups import Groups
from sketchlearn.deletions.linear_map import LinearMap


def describe(space: Space) -> dict:
    """A space as JSON, from which :func:`from_description` builds it again; of other classes, what it looks like."""
    if isinstance(space, Candidates):
        return {"kind": "Candidates", "indices": space.indices.tolist(), "num_examples": space.num_examples}
    if isinstance(space, Groups):
        odd = next((name for name in space.names if not isinstance(name, (str, int, float))), None)
        if odd is not None:
            raise TypeError(
                f"a store keeps the names of groups as text or numbers, got {odd!r} of type {type(odd).__name__}: "
                "label the examples with str(...) of it."
            )
        return {"kind": "Groups", "names": space.names, "membership": space.membership.tolist()}
    if isinstance(space, LinearMap):
        return {"kind": "LinearMap", "matrix": space.matrix.tolist()}
    if isinstance(space, Examples):
        return {"kind": "Examples", "num_examples": space.num_examples}
    return {"kind": repr(space), "dim": space.dim, "num_examples": space.num_examples}


def from_description(described: dict) -> Space:
    """The space of :func:`describe`."""
    kind = described["kind"]
    if kind == "Candidates":
        pool = np.isin(np.arange(described["num_examples"]), described["indices"])
        return Candidates(pool, described["num_examples"])
    if kind == "Groups":
        return Groups([described["names"][group] for group in described["membership"]])
    if kind == "LinearMap":
        return LinearMap(described["matrix"])
    if kind == "Examples":
        return Examples(described["num_examples"])
    raise ValueError(f"the space {kind} is not one of this package: give space= to open_sketch.")
