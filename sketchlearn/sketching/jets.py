"""Where the jets of a sketch are kept while it is made, in memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from sketchlearn.execution.blocks import filled
from sketchlearn.sketching.query_jets import Measured

Parts = list[tuple[int, int]]


class Kept(Protocol):
    """What making a sketch needs of the place where it is kept."""

    def done(self, parts: Parts) -> set[int]:
        """Where blocks start that need not be computed."""
        ...

    def put(self, start: int, stop: int, block: Any) -> None:
        """Keep a block."""
        ...

    def finish(self, compute: Callable) -> Any:
        """What belongs to all blocks: kept already, or computed and kept."""
        ...

    def jets(self) -> Any:
        """The jets of all directions, or a function that yields them in parts."""
        ...

    def complete(self) -> bool:
        """Whether all blocks are there."""
        ...

    def measured(self, every: dict[str, Callable]) -> dict[str, Measured]:
        """The queries that were kept instead, each made from its coefficients."""
        ...


class InMemory:
    """Blocks in arrays of all directions."""

    def __init__(self, count: int):
        self.count = count
        self.whole: Any = None

    def done(self, parts: Parts) -> set[int]:
        """None."""
        return set()

    def put(self, start: int, stop: int, block: Any) -> None:
        """Copy the block to its place."""
        self.whole = filled(self.whole, block, start, self.count)

    def finish(self, compute: Callable) -> Any:
        """Compute it."""
        return compute()

    def jets(self) -> Any:
        """The arrays."""
        return self.whole

    def complete(self) -> bool:
        """Always, when all blocks were put."""
        return True

    def measured(self, every: dict[str, Callable]) -> dict[str, Measured]:
        """The queries, whose coefficients are what was put."""
        return {name: make(c=self.whole[name]) for name, make in every.items()}
