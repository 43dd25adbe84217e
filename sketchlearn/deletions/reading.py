"""Deletions as they are written: positions, masks, vectors of fractions, stacks of them. Nothing is guessed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, MappingView, Set
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from sketchlearn.deletions.labels import plain
from sketchlearn.runtime.arrays import check_finite

SIMPLE = (bool, int, float, str, np.bool_, np.integer, np.floating)


def deletion_vectors(delete: Any, num_examples: int) -> Float[np.ndarray, "*B {num_examples}"]:
    """Deletion vectors, 1 where an example is deleted, from any way of writing them.

    Args:
        delete: positions of the examples to delete (whole numbers); a boolean mask (n,);
            a real vector (n,) of deleted fractions; or a stack of them: a (B, n) array
            of booleans or fractions, or a list of lists of positions.
        num_examples: n.

    Returns:
        Shape (n,), or (B, n) for a stack; float64.

    Raises:
        ValueError, TypeError, IndexError: it is no deletion of n examples, or can be read in two ways: ``[0, 1]`` of
            two examples is both positions and a mask.

    Example:
        >>> deletion_vectors([0, 2], 4).tolist()
        [1.0, 0.0, 1.0, 0.0]
        >>> deletion_vectors([[0], [1, 2]], 3).tolist()
        [[1.0, 0.0, 0.0], [0.0, 1.0, 1.0]]
    """
    whole = real_array(delete)
    if whole is not None:
        return _vectors(whole, num_examples)
    rows = stack_of(delete)
    return _one(delete, num_examples) if rows is None else np.stack([_one(row, num_examples) for row in rows])


def real_array(delete: Any) -> np.ndarray | None:
    """An array of truth values or floating-point numbers, None if it is something else (a list is looked at first)."""
    if isinstance(delete, (Set, Mapping, MappingView, Iterator, np.ma.MaskedArray)):
        raise TypeError(
            f"got a {type(delete).__name__}: a deletion is a list or an array of positions (whole numbers), a boolean "
            "mask or a real vector, and for groups their names. Write list(...) of it, or fill masked entries."
        )
    if isinstance(delete, (list, tuple)):
        return None
    array = as_array(delete)
    return array if array.dtype == bool or jnp.issubdtype(array.dtype, jnp.floating) else None


def stack_of(delete: Any) -> list[Any] | None:
    """The deletions of a stack, None if there is one: a list of numbers or names, or a single one of these."""
    real_array(delete)
    if isinstance(delete, (list, tuple)):
        rows = list(delete)
    else:
        array = as_array(delete)
        rows = list(array) if array.ndim > 1 or (array.ndim and array.dtype == object) else []
    levels = {_depth(row) for row in rows}
    if levels <= {0}:
        return None
    if 0 in levels:
        raise ValueError(
            "a deletion is a flat list, a mask or a vector, and a stack of them a list of such; this one mixes levels: "
            f"{next(row for row in rows if not _depth(row))!r} stands beside a list."
        )
    if max(levels) > 1:
        raise ValueError("a stack of deletions has one level: a list of masks or of lists of positions.")
    return rows


def _depth(row: Any) -> int:
    """0 for a number or a name, 1 for a list of them, 2 for what is deeper."""
    if isinstance(row, SIMPLE):
        return 0
    if isinstance(row, (list, tuple)):
        return 1 + any(_depth(inner) for inner in row)
    real_array(row)
    return min(int(np.ndim(as_array(row))), 2)


def entries(delete: Any) -> list[Any]:
    """The entries of one deletion, a flat list or array, as plain values."""
    return [plain(v) for v in (delete if isinstance(delete, (list, tuple)) else as_array(delete))]


def as_array(delete: Any) -> np.ndarray:
    """``np.asarray``, or what a list has to be."""
    try:
        return np.asarray(delete)
    except ValueError as error:
        raise ValueError(
            "a deletion is a flat list, a mask or a vector, and a stack of them a list of such; "
            f"this one mixes levels ({error})"
        ) from error


def _one(delete: Any, num_examples: int) -> np.ndarray:
    array = as_array(delete)
    if array.ndim and (array.dtype == object or isinstance(delete, (list, tuple))):
        values = [v if isinstance(v, SIMPLE) else plain(v) for v in delete]
        truths = {isinstance(v, (bool, np.bool_)) for v in values}
        if len(truths) > 1:  # NumPy would read True as the position 1
            other = next(v for v in values if not isinstance(v, (bool, np.bool_)))
            raise TypeError(
                f"the deletion mixes truth values with {other!r}: a mask holds True and False alone, positions "
                "(whole numbers) and fractions are numbers."
            )
        array = as_array(values)
    if array.size == 0:
        raise ValueError("the deletion is empty: give at least one example to delete.")
    if array.dtype == bool or jnp.issubdtype(array.dtype, jnp.floating):
        return _vectors(array, num_examples)
    if array.dtype.kind not in "iu":
        raise TypeError(
            f"delete must be positions (whole numbers), a boolean mask or a real vector, got dtype {array.dtype}."
        )
    return _from_positions(np.atleast_1d(array), num_examples, isinstance(delete, range))


def _vectors(array: np.ndarray, num_examples: int) -> np.ndarray:
    """A mask or a vector of fractions, or a stack of them with two axes."""
    if array.ndim and array.size == 0:
        raise ValueError("the deletion is empty: give at least one example to delete.")
    if array.ndim not in (1, 2) or array.shape[-1] != num_examples:
        raise ValueError(
            f"a mask or vector of deletions must have shape ({num_examples},) or (B, {num_examples}), "
            f"got {array.shape}."
        )
    vectors = array.astype(np.float64)
    check_finite("delete", vectors)
    empty = ~vectors.any(axis=-1)
    if np.any(empty):
        which = "" if vectors.ndim == 1 else f" (row {int(np.flatnonzero(empty)[0])} of the stack)"
        raise ValueError(f"the deletion is empty{which}: no example is deleted.")
    return vectors


def _from_positions(positions: np.ndarray, num_examples: int, sure: bool) -> np.ndarray:
    """The vector of positions (k,); ``sure`` says that they cannot be the zeros and ones of a mask."""
    outside = positions[(positions < 0) | (positions >= num_examples)]
    if len(outside):
        raise IndexError(
            f"delete names example {int(outside[0])}, but there are {num_examples} examples, 0 to {num_examples - 1}."
        )
    vector = np.zeros(num_examples)
    vector[positions] = 1.0
    if int(vector.sum()) != len(positions):
        raise ValueError(
            "delete names an example more than once. "
            "(A boolean mask has dtype bool; zeros and ones are read as positions.)"
        )
    if num_examples == 2 and len(positions) == 2 and not sure:
        only = int(positions[1])  # the position that holds the one
        mask = [only == 0, only == 1]
        raise ValueError(
            f"{positions.tolist()} can be read in two ways. As positions it deletes both examples: write "
            f"[True, True]. As a mask it deletes example {mask.index(True)}: write {mask}."
        )
    return vector
