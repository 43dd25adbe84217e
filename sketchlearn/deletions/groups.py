"""Any union of groups of examples."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from sketchlearn.deletions.base import register
from sketchlearn.deletions.labels import DAY, NUMBER, TIME, TRUTH, WHOLE, grouped, key, kind
from sketchlearn.deletions.reading import as_array, deletion_vectors, entries, real_array, stack_of


@register
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

    def locate(self, delete: Any) -> Float[np.ndarray, "*B q"]:
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

    def locate_vectors(self, delete: Any) -> Float[np.ndarray, "*B q"]:
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
            reading = f"weights down the groups {[self.names[g] for g in np.flatnonzero(over_examples)][:10]}"
        except ValueError as error:
            reading = f"is an error ({error})"
        names, dtype = [self.names[g] for g in np.flatnonzero(named)][:10], "float" if self._kind == TRUTH else "bool"
        raise ValueError(
            f"the deletion can be read in two ways. As names it deletes the groups {names}: write "
            f"np.isin(labels, {names}).astype({dtype}). As a mask or a vector over the {self.num_examples} examples it "
            f"{reading}: write it as an array of dtype {dtype}, or call the groups by text."
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

    def describe(self) -> dict:
        """What the space is, as JSON."""
        odd = next((name for name in self.names if not isinstance(name, (str, int, float))), None)
        if odd is not None:
            raise TypeError(
                f"a store keeps the names of groups as text or numbers, got {odd!r} of type {type(odd).__name__}: "
                "label the examples with str(...) of it."
            )
        return {"names": self.names, "membership": self.membership.tolist()}

    @classmethod
    def from_description(cls, described: dict) -> Groups:
        """The space that was described."""
        return cls([described["names"][group] for group in described["membership"]])
