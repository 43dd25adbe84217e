"""Deletion spaces: which deletions can be asked for, as a linear map ``x = G z`` from C^q to C^n."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from .errors import check_count, check_finite
from .precision import in_full_precision


class Space(Protocol):
    """What a sketch needs of a space of deletions."""

    @property
    def dim(self) -> int:
        """The number q of free coordinates, which the constants of every estimator use."""
        ...

    @property
    def num_examples(self) -> int:
        """The number n of training examples."""
        ...

    @in_full_precision
    def embed(self, z: Any) -> Any:
        """``x = G z``: coordinates (..., q) to deletion vectors (..., n)."""
        ...

    def locate(self, delete: Any) -> np.ndarray:
        """The coordinates (q,) of a deletion, or (B, q) of a stack of them."""
        ...


def deletion_vectors(delete: Any, num_examples: int) -> np.ndarray:
    """Deletion vectors, 1 where an example is deleted, from any way of writing them.

    Args:
        delete: positions of the examples to delete (whole numbers); a boolean mask (n,);
            a real vector (n,) of deleted fractions; or a stack of them: a (B, n) array
            of booleans or fractions, or a list of lists of positions.
        num_examples: n.

    Returns:
        Shape (n,), or (B, n) for a stack; float64.

    Example:
        >>> deletion_vectors([0, 2], 4).tolist()
        [1.0, 0.0, 1.0, 0.0]
        >>> deletion_vectors([[0], [1, 2]], 3).tolist()
        [[1.0, 0.0, 0.0], [0.0, 1.0, 1.0]]
    """
    if _is_stack(delete):
        rows = [deletion_vectors(row, num_examples) for row in delete]
        if any(row.ndim != 1 for row in rows):
            raise ValueError("a stack of deletions has one level: a list of masks or of lists of positions.")
        return np.stack(rows)
    array = _as_array(delete)
    if array.size == 0:
        raise ValueError("the deletion is empty: give at least one example to delete.")
    if array.dtype == bool or np.issubdtype(array.dtype, np.floating):
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
    if not np.issubdtype(array.dtype, np.integer):
        raise TypeError(
            f"delete must be positions (whole numbers), a boolean mask or a real vector, got dtype {array.dtype}."
        )
    if array.ndim > 1:
        return deletion_vectors(list(array), num_examples)
    positions = np.atleast_1d(array)
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
    return vector


def _is_stack(delete: Any) -> bool:
    """Whether a list holds several deletions; a list of numbers or names is one."""
    return isinstance(delete, (list, tuple)) and len(delete) > 0 and np.ndim(_as_array(delete[0])) > 0


def _as_array(delete: Any) -> np.ndarray:
    try:
        return np.asarray(delete)
    except ValueError as error:
        raise ValueError(
            "a deletion is a flat list, a mask or a vector, and a stack of them a list of such; "
            f"this one mixes levels ({error})"
        ) from error


class Examples:
    """Any subset of all n examples: ``q = n``.

    Args:
        num_examples: n.

    Example:
        >>> space = Examples(4)
        >>> space.dim, space.locate([1, 3]).tolist()
        (4, [0.0, 1.0, 0.0, 1.0])
    """

    def __init__(self, num_examples: int):
        self.num_examples = check_count("num_examples", num_examples)
        self.dim = self.num_examples

    def __repr__(self) -> str:
        return f"Examples({self.num_examples})"

    def embed(self, z: Any) -> Any:
        """The coordinates are the deletion vector itself."""
        return z

    def locate(self, delete: Any) -> np.ndarray:
        """The deletion vector (n,), or (B, n)."""
        return deletion_vectors(delete, self.num_examples)


class Candidates:
    """Any subset of a pool of examples: ``q`` is the size of the pool, and so are all constants.

    Args:
        indices: positions of the examples that may be deleted, no two the same, or a boolean mask (n,).
        num_examples: n.

    Example:
        >>> space = Candidates([2, 5], 8)
        >>> space.dim, space.locate([5]).tolist()
        (2, [0.0, 1.0])
    """

    def __init__(self, indices: Sequence[int] | np.ndarray, num_examples: int):
        self.num_examples = check_count("num_examples", num_examples)
        pool = np.asarray(indices)
        if not (pool.ndim == 1 and len(pool) and (pool.dtype == bool or np.issubdtype(pool.dtype, np.integer))):
            raise ValueError(
                "indices must be the positions (whole numbers) of at least one example, or a boolean mask, "
                f"got an array of shape {pool.shape} and dtype {pool.dtype}."
            )
        self.indices = np.flatnonzero(deletion_vectors(pool, self.num_examples))
        self.dim = len(self.indices)

    def __repr__(self) -> str:
        return f"Candidates({self.dim} of {self.num_examples})"

    def embed(self, z: Any) -> Any:
        """Put the coordinates (..., q) at the candidates' places in (..., n)."""
        z = jnp.asarray(z)
        return jnp.zeros((*z.shape[:-1], self.num_examples), z.dtype).at[..., self.indices].set(z)

    def locate(self, delete: Any) -> np.ndarray:
        """The candidates' part of the deletion vector; an example outside the pool is an error."""
        x = deletion_vectors(delete, self.num_examples)
        outside = np.ones(self.num_examples, bool)
        outside[self.indices] = False
        wrong = np.unique(np.nonzero(x * outside)[-1])
        if len(wrong):
            raise ValueError(
                f"the deletion holds {len(wrong)} examples outside the pool of {self.dim} candidates: "
                f"{wrong[:10].tolist()}{' ...' if len(wrong) > 10 else ''}. Sketch a larger pool, or Examples(n)."
            )
        return x[..., self.indices]


class Groups:
    """Any union of groups of examples (authors, sources, classes, days): ``q`` is the number of groups.

    Args:
        labels: the group of each example, length n; any values that can be compared.

    Deletions are written as group names (one, or a list of them for their union), or
    as masks over the examples that hold whole groups.

    Example:
        >>> space = Groups(["a", "b", "a", "c"])
        >>> space.names, space.locate(["a", "c"]).tolist()
        (['a', 'b', 'c'], [1.0, 0.0, 1.0])
    """

    def __init__(self, labels: Sequence[Any] | np.ndarray):
        labels = np.asarray(labels)
        if labels.ndim != 1 or not len(labels):
            raise ValueError(f"labels must be a list with the group of every example, got shape {labels.shape}.")
        unique, self.membership = np.unique(labels, return_inverse=True)
        self.names = unique.tolist()
        self.num_examples, self.dim = len(labels), len(self.names)

    def __repr__(self) -> str:
        return f"Groups({self.dim} groups of {self.num_examples} examples)"

    def embed(self, z: Any) -> Any:
        """Give every example its group's coordinate."""
        return jnp.asarray(z)[..., self.membership]

    def locate(self, delete: Any) -> np.ndarray:
        """The coordinates of a union of groups; a part of a group is an error."""
        if _is_stack(delete):
            return np.stack([self.locate(row) for row in delete])
        array = _as_array(delete)
        # a list of numbers names groups; an array of floats is a vector over the examples
        is_vector = np.issubdtype(array.dtype, np.floating) and isinstance(delete, (np.ndarray, jax.Array))
        is_mask = array.dtype == bool and not isinstance(self.names[0], bool)
        if array.size and (is_mask or is_vector):
            return self._from_masks(deletion_vectors(array, self.num_examples))
        if array.ndim > 1:
            return np.stack([self.locate(row) for row in array])
        chosen = np.atleast_1d(array).tolist()
        if not chosen:
            raise ValueError("the deletion is empty: name at least one group.")
        unknown = [name for name in chosen if name not in self.names]
        if unknown:
            raise KeyError(f"there is no group {unknown[0]!r}; the groups are {self.names[:20]}.")
        return np.array([name in chosen for name in self.names], np.float64)

    def _from_masks(self, x: np.ndarray) -> np.ndarray:
        first = np.unique(self.membership, return_index=True)[1]
        z = x[..., first]
        wrong = np.unique(np.nonzero(z[..., self.membership] != x)[-1])
        if len(wrong):
            groups = [self.names[g] for g in np.unique(self.membership[wrong])]
            raise ValueError(
                "the deletion is not a union of whole groups: it treats the members of "
                f"{groups[:10]}{' ...' if len(groups) > 10 else ''} differently. {len(wrong)} examples are treated "
                f"otherwise than the first of their group: {wrong[:10].tolist()}{' ...' if len(wrong) > 10 else ''}."
            )
        return z


class LinearMap:
    """Deletions ``x = G z`` for any matrix G: what can be asked for is what its columns span.

    Args:
        matrix: G, (n, q) real with independent columns; column j is the deletion of coordinate j.

    Example:
        >>> space = LinearMap([[1.0, 0], [0.5, 0.5], [0, 1]])       # the middle example belongs to both by half
        >>> space.locate([0, 1, 2]).round(6).tolist()
        [1.0, 1.0]
    """

    def __init__(self, matrix: Any):
        g = _as_array(matrix).astype(np.float64)
        if g.ndim != 2 or not g.size:
            raise ValueError(f"the matrix must have shape (n, q), got {g.shape}.")
        check_finite("matrix", g)
        rank = int(np.linalg.matrix_rank(g))
        if rank < g.shape[1]:
            raise ValueError(
                f"the {g.shape[1]} columns of the matrix are dependent (rank {rank}): coordinates would not be unique. "
                "Drop the columns that others already span."
            )
        self.matrix, (self.num_examples, self.dim) = g, g.shape

    def __repr__(self) -> str:
        return f"LinearMap({self.dim} columns of {self.num_examples} examples)"

    @in_full_precision
    def embed(self, z: Any) -> Any:
        """``x = G z``, over leading axes."""
        z = jnp.asarray(z)
        return z @ jnp.asarray(self.matrix.T, z.dtype)

    def locate(self, delete: Any) -> np.ndarray:
        """The coordinates of a deletion, by least squares; one outside the span of the columns is an error."""
        x = deletion_vectors(delete, self.num_examples)
        z = np.linalg.lstsq(self.matrix, np.atleast_2d(x).T, rcond=None)[0].T
        missed = np.abs(z @ self.matrix.T - np.atleast_2d(x)).max(0)
        wrong = np.flatnonzero(missed > 1e-9)  # far above the rounding of a solve, far below any fraction meant
        if len(wrong):
            raise ValueError(
                f"the deletion is no combination of the {self.dim} columns: {len(wrong)} examples cannot be given the "
                f"fractions asked for: {wrong[:10].tolist()}{' ...' if len(wrong) > 10 else ''}."
            )
        return z[0] if x.ndim == 1 else z


def describe(space: Space) -> dict:
    """A space as JSON, from which :func:`from_description` builds it again; of other classes, what it looks like."""
    if isinstance(space, Candidates):
        return {"kind": "Candidates", "indices": space.indices.tolist(), "num_examples": space.num_examples}
    if isinstance(space, Groups):
        odd = next((name for name in space.names if not isinstance(name, (str, int, float))), None)
        if odd is not None:
            raise TypeError(
                f"a store keeps the names of groups as text or numbers, got {odd!r} of type {type(odd).__name__}: "
                "label the examples with str(...) of it."
            )
        return {"kind": "Groups", "names": space.names, "membership": space.membership.tolist()}
    if isinstance(space, LinearMap):
        return {"kind": "LinearMap", "matrix": space.matrix.tolist()}
    if isinstance(space, Examples):
        return {"kind": "Examples", "num_examples": space.num_examples}
    return {"kind": repr(space), "dim": space.dim, "num_examples": space.num_examples}


def from_description(described: dict) -> Space:
    """The space of :func:`describe`."""
    kind = described["kind"]
    if kind == "Candidates":
        return Candidates(described["indices"], described["num_examples"])
    if kind == "Groups":
        return Groups(np.asarray(described["names"])[described["membership"]])
    if kind == "LinearMap":
        return LinearMap(described["matrix"])
    if kind == "Examples":
        return Examples(described["num_examples"])
    raise ValueError(f"the space {kind} is not one of this package: give space= to open_sketch.")
