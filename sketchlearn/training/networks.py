"""One view of NNX modules, Linen modules and plain functions: parameters, state, and a model to call."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax import nnx
from flax.core import FrozenDict


class Network(NamedTuple):
    """A model taken apart.

    Attributes:
        parameters: what is trained, nested dicts of arrays (a plain function's are any pytree).
        state: what its layers carry beside them: running statistics, counters, random keys.
        bind: ``bind(parameters, state, key, training)`` puts it together again. It returns the model that a
            loss is given, and a function that reads the state after the model was called.
    """

    parameters: Any
    state: Any
    bind: Callable[[Any, Any, Any, bool], tuple[Any, Callable[[], Any]]]


def network(model: Any, initial: Any, key: Any, call: Callable[[Any], Any]) -> Network:
    """Take a model apart.

    Args:
        model: an ``nnx.Module``, a ``linen.Module``, a function ``(parameters, inputs, ..) -> outputs``, or None
            for a loss that works on the parameters themselves.
        initial: the parameters to start from; for a Linen module all its variables, with the key ``"params"``.
            An NNX module has its own, and a Linen module is initialised by ``call`` if there are none.
        key: for the initialisation of a Linen module.
        call: makes one call of the model it is given, as the loss does.
    """
    if isinstance(model, nnx.Module):
        return _from_nnx(model, initial)
    if isinstance(model, nn.Module):
        return _from_linen(model, initial, key, call)
    if model is not None and not callable(model):
        raise TypeError(
            "model must be a flax.nnx.Module, a flax.linen.Module, a function (parameters, inputs) -> outputs, or "
            f"None for a loss of the parameters themselves, got {type(model).__name__}."
        )
    if initial is None:
        raise ValueError("a model that is a plain function needs its initial parameters: pass initial=...")

    def bind(parameters: Any, state: Any, key: Any, training: bool) -> tuple[Any, Callable[[], Any]]:
        return parameters if model is None else functools.partial(model, parameters), lambda: state

    return Network(jax.tree.map(jnp.asarray, initial), {}, bind)


def _from_nnx(model: nnx.Module, initial: Any) -> Network:
    graph, *split = nnx.split(model, nnx.Param, ...)
    parameters, rest = split
    own, state = nnx.to_pure_dict(parameters), nnx.to_pure_dict(rest)
    if not own:
        raise ValueError(f"the model {type(model).__name__} has no nnx.Param: there is nothing to train.")
    if initial is None:
        initial = own
    elif not same_structure(initial, own):
        raise ValueError(
            "initial must have the structure of the model's parameters, "
            f"{jax.tree.structure(own)}, got {jax.tree.structure(initial)}."
        )

    def bind(parameters: Any, state: Any, key: Any, training: bool) -> tuple[Any, Callable[[], Any]]:
        module = nnx.merge(graph, nnx.State(parameters), nnx.State(state))
        if not training:
            module.eval()

        def after() -> Any:
            nnx.pop(module, nnx.Intermediate)  # what a layer sows is no part of the run
            return nnx.to_pure_dict(nnx.state(module, nnx.Not(nnx.Param)))

        return module, after

    # copies: the user's module may be trained further, and its buffers given away
    return Network(jax.tree.map(jnp.array, initial), jax.tree.map(jnp.array, state), bind)


def same_structure(a: Any, b: Any) -> bool:
    """Whether two pytrees differ in their leaves at most."""
    one: Any = jax.tree.structure(a)
    return one == jax.tree.structure(b)


class LinenModel:
    """A Linen module with its variables: call it, or one of its methods, as ``module.apply`` is called.

    Attributes:
        training: whether this is a step of training, for ``model(x, train=model.training)``.
    """

    def __init__(self, module: nn.Module, variables: Any, key: Any, training: bool):
        self._module, self._variables, self._key = module, variables, key
        self.training = training

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """The module's outputs."""
        self._key, key = jax.random.split(self._key)  # another one for every call
        rngs = {"dropout": key, "default": jax.random.fold_in(key, 1)}
        if self._variables is None:
            rngs["params"] = jax.random.fold_in(key, 2)
            out, variables = self._module.init_with_output(rngs, *args, **kwargs)
            self._variables = dict(variables)
            return out
        mutable = [name for name in self._variables if name != "params"] if self.training else []
        out, changed = self._module.apply(self._variables, *args, rngs=rngs, mutable=mutable, **kwargs)
        self._variables = {**self._variables, **changed}
        return out

    def state(self) -> Any:
        """The variables that are not parameters, after the calls so far."""
        return {name: value for name, value in (self._variables or {}).items() if name != "params"}

    def parameters(self) -> Any:
        """The module's parameters."""
        return (self._variables or {}).get("params", {})


def _from_linen(module: nn.Module, initial: Any, key: Any, call: Callable[[Any], Any]) -> Network:
    if initial is None:
        model = LinenModel(module, None, key, True)
        call(model)
        initial = {"params": model.parameters(), **model.state()}
        initial.pop("intermediates", None)
    if isinstance(initial, FrozenDict):  # as older releases of Flax return variables
        initial = initial.unfreeze()
    if not isinstance(initial, dict) or not jax.tree.leaves(initial.get("params")):
        raise ValueError('the initial variables of a Linen module are a dict with the key "params", as init returns.')
    initial = jax.tree.map(jnp.asarray, initial)

    def bind(parameters: Any, state: Any, key: Any, training: bool) -> tuple[Any, Callable[[], Any]]:
        model = LinenModel(module, {"params": parameters, **state}, key, training)
        return model, model.state

    return Network(initial["params"], {k: v for k, v in initial.items() if k != "params"}, bind)


def optional_arguments(loss: Callable) -> set[str]:
    """Which of the optional arguments a loss has."""
    try:
        return {"key", "weights", "present"} & set(inspect.signature(loss).parameters)
    except (TypeError, ValueError):  # some callables have no signature
        return set()
