"""Pictures of results; nothing is computed here."""

from __future__ import annotations

from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes

TRUTH, LINE, BAND = "#D55E00", "#0072B2", "#0072B255"  # as in book.mplstyle
ESTIMATOR_COLORS = ("#7F7F7F", "#0072B2", "#E69F00", "#009E73", "#CC79A7")


def _axes(ax: Axes | None) -> Axes:
    return plt.subplots(figsize=(6.4, 4.2), layout="constrained")[1] if ax is None else ax


def draw_stability(profile: Any, ax: Axes | None = None) -> Axes:
    """log2 of the norm of every order, one line for each direction, and their root mean square."""
    ax = _axes(ax)
    orders = np.arange(1, profile.norms.shape[1] + 1)
    with np.errstate(divide="ignore"):
        ax.plot(orders, np.log2(profile.norms.T), color=LINE, lw=0.7, alpha=0.5)
        ax.plot(orders, np.log2(profile.bombieri()), color="k", lw=1.6, label="root mean square over directions")
    ax.set(xlabel="order r", ylabel=r"$\log_2$ of the estimated norm $\|P_r\|_B$")
    ax.set_title(f"Stability: {len(profile.norms)} directions, trusted radius {profile.radius:.2g}")
    ax.legend(frameon=False)
    return ax


def draw_curve(curve: Any, ax: Axes | None = None) -> Axes:
    """Predictions along a deletion, their band, and the retrained truth."""
    ax = _axes(ax)
    k = len(curve.predictions) - 1
    shades = plt.get_cmap("Blues")(np.linspace(0.35, 0.95, k))
    for r in range(1, k + 1):
        ax.plot(curve.fractions, curve.predictions[r], color=shades[r - 1], label=f"orders to {r}")
    if curve.deviation is not None:
        low, high = curve.predictions[-1] - curve.deviation, curve.predictions[-1] + curve.deviation
        ax.fill_between(curve.fractions, low, high, color=BAND, lw=0, label="± one standard error")
    return _with_truth(ax, curve)


def draw_estimators(curves: list[Any], ax: Axes | None = None) -> Axes:
    """The predictions of several estimators from the same directions, their bands, and the retrained truth."""
    ax = _axes(ax)
    for color, curve in zip(ESTIMATOR_COLORS, curves, strict=False):
        ax.plot(curve.fractions, curve.predictions[-1], color=color, label=f"{curve.settings['estimator']}, ± one s.e.")
        if curve.deviation is not None:
            low, high = curve.predictions[-1] - curve.deviation, curve.predictions[-1] + curve.deviation
            ax.fill_between(curve.fractions, low, high, color=color, alpha=0.25, lw=0)
    return _with_truth(ax, curves[0])


def _with_truth(ax: Axes, curve: Any) -> Axes:
    ax.plot(curve.retrained_at, curve.retrained, "o", color=TRUTH, ms=5, label="retrained")
    ax.set(
        xlabel="share s deleted of "
        + ("the one name" if curve.deleted == 1 else f"each of the {curve.deleted} names")
        + " with an x",
        ylabel=f"loss on '{curve.query}' (nats)",
    )
    ax.legend(frameon=False)
    return ax


def draw_predictions(names: list[str], prediction: Any, truth: np.ndarray, ax: Axes | None = None) -> Axes:
    """Predicted and retrained change of several queries after one deletion."""
    ax = _axes(ax)
    place = np.arange(len(names))
    low, high = prediction.interval()
    change = prediction.value - prediction.baseline
    ax.errorbar(
        place,
        change,
        [prediction.value - low, high - prediction.value],
        fmt="s",
        color=LINE,
        capsize=4,
        label="predicted, 95% interval",
    )
    ax.plot(place, truth - prediction.baseline, "o", color=TRUTH, label="retrained")
    ax.axhline(0, color="0.6", lw=0.8)
    ax.set_xticks(place, names)
    ax.set(ylabel="change of the loss (nats)", title="All names with an x deleted")
    ax.legend(frameon=False)
    return ax


def draw_plan(plan: Any, ax: Axes | None = None) -> Axes:
    """Expected error against time, one line for each degree, with what the pilot leaves open and what was asked for."""
    ax = _axes(ax)
    positive = [row.error for row in plan.rows if row.error > 0]
    floor = min(positive, default=1.0) / 10  # where an error of zero is drawn on a logarithmic axis
    for k in sorted({row.degree for row in plan.rows}):
        rows = sorted((row for row in plan.rows if row.degree == k), key=lambda row: row.seconds)
        low, error, high = np.maximum([(row.error_low, row.error, row.error_high) for row in rows], floor).T
        (line,) = ax.plot([row.seconds for row in rows], error, "o-", ms=4, label=f"degree {k}")
        ax.fill_between([row.seconds for row in rows], low, high, color=line.get_color(), alpha=0.12, lw=0)
    if plan.change > 0:
        ax.axhline(plan.change, color="0.4", lw=0.8, ls=":", label="the change itself")
    if plan.tolerance is not None:
        ax.axhline(plan.tolerance, color=TRUTH, lw=0.8, label="error asked for")
    if plan.seconds is not None:
        ax.axvline(plan.seconds, color=TRUTH, lw=0.8, ls="--", label="time there is")
    if plan.recommended is not None:
        row = plan.recommended
        label = f"recommended: m = {row.num_directions}, k = {row.degree}"
        ax.plot(row.seconds, max(row.error, floor), "*", color="k", ms=13, label=label)
    ax.set(xscale="log", yscale="log", xlabel="time of the sketch (s)", ylabel="expected error (unit of the query)")
    ax.legend(frameon=False)
    return ax


def draw_comparison(reports: dict[str, Any], label: str = "structured 5%-30%", deletions: int = 100) -> Any:
    """Accuracy against cost, one panel for each world: every method at 1 and at 10,000 queries; returns the figure."""
    figure, axes = plt.subplots(1, len(reports), figsize=(5.6 * len(reports), 4.6), layout="constrained", squeeze=False)
    for ax, (world, report) in zip(axes[0], reports.items(), strict=True):
        shown = label if any(r["deletions"] == label for r in report["rows"]) else report["rows"][0]["deletions"]
        colors = plt.get_cmap("tab20").colors  # type: ignore[attr-defined]
        rows = [r for r in report["rows"] if r["deletions"] == shown and r["method"] != "retraining"]
        for i, row in enumerate(rows):
            cost = [
                (row["precomputation"] or 0) + q * row["per_query"] + deletions * row["per_deletion"]
                for q in (1, 10_000)
            ]
            error = max(row["relative_error"], 1e-8)
            color = colors[i % len(colors)]
            ax.plot(np.maximum(cost, 1e-2), [error, error], "-", color=color, lw=1)
            ax.plot(max(cost[0], 1e-2), error, "o", color=color, ms=6, label=row["method"])
        truth = next(r for r in report["rows"] if r["method"] == "retraining")
        ax.axvline(max(deletions * truth["per_deletion"], 1e-2), color=TRUTH, ls=":", label=f"{deletions} retrainings")
        ax.axhline(1, color="0.7", lw=0.8)
        ax.set(xscale="log", yscale="log", title=f"{world}: {shown} deleted")
        ax.set(xlabel="cost in plain trainings, from 1 query (dot) to 10,000", ylabel="RMSE / rms of the true changes")
        ax.legend(frameon=False, fontsize=7)
    return figure
