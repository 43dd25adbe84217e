"""A checksum of a program, which tells whether a store was made by it."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from sketchlearn.runtime import jax_compat as compat
from sketchlearn.runtime.precision import FULL


def fingerprint(f: Callable, *shapes: Any, names: bool = False) -> str:
    """A checksum of a program: its traced operations and constants, rules of ``custom_jvp`` functions included.

    What the functions inside it are called is left out, so that one may be renamed; stores of format 2 have the names.

    The user's setting of the precision of products is left out: what a store is made by names it beside the program.
    """
    digest = hashlib.sha256()
    with jax.default_matmul_precision(FULL):
        program = compat.trace(f, *shapes)
        _add_program(digest, program, names)
        leaves = jax.tree.leaves(jax.eval_shape(tuple, shapes))
        floating = all(jnp.issubdtype(leaf.dtype, jnp.floating) for leaf in leaves)
        if floating and "custom_jvp_call" in str(program.jaxpr):  # its rule is a function, seen where it is applied
            _add_program(digest, compat.trace(lambda *x: jax.jvp(f, x, x), *shapes), names)
    return digest.hexdigest()[:16]


def _add_program(digest: Any, program: compat.Program, names: bool) -> None:
    text = re.sub(r"0x[0-9a-f]+", "0x", str(program.jaxpr))  # addresses of functions differ from run to run
    digest.update((text if names else _without_names(text)).encode())
    for constant in compat.all_constants(program.jaxpr, program.consts):
        if jnp.issubdtype(jnp.result_type(constant), jax.dtypes.prng_key):
            constant = jax.random.key_data(constant)
        a = np.asarray(constant)
        digest.update(f"{a.dtype} {a.shape}".encode())
        digest.update(a.tobytes())


def _without_names(text: str) -> str:
    """The text of a program with its functions numbered in place of named."""
    numbers = {name: f"#{i}" for i, name in enumerate(re.findall(r"^let (\S+) = \{", text, re.MULTILINE))}
    text = re.sub(r"^let (\S+) = \{", lambda m: f"let {numbers[m[1]]} = {{", text, flags=re.MULTILINE)
    text = re.sub(r"(\w*jaxpr)=([^\s{\]]+)", lambda m: f"{m[1]}={numbers.get(m[2], m[2])}", text)
    return re.sub(r"\b(name|jvp|fwd|bwd|\w+_fun|\w+_thunk)=(<[^>]*>|[^\s\]]+)", r"\1=", text)
