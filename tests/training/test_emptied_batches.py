"""Batches that a deletion empties, where a weighted mean has no series."""

import jax
import numpy as np
import optax
import pytest
from support.runs import N, recipe

import sketchlearn as sl

pytestmark = pytest.mark.usefixtures("x64", "quick_compilation")

START = np.random.default_rng(4).normal(size=3)
PAIRS = np.array([[0, 1], [2, 3], [4, 0]])
SINGLES = np.arange(N)[:, None]
SPACE = sl.Examples(N)


def run_of(batches, reduction="weighted mean"):
    return recipe(lambda p, x: x @ p, optax.sgd(0.1), batches=batches, initial=START, reduction=reduction)


def norm(p):
    return (p**2).sum()


def sketched(batches, space=SPACE, reduction="weighted mean", **options):
    return sl.sketch(run_of(batches, reduction), space, 1, 4, progress=False, **options)


REFUSED = {
    "one example a batch": (SINGLES, SPACE, "batch 0 holds nothing but example 0 .5 of 5 batches"),
    "a last batch of one": (np.array([[0, 1], [2, 3], [4, -1]]), SPACE, "batch 2 holds nothing but example 4,"),
    "one example twice": (np.array([[0, 1], [3, 3]]), SPACE, "batch 1 holds nothing but example 3,"),
    "one group a batch": (PAIRS, sl.Groups(list("abccd")), "batch 1 holds nothing but group 'c'"),
    "one candidate": (np.array([[0, 1], [2, -1], [3, 4]]), sl.Candidates([2, 3], N), "batch 1 .* example 2,"),
    "weighted alike": (PAIRS, sl.LinearMap([[1, 0], [0, 1], [0.5, 0.5], [0.5, 0.5], [0, 1]]), "example 2 and .* 3"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_a_batch_that_one_coordinate_empties_is_refused_by_name(name):
    batches, space, pattern = REFUSED[name]
    with pytest.raises(ValueError, match=pattern) as error:
        sketched(batches, space)
    assert 'reduction="mean"' in str(error.value)
    for reduction in ("mean", "sum"):
        assert sketched(batches, space, reduction).batches is None


@pytest.mark.parametrize(
    ("batches", "space"),
    [
        (PAIRS, SPACE),
        (PAIRS, sl.Groups(list("abcab"))),
        (PAIRS, sl.Candidates([0, 1], N)),  # together they are a batch, none of them by itself
        (np.array([[0, 1], [2, -1]]), sl.Candidates([0, 1], N)),  # the batch of one is not to be deleted
        (PAIRS, sl.LinearMap([[1, 0], [0, 1], [0.5, 0.5], [0.5, 0.4], [0, 1]])),
    ],
)
def test_batches_that_no_coordinate_empties_are_sketched(batches, space):
    assert np.isfinite(sketched(batches, space).coefficients).all()


def test_the_series_is_blind_where_retraining_moves():
    run = run_of(SINGLES)
    along = jax.jacobian(lambda w: norm(run(w)))(np.ones(N))
    np.testing.assert_allclose(along, 0, atol=1e-12)  # w l / w
    values = sl.retrain(run, np.stack([np.ones(N), 1 - np.eye(N)[0]]), norm)
    assert abs(values[1] - values[0]) > 1e-3


BLIND = {
    "gradient": lambda run: sl.gradient(run, norm, SPACE),
    "gradient of a jitted run": lambda run: sl.gradient(jax.jit(run), norm, SPACE),
    "gradient of a method": lambda run: sl.gradient(run.train_checkpointed, norm, SPACE),
    "plan": lambda run: sl.plan(run, SPACE, norm, progress=False),
    "stability": lambda run: sl.stability_profile(run, norm, 2, 2, progress=False),
    "Metagradient": lambda run: sl.baselines.Metagradient(run, SPACE),
    "ForwardFirstOrder": lambda run: sl.baselines.ForwardFirstOrder(run, SPACE),
}


@pytest.mark.parametrize("name", BLIND)
def test_whatever_takes_derivatives_refuses_batches_of_one_example(name):
    with pytest.raises(ValueError, match="batch 0 holds nothing but example 0"):
        BLIND[name](run_of(SINGLES))


@pytest.mark.parametrize("stored", [False, True], ids=["in memory", "stored"])
def test_a_deletion_that_empties_a_batch_is_unknown_and_the_batch_is_named(tmp_path, stored):
    made = sketched(np.array([[0, 1, -1], [2, 3, 4], [0, 1, 4]]), store=tmp_path / "s" if stored else None)
    made = sl.open_sketch(tmp_path / "s") if stored else made
    found = made.predict(norm, [[0], [0, 1], [2, 3], [2, 3, 4]])
    np.testing.assert_array_equal(np.isnan(found.standard_error), [False, True, False, True])
    np.testing.assert_array_equal(np.isnan(found.interval()[0]), [False, True, False, True])
    assert "2 of 4 deletions leave nothing of a batch (batches 0, 1)" in found.warnings[-1]
    assert not any("nothing of a batch" in text for text in made.predict(norm, [0, 2, 3]).warnings)


def test_groups_that_empty_a_batch_together_are_noticed():
    made = sketched(PAIRS, sl.Groups(list("abcab")), centre=0.1)
    found = made.predict(lambda p: p, [["a"], ["a", "b"]])
    assert np.isfinite(found.standard_error[0]).all()
    assert np.isnan(found.standard_error[1]).all()
    assert "(batches 0, 2)" in found.warnings[-1]


def test_a_recipe_that_divides_by_places_has_no_batches_to_watch():
    found = sketched(PAIRS, reduction="mean").predict(norm, [0, 1])
    assert np.isfinite(found.standard_error)


def test_a_check_reports_batches_that_a_deletion_empties():
    run = run_of(np.array([[0, 1], [2, -1]]))
    (finding,) = (f for f in sl.check(run).findings if f.kind == "emptied batch")
    assert finding.blocking
    assert "batch 1 holds nothing but example 2" in finding.message
    pool = sl.check(run, space=sl.Candidates([0, 1], N), degree=1, num_directions=1)
    assert "emptied batch" not in {f.kind for f in pool.findings}
    assert pool.ok
    with pytest.raises(ValueError, match=r"must be of 5 examples, .* got Examples\(4\)"):
        sl.check(run, space=sl.Examples(4))
    with pytest.raises(TypeError, match="space must be"):
        sl.check(run, space=4)
