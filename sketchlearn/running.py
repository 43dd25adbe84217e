"""Running a training program along many directions of its weights at once, in blocks that fit into memory."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import psutil

from . import _jax_compat as compat
from .algebra import Algebra, Jet, StackedSeries, stack_parts
from .errors import FlatQuery, FlatTraining, check_dtype
from .flatness import flat_query, why_flat_training
from .lanes import lanes, side_by_side
from .precision import jit, shapes_of
from .progress import track
from .spaces import Space
from .taylor.dependence import dependence
from .taylor.interpreter import Context
from .taylor.transform import evaluate

LARGEST_BLOCK = 128  # larger blocks were not faster on a CPU
SMALLEST_LANE = 32  # below, each operation is too small to be fast


def blocks(count: int, largest: int) -> Iterator[tuple[int, int]]:
    """Split ``count`` into blocks of nearly equal size, none above ``largest``."""
    size = math.ceil(count / math.ceil(count / largest))
    for start in range(0, count, size):
        yield start, min(start + size, count)


def parts_of(count: int, batch_size: int, width: int | None = None) -> list[tuple[int, int]]:
    """The blocks of a long axis that are run one by one, ``batch_size`` rows at once in all lanes together."""
    return list(blocks(count, math.ceil(batch_size / (width or lanes(batch_size, SMALLEST_LANE)))))


def in_blocks(
    program: Callable,
    draw: Callable,
    count: int,
    batch_size: int,
    title: str,
    unit: str,
    progress: bool,
    skip: Collection[int] = (),
    width: int | None = None,
    abreast: int | None = None,
) -> Iterator[tuple[int, int, Any]]:
    """Run a program on blocks of a long leading axis, side by side on a CPU's cores.

    Args:
        program: of the arrays that ``draw`` returns; compiled once.
        draw: ``(start, size) ->`` the arrays of a block. They are made outside the program: fused into it, the last
            digits of random directions would depend on what it is.
        count: length of the axis; the last block may reach beyond it.
        batch_size: rows run at once.
        title, unit: of the progress bar.
        progress: show it.
        skip: where blocks start that need not be run.
        width: lanes to cut ``batch_size`` for, by default as many as this machine has.
        abreast: blocks run at once, by default as many as this machine has lanes.

    Yields:
        ``start, stop, program(*draw(start, size))``, in order.
    """
    every = parts_of(count, batch_size, width)
    size = every[0][1] - every[0][0]  # of every block, so that one compiled program serves all
    parts = [part for part in every if part[0] not in skip]
    if not parts:
        return
    compiled = jit(program).lower(*draw(0, size)).compile()  # before the lanes, which would each compile it
    abreast = lanes(batch_size, SMALLEST_LANE) if abreast is None else abreast
    done = zip(parts, side_by_side(compiled, (draw(start, size) for start, _ in parts), abreast), strict=True)
    for (start, stop), out in track(done, title, unit, scale=size, total=sum(b - a for a, b in parts), show=progress):
        yield start, stop, out


def collect(found: Iterator[tuple[int, int, Any]], count: int, check: Callable) -> Any:
    """The blocks of a pytree (size, ...) put together to (count, ...), each checked by ``check(block, start)``."""
    whole: Any = None
    for start, stop, block in found:
        block = cut(block, stop - start)
        check(block, start)
        whole = filled(whole, block, start, count)
    return whole


def cut(block: Any, size: int) -> Any:
    """The first ``size`` rows of a block, as NumPy arrays."""
    return jax.tree.map(lambda c: np.asarray(c)[:size], block)


def filled(whole: Any, block: Any, start: int, count: int) -> Any:
    """The pytree (count, ...) with a block in its place; made if it is ``None``."""
    if whole is None:
        whole = jax.tree.map(lambda c: np.empty((count, *c.shape[1:]), c.dtype), block)
    for to, part in zip(jax.tree.leaves(whole), jax.tree.leaves(block), strict=True):
        to[start : start + len(part)] = part
    return whole


def jets_along(train: Callable, space: Space, weights: Any, algebra: Algebra, *direction: Any) -> tuple[Any, Any]:
    """The parameters at ``weights``, and the jets (B, k, ...) of ``weights - t G ψ`` along directions.

    ``direction`` is the real and the imaginary part, (B, q) each, or the real part alone for a real algebra.

    Raises:
        ValueError: when it is traced, if no parameter depends on the weights by smooth operations.
    """

    def one(*parts: Any) -> tuple[Any, Any]:
        x = [-space.embed(part) for part in parts]
        out = evaluate(train, Context(algebra), weight_jet(algebra, weights, x))
        if not any(map(_is_jet, jax.tree.leaves(out, is_leaf=_is_jet))):
            raise FlatTraining(why_flat_training(train, weights))
        jets = jax.tree.map(lambda y: y if isinstance(y, Jet) else Jet(y, algebra.zeros(y)), out, is_leaf=_is_jet)
        return (
            jax.tree.map(lambda y: y.primal, jets, is_leaf=_is_jet),
            jax.tree.map(lambda y: stack_parts(algebra, y.parts), jets, is_leaf=_is_jet),
        )

    return jax.vmap(one, out_axes=(None, 0))(*direction)


def weight_jet(algebra: Algebra, weights: Any, direction: list[Any]) -> Jet:
    """The jet of ``weights + t·direction``, the direction as [real, imaginary] or [real]."""
    if isinstance(algebra, StackedSeries):
        return Jet(weights, algebra.zeros(weights).at[0].set(jnp.stack(direction)))
    return Jet(weights, (tuple(direction),))


def _is_jet(x: Any) -> bool:
    return isinstance(x, Jet)


def full_weights(space: Space, dtype: Any = None) -> jax.Array:
    """The weights (n,) of a training run with nothing deleted."""
    if isinstance(space, type) or not all(hasattr(space, name) for name in ("locate", "embed", "num_examples", "dim")):
        raise TypeError(f"space must be Examples(n), Candidates, Groups or the like, got {space!r}.")
    return jnp.ones(space.num_examples, check_dtype(dtype))


def centre_of(space: Space, centre: Any) -> np.ndarray | None:
    """The coordinates of the centre, (q,), or None for full weights."""
    if centre is None:
        return None
    if np.ndim(centre) == 0:
        if isinstance(centre, (bool, str)) or not 0 < float(centre) < 1:
            raise ValueError(
                "centre must be a fraction between 0 and 1 by which every coordinate is weighted down, "
                f"or a vector (n,) of fractions, got {centre!r}."
            )
        return np.full(space.dim, float(centre))
    fractions = np.asarray(centre, float)
    if fractions.ndim == 1 and not fractions.any():
        return None
    found = getattr(space, "locate_vectors", space.locate)(fractions)  # fractions here, whatever groups are called
    if found.ndim != 1 or (found < 0).any() or (found >= 1).any():
        raise ValueError(
            "a centre is one vector of fractions, at least 0 and below 1 (at 1 an example would have no weight left)."
        )
    return found


def _shapes(f: Callable, argument: Any, failed: str) -> Any:
    try:
        return shapes_of(f, argument)
    except Exception as error:
        raise ValueError(f"{failed} ({type(error).__name__}: {error})") from error


def check_train(train: Callable, weights: Any) -> Any:
    """The shapes of what ``train`` returns, without running it; or say why it cannot be sketched."""
    if not callable(train):
        raise TypeError(f"train must be a function of the weights, got {type(train).__name__}.")
    shapes = _shapes(train, weights, f"train failed on weights of shape {weights.shape} and dtype {weights.dtype}")
    if not jax.tree.leaves(shapes):
        raise TypeError("train returned nothing: it must return the trained parameters.")
    if any(jnp.issubdtype(leaf.dtype, jnp.complexfloating) for leaf in jax.tree.leaves(shapes)):
        raise TypeError(
            "train returns complex numbers, whose jets along complex directions would mix two imaginary units: return "
            "their real and imaginary parts as two arrays."
        )
    return shapes


def check_query(query: Any, parameters: Any) -> Any:
    """The shape of a query's answer, without running it; or say what a query has to be."""
    if not callable(query):
        raise TypeError(f"query must be a function of the trained parameters, got {type(query).__name__}.")
    tree = jax.tree.structure(parameters)
    answer = _shapes(query, parameters, f"the query failed on what train returns, a pytree of structure {tree}")
    if not isinstance(answer, jax.ShapeDtypeStruct):
        raise TypeError(
            "a query returns one array (or number), this one a pytree of structure "
            f"{jax.tree.structure(answer)}; stack several values into one array."
        )
    if not jnp.issubdtype(answer.dtype, jnp.floating):
        raise TypeError(
            "a query returns real floating-point numbers (a loss, a logit), this one an array of dtype "
            f"{answer.dtype}, which has no Taylor coefficients."
        )
    return answer


def check_smooth_query(query: Any, parameters: Any, reverse: bool = False) -> Any:
    """The shape of a query's answer; refuse one of which no output depends on the parameters by smooth operations.

    Args:
        query: of what ``train`` returns.
        parameters: that, or its shapes.
        reverse: whether JAX's own derivatives are asked for, to which ``stop_gradient`` is a constant.
    """
    shape = check_query(query, parameters)
    found = dependence(query, parameters, reverse)
    if not any(found.reached):
        raise FlatQuery(flat_query(found.through))
    return shape


def check_moved(jets: Any, train: Callable, weights: Any) -> None:
    """Refuse jets (M, k, ...) that are zero at every order along every direction."""
    if not any(np.any(leaf) for leaf in jax.tree.leaves(jets)):
        raise FlatTraining(f"every coefficient of every parameter is zero: {why_flat_training(train, weights)}")


def check_parameters(
    parameters: Any, what: str = "training with nothing deleted", why: Callable[[], str] = lambda: ""
) -> None:
    """Refuse a run that is not finite; ``why()`` says more."""
    for path, leaf in jax.tree_util.tree_leaves_with_path(parameters):
        if not np.isfinite(np.asarray(leaf)).all():
            raise FloatingPointError(f"{what} gives NaN or infinity in {_named(path)}.{why()}")


def check_jets(jets: Any, start: int, why: Callable[[int], str] = lambda direction: "") -> None:
    """Refuse jets that are not finite, naming the direction; ``why(direction)`` says more."""
    for path, leaf in jax.tree_util.tree_leaves_with_path(jets):
        bad = np.argwhere(~np.isfinite(leaf))
        if len(bad):
            direction, order = start + int(bad[0][0]), int(bad[0][1]) + 1
            raise FloatingPointError(
                f"the jet of {_named(path)} is not finite at order {order} along direction {direction}: training is "
                f"not differentiable there (a square root of zero?), or its series grows too fast for {leaf.dtype}. "
                "Use float64, a lower degree, or a more stable run (stability_profile shows how fast the orders grow)."
                f"{why(direction)}"
            )


def _named(path: Any) -> str:
    return f"parameter {jax.tree_util.keystr(path)}" if path else "the trained parameters"


def affordable_block(train: Callable, weights: Any, algebra: Algebra) -> int:
    """How many directions fit into half of the free memory, by estimate."""
    program = compat.trace(train, weights)
    each = 2 * algebra.degree * compat.peak_bytes(program.jaxpr)
    return int(np.clip(free_memory() / 2 // max(each, 1), 1, LARGEST_BLOCK))


def check_memory(expected: int) -> None:
    """Refuse to begin what will not fit."""
    free = psutil.virtual_memory().available
    if expected > free:
        raise MemoryError(
            f"the sketch needs about {expected / 1e9:.3g} GB of memory, and {free / 1e9:.3g} GB are free: keep it on "
            "disk (store=path), or only measurements (queries=); or fewer directions, or a lower degree."
        )


def held_memory() -> int:
    """Bytes of the computer's memory that this process holds now."""
    return psutil.Process().memory_info().rss


def free_memory() -> float:
    """Bytes of the device's memory, or of the computer's, that are free now."""
    stats = jax.local_devices()[0].memory_stats() or {}
    if "bytes_limit" in stats:
        return float(stats["bytes_limit"] - stats.get("bytes_in_use", 0))
    return float(psutil.virtual_memory().available)
