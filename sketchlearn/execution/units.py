"""Times and sizes as people read them."""

from __future__ import annotations


def duration(seconds: float) -> str:
    """Seconds in a readable unit, three digits."""
    for limit, unit, name in ((1e-3, 1e-6, "µs"), (1, 1e-3, "ms"), (120, 1, "s"), (7200, 60, "min")):
        if seconds < limit:
            return f"{seconds / unit:.3g} {name}"
    return f"{seconds / 3600:.3g} h"


def size(count: float) -> str:
    """Bytes in a readable unit, three digits."""
    for limit, name in ((1e3, "B"), (1e6, "kB"), (1e9, "MB")):
        if count < limit:
            return f"{count / limit * 1e3:.3g} {name}"
    return f"{count / 1e9:.3g} GB"
