"""The planner on learners whose terms, norms and noise are known, and what it recommends."""

import itertools
import math

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import pytest
from scipy.stats import chi2

import sketchlearn as sl
from sketchlearn.execution import units
from sketchlearn.planning import report
from sketchlearn.planning.pilot import Cost, rough_estimate, run_pilot
from sketchlearn.planning.plan import Row, _recommend, _typical
from sketchlearn.planning.variance import chi_square_factors, contribution_variance, is_exact
from sketchlearn.reference import bombieri_norm, homogeneous_terms
from sketchlearn.runtime import jax_compat, workers
from sketchlearn.runtime.seeds import subseed

pytestmark = pytest.mark.usefixtures("x64")

N = 8
RNG = np.random.default_rng(5)
G, H = RNG.normal(size=N), RNG.normal(size=(N, N)) / 3
H = H + H.T


def train(w):
    """Parameters whose query below is quadratic in the deletion: ``3 + g·x + x·Hx``."""
    x = 1 - w
    return {"a": 3 + x @ G, "b": H @ x, "x": x}


def query(p):
    return p["a"] + p["b"] @ p["x"]


def make(**changes):
    arguments = {"degree": 2, "num_directions": 64, "pilot": 8, "progress": False}
    return sl.plan(**{"train": train, "space": sl.Examples(N), "query": query, **arguments, **changes})


@pytest.fixture(scope="module")
def found():
    with jax.enable_x64(True):
        return make(degree=3)


# noise


def product(p, q):
    """The product of two polynomials, dicts from exponents to coefficients."""
    out = {}
    for a, x in p.items():
        for b, y in q.items():
            key = tuple(np.add(a, b))
            out[key] = out.get(key, 0) + x * y
    return out


def power(vector, order):
    """``(vector · x)^order``."""
    linear = {tuple(row): value for row, value in zip(np.eye(len(vector), dtype=int), vector, strict=True)}
    out = {(0,) * len(vector): 1.0}
    for _ in range(order):
        out = product(out, linear)
    return out


def squared_norm(p):
    return bombieri_norm(np.array(list(p)), np.array(list(p.values()))) ** 2


def value(p, x):
    return sum(c * np.prod(np.power(x, e), axis=-1) for e, c in p.items())


def exact_variance(p, z, order):
    """``K (||(z·)^r P||² + P(z)²) / 2 - P(z)²`` with the product multiplied out."""
    q = len(z)
    factor = math.comb(q + order - 1, order) ** 2 / math.comb(q + 2 * order - 1, 2 * order)
    at = value(p, z)
    return factor * (squared_norm(product(power(z, order), p)) + at**2) / 2 - at**2


def random_form(q, order, seed=0):
    exponents = homogeneous_terms(q, order)
    return dict(zip(map(tuple, exponents), np.random.default_rng(seed).normal(size=len(exponents)), strict=True))


def by_formula(p, z, order):
    return contribution_variance(len(z), order, z @ z, squared_norm(p), value(p, z))


@pytest.mark.parametrize("order", [1, 2])
def test_the_exact_variance_is_that_of_random_directions(order):
    q, m = 3, 100_000
    p, z = random_form(q, order), np.array([1.0, 1, 0])
    draw = np.random.default_rng(1)
    g = draw.normal(size=(m, q)) + 1j * draw.normal(size=(m, q))
    psi = g / np.linalg.norm(g, axis=1, keepdims=True)
    x = (math.comb(q + order - 1, order) * (psi.conj() @ z) ** order * value(p, psi)).real
    squares = (x - value(p, z)) ** 2
    assert abs(squares.mean() - exact_variance(p, z, order)) < 5 * squares.std() / math.sqrt(m)  # standard errors


def test_the_variance_formula_is_exact_at_order_one():
    for seed in range(3):
        p, z = random_form(5, 1, seed), np.array([1.0, 0, 1, 1, 0])
        assert by_formula(p, z, 1) == pytest.approx(exact_variance(p, z, 1), rel=1e-12)


@pytest.mark.parametrize("order", [2, 3])
def test_the_variance_formula_is_exact_for_what_is_aligned_and_for_what_is_unrelated(order):
    z = np.array([1.0, 1, 0, 0])
    for p in (power(-2 * z, order), power(np.array([0.0, 0, 1, 3]), order)):
        assert by_formula(p, z, order) == pytest.approx(exact_variance(p, z, order), rel=1e-12)


@pytest.mark.parametrize("order", [2, 3])
def test_the_variance_formula_is_never_above_the_exact_variance(order):
    for seed in range(10):
        p, z = random_form(3, order, seed), np.array([1.0, seed % 2, 0.5])
        assert 0 < by_formula(p, z, order) < exact_variance(p, z, order) * (1 + 1e-12)


def test_the_variance_is_zero_where_there_is_one_coordinate():
    assert contribution_variance(1, 3, 4.0, 9.0, 8 * 3.0) == 0  # P = 3 x³ at x = 2: nothing is left to chance


def test_intervals_are_those_of_chi_square():
    for count in (4, 8, 50):
        # Gaussian squares have CV² = 2, so that B of them have B degrees of freedom; their sample is given that CV
        squares = np.array([1 - math.sqrt(2 * (1 - 1 / count)), 1 + math.sqrt(2 * (1 - 1 / count))] * (count // 2))
        low, middle, high = chi_square_factors(squares, 0.1)
        assert middle == 1
        # Wilson and Hilferty's quantiles: 10% at 4 degrees of freedom, better above
        assert low == pytest.approx(count / chi2.ppf(0.975, count), rel=0.1)
        assert high == pytest.approx(count / chi2.ppf(0.025, count), rel=0.1)


def test_the_planned_variance_brackets_that_of_a_large_sketch(found):
    made = sl.sketch(train, sl.Examples(N), degree=2, num_directions=4000, seed=1, progress=False)
    deletions = _typical(sl.Examples(N), 8, 0)
    errors = made.predict(query, deletions.astype(bool), "mean").standard_errors
    actual = 4000 * (errors**2).mean(0)
    low, _, high = found.variances[:2].T
    assert (low < actual).all()  # 95% intervals; the seed is fixed
    assert (actual < high).all()


def test_the_planned_variance_of_order_one_is_the_closed_form():
    pilot = 400
    planned = make(degree=1, pilot=pilot, delete=[1, 4])
    z = np.zeros(N)
    z[[1, 4]] = 1
    exact = contribution_variance(N, 1, 2.0, G @ G, z @ G)
    # E|c|⁴ = 2 n/(n + 1) (E|c|²)² on the sphere: 400 squares know their mean to 5%, and the deviation of noise to half
    assert math.sqrt(planned.variances[0, 1]) == pytest.approx(math.sqrt(exact), rel=4 * 0.025)


# what is left out


def test_truncation_is_measured_and_zero_once_the_degree_suffices():
    asked = [[0], [1, 2], [3, 4, 5]]
    planned = make(degree=3, delete=asked)
    x = sl.Examples(N).locate(asked)
    second = np.einsum("bi,ij,bj->b", x, H, x)
    change = x @ G + second
    left = planned.truncations[:, 1]
    assert left[0] == pytest.approx((change**2).mean(), rel=1e-12)
    assert left[1] == pytest.approx((second**2).mean(), rel=1e-12)
    assert (left[2:] < 1e-25 * left[0]).all(), "squares of rounding"
    assert planned.change == pytest.approx(math.sqrt((change**2).mean()), rel=1e-12)
    np.testing.assert_array_equal(planned.truncations[:, 0], left)  # these deletions were asked for: no sampling
    np.testing.assert_array_equal(planned.truncations[:, 2], left)


def test_an_order_is_without_noise_where_the_equations_determine_it(found):
    for order, m in ((1, N // 2), (2, math.comb(N + 1, 2) // 2)):
        assert found.noise(m)[order - 1] == 0
        assert found.noise(m - 1)[order - 1] > 0
        made = sl.sketch(train, sl.Examples(N), degree=order, num_directions=m, progress=False)
        errors = made.predict(query, [0, 3], "kernel").standard_errors
        assert errors[order - 1] < 1e-10, "rounding, of a square system"


def test_fits_that_would_be_too_large_are_not_planned_for():
    assert is_exact(2000, 1, 1000)
    assert not is_exact(2000, 1, 999)
    assert is_exact(3000, 1, 3000), "of 6000 equations 4096 are taken"
    assert not is_exact(5000, 1, 5000), "more than 4096 are not solved"


# rows


def test_more_directions_never_have_larger_noise_nor_error(found):
    for k in (1, 2, 3):
        rows = [found.at(k, m) for m in range(2, 70)]
        for name in ("noise", "error"):
            values = [getattr(row, name) for row in rows]
            assert all(b <= a * (1 + 1e-12) for a, b in itertools.pairwise(values)), (k, name)


def test_noise_falls_like_one_over_the_root_of_the_directions():
    planned = make(space=sl.Examples(N), num_directions=3)
    np.testing.assert_allclose(planned.noise(2), planned.noise(3) * math.sqrt(3 / 2), rtol=1e-12)


def test_the_error_is_that_of_the_best_number_of_orders(found):
    for row in found.rows:
        each = [
            math.sqrt((found.noise(row.num_directions)[:j] ** 2).sum() + found.truncations[j, 1])
            for j in range(1, row.degree + 1)
        ]
        assert row.error == pytest.approx(min(each), rel=1e-12)
        assert row.orders == np.argmin(each) + 1
        assert row.error_low <= row.error <= row.error_high


def test_rows_cover_every_degree_and_the_numbers_from_which_an_order_is_exact(found):
    assert {row.degree for row in found.rows} == {1, 2, 3}
    assert sorted({row.num_directions for row in found.rows}) == [4, 8, 16, 18, 32, 60, 64]


def test_disk_is_what_a_sketch_holds(found):
    made = sl.sketch(train, sl.Examples(N), degree=2, num_directions=20, progress=False)
    held = sum(np.asarray(x).nbytes for x in jax.tree.leaves([made.parameters, made.coefficients]))
    row = found.at(2, 20)
    assert row.disk_bytes == held
    assert row.peak_bytes > held


def test_time_is_that_of_the_sketches_own_blocks(monkeypatch):
    cost = Cost(2, 10.0, 0.5, 0.75, 2, 100, 16, 1.0, 1, 1)
    monkeypatch.setattr(workers, "os", type("os", (), {"sched_getaffinity": staticmethod(lambda _: {0, 1})}))
    assert cost.seconds(40) == 10 + 0.75 * 40  # too few for two workers
    assert cost.seconds(140) == 10 + 0.5 * 4 * 48  # three blocks of 47, compiled for 48, in two rounds of two
    assert cost.seconds(200) == 10 + 0.5 * 4 * 52  # four of 50


def test_the_pilot_runs_directions_that_the_sketch_of_the_same_key_does_not():
    z = np.eye(N)[:2]
    seen = run_pilot(train, sl.Examples(N), query, z, 2, 5, 64, seed=3, progress=False)
    made = sl.sketch(train, sl.Examples(N), degree=2, num_directions=9, seed=3, progress=False)
    assert not np.isin(seen.coefficients[:, 0, 0].round(9), made.measure(query)[1][:, 0].round(9)).any()
    own = sl.sketch(train, sl.Examples(N), 2, 5, subseed("pilot directions", 3), progress=False)
    # the same directions in a block of another size, float64
    np.testing.assert_allclose(seen.coefficients[..., 0], own.measure(query)[1], rtol=1e-12)
    np.testing.assert_allclose(seen.terms[..., 0], np.stack([G[:2], np.diag(H)[:2]], 1), rtol=1e-12)
    assert all(cost.compile_seconds > 0 and cost.direction_seconds > 0 for cost in seen.costs)
    assert [cost.degree for cost in seen.costs] == [1, 2]


def test_a_pilot_larger_than_the_blocks_that_fit_is_run_in_several(monkeypatch):
    whole = run_pilot(train, sl.Examples(N), query, np.eye(N)[:2], 2, 5, 64, seed=3, progress=False)
    monkeypatch.setattr("sketchlearn.planning.pilot.estimated_block", lambda *_: 3)
    parts = run_pilot(train, sl.Examples(N), query, np.eye(N)[:2], 2, 5, 64, seed=3, progress=False)
    assert parts.costs[0].timed == 3
    np.testing.assert_allclose(parts.coefficients, whole.coefficients, rtol=1e-12)
    np.testing.assert_allclose(parts.terms, whole.terms, rtol=1e-12, atol=1e-15)


def test_a_query_with_several_outputs_is_planned_in_root_mean_square():
    one, other = make(delete=[2]), make(delete=[2], query=lambda p: 2 * query(p))
    both = make(delete=[2], query=lambda p: jnp.stack([query(p), 2 * query(p)]).reshape(2, 1))
    for name in ("variances", "truncations"):
        mean = (getattr(one, name)[:, 1] + getattr(other, name)[:, 1]) / 2
        np.testing.assert_allclose(getattr(both, name)[:, 1], mean, rtol=1e-12, atol=1e-28)


# typical deletions


def test_typical_deletions_are_different_twentieths_of_the_coordinates():
    z = _typical(sl.Examples(60), 8, 0)
    assert z.shape == (8, 60)
    assert (z.sum(1) == 3).all()
    assert len({tuple(row) for row in z}) == 8
    np.testing.assert_array_equal(z, _typical(sl.Examples(60), 8, 0))
    few = _typical(sl.Groups(list("aabbc")), 8, 0)
    np.testing.assert_array_equal(np.sort(few.argmax(1)), [0, 1, 2])


def test_coordinates_that_are_no_deletions_are_not_drawn():
    with pytest.raises(ValueError, match="pass delete="):
        _typical(sl.LinearMap([[1.0, -1.0], [0.0, 2.0]]), 8, 0)


def test_of_many_deletions_sixteen_are_run_and_that_is_said():
    planned = make(degree=1, delete=[[i, (i + d) % N] for i in range(N) for d in (1, 2, 3)], num_directions=8)
    assert any("16 of the 24 deletions" in text for text in planned.warnings)


# recommendations


def row(k, m, seconds, error):
    return Row(k, m, seconds, 0.0, 0, 0.0, 0.0, error, error, error, k)


USELESS = row(3, 10, 0.1, 0.5)._replace(orders=1)  # in which two of the orders are better left out


ROWS = (row(1, 10, 1.0, 0.5), row(1, 20, 2.0, 0.3), row(2, 10, 3.0, 0.31), row(2, 20, 6.0, 0.1), row(2, 40, 12.0, 0.09))


@pytest.mark.parametrize(
    ("seconds", "tolerance", "expected", "words"),
    [
        (2.5, None, ROWS[1], "the least expected error within 2.5 s"),
        (5.0, None, ROWS[1], "the least expected error within 5 s"),
        (0.5, None, None, "no sketch is made within 500 ms; the cheapest takes 1 s"),
        (None, 0.4, ROWS[1], "the cheapest that reaches 0.4"),
        (None, 0.1, ROWS[3], "the cheapest that reaches 0.1"),
        (None, 0.01, None, "no sketch reaches 0.01; the least expected error is 0.09"),
        (4.0, 0.1, None, "no sketch reaches 0.1 within 4 s; the least expected error is 0.3"),
        (6.0, 0.1, ROWS[3], "the cheapest that reaches 0.1 within 6 s"),
        (None, None, ROWS[3], "the cheapest within 25% of the least expected error"),
    ],
)
def test_the_recommendation_obeys_what_was_asked(seconds, tolerance, expected, words):
    assert _recommend((*ROWS, USELESS), seconds, tolerance) == (expected, words)


def test_a_plan_obeys_its_own_constraints():
    planned = make(tolerance=1e-9)  # only where both orders of the quadratic are exact
    assert (planned.recommended.degree, planned.recommended.num_directions) == (2, 18)
    assert make(degree=1, seconds=1e-9).recommended is None
    assert make(degree=1, seconds=1e9).recommended.error == pytest.approx(planned.at(1, 64).error, rel=1e-12)


# words and pictures


def test_the_text_shows_every_row_and_what_it_recommends(found):
    text = str(found)
    chosen = found.recommended
    assert f"Recommended: num_directions={chosen.num_directions}, degree={chosen.degree}, " in text
    lines = text.splitlines()
    table = [line for line in lines if line[1:].split()[:1] and line[1:].split()[0].isdigit()]
    assert len(table) == len(found.rows)
    (marked,) = [line for line in table if line.startswith(">")]
    assert marked[1:].split()[:2] == [str(chosen.degree), str(chosen.num_directions)]
    assert "Exact in this space of 8 coordinates: order 1 from 4 directions, order 2 from 18 directions" in text
    assert "order 3 to 7 coordinates" not in text, "in this space it is exact already"
    assert max(map(len, lines)) <= 120
    assert "Nothing to recommend: no sketch reaches 1e-30" in str(make(tolerance=1e-30, delete=[0], degree=1))


def test_the_advice_names_the_largest_spaces_in_which_an_order_is_exact():
    (text,) = report.advice(1000, 2, 100)
    assert "order 1 to 200 coordinates, order 2 to 19 coordinates" in text  # C(20, 2) = 190 <= 200 < C(21, 2)
    assert "order 1 from 500 directions" in text
    assert "order 2 from" not in text, "500,500 unknowns cannot be solved for"


def test_noise_that_hides_the_change_is_warned_about():
    planned = make(degree=1, num_directions=2, delete=[0, 1])
    assert any("no smaller than the change" in text for text in planned.warnings) == (
        planned.recommended.error >= planned.change
    )
    small = make(degree=1, num_directions=2, query=lambda p: p["x"] @ jnp.r_[1e-3, jnp.ones(N - 1)], delete=[0])
    assert any("no smaller than the change" in text for text in small.warnings)
    assert any("8 directions know the noise of order 1 to a factor of" in text for text in small.warnings)


def test_a_deletion_outside_the_radius_is_warned_about():
    # 1/(0.5 + x) at x = 1: from 2 to 0.67, of which the first order, -4, makes -2
    planned = make(train=lambda w: w, query=lambda w: 1 / (1.5 - w[0]), delete=[0], num_directions=8)
    assert any("order 1 makes the exact series worse" in text for text in planned.warnings)
    assert not any("outside its radius" in text for text in make(query=lambda p: p["a"]).warnings), "linear"


def test_the_memory_of_the_process_is_told_apart_from_that_of_the_arrays(monkeypatch):
    monkeypatch.setattr(report, "held_memory", lambda: 1.25e9)
    assert any("memory is that of arrays" in text and "hold 1.25 GB" in text for text in make(degree=1).warnings)


def test_a_sketch_that_does_not_fit_into_memory_is_warned_about(monkeypatch):
    monkeypatch.setattr(report, "free_memory", lambda: 1.0)
    assert any("need more memory than the 1 B that are free" in text for text in make(degree=1).warnings)


@pytest.mark.parametrize(
    ("number", "words"), [(5e-6, "5 µs"), (0.25, "250 ms"), (1.5, "1.5 s"), (600, "10 min"), (9000, "2.5 h")]
)
def test_durations_are_readable(number, words):
    assert units.duration(number) == words


def test_the_plot_draws_every_degree_and_marks_the_recommendation():
    planned = make(tolerance=0.1, seconds=1e9)
    axes = planned.plot()
    try:
        labels = axes.get_legend_handles_labels()[1]
        assert {"degree 1", "degree 2", "the change itself", "error asked for", "time there is"} <= set(labels)
        chosen = planned.recommended
        assert f"recommended: m = {chosen.num_directions}, k = {chosen.degree}" in labels
        (line,) = [line for line in axes.get_lines() if line.get_label() == "degree 1"]
        expected = [row.error for row in planned.rows if row.degree == 1]
        np.testing.assert_allclose(line.get_ydata(), expected, rtol=1e-12)
        figure, given = plt.subplots()
        assert planned.plot(given) is given
        plt.close(figure)
    finally:
        plt.close(axes.figure)


# estimates without a pilot


def test_the_rough_estimate_counts_what_a_sketch_keeps(found):
    rough = rough_estimate(train, sl.Examples(N), 2, 20)
    assert rough.disk_bytes == found.at(2, 20).disk_bytes
    assert 0 < rough.low_seconds < rough.high_seconds
    more = rough_estimate(train, sl.Examples(N), 100, 12, circles=True)
    assert more.disk_bytes == 0
    assert 0 < more.low_seconds < more.high_seconds


def test_a_backend_that_does_not_tell_its_memory_is_asked_no_more():
    assert jax_compat.working_bytes(object()) is None
    compiled = jax.jit(lambda x: x + 1).lower(jnp.ones(100)).compile()
    assert jax_compat.working_bytes(compiled) >= 800, "the argument alone is 800 bytes"


def test_without_the_backends_word_memory_is_estimated_from_the_program(monkeypatch):
    monkeypatch.setattr(jax_compat, "working_bytes", lambda compiled: None)
    seen = run_pilot(train, sl.Examples(N), query, np.eye(N)[:2], 1, 2, 8, seed=0, progress=False)
    program = jax_compat.trace(train, jnp.ones(N))
    assert seen.costs[0].working_bytes == 2 * jax_compat.peak_bytes(program.jaxpr)


# what is refused


BAD = {
    "pilot of one": ({"pilot": 1}, ValueError, "pilot must be at least 2, got 1"),
    "pilot no number": ({"pilot": 2.5}, TypeError, "pilot must be a whole number"),
    "degree": ({"degree": 0}, ValueError, "degree must be at least 1"),
    "directions": ({"num_directions": 1}, ValueError, "num_directions must be at least 2"),
    "seed": ({"seed": -1}, ValueError, "seed must be at least 0"),
    "seconds 0": ({"seconds": 0}, ValueError, "seconds must be positive and finite, got 0"),
    "seconds nan": ({"seconds": math.nan}, ValueError, "seconds must be positive and finite"),
    "seconds text": ({"seconds": "1"}, TypeError, "seconds must be a number, got '1' of type str"),
    "tolerance": ({"tolerance": -1.0}, ValueError, "tolerance must be positive and finite"),
    "space": ({"space": 3}, TypeError, "space must be Examples"),
    "train": ({"train": 3}, TypeError, "train must be a function of the weights"),
    "query": ({"query": 3}, TypeError, "query must be a function of the trained parameters"),
    "integer query": ({"query": lambda p: p["x"].argmax()}, TypeError, "which has no Taylor coefficients"),
    "kink": ({"query": lambda p: jnp.sqrt(p["x"][0])}, FloatingPointError, "is the query differentiable there"),
    "training diverges": (
        {"train": lambda w: jnp.log(w.sum() - 20), "query": lambda p: p},
        FloatingPointError,
        "training with nothing deleted gives NaN or infinity",
    ),
    "deletion diverges": (
        {"train": lambda w: jnp.log(w), "query": jnp.sum},
        FloatingPointError,
        "training without a typical deletion gives NaN or infinity",
    ),
    "delete": ({"delete": [N]}, IndexError, "delete names example 8"),
}


@pytest.mark.parametrize(("changes", "error", "message"), BAD.values(), ids=BAD)
def test_what_cannot_be_planned_is_refused_with_the_reason(changes, error, message):
    with pytest.raises(error, match=message):
        make(**changes)


def test_a_degree_that_the_pilot_did_not_run_is_not_planned(found):
    with pytest.raises(ValueError, match="the pilot ran degrees 1 to 3, so degree 4"):
        found.at(4, 10)


def test_progress_is_shown_only_when_asked(capsys):
    make(degree=1)
    assert capsys.readouterr().err == ""
    make(degree=1, progress=True)
    assert "pilot" in capsys.readouterr().err


def test_among_several_spaces_the_smaller_one_that_holds_the_deletions_is_recommended():
    labels = np.arange(12) // 3

    def train(w):
        return jnp.sum(w * jnp.arange(1.0, 13.0)) ** 2 / 100

    spaces = [sl.Examples(12), sl.Groups(labels)]
    masks = [labels == g for g in range(4)]
    options = {"degree": 2, "num_directions": 32, "pilot": 4, "progress": False}
    found = sl.plan(train, spaces, lambda p: p, masks, tolerance=1e-3, **options)
    # order two is determined by 5 directions in 4 groups, by 39 in 12 examples
    assert found.space is spaces[1]
    assert (found.recommended.degree, found.recommended.num_directions) == (2, 5)
    assert [other.space for other in found.others] == [spaces[0]]
    assert found.others[0].recommended is None
    text = " ".join(str(found).split())
    assert "Recommended: over Groups(4 groups of 12 examples), num_directions=5, degree=2, the cheapest" in text
    assert "of 2 spaces. It takes" in text
    assert "Over Examples(12): nothing to recommend." in text
    with pytest.raises(ValueError, match="deletions that all of them hold"):
        sl.plan(train, spaces, lambda p: p, **options)
