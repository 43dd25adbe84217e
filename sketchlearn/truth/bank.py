"""Retrainings that are computed once and kept."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.typing import DTypeLike
from jaxtyping import Float, PyTree

from sketchlearn.deletions.base import Space
from sketchlearn.deletions.centre import full_weights
from sketchlearn.deletions.examples import Examples
from sketchlearn.errors import check_count
from sketchlearn.execution.runs import plain_program
from sketchlearn.prediction.result import Prediction
from sketchlearn.runtime.paths import as_path
from sketchlearn.runtime.precision import matmul_precision
from sketchlearn.runtime.programs import jit
from sketchlearn.sketching.store.fingerprint import fingerprint
from sketchlearn.sketching.store.format import Store
from sketchlearn.training.program import check_query, check_train, num_examples_of
from sketchlearn.truth.retrain import BLOCK, check_finite_runs, retrained_blocks


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
        dtype: DTypeLike | None = None,
        progress: bool = False,
    ):
        if space is None:
            count = num_examples_of(train)
            if count is None:
                raise TypeError("the number of training examples is not known: pass space=sketchlearn.Examples(n).")
            space = Examples(count)
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
        self.path = None if path is None else as_path("the path of a bank", path)
        self._store = None
        if path is not None:
            remedy = "Delete this file; its runs are computed again."
            # a damaged manifest is written again: each file's checksum still covers what made it
            self._store = Store(path, self._description, what="bank of retrainings", remedy=remedy, repair=True)
        plain = jax.device_get(plain_program(train)(ones))
        check_finite_runs(jax.tree.map(lambda leaf: np.asarray(leaf)[None], plain), train, np.asarray(ones)[None])
        self.plain = jax.tree.map(np.asarray, plain)
        if self._store is not None:
            self._open(self._store)

    def __len__(self) -> int:
        return len(self._rows)

    def __repr__(self) -> str:
        return f"RetrainBank({len(self)} retrainings of {self.space.num_examples} examples, {self.path or 'in memory'})"

    def parameters(self, delete: Any) -> PyTree:
        """The parameters after each deletion, those that are not in the bank by retraining.

        Args:
            delete: as the space reads it: positions, masks, group names, or a stack of them.

        Returns:
            A pytree of NumPy arrays, with a leading axis B for a stack.
        """
        z = self.space.locate(delete)
        x = np.asarray(self.space.embed(np.atleast_2d(z)), np.float64)
        stacked = self.retrained(1 - x)
        return stacked if z.ndim > 1 else jax.tree.map(lambda leaf: leaf[0], stacked)

    def retrained(self, weights: Any) -> PyTree:
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
            for where, block in retrained_blocks(self.train, rows, None, self.batch_size, self.progress):
                self._keep([wanted[i] for i in where], jax.tree.leaves(block))
        own = [leaf[None] for leaf in jax.tree.leaves(self.plain)]
        parts = [[leaf[0] for leaf in own] if p else self._rows[k] for k, p in zip(keys, plain, strict=True)]
        return jax.tree.unflatten(
            jax.tree.structure(self._shapes), [np.stack(leaves) for leaves in zip(*parts, strict=True)]
        )

    def values(self, query: Callable, delete: Any) -> Float[np.ndarray, "*shape"]:
        """The query after each deletion: its own shape, after an axis B for a stack; float64."""
        z = self.space.locate(delete)
        values = self.evaluated(query, 1 - np.asarray(self.space.embed(np.atleast_2d(z)), np.float64))
        return values if z.ndim > 1 else values[0]

    def evaluated(self, query: Callable, weights: Any) -> Float[np.ndarray, " B *S"]:
        """The query for rows of weights (B, n); float64."""
        check_query(query, self._shapes)
        one = jit(query)
        stacked = self.retrained(weights)
        rows = [jax.tree.map(lambda leaf, i=i: leaf[i], stacked) for i in range(len(np.atleast_2d(weights)))]
        values = np.stack([np.asarray(one(row), np.float64) for row in rows])
        bad = np.flatnonzero(~np.isfinite(values).reshape(len(values), -1).all(1))
        if len(bad):
            raise FloatingPointError(
                f"the query is NaN or infinite after retraining {len(bad)} of {len(values)} times, first for row "
                f"{bad[0]} of the weights."
            )
        return values

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
