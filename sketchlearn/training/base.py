"""What a training program is: a pure function of the weights of its examples.

A newcomer starts here. Any JAX function ``weights (n,) -> parameters`` is a training program: 1 keeps an example, 0
deletes it, and the parameters are any pytree of floating arrays. Nothing else is asked of it:

    def train(weights):
        return jnp.linalg.solve((x.T * weights) @ x + penalty, x.T @ (weights * y))

A program may also say more about itself, and then more can be done: an attribute ``num_examples`` saves giving n;
:class:`CheckpointedProgram` lets the exact gradient go back through it in little memory; of a :class:`StepwiseProgram`
it can be said at which step, and at which of its examples, something is not finite. ``sketchlearn.Recipe`` is all of
these. Who needs to know asks the functions of :mod:`sketchlearn.training.program`, never the program itself.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import PyTree


class TrainingProgram(Protocol):
    """``weights (n,) -> parameters``, pure and traceable."""

    def __call__(self, weights: Any) -> PyTree:
        """The trained parameters."""
        ...


@runtime_checkable
class CountedProgram(Protocol):
    """A program, or an object that has one as its method, that knows how many examples it has."""

    num_examples: int


@runtime_checkable
class CheckpointedProgram(Protocol):
    """A program with a second way to run that reverse mode can go back through in little memory."""

    def train_checkpointed(self, weights: Any) -> PyTree:
        """The same run, with the same result."""
        ...


@runtime_checkable
class StepwiseProgram(Protocol):
    """A program that is a scan over batches, and can be looked at step by step.

    Attributes:
        num_examples: n.
        examples: a pytree of arrays with leading axis n.
        batches: (T, B), the positions of the examples that each step sees, -1 for an empty place.
        dtype: of the weights.
    """

    num_examples: int
    examples: PyTree
    batches: np.ndarray
    dtype: Any

    @property
    def num_steps(self) -> int:
        """T."""
        ...

    def start(self) -> Any:
        """The carry that the first step begins with."""
        ...

    def inputs(self, weights: Any) -> Any:
        """What every step is given, stacked."""
        ...

    def step(self, carry: Any, batch: Any) -> tuple[Any, None]:
        """The body of the scan."""
        ...

    def example_signals(self, carry: Any, batch: Any) -> Any:
        """For each example of a step: zero if its loss and gradient are finite, NaN if not, (B,)."""
        ...

    def shortened(self, num_steps: int) -> StepwiseProgram:
        """The same run, ended after its first steps."""
        ...

    def query(self, examples: PyTree) -> Callable:
        """The loss of examples as a function of the parameters."""
        ...

    def first_failure(self, weights: Any, direction: Any = None, degree: int = 3) -> Any:
        """The first step at which something is not finite, whose text says so; None if all is finite."""
        ...


@runtime_checkable
class WeightedMeans(Protocol):
    """A program that says by which reduction its batches are weighted."""

    batches: np.ndarray
    reduction: str
