"""Where a training run, or its power series, stops being finite: the step, and its examples."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from sketchlearn.runtime.programs import jit
from sketchlearn.taylor import taylor_coefficients
from sketchlearn.training.program import stepwise


@dataclasses.dataclass(frozen=True)
class Failure:
    """The first step of a run after which something is not finite.

    Attributes:
        step: its number, from 0.
        num_steps: of the run.
        order: 0 where the run itself fails, else the lowest order of its power series that does.
        batch: the examples that the step sees.
        examples: those whose own loss or gradient is not finite; empty where each alone is finite, so that
            the update (an optimizer's root of zero, a learning rate too large) is at fault.
    """

    step: int
    num_steps: int
    order: int
    batch: tuple[int, ...]
    examples: tuple[int, ...]

    def __str__(self) -> str:
        what = "training is" if self.order == 0 else f"order {self.order} of the power series of training is"
        text = f"{what} no longer finite after step {self.step} (of {self.num_steps}, counted from 0), "
        if self.examples:
            return (
                f"{text}where the loss or the gradient of {_list(self.examples)} is not finite. Look at "
                "it: a logarithm or a root of zero, a division by zero, an overflow."
            )
        return (
            f"{text}which sees {_list(self.batch)}. Loss and gradient of each of them are finite there, so the "
            "update is at fault: a root of zero in the optimizer (move epsilon inside the root: eps=0.0, "
            "eps_root=1e-8), or steps too large for the numbers."
        )


def _list(examples: tuple[int, ...]) -> str:
    shown = ", ".join(map(str, examples[:8])) + (", .." if len(examples) > 8 else "")
    return f"example{'s' if len(examples) > 1 else ''} {shown}"


def vanishing(tree: Any) -> Any:
    """Zero if every floating number of a tree is finite, else NaN; linear, so that series pass through it."""
    floating = [x for x in jax.tree.leaves(tree) if jnp.issubdtype(jnp.result_type(x), jnp.floating)]
    return sum((jnp.sum(0 * x) for x in floating), start=jnp.zeros(()))


def first_failure(recipe: Any, weights: Any, direction: Any = None, degree: int = 3) -> Failure | None:
    """Run again and watch every step; then look at the examples of the first step that fails.

    Args:
        recipe: with ``start()``, ``inputs(weights)``, ``step`` and ``example_signals``, as :class:`Recipe` has them.
        weights: (n,).
        direction: (n,) or None: watch the coefficients of ``weights + t·direction`` too.
        degree: how many of them.

    Returns:
        The failure, or None if every step is finite.
    """

    def watched(w: Any) -> Any:
        def body(carry: Any, batch: Any) -> tuple[Any, Any]:
            carry = recipe.step(carry, batch)[0]
            return carry, vanishing(carry)

        return lax.scan(body, recipe.start(), recipe.inputs(w))[1]

    def of_examples(w: Any, number: int) -> Any:
        before, batch = jax.tree.map(lambda x: x[:number], recipe.inputs(w)), recipe.inputs(w)
        carry = lax.scan(recipe.step, recipe.start(), before)[0]
        return recipe.example_signals(carry, jax.tree.map(lambda x: x[number], batch))

    def signals(f: Any) -> np.ndarray:
        """(orders, ...), not finite where something is."""
        if direction is None:
            return np.asarray(jit(f)(weights))[None]
        return np.asarray(jit(lambda w, d: taylor_coefficients(f, w, d, degree))(weights, direction))

    broken = ~np.isfinite(signals(watched))
    if not broken.any():
        return None
    number = int(broken.any(0).argmax())
    batch = recipe.batches[number]
    alone = ~np.isfinite(signals(lambda w: of_examples(w, number))).all(0)
    return Failure(
        number,
        len(recipe.batches),
        int(broken[:, number].argmax()),
        tuple(int(i) for i in batch if i >= 0),
        tuple(dict.fromkeys(int(i) for i in batch[alone])),
    )


def explanation(train: Any, weights: Any, direction: Any = None, degree: int = 3) -> str:
    """What a run that can tell, as a recipe can, says of the step and the examples at fault; else nothing."""
    run = stepwise(train)
    text = "" if run is None else str(run.first_failure(weights, direction, degree) or "")
    return f" {text[0].upper()}{text[1:]}" if text else ""
