"""Numbers of a report cut to the digits that are stored."""

from typing import Any


def shortened(value: Any, digits: int) -> Any:
    """The report with every float rounded to so many significant digits."""
    if isinstance(value, dict):
        return {key: shortened(v, digits) for key, v in value.items()}
    if isinstance(value, list):
        return [shortened(v, digits) for v in value]
    return float(f"{value:.{digits}g}") if isinstance(value, float) else value
