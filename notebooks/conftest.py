"""Notebooks are marked, so that plain ``pytest`` runs the unit tests alone."""

from pathlib import Path

import pytest

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items):
    """Mark the cells of notebooks."""
    for item in items:
        if HERE in Path(item.path).parents:
            item.add_marker(pytest.mark.notebooks)
