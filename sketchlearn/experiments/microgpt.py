"""The paper's experiment: microgpt on 1000 names, one a step, as a function of the names' weights."""

from __future__ import annotations

import dataclasses
import functools
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jax.typing import DTypeLike

from sketchlearn.errors import check_count, check_seed
from sketchlearn.experiments.datasets import load_names
from sketchlearn.experiments.models import BLOCK, PARAMETER_ORDER, MicroGPT, name_loss
from sketchlearn.runtime.arrays import check_dtype
from sketchlearn.training.checkpointing import checkpointed_scan, recorded_scan

SHORT = 8  # positions that hold a name of up to seven letters, as most are
END = 26  # the token that marks the beginning and the end of a name


def encode(names: list[str], length: int | None = None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Input tokens, target tokens and presence (0 or 1) of each position, all of shape (n, length).

    Args:
        names: lower-case letters a-z each, at least one name.
        length: positions, at least one more than the longest name has letters; exactly that if not given.

    Example:
        >>> tokens, targets, present = encode(["abz", "c"])
        >>> tokens.tolist(), targets.tolist()
        ([[26, 0, 1, 25], [26, 2, 26, 26]], [[0, 1, 25, 26], [2, 26, 26, 26]])
    """
    length = max(map(len, names)) + 1 if length is None else length
    tokens = np.full((len(names), length), END, np.int32)
    targets, present = tokens.copy(), np.zeros((len(names), length))
    for i, name in enumerate(names):
        letters = [ord(c) - ord("a") for c in name]
        tokens[i, 1 : len(name) + 1] = letters
        targets[i, : len(name)] = letters
        present[i, : len(name) + 1] = 1
    return tokens, targets, present


@dataclasses.dataclass(frozen=True, eq=False)  # compared and hashed by identity: it holds arrays
class Experiment:
    """microgpt's training run as one pure function of the weights of its examples.

    Attributes:
        names: the n training names, in the order in which they are seen.
        initial: the initial parameters, a dict of arrays.
        num_steps: optimiser steps, one name each; step s sees name s mod n.
        learning_rate: of step s: ``learning_rate (1 - s / num_steps)``.
    """

    names: tuple[str, ...]
    initial: dict[str, Any]
    num_steps: int = 1000
    learning_rate: float = 0.01

    @property
    def num_examples(self) -> int:
        """n, the number of training names."""
        return len(self.names)

    @property
    def dtype(self) -> Any:
        """The floating dtype of parameters and weights."""
        return self.initial["wte"].dtype

    @property
    def deleted(self) -> np.ndarray:
        """Positions of the names with an x, the deletion of the paper's figures 2 and 3."""
        return self.containing("x")

    def containing(self, letters: str) -> np.ndarray:
        """Positions of the training names that contain a piece of text."""
        return np.array([i for i, name in enumerate(self.names) if letters in name], int)

    @functools.cached_property
    def _graph(self) -> Any:
        return nnx.split(MicroGPT(self.initial))[0]

    def logits(self, parameters: Any, tokens: jax.Array) -> jax.Array:
        """Logits (T, 27) of tokens (T,)."""
        return nnx.merge(self._graph, nnx.State({k: nnx.Param(v) for k, v in parameters.items()}))(tokens)

    def train(self, weights: jax.Array) -> dict[str, jax.Array]:
        """Train with the loss of example i multiplied by ``weights[i]``.

        Adam with β = (0.85, 0.99) and epsilon 1e-3 inside the root:
        ``θ <- θ - lr m̂ / sqrt(v̂ + 1e-3)``.

        Args:
            weights: shape (n,), real; 1 keeps an example, 0 deletes it.

        Returns:
            The trained parameters, a dict of arrays. Pure and jittable.

        Example:
            >>> import jax.numpy as jnp, sketchlearn as sl
            >>> experiment = sl.microgpt.paper_experiment(num_examples=20, num_steps=20)
            >>> sum(p.size for p in experiment.train(jnp.ones(20)).values())
            4192
        """
        return self._run(weights, jax.lax.scan)[0][0]

    def train_checkpointed(self, weights: jax.Array) -> dict[str, jax.Array]:
        """:meth:`train` for reverse mode: the same parameters, in memory that grows like the root of the steps.

        Args:
            weights: shape (n,), real.

        Returns:
            The trained parameters, a dict of arrays.
        """
        return self._run(weights, checkpointed_scan)[0][0]

    def trajectory(self, weights: jax.Array, segments: int) -> tuple[Any, Any]:
        """What :meth:`train` passes through: the state before each of equal segments of the run.

        Args:
            weights: shape (n,), real.
            segments: how many; a divisor of the number of steps.

        Returns:
            The parameters, and the factor ``1 / sqrt(v̂ + 1e-3)`` by which Adam multiplies a gradient entry
            (1 before the first step, where there is no v̂), both with a leading axis ``segments``.
        """
        parameters, (adam, *_) = self._run(weights, functools.partial(recorded_scan, segments=segments))[1]
        corrected = 1 - 0.99 ** adam.count.astype(self.dtype)
        begun = adam.count > 0

        def factor(nu: jax.Array) -> jax.Array:
            shape = (-1,) + (1,) * (nu.ndim - 1)
            v = nu / jnp.where(begun, corrected, 1).reshape(shape)
            return jnp.where(begun.reshape(shape), jax.lax.rsqrt(v + 1e-3), 1)

        return parameters, jax.tree.map(factor, adam.nu)

    @functools.cached_property
    def _encoded(self) -> tuple[np.ndarray, ...]:
        return encode(list(self.names))

    def example_loss(self, parameters: Any, example: Any) -> jax.Array:
        """The loss of one training name, in nats, without its weight.

        Args:
            parameters: of the model.
            example: the position of the name, 0 to n - 1; may be traced.
        """
        return self.output_loss(self.example_logits(parameters, example), example)

    def example_logits(self, parameters: Any, example: Any) -> jax.Array:
        """The logits (T, 27) of one training name."""
        return self.logits(parameters, jnp.asarray(self._encoded[0])[example])

    def output_loss(self, logits: jax.Array, example: Any) -> jax.Array:
        """The loss of one training name as a function of its logits (T, 27), in nats."""
        targets, present = self._encoded[1:]
        return name_loss(logits, jnp.asarray(targets)[example], jnp.asarray(present, self.dtype)[example])

    def _run(self, weights: jax.Array, scan: Callable) -> tuple[Any, Any]:
        """The run with any function that does what ``jax.lax.scan`` does."""
        weights = jnp.asarray(weights)
        if weights.shape != (self.num_examples,):
            raise ValueError(
                f"weights must have shape ({self.num_examples},), one for each training name, got {weights.shape}."
            )
        if not jnp.issubdtype(weights.dtype, jnp.floating):
            raise TypeError(f"weights must be real floating-point numbers, got dtype {weights.dtype}.")
        if jnp.finfo(weights.dtype).bits > jnp.finfo(self.dtype).bits:
            raise TypeError(
                f"weights are {weights.dtype} but this experiment runs in {self.dtype}: convert one of them."
            )
        weights = weights.astype(self.dtype)
        order = np.arange(self.num_steps) % self.num_examples
        tokens, targets, present = (x[order] for x in encode(list(self.names)))
        short = present.sum(1) <= SHORT
        optimizer = optax.adam(
            # int32 / int would be float32, even where all else is float64
            lambda step: self.learning_rate * (1 - step.astype(self.dtype) / self.num_steps),
            b1=0.85,
            b2=0.99,
            eps=0.0,
            eps_root=1e-3,
        )

        def loss(parameters: Any, weight: jax.Array, *example: jax.Array) -> jax.Array:
            return weight * name_loss(self.logits(parameters, example[0]), example[1], example[2])

        def gradient(parameters: Any, weight: jax.Array, length: int, *example: jax.Array) -> Any:
            return jax.grad(loss)(parameters, weight, *(x[:length] for x in example))

        def step(state: tuple, inputs: tuple) -> tuple:
            parameters, moments = state
            weight, is_short, *example = inputs
            if short.all() or not short.any():
                update = gradient(parameters, weight, SHORT if short.all() else tokens.shape[1], *example)
            else:  # most names are short: no need to compute on padding
                update = jax.lax.cond(
                    is_short,
                    lambda p, w: gradient(p, w, SHORT, *example),
                    lambda p, w: gradient(p, w, tokens.shape[1], *example),
                    parameters,
                    weight,
                )
            updates, moments = optimizer.update(update, moments, parameters)
            return (optax.apply_updates(parameters, updates), moments), None

        start = (self.initial, optimizer.init(self.initial))
        # arrays of JAX, because a scan may slice them into segments
        inputs = (short, tokens, targets, present.astype(self.dtype))
        return scan(step, start, (weights[order], *map(jnp.asarray, inputs)))

    def query(self, name: str | Sequence[str]) -> Callable[[Any], jax.Array]:
        """The loss on one name, or on each of several: a function ``parameters -> nats``.

        Args:
            name: 1 to 15 lower-case letters, or a list of such names.

        Returns:
            A function of the trained parameters; its value is the mean loss over the positions of the name,
            a number, or an array with one entry for each name.
        """
        names: list[Any] = list(name) if isinstance(name, (list, tuple, np.ndarray)) else [name]
        for one in names:
            if not (isinstance(one, str) and one.isascii() and one.isalpha() and one.islower() and len(one) < BLOCK):
                raise ValueError(f"a query is a name of 1 to {BLOCK - 1} lower-case letters a-z, got {one!r}.")
        if not names:
            raise ValueError("give at least one name to query.")
        examples = [jnp.asarray(x, self.dtype if x.dtype.kind == "f" else None) for x in encode(names)]

        def loss(parameters: Any) -> jax.Array:
            if not isinstance(parameters, dict) or set(parameters) != set(self.initial):
                raise ValueError(
                    f"this query reads the parameters of microgpt, a dict with the keys {sorted(self.initial)}, got "
                    f"{sorted(parameters) if isinstance(parameters, dict) else type(parameters).__name__}."
                )
            each = jax.vmap(lambda x, y, here: name_loss(self.logits(parameters, x), y, here))(*examples)
            return each[0] if isinstance(name, str) else each

        loss.__name__ = f"loss_on_{'_'.join(names[:3])}"
        return loss


def reseeded(experiment: Experiment, seed: int) -> Experiment:
    """The same experiment from other initial weights, for measuring what the seed alone changes.

    Args:
        experiment: whose names, order and steps are kept.
        seed: of NumPy's generator; the weights are normal with deviation 0.08.

    Example:
        >>> import sketchlearn as sl
        >>> experiment = sl.microgpt.paper_experiment(num_examples=5)
        >>> other = sl.microgpt.reseeded(experiment, 1)
        >>> other.names == experiment.names, bool((other.initial["wte"] == experiment.initial["wte"]).any())
        (True, False)
    """
    rng = np.random.default_rng(check_seed(seed))
    initial = {k: jnp.asarray(rng.normal(0, 0.08, v.shape), v.dtype) for k, v in experiment.initial.items()}
    return dataclasses.replace(experiment, initial=initial)


def paper_experiment(
    names: str | Path | None = None,
    num_examples: int = 1000,
    num_steps: int | None = None,
    dtype: DTypeLike | None = None,
) -> Experiment:
    """microgpt as in the experiment of Gunn (arXiv:2604.07328).

    Shuffle the names and draw the initial weights with Python's ``random`` and seed 42,
    train on the first ``num_examples`` names, one a step.

    Args:
        names: path of a names file; ``None`` for the bundled public-domain list;
            ``"paper"`` to download the paper's own.
        num_examples: n.
        num_steps: optimiser steps; ``num_examples`` if not given.
        dtype: ``float32`` or ``float64`` (which needs ``jax_enable_x64``); by default
            the wider one that is enabled.

    Returns:
        An :class:`Experiment`.

    Example:
        >>> import sketchlearn as sl
        >>> sl.microgpt.paper_experiment().num_examples
        1000
    """
    num_examples = check_count("num_examples", num_examples)
    num_steps = check_count("num_steps", num_examples if num_steps is None else num_steps)
    dtype = check_dtype(dtype)
    documents = load_names(names)
    if num_examples > len(documents):
        raise ValueError(f"num_examples={num_examples}, but the list has only {len(documents)} names.")
    draw = random.Random(42)
    draw.shuffle(documents)
    initial = {
        name: jnp.asarray([[draw.gauss(0, 0.08) for _ in range(columns)] for _ in range(rows)], dtype)
        for name, (rows, columns) in PARAMETER_ORDER
    }
    return Experiment(tuple(documents[:num_examples]), initial, num_steps)
