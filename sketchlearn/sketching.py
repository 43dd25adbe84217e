"""Making a sketch: the jets of a training run along random complex directions."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .algebra import series
from .controls import run_alone
from .directions import check_design, directions
from .errors import check_count, check_degree, check_key
from .querying import Sketch
from .running import (
    affordable_block,
    centre_of,
    check_jets,
    check_parameters,
    check_train,
    collect,
    full_weights,
    in_blocks,
    jets_along,
)
from .spaces import Space


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
    additive: bool = False,
    centre: Any = None,
    design: str = "independent",
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
        additive: also run each of the q coordinates alone, as a real series and trained again without it (about
            q/3 complex directions and q trainings). Deletions of one coordinate are then exact, and of the others
            only interactions are estimated.
        centre: where to expand instead of at full weights: a fraction between 0 and 1 by which every coordinate is
            weighted down, or a vector (n,) of fractions that the space contains. For large deletions: the
            expected deleted fraction.
        design: of the directions, ``"independent"`` or ``"orthogonal"`` (in blocks of q; the standard errors, which
            count them as independent, are then too large for order one).

    Returns:
        A :class:`Sketch`.

    Raises:
        UnsupportedPrimitive: the program uses an operation without a Taylor rule.
        FloatingPointError: the training run or its jets are not finite.
        ValueError, TypeError: arguments that do not fit, ``train`` refusing weights of shape (n,).

    Example:
        >>> import jax.numpy as jnp, sketchlearn as sl
        >>> s = sl.sketch(lambda w: w.sum() ** 2, sl.Examples(3), degree=2, num_directions=8, progress=False)
        >>> s
        Sketch(8 directions, degree 2, Examples(3), key=0)
    """
    degree, m = check_degree(degree), check_count("num_directions", num_directions)
    key = check_key(key)
    weights = full_weights(space, dtype)
    check_train(train, weights)
    check_design(design, space.dim)
    start_at = centre_of(space, centre)
    base = weights if start_at is None else weights - space.embed(jnp.asarray(start_at, weights.dtype))
    algebra = series(degree)
    if batch_size is None:
        batch_size = affordable_block(train, weights, algebra)
    batch_size = min(check_count("batch_size", batch_size), m)
    parameters_at_centre = None

    def draw(start: int, size: int) -> tuple[jax.Array, jax.Array]:
        return directions(key, jnp.arange(start, start + size), space.dim, weights.dtype, design)

    def jets() -> Iterator[tuple[int, int, Any]]:
        nonlocal parameters_at_centre
        program = functools.partial(jets_along, train, space, base, algebra)
        for start, stop, (found, block) in in_blocks(program, draw, m, batch_size, "sketching", "direction", progress):
            check_parameters(found)
            parameters_at_centre = found
            yield start, stop, block

    coefficients = collect(jets(), m, check_jets)
    parameters = parameters_at_centre
    if start_at is not None:
        parameters = jax.jit(train)(weights)
        check_parameters(parameters)
    alone = None
    if additive:
        zero = np.zeros(space.dim) if start_at is None else start_at
        alone = run_alone(train, space, degree, base, zero, min(batch_size, space.dim), progress)
    return Sketch(space, degree, key, parameters, coefficients, start_at, parameters_at_centre, alone, design)
