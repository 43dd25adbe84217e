"""A pilot of a sketch: a few directions and a few deletions, run for real and timed.

The deletions are directions too: along ``z`` itself the series gives the Taylor terms ``P_r(z)`` exactly, and training
again gives the change they add up to. So what a degree leaves out is measured and not extrapolated, and of the
random directions only the size of the noise is asked.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from jaxtyping import Complex, Float

from sketchlearn.deletions.base import Space
from sketchlearn.deletions.centre import full_weights
from sketchlearn.deletions.directions import directions
from sketchlearn.errors import check_count, check_degree
from sketchlearn.execution.blocks import SMALLEST_SHARE, blocks, compiled_size, largest_block
from sketchlearn.execution.directional import check_jets, check_moved, deleting, jets_program
from sketchlearn.execution.memory import better_block, block_bytes, estimated_block
from sketchlearn.execution.progress import track
from sketchlearn.execution.runs import batched_program
from sketchlearn.runtime import jax_compat as compat
from sketchlearn.runtime.programs import jit
from sketchlearn.runtime.seeds import subseed
from sketchlearn.runtime.workers import num_workers, side_by_side
from sketchlearn.sketching.jets import JetsInMemory
from sketchlearn.sketching.sketch import Sketch
from sketchlearn.taylor.cauchy.points import CHUNK, POINTS_AT_ONCE
from sketchlearn.taylor.cauchy.search import MAX_RADII
from sketchlearn.training.emptied_batches import check_emptying
from sketchlearn.training.program import check_parameters, check_smooth_query, check_train

LONG = 5.0  # seconds: a first run also loads the program, a second or two; above this that no longer matters
CHEAP = 10.0  # seconds: a block of the sketch's own size is timed if plain trainings suggest that it takes less


class Cost(NamedTuple):
    """What directions of one degree cost here, in seconds and bytes.

    Attributes:
        degree: k.
        compile_seconds: tracing and compiling, once; with the program that draws directions.
        direction_seconds: of one direction, with all ``width`` workers busy.
        alone_seconds: of one direction, with one worker busy.
        width: workers side by side.
        block: directions that the sketch would run at once, in all workers.
        timed: directions of the block that was timed, in one worker.
        working_bytes: of one direction while it runs, its jets with them.
        jet_bytes: of one direction's jets, which are kept.
        parameter_bytes: of the trained parameters.
    """

    degree: int
    compile_seconds: float
    direction_seconds: float
    alone_seconds: float
    width: int
    block: int
    timed: int
    working_bytes: float
    jet_bytes: int
    parameter_bytes: int

    def seconds(self, num_directions: int) -> float:
        """Compiling, and running every block of ``num_directions`` directions in the sketch's own partition."""
        width, size, count = split(self.block, num_directions)
        each = np.interp(width, [1, max(self.width, 1.5)], [self.alone_seconds, self.direction_seconds])
        return self.compile_seconds + float(each) * size * width * math.ceil(count / width)

    def peak_bytes(self, num_directions: int) -> float:
        """The largest total size of arrays: all jets, the blocks that run, and the results that wait."""
        width, size, _ = split(self.block, num_directions)
        running = width * size * self.working_bytes + size * self.jet_bytes
        return self.parameter_bytes + num_directions * self.jet_bytes + running

    def disk_bytes(self, num_directions: int) -> int:
        """All jets and the parameters."""
        return self.parameter_bytes + num_directions * self.jet_bytes


class Pilot(NamedTuple):
    """What a pilot saw; the query's outputs are flattened to Q.

    Attributes:
        coefficients: (pilot, k, Q) complex, along random directions, others than a sketch with the same seed has.
        terms: (D, k, Q), the exact Taylor terms of the deletions.
        changes: (D, Q), by how much retraining without them changes the query.
        costs: one :class:`Cost` for each degree 1..k.
        training_seconds: of one plain training, in a batch.
    """

    coefficients: Complex[np.ndarray, "pilot k Q"]
    terms: Float[np.ndarray, "D k Q"]
    changes: Float[np.ndarray, "D Q"]
    costs: tuple[Cost, ...]
    training_seconds: float


def split(block: int, num_directions: int) -> tuple[int, int, int]:
    """How the sketch divides its work: workers, directions in a block of one worker, number of blocks."""
    together = min(block, num_directions)
    width = num_workers(together, SMALLEST_SHARE)
    parts = list(blocks(num_directions, math.ceil(together / width)))
    return width, compiled_size(parts[0][1] - parts[0][0]), len(parts)


def multiplications(degree: int) -> int:
    """Real multiplications for one of complex series with a real start: ``1 + 2k(k + 1)``."""
    return 1 + 2 * degree * (degree + 1)


def run_pilot(
    train: Callable,
    space: Space,
    query: Callable,
    z: np.ndarray,
    degree: int,
    pilot: int,
    num_directions: int,
    seed: int,
    dtype: DTypeLike | None = None,
    progress: bool = True,
) -> Pilot:
    """Run and time programs of every degree, and retrain without each deletion.

    Args:
        train: weights (n,) -> parameters.
        space: of the deletions.
        query: parameters -> real array.
        z: coordinates (D, q) of deletions.
        degree: k.
        pilot: how many random directions.
        num_directions: m, which decides the blocks that are timed.
        seed: the seed of the directions.
        dtype: of the weights.
        progress: show a progress bar.
    """
    weights = full_weights(space, dtype)
    check_smooth_query(query, check_train(train, weights))
    check_emptying(train, space)
    deletions = jnp.asarray(z, weights.dtype)
    again = batched_program(train)
    rows_of_weights = jnp.concatenate([weights[None], weights - space.embed(deletions)])
    retrained = jax.block_until_ready(again(rows_of_weights))
    training_seconds = _seconds(lambda: again(rows_of_weights)) / len(rows_of_weights)
    check_parameters(jax.tree.map(lambda p: p[0], retrained))
    retrained = jax.tree.map(lambda p: p[1:], retrained)
    check_parameters(retrained, "training without a typical deletion")

    seed = subseed("pilot directions", seed)
    re, im = directions(seed, jnp.arange(pilot), space.dim, weights.dtype)
    rows = jnp.concatenate([re, deletions]), jnp.concatenate([im, jnp.zeros_like(deletions)])
    block = jnp.arange(split(largest_block(), num_directions)[1])
    drawing = _seconds(lambda: directions(seed, block, space.dim, weights.dtype))
    costs = []
    for k in track(range(1, degree + 1), "pilot", "degree", total=degree, show=progress):
        cost, parameters, jets = _run_degree(train, space, weights, k, rows, num_directions, training_seconds)
        check_parameters(parameters)
        costs.append(cost._replace(compile_seconds=cost.compile_seconds + drawing))
    first, last = (jax.tree.map(lambda c, s=s: c[s], jets) for s in (slice(pilot), slice(pilot, None)))
    check_jets(first, 0)
    check_moved(first, train, weights)
    try:
        check_jets(last, 0)
    except FloatingPointError as error:
        raise FloatingPointError(f"along the typical deletions: {error}") from error
    baseline, c = Sketch(space, degree, seed, JetsInMemory(jets), parameters).measure(query)
    c = c.reshape(len(c), degree, -1).astype(np.complex128)
    values = np.asarray(jit(jax.vmap(query))(retrained), np.float64).reshape(len(z), -1)
    if not np.isfinite(values).all():
        raise FloatingPointError("the query is not finite after training without a typical deletion.")
    changes = values - baseline.reshape(-1).astype(np.float64)
    return Pilot(c[:pilot], c[pilot:].real, changes, tuple(costs), training_seconds)


def _seconds(run: Callable) -> float:
    begun = time.perf_counter()
    jax.block_until_ready(run())
    return time.perf_counter() - begun


def _run_degree(
    train: Callable, space: Space, weights: Any, degree: int, rows: tuple, num_directions: int, training_seconds: float
) -> tuple[Cost, Any, Any]:
    """The cost of one degree, the parameters, and the jets along all rows of (real, imaginary) parts."""
    count = len(rows[0])
    block = estimated_block(train, weights, degree)
    width, own, count_of_blocks = split(block, num_directions)
    cheap = training_seconds * multiplications(degree) * own < CHEAP
    size = own if cheap else min(count, own)  # a larger block than the rows need is filled by repeating them
    chunks = np.split(np.resize(np.arange(count), size * math.ceil(count / size)), math.ceil(count / size))

    begun = time.perf_counter()
    compiled = jets_program(train, degree).compiled(
        weights, *deleting(space, *(part[chunks[0]] for part in rows)), calls=count_of_blocks
    )
    compile_seconds = time.perf_counter() - begun

    outputs = []
    for chunk in chunks:
        args = weights, *deleting(space, *(part[chunk] for part in rows))
        begun = time.perf_counter()
        outputs.append(jax.block_until_ready(compiled(*args)))
        alone = time.perf_counter() - begun
    if alone < LONG and len(chunks) == 1:
        alone = _seconds(lambda: compiled(*args))
    # as in the sketch, where workers compete for the cores and for the memory's bandwidth
    together = _seconds(lambda: list(side_by_side(compiled, [args] * width, width))) / width if width > 1 else alone
    alone = min(
        alone, together * width
    )  # a worker is not slower for being alone: where it seems so, it was interrupted
    parameters = outputs[0][0]
    jets = jax.tree.map(lambda *c: np.concatenate(c)[:count], *(out for _, out in outputs))
    jet_bytes = sum(c.nbytes for c in jax.tree.leaves(jets)) // count
    working = block_bytes(compiled, size, train, weights, degree)
    parameter_bytes = sum(p.nbytes for p in jax.tree.leaves(parameters))
    block = better_block(block, working / size * block, largest_block())  # as the sketch decides
    return (
        Cost(
            degree,
            compile_seconds,
            together / size,
            alone / size,
            width,
            block,
            size,
            working / size,
            jet_bytes,
            parameter_bytes,
        ),
        parameters,
        jets,
    )


class Rough(NamedTuple):
    """What a run may cost, by counting operations."""

    low_seconds: float
    high_seconds: float
    peak_bytes: float
    disk_bytes: int


def rough_estimate(
    train: Callable,
    space: Space,
    degree: int,
    num_directions: int,
    circles: bool = False,
    dtype: DTypeLike | None = None,
) -> Rough:
    """What a sketch, or a profile on circles, may cost: one plain training, timed, times a count of operations.

    Series of degree k take ``1 + 2k(k + 1)`` multiplications for one. Work that is no multiplication, or that is done
    once for all directions, makes that less: 0.3 to 0.7 of it, measured on microgpt, so the range is 0.3 to 1. A
    point of a circle takes 4, and there are one to four circles. No program of series is compiled.

    Args:
        train: weights (n,) -> parameters.
        space: of the deletions.
        degree: k.
        num_directions: m.
        circles: whether the degree is reached on circles, as in :func:`sketchlearn.stability_profile`.
        dtype: of the weights.
    """
    degree, m = check_degree(degree), check_count("num_directions", num_directions)
    weights = full_weights(space, dtype)
    check_train(train, weights)
    rows = jnp.broadcast_to(weights, (8, *weights.shape))
    begun = time.perf_counter()
    plain = batched_program(train).compiled(rows)
    compile_seconds = time.perf_counter() - begun
    parameters = plain(rows)
    width = num_workers(m * SMALLEST_SHARE if circles else min(m, 4 * SMALLEST_SHARE), SMALLEST_SHARE)
    each = _seconds(lambda: list(side_by_side(plain, [(rows,)] * width, width))) / (8 * width)
    size = sum(p.nbytes for p in jax.tree.leaves(parameters)) // 8
    alive = compat.peak_bytes(compat.trace(train, weights).jaxpr)
    if circles:
        points = m * CHUNK * max(1, math.ceil(1.1 * degree / CHUNK))
        fixed = 4 * compile_seconds
        return Rough(
            fixed + 4 * points * each, fixed + 4 * MAX_RADII * points * each, 2.0 * POINTS_AT_ONCE * width * alive, 0
        )
    block = estimated_block(train, weights, degree)
    high = multiplications(degree) * (compile_seconds + m * each)
    cost = Cost(degree, 0, 0, 0, width, block, 0, 2.0 * degree * alive, 2 * degree * size, size)
    return Rough(0.3 * high, high, cost.peak_bytes(m), cost.disk_bytes(m))
