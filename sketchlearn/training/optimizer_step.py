"""One update of an optimizer, which may want the loss beside its gradient."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import jax


def updated(
    optimizer: Any, gradient: Any, state: Any, parameters: Any, value: Any, loss: Callable[[Any], Any]
) -> tuple[Any, Any]:
    """The updates of the parameters, and the optimizer's next state.

    Beside the gradient some want the loss: line searches its value and itself (``value``, ``grad``, ``value_fn``), SAM
    a gradient elsewhere (``grad_fn``), Sophia its curvature (``obj_fn``).

    Raises:
        ValueError: the optimizer fails on what it is given.
    """

    def gradient_at(elsewhere: Any, *_: Any) -> Any:
        return jax.grad(loss)(elsewhere)

    def value_fn(elsewhere: Any, obj_fn: Any = None, grad_fn: Any = None) -> Any:
        return loss(elsewhere)  # a line search hands on what it does not use, and refuses what is not taken by name

    offered = {"value": value, "grad": gradient, "value_fn": value_fn, "obj_fn": loss, "grad_fn": gradient_at}
    while True:
        try:
            return optimizer.update(gradient, state, parameters, **offered)
        except (TypeError, ValueError, AttributeError, KeyError, NotImplementedError) as error:
            unknown = re.search(r"unexpected keyword argument '(\w+)'", str(error))
            if isinstance(error, TypeError) and unknown and unknown[1] in offered:
                del offered[unknown[1]]  # some take nothing that they do not name
                continue
            text = str(error).strip().split("\n")[0]
            raise ValueError(
                f"the optimizer failed in a step of the recipe ({type(error).__name__}: {text}). It is given the "
                "gradient, its own state and the parameters, and as further arguments value, grad, value_fn, grad_fn "
                "and obj_fn. One that wants something else (parameters of its own kind, as optax.lookahead does; "
                "gradients example by example) cannot be used in a Recipe: write the loop yourself, as a function of "
                "the weights."
            ) from error
