"""Training runs of Flax models with Optax optimisers, as pure functions of the weights of the examples."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax
from jax.typing import DTypeLike
from jaxtyping import PyTree

from sketchlearn.errors import check_count, check_seed, shown
from sketchlearn.runtime.arrays import check_dtype, is_tracer
from sketchlearn.runtime.precision import converted, floating, in_full_precision, wider, widest
from sketchlearn.runtime.programs import jit
from sketchlearn.runtime.seeds import jax_key
from sketchlearn.taylor.algebra import narrow, wide
from sketchlearn.training.batches import PADDING, check_batches, check_empty_places, count_examples, filled
from sketchlearn.training.checkpointing import checkpointed_scan
from sketchlearn.training.flattening import one_vector
from sketchlearn.training.networks import network, optional_arguments, same_structure
from sketchlearn.training.nonfinite import Failure, first_failure, vanishing
from sketchlearn.training.optimizer_step import updated
from sketchlearn.training.state import Carry, Trained

REDUCTIONS = ("mean", "sum", "weighted mean")


class Recipe:
    """A training run as a pure function ``weights (n,) -> parameters``.

    Step t sees the examples of one batch and takes the gradient of their losses, each multiplied by the
    weight of its example:

    - ``"mean"``: ``Σ_i w_i l_i / B``. A deleted example leaves an empty place; the others pull as before.
    - ``"sum"``: ``Σ_i w_i l_i``.
    - ``"weighted mean"``: ``Σ_i w_i l_i / Σ_i w_i``. A deleted example leaves the batch, and the others pull harder.
      A batch whose weights sum to zero takes a step with gradient zero; the series has a pole there, so that
      deletions which nearly empty a batch are beyond what it can predict. Where one coordinate of the deletion space
      is all of a batch (one example, one group), its weight cancels and the series is blind: a sketch is refused.

    What regularises the parameters alone (weight decay, momentum that is left over) acts whatever the weights are.
    Batches, random keys and schedules stay as they are. A layer that looks at the whole batch, as BatchNorm
    does, sees a deleted example's *inputs* still. To let the weights into the statistics, give the loss
    an argument ``weights`` and have the model use it. (A loss that divides by a sum of these weights itself can be
    emptied like a weighted mean, and that cannot be seen from outside: give it a constant besides, or larger batches.)

    Args:
        model: an ``nnx.Module`` or ``linen.Module`` (as it is for training), a function ``(parameters, inputs) ->
            outputs``, or None for a loss of the parameters themselves.
        optimizer: any Optax transformation (those that want the loss beside its gradient are given it:
            line searches, ``optax.contrib.sam``, Sophia). Keep epsilons inside roots:
            ``optax.adam(lr, eps=0.0, eps_root=1e-8)``. One that treats all numbers alike is run over all parameters
            as one vector, for a smaller program with the same results.
        loss: ``loss(model, examples) -> (B,)``, the loss of each example in a batch, not their mean. It may also
            have arguments called ``key``, one random key a step (for augmentation), ``weights``, (B,), those of the
            batch, and ``present``, (B,), false at its empty places. A Linen model is called as ``module.apply`` is,
            without the variables, and says by ``model.training`` whether this is a step of training.
        examples: a pytree of arrays with leading axis n.
        batches: (T, B), the positions of the examples that each step sees, -1 for an empty place
            (:func:`minibatches` makes them). An empty place has weight zero, and counts in no mean. The loss sees a
            copy of another example of the batch there. Where that copy would change the losses of the others, as
            with BatchNorm, such batches are refused, unless the layer leaves it out (``mask=present[:, None]``).
        reduction: one of the three above.
        initial: the parameters to start from, where they are not the model's own; for a Linen module all its variables.
        averaging: decay d of an exponential moving average, ``a <- d a + (1 - d) θ``, from the initial parameters on.
        seed: of the keys of ``loss``, of Linen's dropout and initialisation. NNX modules have their own.
        dtype: convert initial parameters, state and floating examples to float32 or float64; by default they stay
            as they are.

    Attributes:
        parameters: the initial parameters.
        batches: (T, B).

    Raises:
        ValueError, TypeError: arguments that do not fit; a loss that does not return one number for each example.

    Example:
        >>> import jax.numpy as jnp, optax, sketchlearn as sl
        >>> x, y = jnp.array([[0.0], [1.0], [2.0], [3.0]]), jnp.array([1.0, 3.0, 5.0, 7.0])
        >>> recipe = sl.Recipe(
        ...     lambda p, x: x @ p["slope"] + p["offset"], optax.sgd(0.2),
        ...     lambda model, batch: (model(batch[0]) - batch[1]) ** 2,
        ...     (x, y), sl.minibatches(4, 2, epochs=60), initial={"slope": jnp.zeros(1), "offset": 0.0})
        >>> trained = recipe(jnp.ones(4))
        >>> round(float(trained["slope"][0]), 3), round(float(trained["offset"]), 3)
        (2.0, 1.0)
    """

    def __init__(
        self,
        model: Any,
        optimizer: Any,
        loss: Callable,
        examples: PyTree,
        batches: Any,
        *,
        reduction: str = "mean",
        initial: PyTree = None,
        averaging: float | None = None,
        seed: int = 0,
        dtype: DTypeLike | None = None,
    ):
        if reduction not in REDUCTIONS:
            raise ValueError(f"reduction must be one of {', '.join(map(repr, REDUCTIONS))}, got {shown(reduction)}.")
        if averaging is not None and not 0 <= averaging < 1:
            raise ValueError(f"averaging must be a decay from 0 to below 1, got {shown(averaging)}.")
        if not (callable(getattr(optimizer, "init", None)) and callable(getattr(optimizer, "update", None))):
            raise TypeError(f"optimizer must be an Optax transformation, got {type(optimizer).__name__}.")
        if not callable(loss):
            raise TypeError(f"loss must be a function (model, examples) -> losses, got {type(loss).__name__}.")
        dtype = None if dtype is None else check_dtype(dtype)
        self.loss, self.reduction, self.averaging = loss, reduction, averaging
        self.examples = converted(jax.tree.map(jnp.asarray, examples), dtype)
        self.num_examples = count_examples(self.examples)
        self.batches = check_batches(batches, self.num_examples)
        self._padded = bool((self.batches == PADDING).any())
        self._wants = optional_arguments(loss)
        self._key = jax_key("layer and loss keys", check_seed(seed))
        first, present = self._chosen(self.batches[0]), jnp.asarray(self.batches[0] >= 0)
        ones = present.astype(jnp.result_type(float) if dtype is None else dtype)
        made = network(model, initial, self._key, lambda m: self._losses(m, first, self._key, ones, loss, present))
        self.parameters, self._state = converted((made.parameters, made.state), dtype)
        self.optimizer = optax.with_extra_args_support(optimizer)
        self._updated, self._apart = one_vector(self.optimizer, self.parameters)
        self._bind = made.bind
        self.dtype = wide(widest(self.parameters))  # of the weights
        self._start = self._settled(self._first_carry())
        if self._padded and not is_tracer((self.examples, self.parameters)):
            check_empty_places(self.batches, self.examples, self.parameters, self._seen)

    @property
    def num_steps(self) -> int:
        """T, the number of steps."""
        return len(self.batches)

    def __repr__(self) -> str:
        size = sum(p.size for p in jax.tree.leaves(self.parameters))
        return (
            f"Recipe({size} parameters, {self.num_examples} examples, {self.num_steps} steps of "
            f"{self.batches.shape[1]}, reduction={self.reduction!r})"
        )

    def __call__(self, weights: Any) -> PyTree:
        """Train with the loss of example i multiplied by ``weights[i]``.

        Args:
            weights: (n,), real floating; 1 keeps an example, 0 deletes it.

        Returns:
            The trained parameters; a :class:`Trained` where layers have running statistics, or ``averaging`` was
            asked for. Pure and jittable.

        Raises:
            FloatingPointError: something is not finite (called with plain arrays; a traced call cannot look).
        """
        weights = self.check_weights(weights)
        if is_tracer(weights):
            return self._run(weights)
        trained = self._compiled(weights)
        if not all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(trained)):
            failure = self.first_failure(weights)
            raise FloatingPointError(str(failure) if failure else "what training returns is not finite.")
        return trained

    def _run(self, weights: Any) -> Any:
        return self.finish(lax.scan(self.step, self.start(), self.inputs(weights))[0])

    def train_checkpointed(self, weights: Any) -> PyTree:
        """The same run for reverse mode, which keeps about √T states of it, not T (:func:`checkpointed_scan`)."""
        steps = self.inputs(self.check_weights(weights))
        return self.finish(checkpointed_scan(self.step, self.start(), steps)[0])

    @functools.cached_property
    def _compiled(self) -> Callable:
        return jit(self._run)

    def start(self) -> Carry:
        """What the first step begins with."""
        return self._start

    def inputs(self, weights: Any) -> tuple[Any, Any, Any]:
        """What every step is given, stacked: its number, the positions of its examples, their weights."""
        return jnp.arange(self.num_steps), jnp.asarray(self.batches), weights[filled(self.batches)]

    @in_full_precision
    def step(self, carry: Carry, batch: tuple[Any, Any, Any]) -> tuple[Carry, None]:
        """One step of training, pure: the body of the scan over :meth:`inputs`."""
        number, positions, weights = batch
        there = positions >= 0
        present = there.astype(weights.dtype)
        weights, key = weights * present, jax.random.fold_in(self._key, number)

        def objective(parameters: Any) -> tuple[Any, Any]:
            model, state = self._bind(self._apart(parameters), carry.state, key, True)
            losses = self._losses(model, self._chosen(positions), key, weights, self.loss, there)
            total = jnp.sum(weights * losses)
            if self.reduction == "mean":
                total = total / jnp.sum(present)
            elif self.reduction == "weighted mean":
                size = jnp.sum(weights)
                total = total / jnp.where(size == 0, 1, size)
            return total, state()

        (value, state), gradient = jax.value_and_grad(objective, has_aux=True)(carry.parameters)
        parameters, state_of = carry.parameters, carry.optimizer_state
        updates, optimizer_state = updated(
            self.optimizer, gradient, state_of, parameters, value, lambda p: objective(p)[0]
        )
        parameters, d = optax.apply_updates(carry.parameters, updates), self.averaging
        averaged = None if d is None else jax.tree.map(lambda a, p: d * a + (1 - d) * p, carry.averaged, parameters)
        return Carry(parameters, state, optimizer_state, averaged), None

    def finish(self, carry: Carry) -> PyTree:
        """What a run that ended with this carry returns."""
        state = jax.tree.map(lambda s: s if floating(s) else None, carry.state)
        if self.averaging is None and not jax.tree.leaves(state):
            return self._apart(carry.parameters)
        averaged = None if carry.averaged is None else self._apart(carry.averaged)
        return Trained(self._apart(carry.parameters), state, averaged)

    @in_full_precision
    def apply(self, trained: PyTree, *inputs: Any, **options: Any) -> Any:
        """The outputs of a trained model: dropout off, running statistics in place of a batch's.

        Args:
            trained: what the recipe returned; where there are averaged parameters, those are used.
            inputs: of the model, as in the loss.
            options: further arguments of the model.

        Returns:
            The model's outputs.
        """
        return self._trained_model(trained)(*inputs, **options)

    def query(self, examples: PyTree, loss: Callable | None = None, each: bool = False) -> Callable[[Any], jax.Array]:
        """A loss on held-out examples as a function of what the recipe returns, for ``Sketch.predict``.

        Args:
            examples: a pytree like the training examples, with a leading axis.
            loss: ``(model, examples) -> (B,)``; that of training if not given.
            each: return the loss of each example, not their mean.

        Returns:
            A function of trained parameters, evaluated as :meth:`apply` does.
        """
        loss = self.loss if loss is None else loss
        of_parameters = widest(self.parameters)  # a run of 16 bits may have examples of either kind
        examples = converted(jax.tree.map(jnp.asarray, examples), None if narrow(of_parameters) else of_parameters)
        ones = jnp.ones(count_examples(examples), self.dtype)

        @in_full_precision
        def value(trained: Any) -> jax.Array:
            losses = self._losses(self._trained_model(trained), examples, self._key, ones, loss)
            return losses if each else jnp.mean(losses)

        return value

    def shortened(self, num_steps: int) -> Recipe:
        """The same run, ended after its first ``num_steps`` steps (schedules stay as they are)."""
        short = copy.copy(self)
        short.__dict__.pop("_compiled", None)
        short.batches = self.batches[: check_count("num_steps", num_steps)]
        return short

    def first_failure(self, weights: Any = None, direction: Any = None, degree: int = 3) -> Failure | None:
        """The first step at which something is not finite, and the examples it is due to.

        Args:
            weights: (n,), of the run that failed; all ones if not given.
            direction: (n,), real or complex: look at the power series along it too, not at the run alone.
            degree: of those series.

        Returns:
            A failure, whose text names step and examples; None if all is finite.
        """
        weights = self.check_weights(jnp.ones(self.num_examples, self.dtype) if weights is None else weights)
        return first_failure(self, weights, direction, degree)

    @in_full_precision
    def example_signals(self, carry: Carry, batch: tuple[Any, Any, Any]) -> Any:
        """For each example of a step: zero if its loss and gradient are finite, NaN if not, (B,).

        Each is looked at in a batch of its own copies: in the batch itself a gradient of infinity, multiplied by
        another example's zero, would make that one NaN as well.
        """
        number, positions, weights = batch
        key = jax.random.fold_in(self._key, number)

        def signal(one: tuple[Any, Any]) -> Any:
            position, weight = (jnp.full(positions.shape, x) for x in one)

            def losses(parameters: Any) -> Any:
                model, _ = self._bind(self._apart(parameters), carry.state, key, True)
                return jnp.sum(self._losses(model, self._chosen(position), key, weight, self.loss))

            return vanishing(jax.value_and_grad(losses)(carry.parameters))

        return jnp.where(positions >= 0, lax.map(signal, (positions, weights)), 0)

    def check_weights(self, weights: Any) -> jax.Array:
        """The weights (n,) in the dtype of the run, or what is wrong with them."""
        weights = jnp.asarray(weights)
        if weights.shape != (self.num_examples,):
            raise ValueError(f"weights must have shape ({self.num_examples},), one an example, got {weights.shape}.")
        if not jnp.issubdtype(weights.dtype, jnp.floating):
            raise TypeError(f"weights must be real floating-point numbers, got dtype {weights.dtype}.")
        if jnp.finfo(weights.dtype).bits > jnp.finfo(self.dtype).bits:
            raise TypeError(
                f"weights are {weights.dtype} but the parameters {self.dtype}: convert the weights, or give the "
                f'recipe dtype="{weights.dtype}" (digits would be lost without a word otherwise).'
            )
        return weights.astype(self.dtype)

    def _chosen(self, positions: Any) -> Any:
        places = filled(positions) if self._padded else jnp.maximum(positions, 0)
        return jax.tree.map(lambda a: a[places], self.examples)

    def _seen(self, parameters: Any, positions: Any, present: Any) -> Any:
        """The losses of the examples of a first batch that are present, and the state after it."""
        model, state = self._bind(parameters, self._start.state, self._key, True)
        weights = present.astype(self.dtype)
        losses = self._losses(model, self._chosen(positions), self._key, weights, self.loss, present)
        return jnp.where(present, losses, 0), state()

    def _losses(self, model: Any, examples: Any, key: Any, weights: Any, loss: Callable, present: Any = None) -> Any:
        wants = self._wants if loss is self.loss else optional_arguments(loss)
        given = {"key": key, "weights": weights, "present": present}
        if present is None and "present" in wants:
            given["present"] = jnp.ones(weights.shape, bool)
        losses = loss(model, examples, **{name: given[name] for name in wants})
        if jnp.shape(losses) != weights.shape or not floating(losses):
            raise ValueError(
                f"loss must return one floating-point number for each example, shape {weights.shape}, got "
                f"{getattr(losses, 'dtype', type(losses).__name__)} of shape {jnp.shape(losses)}. Leave the mean over "
                "the batch out: the recipe takes it, with the weights."
            )
        return losses

    def _trained_model(self, trained: Any) -> Any:
        parts = trained if isinstance(trained, Trained) else Trained(trained)
        parameters = parts.parameters if parts.averaged is None else parts.averaged
        if not same_structure(parameters, self.parameters):
            raise ValueError(
                "expected what this recipe returns, parameters of structure "
                f"{jax.tree.structure(self.parameters)}, got {jax.tree.structure(parameters)}."
            )
        state = self._start.state
        if any(map(floating, jax.tree.leaves(state))):
            if parts.state is None:
                raise ValueError(
                    "this model has running statistics: pass all that the recipe returned, not .parameters alone."
                )
            state = jax.tree.map(
                lambda new, old: old if new is None else new, parts.state, state, is_leaf=lambda x: x is None
            )
        return self._bind(parameters, state, self._key, False)[0]

    def _first_carry(self) -> Carry:
        averaged = None if self.averaging is None else self._updated
        return Carry(self._updated, self._state, self.optimizer.init(self._updated), averaged)

    def _settled(self, carry: Carry) -> Carry:
        """The carry with every statistic as wide as a step makes it (Flax keeps BatchNorm's in float32)."""
        batch = (jnp.zeros((), int), jnp.asarray(self.batches[0]), jnp.ones(self.batches.shape[1], self.dtype))
        for _ in range(3):
            after = jax.eval_shape(self.step, carry, batch)[0]
            if not same_structure(after, carry):
                raise ValueError(
                    "one step changes what the model or the optimizer carries, from "
                    f"{jax.tree.structure(carry)} to {jax.tree.structure(after)}."
                )
            for (path, old), new in zip(
                jax.tree_util.tree_leaves_with_path(carry), jax.tree.leaves(after), strict=True
            ):
                if jnp.shape(old) != new.shape:
                    name = jax.tree_util.keystr(path)
                    raise ValueError(f"one step changes the shape of {name} from {jnp.shape(old)} to {new.shape}.")
            wide = jax.tree.map(wider, carry, after)
            if all(a is b for a, b in zip(jax.tree.leaves(wide), jax.tree.leaves(carry), strict=True)):
                return carry
            carry = wide
        return carry
