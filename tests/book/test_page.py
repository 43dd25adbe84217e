"""The page "Delete it yourself": its data come from the package, and its numbers are the package's."""

import importlib.util
import json
import shutil
import subprocess
import sys
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

import sketchlearn as sl

ROOT = Path(__file__).parents[2]
TOLERANCE = 1e-4  # nats; the page keeps all in float32
# A thousand steps in float32 agree to four or five digits between machines; the changes are of size 0.01 to 1.
RETRAINED = 1e-3


def tool(name):
    spec = importlib.util.spec_from_file_location(name, ROOT / "tools" / f"{name}.py")
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


make = tool("make_page_data")


@pytest.fixture(scope="module")
def experiment():
    return sl.microgpt.paper_experiment(dtype="float32")


@pytest.fixture(scope="module")
def kept():
    with np.load(make.KEPT) as file:
        return dict(file)


@pytest.fixture(scope="module")
def stored():
    text = make.PAGE.read_text(encoding="utf-8")
    return json.loads(text[text.index("{") : text.rindex("}") + 1])


@pytest.fixture(scope="module")
def sketch(experiment, kept):
    return make.kept_sketch(kept, make.units_of(experiment.names))


def test_every_name_has_one_box(experiment):
    units = make.units_of(experiment.names)
    assert sorted(i for u in units for i in u.members) == list(range(1000))
    space = make.space_of(units, 1000)
    np.testing.assert_allclose(space.matrix.T @ space.matrix, np.eye(len(units)), atol=1e-12)  # roundings of a root
    rare = [i for i, name in enumerate(experiment.names) if set(name) & set("xqz")]
    assert {(i,) for i in rare} <= {u.members for u in units}
    assert not set(make.TESTS) & set(experiment.names)


def test_the_stored_data_follow_from_the_kept_sketch(experiment, kept, stored):
    again = make.page_data(kept, experiment.names)
    assert again.keys() == stored.keys()
    for name, value in stored.items():
        if not (isinstance(value, dict) and "base64" in value):
            assert again[name] == value, name
            continue
        ours, theirs = make.read(again[name]), make.read(value)
        size = np.abs(theirs).max()
        # another LAPACK, other last digits, multiplied by a condition of 1e8 at most; the page promises 1e-4
        np.testing.assert_allclose(ours, theirs, atol=1e-4 * size, err_msg=name)


def test_the_truth_is_what_training_again_gives(experiment, kept):
    chosen = slice(0, 180, 60)
    again = make.retrained(experiment, chosen, shares=[0.5, 1.0])
    np.testing.assert_allclose(again, kept["truth"][chosen][:, [4, 9]], atol=RETRAINED)  # why: beside its definition


def test_the_kept_coefficients_are_those_of_cauchys_way(x64, kept, sketch):
    precise = sl.microgpt.paper_experiment(dtype="float64")
    query, one = precise.query(make.TESTS), 5
    found = sl.taylor.cauchy_coefficients(
        lambda w: query(precise.train(w)), np.ones(1000), -sketch.space.matrix @ sketch.directions[one], 3,
        radius=3.0, num_points=12, tolerance=1e-2,
    )  # fmt: skip
    np.testing.assert_allclose(found.coefficients[0], kept["baseline"], atol=RETRAINED)
    for r in range(3):
        expected = kept["coefficients"][one, r]
        # one circle of few points, and the sketch in float32: seen 3e-5
        np.testing.assert_allclose(found.coefficients[r + 1], expected, atol=1e-3 * np.abs(expected).max())


def test_the_kept_sketch_predicts_the_retrained_losses_better_than_order_one(experiment, kept, sketch):
    units = make.units_of(experiment.names)
    x = make.coordinates(np.stack([t for _, _, t in make.cases_of(units)]).astype(float), units)
    p = sketch.predict(make.QUERY, x)
    truth = kept["truth"][:, -1]
    assert ((p.value - truth) ** 2).mean() < ((p.baseline + p.terms[:, 0] - truth) ** 2).mean()


NODE = """
const fs = require("fs"), vm = require("vm");
vm.runInThisContext(fs.readFileSync(process.argv[1], "utf8"));
const page = require(process.argv[2]), asked = JSON.parse(fs.readFileSync(0, "utf8"));
const model = page.predictor(sketchlearnDeletePage);
const predictions = asked.map(a => model.predict(a.ticked, a.share));
process.stdout.write(JSON.stringify({predictions, scores: page.scores(sketchlearnDeletePage, model.predict)}));
"""


@pytest.fixture(scope="module")
def asked(experiment):
    """Random sets of boxes, from one to half of all, at four shares."""
    units = make.units_of(experiment.names)
    rng = np.random.default_rng(7)
    sets = [rng.random(len(units)) < p for p in np.geomspace(0.01, 0.5, 20)]
    sets = [t if t.any() else np.arange(len(units)) == 3 for t in sets]
    shares = [1.0, 0.7, 0.25, 0.05] * 5
    return units, np.stack(sets).astype(float), shares


@pytest.mark.skipif(shutil.which("node") is None, reason="node, which runs the page's script, is not installed")
def test_the_script_computes_what_the_package_predicts(asked, sketch, kept):
    units, ticked, shares = asked
    message = json.dumps([{"ticked": t.tolist(), "share": s} for t, s in zip(ticked, shares, strict=True)])
    run = subprocess.run(
        ["node", "-e", NODE, str(make.PAGE), str(make.PAGE.with_name("delete.js"))],
        input=message, capture_output=True, text=True, check=True,
    )  # fmt: skip
    answer = json.loads(run.stdout)
    p = sketch.predict(make.QUERY, make.coordinates(ticked, units) * np.array(shares)[:, None])
    low, high = p.interval()
    fields = {"value": p.value, "change": p.change, "standardError": p.standard_error, "truncation": p.truncation}
    for name, expected in {**fields, "low": low, "high": high}.items():
        ours = np.array([[one[name] for one in row] for row in answer["predictions"]])
        np.testing.assert_allclose(ours, expected, atol=TOLERANCE, err_msg=name)
    for name, expected in {"terms": p.terms, "standardErrors": p.standard_errors}.items():
        ours = np.array([[one[name] for one in row] for row in answer["predictions"]])  # (B, Q, k)
        np.testing.assert_allclose(ours.swapaxes(1, 2), expected, atol=TOLERANCE, err_msg=name)
    used = np.array([[one["used"] for one in row] for row in answer["predictions"]]).swapaxes(1, 2)
    assert (used == p.orders_used).all()

    cases = make.cases_of(units)
    x = make.coordinates(np.stack([t for _, _, t in cases]).astype(float), units)
    p, truth = sketch.predict(make.QUERY, x), kept["truth"][:, -1]
    low, high = p.interval()
    for row in answer["scores"]["groups"]:
        mine = [group == row["group"] for group, _, _ in cases]
        assert row["cases"] == sum(mine)
        rms = np.sqrt(((p.value - truth)[mine] ** 2).mean())
        np.testing.assert_allclose(row["error"], rms, atol=TOLERANCE)
        held = ((low <= truth) & (truth <= high))[mine].mean()
        assert abs(row["held"] - held) < 1.5 / (8 * sum(mine))  # one comparison may stand on the edge


@pytest.mark.skipif(shutil.which("node") is None, reason="node, which runs the page's script, is not installed")
def test_no_interval_below_zero_and_no_unchecked_deletion_is_in_range(sketch):
    units = make.units_of(sl.microgpt.paper_experiment(dtype="float32").names)
    cases = make.cases_of(units)
    checked = max(make.coordinates(t.astype(float), units).mean() for *_, t in cases)
    assert checked == pytest.approx(0.219), "the page's text says 22%"
    every, one = np.ones(len(units)), np.arange(len(units)) == 3
    begin_with_e = next(t for _, label, t in cases if label == "names that begin with e")
    largest = next(t for *_, t in cases if make.coordinates(t.astype(float), units).mean() == checked)
    sets = [(every, 1.0), (every, 0.3), (every, 0.2), (0 * every, 1.0), (one, 1.0), (begin_with_e, 1.0), (largest, 1.0)]
    message = json.dumps([{"ticked": np.asarray(t, float).tolist(), "share": s} for t, s in sets])
    run = subprocess.run(
        ["node", "-e", NODE, str(make.PAGE), str(make.PAGE.with_name("delete.js"))],
        input=message, capture_output=True, text=True, check=True,
    )  # fmt: skip
    answer = json.loads(run.stdout)["predictions"]
    deleted = np.stack([np.asarray(t, float) for t, _ in sets])
    x = make.coordinates(deleted, units) * np.array([[s] for _, s in sets])
    low = np.zeros((len(x), len(make.TESTS)))  # with nothing deleted there is nothing to predict
    low[x.any(1)], _ = sketch.predict(make.QUERY, x[x.any(1)]).interval()
    for row, ours, mine in zip(answer, low, x, strict=True):
        expected = ["unchecked" if mine.mean() > checked + 1e-9 else "below zero" if v < 0 else "" for v in ours]
        assert [p["beyond"] for p in row] == expected
    said = [{p["beyond"] for p in row} for row in answer]
    assert said[:2] == [{"unchecked"}] * 2
    assert said[3:5] == [{""}] * 2, "nothing deleted, and one name"
    assert "below zero" in said[5], "max without the names that begin with e: the interval would reach to -0.4"
    assert "unchecked" not in said[6], "the largest case was checked"


def test_the_page_shows_what_the_package_predicts():
    pytest.importorskip("playwright", reason="playwright, which drives a browser, is not installed")
    built = ROOT / "_build" / "html"
    if not (built / "book" / "delete_it_yourself.html").exists():
        pytest.skip("the book is not built")
    assert tool("check_page").faults(built) == []


def test_the_kept_arrays_are_what_they_say(kept):
    assert kept["coefficients"].shape == (make.DIRECTIONS, make.DEGREE, len(make.TESTS))
    assert kept["coefficients"].dtype == np.complex64
    assert jnp.isfinite(kept["truth"]).all()
    size = sum((make.PAGE.with_name(name)).stat().st_size for name in ("delete_data.js", "delete.js", "delete.css"))
    assert size < 1.5e6
