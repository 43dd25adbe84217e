"""Set-up that every test shares: one device, and figures that notebooks can show."""

import os
from pathlib import Path

os.environ.setdefault("JAX_PLATFORMS", "cpu")  # the kernels that nbval starts inherit it
os.environ.pop("MPLBACKEND", None)  # Agg would silence the figures of the notebooks

import jax
import pytest
import support.typed  # noqa: F401 (by its name, below)
from jaxtyping import install_import_hook

# Shapes and dtypes of arrays are checked in the room of numbers, in this process only. (Tests call public
# functions with wrong arguments on purpose; test_annotations.py calls them with right ones.)
with install_import_hook(["sketchlearn.prediction"], "support.typed.checked"):
    import sketchlearn  # noqa: F401


@pytest.fixture
def x64():
    """Double precision for one test (or, by ``pytest.mark.usefixtures``, for a module's)."""
    before = jax.config.jax_enable_x64
    jax.config.update("jax_enable_x64", True)
    yield
    jax.config.update("jax_enable_x64", before)


@pytest.fixture(scope="module")
def quick_compilation():
    """Compile without optimisations: for modules of many small programs, whose time is XLA's."""
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)
    jax.clear_caches()  # what was compiled so rounds differently, and would be used by later tests


SLOW = Path(__file__).parent / "slow.txt"
NOTEBOOKS = Path(__file__).parents[1] / "notebooks"


def pytest_collection_modifyitems(items):
    """Mark the notebooks, and what ``tests/slow.txt`` lists: tests that take more than their share of two minutes."""
    slow = set(SLOW.read_text(encoding="utf-8").splitlines())
    for item in items:
        if NOTEBOOKS in Path(item.path).parents:
            item.add_marker(pytest.mark.notebooks)
        elif item.nodeid in slow:
            item.add_marker(pytest.mark.slow)
