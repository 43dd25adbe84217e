"""The gamma function's logarithm, its derivatives and Hurwitz's zeta function.

At real points their Taylor coefficients are values of ``ζ(s, x) = Σ_n (n + x)^-s`` (NIST Handbook, 5.15 and 25.11):
``log Γ`` has the coefficients ``ψ(x)``, then ``(-1)^n ζ(n, x)/n``. At complex points the argument is moved ten steps to
the right, where asymptotic series hold to rounding, and reflected where its real part is below 1/2.
"""

from __future__ import annotations

import math
from typing import Any

import jax.numpy as jnp
from jax import lax

from sketchlearn.taylor.functions import Analytic

BERNOULLI = (1 / 6, -1 / 30, 1 / 42, -1 / 30, 5 / 66, -691 / 2730, 7 / 6, -3617 / 510, 43867 / 798, -174611 / 330)
SHIFT = 10  # the first term that is left out is below 1e-18 at 10.5


def _from_the_right(x: Any) -> tuple[Any, Any]:
    """Where to reflect, and the point to the right of 1/2 that serves."""
    left = jnp.real(x) < 0.5
    return left, jnp.where(left, 1 - x, x)


def _cotangents(x: Any, k: int) -> list[Any]:
    """The coefficients of ``π cot(πx)``, from ``y' = -π² - y²``."""
    y: list[Any] = [math.pi / jnp.tan(math.pi * x)]
    for n in range(k):
        square = sum(y[i] * y[n - i] for i in range(n + 1))
        y.append(-((math.pi**2 if n == 0 else 0) + square) / (n + 1))
    return y


def _reflected(x: Any, right: list[Any], left: list[Any]) -> list[Any]:
    return [jnp.where(x < 0.5, b, a) for a, b in zip(right, left, strict=True)]


def _digamma(x: Any, k: int) -> list[Any]:
    _, w = _from_the_right(x)
    right = [lax.digamma(w), *[(-1.0) ** (n + 1) * lax.zeta(jnp.full_like(w, n + 1.0), w) for n in range(1, k + 1)]]
    # ψ(x) = ψ(1 - x) - π cot(πx)
    left = [(-1.0) ** n * a - b for n, (a, b) in enumerate(zip(right, _cotangents(x, k), strict=True))]
    return [lax.digamma(x), *_reflected(x, right, left)[1:]]


def _lgamma(x: Any, k: int) -> list[Any]:
    return [lax.lgamma(x), *[c / n for n, c in enumerate(_digamma(x, max(k - 1, 0))[:k], 1)]]


def _shifted(z: Any) -> tuple[list[Any], Any]:
    return [z + n for n in range(SHIFT)], z + SHIFT


def _lgamma_complex(z: Any) -> Any:
    """``log|Γ|`` of real numbers, continued: Stirling's series."""
    left, right = _from_the_right(z)
    steps, w = _shifted(right)
    series = sum(b / (2 * j * (2 * j - 1)) * w ** (1.0 - 2 * j) for j, b in enumerate(BERNOULLI, 1))
    value = (w - 0.5) * jnp.log(w) - w + math.log(2 * math.pi) / 2 + series - sum(map(jnp.log, steps))
    sine = jnp.sin(math.pi * jnp.where(left, z, 0.25))
    side = jnp.where(jnp.real(sine) < 0, -1.0, 1.0)  # Γ changes its sign from one pole to the next
    return jnp.where(left, math.log(math.pi) - jnp.log(side * sine) - value, value)


def _digamma_complex(z: Any) -> Any:
    left, right = _from_the_right(z)
    steps, w = _shifted(right)
    series = sum(b / (2 * j) * w ** (-2.0 * j) for j, b in enumerate(BERNOULLI, 1))
    value = jnp.log(w) - 0.5 / w - series - sum(1 / s for s in steps)
    return jnp.where(left, value - math.pi / jnp.tan(math.pi * jnp.where(left, z, 0.25)), value)


def _zeta_complex(s: Any, z: Any) -> Any:
    """``ζ(s, z)`` for a real s above 1 and a z to the right of 0: the sum of Euler and Maclaurin."""
    steps, w = _shifted(z)
    value = sum(n**-s for n in steps) + w ** (1 - s) / (s - 1) + w**-s / 2
    rising = s * w ** (-s - 1)  # s (s + 1) .. (s + 2j - 2) w^(1 - s - 2j) / (2j)!, but for a factorial
    for j, b in enumerate(BERNOULLI, 1):
        value = value + b / math.factorial(2 * j) * rising
        rising = rising * (s + 2 * j - 1) * (s + 2 * j) / (w * w)
    return value


def zeta(s: Any) -> Analytic:
    """``ζ(s, x)`` as a function of x, for constant s (an array that broadcasts against x): ``C(-s, n) ζ(s + n, x)``."""

    def taylor(x: Any, k: int) -> list[Any]:
        terms, factor = [], jnp.ones_like(x)
        for n in range(k + 1):
            terms.append(factor * lax.zeta(jnp.broadcast_to(s + n, x.shape), x))
            factor = -factor * (s + n) / (n + 1)
        return terms

    return Analytic(taylor, lambda z: _zeta_complex(s, z))


def polygamma(m: Any) -> Analytic:
    """``ψ^(m)(x) = (-1)^(m+1) m! ζ(m + 1, x)`` for constant whole m, and the digamma function for m = 0."""
    order = jnp.asarray(m)
    of_zeta = zeta(jnp.where(order == 0, 2.0, order + 1.0).astype(order.dtype))
    factor = -jnp.cos(math.pi * order) * jnp.exp(lax.lgamma(order + 1.0))

    def taylor(x: Any, k: int) -> list[Any]:
        pairs = zip(_digamma(x, k), of_zeta.taylor(x, k), strict=True)
        return [jnp.where(order == 0, a, factor * b) for a, b in pairs]

    def near(z: Any) -> Any:
        return jnp.where(order == 0, _digamma_complex(z), factor * of_zeta.complex(z))

    return Analytic(taylor, near)


SPECIAL: dict[str, Analytic] = {
    "lgamma": Analytic(_lgamma, _lgamma_complex),
    "digamma": Analytic(_digamma, _digamma_complex),
}
