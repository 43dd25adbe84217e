"""Deletion spaces: which deletions can be asked for, as a linear map ``x = G z`` from C^q to C^n."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import jax.numpy as jnp
import numpy as np

from .deletions import as_array, deletion_vectors, entries, real_array, stack_of
from .errors import check_count, check_finite
from .labels import DAY, NUMBER, TIME, TRUTH, WHOLE, grouped, key, kind
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
        pool = as_array(indices)
        if not (pool.ndim == 1 and len(pool) and pool.dtype.kind in "biu"):
            raise ValueError(
                "indices must be the positions (whole numbers) of at least one example, or a boolean mask, "
                f"got an array of shape {pool.shape} and dtype {pool.dtype}."
            )
        self.indices = np.flatnonzero(deletion_vectors(indices, self.num_examples))
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
        labels: the group of each example, length n; text, numbers, truth values, days, or other values of one type
            that can be compared. An example without a label (None, NaN) is an error.

    Deletions are written as group names (one, or a list of them for their union), or over the examples: as masks, or
    as vectors of fractions, that hold whole groups. Whole numbers are names, never positions. n truth values are a
    mask, and n floating-point numbers a vector. What could be names as well as a mask or a vector, with another
    result, is an error.

    Example:
        >>> space = Groups(["a", "b", "a", "c"])
        >>> space.names, space.locate(["a", "c"]).tolist()
        (['a', 'b', 'c'], [1.0, 0.0, 1.0])
    """

    def __init__(self, labels: Sequence[Any] | np.ndarray):
        self.names, self.membership, self._kind = grouped(labels)
        self._number = {key(name): number for number, name in enumerate(self.names)}
        self.num_examples, self.dim = len(self.membership), len(self.names)

    def __repr__(self) -> str:
        return f"Groups({self.dim} groups of {self.num_examples} examples)"

    def embed(self, z: Any) -> Any:
        """Give every example its group's coordinate."""
        return jnp.asarray(z)[..., self.membership]

    def locate(self, delete: Any) -> np.ndarray:
        """The coordinates of a union of groups; a part of a group is an error."""
        whole = real_array(delete)
        if whole is not None and whole.ndim and whole.size and self._kind != (TRUTH if whole.dtype == bool else NUMBER):
            return self.locate_vectors(whole)  # it cannot be names
        rows = stack_of(delete)
        if rows is not None:
            return np.stack([self._read(entries(row)) for row in rows])
        if isinstance(delete, (list, tuple)) or np.ndim(as_array(delete)):
            return self._read(entries(delete))
        return self._named(entries([delete]))

    def locate_vectors(self, delete: Any) -> np.ndarray:
        """The coordinates of masks or vectors of fractions over the examples, (n,) or (B, n), whatever the names."""
        x = deletion_vectors(delete, self.num_examples)
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

    def _read(self, values: list[Any]) -> np.ndarray:
        """The coordinates of one deletion that is a list: of names, or over the examples."""
        kinds, full = {kind(value) for value in values}, len(values) == self.num_examples
        truths, numbers = kinds == {TRUTH}, NUMBER in kinds and kinds <= {WHOLE, NUMBER}
        binary = kinds <= {TRUTH, WHOLE, NUMBER} and set(values) <= {0, 1}
        if not (truths or numbers or (binary and kinds)):
            return self._named(values)
        vector = np.array(values, bool if truths else float)
        named = None if None in map(self._find, values) else self._named(values)
        if named is not None and binary and len(set(values)) < len(values):
            if not full:
                raise ValueError(
                    f"{len(values)} zeros and ones are no mask of {self.num_examples} examples, and as names of groups "
                    "they repeat themselves: name each group once, or give a mask of all examples."
                )
            if truths:
                return self.locate_vectors(vector)
        if named is None and (truths or (numbers and (full or self._kind != NUMBER))):
            return self.locate_vectors(vector)
        if named is None or not full:
            return self._named(values)  # or which of them is no name
        return self._of_two_readings(values, named, vector)

    def _of_two_readings(self, values: list[Any], named: np.ndarray, vector: np.ndarray) -> np.ndarray:
        """The coordinates of what is names and a mask or vector, if both are the same; else how to write either."""
        try:
            over_examples = self.locate_vectors(vector)
            if np.array_equal(over_examples, named):
                return named
            found = f"weights down the groups {[self.names[g] for g in np.flatnonzero(over_examples)][:10]}"
        except ValueError as error:
            found = f"is an error ({error})"
        names, dtype = [self.names[g] for g in np.flatnonzero(named)][:10], "float" if self._kind == TRUTH else "bool"
        raise ValueError(
            f"the deletion can be read in two ways. As names it deletes the groups {names}: write "
            f"np.isin(labels, {names}).astype({dtype}). As a mask or a vector over the {self.num_examples} examples it "
            f"{found}: write it as an array of dtype {dtype}, or call the groups by text."
        )

    def _find(self, value: Any) -> int | None:
        """The number of the group of this name; names of another kind are other names."""
        fits = {kind(value), self._kind}
        try:
            known = len(fits) == 1 or fits == {DAY, TIME} or (kind(value), self._kind) == (WHOLE, NUMBER)
            return self._number.get(key(value)) if known else None
        except TypeError:  # it cannot be looked up, so it is no name
            return None

    def _named(self, values: list[Any]) -> np.ndarray:
        """The coordinates of a union of groups by their names."""
        if not values:
            raise ValueError("the deletion is empty: name at least one group.")
        z = np.zeros(self.dim)
        for value in values:
            number = self._find(value)
            if number is None:
                hint = ""
                if kind(value) in (WHOLE, NUMBER):
                    hint = " (Positions of examples are written as a mask of truth values, one an example.)"
                raise KeyError(f"there is no group {value!r}; the groups are {self.names[:20]}.{hint}")
            z[number] = 1.0
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
        g = as_array(matrix)
        if g.dtype.kind not in "biuf":
            raise TypeError(f"the matrix must hold real numbers, got dtype {g.dtype}.")
        g = g.astype(np.float64)
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
        pool = np.isin(np.arange(described["num_examples"]), described["indices"])
        return Candidates(pool, described["num_examples"])
    if kind == "Groups":
        return Groups([described["names"][group] for group in described["membership"]])
    if kind == "LinearMap":
        return LinearMap(described["matrix"])
    if kind == "Examples":
        return Examples(described["num_examples"])
    raise ValueError(f"the space {kind} is not one of this package: give space= to open_sketch.")
