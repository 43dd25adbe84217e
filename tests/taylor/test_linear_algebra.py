"""What the rules of dense linear algebra promise where one case of a function is not enough."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from support.oracles import assert_same_coefficients, directions

import sketchlearn as sl
from sketchlearn.taylor.registry import REFUSED

pytestmark = pytest.mark.usefixtures("x64", "quick_compilation")

SQUARE = np.array([[0.2, 1.5, -0.3], [2.1, 0.4, 0.7], [-0.6, 0.9, 1.2]])
REAL, COMPLEX = directions(SQUARE)
METHODS = pytest.mark.parametrize("method", ["series", "cauchy"])


def test_factors_multiply_to_the_matrix_and_stay_orthogonal_in_every_order():
    degree = 4

    def products(x):
        q, r = jnp.linalg.qr(x)
        w, u = jnp.linalg.eigh(x + x.T)
        left, s, right = jnp.linalg.svd(x)
        factors = q @ r, (u * w) @ u.T, (left * s) @ right
        return factors, [q.T @ q, u.T @ u, left.T @ left, right @ right.T]

    factors, squares = sl.taylor_coefficients(products, SQUARE, COMPLEX, degree)
    linear = sl.taylor_coefficients(lambda x: (x, x + x.T, x), SQUARE, COMPLEX, degree)
    one = np.concatenate([np.eye(3)[None], np.zeros((degree, 3, 3))])
    # cancelling terms of series that converge within a radius of about 1/3, so grow like 3^degree
    atol = 1e-13 * 4.0**degree
    for got, expected in [*zip(factors, linear, strict=True), *[(s, one) for s in squares]]:
        np.testing.assert_allclose(got, expected, rtol=0, atol=atol)


@METHODS
def test_eigenvalues_of_two_by_two_have_their_closed_form(method):
    def by_rule(x):
        return jnp.linalg.eigvalsh(
            jnp.array([[1.0, 0.5], [0.5, 2.0]]) + jnp.stack([jnp.stack([x, x]), jnp.stack([x, -x])])
        )

    def by_hand(x):
        root = jnp.sqrt(((1 + x) - (2 - x)) ** 2 / 4 + (0.5 + x) ** 2)
        return jnp.stack([1.5 - root, 1.5 + root])

    got = sl.taylor_coefficients(by_rule, 0.1, 1.0, 8, method=method)
    expected = sl.taylor_coefficients(by_hand, 0.1, 1.0, 8)
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-9 * np.abs(expected).max())  # where Cauchy's search stops


REPEATED = {
    "eigh": lambda x: jnp.linalg.eigvalsh(jnp.eye(3) + x * jnp.diag(np.array([0.0, 1.0, 2.0]))),
    "eigh vectors": lambda x: jnp.linalg.eigh(jnp.diag(jnp.array([1.0, 1.0, 2.0])) + x * (SQUARE + SQUARE.T))[1],
    "eigh of an almost repeated one": lambda x: jnp.linalg.eigvalsh(
        jnp.diag(jnp.array([1.0, 1.0 + 1e-15, 2.0])) + x * (SQUARE + SQUARE.T)
    ),
    "svd": lambda x: jnp.linalg.svd(jnp.eye(3) + x * SQUARE, compute_uv=False),
    "svd vectors": lambda x: jnp.linalg.svd(jnp.eye(4)[:, :3] + x)[1],
    "norm": lambda x: jnp.linalg.norm(jnp.eye(3) + x * SQUARE, ord=2),
    "qr of dependent columns": lambda x: jnp.linalg.qr(jnp.ones((3, 2)) + x * SQUARE[:, :2])[1],
}


@pytest.mark.parametrize("name", [n for n in REPEATED if n != "svd vectors"])
def test_what_is_not_determined_is_nan_and_never_a_number(name):
    got = sl.taylor_coefficients(REPEATED[name], 0.0, 1.0, 3)
    if name == "qr of dependent columns":
        assert not np.isfinite(got[1:]).all()
    else:
        assert np.isnan(got[1:]).all(axis=tuple(range(1, got.ndim))).any()
    with pytest.raises(ValueError, match="no finite values"):
        sl.taylor_coefficients(REPEATED[name], 0.0, 1.0, 3, method="cauchy")


@pytest.mark.parametrize(("name", "primitive"), [("eigh", "eigh"), ("svd", "svd"), ("norm", "svd")])
def test_repeated_values_are_reported_as_kinks(name, primitive):
    (place,) = [p for p in sl.piecewise_report(REPEATED[name], 0.0) if p.startswith(f"{primitive} at ")]
    assert sl.piecewise_report(REPEATED[name], 0.0)[place] == 3
    assert "test_linear_algebra.py" in place


@METHODS
def test_distinct_values_of_one_matrix_of_a_batch_survive_repeated_ones_of_another(method):
    batch = np.stack([np.diag([1.0, 2.0, 4.0]), np.eye(3)])
    got = sl.taylor_coefficients(
        lambda x: jnp.linalg.eigvalsh(batch + x * (SQUARE + SQUARE.T))[0], 0.0, 1.0, 3, method=method
    )
    expected = sl.taylor_coefficients(lambda x: jnp.linalg.eigvalsh(batch[0] + x * (SQUARE + SQUARE.T)), 0.0, 1.0, 3)
    assert_same_coefficients(got, expected, rtol=1e-9)  # where Cauchy's search stops


def hermitian(x):
    z = lax.complex(x, x.T / 2)
    return z @ jnp.conj(z.T) + jnp.eye(3)


COMPLEX_MATRICES = {
    "cholesky": lambda x: jnp.linalg.cholesky(hermitian(x)),
    "lu": lambda x: lax.linalg.lu(lax.complex(x, x.T))[0],
    "solve": lambda x: jax.scipy.linalg.solve(hermitian(x), lax.complex(x[0], x[1]), assume_a="pos"),
    "triangular_solve": lambda x: lax.linalg.triangular_solve(
        hermitian(x), hermitian(x @ x), left_side=True, lower=True, transpose_a=True, conjugate_a=True
    ),
}


@pytest.mark.parametrize("name", COMPLEX_MATRICES)
def test_factors_of_complex_matrices_equal_nested_jvp_and_are_refused_on_circles(name):
    def parts(x):
        z = COMPLEX_MATRICES[name](x)
        return z.real, z.imag

    expected = sl.reference.nested_jvp(parts, SQUARE, REAL, 3)
    assert_same_coefficients(sl.taylor_coefficients(parts, SQUARE, REAL, 3), expected, rtol=1e-10)  # rounding
    with pytest.raises(sl.UnsupportedPrimitive, match=r"(?s)complex matrix.*jnp\.block"):
        sl.taylor_coefficients(parts, SQUARE, REAL, 3, method="cauchy")


def test_complex_directions_of_a_complex_matrix_are_linear_in_their_imaginary_unit():
    """``c_r`` along ψ real equals ``c_r`` along iψ over ``i^r``: the adjoint conjugates the program's unit only."""

    def f(x):
        return jnp.linalg.cholesky(hermitian(x)).real

    real = np.asarray(sl.taylor_coefficients(f, SQUARE, REAL, 3))
    turned = np.asarray(sl.taylor_coefficients(f, SQUARE, 1j * REAL, 3))
    # multiplication by i is exact: what is left is the rounding of complex products
    np.testing.assert_allclose(
        turned, 1j ** np.arange(4)[:, None, None] * real, rtol=0, atol=1e-12 * np.abs(real).max()
    )


@METHODS
@pytest.mark.parametrize(
    ("f", "way_out"),
    [
        (lambda x: jnp.linalg.svd(x[:, :2])[0], "full_matrices=False"),
        (lambda x: jnp.linalg.qr(x[:, :2], mode="complete")[0], 'mode="reduced"'),
        (lambda x: jnp.linalg.eigvalsh(hermitian(x)), "jnp.block"),
        (lambda x: jnp.linalg.svd(lax.complex(x, x))[1], "jnp.block"),
        (lambda x: jnp.linalg.eigvals(x).real, "jnp.linalg.eigh"),
        (lambda x: jnp.roots(x[0], strip_zeros=False).real, "jnp.linalg.eigh"),
        (lambda x: jax.scipy.linalg.sqrtm(x).real, "jnp.sqrt"),
        (lambda x: jax.scipy.linalg.schur(x)[0], "jnp.linalg.eigh"),
        (lambda x: lax.linalg.householder_product(x, x[0]), "jnp.linalg.qr"),
        (lambda x: lax.linalg.tridiagonal(x + x.T)[1], "jnp.linalg.eigh"),
        (lambda x: lax.bessel_i1e(x), "Write the integral"),
        (lambda x: jax.scipy.special.gammainc(1.5, x), "Write|write"),
        (lambda x: jax.scipy.special.betainc(1.5, 2.0, x), "jax.custom_jvp"),
        (lambda x: jax.random.gamma(jax.random.key(0), jnp.exp(x)), "scale"),
        (lambda x: jax.scipy.special.zeta(2.0, x) * lax.zeta(x, 2 + x), "constant"),
    ],
)
def test_what_is_refused_says_what_to_write_instead(f, way_out, method):
    with pytest.raises(sl.UnsupportedPrimitive, match=rf"(?s)(?=.*test_linear_algebra.py).*{way_out}"):
        sl.taylor_coefficients(f, 0.1 + np.abs(SQUARE), REAL, 2, method=method)


def test_every_refusal_has_a_reason_of_more_than_a_few_words():
    assert all(len(reason) > 30 for reason in REFUSED.values())


def test_the_ways_out_of_refusals_do_what_is_asked():
    def root(x):
        w, v = jnp.linalg.eigh(x)
        return (v * jnp.sqrt(w)) @ v.T

    a = SQUARE @ SQUARE.T + np.eye(3)
    # all of these to the rounding of a few operations on numbers near one
    np.testing.assert_allclose(root(a) @ root(a), a, rtol=1e-12)
    b = SQUARE + 1j * SQUARE.T
    b = b + b.conj().T
    doubled = np.linalg.eigvalsh(np.block([[b.real, -b.imag], [b.imag, b.real]]))
    np.testing.assert_allclose(doubled, np.repeat(np.linalg.eigvalsh(b), 2), rtol=1e-12)
    x, t = 0.7, (np.arange(200) + 0.5) * np.pi / 200
    for order, bessel in enumerate([lax.bessel_i0e, lax.bessel_i1e]):
        mean = np.mean(np.exp(x * (np.cos(t) - 1)) * np.cos(t) ** order)
        np.testing.assert_allclose(mean, bessel(x), rtol=1e-12)
    np.testing.assert_allclose(lax.igammac(3.0, x), np.exp(-x) * (1 + x + x * x / 2), rtol=1e-12)
    np.testing.assert_allclose(lax.igammac(0.5, x), lax.erfc(np.sqrt(x)), rtol=1e-12)


@METHODS
def test_a_solver_that_does_not_see_its_matrix_is_right_for_series_and_refused_on_circles(method):
    def f(x):
        return lax.custom_linear_solve(
            lambda y: (np.eye(3) + x) @ y, x[0], lambda _, b: jnp.linalg.solve(np.eye(3) + SQUARE, b)
        )

    if method == "cauchy":
        with pytest.raises(sl.UnsupportedPrimitive, match="does not see the matrix"):
            sl.taylor_coefficients(f, SQUARE, REAL, 3, method=method)
        return
    got = sl.taylor_coefficients(f, SQUARE, REAL, 3)
    expected = sl.taylor_coefficients(lambda x: jnp.linalg.solve(np.eye(3) + x, x[0]), SQUARE, REAL, 3)
    assert_same_coefficients(got, expected, rtol=1e-10)  # rounding
