"""How methods did against retraining: a table of scores and prices."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

COLUMNS = (
    ("method", "method", "s"), ("deletions", "deletions", "s"), ("count", "count", "d"), ("seen", "seen", "d"),
    ("lds", "LDS", ".3f"), ("lds_low", "LDS from", ".3f"), ("lds_high", "LDS to", ".3f"), ("rmse", "RMSE", ".3g"),
    ("relative_error", "RMSE / rms change", ".3f"), ("coverage", "coverage", ".2f"),
    ("precomputation", "precomputation", ".3g"), ("per_query", "per query", ".3g"),
    ("per_deletion", "per deletion", ".3g"),
)  # fmt: skip


@dataclasses.dataclass(frozen=True, eq=False)
class Evaluation:
    """How methods did against retraining, one row for each method and set of deletions.

    Attributes:
        rows: dicts with ``method``, ``deletions``, ``count`` (of deletions), ``share`` (of the examples, mean),
            ``seen`` (how many of them the method was made from: for these it is no prediction),
            ``lds`` with its bootstrap interval ``lds_low``, ``lds_high``, ``rmse`` (unit of the query),
            ``relative_error`` (over the rms of the true changes), ``coverage`` (of the interval; NaN without one),
            and prices in plain trainings: ``precomputation``, ``per_query``, ``per_deletion``; and
            ``compile_seconds``.
        per_query: the same errors query by query: dicts with ``method``, ``deletions``, ``query``, ``rmse``, ``lds``.
        plain_seconds: of one plain training, the unit of the prices.
        warnings: of each method.
    """

    rows: list[dict[str, Any]]
    per_query: list[dict[str, Any]]
    plain_seconds: float
    warnings: dict[str, list[str]]

    def table(self) -> str:
        """The rows as a Markdown table; a dash where a number does not exist."""
        lines = ["| " + " | ".join(title for _, title, _ in COLUMNS) + " |", "|" + "---|" * len(COLUMNS)]
        for row in self.rows:
            cells = [row[key] if spec == "s" else _number(row[key], spec) for key, _, spec in COLUMNS]
            lines.append("| " + " | ".join(cells) + " |")
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers for JSON; NaN becomes None."""
        return _without_nan(dataclasses.asdict(self))


def _number(value: float, spec: str) -> str:
    return format(value, spec) if np.isfinite(value) else "–"


def _without_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _without_nan(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_without_nan(v) for v in value]
    return None if isinstance(value, float) and not np.isfinite(value) else value
