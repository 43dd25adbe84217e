"""The stored run on many names: whole, derived again in part, and what the book and the README say of it."""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sketchlearn.experiments import many_examples
from sketchlearn.experiments.reach import kinds_of_names

STORED = many_examples.stored()
SETS = ("letters", "pairs", "endings", "beginnings", "random 1%", "random 10%")


def error(method, label):
    (row,) = [row for row in STORED["rows"] if (row["method"], row["deletions"]) == (method, label)]
    return row["relative_error"]


def test_features_are_independent_and_end_where_nothing_new_comes():
    names = ["anna", "ivan", "nina", "ida"]
    kinds = [(kind, letter) for kind in ("contains", "begins with", "ends with") for letter in "aindv"]
    found = many_examples.independent(kinds, names, 10)
    columns = kinds_of_names(names, kinds).T.astype(float)
    assert len(found) == np.linalg.matrix_rank(columns)
    assert np.linalg.matrix_rank(kinds_of_names(names, found)) == len(found)
    assert found[:2] == [("contains", "a"), ("contains", "i")]
    assert many_examples.independent(kinds, names, 2) == found[:2]


def test_every_method_and_set_is_stored_with_its_settings():
    assert STORED["settings"] == many_examples.SETTINGS[False]
    methods = list(STORED["first"])
    assert [(row["method"], row["deletions"]) for row in STORED["rows"]] == [(m, s) for m in methods for s in SETS]
    assert tuple(STORED["sets"]) == SETS
    assert {row["seen"] for row in STORED["rows"] if row["method"] != "sums over features"} == {0}
    assert error("sums over features", "letters") < 1e-6  # that was retrained
    for name, orders in STORED["orders"].items():
        assert name in methods
        assert tuple(orders) == SETS


#: What each line of the README's table of many examples is about, in order, and the method that it means.
ADVICE = (
    ("retrain each", "retraining"),
    ("the gradient:", "metagradient"),
    ("gradient and curvature", "curvature"),
    ("a tenth of each of 128 features", "slopes of features"),
    ("of each of 512 features", "slopes of more features"),
    ("a sketch of the 128 features", "sketch of features"),
    ("a sketch of the names", "sketch"),
    ("a regression", "datamodels, 10% deleted"),
)


def test_the_readme_s_table_has_the_stored_numbers():
    text = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
    heading = next(line for line in text.splitlines() if "error, pairs" in line)
    lines = text[text.index(heading) :].split("\n\n")[0].splitlines()[2:]
    rows = {(row["method"], row["deletions"]): row for row in STORED["rows"]}
    for (key, method), line in zip(ADVICE, lines, strict=True):
        assert key in line
        row = rows[method, "pairs"]
        expected = [row["precomputation"], row["per_query"], row["per_deletion"]]
        expected += [error(method, label) for label in ("pairs", "endings", "random 1%")]
        for cell, value in zip(line.split("|")[-7:-1], expected, strict=True):
            assert_shown(cell.strip().replace(",", ""), value)


def assert_shown(cell, value):
    """A cell is a number rounded, to three digits where it has more; prices below 0.001 are 0."""
    decimals = len(cell.partition(".")[2])
    step = 10.0**-decimals if decimals else max(10.0 ** (len(cell) - 3), 1e-3 if cell == "0" else 1.0)
    assert abs(float(cell) - value) <= 0.5001 * step * (2 if cell == "0" else 1), (cell, value)


def test_no_sketch_pays_on_many_examples():
    """What README, chapter 11 and the limits say."""
    once = {row["method"]: row["precomputation"] for row in STORED["rows"]}
    for label in SETS[1:5]:
        slopes, more, gradient = (
            error(m, label) for m in ("slopes of features", "slopes of more features", "metagradient")
        )
        assert error("sketch of features", label) > 0.98 * slopes  # no better, to a fiftieth
        assert more < error("sketch of features", label)
        assert gradient < min(error("sketch", label), error("sketch of features", label))
        assert error("sketch, first order by gradient", label) > 0.99 * gradient
    assert once["sketch of features"] > 9 * once["slopes of features"]
    assert once["sketch of features"] > 2 * once["slopes of more features"]


def test_the_first_deletions_are_derived_again():
    made = many_examples.world({**many_examples.SETTINGS[False], "features": 1, "more_features": 1})
    recipe, query = made.work.recipe, made.query
    ones = jnp.ones(made.work.recipe.num_examples, jnp.float32)
    changed = jax.jit(lambda w: query(recipe(w)))
    along = jax.jit(lambda x: jax.jvp(changed, (ones,), (-x,))[1])
    for label in ("letters", "random 10%"):
        x = jnp.asarray(made.deletions[label][0], jnp.float32)
        change, first = changed(1 - x) - changed(ones), along(x)
        # float32: another processor rounds differently, and the changes are a hundredth of the losses
        size = np.abs(STORED["first"]["retraining"][label]).max()
        np.testing.assert_allclose(change, STORED["first"]["retraining"][label], atol=5e-3 * size)
        np.testing.assert_allclose(first, STORED["first"]["metagradient"][label], atol=5e-3 * size)
        assert STORED["sets"][label]["count"] == len(made.deletions[label])
        assert STORED["sets"][label]["mean_names"] == pytest.approx(made.deletions[label].sum(1).mean(), rel=1e-5)


def test_a_tiny_run_goes_on_where_it_was_stopped(tmp_path):
    some = ["retraining", "slopes of features", "sketch of features"]
    found = many_examples.many(tmp_path, quick=True, only=some[:2], progress=False)
    marked = json.loads((tmp_path / "retraining.json").read_text())
    marked["report"]["warnings"]["retraining"] = ["kept"]
    (tmp_path / "retraining.json").write_text(json.dumps(marked))
    found = many_examples.many(tmp_path, quick=True, only=some, progress=False)
    assert found["warnings"]["retraining"] == ["kept"]
    assert sorted(found["first"]) == sorted(some)
    quick = many_examples.SETTINGS[True]
    row = {r["method"]: r for r in found["rows"] if r["deletions"] == "letters"}
    unit = row["retraining"]["per_deletion"]
    assert row["slopes of features"]["precomputation"] == pytest.approx(quick["features"] * unit)
    assert row["sketch of features"]["precomputation"] == pytest.approx(quick["features"] * found["direction"])
    # order one is exact in the span, and two orders beat a first order along letters
    assert row["sketch of features"]["relative_error"] < row["slopes of features"]["relative_error"] < 1
