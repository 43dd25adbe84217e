"""Jets in memory: the source and the sink of a sketch that is not kept on disk."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax

from sketchlearn.execution.blocks import filled
from sketchlearn.prediction.known import QueryJets
from sketchlearn.sketching.base import Common, JetSource, Parts
from sketchlearn.sketching.query_jets import slices


class JetsInMemory:
    """The jets of all directions, as arrays.

    Args:
        jets: of the parameters, a pytree of leaves (m, k, ...).
    """

    queries = None

    def __init__(self, jets: Any):
        self.jets = jets
        self.num_directions = len(jax.tree.leaves(jets)[0])

    def parts(self) -> Iterator[Any]:
        """Slices of the arrays."""
        return slices(self.jets)


class QueriesOnly:
    """Queries that were measured in place of the parameters.

    Args:
        queries: by name; none yet where shards of the sketch are missing.
        num_directions: m.
    """

    def __init__(self, queries: dict[str, QueryJets], num_directions: int):
        self.queries, self.num_directions = queries, num_directions

    def parts(self) -> Iterator[Any]:
        """There are none."""
        raise ValueError(
            "this sketch keeps what was measured for the queries it was made with, not the parameters: "
            f"ask for one of {sorted(self.queries)}, or sketch without queries=."
        )


class MemorySink:
    """Blocks put together to arrays of all directions."""

    def __init__(self, count: int):
        self.count = count
        self.whole: Any = None

    def done(self, parts: Parts) -> set[int]:
        """None."""
        return set()

    def put(self, start: int, stop: int, block: Any) -> None:
        """Copy the block to its place."""
        self.whole = filled(self.whole, block, start, self.count)

    def finish(self, compute: Callable[[], Common]) -> Common:
        """Compute it."""
        return compute()

    def source(self, measured: Mapping[str, Callable[..., QueryJets]] | None) -> JetSource:
        """The arrays."""
        if measured is None:
            return JetsInMemory(self.whole)
        return QueriesOnly({name: make(c=self.whole[name]) for name, make in measured.items()}, self.count)
