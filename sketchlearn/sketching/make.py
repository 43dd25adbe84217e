"""Making a sketch: the jets of a training run along random complex directions."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from sketchlearn.deletions.base import Space
from sketchlearn.deletions.centre import centre_of, full_weights
from sketchlearn.deletions.directions import check_design, directions
from sketchlearn.errors import check_count, check_degree, check_key
from sketchlearn.execution.blocks import cut, in_blocks, parts_of
from sketchlearn.execution.directional import check_jets, check_moved, jets_along
from sketchlearn.execution.memory import affordable_block, check_memory
from sketchlearn.execution.meshes import check_mesh, spread
from sketchlearn.runtime.precision import jit, shapes_of
from sketchlearn.sketching.jets import InMemory, Kept
from sketchlearn.sketching.query_jets import along, measured
from sketchlearn.sketching.single_coordinates import Alone, run_alone
from sketchlearn.sketching.sketch import Sketch
from sketchlearn.sketching.store.blocks import OnDisk, arguments_of
from sketchlearn.taylor.algebra import series
from sketchlearn.training.emptied_batches import check_emptying, weighted_mean_batches
from sketchlearn.training.nonfinite import explanation
from sketchlearn.training.program import check_parameters, check_smooth_query, check_train


def sketch(
    train: Callable,
    space: Space,
    degree: int = 3,
    num_directions: int = 500,
    key: int = 0,
    batch_size: int | None = None,
    dtype: Any = None,
    progress: bool = True,
    *,
    mesh: Mesh | None = None,
    additive: bool = False,
    centre: Any = None,
    design: str = "independent",
    store: str | Path | None = None,
    queries: dict[str, Callable] | None = None,
    repair: bool = False,
    shard: tuple[int, int] | None = None,
) -> Sketch:
    """Run a training program over power series along random complex directions of its weights.

    ``train(1 - G (z_0 + t ψ_i)) = Σ_{r<=k} θ_r t^r`` for i = 1..m, with ψ_i uniform on the unit
    sphere of C^q, G the space's embedding and z_0 the centre, 0 if not given.

    Args:
        train: weights (n,) -> parameters; a pure JAX function, any pytree of floating arrays.
        space: which deletions can be asked for, for instance ``Examples(n)``.
        degree: k, the highest order kept.
        num_directions: m; the error of a prediction falls like ``1/sqrt(m)``.
        key: the seed of the directions, a whole number.
        batch_size: directions run at once; by default as many as half the free memory
            holds by estimate, at most 128. It changes no result beyond rounding.
        dtype: of the weights, float32 or float64; by default the wider one that is enabled.
        progress: show a progress bar (on stderr).
        mesh: devices that share the directions of every block, for instance ``jax.make_mesh((4,), ("directions",))``;
            of one process or, after ``jax.distributed.initialize``, of several, which then all get the whole
            sketch. The number of devices changes no result beyond rounding.
        additive: also run each of the q coordinates alone, as a real series and trained again without it (about
            q/3 complex directions and q trainings). Without a centre deletions of one coordinate are then
            exact, and of the others only interactions are estimated.
        centre: where to expand instead of at full weights: a fraction between 0 and 1 by which every coordinate is
            weighted down, or a vector (n,) of fractions that the space contains. For large deletions: the
            expected deleted fraction.
        design: of the directions, ``"independent"`` or ``"orthogonal"`` (in blocks of q; the standard errors, which
            count them as independent, are then too large for order one, and up to a factor √(1 + 2/q) too small for
            order two).
        store: a directory. Every block of directions is written there when it is done, and is not kept in memory;
            the same call goes on where it was stopped, with the same bytes at the end. See :func:`open_sketch`.
        queries: ``{name: query}``, where all are known beforehand: only their coefficients are kept, not the
            parameters' (kilobytes instead of models). Ask for them by name.
        repair: compute damaged blocks of the store again instead of refusing them, and write a damaged manifest again.
        shard: ``(i, N)``, with a store: only every N-th block, beginning with the i-th (from 0), so that N
            independent processes fill one store. What is not there yet is then missing from the sketch
            returned: open the store when all have ended.

    Returns:
        A :class:`Sketch`.

    Raises:
        UnsupportedPrimitive: the program uses an operation without a Taylor rule.
        FloatingPointError: the training run or its jets are not finite.
        ValueError, TypeError: arguments that do not fit, ``train`` refusing weights of shape (n,); parameters or
            ``queries`` that depend on the weights through flat operations only (a sign, an argmax), whose series would
            be a certain zero; a run of weighted means in which one coordinate of the space is all of a batch.
        StoreError: the store was made by other arguments, is damaged, or cannot be written.

    Example:
        >>> import jax.numpy as jnp, sketchlearn as sl
        >>> s = sl.sketch(lambda w: w.sum() ** 2, sl.Examples(3), degree=2, num_directions=8, progress=False)
        >>> s
        Sketch(8 directions, degree 2, Examples(3), key=0)
    """
    degree, m = check_degree(degree), check_count("num_directions", num_directions)
    key = check_key(key)
    weights = full_weights(space, dtype)
    check_design(design, space.dim)
    start_at = centre_of(space, centre)
    base = weights if start_at is None else weights - space.embed(jnp.asarray(start_at, weights.dtype))
    algebra = series(degree)
    shapes = check_train(train, weights)
    check_emptying(train, space)
    if queries is not None:
        _check_queries(queries, shapes)
    check_mesh(mesh, store)
    if batch_size is None:
        own_memory = 1 if mesh is None or jax.default_backend() == "cpu" else mesh.size
        batch_size = own_memory * affordable_block(train, weights, algebra)
    batch_size = min(check_count("batch_size", batch_size), m)
    _check_shard(shard, store)
    if repair and store is None:
        raise ValueError("repair=True mends a store: give store=path, too.")
    keep: Kept
    width = None
    kept = shapes if queries is None else {n: shapes_of(q, shapes) for n, q in queries.items()}
    models = 2 + (space.dim * (degree + 1) if additive else 0)
    needed = 2 * m * degree * _bytes(kept) + models * _bytes(shapes)
    if store is None:
        check_memory(needed)
        keep = InMemory(m)
    else:
        made_of = arguments_of(train, weights, space, degree, m, key, design, additive, start_at, queries, shapes)
        keep = OnDisk(
            store,
            made_of,
            batch_size,
            m,
            needed,
            repair,
            shard,
            jax.tree.structure(shapes),
            weighted_mean_batches(train),
        )
        batch_size, width = keep.batch_size, keep.lanes

    def draw(start: int, size: int) -> tuple[jax.Array, jax.Array]:
        return directions(key, jnp.arange(start, start + size), space.dim, weights.dtype, design)

    def at_fault(direction: int) -> str:
        re, im = draw(direction, 1)
        return explanation(train, base, -space.embed(jax.lax.complex(re[0], im[0])), degree)

    program: Callable = functools.partial(jets_along, train, space, base, algebra)
    drawn: Callable = draw
    if mesh is not None:
        program, drawn = spread(mesh, program, draw)
    at_centre: Any = None
    found = in_blocks(
        program,
        drawn,
        m,
        batch_size,
        "sketching",
        "direction",
        progress,
        keep.done(parts_of(m, batch_size, width)),
        width,
        abreast=None if mesh is None else 1,
    )
    pushed = {name: along(query, m) for name, query in (queries or {}).items()}
    for start, stop, (at_centre, block) in found:
        if mesh is not None:  # copied from the mesh, whose devices nothing afterwards has to know
            at_centre = jax.tree.map(lambda a: jnp.asarray(np.asarray(a)), at_centre)
        check_parameters(at_centre, why=lambda: explanation(train, base))
        jets = cut(block, stop - start)
        check_jets(jets, start, at_fault)
        check_moved(jets, train, base)
        measurements = {name: through(jets, at_centre) for name, through in pushed.items()}
        keep.put(start, stop, measurements or jets)

    def finish() -> tuple[Any, Any, Alone | None]:
        """The parameters with nothing deleted and at the centre, and what each coordinate does alone."""
        centred = at_centre if at_centre is not None else jit(train)(base)
        plain = centred if start_at is None else jit(train)(weights)
        check_parameters(plain, why=lambda: explanation(train, weights))
        if not additive:
            return plain, centred, None
        zero = np.zeros(space.dim) if start_at is None else start_at
        return plain, centred, run_alone(train, space, degree, base, zero, min(batch_size, space.dim), progress)

    plain, centred, alone = keep.finish(finish)
    every = None
    if queries is not None and (shard is None or keep.complete()):
        every = keep.measured(
            {n: functools.partial(measured, q, plain, centred, alone=alone) for n, q in queries.items()}
        )
    jets = keep.jets() if queries is None else None
    batches = weighted_mean_batches(train)
    return Sketch(space, degree, key, plain, jets, start_at, centred, alone, design, every, m, batches)


def _bytes(shapes: Any) -> int:
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(shapes))


def _check_queries(queries: Any, shapes: Any) -> None:
    if not isinstance(queries, dict) or not queries or not all(isinstance(name, str) for name in queries):
        raise TypeError(f"queries must be a dict from names to functions, with at least one, got {queries!r}.")
    for query in queries.values():
        check_smooth_query(query, shapes)


def _check_shard(shard: Any, store: Any) -> None:
    if shard is None:
        return
    if store is None:
        raise ValueError("shard=(i, N) fills a store together with other processes: give store=path, too.")
    whole = isinstance(shard, (tuple, list)) and len(shard) == 2 and all(isinstance(i, int) for i in shard)
    if not (whole and 0 <= shard[0] < shard[1]):
        raise ValueError(f"shard must be whole numbers (i, N) with 0 <= i < N, got {shard!r}.")
