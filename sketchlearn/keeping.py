"""Where the jets of a sketch are kept while it is made: in memory, or block by block on disk."""

from __future__ import annotations

import functools
import json
import os
import platform
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any, Protocol

import jax
import numpy as np

from .controls import Alone
from .emptied import weighted_mean_batches
from .errors import StoreError
from .lanes import lanes
from .measuring import Measured
from .paths import as_path
from .precision import matmul_precision, shapes_of
from .querying import Sketch
from .running import SMALLEST_LANE, filled, full_weights, parts_of
from .spaces import Space, describe, from_description
from .storage import MANIFEST, Store, check_disk, fingerprint, rebuild, structure

Parts = list[tuple[int, int]]


class Kept(Protocol):
    """What making a sketch needs of the place where it is kept."""

    def done(self, parts: Parts) -> set[int]:
        """Where blocks start that need not be computed."""
        ...

    def put(self, start: int, stop: int, block: Any) -> None:
        """Keep a block."""
        ...

    def finish(self, compute: Callable) -> Any:
        """What belongs to all blocks: kept already, or computed and kept."""
        ...

    def jets(self) -> Any:
        """The jets of all directions, or a function that yields them in parts."""
        ...

    def complete(self) -> bool:
        """Whether all blocks are there."""
        ...

    def measured(self, every: dict[str, Callable]) -> dict[str, Measured]:
        """The queries that were kept instead, each made from its coefficients."""
        ...


class InMemory:
    """Blocks in arrays of all directions."""

    def __init__(self, count: int):
        self.count = count
        self.whole: Any = None

    def done(self, parts: Parts) -> set[int]:
        """None."""
        return set()

    def put(self, start: int, stop: int, block: Any) -> None:
        """Copy the block to its place."""
        self.whole = filled(self.whole, block, start, self.count)

    def finish(self, compute: Callable) -> Any:
        """Compute it."""
        return compute()

    def jets(self) -> Any:
        """The arrays."""
        return self.whole

    def complete(self) -> bool:
        """Always, when all blocks were put."""
        return True

    def measured(self, every: dict[str, Callable]) -> dict[str, Measured]:
        """The queries, whose coefficients are what was put."""
        return {name: make(c=self.whole[name]) for name, make in every.items()}


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
            if others or self._whole(_name(start, stop)):
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
        self.store.write(_name(start, stop), _numbered(block))

    def finish(self, compute: Callable) -> Any:
        """The parameters and what each coordinate does alone, with their structure."""
        if self._whole("common"):
            return _common(self.store, self.store.read("common"), self.tree)
        plain, centred, alone = compute()
        trees = [plain, centred, *(alone or ())]  # one after the other, all of the structure of the first
        batches = {} if self.batches is None else {"batches": self.batches}
        self.store.write("common", {**_numbered(trees), **_text("one", structure(plain)), **batches})
        return plain, centred, alone

    def complete(self) -> bool:
        """Whether all blocks, those of other shards too, are there."""
        return all(self.store.has(_name(*part)) for part in parts_of(self.count, self.batch_size, self.lanes))

    def measured(self, every: dict[str, Callable]) -> dict[str, Measured]:
        """The queries, their coefficients read from the blocks; the rest of them is kept, too."""
        blocks = [_leaves(self.store.read(_name(*p))) for p in parts_of(self.count, self.batch_size, self.lanes)]
        out = {
            name: make(c=np.concatenate([b[i] for b in blocks])) for i, (name, make) in enumerate(sorted(every.items()))
        }
        if not all([self._whole(_query(number)) for number in range(len(out))]):
            write_queries(self.store, out)
        return out

    def jets(self) -> Any:
        """Read in parts."""
        return functools.partial(_read_parts, self.store, parts_of(self.count, self.batch_size, self.lanes), self.tree)


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


def _name(start: int, stop: int) -> str:
    return f"directions-{start:08d}-{stop:08d}"


def _query(number: int) -> str:
    return f"query-{number:05d}"


def _numbered(tree: Any) -> dict[str, np.ndarray]:
    return {f"{i:05d}": np.asarray(leaf) for i, leaf in enumerate(jax.tree.leaves(tree))}


def _text(name: str, value: Any) -> dict[str, np.ndarray]:
    return {name: np.frombuffer(json.dumps(value).encode(), np.uint8)}


def _json(array: np.ndarray) -> Any:
    return json.loads(array.tobytes())


def _leaves(arrays: dict[str, np.ndarray]) -> list[np.ndarray]:
    return [arrays[name] for name in sorted(arrays) if name.isdigit()]


def _read_parts(store: Store, parts: Parts, tree: Any) -> Iterator[Any]:
    """The jets of the parameters, block by block; ``tree`` is their structure, rebuilt if not given."""
    if tree is None:
        described = _json(store.read("common")["one"])
        one = rebuild(described, [0] * len(described["paths"]))
        tree = jax.tree.structure(one)
    for start, stop in parts:
        yield jax.tree.unflatten(tree, _leaves(store.read(_name(start, stop))))


def _common(store: Store, arrays: dict[str, np.ndarray], tree: Any) -> tuple[Any, Any, Alone | None]:
    """The parameters with nothing deleted and at the centre, and what each coordinate does alone."""
    leaves, described = _leaves(arrays), _json(arrays["one"])
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


def open_sketch(path: str | Path, train: Callable | None = None, space: Space | None = None) -> Sketch:
    """Open a stored sketch; its blocks are read, checked, when a query asks for them, one at a time.

    Args:
        path: the directory given to :func:`sketchlearn.sketch` as ``store``.
        train: the training program, needed only where it returns a pytree of other things than dicts, lists and
            tuples. If given it is checked to be the one that was sketched.
        space: needed only for a space that is not one of this package's.

    Returns:
        A :class:`Sketch`. Of one made with ``queries=`` the queries are asked for by name.

    Raises:
        StoreError: there is no finished sketch, or it is damaged, or of another format; the message names the file.

    Example:
        >>> import tempfile, sketchlearn as sl
        >>> train, query = (lambda w: {"total": w.sum()}), (lambda p: p["total"] ** 2)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     made = sl.sketch(train, sl.Examples(3), 2, 8, store=folder + "/sums", progress=False)
        ...     float(sl.open_sketch(folder + "/sums").predict(query, [0]).value.round(4))
        4.0
    """
    store = Store(path)
    a = store.arguments
    space = from_description(a["space"]) if space is None else space
    tree = None
    if train is not None:
        weights = full_weights(space, a["dtype"])
        if fingerprint(train, weights) != a["train"]:
            raise StoreError(
                f"{store.path} was made by another training program than the one given (or by other versions of JAX "
                f"and sketchlearn, which trace it differently: {store.versions.get('jax')} and "
                f"{store.versions.get('sketchlearn')} made it)."
            )
        tree = jax.tree.structure(shapes_of(train, weights))
    parts = parts_of(a["num_directions"], a["batch_size"], a["lanes"])
    missing = [_name(*part) for part in parts if not store.has(_name(*part))]
    if missing:
        raise StoreError(
            f"the sketch in {store.path} is not finished: {len(missing)} of {len(parts)} blocks are missing, the first "
            f"{missing[0]}. The call that made it goes on from there."
        )
    common = store.read("common")
    plain, centred, alone = _common(store, common, tree)
    centre = None if a["centre"] is None else np.asarray(a["centre"])
    queries = None if a["queries"] is None else read_queries(store, sorted(a["queries"]), parts)
    jets = functools.partial(_read_parts, store, parts, tree) if queries is None else None
    batches = common.get("batches", weighted_mean_batches(train))
    return Sketch(
        space, a["degree"], a["key"], plain, jets, centre, centred, alone, a["design"], queries, a["num_directions"],
        batches,
    )  # fmt: skip


def write_queries(store: Store, every: dict[str, Measured]) -> None:
    """Keep what belongs to queries beside their coefficients."""
    for number, (_, seen) in enumerate(sorted(every.items())):
        arrays = {"baseline": seen.baseline, "centre": seen.centre}
        if seen.alone:
            arrays |= {f"alone_{field}": value for field, value in seen.alone._asdict().items()}
        store.write(_query(number), arrays)


def read_queries(store: Store, names: list[str], parts: Parts) -> dict[str, Measured]:
    """The queries of a store, by name."""
    blocks = [_leaves(store.read(_name(*part))) for part in parts]
    out = {}
    for number, name in enumerate(names):
        arrays = store.read(_query(number))
        alone = None
        if "alone_ends" in arrays:
            alone = Alone(arrays["alone_ends"], arrays["alone_coefficients"], arrays["alone_positions"])
        c = np.concatenate([block[number] for block in blocks])
        out[name] = Measured(None, arrays["baseline"], arrays["centre"], c[:, 1:], alone)
    return out
