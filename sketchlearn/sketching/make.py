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
from jax.typing import DTypeLike

from sketchlearn.deletions.base import Space
from sketchlearn.deletions.centre import centre_of, full_weights
from sketchlearn.deletions.directions import check_design
from sketchlearn.errors import check_count, check_degree, check_seed, shown
from sketchlearn.execution.blocks import SMALLEST_SHARE, compiled_block, cut, in_blocks, largest_block, parts_of
from sketchlearn.execution.directional import check_jets, check_moved, deleting, jets_program
from sketchlearn.execution.memory import block_bytes, check_block, check_memory, estimated_block, fitting_block
from sketchlearn.execution.meshes import check_mesh, spread
from sketchlearn.execution.runs import plain_program
from sketchlearn.runtime.precision import asked_precision
from sketchlearn.runtime.programs import jit
from sketchlearn.runtime.workers import num_workers
from sketchlearn.sketching.base import Common, JetSink
from sketchlearn.sketching.jets import MemorySink
from sketchlearn.sketching.query_jets import pusher, query_jets
from sketchlearn.sketching.request import SketchRequest
from sketchlearn.sketching.single_coordinates import run_single_coordinates
from sketchlearn.sketching.sketch import Sketch
from sketchlearn.sketching.store.blocks import StoreSink
from sketchlearn.training.emptied_batches import check_emptying
from sketchlearn.training.nonfinite import explanation
from sketchlearn.training.program import check_parameters, check_smooth_query, check_train, weighted_mean_batches


def sketch(
    train: Callable,
    space: Space,
    degree: int = 3,
    num_directions: int = 500,
    seed: int = 0,
    batch_size: int | None = None,
    dtype: DTypeLike | None = None,
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
    precision: str | None = None,
) -> Sketch:
    """Run a training program over power series along random complex directions of its weights.

    ``train(1 - G (z_0 + t ψ_i)) = Σ_{r<=k} θ_r t^r`` for i = 1..m, with ψ_i uniform on the unit
    sphere of C^q, G the space's embedding and z_0 the centre, 0 if not given.

    Args:
        train: weights (n,) -> parameters; a pure JAX function, any pytree of floating arrays. As with ``jax.jit``, the
            same function object is traced and compiled once in a process: it must not read data that change.
        space: which deletions can be asked for, for instance ``Examples(n)``.
        degree: k, the highest order kept.
        num_directions: m; the error of a prediction falls like ``1/sqrt(m)``.
        seed: the seed of the directions, a whole number.
        batch_size: directions run at once; by default as many as half the free memory holds by the compiler's
            account, at most 128 on a CPU and 1,024 on an accelerator. It changes no result beyond rounding.
        dtype: of the weights, float32 or float64; by default the wider one that is enabled.
        progress: show a progress bar (on stderr).
        mesh: devices that share the directions of every block, for instance ``jax.make_mesh((4,), ("directions",))``;
            of one process or, after ``jax.distributed.initialize``, of several, which then all get the whole
            sketch. The number of devices changes no result beyond rounding.
        additive: also run each of the q coordinates by itself, as a real series and retrained without it (about
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
        precision: of float32 products on an accelerator, as ``jax.default_matmul_precision`` names it: by default all
            digits. ``"high"`` (TF32 on a GPU) is faster, with coefficients to three digits. A CPU always computes all.

    Returns:
        A :class:`Sketch`.

    Raises:
        UnsupportedPrimitive: the program uses an operation without a Taylor rule.
        FloatingPointError: the training run or its jets are not finite.
        ValueError, TypeError: arguments that do not fit, ``train`` refusing weights of shape (n,); parameters or
            ``queries`` that depend on the weights through flat operations only (a sign, an argmax), whose series would
            be a certain zero; a run of weighted means in which one coordinate of the space is all of a batch.
        MemoryError: the jets, or a block of directions while it runs, would not fit into the free memory.
        StoreError: the store was made by other arguments, is damaged, or cannot be written.

    Example:
        >>> import jax.numpy as jnp, sketchlearn as sl
        >>> s = sl.sketch(lambda w: w.sum() ** 2, sl.Examples(3), degree=2, num_directions=8, progress=False)
        >>> s
        Sketch(8 directions, degree 2, Examples(3), seed=0)
    """
    with asked_precision(precision):
        request = _checked(train, space, degree, num_directions, seed, dtype, additive, centre, design, queries)
        check_mesh(mesh, store)
        _check_shard(shard, store)
        if repair and store is None:
            raise ValueError("repair=True mends a store: give store=path, too.")
        program, draw = _program(request, mesh)
        needed = functools.partial(_needed_bytes, request, mesh, program, draw)
        wanted = None if batch_size is None else min(check_count("batch_size", batch_size), request.count)

        def sizes() -> int:
            return wanted or _automatic_block(request, mesh, needed)

        sink: JetSink
        width = None
        if store is None:
            check_memory(request.expected_bytes())
            sink, batch_size = MemorySink(request.count), sizes()
        else:
            sink = StoreSink(store, request, sizes, repair, shard)
            batch_size, width = sink.batch_size, sink.workers
        at_centre = _fill(sink, request, program, draw, needed, batch_size, width, mesh is not None, progress)
        common = sink.finish(lambda: _common(request, at_centre, batch_size, progress))
        plain, centred, singles = common
        measured = None
        if queries is not None:
            measured = {
                name: functools.partial(query_jets, q, plain, centred, singles=singles) for name, q in queries.items()
            }
        return Sketch(
            space,
            request.degree,
            request.seed,
            sink.source(measured),
            plain,
            centre=request.centre,
            parameters_at_centre=centred,
            single_coordinates=singles,
            design=design,
            batches=weighted_mean_batches(train),
        )


def _checked(
    train: Callable,
    space: Space,
    degree: Any,
    num_directions: Any,
    seed: Any,
    dtype: Any,
    additive: bool,
    centre: Any,
    design: str,
    queries: Any,
) -> SketchRequest:
    """What was asked for, or what is wrong with it."""
    degree, count, seed = check_degree(degree), check_count("num_directions", num_directions), check_seed(seed)
    weights = full_weights(space, dtype)
    check_design(design, space.dim)
    coordinates = centre_of(space, centre)
    base = weights if coordinates is None else weights - space.embed(jnp.asarray(coordinates, weights.dtype))
    shapes = check_train(train, weights)
    check_emptying(train, space)
    if queries is not None:
        _check_queries(queries, shapes)
    return SketchRequest(
        train, space, degree, count, seed, design, additive, coordinates, weights, base, shapes, queries
    )


def _program(request: SketchRequest, mesh: Mesh | None) -> tuple[jit, Callable]:
    """What runs a block of directions, and what draws its arrays."""

    def draw(start: int, size: int) -> tuple[jax.Array, ...]:
        return request.base, *deleting(request.space, *request.draw(start, size))

    program = jets_program(request.train, request.degree)
    return (program, draw) if mesh is None else spread(mesh, program, draw)


def _needed_bytes(
    request: SketchRequest, mesh: Mesh | None, program: jit, draw: Callable, batch_size: int, width: int | None = None
) -> float:
    """What the compiler says of ``batch_size`` directions at once, in all programs that share a memory."""
    run, size, parts = compiled_block(program, draw, request.count, batch_size, width)
    needed = block_bytes(run, size, request.train, request.weights, request.degree)
    if mesh is not None:
        return needed * (mesh.size if jax.default_backend() == "cpu" else 1)
    return needed * min(num_workers(batch_size, SMALLEST_SHARE), len(parts))


def _automatic_block(request: SketchRequest, mesh: Mesh | None, needed: Callable[[int], float]) -> int:
    """As many directions at once as half of the free memory holds."""
    memories = 1 if mesh is None or jax.default_backend() == "cpu" else mesh.size
    first = memories * estimated_block(request.train, request.weights, request.degree)
    return fitting_block(needed, first, min(request.count, memories * largest_block()))


def _fill(
    sink: JetSink,
    request: SketchRequest,
    program: jit,
    draw: Callable,
    needed: Callable[..., float],
    batch_size: int,
    width: int | None,
    alone: bool,
    progress: bool,
) -> Any:
    """Run the blocks that the sink lacks; returns the parameters at the centre, None if it lacked none."""
    count = request.count
    parts = parts_of(count, batch_size, width)
    done = sink.done(parts)
    if len(done) < len(parts):
        check_block(needed(batch_size, width), min(batch_size, count), request.degree)
    run_blocks = in_blocks(
        program, draw, count, batch_size, "sketching", "direction", progress, done, width, abreast=1 if alone else None
    )
    pushed = {name: pusher(query, count) for name, query in (request.queries or {}).items()}
    at_centre: Any = None
    for start, stop, (at_centre, block) in run_blocks:
        if alone:  # copied from the mesh, whose devices nothing afterwards has to know
            at_centre = jax.tree.map(lambda a: jnp.asarray(np.asarray(a)), at_centre)
        check_parameters(at_centre, why=lambda: explanation(request.train, request.base))
        jets = cut(block, stop - start)
        check_jets(jets, start, request.why_not_finite)
        check_moved(jets, request.train, request.base)
        measurements = {name: push(jets, at_centre) for name, push in pushed.items()}
        sink.put(start, stop, measurements or jets)
    return at_centre


def _common(request: SketchRequest, at_centre: Any, batch_size: int, progress: bool) -> Common:
    """The parameters with nothing deleted and at the centre, and what each coordinate does by itself."""
    train, weights, space = request.train, request.weights, request.space
    centred = at_centre if at_centre is not None else plain_program(train)(request.base)
    plain = centred if request.centre is None else plain_program(train)(weights)
    check_parameters(plain, why=lambda: explanation(train, weights))
    if not request.additive:
        return plain, centred, None
    zero = np.zeros(space.dim) if request.centre is None else request.centre
    singles = run_single_coordinates(
        train, space, request.degree, request.base, zero, min(batch_size, space.dim), progress
    )
    return plain, centred, singles


def _check_queries(queries: Any, shapes: Any) -> None:
    if not isinstance(queries, dict) or not queries or not all(isinstance(name, str) for name in queries):
        raise TypeError(f"queries must be a dict from names to functions, with at least one, got {shown(queries)}.")
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
