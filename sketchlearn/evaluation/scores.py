"""Scores of predictions against the truth: LDS, errors, coverage."""

from __future__ import annotations

from typing import Any

import numpy as np


def score(
    guess: np.ndarray, truth: np.ndarray, prediction: Any, level: float, resamples: int, rng: np.random.Generator
) -> tuple[dict[str, float], list[dict[str, float]]]:
    """The scores of guesses (B, Q) against the truth, of all queries together and of each."""
    low, high = (end.reshape(truth.shape) - prediction.baseline.reshape(-1) for end in prediction.interval(level))
    known = np.isfinite(low).all() and np.isfinite(high).all()
    # a zero-width interval is met by a value that was rounded twice
    slack = 1e-5 * (np.abs(truth) + np.abs(prediction.baseline.reshape(-1)))
    scores = spearman(guess, truth)
    draws = rng.integers(0, len(truth), (resamples, len(truth)))
    again = [mean_of_finite(spearman(guess[d], truth[d])) for d in draws] if len(truth) > 2 else [np.nan]
    again = [a for a in again if np.isfinite(a)] or [np.nan]
    # a deletion drawn twice is a tie, which lowers rank correlations: the spread is that of the draws, not their level
    ends = np.quantile(again, [(1 - level) / 2, (1 + level) / 2]) - np.mean(again) + mean_of_finite(scores)
    squares, sizes = ((guess - truth) ** 2).mean(1), (truth**2).mean(1)  # (B,)
    errors = np.sqrt(squares[draws].mean(1) / np.maximum(sizes[draws].mean(1), 1e-300))
    error_ends = np.quantile(errors, [(1 - level) / 2, (1 + level) / 2])
    rmse = np.sqrt(((guess - truth) ** 2).mean(0))
    row = {
        "lds": mean_of_finite(scores),
        "lds_low": float(ends[0]),
        "lds_high": float(min(ends[1], 1.0)),
        "rmse": float(np.sqrt((rmse**2).mean())),
        "relative_error": float(np.sqrt((rmse**2).mean() / max((truth**2).mean(), 1e-300))),
        "relative_error_low": float(error_ends[0]),
        "relative_error_high": float(error_ends[1]),
        "coverage": float(((low - slack <= truth) & (truth <= high + slack)).mean()) if known else float("nan"),
    }
    return row, [{"rmse": float(r), "lds": float(s)} for r, s in zip(rmse, scores, strict=True)]


def spearman(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Spearman's correlation of every column; NaN where a column has fewer than three values."""
    if len(a) < 3:
        return np.full(a.shape[1], np.nan)
    from scipy.stats import rankdata  # slow to import

    a, b = (rankdata(v, axis=0) for v in (a, b))
    a, b = a - a.mean(0), b - b.mean(0)
    size = np.sqrt((a**2).sum(0) * (b**2).sum(0))
    return np.where(size > 0, (a * b).sum(0) / np.where(size > 0, size, 1), np.nan)


def mean_of_finite(values: np.ndarray) -> float:
    """The mean without NaN and infinity; NaN if nothing is left."""
    kept = values[np.isfinite(values)]
    return float(kept.mean()) if len(kept) else float("nan")
