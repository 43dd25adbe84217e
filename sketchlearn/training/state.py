"""What one step of a recipe hands to the next, and what a run returns."""

from __future__ import annotations

from typing import NamedTuple

from jaxtyping import PyTree


class Trained(NamedTuple):
    """What a run returns when it returns more than parameters: a pytree, like them.

    Attributes:
        parameters: after the last step.
        state: running statistics and the like, floating numbers only; empty for layers without them.
        averaged: the exponential moving average of the parameters, None if none was asked for.
    """

    parameters: PyTree
    state: PyTree = None
    averaged: PyTree = None


class Carry(NamedTuple):
    """What one step hands to the next."""

    parameters: PyTree
    state: PyTree
    optimizer_state: PyTree
    averaged: PyTree
