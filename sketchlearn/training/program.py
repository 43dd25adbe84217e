"""What a training program says about itself, and what it and a query have to be.

The only place that looks at a program from outside; everything else asks here. Nothing is run.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from sketchlearn.errors import FlatQuery
from sketchlearn.runtime.precision import shapes_of
from sketchlearn.taylor.dependence import dependence
from sketchlearn.taylor.flatness import flat_query
from sketchlearn.training.base import CheckpointedProgram, CountedProgram, StepwiseProgram, WeightedMeans


def num_examples_of(train: Any) -> int | None:
    """How many examples a program has, where it or the object that it is a method of knows; else None."""
    for owner in (train, getattr(train, "__self__", None)):
        if isinstance(owner, CountedProgram):
            return int(owner.num_examples)
    return None


def for_reverse_mode(train: Callable) -> Callable:
    """The program as reverse mode should go back through it."""
    return train.train_checkpointed if isinstance(train, CheckpointedProgram) else train


def stepwise(train: Any) -> StepwiseProgram | None:
    """The program if it can be looked at step by step, else None."""
    return train if isinstance(train, StepwiseProgram) else None


def weighted_mean_batches(train: Any) -> np.ndarray | None:
    """The batches (T, B) of a run whose steps divide by the sum of the weights, as a recipe's may; else None."""
    # itself, of a method its object, and what jax.jit or functools.partial wraps
    for owner in (train, *(getattr(train, name, None) for name in ("__self__", "__wrapped__", "func"))):
        if isinstance(owner, WeightedMeans) and owner.reduction == "weighted mean":
            return np.asarray(owner.batches)
    return None


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
    for path, leaf in jax.tree_util.tree_leaves_with_path(shapes):
        mesh = getattr(leaf.sharding, "mesh", None)
        if mesh is not None and any("Explicit" in str(kind) for kind in getattr(mesh, "axis_types", ())):
            raise TypeError(
                f"{parameter_name(path)} has its sharding in its type ({leaf.sharding.spec} on axes of type Explicit), "
                "which power series do not carry. Make the mesh with axis_types=(jax.sharding.AxisType.Auto,) for each "
                "axis, and divide the parameters by jax.lax.with_sharding_constraint inside train: the jets are then "
                "divided as they are."
            )
    return shapes


def check_query(query: Any, parameters: Any) -> Any:
    """The shape of a query's answer, without running it; or say what a query has to be."""
    if not callable(query):
        raise TypeError(f"query must be a function of the trained parameters, got {type(query).__name__}.")
    tree = jax.tree.structure(parameters)
    shape = _shapes(query, parameters, f"the query failed on what train returns, a pytree of structure {tree}")
    if not isinstance(shape, jax.ShapeDtypeStruct):
        raise TypeError(
            "a query returns one array (or number), this one a pytree of structure "
            f"{jax.tree.structure(shape)}; stack several values into one array."
        )
    if 0 in shape.shape:
        raise ValueError(f"a query returns at least one number, this one an array of shape {shape.shape}.")
    if not jnp.issubdtype(shape.dtype, jnp.floating):
        raise TypeError(
            "a query returns real floating-point numbers (a loss, a logit), this one an array of dtype "
            f"{shape.dtype}, which has no Taylor coefficients."
        )
    return shape


def check_smooth_query(query: Any, parameters: Any, reverse: bool = False) -> Any:
    """The shape of a query's answer; refuse one of which no output depends on the parameters by smooth operations.

    Args:
        query: of what ``train`` returns.
        parameters: that, or its shapes.
        reverse: whether JAX's own derivatives are asked for, to which ``stop_gradient`` is a constant.
    """
    shape = check_query(query, parameters)
    of_parameters = dependence(query, parameters, reverse)
    if not any(of_parameters.reached):
        raise FlatQuery(flat_query(of_parameters.through))
    return shape


def check_parameters(
    parameters: Any, what: str = "training with nothing deleted", why: Callable[[], str] = lambda: ""
) -> None:
    """Refuse a run that is not finite; ``why()`` says more."""
    for path, leaf in jax.tree_util.tree_leaves_with_path(parameters):
        if not np.isfinite(np.asarray(leaf)).all():
            raise FloatingPointError(f"{what} gives NaN or infinity in {parameter_name(path)}.{why()}")


def parameter_name(path: Any) -> str:
    """What a leaf of the parameters is called in messages."""
    return f"parameter {jax.tree_util.keystr(path)}" if path else "the trained parameters"
