"""Progress of long work, shown at the boundaries between blocks only."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

from tqdm import tqdm

T = TypeVar("T")


def track(
    items: Iterable[T], description: str, unit: str, scale: int = 1, total: int | None = None, show: Any = True
) -> Iterator[T]:
    """Yield the items, moving a progress bar by ``scale`` units after each (to stderr)."""
    if not show:
        yield from items
        return
    with tqdm(total=total, desc=description, unit=unit) as bar:
        for item in items:
            yield item
            bar.update(min(scale, bar.total - bar.n) if bar.total else scale)
