"""The sketch, and what can be asked of it: any query after any deletion."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jaxtyping import Complex, Complex128, Float, PyTree

from sketchlearn.deletions.base import Space
from sketchlearn.deletions.directions import directions
from sketchlearn.prediction.base import EstimationProblem, find_estimator
from sketchlearn.prediction.calibration import CALIBRATION
from sketchlearn.prediction.equations import Equations
from sketchlearn.prediction.known import QueryJets, SingleCoordinates, known_exactly
from sketchlearn.prediction.predict import predict
from sketchlearn.prediction.result import Prediction
from sketchlearn.sketching.base import JetSource
from sketchlearn.sketching.blind_spots import with_blind_spots
from sketchlearn.sketching.coordinate_scales import scales_of_parameters, scales_of_query
from sketchlearn.sketching.first_order_control import first_order_control
from sketchlearn.sketching.query_jets import KeptQueries, KnownCurvature, checked_curvature, checked_gradient


class Sketch:
    """The jets of one training run; made by :func:`sketch`, asked by :meth:`predict`.

    Attributes:
        space: the deletions that can be asked for.
        degree: k.
        num_directions: m.
        seed: the seed of the directions.
        source: where the jets come from: memory or disk.
        parameters: what ``train`` returns with nothing deleted.
        queries: the queries that were measured in place of the coefficients, if so asked, by name.
        centre: z_0, (q,), where the run was expanded; zero unless asked for.
        parameters_at_centre: what ``train`` returns there.
        single_coordinates: what each coordinate does by itself, for an additive sketch; else None.
        calibration: the numbers behind its estimators and intervals that no theory gives.
        batches: (T, B) of a run that divides by the sum of a batch's weights, which a deletion may empty; else None.
    """

    differentiates = True  # what the derivatives of a query do not show is not predicted

    def __init__(
        self,
        space: Space,
        degree: int,
        seed: int,
        source: JetSource,
        parameters: PyTree,
        *,
        centre: np.ndarray | None = None,
        parameters_at_centre: PyTree = None,
        single_coordinates: SingleCoordinates | None = None,
        design: str = "independent",
        batches: np.ndarray | None = None,
    ):
        self.space, self.degree, self.seed, self.source, self.design = space, degree, seed, source, design
        self.num_directions, self.queries = source.num_directions, source.queries or {}
        self.parameters, self.single_coordinates, self.batches = parameters, single_coordinates, batches
        self.centre = np.zeros(space.dim) if centre is None else centre
        self.parameters_at_centre = parameters if centre is None else parameters_at_centre
        self.calibration = CALIBRATION
        self._kept = KeptQueries(source, parameters, self.parameters_at_centre, single_coordinates)

    def __repr__(self) -> str:
        more = (", additive" if self.single_coordinates else "") + (", centred" if self.centre.any() else "")
        return f"Sketch({self.num_directions} directions, degree {self.degree}, {self.space!r}, seed={self.seed}{more})"

    @property
    def coefficients(self) -> PyTree:
        """``θ_1 .. θ_k`` of ``train(1 - G (z_0 + t ψ_i))``: the pytree of ``parameters``, leaves (m, k, ...) complex.

        Those of a stored sketch are read when asked for.
        """
        parts = list(self.source.parts())
        return parts[0] if len(parts) == 1 else jax.tree.map(lambda *c: np.concatenate(c), *parts)

    @property
    def seen_deletions(self) -> Float[np.ndarray, "q n"] | None:
        """The deletions (q, n) that an additive sketch was retrained for, which are no test of it; else None."""
        if self.single_coordinates is None:
            return None
        return np.asarray(self.space.embed(np.eye(self.space.dim)), np.float64)

    @functools.cached_property
    def directions(self) -> Complex128[np.ndarray, "m q"]:
        """The directions ψ_i, (m, q) complex128, drawn again from the seed."""
        re, im = directions(self.seed, np.arange(self.num_directions), self.space.dim, design=self.design)
        return np.asarray(re, np.float64) + 1j * np.asarray(im, np.float64)

    def measure(self, query: Callable | str) -> tuple[Float[np.ndarray, "*S"], Complex[np.ndarray, "m k *S"]]:
        """The query's value at the centre (with nothing deleted, unless the sketch has another) and its coefficients.

        Args:
            query: a differentiable function of what ``train`` returns, with real floating output of some shape S; or
                the name of one that the sketch was made with.

        Returns:
            The value, shape S, and the coefficients along every direction, ``(m, k)`` followed by S, complex.
        """
        jets = self._kept.of(query)
        shape = jets.baseline.shape
        return jets.at_centre.reshape(shape), jets.coefficients.reshape(self.num_directions, self.degree, *shape)

    def predict(
        self,
        query: Callable | str,
        delete: Any,
        estimator: str = "auto",
        failure: float = 0.05,
        gradient: Any = None,
        control: bool = False,
        curvature: KnownCurvature | None = None,
    ) -> Prediction:
        """Predict a query after deletions: ``f(x) ≈ f(0) + Σ_r P_r(x)``.

        ``P_r(x) = C(q+r-1, r) E[<ψ, x>^r c_r(ψ)]``, estimated from the directions of the sketch. A sketch with a
        centre expands there, ``f(x_0) + Σ_r P_r(x - x_0)``; an additive one estimates interactions only, and adds
        what each coordinate does by itself.

        Args:
            query: a function of what ``train`` returns, with real output; or the name of one that the sketch was
                made with.
            delete: what to delete, as the space of the sketch reads it: positions, a mask, group names, or a
                stack of them.
            estimator: one of :func:`sketchlearn.estimators`. ``"mean"`` (the paper's), ``"median_of_means"`` (robust),
                ``"least_squares"`` (order one solved for: exact once 2m >= q; the mean of the others), ``"kernel"``
                (every order fitted, exact once 2m >= C(q+r-1, r), and the mean of what the fits leave), or ``"auto"``:
                ``"kernel"``, but from the lowest order on that is lost in noise (see ``orders_used``) the noisy mean
                counts only by the share that is expected not to be noise (see ``shrunk_change``). The mean is unbiased.
                So are fits for a shrinkage fixed beforehand; it is chosen by the same directions (as the share of a
                ``control`` is), which pulls a term towards zero by about a tenth of its standard error. More than
                4096 unknowns and equations are not solved, but averaged, with a warning.
            failure: δ of the median of means.
            gradient: the exact derivative of the query with respect to the coordinates at the centre, where one
                pass through training gave it (:func:`sketchlearn.gradient`): shape (q,) followed by S. Order one is
                then exact for every deletion.
            control: use what θ_1 alone determines of the orders above one as a control variate (it is exact once
                2m >= q, or in an additive sketch): weighted by regression over the directions. It costs a pass over
                the directions and the deletions, and pays for queries that bend more than the parameters
                do; on microgpt it takes 8% off the variance of order two.
            curvature: the :class:`Curvature` of the query in this space and at this centre
                (:func:`sketchlearn.curvature`). Order one is then exact, and the directions estimate only what it
                leaves of order two, and the orders above.

        Returns:
            A :class:`Prediction`. Its errors are NaN, unknown, and a warning says so, for outputs of the query that did
            not move along any direction, and for deletions that empty a batch of a run of weighted means.

        Raises:
            ValueError: the query depends on the parameters through flat operations only (argmax, sign, a comparison),
                or not at all: its series is zero, which would be a certain zero and no answer. Or other arguments
                that do not fit.

        Example:
            >>> import jax.numpy as jnp, sketchlearn as sl
            >>> train = lambda w: jnp.sum(w * jnp.arange(4.0)) ** 2
            >>> s = sl.sketch(train, sl.Examples(4), degree=2, num_directions=4000, progress=False)
            >>> p = s.predict(lambda parameters: parameters, [0, 1])    # 36 becomes (6 - 1)² = 25
            >>> float(p.baseline), bool(abs(p.value - 25) < 4 * p.standard_error)
            (36.0, True)

        Source: Gunn, "How to sketch a learning algorithm", arXiv:2604.07328.
        """
        chosen = find_estimator(estimator, self.num_directions)
        z = self.space.locate(delete)
        at = np.atleast_2d(z) - self.centre
        jets = self._kept.of(query)
        bent = None if curvature is None else checked_curvature(curvature, self.space, self.centre, jets.baseline)
        given = bent.gradient.reshape(-1, *jets.baseline.shape) if bent and gradient is None else gradient
        first = None if given is None else checked_gradient(given, self.space, jets.baseline.shape)
        variate = self._control(jets, at) if control else None
        exact, left, measured = known_exactly(jets, self.directions, at, first, variate, bent)
        rounding = float(np.finfo(jets.coefficients.dtype).eps)
        problem = EstimationProblem(
            self.directions, at, left, measured, self._equations, exact.interactions, self._scales(jets), rounding,
            failure, self.calibration,
        )  # fmt: skip
        fractions = np.abs(np.asarray(self.space.embed(at))).mean(1)
        prediction = predict(problem, exact, chosen, jets.baseline, fractions, z.ndim > 1)
        return with_blind_spots(prediction, jets, np.atleast_2d(z), self, first)

    @functools.cached_property
    def _equations(self) -> Equations:
        return Equations(self.directions, self.single_coordinates is not None, self.calibration)

    def _control(self, jets: QueryJets, at: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        if self.source.queries is not None:
            raise ValueError("control needs the parameters, and this sketch keeps queries instead.")
        return first_order_control(
            jets, self.source, self.single_coordinates, self._equations, self.parameters_at_centre, at
        )

    def _scales(self, jets: QueryJets) -> Callable[[], np.ndarray] | None:
        """How much each coordinate matters at first order: of the parameters, or where they are not kept of the query.

        Only where it is exact: a guess made from the directions would bias what is averaged over them.
        """
        if self.single_coordinates is None and not self._equations.solve_first:
            return None
        if self.source.queries is not None:
            return lambda: scales_of_query(jets, self._equations)
        return lambda: self._parameter_scales

    @functools.cached_property
    def _parameter_scales(self) -> np.ndarray:
        return scales_of_parameters(self.parameters, self.source, self.single_coordinates, self._equations)
