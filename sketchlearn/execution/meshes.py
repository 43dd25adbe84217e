"""Spreading the directions of a block over the devices of a mesh: each runs its own rows, without the others."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from sketchlearn.runtime.programs import jit, once

Program = Callable[..., Any]


def check_mesh(mesh: Any, store: Any) -> None:
    """Refuse what is no mesh, and a mesh over several processes with a store."""
    if mesh is None:
        return
    if not isinstance(mesh, Mesh):
        raise TypeError(f"mesh must be a jax.sharding.Mesh, got {type(mesh).__name__}: jax.make_mesh makes one.")
    if store is not None and mesh.is_multi_process:
        raise ValueError(
            "a mesh over several processes keeps the sketch in memory. To fill one store from several processes, "
            "give each shard=(jax.process_index(), jax.process_count()) and no mesh, or one of its own devices."
        )


@once
def _spread(mesh: Mesh, program: jit, arrays: int) -> jit:
    """The program over the devices of a mesh: its first array is on all of them, of the others each has its rows."""
    rows, everywhere = PartitionSpec(mesh.axis_names), PartitionSpec()

    def shared_out(*arrays: jax.Array) -> Any:
        shared, own = program(*arrays)
        return shared, jax.tree.map(lambda c: jax.lax.all_gather(c, mesh.axis_names, tiled=True), own)

    # what each device returns is the same on all, which the types of shard_map cannot see
    specs = (everywhere, *[rows] * arrays)
    return jit(jax.shard_map(shared_out, mesh=mesh, in_specs=specs, out_specs=everywhere, check_vma=False))


def spread(mesh: Mesh, program: jit, draw: Program) -> tuple[jit, Program]:
    """A program ``(shared, rows..) -> (shared, rows)`` and what draws its arrays, each device with an equal share.

    The number of rows is rounded up to a multiple of the devices. The result is gathered on all of them, so that
    every process can read it.
    """

    def placed(start: int, size: int) -> tuple[jax.Array, ...]:
        shared, *rows = [np.asarray(a) for a in draw(start, -(-size // mesh.size) * mesh.size)]

        def put(array: np.ndarray, *axes: Any) -> jax.Array:
            sharding = NamedSharding(mesh, PartitionSpec(*axes))
            return jax.make_array_from_callback(array.shape, sharding, array.__getitem__)

        return put(shared), *[put(array, mesh.axis_names) for array in rows]

    return _spread(mesh, program, len(jax.eval_shape(lambda: draw(0, 1))) - 1), placed
