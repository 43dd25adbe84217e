"""Arithmetic on jets: the commutative algebras that a real program is run over.

A :class:`Jet` is a real array, its *primal*, plus *parts*: what the algebra adds
to it. Four algebras share one interface:

* :class:`Series`, power series ``Σ_{r<=k} x_r t^r`` with the coefficients
  ``x_1 .. x_k`` as separate arrays (fast for small ``k``);
* :class:`StackedSeries`, the same numbers stacked on one axis, whose program
  grows with neither ``k`` nor its square (for large ``k``);
* :class:`BundledSeries`, stacked like these, with the sums over orders written
  out: the fewest and largest operations (for accelerators);
* :class:`Point`, one complex number near the primal: ``x = primal + part``.

Parts are complex numbers as pairs ``(real, imaginary)`` of arrays of the primal's
dtype (float32 beside a primal of 16 bits), or 1-tuples ``(real,)`` when every direction is real: XLA compiles
real pairs to several times faster code than complex dtypes, and a program
whose own arrays are complex (an FFT) needs no special case.

Nothing here knows about jaxprs.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax


class Jet(NamedTuple):
    """A number of an algebra: its real value, and what the algebra adds."""

    primal: Any
    parts: Any


def wide(dtype: Any) -> Any:
    """The precision of the parts beside primals of a dtype: their own, but float32 for those of 16 bits and fewer.

    The primal stays as the program rounds it. Its coefficients are ratios to it that may be of any size, and sums of
    many products, for which two or three digits are not enough; and no complex numbers are that narrow.
    """
    return jnp.dtype(jnp.float32) if narrow(dtype) else dtype


def narrow(dtype: Any) -> bool:
    """Whether numbers of a dtype are floating and shorter than float32."""
    return jnp.issubdtype(dtype, jnp.floating) and jnp.finfo(dtype).bits < 32


def _no_parts(x: Any) -> Any:
    return jnp.zeros_like(x, dtype=wide(jnp.result_type(x)))


def primal(x: Any) -> Any:
    """The real value of a jet; anything else is its own value."""
    return x.primal if isinstance(x, Jet) else x


def _cmul(product: Callable, a: tuple, b: tuple) -> tuple:
    """The product of two complex numbers held as pairs (or of two real 1-tuples)."""
    if len(a) == 1:
        return (product(a[0], b[0]),)
    (ar, ai), (br, bi) = a, b
    if product is jnp.multiply:
        return ar * br - ai * bi, ar * bi + ai * br
    rr, ii = product(ar, br), product(ai, bi)  # three products in place of four (Karatsuba): they are the cost
    return rr - ii, product(ar + ai, br + bi) - rr - ii


def _add(a: Any, b: Any) -> Any:
    return jax.tree.map(jnp.add, a, b)


def _scaled(parts: tuple, factor: Any) -> tuple:
    return tuple(tuple(factor * c for c in part) for part in parts)


class Algebra:
    """What the rules need of an algebra. ``complex`` says whether parts are pairs."""

    degree: int
    complex: bool
    separate = True  # whether the components are separate arrays of the primal's shape

    @property
    def width(self) -> int:
        """Real numbers in one complex coefficient: 2, or 1 for real directions."""
        return 2 if self.complex else 1

    def zeros(self, x: Any) -> Any:
        """The parts of a number that does not depend on the direction."""
        raise NotImplementedError

    def full(self, parts: Any) -> Any:
        """The parts with every order written out, as what a loop carries needs them."""
        return parts

    def add(self, a: Any, b: Any) -> Any:
        """The sum of two numbers' parts."""
        return jax.tree.map(jnp.add, a, b)

    def map(self, fn: Callable, *parts: Any) -> Any:
        """Apply ``fn`` to every component: how a linear map acts."""
        return jax.tree.map(fn, *parts)

    def cross(self, product: Callable, a: Any, b: Any) -> Any:
        """The product of two numbers whose primals are zero."""
        raise NotImplementedError

    def compose(self, function: Any, x: Jet, y0: Any) -> Jet:
        """``f(x)`` for an analytic ``f`` whose value at the primal is ``y0``."""
        raise NotImplementedError

    def divide(self, a: Any, b: Jet, y0: Any, reciprocal: Any) -> Jet:
        """``a / b``, whose value at the primals is ``y0``, for a jet or a constant ``a``."""
        inverse = self.compose(reciprocal, b, 1 / b.primal)
        if isinstance(a, Jet):
            return Jet(y0, self.product(jnp.multiply, a, inverse).parts)
        return Jet(y0, self.map(lambda p: a * p, inverse.parts))

    def product(self, product: Callable, a: Jet, b: Jet) -> Jet:
        """A bilinear map of two jets: ``a0·b + a·b0 + cross(a, b)``, and the primal's own product."""
        a0, b0 = a.primal, b.primal
        mixed = self.add(self.map(lambda p: product(a0, p), b.parts), self.map(lambda p: product(p, b0), a.parts))
        return Jet(product(a0, b0), self.add(mixed, self.cross(product, a.parts, b.parts)))

    def numbers(self, parts: Any) -> list[Any]:
        """All components, by order and real before imaginary: two numbers are compared by the first that differs."""
        return jax.tree.leaves(parts)

    def leading(self, parts: Any) -> Any:
        """The first component that is not zero: its sign says which way a number leaves its primal."""
        first: Any = 0.0
        for c in reversed(self.numbers(parts)):
            first = jnp.where(c != 0, c, first)
        return first

    def stacked(self, parts: Any) -> Any:
        """The same components on a leading axis, every order written out."""
        return jnp.stack(self.numbers(self.full(parts)))

    def scan_in(self, x: Jet) -> Jet:
        """Put the axis that ``lax.scan`` walks along first in every array."""
        return x

    def scan_out(self, x: Jet) -> Jet:
        """Undo :meth:`scan_in`."""
        return x


class Series(Algebra):
    """Truncated power series; parts are ``((re_1, im_1), .., (re_j, im_j))``, and orders above ``j <= k`` are zero.

    Along a line only the first order of the weights is not zero, so what is linear in them, or a product of little,
    has few orders that need to be computed.
    """

    def __init__(self, degree: int, complex: bool = True):
        self.degree, self.complex = degree, complex

    def zeros(self, x: Any) -> Any:
        return ((_no_parts(x),) * self.width,) * min(self.degree, 1)

    def full(self, parts: Any) -> Any:
        return self._longer(parts, self.degree)

    def _longer(self, parts: Any, length: int) -> Any:
        missing = length - len(parts)
        return (*parts, *[tuple(jnp.zeros_like(c) for c in parts[0])] * missing) if missing and parts else parts

    def add(self, a: Any, b: Any) -> Any:
        both = min(len(a), len(b))
        return (*map(_add, a[:both], b[:both]), *a[both:], *b[both:])

    def map(self, fn: Callable, *parts: Any) -> Any:
        length = max(map(len, parts))
        return jax.tree.map(fn, *[self._longer(p, length) for p in parts])

    def cross(self, product: Callable, a: Any, b: Any) -> Any:
        if not self.degree:
            return ()
        out = [jax.tree.map(lambda p, q: jnp.zeros(jax.eval_shape(product, p, q).shape, p.dtype), a[0], b[0])]
        for r in range(2, min(self.degree, len(a) + len(b)) + 1):  # c_r = Σ_{0<i<r} a_i b_{r-i}
            orders = range(max(1, r - len(b)), min(r - 1, len(a)) + 1)
            out.append(functools.reduce(_add, [_cmul(product, a[i - 1], b[r - i - 1]) for i in orders]))
        return tuple(out)

    def compose(self, function: Any, x: Jet, y0: Any) -> Jet:
        k = self.degree
        if not k:
            return Jet(y0, ())
        if function.recurrence is not None:  # k²/2 products in place of k³/6
            scale, weight, sourced = function.recurrence
            u = _scaled(x.parts, scale(x.primal))
            return Jet(y0, self._recur(u if sourced else (), u, y0, weight))
        g = function.taylor(x.primal, k)
        increment = dict(enumerate(x.parts, 1))  # x - x_0, by order
        total = {r: tuple(g[1] * c for c in part) for r, part in increment.items()}
        power = increment  # (x - x_0)^j, whose orders below j vanish
        for j in range(2, len(g)):
            power = {
                r: functools.reduce(
                    _add,
                    [_cmul(jnp.multiply, p, power[r - i]) for i, p in increment.items() if r - i in power],
                )
                for r in range(j, min(k, j * len(increment)) + 1)
            }
            for r, part in power.items():
                term = tuple(g[j] * c for c in part)
                total[r] = _add(total[r], term) if r in total else term
        return Jet(y0, tuple(total[r] for r in sorted(total)))

    def divide(self, a: Any, b: Jet, y0: Any, reciprocal: Any) -> Jet:
        scale = 1 / b.primal  # from (a/b) b = a: y_r = (a_r - Σ_i b_i y_{r-i}) / b_0
        source = _scaled(a.parts, scale) if isinstance(a, Jet) else ()
        return Jet(y0, self._recur(source, _scaled(b.parts, scale), y0, lambda i, r: -1.0))

    def _recur(self, source: tuple, u: tuple, y0: Any, weight: Callable[[int, int], float]) -> tuple:
        """``y_r = source_r + Σ_{i<=r} weight(i, r) u_i y_{r-i}`` for ``r = 1..k``."""
        y: list = []
        for r in range(1, self.degree + 1):
            terms = [source[r - 1]] if r <= len(source) else []
            for i in range(1, min(r, len(u)) + 1):
                if w := weight(i, r):
                    term = _cmul(jnp.multiply, u[i - 1], y[r - i - 1]) if i < r else tuple(c * y0 for c in u[i - 1])
                    terms.append(tuple(w * c for c in term))
            y.append(functools.reduce(_add, terms))
        return tuple(y)


class StackedSeries(Algebra):
    """Truncated power series; parts are one array of shape ``(k, width) + shape``."""

    separate = False

    def __init__(self, degree: int, complex: bool = True):
        self.degree, self.complex = degree, complex

    def zeros(self, x: Any) -> Any:
        return jnp.zeros((self.degree, self.width, *jnp.shape(x)), wide(jnp.asarray(x).dtype))

    def map(self, fn: Callable, *parts: Any) -> Any:
        return jax.vmap(jax.vmap(fn))(*parts)

    def cross(self, product: Callable, a: Any, b: Any) -> Any:
        k, over = self.degree, jax.vmap(product, (None, 0))
        padded = jnp.concatenate([jnp.zeros_like(b), b])

        def step(i: Any, total: Any) -> Any:  # c_r += a_i b_{r-i} for all r at once
            shifted = lax.dynamic_slice_in_dim(padded, k - i, k)
            ai = tuple(lax.dynamic_index_in_dim(a, i - 1, keepdims=False))
            terms = jnp.stack(_cmul(over, ai, tuple(jnp.moveaxis(shifted, 1, 0))), 1)
            # orders up to i have no such term: should a_i be infinite, they must not become infinity times zero
            return total + jnp.where(jnp.expand_dims(jnp.arange(k) >= i, range(1, terms.ndim)), terms, 0)

        shape = jax.eval_shape(product, a[0, 0], b[0, 0])
        return lax.fori_loop(1, k, step, jnp.zeros((k, self.width, *shape.shape), shape.dtype))

    def compose(self, function: Any, x: Jet, y0: Any) -> Jet:
        k = self.degree
        g = jnp.stack(jnp.broadcast_arrays(*function.taylor(x.primal, k)))
        g = jnp.concatenate([g, jnp.zeros((k + 1 - len(g), *g.shape[1:]), g.dtype)])

        def step(i: Any, nilpotent: Any) -> Any:  # Horner: p <- g_j + (x - x_0) p
            gj = lax.dynamic_index_in_dim(g, k - i, keepdims=False)
            return gj * x.parts + self.cross(jnp.multiply, x.parts, nilpotent)

        return Jet(y0, lax.fori_loop(0, k, step, jnp.zeros_like(x.parts)))

    def leading(self, parts: Any) -> Any:
        components = self.stacked(parts)
        first = jnp.argmax(components != 0, axis=0)[None]
        return jnp.take_along_axis(components, first, 0)[0]

    def stacked(self, parts: Any) -> Any:
        return parts.reshape(self.degree * self.width, *parts.shape[2:])

    def scan_in(self, x: Jet) -> Jet:
        return Jet(x.primal, jnp.moveaxis(x.parts, 2, 0))

    def scan_out(self, x: Jet) -> Jet:
        return Jet(x.primal, jnp.moveaxis(x.parts, 0, 2))


class BundledSeries(StackedSeries):
    """Stacked coefficients whose sums over orders are written out: few operations, each of all orders at once.

    A product of matrices with one operand that does not depend on the direction is one product, of two jets ``k + 1``
    instead of their pairs of orders. An accelerator waits for the number of operations before it waits for their size;
    on a CPU five models took 0.75 to 1.5 times as long as with separate arrays, most of them longer.
    """

    def _apart(self, parts: Any) -> tuple:
        return tuple(tuple(parts[r, c] for c in range(self.width)) for r in range(self.degree))

    def _by_orders(self, operation: Callable, *numbers: Any) -> Any:
        """What separate series make of the same numbers, stacked."""
        separate = Series(self.degree, self.complex)
        out = operation(separate, *[Jet(x.primal, self._apart(x.parts)) if isinstance(x, Jet) else x for x in numbers])
        parts = jnp.stack([jnp.stack(part) for part in separate.full(out.parts)])
        return Jet(out.primal, parts)

    def cross(self, product: Callable, a: Any, b: Any) -> Any:
        if product is jnp.multiply:

            def times(of: Series, x: Jet, y: Jet) -> Jet:
                return Jet(x.primal, of.cross(product, x.parts, y.parts))

            return self._by_orders(times, Jet(0.0, a), Jet(0.0, b)).parts
        shape, over = jax.eval_shape(product, a[0, 0], b[0, 0]), jax.vmap(product, (None, 0))
        total = jnp.zeros((self.degree, self.width, *shape.shape), shape.dtype)
        for i in range(1, self.degree):  # c_{i+j} += a_i b_j, for all j at once
            terms = _cmul(over, tuple(a[i - 1]), tuple(jnp.moveaxis(b[: self.degree - i], 1, 0)))
            total = total.at[i:].add(jnp.stack(terms, 1))
        return total

    def compose(self, function: Any, x: Jet, y0: Any) -> Jet:
        return self._by_orders(lambda of, x: of.compose(function, x, y0), x)

    def divide(self, a: Any, b: Jet, y0: Any, reciprocal: Any) -> Jet:
        return self._by_orders(lambda of, a, b: of.divide(a, b, y0, reciprocal), a, b)


class Point(Algebra):
    """One complex point ``x_0 + d`` at a finite distance ``d`` from the primal; parts are ``((re d, im d),)``.

    Holding the difference keeps the relative precision of small ``d``, and the
    primal beside it makes every piecewise decision (a maximum, a branch, the
    length of a loop) the one of the real program: the function that is continued
    into the complex plane is the very one whose Taylor series is wanted. At a tie of
    primals all points of a circle take the side of one of them, the first on the axis of
    points: put on the real axis and close to 0, it takes the side that the series takes.
    """

    degree, complex = 1, True

    def __init__(self, axis: str | None = None):
        self.axis = axis  # the name of the vmapped axis of points, if there is one

    def numbers(self, parts: Any) -> list[Any]:
        return [c if self.axis is None else lax.all_gather(c, self.axis)[0] for c in parts[0]]

    def everywhere(self, condition: Any) -> Any:
        """Whether a condition holds in all entries, at all points."""
        holds = jnp.all(condition)
        return holds if self.axis is None else lax.pmin(holds.astype(jnp.int32), self.axis) > 0

    def zeros(self, x: Any) -> Any:
        return ((_no_parts(x), _no_parts(x)),)

    def cross(self, product: Callable, a: Any, b: Any) -> Any:
        return (_cmul(product, a[0], b[0]),)

    def product(self, product: Callable, a: Jet, b: Jet) -> Jet:
        if product is jnp.multiply:
            return super().product(product, a, b)
        # A matrix product or convolution is the cost of a program: three of them in place of seven.
        value = product(a.primal, b.primal)
        (ar, ai), (br, bi) = a.parts[0], b.parts[0]
        re, im = _cmul(product, (a.primal + ar, ai), (b.primal + br, bi))
        return Jet(value, ((re - value, im),))

    def compose(self, function: Any, x: Jet, y0: Any) -> Jet:
        re, im = function.difference(x.primal, x.parts[0], y0, self.everywhere)
        return Jet(y0, ((re, im),))


def series(degree: int, complex: bool = True) -> Algebra:
    """The representation that suits a degree and this machine.

    Separate coefficients ran six times faster through microgpt's loop (complex, degrees 6 and 7), but their program
    grows with the square of the degree: complex ones of degree 8 took four minutes to compile, stacked ones half a one.
    """
    if degree > (6 if complex else 8):
        return StackedSeries(degree, complex)
    return Series(degree, complex) if jax.default_backend() == "cpu" else BundledSeries(degree, complex)


def integrate_log(algebra: Algebra, parts: Any) -> Any:
    """From ``t y'(t) = Σ r y_r t^r`` to ``y``: divide the r-th part by r."""
    return _scale_orders(algebra, parts, lambda r: 1 / r)


def differentiate_log(algebra: Algebra, parts: Any) -> Any:
    """From ``y`` to ``t y'(t)``: multiply the r-th part by r."""
    return _scale_orders(algebra, parts, lambda r: r)


def _scale_orders(algebra: Algebra, parts: Any, factor: Callable) -> Any:
    return by_order(algebra, lambda r, c: jnp.asarray(factor(r), c.dtype) * c, parts)


def by_order(algebra: Algebra, fn: Callable, *parts: Any) -> Any:
    """Apply ``fn(r, *components)`` to the components of every order ``r``."""
    if isinstance(algebra, StackedSeries):
        return jax.vmap(lambda r, *p: jax.vmap(functools.partial(fn, r))(*p))(
            jnp.arange(1.0, algebra.degree + 1), *parts
        )
    full = [algebra.full(p) for p in parts]
    return tuple(
        tuple(fn(r, *c) for c in zip(*order, strict=True)) for r, order in enumerate(zip(*full, strict=True), 1)
    )


def stack_coefficients(algebra: Algebra, x: Any) -> jax.Array:
    """A jet (or a constant) as one array with leading axis ``degree + 1``, complex if the algebra is."""
    jet = x if isinstance(x, Jet) else Jet(jnp.asarray(x), algebra.zeros(x))
    if algebra.complex and jnp.iscomplexobj(jet.primal):
        raise TypeError(
            "the function returns complex numbers, whose coefficients along complex directions would mix two imaginary "
            "units: return its real and its imaginary part as two arrays, or take real directions."
        )
    first, rest = jet.primal[None].astype(wide(jet.primal.dtype)), stack_parts(algebra, jet.parts)
    return jnp.concatenate([lax.complex(first, jnp.zeros_like(first)) if algebra.complex else first, rest])


def stack_parts(algebra: Algebra, parts: Any) -> jax.Array:
    """All orders from the first on as one array with leading axis ``degree``, complex if the algebra is."""
    if not isinstance(algebra, StackedSeries):
        return jnp.stack([lax.complex(*part) if algebra.complex else part[0] for part in algebra.full(parts)])
    return lax.complex(parts[:, 0], parts[:, 1]) if algebra.complex else parts[:, 0]


def unstack_coefficients(algebra: Algebra, coefficients: jax.Array, value: jax.Array | None = None) -> Jet:
    """The jet of an array with leading axis ``degree + 1`` (the zeroth may be given apart, real and unbatched)."""
    first = jnp.real(coefficients[0]) if value is None else value
    rest = coefficients if value is not None else coefficients[1:]
    rest = rest.astype(wide(rest.dtype))
    pairs = [(jnp.real(c), jnp.imag(c))[: algebra.width] for c in rest]
    parts = jnp.stack([jnp.stack(p) for p in pairs]) if isinstance(algebra, StackedSeries) else tuple(pairs)
    return Jet(first, parts)
