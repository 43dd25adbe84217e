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


def fingerprint(f: Callable, *shapes: Any) -> str:
    """A checksum of a program: its traced operations and constants, rules of ``custom_jvp`` functions included.

    The user's setting of the precision of products is left out: what a store is made by names it beside the program.
    """
    digest = hashlib.sha256()
    with jax.default_matmul_precision(FULL):
        program = compat.trace(f, *shapes)
        _add_program(digest, program)
        leaves = jax.tree.leaves(jax.eval_shape(tuple, shapes))
        floating = all(jnp.issubdtype(leaf.dtype, jnp.floating) for leaf in leaves)
        if floating and "custom_jvp_call" in str(program.jaxpr):  # its rule is a function, seen where it is applied
            _add_program(digest, compat.trace(lambda *x: jax.jvp(f, x, x), *shapes))
    return digest.hexdigest()[:16]


def _add_program(digest: Any, program: compat.Program) -> None:
    text = re.sub(r"0x[0-9a-f]+", "0x", str(program.jaxpr))  # addresses of functions differ from run to run
    digest.update(text.encode())
    for constant in compat.all_constants(program.jaxpr, program.consts):
        if jnp.issubdtype(jnp.result_type(constant), jax.dtypes.prng_key):
            constant = jax.random.key_data(constant)
        a = np.asarray(constant)
        digest.update(f"{a.dtype} {a.shape}".encode())
        digest.update(a.tobytes())
