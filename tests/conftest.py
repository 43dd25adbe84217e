"""Set-up that every test shares: one device, and figures that notebooks can show."""

import os

os.environ.setdefault("JAX_PLATFORMS", "cpu")  # the kernels that nbval starts inherit it
os.environ.pop("MPLBACKEND", None)  # Agg would silence the figures of the notebooks

import jax
import pytest


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
