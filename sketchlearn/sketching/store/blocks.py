"""The jets of a sketch on disk, block by block."""

from __future__ import annotations

import functools
import json
import os
import platform
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax
import numpy as np

from sketchlearn.deletions.base import Space
from sketchlearn.deletions.description import describe
from sketchlearn.errors import StoreError
from sketchlearn.execution.blocks import SMALLEST_LANE, parts_of
from sketchlearn.runtime.paths import as_path
from sketchlearn.runtime.precision import matmul_precision
from sketchlearn.runtime.workers import lanes
from sketchlearn.sketching.jets import Parts
from sketchlearn.sketching.query_jets import Measured
from sketchlearn.sketching.single_coordinates import Alone
from sketchlearn.sketching.store.fingerprint import fingerprint
from sketchlearn.sketching.store.format import MANIFEST, Store, check_disk
from sketchlearn.sketching.store.trees import rebuild, structure


class OnDisk:
    """Blocks in a store.

    Args:
        path: of the store.
        arguments: what makes the blocks, see :func:`arguments_of`.
        batch_size: directions run at once; a store that exists keeps its own.
        count: m.
        expected: bytes that all blocks will take.
        repair: compute damaged blocks again, and write a damaged manifest again.
        shard: (i, N), or None.
        tree: the structure of what ``train`` returns.
        batches: of a run of weighted means, or None.
    """

    def __init__(
        self,
        path: str | Path,
        arguments: dict,
        batch_size: int,
        count: int,
        expected: int,
        repair: bool,
        shard: Any,
        tree: Any,
        batches: np.ndarray | None = None,
    ):
        path = as_path("store", path)
        if os.path.exists(path / MANIFEST):
            # blocks are cut as they were, whatever this machine would do; of a damaged manifest nothing is known
            try:
                before = Store(path).arguments
            except StoreError:
                if not repair:
                    raise
                before = {"lanes": lanes(batch_size, SMALLEST_LANE)}
            batch_size, self.lanes = before.get("batch_size", batch_size), before.get("lanes", 1)
        else:
            check_disk(path, expected)
            self.lanes = lanes(batch_size, SMALLEST_LANE)
        versions = {name: version(name) for name in ("jax", "flax", "numpy")}
        versions |= {"sketchlearn": version("sketchlearn"), "python": platform.python_version()}
        self.store = Store(path, arguments | {"batch_size": batch_size, "lanes": self.lanes}, versions, repair=repair)
        self.batch_size, self.count, self.repair, self.shard, self.tree = batch_size, count, repair, shard, tree
        self.batches = batches
        self.store.clean()

    def done(self, parts: Parts) -> set[int]:
        """Those that are stored and whole, and those of other shards."""
        found = set()
        for number, (start, stop) in enumerate(parts):
            others = self.shard is not None and number % self.shard[1] != self.shard[0]
            if others or self._whole(block_name(start, stop)):
                found.add(start)
        return found

    def _whole(self, name: str) -> bool:
        """Whether a block is stored; a damaged one is removed if it shall be repaired, else refused."""
        if not self.store.has(name):
            return False
        try:
            self.store.read(name)
        except StoreError:
            if not self.repair:
                raise
            self.store.file(name).unlink()
            return False
        return True

    def put(self, start: int, stop: int, block: Any) -> None:
        """Write the block."""
        self.store.write(block_name(start, stop), numbered(block))

    def finish(self, compute: Callable) -> Any:
        """The parameters and what each coordinate does alone, with their structure."""
        if self._whole("common"):
            return read_common(self.store, self.store.read("common"), self.tree)
        plain, centred, alone = compute()
        trees = [plain, centred, *(alone or ())]  # one after the other, all of the structure of the first
        batches = {} if self.batches is None else {"batches": self.batches}
        self.store.write("common", {**numbered(trees), **_text("one", structure(plain)), **batches})
        return plain, centred, alone

    def complete(self) -> bool:
        """Whether all blocks, those of other shards too, are there."""
        return all(self.store.has(block_name(*part)) for part in parts_of(self.count, self.batch_size, self.lanes))

    def measured(self, every: dict[str, Callable]) -> dict[str, Measured]:
        """The queries, their coefficients read from the blocks; the rest of them is kept, too."""
        blocks = [leaves_of(self.store.read(block_name(*p))) for p in parts_of(self.count, self.batch_size, self.lanes)]
        out = {
            name: make(c=np.concatenate([b[i] for b in blocks])) for i, (name, make) in enumerate(sorted(every.items()))
        }
        if not all([self._whole(query_name(number)) for number in range(len(out))]):
            write_queries(self.store, out)
        return out

    def jets(self) -> Any:
        """Read in parts."""
        return functools.partial(read_jets, self.store, parts_of(self.count, self.batch_size, self.lanes), self.tree)


def arguments_of(
    train: Callable,
    weights: jax.Array,
    space: Space,
    degree: int,
    count: int,
    key: int,
    design: str,
    additive: bool,
    centre: np.ndarray | None,
    queries: dict[str, Callable] | None,
    shapes: Any,
) -> dict:
    """What the blocks of a sketch depend on, as JSON."""
    return {
        "train": fingerprint(train, weights),
        "space": describe(space),
        "degree": degree,
        "num_directions": count,
        "key": key,
        "design": design,
        "additive": additive,
        "centre": None if centre is None else np.asarray(centre, float).tolist(),
        "dtype": str(weights.dtype),
        "matmul_precision": matmul_precision(),
        "queries": None if queries is None else {n: fingerprint(q, shapes) for n, q in sorted(queries.items())},
    }


def block_name(start: int, stop: int) -> str:
    """The name of the file of these directions."""
    return f"directions-{start:08d}-{stop:08d}"


def query_name(number: int) -> str:
    """The name of the file of what belongs to a query beside its coefficients."""
    return f"query-{number:05d}"


def numbered(tree: Any) -> dict[str, np.ndarray]:
    """The leaves of a pytree by their numbers."""
    return {f"{i:05d}": np.asarray(leaf) for i, leaf in enumerate(jax.tree.leaves(tree))}


def _text(name: str, value: Any) -> dict[str, np.ndarray]:
    return {name: np.frombuffer(json.dumps(value).encode(), np.uint8)}


def _json(array: np.ndarray) -> Any:
    return json.loads(array.tobytes())


def leaves_of(arrays: dict[str, np.ndarray]) -> list[np.ndarray]:
    """The leaves that :func:`numbered` numbered."""
    return [arrays[name] for name in sorted(arrays) if name.isdigit()]


def read_jets(store: Store, parts: Parts, tree: Any) -> Iterator[Any]:
    """The jets of the parameters, block by block; ``tree`` is their structure, rebuilt if not given."""
    if tree is None:
        described = _json(store.read("common")["one"])
        one = rebuild(described, [0] * len(described["paths"]))
        tree = jax.tree.structure(one)
    for start, stop in parts:
        yield jax.tree.unflatten(tree, leaves_of(store.read(block_name(start, stop))))


def read_common(store: Store, arrays: dict[str, np.ndarray], tree: Any) -> tuple[Any, Any, Alone | None]:
    """The parameters with nothing deleted and at the centre, and what each coordinate does alone."""
    leaves, described = leaves_of(arrays), _json(arrays["one"])
    count = len(described["paths"])
    if tree is None:
        tree = jax.tree.structure(rebuild(described, [0] * count))
    if tree.num_leaves != count:
        raise StoreError(f"{store.path} holds parameters of {count} arrays, train returns {tree.num_leaves}.")
    trees = 4 if len(leaves) > 2 * count else 2
    plain, centred, *rest = (jax.tree.unflatten(tree, leaves[i * count : (i + 1) * count]) for i in range(trees))
    if not rest:
        return plain, centred, None
    ends, coefficients = rest
    return plain, centred, Alone(ends, coefficients, leaves[-1])


def write_queries(store: Store, every: dict[str, Measured]) -> None:
    """Keep what belongs to queries beside their coefficients."""
    for number, (_, seen) in enumerate(sorted(every.items())):
        arrays = {"baseline": seen.baseline, "centre": seen.centre}
        if seen.alone:
            arrays |= {f"alone_{field}": value for field, value in seen.alone._asdict().items()}
        store.write(query_name(number), arrays)


def read_queries(store: Store, names: list[str], parts: Parts) -> dict[str, Measured]:
    """The queries of a store, by name."""
    blocks = [leaves_of(store.read(block_name(*part))) for part in parts]
    out = {}
    for number, name in enumerate(names):
        arrays = store.read(query_name(number))
        alone = None
        if "alone_ends" in arrays:
            alone = Alone(arrays["alone_ends"], arrays["alone_coefficients"], arrays["alone_positions"])
        c = np.concatenate([block[number] for block in blocks])
        out[name] = Measured(None, arrays["baseline"], arrays["centre"], c[:, 1:], alone)
    return out
