"""The truth: training again, many deletions at once, kept in a bank that can be resumed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .errors import check_count, check_dtype
from .failures import explanation
from .lanes import lanes, side_by_side
from .precision import jit, matmul_precision
from .prediction import Prediction
from .progress import track
from .running import check_query, check_train, full_weights
from .spaces import Examples, Space, deletion_vectors
from .storage import Store, fingerprint

BLOCK = 32  # trainings at once; on two cores larger blocks were not faster


def retrain(
    train: Callable,
    weights: Any,
    query: Callable | None = None,
    batch_size: int = BLOCK,
    dtype: Any = None,
    progress: bool = False,
) -> Any:
    """Train again for every row of weights, in blocks that are run at once.

    Rows of ones (nothing deleted) are the plain run, ``jax.jit(train)(ones)``, to the bit (on a GPU or TPU: of that
    run with ``jax.default_matmul_precision("highest")``, unless you set another). The other rows
    do not depend on which rows stand beside them; a block of another size may round them differently.

    Args:
        train: weights (n,) -> parameters, pure.
        weights: (B, n) or (n,), real; 1 keeps an example, 0 deletes it. Of deletions ``x`` they are ``1 - x``.
        query: what to keep of the parameters; all of them if not given.
        batch_size: trainings run at once.
        dtype: of the weights, float32 or float64; by default the wider one that is enabled.
        progress: show a progress bar.

    Returns:
        The parameters, or the query's values, with a leading axis B unless one row was given; NumPy arrays.

    Raises:
        FloatingPointError: a training run gives NaN or infinity.

    Example:
        >>> import jax.numpy as jnp, sketchlearn as sl
        >>> sl.retrain(lambda w: w @ jnp.arange(3.0), [[1.0, 1, 1], [1, 1, 0]], query=lambda p: 2 * p).tolist()
        [6.0, 2.0]
    """
    batch_size = check_count("batch_size", batch_size)
    rows = np.asarray(weights, np.float64)
    if rows.ndim not in (1, 2) or not rows.size or not np.isfinite(rows).all():
        raise ValueError(f"weights must be finite numbers of shape (n,) or (B, n), B at least 1, got {rows.shape}.")
    stack = np.atleast_2d(rows).astype(check_dtype(dtype))
    shapes = check_train(train, jnp.asarray(stack[0]))
    if query is not None:
        shapes = check_query(query, shapes)
    out = jax.tree.map(lambda s: np.empty((len(stack), *s.shape), s.dtype), shapes)
    for where, part in _blocks_of(train, stack, query, batch_size, progress):
        for whole, piece in zip(jax.tree.leaves(out), jax.tree.leaves(part), strict=True):
            whole[where] = piece
    return out if rows.ndim == 2 else jax.tree.map(lambda leaf: leaf[0], out)


def _blocks_of(
    train: Callable, stack: np.ndarray, query: Callable | None, batch_size: int, show: bool
) -> Iterator[tuple[np.ndarray, Any]]:
    """Yield (rows, what training gives for them); the rows of ones first, then block after block."""

    def one(w: Any) -> Any:
        return train(w) if query is None else query(train(w))

    ones = np.ones_like(stack[0])
    plain = (stack == ones).all(1)
    if plain.any():
        kept = jax.tree.map(lambda leaf: np.asarray(leaf)[None], jax.device_get(jit(one)(jnp.asarray(ones))))
        _check_finite(kept, train, ones[None])
        yield np.flatnonzero(plain), kept
    rest = np.flatnonzero(~plain)
    if not len(rest):
        return
    starts = range(0, len(rest), batch_size)
    padded = np.concatenate([rest, np.repeat(rest[:1], -len(rest) % batch_size)])

    def arguments() -> Iterator[tuple]:
        for start in starts:
            yield (jnp.asarray(stack[padded[start : start + batch_size]]),)

    # always of one size: a row's last digits may depend on the size of its block, so not on how many are asked for
    compiled = jit(jax.vmap(one)).lower(jnp.asarray(stack[padded[:batch_size]])).compile()
    done = side_by_side(compiled, arguments(), lanes(batch_size * min(len(starts), 2), batch_size))
    for start, block in track(
        zip(starts, done, strict=True), "retraining", "run", scale=batch_size, total=len(rest), show=show
    ):
        where = rest[start : start + batch_size]
        count = len(where)
        block = jax.tree.map(lambda leaf, count=count: np.asarray(leaf)[:count], jax.device_get(block))
        _check_finite(block, train, stack[where])
        yield where, block


def _check_finite(block: Any, train: Callable, rows: np.ndarray) -> None:
    """Refuse results (B, ...) that are not finite, naming the first row of the weights (B, n) that gives them."""
    for leaf in jax.tree.leaves(block):
        bad = np.flatnonzero(~np.isfinite(leaf).reshape(len(rows), -1).all(1))
        if len(bad):
            row, gone = rows[bad[0]], np.flatnonzero(rows[bad[0]] != 1)
            which = f"with {len(gone)} examples weighted down or deleted, the first {gone[0]}," if len(gone) else ""
            raise FloatingPointError(
                f"the training run {which or 'with nothing deleted'} or the query of it gives NaN or infinity."
                f"{explanation(train, jnp.asarray(row))}"
            )


class RetrainBank:
    """Retrainings that are computed once and kept, in memory or in a folder.

    A retraining is addressed by the SHA-256 of the configuration and its weights. Blocks are written as they
    are finished, so an interrupted run goes on where it stopped.
    The folder is a checked store like a sketch's (``storage``).

    Args:
        path: a folder, made if it does not exist; ``None`` keeps everything in memory.
        train: weights (n,) -> parameters, pure.
        configuration: what made ``train`` (model, data, steps, learning rate, seed, ..): a dict that JSON can
            hold. A folder of another configuration or another program is refused.
        space: which deletions are meant, for instance ``Examples(n)``; read from ``train`` where that
            knows its ``num_examples``.
        batch_size: trainings run at once.
        dtype: of the weights.
        progress: show a progress bar.

    Attributes:
        plain: the parameters with nothing deleted, the bits of ``jax.jit(train)(ones)`` in ``matmul_precision``.
        matmul_precision: the precision of products, JAX's highest unless you set another.

    Example:
        >>> import jax.numpy as jnp, sketchlearn as sl
        >>> bank = sl.RetrainBank(None, lambda w: w @ jnp.arange(3.0), {"seed": 0}, sl.Examples(3))
        >>> prediction = bank.predict(lambda p: p, [[2], [0, 1]])
        >>> prediction.change.tolist(), len(bank)
        ([-2.0, -1.0], 2)
    """

    def __init__(
        self,
        path: str | Path | None,
        train: Callable,
        configuration: dict[str, Any],
        space: Space | None = None,
        batch_size: int = BLOCK,
        dtype: Any = None,
        progress: bool = False,
    ):
        if space is None:
            owner = getattr(train, "__self__", train)
            if not hasattr(owner, "num_examples"):
                raise TypeError("the number of training examples is not known: pass space=sketchlearn.Examples(n).")
            space = Examples(owner.num_examples)
        self.train, self.space, self.progress = train, space, progress
        self.batch_size = check_count("batch_size", batch_size)
        ones = full_weights(space, dtype)
        self.dtype = ones.dtype
        self._shapes = check_train(train, ones)
        self.matmul_precision = matmul_precision()
        described = {
            "configuration": configuration,
            "num_examples": space.num_examples,
            "weights": str(self.dtype),
            "matmul_precision": self.matmul_precision,
        }
        if path is not None:
            described["train"] = fingerprint(train, ones)
        try:
            self._description = json.loads(json.dumps(described, sort_keys=True))
        except TypeError as error:
            raise TypeError(f"configuration must be a dict that JSON can hold: {error}") from error
        self._seed = json.dumps(self._description, sort_keys=True).encode()
        self._rows: dict[str, list[np.ndarray]] = {}
        self.path = None if path is None else Path(path)
        self._store = None
        if path is not None:
            remedy = "Delete this file; its runs are computed again."
            # a damaged manifest is written again: each file's checksum still covers what made it
            self._store = Store(path, self._description, what="bank of retrainings", remedy=remedy, repair=True)
        plain = jax.device_get(jit(train)(ones))
        _check_finite(jax.tree.map(lambda leaf: np.asarray(leaf)[None], plain), train, np.asarray(ones)[None])
        self.plain = jax.tree.map(np.asarray, plain)
        if self._store is not None:
            self._open(self._store)

    def __len__(self) -> int:
        return len(self._rows)

    def __repr__(self) -> str:
        return f"RetrainBank({len(self)} retrainings of {self.space.num_examples} examples, {self.path or 'in memory'})"

    def parameters(self, delete: Any) -> Any:
        """The parameters after each deletion, those that are not in the bank by training again.

        Args:
            delete: as the space reads it: positions, masks, group names, or a stack of them.

        Returns:
            A pytree of NumPy arrays, with a leading axis B for a stack.
        """
        z = self.space.locate(delete)
        x = np.asarray(self.space.embed(np.atleast_2d(z)), np.float64)
        stacked = self.retrained(1 - x)
        return stacked if z.ndim > 1 else jax.tree.map(lambda leaf: leaf[0], stacked)

    def retrained(self, weights: Any) -> Any:
        """The parameters for rows of weights (B, n), from the bank where they are in it."""
        stack = np.atleast_2d(np.asarray(weights)).astype(self.dtype)
        if stack.shape[1:] != (self.space.num_examples,):
            raise ValueError(f"weights must have shape (B, {self.space.num_examples}), got {stack.shape}.")
        keys = [hashlib.sha256(self._seed + row.tobytes()).hexdigest() for row in stack]
        plain = (stack == 1).all(1)
        missing = {key: i for i, key in enumerate(keys) if key not in self._rows and not plain[i]}
        if missing:
            if matmul_precision() != self.matmul_precision:
                raise ValueError(
                    f"this bank trains with the precision of products {self.matmul_precision}, and JAX is set to "
                    f"{matmul_precision()} now: retrain with the setting (jax_default_matmul_precision) that the bank "
                    "was made with, or make another bank."
                )
            wanted, rows = list(missing), stack[list(missing.values())]
            for where, block in _blocks_of(self.train, rows, None, self.batch_size, self.progress):
                self._keep([wanted[i] for i in where], jax.tree.leaves(block))
        own = [leaf[None] for leaf in jax.tree.leaves(self.plain)]
        parts = [[leaf[0] for leaf in own] if p else self._rows[k] for k, p in zip(keys, plain, strict=True)]
        return jax.tree.unflatten(
            jax.tree.structure(self._shapes), [np.stack(leaves) for leaves in zip(*parts, strict=True)]
        )

    def values(self, query: Callable, delete: Any) -> np.ndarray:
        """The query after each deletion: its own shape, after an axis B for a stack; float64."""
        z = self.space.locate(delete)
        found = self.evaluated(query, 1 - np.asarray(self.space.embed(np.atleast_2d(z)), np.float64))
        return found if z.ndim > 1 else found[0]

    def evaluated(self, query: Callable, weights: Any) -> np.ndarray:
        """The query for rows of weights (B, n); float64."""
        check_query(query, self._shapes)
        one = jit(query)
        stacked = self.retrained(weights)
        rows = [jax.tree.map(lambda leaf, i=i: leaf[i], stacked) for i in range(len(np.atleast_2d(weights)))]
        found = np.stack([np.asarray(one(row), np.float64) for row in rows])
        bad = np.flatnonzero(~np.isfinite(found).reshape(len(found), -1).all(1))
        if len(bad):
            raise FloatingPointError(
                f"the query is NaN or infinite after retraining {len(bad)} of {len(found)} times, first for row "
                f"{bad[0]} of the weights."
            )
        return found

    def predict(self, query: Callable, delete: Any) -> Prediction:
        """The truth in the form of a prediction: retrained, with an error of zero for this seed."""
        value = self.values(query, delete)
        check_query(query, self._shapes)
        baseline = np.asarray(jit(query)(self.plain), np.float64)
        zero, none = np.zeros_like(value), np.zeros((*value.shape[: value.ndim - baseline.ndim], 0, *baseline.shape))
        return Prediction(
            value, baseline, value - baseline, none, none, zero, zero, none.astype(bool),
            ("retrained: the error is that of rounding, and another seed would give another value.",),
        )  # fmt: skip

    def _keep(self, keys: list[str], leaves: list[np.ndarray]) -> None:
        for i, key in enumerate(keys):
            self._rows[key] = [np.array(leaf[i]) for leaf in leaves]
        if self._store is not None:
            name = "runs-" + hashlib.sha256("".join(keys).encode()).hexdigest()[:16]
            numbered = {f"{j:05d}": leaf for j, leaf in enumerate(leaves)}
            self._store.write(name, {"keys": np.frombuffer("".join(keys).encode(), np.uint8), **numbered})

    def _open(self, store: Store) -> None:
        """Read what is there."""
        for file in sorted(store.path.glob("runs-*")):
            arrays = store.read(file.stem)
            keys = arrays.pop("keys").tobytes().decode()
            leaves = [arrays[name] for name in sorted(arrays)]
            for i in range(len(keys) // 64):  # hexadecimal digits of SHA-256
                self._rows[keys[64 * i : 64 * i + 64]] = [leaf[i] for leaf in leaves]


def seed_noise(
    make_train: Callable[[int], Callable],
    seeds: Sequence[int],
    query: Callable,
    delete: Any,
    num_examples: int,
    batch_size: int = BLOCK,
    dtype: Any = None,
) -> np.ndarray:
    """The change of a query after deletions for each of several seeds: what is the deletion's, and what the seed's.

    The standard deviation over the first axis is the noise that a prediction for one seed cannot explain to
    another.

    Args:
        make_train: seed -> (weights -> parameters).
        seeds: whole numbers.
        query: parameters -> array of shape S.
        delete: positions, masks or vectors, one or a stack of B.
        num_examples: n.
        batch_size: trainings run at once.
        dtype: of the weights.

    Returns:
        (seeds, B) followed by S, in the unit of the query; float64.

    Example:
        >>> import jax.numpy as jnp, sketchlearn as sl
        >>> changes = sl.seed_noise(lambda s: lambda w: s * w.sum(), [1, 2], lambda p: p, [[0], [0, 1]], 3)
        >>> changes.tolist()
        [[-1.0, -2.0], [-2.0, -4.0]]
    """
    if not callable(make_train):
        raise TypeError(f"make_train must be a function of a seed, got {type(make_train).__name__}.")
    x = np.atleast_2d(deletion_vectors(delete, num_examples))
    rows = np.concatenate([np.ones((1, num_examples)), 1 - x])
    out = []
    for seed in seeds:
        values = retrain(make_train(seed), rows, query, min(batch_size, max(len(x), 1)), dtype)
        values = np.asarray(values, np.float64)
        out.append(values[1:] - values[:1])
    if not out:
        raise ValueError("give at least one seed.")
    return np.stack(out)
