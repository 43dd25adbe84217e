"""Where jets come from, and where they go: the two protocols of this room.

A *jet source* hands out rows of jets by direction: from memory, from a store on disk, from a pilot. The sketch does not
know which. To add one, write a class with the three members of :class:`JetSource`, and give it to
:class:`~sketchlearn.sketching.sketch.Sketch`. A *jet sink* keeps them while a sketch is made.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Protocol, runtime_checkable

from jaxtyping import PyTree

from sketchlearn.prediction.known import QueryJets, SingleCoordinates

Parts = list[tuple[int, int]]
Common = tuple[PyTree, PyTree, SingleCoordinates | None]


@runtime_checkable
class JetSource(Protocol):
    """Rows of jets by direction: those of the parameters, or of queries that were measured in their place."""

    @property
    def num_directions(self) -> int:
        """m."""
        ...

    @property
    def queries(self) -> dict[str, QueryJets] | None:
        """The queries that were measured in place of the parameters, by name; None where the parameters' jets are."""
        ...

    def parts(self) -> Iterator[PyTree]:
        """The jets of the parameters, a bounded part of the directions at a time: pytrees of leaves (M, k, ...)."""
        ...


@runtime_checkable
class JetSink(Protocol):
    """Where the jets of a sketch are kept while it is made."""

    def done(self, parts: Parts) -> set[int]:
        """Where blocks start that need not be computed."""
        ...

    def put(self, start: int, stop: int, block: PyTree) -> None:
        """Keep the jets (M, k, ...) of directions ``start`` to ``stop``, of the parameters or of every query."""
        ...

    def finish(self, compute: Callable[[], Common]) -> Common:
        """What belongs to all blocks: kept already, or computed and kept."""
        ...

    def source(self, measured: Mapping[str, Callable[..., QueryJets]] | None) -> JetSource:
        """What was put, as a source.

        Args:
            measured: of each query what makes its jets of its coefficients ``c``, (m, k + 1, Q); None where the
                parameters' jets were put.
        """
        ...
