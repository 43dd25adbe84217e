"""What a prediction leaves out: typical sizes along directions, and a deletion's own terms continued."""

import itertools
import math

import numpy as np
import pytest

from sketchlearn.deletions.directions import directions
from sketchlearn.prediction import sizes, truncation
from sketchlearn.prediction.calibration import CALIBRATION
from sketchlearn.prediction.interpolation import Interpolant


def draw(m, q, seed=0):
    re, im = directions(seed, np.arange(m), q)
    return np.asarray(re, float) + 1j * np.asarray(im, float)


def monomials(q, r):
    return np.array(
        [np.bincount(chosen, minlength=q) for chosen in itertools.combinations_with_replacement(range(q), r)]
    )


def values(powers, factors, z):
    """``Σ_a factors_a z^a`` at rows z."""
    return np.prod(z[:, None, :] ** powers, axis=2) @ factors


def test_the_typical_size_is_the_mean_square_over_polynomials_of_random_signs():
    q, r, rng = 4, 3, np.random.default_rng(0)
    powers = monomials(q, r)
    pure = powers.max(1) == r
    # a mixed monomial counts by its multinomial coefficient, as in |z|^2r
    ways = np.array([math.factorial(r) / np.prod([math.factorial(a) for a in p]) for p in powers])
    weights = np.where(pure, 2.0, 0.3 * np.sqrt(ways))
    z = rng.normal(size=(5, q))
    signs = rng.choice([-1.0, 1.0], size=(20000, len(powers)))
    brute = np.mean([values(powers, s * weights, z) ** 2 for s in signs], 0)
    typical = sizes.Sizes(np.array([[0.0], [0.0], [4.0]]), np.array([[0.0], [0.0], [0.09]]))
    # a mean of 20,000 squares of near normal numbers is known to a hundredth
    np.testing.assert_allclose(typical.at(z)[:, 2, 0] ** 2, brute, rtol=0.05)


@pytest.mark.parametrize(("q", "r"), [(5, 2), (4, 3), (3, 1), (1, 2)])
def test_directions_tell_the_mean_squares_of_pure_and_of_mixed_coefficients(q, r):
    rng, powers = np.random.default_rng(1), monomials(q, r)
    pure = powers.max(1) == r
    factors = np.where(pure, rng.normal(size=len(powers)), 0.5 * rng.normal(size=len(powers)))
    psi = draw(60000, q)
    c = np.zeros((60000, r, 1), complex)
    c[:, r - 1, 0] = values(powers, factors, psi)
    found = sizes.sizes_along(psi, c)
    own = np.mean(factors[pure] ** 2)
    # four per cent: what 60,000 directions leave of pure powers that are a small part of all
    assert found.pure[r - 1, 0] == pytest.approx(own, rel=0.04)
    # E|c|² of a monomial is a!(q-1)!/(q+r-1)!, and of (x·x)^r in all 1
    squares = np.array([np.prod([math.factorial(a) for a in p]) for p in powers]) * factors**2
    squares *= math.factorial(q - 1) / math.factorial(q + r - 1)
    rest = squares[~pure].sum() / (1 - q / math.comb(q + r - 1, r)) if r > 1 and q > 1 else 0.0
    assert found.mixed[r - 1, 0] == pytest.approx(rest, rel=0.05)  # a difference of two such estimates


def test_the_share_of_pure_powers_is_estimated_without_bias_from_few_directions():
    q, r, m = 6, 2, 8
    powers, rng = monomials(q, r), np.random.default_rng(2)
    factors = np.where(powers.max(1) == r, 1.0, 1.5) * rng.choice([-1.0, 1.0], size=len(powers))
    found = []
    for psi in draw(4000 * m, q).reshape(4000, m, q):
        c = np.zeros((m, r, 1), complex)
        c[:, 1, 0] = values(powers, factors, psi)
        x = (psi[:, :, None].conj() ** r * c[:, 1][:, None]).real  # (m, q, 1)
        pairs = (x.sum(0) ** 2 - (x**2).sum(0)).sum() / (m * (m - 1)) * math.comb(q + r - 1, r)
        alone = sizes.sizes_along(psi, c).pure[1, 0] * q / math.comb(q + r - 1, r)
        size = np.mean(np.abs(c[:, 1]) ** 2)
        assert alone == pytest.approx(np.clip(pairs, 0, size), rel=1e-9, abs=1e-12 * size)  # clipped, and nothing else
        found.append(pairs * math.comb(q + r - 1, r))
    # Σ_j b_j² = 6, within three standard errors of the mean of 4,000
    assert abs(np.mean(found) - q) < 3 * np.std(found) / math.sqrt(len(found))


def test_interactions_have_no_pure_powers_and_are_nothing_at_one_coordinate():
    psi = draw(50, 4)
    c = np.ones((50, 3, 2), complex)
    found = sizes.sizes_along(psi, c, interactions=True)
    assert (found.pure[1:] == 0).all()
    assert (found.pure[0] > 0).all()
    single = found.at(np.eye(4)[:1])
    assert (single[:, 1:] == 0).all()
    assert (found.at(np.ones((1, 4)))[:, 1:] > 0).all()


def test_fits_of_the_same_directions_leave_more_pure_powers_than_pairs_of_what_they_leave_say():
    # few directions for many coordinates: 60 for 120, and pure powers that are half of order two
    q, m, rng = 120, 60, np.random.default_rng(8)
    said_by_pairs, said, there = [], [], []
    for key in range(20):
        psi, own, mixed = draw(m, q, key), rng.normal(size=q), rng.normal(size=(q, q)) / math.sqrt(q)
        c = np.zeros((m, 2, 1), complex)
        c[:, 1, 0] = psi**2 @ own + np.einsum("ij,jk,ik->i", psi, mixed - np.diag(np.diag(mixed)), psi)
        fit = Interpolant(psi, 2, pure=0.5).fit(c[:, 1], np.eye(q))
        left = np.stack([c[:, 0], fit.residuals], 1)
        there.append(np.mean((own - fit.values[:, 0]) ** 2))
        said_by_pairs.append(sizes.sizes_along(psi, left).pure[1, 0])
        said.append(sizes.sizes_along(psi, c).pure[1, 0] * sizes.fraction_of(left, c)[1, 0] ** 2)
    assert np.mean(said_by_pairs) < 0.5 * np.mean(there)
    # pure powers are fitted a little better than the rest, so that their part of the size is a little too large
    assert np.mean(there) < np.mean(said) < 1.5 * np.mean(there)


def test_the_fraction_of_nothing_is_nothing():
    c = np.random.default_rng(9).normal(size=(30, 2, 1)) + 0j
    c[:, 1] = 0
    # to rounding of sums of 30 squares
    np.testing.assert_allclose(sizes.fraction_of(0.3 * c, c), [[0.3], [0.0]], rtol=1e-12)


def test_typical_sizes_grow_with_the_order_th_power_of_the_deletion_and_with_the_unit():
    psi = draw(30, 5)
    c = np.random.default_rng(3).normal(size=(30, 3, 2)) + 0j
    z = np.random.default_rng(4).normal(size=(2, 5))
    size = sizes.sizes_along(psi, c).at(z)
    twice = sizes.sizes_along(psi, 1e-6 * c).at(2 * z)
    # powers in float64
    np.testing.assert_allclose(twice, 1e-6 * size * 2.0 ** np.arange(1, 4)[:, None], rtol=1e-12)


def test_few_coordinates_or_nearly_all_are_unlike_directions():
    q = 400
    deleted = np.array([1, 2, 3, 12, 100, 400])
    z = (np.arange(q) < deleted[:, None]).astype(float)
    expected = np.sqrt(np.minimum(1, 3 / deleted + deleted / q))
    # sums of up to 400 numbers in float64
    np.testing.assert_allclose(truncation.unlike_directions(z, 3), expected, rtol=1e-12)
    np.testing.assert_allclose(truncation.unlike_directions(0.01 * z, 3), expected, rtol=1e-12)
    random = np.random.default_rng(5).choice([-1.0, 1.0], size=(50, q))
    assert (truncation.unlike_directions(random, 3) < 0.25).all(), "no sense in common"
    assert np.isfinite(truncation.unlike_directions(np.zeros((1, q)))).all()


def test_the_largest_of_a_deletions_own_terms_counts_and_sees_through_cancellation():
    terms = np.array([[1.0, 0.1, 0.09], [1e-6, 0.1, 0.01], [1.0, 0.5, 7.0]])[:, :, None]
    used = np.ones(terms.shape, bool)
    used[2, 2] = False
    missing, decays = truncation.continued(terms, used)
    assert missing[:, 0].tolist() == [1.0, 0.1, 1.0]
    assert decays.all()
    # the first order without cancellation, and bent to the half of it
    assert truncation.continued(terms, used, 0.5, np.full((3, 1), 4.0))[0][1, 0] == 2.0
    assert not truncation.continued(np.array([[[1.0], [2.0]]]), np.ones((1, 2, 1), bool))[1].any()


def left_out(sizes, z, lost=0.0, lowest=1, fraction=0.1, moved=0.0):
    """Truncation with own terms that say nothing, but for the first."""
    terms = np.zeros((len(z), len(sizes), 1))
    terms[:, 0] = moved
    sizes = np.tile(np.array(sizes, float)[None, :, None], (len(z), 1, 1))
    return truncation.truncation(
        terms, np.ones(terms.shape, bool), z, np.full(len(z), fraction), sizes, terms[:, 0], lost, lowest=lowest
    )[0][:, 0]


def test_typical_sizes_go_on_like_the_coefficients_of_a_logarithm():
    z, x = np.ones((1, 50)), 0.4
    sizes = [x**r / r for r in (1, 2, 3)]
    following = math.hypot(x**4 / 4, x**4 / 4 * 3 / 4 * x)  # the next as it is, the one after by the same ratio
    assert left_out(sizes, z)[0] == pytest.approx(CALIBRATION.deletion_excess * following, rel=1e-12)
    assert left_out(sizes, z, lost=np.full((1, 1), 7.0))[0] == pytest.approx(
        CALIBRATION.deletion_excess * math.sqrt(following**2 + 7), rel=1e-12
    )


def test_nothing_is_left_out_where_the_last_order_and_the_terms_are_nothing():
    assert left_out([1.0, 0.2, 0.0], np.ones((1, 9)))[0] == 0


def test_an_order_that_is_nothing_by_rounding_does_not_make_the_next_one_huge():
    z = np.ones((1, 9))
    assert left_out([1e-17, 1.0], z)[0] < 10
    assert left_out([0.0, 1.0], z)[0] < 10


def test_a_first_order_sketch_bends_with_the_root_of_the_fraction_and_one_coordinate_has_no_interactions():
    z = np.ones((1, 9))
    small, large = (left_out([1.0], z, fraction=f)[0] for f in (0.002, 0.2))
    assert large == pytest.approx(CALIBRATION.deletion_excess * math.hypot(1, 1), rel=1e-12)
    assert small == pytest.approx(CALIBRATION.deletion_excess * math.hypot(0.1, 0.01), rel=1e-12)
    assert left_out([1.0], np.eye(9)[:1], lowest=2)[0] == 0
    assert left_out([1.0], z, lowest=2)[0] > 0


def test_of_own_terms_continued_to_orders_that_are_known_in_part_only_the_rest_counts():
    z = np.ones((1, 4))  # few: its own terms count in full
    terms = np.array([1.0, 0.3])[None, :, None]
    used = np.array([True, False])[None, :, None]

    sizes = np.array([0.5, 0.4])[None, :, None]
    ratio = 0.4 / 0.5 * 4 / 3
    ahead = (0.4 * ratio) ** 2 * (1 + min(ratio, 1) ** 2)  # orders three and four
    assert truncation.unlike_directions(z)[0] == 1
    for known in (0.0, 0.5, 1.0):  # of order two
        missing = 0.4**2 * (1 - known) + ahead
        share = missing / (0.4**2 + ahead)
        expected = math.sqrt(CALIBRATION.deletion_excess**2 * missing + share)
        lost = np.full((1, 1), 0.4**2 * (1 - known))
        found = truncation.truncation(terms, used, z, np.ones(1), sizes, terms[:, 0], lost)[0][0, 0]
        assert found == pytest.approx(expected, rel=1e-12)


def test_truncation_does_not_depend_on_the_unit_of_the_query():
    terms, used, z = np.array([[0.3, 1.0]])[:, :, None], np.ones((1, 2, 1), bool), np.eye(3)[:1]
    one = truncation.truncation(terms, used, z, np.ones(1), terms, terms[:, 0])[0]
    for unit in (1e-6, 1e6):
        found = truncation.truncation(unit * terms, used, z, np.ones(1), unit * terms, unit * terms[:, 0])[0]
        assert found == pytest.approx(unit * one)


def test_a_deletion_that_moves_the_query_far_more_than_is_typical_is_judged_by_its_own_terms():
    z = (np.arange(1000) < 100)[None].astype(float)
    own = 1.0  # a first order of one
    bend, unlike = np.sqrt(0.1 / CALIBRATION.full_bend), truncation.unlike_directions(z)[0]
    for typical, counts in ((1.0, bend * unlike), (0.5, bend * unlike), (0.25, 1.0), (0.01, 1.0)):
        assert left_out([typical, 0.0], z, moved=1.0)[0] == pytest.approx(own * counts, rel=1e-12)
    between = left_out([0.4, 0.0], z, moved=1.0)[0]
    assert own * bend * unlike <= between < own
