"""Random directions: the same ones again from their seed, and the two moments every estimator rests on."""

import math
from collections import Counter

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sketchlearn.deletions.directions import directions
from sketchlearn.reference import bombieri_norm, homogeneous_terms

SAMPLES = 200_000
SIGMAS = 5  # of the sample mean; the seeds are fixed, so a right formula that passes once always passes


def complex_directions(count, dim, seed=0):
    re, im = directions(seed, jnp.arange(count), dim)
    return np.asarray(re, float) + 1j * np.asarray(im, float)


def polynomial(num_variables, degree, seed):
    """Exponents and random coefficients of a homogeneous polynomial."""
    exponents = homogeneous_terms(num_variables, degree)
    return exponents, np.random.default_rng(seed).normal(size=len(exponents))


def values(exponents, coefficients, points):
    return np.prod(points[:, None, :] ** exponents, axis=-1) @ coefficients


def product_with_power(exponents, coefficients, x, r):
    """Exponents and coefficients of ``(x·ψ)^r P(ψ)``, multiplied out term by term."""
    terms = {tuple(map(int, e)): c for e, c in zip(exponents, coefficients, strict=True)}
    for _ in range(r):
        longer = Counter()
        for powers, c in terms.items():
            for i, xi in enumerate(x):
                longer[(*powers[:i], powers[i] + 1, *powers[i + 1 :])] += c * xi
        terms = longer
    return np.array(list(terms)), np.array(list(terms.values()))


def assert_mean_is(samples, expected):
    error = samples.std() / math.sqrt(len(samples))
    assert error < 0.05 * abs(expected) + 0.05, "too few samples for the test to mean anything"
    assert abs(samples.mean() - expected) < SIGMAS * error


def test_directions_have_norm_one():
    psi = complex_directions(50, 7)
    # the square root of a float32 sum of 14 squares is right to a few roundings of 6e-8
    np.testing.assert_allclose(np.linalg.norm(psi, axis=1), 1, rtol=3e-7)


def test_a_direction_depends_on_key_number_and_dimension_alone():
    whole = complex_directions(10, 4)
    for numbers in ([3], [9, 2, 3]):
        re, im = directions(0, jnp.array(numbers), 4)
        # XLA may order the sum of squares differently in a block of another size: some roundings of 6e-8
        np.testing.assert_allclose(np.asarray(re) + 1j * np.asarray(im), whole[numbers], rtol=0, atol=3e-7)
    assert len({complex(z) for z in np.concatenate([whole[:, 0], complex_directions(10, 4, seed=1)[:, 0]])}) == 20


def test_the_same_call_gives_the_same_bits_and_jit_only_other_roundings():
    first, again = complex_directions(4, 5, seed=3), complex_directions(4, 5, seed=3)
    np.testing.assert_array_equal(again, first)
    re, im = jax.jit(lambda numbers: directions(3, numbers, 5))(jnp.arange(4))
    np.testing.assert_allclose(np.asarray(re) + 1j * np.asarray(im), first, rtol=0, atol=3e-7)  # as above


def test_keys_of_32_bits_are_all_different():
    keys = [0, 1, 2**31 - 1, 2**31, 2**32 - 1]
    assert len({complex(complex_directions(1, 2, seed=key)[0, 0]) for key in keys}) == len(keys)


def test_float32_and_float64_see_the_same_directions():
    single = complex_directions(6, 5, seed=12)
    with jax.enable_x64(True):
        re, im = directions(12, jnp.arange(6), 5)
        assert re.dtype == jnp.float64
        double = np.asarray(re) + 1j * np.asarray(im)
        re, im = directions(12, jnp.arange(6), 5, jnp.float32)
        assert re.dtype == jnp.float32
        np.testing.assert_allclose(np.asarray(re) + 1j * np.asarray(im), single, rtol=0, atol=3e-7)
    # the Gaussians are equal to the bit; their norm is rounded to 6e-8, with a few operations
    np.testing.assert_allclose(single, double, rtol=0, atol=3e-7)
    assert np.abs(single - double).max() > 0, "in float64 the norm is better than float32"
    np.testing.assert_allclose(np.linalg.norm(double, axis=1), 1, rtol=1e-15)


@pytest.mark.parametrize("r", [1, 2, 3])
@pytest.mark.parametrize("n", [1, 2, 3])
def test_complex_directions_reproduce_a_homogeneous_polynomial(n, r):
    exponents, coefficients = polynomial(n, r, seed=10 * n + r)
    x = np.random.default_rng(n).normal(size=n)
    psi = complex_directions(SAMPLES, n)
    samples = math.comb(n + r - 1, r) * (psi.conj() @ x) ** r * values(exponents, coefficients, psi)
    truth = values(exponents, coefficients, x[None])[0]
    if n == 1:
        # nothing is left to chance in one dimension: <ψ,x>^r P(ψ) = |ψ|^2r P(x); float32 norms are right to 3e-7
        np.testing.assert_allclose(samples, truth, rtol=2 * r * 3e-7)
    else:
        assert_mean_is(samples.real, truth)
        assert abs(samples.imag.mean()) < SIGMAS * samples.imag.std() / math.sqrt(SAMPLES)


@pytest.mark.parametrize("r", [1, 2, 3])
@pytest.mark.parametrize("n", [2, 3])
def test_second_moments_are_bombieri_norms(n, r):
    exponents, coefficients = polynomial(n, r, seed=20 * n + r)
    x = np.random.default_rng(n).normal(size=n)
    psi = complex_directions(SAMPLES, n)
    p = values(exponents, coefficients, psi)
    count = math.comb(n + r - 1, r)
    norm = bombieri_norm(exponents, coefficients)
    assert_mean_is(np.abs(p) ** 2, norm**2 / count)

    product = bombieri_norm(*product_with_power(exponents, coefficients, x, r))
    second = count**2 / math.comb(n + 2 * r - 1, 2 * r) * product**2
    samples = np.abs(count * (psi.conj() @ x) ** r * p) ** 2
    assert_mean_is(samples / second, 1.0)
    # Bombieri's inequality, from both sides, bounds that moment
    size = np.linalg.norm(x) ** (2 * r) * norm**2
    ratio = count**2 / math.comb(n + 2 * r - 1, 2 * r)
    assert ratio / math.comb(2 * r, r) * size <= second <= ratio * size


def test_the_bombieri_norm_of_a_linear_power_is_the_power_of_its_norm():
    x = np.array([1.0, -2.0, 0.5])
    one = np.zeros((1, 3), int), np.ones(1)
    for r in (1, 2, 3, 4):
        got = bombieri_norm(*product_with_power(*one, x, r))
        assert got == pytest.approx(np.linalg.norm(x) ** r, rel=1e-14)  # a few dozen roundings


def test_real_directions_do_not_reproduce_a_quadratic():
    n, x = 3, np.array([1.0, 0.0, 0.0])
    h = np.diag([0.5, 2.0, -1.0])
    truth = x @ h @ x
    u = np.random.default_rng(0).normal(size=(SAMPLES, n))
    u /= np.linalg.norm(u, axis=1, keepdims=True)
    samples = math.comb(n + 1, 2) * (u @ x) ** 2 * np.einsum("mi,ij,mj->m", u, h, u)
    assert abs(samples.mean() - truth) > 20 * samples.std() / math.sqrt(SAMPLES)
    # E u_i u_j u_k u_l = (δ_ij δ_kl + δ_ik δ_jl + δ_il δ_jk) / (n (n + 2)) says by how much
    assert_mean_is(samples, math.comb(n + 1, 2) / (n * (n + 2)) * (x @ x * np.trace(h) + 2 * truth))
    psi = complex_directions(SAMPLES, n)
    assert_mean_is((math.comb(n + 1, 2) * (psi.conj() @ x) ** 2 * np.einsum("mi,ij,mj->m", psi, h, psi)).real, truth)
