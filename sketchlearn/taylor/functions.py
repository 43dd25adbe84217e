"""Analytic functions of one number: their Taylor coefficients at a real point, and their values at complex points.

Each :class:`Analytic` knows two independent things about a function ``f``:
``taylor(x, k)``, the list ``[f(x), f'(x), f''(x)/2!, .., f^(k)(x)/k!]`` at a
real ``x`` (for power series), and ``complex(z)``, its value near the real axis (for
Cauchy's way). Each is the other's oracle in the tests.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import lax


class Recurrence(NamedTuple):
    """The coefficients of ``y = f(x)`` one from another, from a differential equation.

    ``y_r = [u_r +] Σ_{i<=r} weight(i, r) u_i y_{r-i}`` with ``u_i = scale(x_0) x_i``; the first only if ``sourced``.
    """

    scale: Callable[[Any], Any]
    weight: Callable[[int, int], float]
    sourced: bool = False


class Analytic(NamedTuple):
    """A function with its Taylor coefficients at real points and its continuation.

    ``step(x, d, y, everywhere)``, where it is given, is ``f(x + d) - f(x)`` in real
    arithmetic: faster than a difference of complex numbers, and more exact for small ``d``.
    ``recurrence``, where it is given, is a shorter way to a series of a series.
    """

    taylor: Callable[[Any, int], list[Any]]  # at least two; orders that are missing are zero
    complex: Callable[[Any], Any]
    step: Callable[[Any, tuple, Any, Callable], tuple] | None = None
    recurrence: Recurrence | None = None

    def difference(self, x: Any, d: tuple, y: Any, everywhere: Callable[[Any], Any] = jnp.all) -> tuple:
        """Real and imaginary part of ``f(x + d) - f(x)``, ``d`` a (real, imaginary) pair and ``y = f(x)``.

        ``everywhere`` says whether a condition holds in all entries, at all points of the circle.
        """
        if jnp.iscomplexobj(x):  # the program's own i is another unit than the circle's: one number for each sign of it
            up, down = (self.complex(x + d[0] + sign * d[1]) for sign in (1j, -1j))
            return (up + down) / 2 - y, (up - down) / 2j
        if self.step is not None:
            return self.step(x, d, y, everywhere)
        value = self.complex(lax.complex(*jnp.broadcast_arrays(x + d[0], d[1])))
        return jnp.real(value) - y, jnp.imag(value)


# --- steps f(x + d) - f(x) in pairs of real numbers -------------------------------


def _ratio(a: tuple, b: tuple) -> tuple:
    """``a / b`` of complex numbers as pairs."""
    inverse = 1 / (b[0] * b[0] + b[1] * b[1])
    return (a[0] * b[0] + a[1] * b[1]) * inverse, (a[1] * b[0] - a[0] * b[1]) * inverse


def _reciprocal_step(x: Any, d: tuple, y: Any, everywhere: Callable) -> tuple:
    re, im = _ratio(d, (x + d[0], d[1]))  # 1/(x + d) - 1/x = -d / (x (x + d))
    return -y * re, -y * im


def _root(a: Any, b: Any) -> tuple:
    """The principal square root of ``a + ib``."""
    size = jnp.sqrt(a * a + b * b)
    large = jnp.sqrt((size + jnp.abs(a)) / 2)
    small = jnp.where(large > 0, jnp.abs(b) / (2 * jnp.where(large > 0, large, 1)), 0)
    right = a >= 0
    return jnp.where(right, large, small), jnp.where(b < 0, -1, 1) * jnp.where(right, small, large)


def _sqrt_step(x: Any, d: tuple, y: Any, everywhere: Callable) -> tuple:
    re, im = _root(x + d[0], d[1])
    return _ratio(d, (re + y, im))  # √(x + d) - √x = d / (√(x + d) + √x)


def _rsqrt_step(x: Any, d: tuple, y: Any, everywhere: Callable) -> tuple:
    root = jnp.sqrt(x)
    step = _sqrt_step(x, d, root, everywhere)
    return _reciprocal_step(root, step, y, everywhere)


def _exp_step(x: Any, d: tuple, y: Any, everywhere: Callable) -> tuple:
    size, half = jnp.expm1(d[0]), jnp.sin(d[1] / 2)
    sine = jnp.sin(d[1])  # e^a cos b - 1 = (e^a - 1) - 2 e^a sin²(b/2)
    return y * (size - 2 * (size + 1) * half * half), y * (size + 1) * sine


def _nearby(taylor: Callable, terms: int, reach: float, far: Callable) -> Callable:
    """A step by ``terms`` Taylor coefficients while every point is within ``reach``, else by ``far(z)``."""

    def step(x: Any, d: tuple, y: Any, everywhere: Callable) -> tuple:
        def near() -> tuple:
            re, im = jnp.zeros_like(d[0]), jnp.zeros_like(d[1])
            for c in reversed(taylor(x, terms)[1:]):  # Horner
                re = re + c
                re, im = re * d[0] - im * d[1], re * d[1] + im * d[0]
            return re, im

        close = everywhere(d[0] * d[0] + d[1] * d[1] <= reach**2)
        return lax.cond(close, near, lambda: Analytic(taylor, far).difference(x, d, y))

    return step


# --- recurrences on lists of coefficients (index = order) ---------------------


def _power(p: list[Any], a: float, k: int) -> list[Any]:
    """``p(t)^a`` to order k from ``p q' = a p' q``."""
    q = [p[0] ** a]
    inverse = 1 / p[0]
    for n in range(1, k + 1):
        last = min(n, len(p) - 1)
        q.append(sum((a * i - (n - i)) / n * p[i] * q[n - i] for i in range(1, last + 1)) * inverse)
    return q


def _powers(start: Any, ratio: Any, factors: list[float]) -> list[Any]:
    """``factor_j · start · ratio^j``: one multiplication an order, where XLA would compute a power each."""
    terms = []
    for factor in factors:
        terms.append(factor * start)
        start = start * ratio
    return terms


def _ode(y0: Any, k: int, constant: float, linear: float, square: float) -> list[Any]:
    """``y' = constant + linear y + square y²``."""
    y = [y0]
    for n in range(k):
        y2 = sum(y[i] * y[n - i] for i in range(n + 1))
        y.append(((constant if n == 0 else 0) + linear * y[n] + square * y2) / (n + 1))
    return y


def _integral(y0: Any, derivative: list[Any]) -> list[Any]:
    return [y0] + [d / n for n, d in enumerate(derivative, 1)]


def binomials(a: Any, k: int) -> list[Any]:
    """The generalised binomial coefficients C(a, 0..k)."""
    b = [1.0]
    for j in range(k):
        b.append(b[-1] * (a - j) / (j + 1))
    return b


def _exp(x: Any, k: int) -> list[Any]:
    e = jnp.exp(x)
    return [e * (1 / math.factorial(j)) for j in range(k + 1)]


def _log(x: Any, k: int) -> list[Any]:
    inverse = 1 / x
    return [jnp.log(x), *_powers(inverse, inverse, [(-1.0) ** j / (j + 1) for j in range(k)])]


def _cyclic(values: list[Any], k: int) -> list[Any]:
    """Functions whose derivatives repeat, as sin, cos, -sin, -cos do."""
    return [values[j % len(values)] * (1 / math.factorial(j)) for j in range(k + 1)]


def _quadratic(c0: Any, c1: Any, c2: float) -> list[Any]:
    return [c0, c1, jnp.full_like(c0, c2)]


def _power_recurrence(a: float) -> Recurrence:
    """``y = x^a`` from ``x y' = a x' y``."""
    return Recurrence(lambda x: 1 / x, lambda i, r: ((a + 1) * i - r) / r)


_EXP = Recurrence(lambda x: 1.0, lambda i, r: i / r)  # y' = x' y
_LOG = Recurrence(lambda x: 1 / x, lambda i, r: (i - r) / r, sourced=True)  # x y' = x'


def power(a: float) -> Analytic:
    """``x^a`` for a real exponent."""
    return Analytic(lambda x, k: _power([x, jnp.ones_like(x)], a, k), lambda z: z**a, recurrence=_power_recurrence(a))


def _integer_taylor(x: Any, n: int, k: int) -> list[Any]:
    # C(n, j) x^(n-j), without 0·(1/0) where the power is spent
    if n == 0:
        return [jnp.ones_like(x), jnp.zeros_like(x)]
    return [float(math.comb(n, j)) * lax.integer_pow(x, n - j) for j in range(min(n, k) + 1)]


def integer_power(n: int) -> Analytic:
    """``x^n``; right at x = 0 too when n >= 0."""
    if n >= 0:
        return Analytic(lambda x, k: _integer_taylor(x, n, k), lambda z: lax.integer_pow(z, n))
    return Analytic(
        lambda x, k: [b * lax.integer_pow(x, n - j) for j, b in enumerate(binomials(n, k))],
        lambda z: 1 / lax.integer_pow(z, -n),
        recurrence=_power_recurrence(n),
    )


def _cbrt(z: Any) -> Any:
    side = jnp.where(jnp.real(z) < 0, -1.0, 1.0)  # the real cube root of the half plane that z lies in
    return side * jnp.exp(jnp.log(side * z) / 3)


def _erf_apart(z: Any) -> Any:
    """``erf(z) - erf(Re z)`` of a complex number near the real axis, to the relative precision of ``exp(-x²)``.

    Salzer's series (Abramowitz and Stegun, Handbook of Mathematical Functions, 7.1.29):
    a trapezoidal sum of step 1/2 for the integral from the real part, whose error is
    about 1e-16 |erf z|. Enough terms for |Im z| <= 8.
    """
    x, y = jnp.real(z), jnp.imag(z)
    c, s = jnp.cos(2 * x * y), jnp.sin(2 * x * y)
    # (1 - cos 2xy)/(2πx) and sin(2xy)/(2πx), both smooth through x = 0
    sinc = y * jnp.sinc(x * y / math.pi)
    re, im = jnp.sin(x * y) * sinc / math.pi, jnp.cos(x * y) * sinc / math.pi
    # exp(±ny - n²/4) by recurrence: small throughout, so nothing overflows, and no exponential a term
    grow, shrink = jnp.exp(y), jnp.exp(-y)
    up, down = jnp.ones_like(y), jnp.ones_like(y)
    for n in range(1, 31):
        step = math.exp(-(2 * n - 1) / 4)
        up, down = up * (grow * step), down * (shrink * step)
        ch, sh, flat = (up + down) / 2, (up - down) / 2, math.exp(-n * n / 4)
        weight = (2 / math.pi) / (n * n + 4 * x * x)
        re += weight * (2 * x * (flat - ch * c) + n * sh * s)
        im += weight * (2 * x * ch * s + n * sh * c)
    gauss = jnp.exp(-x * x)
    return lax.complex(gauss * re, gauss * im)


def _erf_complex(z: Any) -> Any:
    return lax.erf(jnp.real(z)) + _erf_apart(z)


def _erfc_complex(z: Any) -> Any:
    return lax.erfc(jnp.real(z)) - _erf_apart(z)  # not 1 - erf: far out erfc is small


def _erf(x: Any, k: int) -> list[Any]:
    # exp(-(x+t)²) = e^{-x²} Σ H_n(-x)... by the recurrence of w' = -2(x + t) w
    w = [jnp.exp(-x * x)]
    for n in range(k):
        w.append(-2 * (x * w[n] + (w[n - 1] if n else 0)) / (n + 1))
    return _integral(lax.erf(x), [2 / math.sqrt(math.pi) * c for c in w[:k]])


def _erfc(x: Any, k: int) -> list[Any]:
    return [lax.erfc(x)] + [-c for c in _erf(x, k)[1:]]


def _erf_inv(x: Any, k: int) -> list[Any]:
    # y' = √π/2 exp(y²)
    y: list[Any] = [lax.erf_inv(x)]
    u: list[Any] = []
    w: list[Any] = []
    for n in range(k):
        u.append(sum(y[i] * y[n - i] for i in range(n + 1)))
        w.append(jnp.exp(u[0]) if n == 0 else sum(i * u[i] * w[n - i] for i in range(1, n + 1)) / n)
        y.append(math.sqrt(math.pi) / 2 * w[n] / (n + 1))
    return y


def _erf_inv_complex(z: Any) -> Any:
    # Newton from the real value, along the segment to z: each step is short enough to stay on the branch
    start = jnp.real(z)
    w = lax.complex(lax.erf_inv(start), jnp.zeros_like(start))
    for s in [0.25, 0.5, 0.75] + [1.0] * 5:
        target = lax.complex(start, s * jnp.imag(z))
        w = w - (_erf_complex(w) - target) * (math.sqrt(math.pi) / 2) * jnp.exp(w * w)
    return w


def _logistic(x: Any, k: int) -> list[Any]:
    return _ode(lax.logistic(x), k, 0, 1, -1)


def _from_derivative(value: Callable, quadratic: Callable[[Any], list[Any]], a: float) -> Callable:
    """Taylor coefficients of a function whose derivative is a quadratic to the power ``a``."""

    def taylor(x: Any, k: int) -> list[Any]:
        return _integral(value(x), _power(quadratic(x), a, k - 1)) if k else [value(x)]

    return taylor


def _reciprocal(x: Any, k: int) -> list[Any]:
    inverse = 1 / x
    return _powers(inverse, inverse, [(-1.0) ** j for j in range(k + 1)])


def _sqrt(x: Any, k: int) -> list[Any]:
    return _powers(jnp.sqrt(x), 1 / x, binomials(0.5, k))


def _rsqrt(x: Any, k: int) -> list[Any]:
    root = lax.rsqrt(x)
    return _powers(root, root * root, binomials(-0.5, k))


RECIPROCAL = Analytic(_reciprocal, lambda z: 1 / z, _reciprocal_step, _power_recurrence(-1))

ANALYTIC: dict[str, Analytic] = {
    "exp": Analytic(_exp, jnp.exp, _exp_step, _EXP),
    "exp2": Analytic(
        lambda x, k: [math.log(2) ** j * lax.exp2(x) * (1 / math.factorial(j)) for j in range(k + 1)],
        lambda z: jnp.exp(z * math.log(2)),
    ),
    "expm1": Analytic(lambda x, k: [jnp.expm1(x), *_exp(x, k)[1:]], jnp.expm1),
    "log": Analytic(_log, jnp.log, recurrence=_LOG),
    "log2": Analytic(
        lambda x, k: [jnp.log2(x), *[c / math.log(2) for c in _log(x, k)[1:]]], lambda z: jnp.log(z) / math.log(2)
    ),
    "log1p": Analytic(lambda x, k: [jnp.log1p(x), *_log(1 + x, k)[1:]], jnp.log1p),
    "sqrt": Analytic(_sqrt, lambda z: z**0.5, _sqrt_step, _power_recurrence(0.5)),
    "rsqrt": Analytic(_rsqrt, lambda z: z**-0.5, _rsqrt_step, _power_recurrence(-0.5)),
    "cbrt": Analytic(lambda x, k: [b * jnp.cbrt(x) / x**j for j, b in enumerate(binomials(1 / 3, k))], _cbrt),
    "square": integer_power(2),
    "one_minus_square": Analytic(lambda x, k: [1 - x * x, -2 * x, -jnp.ones_like(x)][: k + 1], lambda z: 1 - z * z),
    "sin": Analytic(lambda x, k: _cyclic([jnp.sin(x), jnp.cos(x), -jnp.sin(x), -jnp.cos(x)], k), jnp.sin),
    "cos": Analytic(lambda x, k: _cyclic([jnp.cos(x), -jnp.sin(x), -jnp.cos(x), jnp.sin(x)], k), jnp.cos),
    "tan": Analytic(lambda x, k: _ode(jnp.tan(x), k, 1, 0, 1), jnp.tan),
    "sinh": Analytic(lambda x, k: _cyclic([jnp.sinh(x), jnp.cosh(x)], k), jnp.sinh),
    "cosh": Analytic(lambda x, k: _cyclic([jnp.cosh(x), jnp.sinh(x)], k), jnp.cosh),
    "tanh": Analytic(lambda x, k: _ode(jnp.tanh(x), k, 1, 0, -1), jnp.tanh),
    "logistic": Analytic(_logistic, lambda z: 1 / (1 + jnp.exp(-z))),
    "asin": Analytic(_from_derivative(jnp.arcsin, lambda x: _quadratic(1 - x * x, -2 * x, -1), -0.5), jnp.arcsin),
    "acos": Analytic(lambda x, k: [jnp.arccos(x), *[-c for c in ANALYTIC["asin"].taylor(x, k)[1:]]], jnp.arccos),
    "atan": Analytic(_from_derivative(jnp.arctan, lambda x: _quadratic(1 + x * x, 2 * x, 1), -1), jnp.arctan),
    "asinh": Analytic(_from_derivative(jnp.arcsinh, lambda x: _quadratic(1 + x * x, 2 * x, 1), -0.5), jnp.arcsinh),
    "acosh": Analytic(_from_derivative(jnp.arccosh, lambda x: _quadratic(x * x - 1, 2 * x, 1), -0.5), jnp.arccosh),
    "atanh": Analytic(_from_derivative(jnp.arctanh, lambda x: _quadratic(1 - x * x, -2 * x, -1), -1), jnp.arctanh),
    # c_j = O(2^{j/2} / sqrt(j!)): the 33rd term is 3e-19 at a distance of 0.75
    "erf": Analytic(_erf, _erf_complex, _nearby(_erf, 32, 0.75, _erf_complex)),
    "erfc": Analytic(_erfc, _erfc_complex, _nearby(_erfc, 32, 0.75, _erfc_complex)),
    "erf_inv": Analytic(_erf_inv, _erf_inv_complex),
}
