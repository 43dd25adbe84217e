"""Opening a stored sketch."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np

from sketchlearn.deletions.base import Space, from_description
from sketchlearn.deletions.centre import full_weights
from sketchlearn.errors import StoreError
from sketchlearn.execution.blocks import parts_of
from sketchlearn.runtime.precision import shapes_of
from sketchlearn.sketching.base import JetSource
from sketchlearn.sketching.jets import QueriesOnly
from sketchlearn.sketching.sketch import Sketch
from sketchlearn.sketching.store.blocks import JetsOnDisk, block_name, read_common, read_queries
from sketchlearn.sketching.store.fingerprint import fingerprint
from sketchlearn.sketching.store.format import READ_ONLY, Store
from sketchlearn.training.program import weighted_mean_batches


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
        if fingerprint(train, weights, names=store.format == READ_ONLY) != a["train"]:
            raise StoreError(
                f"{store.path} was made by another training program than the one given (or by other versions of JAX "
                f"and sketchlearn, which trace it differently: {store.versions.get('jax')} and "
                f"{store.versions.get('sketchlearn')} made it)."
            )
        tree = jax.tree.structure(shapes_of(train, weights))
    parts = parts_of(a["num_directions"], a["batch_size"], a["workers"])
    missing = [block_name(*part) for part in parts if not store.has(block_name(*part))]
    if missing:
        raise StoreError(
            f"the sketch in {store.path} is not finished: {len(missing)} of {len(parts)} blocks are missing, the first "
            f"{missing[0]}. The call that made it goes on from there."
        )
    common = store.read("common")
    plain, centred, singles = read_common(store, common, tree)
    m = a["num_directions"]
    source: JetSource = JetsOnDisk(store, parts, m, tree)
    if a["queries"] is not None:
        source = QueriesOnly(read_queries(store, sorted(a["queries"]), parts), m)
    return Sketch(
        space,
        a["degree"],
        a["seed"],
        source,
        plain,
        centre=None if a["centre"] is None else np.asarray(a["centre"]),
        parameters_at_centre=centred,
        single_coordinates=singles,
        design=a["design"],
        batches=common.get("batches", weighted_mean_batches(train)),
    )
