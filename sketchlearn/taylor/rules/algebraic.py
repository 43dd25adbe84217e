"""Polynomials and dense linear algebra, reduced to what has a rule."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
from jax import lax

from sketchlearn.errors import UnsupportedPrimitive
from sketchlearn.runtime import jax_compat as compat
from sketchlearn.taylor.algebra import Jet, Point, primal
from sketchlearn.taylor.interpreter import Context
from sketchlearn.taylor.registry import register
from sketchlearn.taylor.rewriting import rewritten


def _polynomial(eqn: Any, x: Any, *coefficients: Any) -> Any:
    return functools.reduce(lambda total, c: total * x + c, reversed(coefficients))


register("polynomial", "algebraic", rewritten(_polynomial), "Horner")


# --- dense linear algebra --------------------------------------------------------
# A matrix function is solved for order by order: a fixed-point iteration in which every
# round makes one more order exact, because the increments are nilpotent.


def _iterate(ctx: Context, step: Callable, start: Any) -> Any:
    def full(unknown: Any) -> Any:  # of one unknown, or of a list of them
        return [ctx.algebra.full(p) for p in unknown] if isinstance(unknown, list) else ctx.algebra.full(unknown)

    return lax.fori_loop(0, ctx.algebra.degree, lambda _, unknown: full(step(unknown)), full(start))


def _complex(x: Jet) -> Any:
    """The complex number of a :class:`Point` jet."""
    return lax.complex(x.primal + x.parts[0][0], x.parts[0][1])


def _from_complex(value: Any, z: Any) -> Jet:
    return Jet(value, ((jnp.real(z) - value, jnp.imag(z)),))


def _check_real(ctx: Context, eqn: Any, *arrays: Any) -> None:
    """Refuse complex arrays of the program at complex points: these rules do not hold the two imaginary units apart."""
    if isinstance(ctx.algebra, Point) and any(jnp.iscomplexobj(primal(x)) for x in arrays):
        raise UnsupportedPrimitive(
            f"Cannot continue '{eqn.primitive.name}' of a complex matrix to complex points.\n"
            f"  It is used at {ctx.where(eqn)}.\n"
            '  Way out: method="series"; or the real matrix jnp.block([[a.real, -a.imag], [a.imag, a.real]]).'
        )


def _increment(x: Jet) -> Jet:
    return Jet(jnp.zeros_like(x.primal), x.parts)


def _triangular_solve(ctx: Context, eqn: Any, a: Any, b: Any) -> list[Any]:
    (value,) = ctx.primals(eqn, (a, b))
    _check_real(ctx, eqn, a, b)
    p = eqn.params
    algebra, b = ctx.algebra, ctx.lift(b)

    def solve(c: Any) -> Any:
        return compat.bind(eqn, primal(a), c)[0]

    if not isinstance(a, Jet):
        return [Jet(value, algebra.map(solve, b.parts))]
    if isinstance(algebra, Point):
        return [_from_complex(value, compat.bind(eqn, _complex(a), _complex(b))[0])]
    strict = 1 if p["unit_diagonal"] else 0

    def times(m: Any, y: Any) -> Any:  # only one triangle of the matrix is read
        m = jnp.tril(m, -strict) if p["lower"] else jnp.triu(m, strict)
        m = jnp.swapaxes(m, -1, -2) if p["transpose_a"] else m
        m = jnp.conj(m) if p["conjugate_a"] else m
        return m @ y if p["left_side"] else y @ m

    def step(parts: Any) -> Any:  # y <- A_0^{-1} (b - (A - A_0) y)
        moved = algebra.product(times, _increment(a), Jet(value, parts)).parts
        return algebra.map(lambda q, m: solve(q - m), b.parts, moved)

    return [Jet(value, _iterate(ctx, step, algebra.zeros(value)))]


def _lu_complex(a: Any) -> Any:
    """LU factors of complex matrices without pivoting, packed in one array."""
    n = a.shape[-1]
    rows = jnp.arange(n)

    def step(j: Any, a: Any) -> Any:
        below = rows > j
        column = jnp.where(below, a[..., :, j] / a[..., j, j][..., None], 0)
        row = jnp.where(below, a[..., j, :], 0)
        a = a.at[..., :, j].set(jnp.where(below, column, a[..., :, j]))
        return a - column[..., :, None] * row[..., None, :]

    return lax.fori_loop(0, n, step, a)


def _product(ctx: Context, a: Jet, b: Jet) -> Any:
    return ctx.algebra.product(jnp.matmul, a, b).parts


def _lu(ctx: Context, eqn: Any, a: Jet) -> list[Any]:
    if a.primal.shape[-1] != a.primal.shape[-2]:
        raise UnsupportedPrimitive(
            f"Cannot expand the LU factors of a matrix of shape {a.primal.shape} in a power series: only square "
            f"ones have a rule.\n  It is used at {ctx.where(eqn)}."
        )
    value, pivots, order = ctx.primals(eqn, (a,))
    _check_real(ctx, eqn, a)
    rows = jnp.expand_dims(order, -1)

    def permuted(c: Any) -> Any:
        return jnp.take_along_axis(c, jnp.broadcast_to(rows, c.shape), axis=-2)

    if isinstance(ctx.algebra, Point):
        return [_from_complex(value, _lu_complex(permuted(_complex(a)))), pivots, order]
    eye = jnp.eye(value.shape[-1], dtype=value.dtype)
    lower, upper = jnp.tril(value, -1) + eye, jnp.triu(value)

    def solve(c: Any) -> Any:  # L_0^{-1} P c U_0^{-1}
        left = lax.linalg.triangular_solve(lower, permuted(c), left_side=True, lower=True, unit_diagonal=True)
        return lax.linalg.triangular_solve(upper, left, left_side=False, lower=False)

    change, zero = ctx.algebra.map(solve, a.parts), jnp.zeros_like(value)

    def step(parts: Any) -> Any:  # (1 + Λ)(1 + Υ) = 1 + change, Λ strictly lower, Υ upper
        low = Jet(zero, ctx.algebra.map(lambda c: jnp.tril(c, -1), parts))
        up = Jet(zero, ctx.algebra.map(jnp.triu, parts))
        return ctx.algebra.map(jnp.subtract, change, _product(ctx, low, up))

    parts = _iterate(ctx, step, ctx.algebra.zeros(value))
    packed = ctx.algebra.map(lambda c: jnp.tril(lower @ jnp.tril(c, -1), -1) + jnp.triu(jnp.triu(c) @ upper), parts)
    return [Jet(value, packed), pivots, order]


def _adjoint(c: Any) -> Any:
    """The transpose, conjugate in the program's own imaginary unit (that of a direction is held in pairs)."""
    return jnp.conj(jnp.swapaxes(c, -1, -2))


def _cholesky(ctx: Context, eqn: Any, a: Jet) -> list[Any]:
    (value,) = ctx.primals(eqn, (a,))
    _check_real(ctx, eqn, a)
    if eqn.params.get("symmetrize_input"):
        a = Jet(a.primal, ctx.algebra.map(lambda c: (c + _adjoint(c)) / 2, a.parts))
    if isinstance(ctx.algebra, Point):
        lu = _lu_complex(_complex(a))
        root = jnp.sqrt(jnp.diagonal(lu, axis1=-2, axis2=-1))
        factor = jnp.tril(lu, -1) + jnp.eye(lu.shape[-1])
        return [_from_complex(value, factor * root[..., None, :])]

    lower = jnp.tril(value)  # the primitive leaves the other triangle undefined

    def half(c: Any) -> Any:
        return jnp.tril(c, -1) + jnp.tril(jnp.triu(c)) / 2

    def solve(c: Any) -> Any:  # L_0^{-1} c L_0^{-T}
        c = jnp.tril(c) + _adjoint(jnp.tril(c, -1))
        left = lax.linalg.triangular_solve(lower, c, left_side=True, lower=True)
        return lax.linalg.triangular_solve(lower, left, left_side=False, lower=True, transpose_a=True, conjugate_a=True)

    change, zero = ctx.algebra.map(solve, a.parts), jnp.zeros_like(value)

    def step(parts: Any) -> Any:  # (1 + Λ)(1 + Λ)ᵀ = 1 + change, Λ lower
        low = Jet(zero, parts)
        high = Jet(zero, ctx.algebra.map(_adjoint, parts))
        return ctx.algebra.map(lambda c, q: half(c - q), change, _product(ctx, low, high))

    parts = _iterate(ctx, step, ctx.algebra.zeros(value))
    return [Jet(value, ctx.algebra.map(lambda c: lower @ c, parts))]


def _linear_solve(ctx: Context, eqn: Any, *inputs: Any) -> list[Any]:
    lengths, jaxprs = eqn.params["const_lengths"], eqn.params["jaxprs"]
    start = lengths.matvec + lengths.vecmat
    matrix, consts, b = inputs[: lengths.matvec], inputs[start : start + lengths.solve], inputs[sum(lengths) :]
    if isinstance(ctx.algebra, Point):
        if any(isinstance(m, Jet) for m in matrix) and not any(isinstance(c, Jet) for c in consts):
            raise UnsupportedPrimitive(
                "Cannot continue lax.custom_linear_solve to complex points: its solver does not see the matrix that "
                f"its matvec depends on.\n  It is used at {ctx.where(eqn)}.\n"
                '  Way out: method="series", which needs only the real solver; or a solver that uses its matvec.'
            )
        return ctx.evaluate(*compat.split_consts(jaxprs.solve), [*consts, *b])
    values, held = ctx.primals(eqn, inputs), [primal(c) for c in consts]
    right = [ctx.lift(x).parts for x in b]

    def solve(*residual: Any) -> tuple:
        return tuple(ctx.evaluate(*compat.split_consts(jaxprs.solve), [*held, *residual]))

    def step(parts: Any) -> Any:  # y <- y + A_0^{-1} (b - A y)
        y = [Jet(v, p) for v, p in zip(values, parts, strict=True)]
        moved = ctx.evaluate(*compat.split_consts(jaxprs.matvec), [*matrix, *y])
        residual = [ctx.algebra.map(jnp.subtract, r, ctx.lift(m).parts) for r, m in zip(right, moved, strict=True)]
        change = [ctx.algebra.map(lambda *r, n=n: solve(*r)[n], *residual) for n in range(len(values))]
        return [ctx.algebra.map(jnp.add, p, c) for p, c in zip(parts, change, strict=True)]

    parts = _iterate(ctx, step, [ctx.algebra.zeros(v) for v in values])
    return [Jet(v, p) for v, p in zip(values, parts, strict=True)]


register("triangular_solve", "algebraic", _triangular_solve)
register("lu", "algebraic", _lu, "square; the pivots of the real matrix are held")
register("cholesky", "algebraic", _cholesky)
register("custom_linear_solve", "algebraic", _linear_solve, "order by order with the real solver (Cauchy: walked)")
