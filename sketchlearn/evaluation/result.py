"""How methods did against retraining: a table of scores and prices."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

COLUMNS = (
    ("method", "method", "s"), ("deletions", "deletions", "s"), ("count", "count", "d"), ("seen", "seen", "d"),
    ("lds", "LDS", ".3f"), ("lds_low", "LDS from", ".3f"), ("lds_high", "LDS to", ".3f"), ("rmse", "RMSE", ".3g"),
    ("relative_error", "RMSE / rms change", ".3f"), ("relative_error_low", "from", ".3f"),
    ("relative_error_high", "to", ".3f"), ("coverage", "coverage", ".2f"), ("storage", "storage", ".3g"),
    ("precomputation", "precomputation", ".3g"), ("per_query", "per query", ".3g"),
    ("per_deletion", "per deletion", ".3g"),
)  # fmt: skip


#: What an answer can cost, by name: a function of a row.
COSTS: dict[str, Callable[[dict[str, Any]], float]] = {
    # the run that is asked about is needed by all, and differences far below one run are noise
    "precomputation": lambda row: max(float(np.nan_to_num(row["precomputation"])), 1.0),
    "storage": lambda row: row["storage"],
    "answer": lambda row: row["per_query"] + row["per_deletion"],
}


@dataclasses.dataclass(frozen=True, eq=False)
class Evaluation:
    """How methods did against retraining, one row for each method and set of deletions.

    Attributes:
        rows: dicts with ``method``, ``deletions``, ``count`` (of deletions), ``share`` (of the examples, mean),
            ``seen`` (how many of them the method was made from: for these it is no prediction),
            ``lds`` with its bootstrap interval ``lds_low``, ``lds_high``, ``rmse`` (unit of the query),
            ``relative_error`` (over the rms of the true changes) with its bootstrap interval, ``coverage`` (of the
            interval; NaN without one), ``storage`` (what the method keeps in memory, over one set of parameters),
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

    def front(self, deletions: str, cost: str = "precomputation", among: Iterable[str] | None = None) -> list[str]:
        """The methods that no other beats in both error and cost: the Pareto front, from the cheapest on.

        Args:
            deletions: name of a set.
            cost: ``"precomputation"``, in which whatever is below one training counts as one; ``"storage"``; or
                ``"answer"``, a new query and a new deletion.
            among: the methods that may take part; all of them if not given.

        Raises:
            ValueError: no such cost, set of deletions or method.
        """
        if cost not in COSTS:
            raise ValueError(f"cost must be one of {', '.join(map(repr, COSTS))}, got {cost!r}.")
        front, best = [], np.inf
        rows = self._asked_for(deletions, among)
        for row in sorted(rows, key=lambda row: (COSTS[cost](row), row["relative_error"])):
            if row["relative_error"] < best:
                front.append(row["method"])
                best = row["relative_error"]
        return front

    def cheapest(
        self, deletions: str, bound: float, queries: float, count: float, among: Iterable[str] | None = None
    ) -> list[tuple[str, float]]:
        """The methods that are accurate enough, from the cheapest on, each with its whole price.

        ``price = precomputation + per_query · queries + per_deletion · count``, in plain trainings.

        Args:
            deletions: name of a set.
            bound: the largest ``relative_error`` that will do.
            queries: how many will be asked.
            count: about how many deletions.
            among: the methods that may take part; all of them if not given.

        Raises:
            ValueError: no such set of deletions or method.
        """
        able = [row for row in self._asked_for(deletions, among) if row["relative_error"] <= bound]
        prices = [
            (row["method"], float(np.nan_to_num(row["precomputation"]) + row["per_query"] * queries
                                  + row["per_deletion"] * count))
            for row in able
        ]  # fmt: skip
        return sorted(prices, key=lambda priced: priced[1])

    def _asked_for(self, deletions: str, among: Iterable[str] | None) -> list[dict[str, Any]]:
        """The rows of a set of deletions."""
        own = [row for row in self.rows if row["deletions"] == deletions]
        if not own:
            sets = sorted({row["deletions"] for row in self.rows})
            raise ValueError(f"no set of deletions is called {deletions!r}: {sets}.")
        if among is None:
            return own
        among = set(among)
        unknown = sorted(among - {row["method"] for row in self.rows})
        if unknown:
            raise ValueError(f"there is no method {unknown[0]!r}: {sorted({row['method'] for row in self.rows})}.")
        return [row for row in own if row["method"] in among]

    @classmethod
    def from_dict(cls, described: dict[str, Any]) -> Evaluation:
        """What :meth:`to_dict` wrote; the errors of single queries and the warnings may be missing."""
        rows = [{k: float("nan") if v is None else v for k, v in row.items()} for row in described["rows"]]
        return cls(rows, described.get("per_query", []), described["plain_seconds"], described.get("warnings", {}))

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
