"""QR factors, eigenvalues of symmetric matrices, singular values, tridiagonal systems.

What is orthogonal stays so in a series if ``Qᵀ Q = 1`` holds in every order, and at complex points in the same sense:
the transpose is continued, not the conjugate. Factors of the real matrix are refined: a step of Ogita and Aishima
doubles the number of exact orders, and at complex points the number of digits ("Iterative refinement for symmetric
eigenvalue decomposition", 2018; for singular values 2020).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
from jax import lax

from sketchlearn.errors import UnsupportedPrimitive
from sketchlearn.taylor.algebra import Algebra, Point
from sketchlearn.taylor.interpreter import Context
from sketchlearn.taylor.registry import register
from sketchlearn.taylor.rewriting import rewritten, with_parts_of

TO_POINT = (0.25, 0.5, 0.75, 1.0, 1.0, 1.0, 1.0, 1.0)  # of the way, so that a refinement stays on its branch


def _t(x: Any) -> Any:
    return jnp.swapaxes(x, -1, -2)


def _no(ctx: Context, eqn: Any, what: str, way_out: str) -> UnsupportedPrimitive:
    return UnsupportedPrimitive(
        f"Cannot expand {what} in a power series.\n  It is used at {ctx.where(eqn)}.\n  Way out: {way_out}"
    )


def _check_real(ctx: Context, eqn: Any, dtype: Any, name: str) -> None:
    if jnp.issubdtype(dtype, jnp.complexfloating):
        way_out = "the real matrix jnp.block([[a.real, -a.imag], [a.imag, a.real]]) has the same values, each twice."
        raise _no(ctx, eqn, f"{name} of a complex matrix", f"write it for real matrices; {way_out}")


def _steps(algebra: Algebra) -> tuple[float, ...]:
    """How far to go in every refinement."""
    return TO_POINT if isinstance(algebra, Point) else (1.0,) * max(1, algebra.degree.bit_length())


def _apart(differences: Any, size: Any) -> Any:
    """Differences of eigenvalues, NaN where two are the same: their vectors, and orders from the second on, are not
    determined, and a number must not look as if they were."""
    n = differences.shape[-1]
    least = 10 * n * jnp.finfo(differences.dtype).eps * size[..., None, None]
    return jnp.where((jnp.abs(differences) <= least) & ~jnp.eye(n, dtype=bool), jnp.nan, jnp.ones_like(differences))


def _count(ctx: Context, eqn: Any, same: Any) -> None:
    ctx.record(eqn, jnp.any(jnp.isnan(same), axis=-1))


# --- QR ---------------------------------------------------------------------------


def _qr(ctx: Context, eqn: Any, a: Any) -> list[Any]:
    p = eqn.params
    values = ctx.primals(eqn, (a,))
    rows, columns = a.primal.shape[-2:]
    least = min(rows, columns)
    _check_real(ctx, eqn, a.primal.dtype, "the QR factors")
    if p["full_matrices"] and rows > columns:
        raise _no(ctx, eqn, "all columns of Q", 'jnp.linalg.qr(a, mode="reduced"): the others are not determined.')
    square = values[1][..., :, :least]

    def factors(a: Any, upper: Any) -> list[Any]:
        if p.get("pivoting"):
            a = jnp.take_along_axis(a, jnp.broadcast_to(values[2][..., None, :], a.shape), -1)
        # A R₀⁻¹ is Q₀ at the point, so that its Cholesky factor is close to 1
        near = lax.linalg.triangular_solve(upper, a[..., :, :least], left_side=False, lower=False)
        correction = _t(jnp.linalg.cholesky(_t(near) @ near))
        q = lax.linalg.triangular_solve(correction, near, left_side=False, lower=False)
        r = jnp.triu(correction) @ upper
        return [q, jnp.concatenate([r, _t(q) @ a[..., :, least:]], -1) if columns > least else r]

    q, r, *rest = values
    return [*with_parts_of(ctx, [q, r], factors, a, square), *rest]


register("qr", "algebraic", _qr, "reduced; NaN where columns are dependent")

# --- symmetric eigenvalues, singular values ----------------------------------------


def _eigen_refined(target: Callable, near: Any, steps: tuple[float, ...], same: Any) -> tuple[Any, Any]:
    """Eigenvalues and vectors (columns) of ``target(s)`` at s = 1, which is diag(near) at s = 0."""
    eye = jnp.eye(near.shape[-1], dtype=near.dtype)
    x = eye + jnp.zeros_like(same)
    for s in steps:
        b = target(s)
        r, t = eye - _t(x) @ x, _t(x) @ (b @ x)
        values = jnp.diagonal(t, axis1=-2, axis2=-1) / (1 - jnp.diagonal(r, axis1=-2, axis2=-1))
        gaps = values[..., None, :] - values[..., :, None]
        change = same * (t + values[..., None, :] * r) / (gaps + eye)
        x = x + x @ (change * (1 - eye) + eye * r / 2)
    return jnp.diagonal(_t(x) @ (target(steps[-1]) @ x), axis1=-2, axis2=-1) + 0 * same.sum(-1), x


def _eigh(ctx: Context, eqn: Any, a: Any) -> list[Any]:
    values = vectors, eigenvalues = ctx.primals(eqn, (a,))
    n = a.primal.shape[-1]
    _check_real(ctx, eqn, a.primal.dtype, "the eigenvalues")
    if eqn.params.get("subset_by_index") not in (None, (0, n)):
        raise _no(ctx, eqn, "some of the eigenvalues", "take all, and then a slice: jnp.linalg.eigh(a)[0][:k].")
    same = _apart(eigenvalues[..., None, :] - eigenvalues[..., :, None], jnp.max(jnp.abs(eigenvalues), -1))
    _count(ctx, eqn, same)
    if not n:
        return values

    def symmetric(a: Any) -> Any:  # only one triangle of the matrix is read
        a = a if eqn.params["lower"] else _t(a)
        return jnp.tril(a) + _t(jnp.tril(a, -1))

    def refined(a: Any, a0: Any, v0: Any, w0: Any, same: Any) -> list[Any]:
        change = _t(v0) @ (symmetric(a - a0) @ v0)
        diagonal = w0[..., None] * jnp.eye(n, dtype=w0.dtype)
        w, x = _eigen_refined(lambda s: diagonal + s * change, w0, _steps(ctx.algebra), same)
        return [v0 @ x, w]

    return with_parts_of(ctx, values, refined, a, a.primal, vectors, eigenvalues, same)


register("eigh", "algebraic", _eigh, "NaN where eigenvalues are the same, which is recorded")


def _singular_refined(target: Callable, near: Any, steps: tuple[float, ...], same: Any) -> list[Any]:
    """Left vectors, values and right vectors of a square ``target(s)`` at s = 1, which is diag(near) at s = 0."""
    eye = jnp.eye(near.shape[-1], dtype=near.dtype)
    x = y = eye + jnp.zeros_like(same)
    for s in steps:
        b = target(s)
        r, q, t = eye - _t(x) @ x, eye - _t(y) @ y, _t(x) @ (b @ y)
        shrunk = 1 - jnp.diagonal(r + q, axis1=-2, axis2=-1) / 2
        values = jnp.diagonal(t, axis1=-2, axis2=-1) / shrunk
        row, column = values[..., None, :], values[..., :, None]
        left, right = t + row * r, _t(t) + row * q
        gaps = same / (row * row - column * column + eye)
        x = x + x @ ((1 - eye) * (left * row + column * right) * gaps + eye * r / 2)
        y = y + y @ ((1 - eye) * (left * column + row * right) * gaps + eye * q / 2)
    values = jnp.diagonal(_t(x) @ (target(steps[-1]) @ y), axis1=-2, axis2=-1) + 0 * same.sum(-1)
    return [x, values, y]


def _svd(ctx: Context, eqn: Any, a: Any) -> list[Any]:
    p, values = eqn.params, ctx.primals(eqn, (a,))
    rows, columns = a.primal.shape[-2:]
    _check_real(ctx, eqn, a.primal.dtype, "the singular values")
    if p.get("subset_by_index") not in (None, (0, min(rows, columns))):
        raise _no(ctx, eqn, "some of the singular values", "take all, and then a slice.")
    if p["compute_uv"] and p["full_matrices"] and rows != columns:
        way_out = "jnp.linalg.svd(a, full_matrices=False): the others are not determined."
        raise _no(ctx, eqn, "all singular vectors of a matrix that is not square", way_out)
    if not min(rows, columns):
        return values
    if p["compute_uv"]:
        s, u, vt = values
    else:
        u, s, vt = jnp.linalg.svd(a.primal, full_matrices=False)
    if rows < columns:
        u, vt = _t(vt), _t(u)
    same = _apart(s[..., None, :] ** 2 - s[..., :, None] ** 2, jnp.max(s, -1) ** 2)
    _count(ctx, eqn, same)

    def refined(a: Any, a0: Any, u0: Any, s0: Any, v0: Any, same: Any) -> list[Any]:
        change = (_t(a - a0) if rows < columns else a - a0) @ v0
        diagonal = s0[..., None] * jnp.eye(s0.shape[-1], dtype=s0.dtype)
        if rows == columns:
            basis, square = u0, _t(u0) @ change
        else:  # U₀ Σ₀ + (A - A₀) V₀ = Q R, and R is square; U₀ = Q and Σ₀ = R at the point, but for signs
            basis, upper = jnp.linalg.qr(u0 * s0[..., None, :] + change)
            sign = jnp.where(jnp.diagonal(upper, axis1=-2, axis2=-1) < 0, -1.0, 1.0)
            basis, square = basis * sign[..., None, :], sign[..., :, None] * upper - diagonal
        x, s, y = _singular_refined(lambda t: diagonal + t * square, s0, _steps(ctx.algebra), same)
        left, right = basis @ x, v0 @ y
        return ([s, right, _t(left)] if rows < columns else [s, left, _t(right)])[: len(values)]

    return with_parts_of(ctx, values, refined, a, a.primal, u, s, _t(vt), same)


register("svd", "algebraic", _svd, "NaN where singular values are the same, which is recorded")

# --- tridiagonal systems, and what is refused ----------------------------------------


def _tridiagonal_solve(eqn: Any, below: Any, diagonal: Any, above: Any, b: Any) -> Any:
    """Thomas's elimination; the solution's real value is the pivoting solver's own."""
    below, diagonal, above = (jnp.moveaxis(x, -1, 0)[..., None] for x in (below, diagonal, above))
    b = jnp.moveaxis(b, -2, 0)
    start = above[0] / diagonal[0], b[0] / diagonal[0]

    def down(carry: Any, row: Any) -> Any:
        low, mid, high, right = row
        pivot = mid - low * carry[0]
        new = high / pivot, (right - low * carry[1]) / pivot
        return new, new

    def up(later: Any, row: Any) -> Any:
        x = row[1] - row[0] * later
        return x, x

    _, rest = lax.scan(down, start, (below[1:], diagonal[1:], above[1:], b[1:]))
    c, d = (jnp.concatenate([first[None], more]) for first, more in zip(start, rest, strict=True))
    _, x = lax.scan(up, jnp.zeros_like(b[0]), (c, d), reverse=True)
    return jnp.moveaxis(x, 0, -2)


register("tridiagonal_solve", "algebraic", rewritten(_tridiagonal_solve), "no pivot may vanish")
