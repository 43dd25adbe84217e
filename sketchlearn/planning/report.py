"""What a plan says in words."""

from __future__ import annotations

import math
import textwrap
from typing import Any

import numpy as np

from sketchlearn.execution.memory import free_memory, held_memory
from sketchlearn.execution.units import duration, size
from sketchlearn.planning.pilot import split
from sketchlearn.planning.variance import is_exact
from sketchlearn.prediction.interpolation import MOST_EQUATIONS


def in_words(plan: Any) -> str:
    """A plan as text: a table of its rows, the recommendation, and what the reader should know."""
    before = (
        f"A typical deletion changes the query by {plan.change:.3g}. One plain training takes "
        f"{duration(plan.training_seconds)} in a batch."
    )
    head = ("k", "m", "time", "memory", "disk", "noise", "truncation", "error", "95% interval", "orders used")
    table = [_line(" ", *head), *(_line(">" if row == plan.recommended else " ", *_cells(row)) for row in plan.rows)]
    if plan.recommended is None:
        after = f"Nothing to recommend: {plan.rule}."
    else:
        row = plan.recommended
        where = f"over {plan.space!r}, " if plan.others else ""
        after = (
            f"Recommended: {where}num_directions={row.num_directions}, degree={row.degree}, {plan.rule}. It takes "
            f"{duration(row.seconds)}, as long as {row.seconds / plan.training_seconds:,.0f} plain trainings; the "
            f"expected error is {row.error:.2g}."
        )
    texts = (after, *map(_beside, plan.others), *plan.advice, *(f"Note: {text}" for text in plan.warnings))
    return "\n".join(
        [
            *(textwrap.fill(t, 110) for t in (plan.title, before)),
            "",
            *table,
            "",
            *(textwrap.fill(t, 110) for t in texts),
        ]
    )


def _beside(plan: Any) -> str:
    row = plan.recommended
    if row is None:
        return f"Over {plan.space!r}: nothing to recommend."
    return (
        f"Over {plan.space!r}: num_directions={row.num_directions}, degree={row.degree} takes {duration(row.seconds)}, "
        f"and the expected error is {row.error:.2g}."
    )


def _cells(row: Any) -> list[str]:
    return [
        str(row.degree), str(row.num_directions), duration(row.seconds), size(row.peak_bytes), size(row.disk_bytes),
        f"{row.noise:.2g}", f"{row.truncation:.2g}", f"{row.error:.2g}", f"{row.error_low:.2g} to {row.error_high:.2g}",
        f"{row.orders} of {row.degree}",
    ]  # fmt: skip


def _line(mark: str, *cells: str) -> str:
    widths = (2, 7, 9, 8, 8, 8, 10, 8, 19, 11)
    return (mark + "  ".join(f"{cell:>{width}s}" for cell, width in zip(cells, widths, strict=True))).rstrip()


def advice(dim: int, degree: int, most: int) -> tuple[str, ...]:
    """What the space decides: which orders are exact from how many directions, and what fewer coordinates would do."""
    out = []
    for r in range(1, degree + 1):
        unknowns = math.comb(dim + r - 1, r)
        if unknowns <= MOST_EQUATIONS:
            out.append(f"order {r} from {math.ceil(unknowns / 2)} directions")
    text = f"Exact in this space of {dim} coordinates: {', '.join(out)}." if out else ""
    largest = [
        max(q for q in range(1, min(2 * most, MOST_EQUATIONS) + 1) if is_exact(q, r, most))
        for r in range(1, degree + 1)
    ]
    fewer = [f"order {r} to {q} coordinates" for r, q in enumerate(largest, 1) if q < dim]
    if fewer:
        text += (
            f" With {most} directions, Groups, Candidates or a LinearMap of fewer coordinates make exact: "
            f"{', '.join(fewer)}. For queries known in advance, sketchlearn.gradient gives order 1."
        )
    return (text.strip(),) if text else ()


def notes(plan: Any, rows: tuple, recommended: Any, pilot: int) -> list[str]:
    """What the reader of a plan should know."""
    out = []
    noisy = [r for r in range(1, len(plan.costs) + 1) if not is_exact(plan.dim, r, rows[-1].num_directions)]
    if noisy:
        low, middle, high = np.sqrt(plan.variances[noisy[0] - 1])
        if middle > 0:
            out.append(
                f"{pilot} directions know the noise of order {noisy[0]} to a factor of {low / middle:.2f} to "
                f"{high / middle:.2f} only (95%)."
            )
    small = [cost for cost in plan.costs if cost.timed < split(cost.block, rows[-1].num_directions)[1]]
    if small:
        out.append(
            f"degree {', '.join(str(c.degree) for c in small)} was timed in blocks of {small[-1].timed} directions; a "
            "sketch runs larger ones, which may take less time a direction."
        )
    out.append(
        f"memory is that of arrays; Python, JAX and compiled programs hold {size(held_memory())} in this process."
    )
    free = free_memory()
    large = [row for row in rows if row.peak_bytes > free]
    if large:
        out.append(f"{len(large)} of these sketches need more memory than the {size(free)} that are free.")
    if recommended is not None and recommended.error >= plan.change:
        out.append(
            "the expected error is no smaller than the change itself: of such deletions this sketch would say "
            "nothing. Use more directions, or a space with fewer coordinates."
        )
    growing = [j for j in range(1, len(plan.truncations)) if plan.truncations[j, 1] > plan.truncations[j - 1, 1]]
    if growing and plan.change > 0:
        out.append(
            f"order {growing[0]} makes the exact series worse for these deletions: they may lie outside its radius."
        )
    return out
