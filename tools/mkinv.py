"""Write the small intersphinx inventories in book/_inv, so that references resolve without a network.

    python tools/mkinv.py

Add a line here when the build (`-n`: every reference must resolve) misses a name.
"""

from __future__ import annotations

import zlib
from pathlib import Path

FUNCTIONS, STDTYPES, EXCEPTIONS = "library/functions.html#$", "library/stdtypes.html#$", "library/exceptions.html#$"

PYTHON = [
    *((name, "py:class", FUNCTIONS) for name in ("int", "float", "bool", "object")),
    *((name, "py:class", STDTYPES) for name in ("complex", "str", "dict", "list", "tuple", "range", "bytes")),
    ("None", "py:data", "library/constants.html#None"),
    ("typing.Any", "py:data", "library/typing.html#$"),
    *((f"collections.abc.{name}", "py:class", "library/collections.abc.html#$")
      for name in ("Callable", "Iterable", "Iterator", "Mapping", "Sequence")),
    ("pathlib.Path", "py:class", "library/pathlib.html#$"),
    ("os.PathLike", "py:class", "library/os.html#$"),
    ("NamedTuple", "py:class", "library/typing.html#typing.NamedTuple"),
    *((name, "py:exception", EXCEPTIONS) for name in (
        "ConnectionError", "FileNotFoundError", "FileExistsError", "IndexError", "KeyError", "MemoryError",
        "NotImplementedError", "OSError", "TypeError", "UserWarning", "ValueError")),
]  # fmt: skip

NUMPY = [
    ("numpy.ndarray", "py:class", "reference/generated/numpy.ndarray.html#$"),
    ("numpy.random.Generator", "py:class", "reference/random/generator.html#$"),
    ("numpy.typing.ArrayLike", "py:data", "reference/typing.html#$"),
    ("numpy.typing.NDArray", "py:data", "reference/typing.html#$"),
]

JAX = [
    ("jax.Array", "py:class", "_autosummary/jax.Array.html#$"),
    ("jax.jaxlib._jax.Array", "py:class", "_autosummary/jax.Array.html#jax.Array"),
    ("jaxlib._jax.Array", "py:class", "_autosummary/jax.Array.html#jax.Array"),
    ("jax.sharding.Mesh", "py:class", "jax.sharding.html#$"),
    ("jax._src.mesh.Mesh", "py:class", "jax.sharding.html#jax.sharding.Mesh"),
    *((f"jax.{name}", "py:function", f"_autosummary/jax.{name}.html#$")
      for name in ("custom_jvp", "custom_vjp", "grad", "jit", "jvp", "make_jaxpr", "vmap")),
]  # fmt: skip

MATPLOTLIB = [
    ("matplotlib.axes.Axes", "py:class", "api/_as_gen/matplotlib.axes.Axes.html#$"),
    ("matplotlib.axes._axes.Axes", "py:class", "api/_as_gen/matplotlib.axes.Axes.html#matplotlib.axes.Axes"),
    ("matplotlib.figure.Figure", "py:class", "api/figure_api.html#$"),
]


def write(path: Path, project: str, entries: list[tuple[str, str, str]]) -> None:
    """One inventory in Sphinx's format, version 2."""
    head = (
        f"# Sphinx inventory version 2\n# Project: {project}\n# Version: \n"
        "# The remainder of this file is compressed using zlib.\n"
    )
    body = "".join(f"{name} {kind} 1 {place} -\n" for name, kind, place in sorted(entries))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(head.encode() + zlib.compress(body.encode(), 9))


if __name__ == "__main__":
    folder = Path(__file__).parents[1] / "book" / "_inv"
    write(folder / "python.inv", "Python", PYTHON)
    write(folder / "numpy.inv", "NumPy", NUMPY)
    write(folder / "jax.inv", "JAX", JAX)
    write(folder / "matplotlib.inv", "Matplotlib", MATPLOTLIB)
