"""The exact first order of a known query, and its leading curvature, by Hessian products through training."""

from __future__ import annotations

import dataclasses
import math
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from jaxtyping import Float

from sketchlearn.deletions.base import Space
from sketchlearn.errors import check_count, check_seed
from sketchlearn.execution.memory import free_memory
from sketchlearn.execution.progress import track
from sketchlearn.execution.runs import plain_program
from sketchlearn.prediction.base import Estimate
from sketchlearn.prediction.known import Exact
from sketchlearn.prediction.quadratic import Quadratic, quadratic_of
from sketchlearn.prediction.result import Prediction, assemble
from sketchlearn.prediction.truncation import truncation_of_quadratic
from sketchlearn.runtime import jax_compat as compat
from sketchlearn.runtime.precision import matmul_precision
from sketchlearn.runtime.programs import jit, once
from sketchlearn.runtime.seeds import stream
from sketchlearn.runtime.workers import num_workers, side_by_side
from sketchlearn.sketching.blind_spots import emptying_unknown, unknown
from sketchlearn.sketching.query_jets import checked_gradient
from sketchlearn.sketching.store.fingerprint import fingerprint
from sketchlearn.sketching.store.format import Store
from sketchlearn.training.emptied_batches import check_emptying
from sketchlearn.training.program import weighted_mean_batches
from sketchlearn.truth.gradient import WeightedQuery, weighted_outputs
from sketchlearn.truth.lanczos import lanczos

USUAL = 32  # products
PROBES = 4  # products with random vectors, for the mean and the size of what the others leave of the second order
LARGEST_BLOCK = 32  # outputs whose products are computed at once, in all workers together
SMALLEST_SHARE = 4  # outputs a worker
ASYMMETRIC = 0.01  # relative; rounding made 3e-7 on microgpt in float32, a wrong derivative rule 0.75


@dataclasses.dataclass(frozen=True, eq=False)
class Curvature:
    """The first order of a query and the leading part of its second; made by :func:`curvature`.

    ``change ≈ g·z + ½ Σ_i λ_i (v_i·z)²`` at coordinates z relative to the centre. S is the shape of the query's answer.

    Attributes:
        space: the deletions that can be asked for.
        baseline: S, the query with nothing deleted.
        at_centre: S, the query at the centre; the same unless one was asked for.
        centre: (q,), coordinates.
        quadratic: the same with outputs flattened, and the sizes that the interval is made of.
        batches: (T, B) of a run that divides by the sum of a batch's weights, which a deletion may empty; else None.
        unmoved: (Q,), outputs whose derivatives are all exactly zero, of which nothing is known.
    """

    space: Space
    baseline: Float[np.ndarray, "..."]
    at_centre: Float[np.ndarray, "..."]
    centre: Float[np.ndarray, " q"]
    quadratic: Quadratic
    batches: np.ndarray | None = None
    unmoved: np.ndarray | None = None

    differentiates = True  # what the derivatives of a query do not show is not predicted

    @property
    def gradient(self) -> Float[np.ndarray, "..."]:
        """The exact first order, (q,) followed by S."""
        return self._shaped(self.quadratic.gradient)

    @property
    def eigenvalues(self) -> Float[np.ndarray, "..."]:
        """The Ritz values, (products,) followed by S, by falling absolute value."""
        return self._shaped(self.quadratic.eigenvalues)

    @property
    def eigenvectors(self) -> Float[np.ndarray, "..."]:
        """The Ritz vectors, (q, products) followed by S, orthonormal, which show what coordinates act together."""
        return self._shaped(self.quadratic.eigenvectors)

    @property
    def share_left(self) -> Float[np.ndarray, "..."]:
        """The Frobenius norm that is left of the Hessian, relative to the whole, estimated by the random vectors; S."""
        q = self.space.dim

        def norm(sizes: Any) -> np.ndarray:
            return np.sqrt(4 * q * sizes.pure[1] + 2 * q * (q - 1) * sizes.mixed[1])

        whole, left = norm(self.quadratic.sizes), norm(self.quadratic.left)
        return self._shaped(np.divide(left, whole, out=np.zeros_like(whole), where=whole > 0))

    def _shaped(self, array: np.ndarray) -> np.ndarray:
        return array.reshape((*array.shape[:-1], *self.baseline.shape))

    def __repr__(self) -> str:
        outputs, products = self.baseline.size, len(self.quadratic.eigenvalues)
        return f"Curvature({products} products, {outputs} output{'s' * (outputs != 1)}, {self.space!r})"

    def predict(self, delete: Any, single_changes: Any = None) -> Prediction:
        """Predict the query after deletions.

        Args:
            delete: what to delete, as the space reads it: positions, a mask, group names, fractions, or a stack of
                them.
            single_changes: (q,) followed by S, by how much retraining without each coordinate by itself changes the
                query, where that was afforded. Deletions of one coordinate are then exact, and of the curvature only
                the interactions count: what two coordinates do together.

        Returns:
            A :class:`Prediction`. Nothing in it is random, so its ``standard_error`` is 0; its ``truncation`` is what
            the eigenvectors leave of order two and the size of the orders above.
        """
        z = self.space.locate(delete)
        at = np.atleast_2d(z) - self.centre
        known = self.quadratic
        if single_changes is None:
            terms, left = known.terms(at), known.left.at(at)[:, 1]
        else:
            ends = self._checked_singles(single_changes)
            terms = known.terms(at, interactions=True)
            # each coordinate's own curve: its slope at 0, and at 1 what retraining says
            terms = np.stack([terms[:, 0], terms[:, 1] + at**2 @ (ends - known.gradient)], 1)
            left = known.left._replace(pure=known.left.pure * [[1], [0]]).at(at)[:, 1]
        used = np.ones(terms.shape, bool)
        first = np.sqrt(at**2 @ known.gradient**2)
        missing, decays = truncation_of_quadratic(terms, at, known.sizes.at(at), left, first)
        if single_changes is not None:
            missing = np.where(_single(at)[:, None], 0, missing)
        how = f"{len(known.eigenvalues)} Hessian products"
        if single_changes is not None:
            how += ", and each coordinate by itself"
        estimate = Estimate(terms, np.zeros((len(at), 2, *terms.shape[1:])), ("the gradient", how))
        step = np.tile((self.at_centre - self.baseline).reshape(-1), (len(at), 1))
        exact = Exact(step, np.zeros_like(terms), None, "", False)
        prediction = assemble(estimate, exact, self.baseline, z.ndim > 1, used, missing, decays)
        where = np.zeros(missing.shape, bool) if self.unmoved is None else np.tile(self.unmoved, (len(at), 1))
        notes = emptying_unknown(self.batches, self.space, np.atleast_2d(z), where)
        prediction = dataclasses.replace(prediction, warnings=(*prediction.warnings, *notes))
        return unknown(prediction, where)

    def _checked_singles(self, single_changes: Any) -> np.ndarray:
        """Changes (q, Q) of single coordinates; or what is wrong with them."""
        if self.centre.any():
            raise ValueError("single_changes are changes from nothing deleted, and this curvature has another centre.")
        return checked_gradient(single_changes, self.space, self.baseline.shape, "single_changes")


def _single(z: np.ndarray) -> np.ndarray:
    """Which deletions (B,) are nothing, or one coordinate as a whole."""
    return ((z != 0).sum(1) <= 1) & ((z == 0) | (z == 1)).all(1)


def curvature(
    train: Callable,
    query: Callable,
    space: Space,
    products: int | None = None,
    centre: Any = None,
    dtype: DTypeLike | None = None,
    seed: int = 0,
    store: str | Path | None = None,
    batch_size: int | None = None,
    progress: bool = True,
) -> Curvature:
    """The exact first order of a known query, and the leading curvature: what pairs of examples do together.

    ``change ≈ g·z + ½ Σ_i λ_i (v_i·z)²``, with the Ritz pairs of the Hessian ``H = ∂²f/∂z²`` of
    ``f(z) = query(train(1 - G z))`` in the Krylov space that begins at the gradient. A product of H with a vector is a
    derivative forward through the gradient's pass back through training. How many are needed does not depend on the
    number of examples.

    Args:
        train: weights (n,) -> parameters.
        query: parameters -> real array of shape S. Each output has a Krylov space of its own; their products are
            computed together.
        space: of the deletions.
        products: of the Hessian of each output with a vector, at most q; by default 32, or q where that is less. Four
            more with random vectors tell what these leave. 0 is the exact first order, with an interval.
        centre: as in :func:`sketchlearn.sketch`.
        dtype: of the weights.
        seed: of the random vectors.
        store: a folder in which every product is kept as it is finished, so that an interrupted call goes on.
        batch_size: outputs whose products are computed at once; by default what fits into half of the free memory.
        progress: show a progress bar.

    Returns:
        A :class:`Curvature`; its ``predict(delete)`` trains nothing.

    Raises:
        ValueError: more products than coordinates; or the query, or what ``train`` returns, depends on the weights
            through flat operations only, so that its derivatives are a certain zero.

    Warns:
        UserWarning: the first derivative of some outputs is exactly zero for every coordinate, or the products are not
            those of a symmetric matrix.

    Example:
        >>> import sketchlearn as sl
        >>> bent = sl.curvature(lambda w: w.sum() ** 2, lambda y: y, sl.Examples(3), products=1, progress=False)
        >>> bent.predict([0, 1]).value.round(6).tolist()        # 9 becomes 1
        1.0

    Source: the gradient as in MAGIC (Ilyas and Engstrom, 2025); products forward over reverse, Pearlmutter (1994);
    Lanczos' method, Golub and Van Loan (2013), chapter 10.
    """
    rng = stream("curvature probes", check_seed(seed))
    asked = WeightedQuery.of(train, query, space, centre, dtype)
    products = min(USUAL, space.dim) if products is None else check_count("products", products, lowest=0)
    if products > space.dim:
        raise ValueError(
            f"products must be at most the number of coordinates, {space.dim} of {space!r}, got {products}: "
            "so many know the whole second order."
        )
    check_emptying(train, space)
    multiply = HessianProducts(asked, None if store is None else _store(store, asked, seed), batch_size)

    bar = track(range(products + PROBES), "curvature", "product", total=products + PROBES, show=progress)
    steps = iter(bar)
    probes = rng.normal(size=(PROBES, space.dim))
    of_probes = []
    for number, probe in enumerate(probes):
        next(steps)
        value, gradient, product = multiply.all(f"probe-{number}", np.tile(probe, (multiply.outputs, 1)))
        of_probes.append(product)
    text = asked.about_zeros(np.logical_not(gradient.any(1)))

    def counted(i: int, vectors: np.ndarray) -> np.ndarray:
        next(steps)
        return multiply.all(f"product-{i:05d}", vectors)[2]

    pairs = lanczos(counted, gradient, products, rng, float(jnp.finfo(asked.weights.dtype).eps))
    next(steps, None)  # closes the bar
    if (pairs.asymmetry > ASYMMETRIC).any():
        text += f" The Hessian is not symmetric (relative {pairs.asymmetry.max():.2g}): " + ASYMMETRY
    if text:
        warnings.warn(text.strip(), UserWarning, stacklevel=2)
    found = np.stack(of_probes)  # (P, Q, q)
    quadratic = quadratic_of(gradient, pairs.values, pairs.vectors, probes, found)
    still = np.logical_not(gradient.any(1)) & np.logical_not(found.any((0, 2)))
    at_centre = value.reshape(asked.shape)
    plain = np.asarray(plain_program(train, query)(asked.weights), float) if np.any(asked.centre) else at_centre
    return Curvature(
        space, plain, at_centre, np.asarray(asked.centre, float), quadratic, weighted_mean_batches(train),
        still if still.any() else None,
    )  # fmt: skip


ASYMMETRY = (
    "has the program a derivative rule of its own (custom_vjp) that is not the derivative, or a kink on which the run "
    "lies? In float32, too many digits may be lost: try float64."
)


def _store(path: str | Path, asked: WeightedQuery, seed: int) -> Store:
    """The folder in which products are kept, or why it is of something else."""
    made_by = {
        "seed": seed,
        "program": fingerprint(asked.outputs, asked.centre),
        "centre": np.asarray(asked.centre, float).tolist(),
        "weights": str(asked.weights.dtype),
        "matmul_precision": matmul_precision(),
    }
    return Store(path, made_by, what="curvature", remedy="Delete this file; the product is computed again.")


class HessianProducts:
    """Products of the Hessian of every output of a query with vectors: compiled once, and kept where there is a store.

    Args:
        asked: the query as a function of coordinates.
        store: of the products that are finished.
        batch_size: outputs at once; by default what fits into half of the free memory.
    """

    def __init__(self, asked: WeightedQuery, store: Store | None = None, batch_size: int | None = None):
        self.asked, self.store = asked, store
        self.outputs = int(np.prod(asked.shape))
        self.batch_size = None if batch_size is None else check_count("batch_size", batch_size)
        self._compiled: Any = None

    def all(self, name: str, vectors: Float[np.ndarray, "Q q"]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The values (Q,), gradients (Q, q), and the Hessian of each output times its vector, (Q, q)."""
        if self.store is not None and self.store.has(name):
            arrays = self.store.read(name)
            return arrays["values"], arrays["gradients"], arrays["products"]
        values, gradients, products = self._computed(vectors)
        self.asked.check_finite("second derivative", np.concatenate([gradients, products]))
        if self.store is not None:
            self.store.write(name, {"values": values, "gradients": gradients, "products": products})
        return values, gradients, products

    def scratch_bytes(self, vectors: Float[np.ndarray, "Q q"]) -> int:
        """The memory that the compiled program needs for a block of products."""
        self._compile(vectors)
        return int(self._compiled.memory_analysis().temp_size_in_bytes)

    def _compile(self, vectors: np.ndarray) -> None:
        if self._compiled is not None:
            return
        try:
            self._compiled = self._program(vectors)
        except TypeError as error:
            if "custom_vjp" not in str(error):
                raise
            raise TypeError(
                "a product with the Hessian goes forward through the gradient, and a custom_vjp function of the "
                "program knows no way forward: its forward rule calls the function itself. Write the function's body "
                "there, in plain JAX, or use jax.custom_jvp."
            ) from error

    def _program(self, vectors: np.ndarray) -> Any:
        """The compiled program of a block; sets its size and the workers."""
        asked, dtype = self.asked, self.asked.weights.dtype
        one = (asked.base, jnp.zeros(self.outputs, dtype), asked.weights)
        at_once = min(self.batch_size or _affordable(product_of(asked.train, asked.query), one), self.outputs)
        self.workers = num_workers(at_once, SMALLEST_SHARE)
        # blocks of nearly equal size, a multiple of the workers, so that none is padded much or waits long
        self.size = math.ceil(self.outputs / (self.workers * math.ceil(self.outputs / at_once)))
        many = [jnp.broadcast_to(a, (self.size, *a.shape)) for a in one[1:]]
        return products_program(asked.train, asked.query).compiled(asked.base, *many)

    def _computed(self, vectors: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        self._compile(vectors)
        which, dtype = np.eye(self.outputs), self.asked.weights.dtype
        rows = np.resize(np.arange(self.outputs), (math.ceil(self.outputs / self.size), self.size))
        along, base = self.asked.space.embed, self.asked.base
        parts = ((base, jnp.asarray(which[r], dtype), -along(jnp.asarray(vectors[r], dtype))) for r in rows)
        done = list(side_by_side(self._compiled, parts, self.workers))
        values, gradients, products = (np.concatenate([part[i] for part in done])[: self.outputs] for i in range(3))
        return values.astype(float), self.asked.on_coordinates(gradients), self.asked.on_coordinates(products)


@once
def products_program(train: Callable, query: Callable) -> jit:
    """:func:`product_of` for several outputs and vectors at once."""
    return jit(jax.vmap(product_of(train, query), (None, 0, 0)))


def product_of(train: Callable, query: Callable) -> Callable[..., tuple[jax.Array, jax.Array, jax.Array]]:
    """Value, gradient and Hessian product by the weights, at given weights (n,).

    Of the output that a unit vector (Q,) chooses, with a vector (n,).
    """
    outputs = weighted_outputs(train, query)

    def product(weights: jax.Array, output: jax.Array, v: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        def derivative(w: jax.Array) -> tuple[jax.Array, jax.Array]:
            values, back = jax.vjp(outputs, w)
            chosen = output.astype(values.dtype)
            return back(chosen)[0], values @ chosen

        gradient, moved, value = jax.jvp(derivative, (weights,), (v,), has_aux=True)
        return value, gradient, moved

    return product


def _affordable(product: Callable, arguments: tuple) -> int:
    """How many outputs' products fit into half of the free memory, by estimate."""
    each = compat.peak_bytes(compat.trace(product, *arguments).jaxpr)
    return int(np.clip(free_memory() / 2 // max(each, 1), 1, LARGEST_BLOCK))
