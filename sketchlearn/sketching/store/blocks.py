"""The jets of a sketch on disk, block by block."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Callable, Iterator, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax
import numpy as np

from sketchlearn.deletions.base import describe
from sketchlearn.errors import StoreError
from sketchlearn.execution.blocks import SMALLEST_SHARE, parts_of
from sketchlearn.prediction.known import QueryJets, SingleCoordinates
from sketchlearn.runtime.paths import as_path
from sketchlearn.runtime.precision import matmul_precision
from sketchlearn.runtime.workers import num_workers
from sketchlearn.sketching.base import Common, JetSource, Parts
from sketchlearn.sketching.jets import QueriesOnly
from sketchlearn.sketching.request import SketchRequest
from sketchlearn.sketching.store.fingerprint import fingerprint
from sketchlearn.sketching.store.format import MANIFEST, READ_ONLY, Store, check_disk
from sketchlearn.sketching.store.trees import rebuild, structure
from sketchlearn.training.program import weighted_mean_batches


class StoreSink:
    """Blocks that are written to a store as they are done.

    Args:
        path: of the store.
        request: what makes the blocks.
        batch_size: directions run at once; a store that exists keeps its own.
        repair: compute damaged blocks again, and write a damaged manifest again.
        shard: (i, N), or None.
    """

    def __init__(
        self,
        path: str | Path,
        request: SketchRequest,
        sizes: Callable[[], int],
        repair: bool = False,
        shard: tuple[int, int] | None = None,
    ):
        path = as_path("store", path)
        if os.path.exists(path / MANIFEST):
            # blocks are cut as they were, whatever this machine would do; of a damaged manifest nothing is known
            try:
                before = Store(path).arguments
            except StoreError:
                if not repair:
                    raise
                before = {}
        else:
            check_disk(path, request.expected_bytes())
            before = {}
        batch_size = before["batch_size"] if "batch_size" in before else sizes()
        self.workers = before.get("workers", num_workers(batch_size, SMALLEST_SHARE))
        versions = {name: version(name) for name in ("jax", "flax", "numpy")}
        versions |= {"sketchlearn": version("sketchlearn"), "python": platform.python_version()}
        arguments = arguments_of(request) | {"batch_size": batch_size, "workers": self.workers}
        self.store = Store(path, arguments, versions, repair=repair)
        self.batch_size, self.count, self.repair, self.shard = batch_size, request.count, repair, shard
        self.tree, self.batches = jax.tree.structure(request.shapes), weighted_mean_batches(request.train)
        self.store.clean()

    def done(self, parts: Parts) -> set[int]:
        """Those that are stored and whole, and those of other shards."""
        starts = set()
        for number, (start, stop) in enumerate(parts):
            others = self.shard is not None and number % self.shard[1] != self.shard[0]
            if others or self._whole(block_name(start, stop)):
                starts.add(start)
        return starts

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

    def finish(self, compute: Callable[[], Common]) -> Common:
        """The parameters and what each coordinate does by itself, with their structure."""
        if self._whole("common"):
            return read_common(self.store, self.store.read("common"), self.tree)
        plain, centred, singles = compute()
        trees = [plain, centred, *(singles or ())]  # one after the other, all of the structure of the first
        batches = {} if self.batches is None else {"batches": self.batches}
        self.store.write("common", {**numbered(trees), **_text("one", structure(plain)), **batches})
        return plain, centred, singles

    def source(self, measured: Mapping[str, Callable[..., QueryJets]] | None) -> JetSource:
        """The jets, read when they are asked for; or the queries, of which all shards have to be there."""
        parts = parts_of(self.count, self.batch_size, self.workers)
        if measured is None:
            return JetsOnDisk(self.store, parts, self.count, self.tree)
        if not all(self.store.has(block_name(*part)) for part in parts):
            return QueriesOnly({}, self.count)
        blocks = [leaves_of(self.store.read(block_name(*part))) for part in parts]
        queries = {
            name: make(c=np.concatenate([block[i] for block in blocks]))
            for i, (name, make) in enumerate(sorted(measured.items()))
        }
        if not all([self._whole(query_name(number)) for number in range(len(queries))]):
            write_queries(self.store, queries)
        return QueriesOnly(queries, self.count)


class JetsOnDisk:
    """The jets of the parameters, read from a store block by block, and checked.

    Args:
        store: that holds them.
        blocks: the directions of each block.
        num_directions: m.
        tree: the structure of the parameters; rebuilt from what is stored if not given.
    """

    queries = None

    def __init__(self, store: Store, blocks: Parts, num_directions: int, tree: Any):
        self.store, self.blocks, self.num_directions, self.tree = store, blocks, num_directions, tree

    def parts(self) -> Iterator[Any]:
        """Block after block."""
        tree = self.tree
        if tree is None:
            described = _json(self.store.read("common")["one"])
            tree = jax.tree.structure(rebuild(described, [0] * len(described["paths"])))
        for start, stop in self.blocks:
            yield jax.tree.unflatten(tree, leaves_of(self.store.read(block_name(start, stop))))


def arguments_of(request: SketchRequest) -> dict:
    """What the blocks of a sketch depend on, as JSON."""
    queries, centre = request.queries, request.centre
    return {
        "train": fingerprint(request.train, request.weights),
        "space": describe(request.space),
        "degree": request.degree,
        "num_directions": request.count,
        "seed": request.seed,
        "design": request.design,
        "additive": request.additive,
        "centre": None if centre is None else np.asarray(centre, float).tolist(),
        "dtype": str(request.weights.dtype),
        "matmul_precision": matmul_precision(),
        "queries": None if queries is None else {n: fingerprint(q, request.shapes) for n, q in sorted(queries.items())},
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


def read_common(store: Store, arrays: dict[str, np.ndarray], tree: Any) -> Common:
    """The parameters with nothing deleted and at the centre, and what each coordinate does by itself."""
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
    return plain, centred, SingleCoordinates(ends, coefficients, leaves[-1])


def write_queries(store: Store, queries: dict[str, QueryJets]) -> None:
    """Keep what belongs to queries beside their coefficients."""
    for number, (_, jets) in enumerate(sorted(queries.items())):
        arrays = {"baseline": jets.baseline, "centre": jets.at_centre}
        if jets.singles:
            arrays |= {f"single_{field}": value for field, value in jets.singles._asdict().items()}
        store.write(query_name(number), arrays)


def read_queries(store: Store, names: list[str], parts: Parts) -> dict[str, QueryJets]:
    """The queries of a store, by name."""
    blocks = [leaves_of(store.read(block_name(*part))) for part in parts]
    out = {}
    for number, name in enumerate(names):
        arrays = store.read(query_name(number))
        singles = None
        prefix = "alone" if store.format == READ_ONLY else "single"
        if f"{prefix}_ends" in arrays:
            singles = SingleCoordinates(*(arrays[f"{prefix}_{field}"] for field in SingleCoordinates._fields))
        c = np.concatenate([block[number] for block in blocks])
        out[name] = QueryJets(None, arrays["baseline"], arrays["centre"], c[:, 1:], singles)
    return out
