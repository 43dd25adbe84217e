"""``taylor_coefficients``: one question, two independent ways to the answer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sketchlearn.errors import check_degree
from sketchlearn.taylor.cauchy.coefficients import cauchy_coefficients
from sketchlearn.taylor.transform import series_coefficients


def taylor_coefficients(f: Callable, point: Any, direction: Any, degree: int, method: str = "series") -> Any:
    """The Taylor coefficients of ``t -> f(point + t·direction)`` at ``t = 0``.

    ``f(point + t·direction) = Σ_r c_r t^r``; returns ``c_0 .. c_degree``.

    The program ``f`` is traced once with real dtypes and run over another algebra:
    truncated power series (``"series"``: exact to rounding, cost quadratic in the
    degree, works under ``jit`` and ``vmap``), or complex numbers on circles around the point followed by an
    FFT (``"cauchy"``: cost linear in the degree, degree 100 and more, concrete inputs only;
    :func:`sketchlearn.taylor.cauchy_coefficients` returns error estimates too).

    The dependence meant is that of the values of ``f``: what a ``stop_gradient`` stops is followed, too. Only a
    ``custom_jvp`` function is followed by its derivative rule, as its body may be no formula; where the rule is meant
    to differ from the values, :func:`sketchlearn.taylor.stand_in` gives the values.

    Args:
        f: a pure JAX function of one pytree of real floating arrays, with floating outputs.
        point: that pytree, where to expand.
        direction: a pytree of the same structure and shapes; real or complex.
        degree: highest order, at least 1.
        method: ``"series"`` or ``"cauchy"``.

    Returns:
        A pytree like ``f(point)``, each leaf with a leading axis ``degree + 1``; complex
        where ``direction`` is, in the precision of ``point`` (float32 for a point of 16 bits).

    Raises:
        UnsupportedPrimitive: ``f`` uses an operation without a Taylor rule.
        TypeError, ValueError: integer outputs, shapes that do not fit, a degree below 1, NaN.

    Example:
        >>> import jax.numpy as jnp, sketchlearn as sl
        >>> sl.taylor_coefficients(lambda x: 1 / (1 - x), 0.0, 2.0, degree=3).tolist()
        [1.0, 2.0, 4.0, 8.0]

    Source: Griewank and Walther, "Evaluating Derivatives" (2008), chapter 13, for the series; Bornemann (2011)
    for the circles.
    """
    degree = check_degree(degree)
    if not callable(f):
        raise TypeError(f"f must be a function of one pytree, got {type(f).__name__}.")
    if method == "series":
        return series_coefficients(f, point, direction, degree)
    if method == "cauchy":
        return cauchy_coefficients(f, point, direction, degree).coefficients
    raise ValueError(f'method must be "series" or "cauchy", got {method!r}.')
