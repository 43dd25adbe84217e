"""The evaluation against itself done by hand: scores, units, coverage, prices."""

import json
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import spearmanr

import sketchlearn as sl
from sketchlearn.evaluation.result import Evaluation
from sketchlearn.evaluation.storage import held_bytes
from sketchlearn.execution.timing import priced, union_length
from sketchlearn.prediction.result import Prediction

N = 8
EFFECTS = np.array([3.0, -1.0, 4.0, 1.5, -5.0, 9.0, 2.0, -6.0])
SPACE = sl.Examples(N)


def train(w):
    return w @ jnp.asarray(EFFECTS)


def query(p):
    return jnp.stack([p, -2 * p])


class Fixed:
    """Answers what it is told, with a given half-width."""

    def __init__(self, changes, error):
        self.changes, self.error = changes, error

    def predict(self, query, delete):
        x = np.atleast_2d(SPACE.locate(delete))
        rows = [np.flatnonzero(r)[0] for r in x]
        change = np.stack([self.changes[rows], -2 * self.changes[rows]], 1)
        baseline = np.array([EFFECTS.sum(), -2 * EFFECTS.sum()])
        none = np.zeros((len(x), 0, 2))
        error = np.full(change.shape, self.error)
        return Prediction(
            baseline + change, baseline, change, none, none, error, 0 * error, none.astype(bool), ("told",)
        )


def bank():
    return sl.RetrainBank(None, train, {}, SPACE)


SINGLE = {"single": np.eye(N, dtype=bool)}


def test_score_is_one_and_the_error_zero_for_a_linear_response():
    found = sl.evaluate({"gradient": sl.baselines.Metagradient(train, SPACE)}, bank(), query, SINGLE, resamples=20)
    (row,) = found.rows
    assert row["lds"] == row["lds_low"] == row["lds_high"] == 1.0
    assert row["rmse"] < 1e-5  # float32 sums of eight numbers below ten
    assert np.isnan(row["coverage"]), "a method without an interval has no coverage"
    assert np.isnan(row["precomputation"]), "it came ready made"


def test_every_score_is_what_it_is_by_hand():
    guess = -EFFECTS + np.array([0.5, -3, 1, 0, 2, 0, 7, -1])
    found = sl.evaluate({"told": Fixed(guess, 1.0)}, bank(), query, SINGLE, names=["a", "b"], resamples=200)
    (row,) = found.rows
    off = guess + EFFECTS
    assert row["lds"] == pytest.approx(spearmanr(guess, -EFFECTS).statistic)
    assert row["lds_low"] <= row["lds"] <= row["lds_high"]
    assert row["rmse"] == pytest.approx(np.sqrt((off**2).mean() * (1 + 4) / 2), rel=1e-5)  # two outputs, float32
    assert row["relative_error"] == pytest.approx(np.sqrt((off**2).mean() / (EFFECTS**2).mean()), rel=1e-5)
    inside = np.concatenate([np.abs(off) <= 1.96, np.abs(2 * off) <= 1.96])
    assert row["coverage"] == inside.mean()
    assert [r["query"] for r in found.per_query] == ["a", "b"]
    assert found.per_query[1]["rmse"] == pytest.approx(2 * found.per_query[0]["rmse"], rel=1e-5)
    assert found.warnings == {"told": ["told"]}


def test_the_relative_error_has_an_interval_that_resampling_deletions_gives():
    guess = -EFFECTS + np.array([0.5, -3, 1, 0, 2, 0, 7, -1])
    (row,) = sl.evaluate({"told": Fixed(guess, 1.0)}, bank(), query, SINGLE, resamples=4000).rows
    draws = np.random.default_rng(5).integers(0, N, (4000, N))
    again = np.sqrt(((guess + EFFECTS) ** 2)[draws].mean(1) / (EFFECTS**2)[draws].mean(1))
    ends = np.quantile(again, [0.025, 0.975])
    # another 4000 draws move a quantile by some per cent
    np.testing.assert_allclose([row["relative_error_low"], row["relative_error_high"]], ends, rtol=0.1)
    assert row["relative_error_low"] < row["relative_error"] < row["relative_error_high"]


def test_what_a_method_keeps_is_counted_once_in_sets_of_parameters():
    sums = sl.baselines.CoordinateSums(bank())
    methods = {"retraining": bank(), "sums": sums, "told": lambda: Fixed(np.zeros(N), 1.0)}
    rows = {row["method"]: row for row in sl.evaluate(methods, bank(), query, SINGLE, resamples=10).rows}
    assert rows["retraining"]["storage"] == 1  # one float32 number is all that training gives
    assert rows["told"]["storage"] == 8 * N / 4  # float64
    assert rows["sums"]["storage"] >= 1 + N
    shared = np.zeros(3)
    assert held_bytes([shared, {"a": shared, "b": (shared[:1],)}, lambda: shared]) == 24 + 8


def test_the_front_holds_what_no_other_beats_in_error_and_cost():
    def row(method, error, precomputation, answer=1.0, storage=1.0):
        return {
            "method": method, "deletions": "some", "relative_error": error, "precomputation": precomputation,
            "per_query": answer / 2, "per_deletion": answer / 2, "storage": storage,
        }  # fmt: skip

    rows = [row("dear", 0.1, 100), row("worse", 0.5, 100, 0.1), row("cheap", 0.3, 1), row("useless", 0.9, 50, 2.0)]
    rows += [row("exact", 0.0, float("nan"), 50.0)]
    found = Evaluation(rows, [], 1.0, {})
    assert found.front("some") == ["exact"]  # it came ready made
    assert found.front("some", "answer") == ["worse", "dear", "exact"]
    assert found.front("some", among=["cheap", "dear", "worse", "useless"]) == ["cheap", "dear"]
    # price = precomputation + queries + deletions, half an answer each
    assert found.cheapest("some", 0.3, queries=10, count=4) == [("cheap", 8.0), ("dear", 107.0), ("exact", 350.0)]
    assert found.cheapest("some", 0.3, 10, 4, ["dear"]) == [("dear", 107.0)]
    assert found.cheapest("some", -1.0, 1, 1) == []
    with pytest.raises(ValueError, match=r"there is no method 'best': \['cheap', 'dear', 'exact', 'useless', 'worse'"):
        found.cheapest("some", 1.0, 1, 1, ["best"])
    with pytest.raises(ValueError, match="cost must be one of 'precomputation', 'storage', 'answer', got 'time'"):
        found.front("some", "time")
    with pytest.raises(ValueError, match=r"no set of deletions is called 'other': \['some'\]"):
        found.front("other")


def test_retraining_is_right_covered_and_costs_by_the_deletion():
    truth = bank()
    found = sl.evaluate({"retraining": truth}, truth, query, SINGLE, resamples=10)
    (row,) = found.rows
    assert (row["lds"], row["rmse"], row["coverage"]) == (1.0, 0.0, 1.0)
    assert row["per_deletion"] > 0
    assert "| retraining | single | 8 | 0 | 1.000 | 1.000 | 1.000 | 0 |" in found.table()
    assert found.to_dict()["rows"][0]["precomputation"] is None
    again = Evaluation.from_dict(json.loads(json.dumps(found.to_dict())))
    assert again.table() == found.table()
    assert again.per_query == found.per_query
    assert again.warnings == found.warnings


def test_what_making_costs_is_precomputation_and_what_asking_costs_is_not():
    class Slow(Fixed):
        def predict(self, query, delete):
            time.sleep(0.02)
            return super().predict(query, delete)

    def make():
        time.sleep(0.2)
        return Slow(-EFFECTS, 0.0)

    found = sl.evaluate({"slow": make}, bank(), query, SINGLE, resamples=10)
    (row,) = found.rows
    # sleeping may take longer, never shorter; the two differ by a factor of ten
    assert row["precomputation"] * found.plain_seconds >= 0.2
    assert row["precomputation"] > 3 * row["per_query"]


def test_compiling_is_not_part_of_the_price():
    def f(x):
        for _ in range(60):
            x = jnp.sin(x) @ x
        return x

    x = jnp.ones((20, 20))
    _, cold = priced(lambda: jax.jit(f)(x))
    assert cold.compiling > 0
    assert cold.running < cold.compiling, "sixty small products take no time beside their compilation"
    assert union_length([(3, 4), (0, 1), (0.5, 0.7)]) == 2


def test_a_method_that_was_made_from_test_deletions_is_flagged():
    sets = {**SINGLE, "pairs": [[0, 1], [2, 3], [4, 5], [6, 7]]}
    methods = {
        "sums": lambda: sl.baselines.CoordinateSums(bank()),
        "pair sums": lambda: sl.baselines.CoordinateSums(bank(), order=2),
        "additive": sl.sketch(train, SPACE, 2, 8, additive=True, progress=False),
        "gradient": sl.baselines.Metagradient(train, SPACE),
    }
    found = sl.evaluate(methods, bank(), query, sets, resamples=5)
    seen = {(r["method"], r["deletions"]): r["seen"] for r in found.rows}
    assert [seen[m, "single"] for m in methods] == [8, 8, 8, 0]
    assert [seen[m, "pairs"] for m in methods] == [0, 4, 0, 0]
    (text,) = [w for w in found.warnings["sums"] if "no prediction" in w]
    assert text == "made from the retrained values of 8 of the 8 deletions of 'single': for these it is no prediction."
    assert not [w for w in found.warnings["gradient"] if "no prediction" in w]


def test_random_deletions_have_their_size_and_their_seed():
    x = sl.random_deletions(1000, 0.001, 5, seed=3)
    assert x.sum(1).tolist() == [1] * 5
    assert (x == sl.random_deletions(1000, 0.001, 5, seed=3)).all()
    assert (x != sl.random_deletions(1000, 0.001, 5, seed=4)).any()
    assert len({r.tobytes() for r in sl.random_deletions(100, 0.5, 20)}) == 20


def test_a_method_is_asked_for_its_sets_only():
    sets = {**SINGLE, "pairs": [[0, 1], [2, 3], [4, 5], [6, 7]]}
    methods = {"a": sl.baselines.Metagradient(train, SPACE), "b": Fixed(-EFFECTS, 0.0)}
    found = sl.evaluate(methods, bank(), query, sets, only={"b": ["single"]}, resamples=5)
    assert [(r["method"], r["deletions"], r["count"]) for r in found.rows] == [
        ("a", "single", 8), ("a", "pairs", 4), ("b", "single", 8),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"methods": {}}, ValueError, "at least one method"),
        ({"methods": [Fixed(-EFFECTS, 0.0)]}, TypeError, "methods must be a dict from names, got list"),
        ({"deletions": [[0]]}, TypeError, "deletions must be a dict"),
        ({"bank": 3}, TypeError, "bank must be a RetrainBank"),
        ({"methods": {"a": lambda: 3}}, TypeError, "no predict"),
        ({"names": ["a"]}, ValueError, "2 outputs, but 1 names"),
        ({"only": {"x": ["single"]}}, ValueError, "neither methods nor sets"),
        ({"level": 95}, ValueError, "level"),
    ],
)
def test_what_cannot_be_evaluated_is_refused(arguments, error, message):
    given = {"methods": {"a": Fixed(-EFFECTS, 0.0)}, "bank": bank(), "query": query, "deletions": SINGLE}
    with pytest.raises(error, match=message):
        sl.evaluate(**{**given, **arguments})
