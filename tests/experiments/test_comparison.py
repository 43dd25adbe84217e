"""The stored comparison: what is in the repository is what the code gives."""

import json
from pathlib import Path

import jax
import matplotlib.pyplot as plt
import numpy as np
import pytest

from sketchlearn.cli import main
from sketchlearn.evaluation.result import COSTS, Evaluation
from sketchlearn.experiments import comparison

STORED = json.loads((Path(__file__).parents[2] / "benchmarks" / "comparison_quick.json").read_text(encoding="utf-8"))
METHODS = ("sketch of groups", "metagradient", "Newton step", "leave-one-out sums")


@pytest.fixture(scope="module")
def again():
    with jax.enable_x64(True):
        return comparison.compare("ridge", quick=True, only=METHODS, progress=False)


def test_the_stored_ridge_rows_are_derived_again(again):
    stored = {(r["method"], r["deletions"]): r for r in STORED["worlds"]["ridge"]["rows"]}
    assert again["settings"] == STORED["worlds"]["ridge"]["settings"]
    assert {r["method"] for r in again["rows"]} == set(METHODS)
    for row in again["rows"]:
        known = stored[row["method"], row["deletions"]]
        # eight digits are stored; the sketch solves least squares, whose rounding another machine may amplify
        assert row["rmse"] == pytest.approx(known["rmse"], rel=1e-5, abs=1e-12)
        assert (row["count"], row["share"]) == (known["count"], pytest.approx(known["share"]))
        # equal ranks to rounding may change places: two of eight deletions move the score by a hundredth
        assert row["lds"] == pytest.approx(known["lds"], abs=0.02)


def test_newton_s_step_is_exact_on_ridge_to_ten_digits(again):
    assert all(r["relative_error"] < 1e-10 for r in again["rows"] if r["method"] == "Newton step")


def test_crossover_is_where_the_two_lines_of_cost_meet(again):
    rows = {(r["method"], r["deletions"]): r for r in again["rows"]}
    found = again["crossover"]["sketch of groups"]
    a, b = (next(r for r in again["rows"] if r["method"] == m) for m in ("sketch of groups", "metagradient"))
    if a["per_query"] < b["per_query"]:
        q = found["cheaper_from_queries"]
        totals = [r["precomputation"] + q * r["per_query"] for r in (a, b)]
        assert totals[0] == pytest.approx(totals[1])
    else:
        assert found["cheaper_from_queries"] is None
    for label, ratio in found["rmse_ratio"].items():
        assert ratio == rows["sketch of groups", label]["rmse"] / rows["metagradient", label]["rmse"]
        assert (ratio < 0.99) == (label in found["errs_less_on"])


def test_the_stored_worlds_are_the_three_with_every_row_priced():
    assert set(STORED["worlds"]) == set(comparison.SETTINGS)
    for world, report in STORED["worlds"].items():
        assert report["settings"]["world"] == world
        for row in report["rows"]:
            assert row["per_query"] >= 0
            assert row["per_deletion"] >= 0
            assert (row["precomputation"] is None) == (row["method"] == "retraining")


def test_the_command_prints_the_table_and_writes_the_picture(capsys, tmp_path, monkeypatch):
    report = {k: v for k, v in STORED["worlds"]["digits"].items()}
    monkeypatch.setattr(comparison, "compare", lambda *a, **k: report)
    before = plt.get_backend()
    try:
        assert main.main(["compare", "digits", "--quick", "--out", str(tmp_path)]) == 0
    finally:
        plt.close("all")
        plt.switch_backend(before)
    out = capsys.readouterr().out
    assert "| method | deletions | count | seen | LDS | LDS from | LDS to | RMSE |" in out
    assert "sketch of groups against the metagradient" in out
    assert json.loads((tmp_path / "compare.json").read_text(encoding="utf-8"))["worlds"]["digits"] == report
    assert np.std(plt.imread(tmp_path / "compare.png")[..., :3]) > 0.01


def test_worlds_and_methods_that_do_not_exist_are_named(capsys):
    assert main.main(["compare", "mars"]) == 1
    assert "worlds are ridge, digits, microgpt, got 'mars'" in capsys.readouterr().err
    with pytest.raises(ValueError, match="there is no method 'magic' on ridge"):
        comparison.compare("ridge", quick=True, only=["magic"], progress=False)
    with pytest.raises(ValueError, match="world must be one of"):
        comparison.compare("mars")


def test_the_full_run_comes_with_the_package_and_its_crossovers_follow_from_its_rows():
    full = comparison.stored()
    assert set(full) == set(comparison.SETTINGS)
    for world, report in full.items():
        expected = comparison.SETTINGS[world][False]
        assert {k: report["settings"][k] for k in expected} == expected
        rows = {(r["method"], r["deletions"]): r for r in report["rows"]}
        for name, found in report["crossover"].items():
            for label, ratio in found["rmse_ratio"].items():
                assert ratio == pytest.approx(rows[name, label]["rmse"] / rows["metagradient", label]["rmse"], rel=1e-6)
        for name, ratios in report["over_sums"].items():
            for label, ratio in ratios.items():
                known = rows[name, label]["rmse"] / rows["sums over groups", label]["rmse"]
                assert ratio == pytest.approx(known, rel=1e-6)  # eight digits are stored


def test_cells_of_the_full_run_have_a_hundred_subsets_and_none_was_seen_by_a_method_that_was_fitted():
    for report in comparison.stored().values():
        for row in report["rows"]:
            assert row["count"] >= 100
            if row["method"] not in ("additive sketch of groups", "sums over groups", "sums over groups and pairs"):
                assert row["seen"] == 0 or "leave-one-out sums" in row["method"]
            assert row["lds_low"] <= row["lds"] <= row["lds_high"]


def test_a_part_of_the_full_run_is_derived_again():
    with jax.enable_x64(True):
        again = comparison.compare("ridge", only=["metagradient", "Newton step"], progress=False)
    full = {(r["method"], r["deletions"]): r for r in comparison.stored()["ridge"]["rows"]}
    assert again["rows"]
    for row in again["rows"]:
        known = full[row["method"], row["deletions"]]
        assert row["rmse"] == pytest.approx(known["rmse"], rel=1e-6, abs=1e-12)  # eight digits are stored


@pytest.mark.parametrize("world", comparison.SETTINGS)
def test_for_every_sketch_something_else_is_more_accurate_and_costs_less_in_every_way(world):
    """What README, chapter 11 and the limits say of the stored run."""
    found = Evaluation.from_dict(comparison.stored()[world])
    rows = [row for row in found.rows if row["method"] != "retraining"]
    for row in rows:
        if "sketch" in row["method"]:
            better = [
                other for other in rows
                if other["deletions"] == row["deletions"] and other["relative_error"] < row["relative_error"]
                and all(cost(other) < cost(row) for cost in COSTS.values())
            ]  # fmt: skip
            assert better, (row["method"], row["deletions"])


#: What each line of the decision tables of README and chapter 11 says to use, in order, and the method that it means.
ADVICE = (
    ("retrain each: `sl.retrain`", "retraining"),
    ("the gradient: `sl.gradient`", "metagradient"),
    ("gradient and curvature: `sl.curvature`", "curvature"),
    ("retrain without each example and add up", "leave-one-out sums"),
    (" both: | curvature and those sums ", "curvature and leave-one-out sums"),
    ("retrain without each group and add up", "sums over groups"),
    ("`order=2`", "sums over groups and pairs"),
    ("a sketch of all names", "sketch"),
)


@pytest.mark.parametrize("where", ["README.md", "notebooks/11_what_it_costs.ipynb"])
def test_the_decision_tables_have_the_numbers_of_the_stored_run(where):
    text = (Path(__file__).parents[2] / where).read_text(encoding="utf-8")
    if where.endswith(".ipynb"):
        text = "".join("".join(cell["source"]) for cell in json.loads(text)["cells"])
    rows = {(r["method"], r["deletions"]): r for r in comparison.stored()["microgpt"]["rows"]}
    heading = next(line for line in text.splitlines() if "error, unions" in line)
    lines = text[text.index(heading) :].split("\n\n")[0].splitlines()[2:]
    for (keys, method), line in zip(ADVICE, lines, strict=True):
        assert any(key in line for key in keys.split("|"))
        row = rows[method, "structured 5%-30%"]
        random = rows.get((method, "random 10.0%"))
        expected = [row["precomputation"] or 0.0, row["per_query"], row["per_deletion"]]
        expected += ["" if random is None else random["relative_error"], row["relative_error"]]
        for cell, value in zip(line.split("|")[-6:-1], expected, strict=True):
            assert_shown(cell.strip().replace(",", ""), value)


def assert_shown(cell, value):
    """A cell of a table is a number rounded, to three digits where it has more; prices below 0.15 may be 0."""
    if value == "":
        assert cell == ""
    elif cell == "0":
        assert value < 0.15
    else:
        decimals = len(cell.partition(".")[2])
        step = max(10.0**-decimals, 10.0 ** (len(cell.partition(".")[0]) - 3) if not decimals else 0.0)
        assert abs(float(cell) - value) <= 0.5001 * step, (cell, value)
