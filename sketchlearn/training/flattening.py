"""Optimizers that treat all numbers alike, run over one vector in place of many arrays.

A step of Adam for a model of a hundred arrays is a hundred copies of one program, and in a series each copy has all
orders. Over one vector there is one. Whether an optimizer is of that kind is read off the program of its update.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax  # noqa: F401 (the example's)
from jax.flatten_util import ravel_pytree

from sketchlearn.runtime.jax_compat import called_program, is_literal, trace
from sketchlearn.runtime.precision import floating
from sketchlearn.training.optimizer_step import updated

#: Operations on arrays that treat every entry by itself, whatever its place.
ENTRY_BY_ENTRY = frozenset(
    """
    abs add and cbrt ceil clamp convert_element_type copy cos div eq erf exp exp2 expm1 floor ge gt integer_pow
    is_finite le log log1p logistic lt max min mul ne neg not or pow rem round rsqrt select_n sign sin sqrt square
    stop_gradient sub tanh xor
    """.split()  # noqa: SIM905
)
CALLS = frozenset({"jit", "pjit", "closed_call", "custom_jvp_call"})


def one_vector(optimizer: Any, parameters: Any) -> tuple[Any, Callable[[Any], Any]]:
    """The parameters as one vector, if the optimizer's update of it is that of the arrays; and what takes it apart.

    Args:
        optimizer: an Optax transformation.
        parameters: what it will update.

    Returns:
        What to update, and the function from it to a pytree like ``parameters``: the parameters themselves and the
        identity where a vector would change more than the program's size, or gather what lies on several devices.

    Example:
        >>> parameters = {"a": jnp.ones((2, 3)), "b": jnp.ones(3)}
        >>> vector, apart = one_vector(optax.adam(0.1), parameters)
        >>> vector.shape, apart(vector)["a"].shape
        ((9,), (2, 3))
        >>> one_vector(optax.adaptive_grad_clip(0.1), parameters)[0] is parameters
        True
    """
    divided = any(
        len(leaf.sharding.device_set) > 1 for leaf in jax.tree.leaves(parameters) if hasattr(leaf, "sharding")
    )
    return (
        (parameters, lambda p: p) if divided or not is_elementwise(optimizer, parameters) else ravel_pytree(parameters)
    )


def is_elementwise(optimizer: Any, parameters: Any) -> bool:
    """Whether an update is the same function of every number: its gradient, its own state, and what all share."""
    leaves = jax.tree.leaves(parameters)
    if len(leaves) < 2 or len({jnp.result_type(leaf) for leaf in leaves}) > 1 or not floating(leaves[0]):
        return False
    vector = jax.ShapeDtypeStruct((sum(leaf.size for leaf in leaves) + 1,), leaves[0].dtype)
    try:
        whole, own = _Update(optimizer, parameters), _Update(optimizer, vector)
        roles = whole.roles(own)
        (alone,) = own.roles(own)
        wanted = own.signature(alone)
        return wanted is not None and all(whole.signature(role) == wanted for role in roles)
    except (TypeError, ValueError, AttributeError, KeyError, NotImplementedError):
        return False  # one that wants the loss, or knows the structure of the parameters


class _Update:
    """The program of one update of parameters, and of its state's place for each of them."""

    def __init__(self, optimizer: Any, parameters: Any):
        shapes = jax.eval_shape(lambda p: p, parameters)
        self.state = jax.eval_shape(optimizer.init, shapes)
        self.shapes = [leaf.shape for leaf in jax.tree.leaves(shapes)]

        def update(gradient: Any, state: Any, parameters: Any) -> Any:
            return updated(optimizer, gradient, state, parameters, jnp.zeros((), jnp.float32), _no_loss)

        self.program = trace(update, shapes, self.state, shapes)
        updates, after = jax.eval_shape(update, shapes, self.state, shapes)
        if not (_same(updates, shapes) and _same(after, self.state)):
            raise ValueError("the update is not of the parameters' structure, or the state changes its own")

    def roles(self, flat: _Update) -> list[_Role]:
        """What belongs to each array: the numbers of its inputs and outputs, in the order in which the vector's are."""
        structure: Any = jax.tree.structure(flat.state)
        count, states = len(self.shapes), structure.flatten_up_to(self.state)
        shared, own, at = [], [], 0
        for of_vector, part in zip(jax.tree.leaves(flat.state), states, strict=True):
            size = len(jax.tree.leaves(part))
            if of_vector.shape == flat.shapes[0]:
                if size != count or [leaf.shape for leaf in jax.tree.leaves(part)] != self.shapes:
                    raise ValueError("a state that is not of the parameters' structure")
                own.append(at)
            elif size == 1:
                shared.append(at)
            at += size
        if len(shared) + count * len(own) != at:
            raise ValueError("a state that is neither shared nor of the parameters' structure")
        common = [count + s for s in shared]
        return [
            _Role(
                inputs=[i, *(count + s + i for s in own), count + at + i, *common],
                outputs=[i, *(count + s + i for s in own), *common],
                shape=self.shapes[i],
            )
            for i in range(count)
        ]

    def signature(self, role: _Role) -> list | None:
        """The program of these outputs alone; None if it is not entry by entry, or reads what is another array's."""
        program = self.program
        names: dict[Any, Any] = {program.jaxpr.invars[j]: ("input", k) for k, j in enumerate(role.inputs)}
        for var, value in zip(program.jaxpr.constvars, program.consts, strict=True):
            names[var] = "constant", np.shape(value), np.asarray(value).tobytes()
        outputs = [program.jaxpr.outvars[j] for j in role.outputs]
        return _signature(program.jaxpr.eqns, outputs, names, role.shape)


def _same(a: Any, b: Any) -> bool:
    one: Any = jax.tree.structure(a)
    return one == jax.tree.structure(b)


def _no_loss(parameters: Any) -> Any:
    raise ValueError("the loss is a function of many arrays")


class _Role:
    def __init__(self, inputs: list[int], outputs: list[int], shape: tuple[int, ...]):
        self.inputs, self.outputs, self.shape = inputs, outputs, shape


def _signature(equations: Sequence[Any], outputs: Sequence[Any], names: dict, shape: tuple[int, ...]) -> list | None:
    """What the equations that the outputs need do, with the array's shape as a word."""
    needed = {var for var in outputs if not is_literal(var)}
    used = []
    for eqn in reversed(equations):
        if needed & set(eqn.outvars):
            used.append(eqn)
            needed |= {var for var in eqn.invars if not is_literal(var)}
    lines: list[Any] = []

    def name(var: Any) -> Any:
        if is_literal(var):
            return "literal", str(var.aval.dtype), np.asarray(var.val).tobytes()
        return names[var]  # KeyError: of another array

    for eqn in reversed(used):
        of_array = [v for v in (*eqn.invars, *eqn.outvars) if v.aval.shape == shape]
        kind, inside = eqn.primitive.name, None
        if kind in CALLS:
            inside = _inside(eqn, shape)
            if inside is None:
                return None
        elif of_array and not (kind in ENTRY_BY_ENTRY or (kind == "broadcast_in_dim" and not eqn.invars[0].aval.shape)):
            return None
        parts = {} if inside is not None else {k: "array" if v == shape else str(v) for k, v in eqn.params.items()}
        lines.append((kind, inside, sorted(parts.items()), [name(v) for v in eqn.invars]))
        for k, var in enumerate(eqn.outvars):
            names[var] = "line", len(lines), k, "array" if var.aval.shape == shape else var.aval.shape
    lines.append([name(var) for var in outputs])
    return lines


def _inside(eqn: Any, shape: tuple[int, ...]) -> list | None:
    """The signature of a called program."""
    inner, consts = called_program(eqn.params)
    names: dict[Any, Any] = {var: ("input", k) for k, var in enumerate(inner.invars)}
    for var, value in zip(inner.constvars, consts, strict=True):
        names[var] = "constant", np.shape(value), np.asarray(value).tobytes()
    return _signature(inner.eqns, inner.outvars, names, shape)
