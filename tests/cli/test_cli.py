"""The command line, in this process: what it prints, what it writes, and how it refuses."""

import contextlib
import io
import json
import subprocess
import sys

import jax
import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pytest

from sketchlearn import Examples, Groups, sketch
from sketchlearn.cli import demo, doctor, main, output, programs
from sketchlearn.experiments import figures, microgpt

X_NAMES, OTHERS = ["max", "xena", "felix"], ["emma", "olivia", "ava", "noah", "liam", "mia", "ella", "ben", "zoe"]


@pytest.fixture(scope="module")
def names(tmp_path_factory):
    """A list of twelve names, three of them with an x."""
    file = tmp_path_factory.mktemp("names") / "names.txt"
    file.write_text("\n".join(X_NAMES + OTHERS) + "\n", encoding="utf-8")
    return str(file)


@pytest.fixture(autouse=True)
def leave_matplotlib_as_it_was():
    before = matplotlib.get_backend()
    yield
    plt.close("all")
    plt.switch_backend(before)


@pytest.fixture(scope="module")
def figure_2(names, tmp_path_factory):
    """The folder, the printed text and the complaints of figure 2, run once."""
    folder, out, err = tmp_path_factory.mktemp("figure2"), io.StringIO(), io.StringIO()
    arguments = ["figure", "2", "--names", names, "--examples", "12", "--degree", "2", "--out", str(folder)]
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        assert main.main(arguments) == 0
    return folder, out.getvalue(), err.getvalue()


def run(capsys, *arguments):
    """The exit code, what was printed and what was complained about."""
    code = main.main([str(a) for a in arguments])
    return code, *capsys.readouterr()


def written(folder, name):
    """The numbers beside a picture, after a look at the picture."""
    picture = plt.imread(folder / f"{name}.png")
    assert picture.shape[0] > 300
    assert picture[..., :3].std() > 0.01, "the picture is blank"
    assert sorted(p.name for p in folder.iterdir()) == [f"{name}.json", f"{name}.png"]
    return json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))


def test_doctor_checks_itself_and_reports_versions(capsys):
    code, out, _ = run(capsys, "doctor", "--json")
    report = json.loads(out)
    assert code == 0
    assert report["ok"] is True
    assert report["versions"]["jax"] == jax.__version__
    assert report["versions"]["python"] == ".".join(map(str, sys.version_info[:3]))
    assert report["default_float"] == "float32"
    assert report["devices"]
    # rounding of float64 between two ways of computing nine coefficients, against exact agreement
    assert 0 < report["series_against_circles"] < 1e-11
    assert 0 < report["sketch_of_a_linear_function_off_by_standard_errors"] < 5


def test_doctor_fails_where_the_two_ways_disagree(capsys, monkeypatch):
    monkeypatch.setattr(doctor, "taylor_coefficients", lambda f, x, d, degree: np.zeros(degree + 1))
    code, out, _ = run(capsys, "doctor")
    assert code == 1
    assert [line.split() for line in out.splitlines() if line.startswith("ok ")] == [["ok", "False"]]


def test_figure_1_is_the_stability_profile(capsys, names, tmp_path):
    arguments = ["--names", names, "--examples", 12, "--degree", 1, "--directions", 2, "--out", tmp_path]
    code, out, err = run(capsys, "figure", 1, *arguments, "--seed", 4, "--query", "emma", "--json", "--quiet")
    assert code == 0
    assert err == "", "--quiet shows no progress"
    report = json.loads(out, parse_constant=lambda text: pytest.fail(f"{text} is not JSON"))
    assert written(tmp_path, "figure1") == report
    assert report["settings"] == {"degree": 1, "num_directions": 2, "seed": 4, "query": "emma"}
    assert np.shape(report["log2_norms"]) == (2, 1)
    assert report["radius"] is None, "one order has no slope"


def test_figure_2_shows_exact_orders_against_retraining(figure_2):
    folder, out, _ = figure_2
    report = written(folder, "figure2")
    assert report["deleted"] == 3
    assert report["settings"]["dtype"] == "float64"
    predictions, truth = np.array(report["predictions"]), np.array(report["retrained"])
    assert predictions.shape == (3, 101)
    assert truth.shape == (11,)
    np.testing.assert_allclose(predictions[:, 0], truth[0], rtol=1e-12)  # s = 0: one training run, twice compiled
    np.testing.assert_allclose(predictions[-1, -1], truth[0] + sum(report["terms"]), rtol=1e-12)  # s = 1
    # near s = 0 the second order is exact to s³ times a third term of the size of the others
    assert abs(predictions[2, 10] - truth[1]) < 0.1**3 * np.abs(truth[-1] - truth[0])
    assert f"predicted {predictions[-1, -1]:.4f}, retrained {truth[-1]:.4f} nats" in out


def test_figure_3_is_the_sketch_with_its_band(capsys, names, tmp_path, figure_2):
    arguments = ["--names", names, "--examples", 12, "--degree", 1, "--directions", 4, "--out", tmp_path, "--quiet"]
    code, out, _ = run(capsys, "figure", 3, *arguments, "--estimator", "median_of_means", "--json")
    assert code == 0
    report = json.loads(out)
    assert written(tmp_path, "figure3") == report
    assert report["settings"]["dtype"] == "float32"
    assert (report["settings"]["num_directions"], report["settings"]["degree"]) == (4, 1)
    deviation = np.array(report["deviation"])
    assert deviation[0] == 0
    assert (np.diff(deviation) > 0).all(), "the band widens along the deletion"
    assert np.shape(report["predictions"]) == (2, 101)
    # the same retrainings as in figure 2, there in float64: twelve steps of float32, 6e-8 each
    np.testing.assert_allclose(report["retrained"], written(figure_2[0], "figure2")["retrained"], rtol=1e-5)


def test_the_demo_predicts_retrains_prints_a_table_and_writes_what_it_prints(capsys, names, tmp_path, figure_2):
    folder = tmp_path / "made" / "here"
    arguments = ["demo", "--names", names, "--examples", 12, "--directions", 8, "--degree", 1, "--out", folder]
    code, out, err = run(capsys, *arguments)
    assert code == 0
    assert "8/8" in err, "the progress bar"
    assert "microgpt on 12 names. To be deleted: the 3 with an x" in out
    assert f"wrote {folder / 'demo'}.png and .json" in out
    report = written(folder, "demo")
    assert sorted(report["deleted"]) == sorted(X_NAMES)
    assert report["settings"] == {"examples": 12, "directions": 8, "degree": 1, "seed": 0}
    assert report["names"] == demo.TEST_NAMES
    assert np.shape(report["terms"]) == (1, 4)
    np.testing.assert_allclose(report["value"], np.add(report["baseline"], report["change"]), rtol=1e-12)
    low, high = report["interval"]
    inside = [a <= t <= b for a, t, b in zip(low, report["retrained"], high, strict=True)]
    assert report["inside"] == sum(inside)
    for i, name in enumerate(demo.TEST_NAMES):
        (row,) = [line.split() for line in out.splitlines() if line.startswith(f"{name} ")]
        numbers = [report["baseline"][i], report["value"][i], low[i], high[i], report["retrained"][i]]
        assert [word for word in row[1:] if word != ".."] == [f"{number:.3f}" for number in numbers]
    # figure 2 shows the same losses on 'max' at its ends, in float64
    exact = written(figure_2[0], "figure2")["retrained"]
    assert demo.TEST_NAMES[0] == "max"
    np.testing.assert_allclose([report["baseline"][0], report["retrained"][0]], [exact[0], exact[-1]], rtol=1e-5)


def test_the_plan_prints_what_its_json_and_its_picture_hold(capsys, names, tmp_path):
    arguments = ["plan", "--names", names, "--examples", 12, "--degree", 1, "--directions", 16, "--out", tmp_path]
    code, out, err = run(capsys, *arguments, "--delete", "x", "--tolerance", 10)
    assert code == 0
    assert "pilot" in err, "the progress bar"
    report = written(tmp_path, "plan")
    assert [(row["degree"], row["num_directions"]) for row in report["rows"]] == [(1, 6), (1, 8), (1, 16)]
    assert report["rows"][0]["noise"] == 0, "12 equations for 12 names"
    chosen = report["recommended"]
    assert chosen["error"] <= 10
    assert f"Recommended: num_directions={chosen['num_directions']}, degree=1, {report['rule']}" in out
    assert "over Examples(12); pilot: 8 directions, 1 given deletion (3 of 12" in out
    assert f"changes the query by {report['change']:.3g}" in out


def test_the_plan_in_json_has_a_recommendation_or_null(capsys, names, tmp_path):
    arguments = ["plan", "--names", names, "--examples", 12, "--degree", 1, "--directions", 4, "--pilot", 2]
    code, out, err = run(capsys, *arguments, "--seconds", 1e-9, "--json", "--quiet", "--out", tmp_path)
    assert code == 0
    assert err == ""
    assert json.loads(out) == written(tmp_path, "plan")
    assert json.loads(out)["recommended"] is None
    assert "no sketch is made within" in json.loads(out)["rule"]


@pytest.mark.parametrize(("number", "figure"), [(1, "stability_figure"), (3, "sketch_figure")])
def test_a_long_figure_says_beforehand_what_it_may_cost(capsys, names, tmp_path, monkeypatch, number, figure):
    def stop(*_, **__):
        raise ValueError("stopped where the run begins")

    monkeypatch.setattr(figures, figure, stop)
    arguments = ["figure", number, "--names", names, "--examples", 12, "--out", tmp_path]
    code, out, err = run(capsys, *arguments)
    assert (code, out) == (1, "")
    asked = {1: "12 directions of degree 100", 3: "500 directions of degree 3"}[number]
    first, last = err.strip().splitlines()
    assert first.startswith(asked)
    assert "of memory for arrays" in first
    assert ("of jets" in first) == (number == 3), "circles keep nothing"
    assert last == "sketchlearn: stopped where the run begins"


BAD = {
    "missing file": (["demo", "--names", "no/such/file"], "no/such/file'. Give the path of a text file"),
    "no name with an x": (["demo", "--examples", 20], "none of the first 20 names has an x"),
    "no name with an x, 2": (["figure", 2, "--examples", 20], "none of the 20 training names has an x"),
    "no name with an x, 3": (["figure", 3, "--examples", 20], "none of the 20 training names has an x"),
    "no examples": (["figure", 1, "--examples", 0], "num_examples must be at least 1, got 0"),
    "degree 0 of 1": (["figure", 1, "--degree", 0], "degree must be at least 1, got 0"),
    "degree 0 of 2": (["figure", 2, "--degree", 0], "degree must be at least 1, got 0"),
    "degree 0 of 3": (["figure", 3, "--degree", 0], "degree must be at least 1, got 0"),
    "no directions": (["figure", 3, "--directions", 0], "num_directions must be at least 1, got 0"),
    "negative seed": (["figure", 3, "--seed", -1], "seed must be at least 0, got -1"),
    "plan of no such names": (["plan", "--delete", "zzzz"], "none of the 1000 training names contains 'zzzz'"),
    "pilot of one": (["plan", "--pilot", 1], "pilot must be at least 2, got 1"),
    "plan in no time": (["plan", "--seconds", 0], "seconds must be positive and finite, got 0.0"),
    "no name": (["figure", 3, "--query", "Max"], "a query is a name of 1 to 15 lower-case letters a-z, got 'Max'"),
}


@pytest.mark.parametrize(("arguments", "message"), BAD.values(), ids=BAD)
def test_what_cannot_be_done_ends_with_1_and_one_line_on_stderr(capsys, tmp_path, arguments, message):
    code, out, err = run(capsys, *arguments, "--json", "--quiet", "--out", tmp_path)
    assert code == 1
    assert out == ""
    assert err.startswith("sketchlearn: ")
    assert message in err
    assert err.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_no_command_prints_help_and_ends_with_2(capsys):
    code, out, _ = run(capsys)
    assert code == 2
    assert out.startswith("usage: sketchlearn")
    for command in ("demo", "figure", "plan", "doctor"):
        assert command in out


@pytest.mark.parametrize(
    "arguments",
    [["figure", "4"], ["figure"], ["demo", "--degree", "two"], ["figure", "3", "--estimator", "mode"], ["fly"]],
)
def test_words_it_does_not_know_end_with_2_and_the_usage(capsys, arguments):
    with pytest.raises(SystemExit) as end:
        main.main(arguments)
    assert end.value.code == 2
    assert "usage: sketchlearn" in capsys.readouterr().err


def test_version_is_the_installed_one(capsys):
    with pytest.raises(SystemExit) as end:
        main.main(["--version"])
    assert end.value.code == 0
    assert capsys.readouterr().out == f"sketchlearn {output.VERSION}\n"


def test_the_installed_command_is_this_one():
    from importlib.metadata import entry_points

    (command,) = [e for e in entry_points(group="console_scripts") if e.name == "sketchlearn"]
    assert command.load() is main.main


def test_it_runs_as_a_module():
    out = subprocess.run(
        [sys.executable, "-m", "sketchlearn.cli", "--version"], capture_output=True, text=True, check=True
    )
    assert out.stdout == f"sketchlearn {output.VERSION}\n"


SMALL = ["--examples", "12", "--quiet", "--json"]


def test_shards_fill_one_store_and_it_predicts_what_python_predicts(names, tmp_path, capsys):
    store = tmp_path / "store"
    common = ["sketch", store, "--names", names, *SMALL, "--degree", "2", "--directions", "40", "--batch-size", "8"]
    complete = []
    for shard in ("0/2", "1/2"):
        code, out, err = run(capsys, *common, "--shard", shard)
        assert code == 0, err
        complete.append(json.loads(out)["complete"])
    assert complete == [False, True]
    asked = ["predict", store, "--names", names, *SMALL, "--query", "max", "emma", "--estimator", "mean"]
    code, out, err = run(capsys, *asked, "--delete", "x")
    assert code == 0, err
    found = json.loads(out)
    experiment = microgpt.paper_experiment(names, num_examples=12)
    assert found["deleted"] == experiment.deleted.tolist()
    made = sketch(experiment.train, Examples(12), 2, 40, batch_size=8, progress=False)
    expected = made.predict(experiment.query(["max", "emma"]), experiment.deleted, "mean")
    np.testing.assert_allclose(found["value"], expected.value, rtol=1e-5)  # float32
    np.testing.assert_allclose(found["standard_errors"], expected.standard_errors, rtol=1e-3)  # float32, differences
    by_position = ",".join(map(str, experiment.deleted))
    assert json.loads(run(capsys, *asked, "--delete", by_position)[1])["value"] == found["value"]


def test_a_store_of_groups_is_asked_by_letters_or_whole_groups(names, tmp_path, capsys):
    store, common = tmp_path / "store", ["--names", names, *SMALL]
    code, _, err = run(capsys, "sketch", store, *common, "--groups", "--degree", "1", "--directions", "16")
    assert code == 0, err
    experiment = microgpt.paper_experiment(names, num_examples=12)
    letters = sorted({name[0] for name in experiment.names})[:2]
    gone = [i for i, name in enumerate(experiment.names) if name[0] in letters]
    found = []
    for delete in (",".join(letters), "".join(letters), ",".join(map(str, gone))):
        code, out, err = run(capsys, "predict", store, *common, "--delete", delete)
        assert code == 0, err
        found.append(json.loads(out))
    assert found[0]["deleted"] == gone
    assert found[0] == found[1] == found[2]
    missing = next(c for c in "qxzjkw" if c not in {name[0] for name in experiment.names})
    code, _, err = run(capsys, "predict", store, *common, "--delete", missing)
    assert (code, f"there is no group '{missing}'" in err) == (1, True)
    code, _, err = run(capsys, "predict", store, *common, "--delete", f"{','.join(map(str, gone))},12-14")
    assert (code, "names example 14, but there are 12 examples" in err) == (1, True)


@pytest.mark.parametrize("space", [Examples(2), Groups([0, 1])], ids=repr)
def test_both_of_two_examples_are_asked_for_by_their_positions(space):
    asked = programs.asked("0,1", programs.Run(lambda w: w, 2), space)
    np.testing.assert_array_equal(space.locate(asked), [1, 1])


def own_program(tmp_path, monkeypatch, module, text):
    """Write a module with ``train`` into the directory that the command is run in: the arguments that name it."""
    (tmp_path / f"{module}.py").write_text(f"import jax.numpy as jnp\n{text}")
    monkeypatch.chdir(tmp_path)
    return ["--train", f"{module}:train", *SMALL]


def test_a_program_of_one_s_own_is_sketched_and_asked(tmp_path, capsys, monkeypatch):
    program = own_program(
        tmp_path, monkeypatch, "my_training_program",
        "def train(w):\n    return {'total': jnp.sum(w) ** 2}\n"
        "def total(p):\n    return p['total']\n",
    )  # fmt: skip
    code, _, err = run(capsys, "sketch", tmp_path / "s", *program, "--degree", "2", "--directions", "40")
    assert code == 0, err
    loud = [word for word in program if word != "--quiet"]
    code, _, err = run(capsys, "sketch", tmp_path / "s", *loud, "--degree", "2", "--directions", "40")
    assert code == 0, err
    assert err.startswith("40 directions of degree 2: "), "before a run: what it may cost"
    code, out, err = run(
        capsys, "predict", tmp_path / "s", *program, "--query", "my_training_program:total", "--delete", "0,2-4"
    )
    assert code == 0, err
    assert json.loads(out)["deleted"] == [0, 2, 3, 4]
    assert json.loads(out)["value"] == pytest.approx(64.0, rel=1e-4)  # 80 equations for 78 unknowns, in float32


def test_a_flat_query_is_refused_and_an_unknown_error_is_null_in_json(tmp_path, capsys, monkeypatch):
    program = own_program(
        tmp_path, monkeypatch, "my_flat_queries",
        "def train(w):\n    return jnp.sum(w) ** 2\n"
        "def large(p):\n    return jnp.where(p > 100, 1.0, 0.0)\n"
        "def both(p):\n    return jnp.stack([p, large(p)])\n",
    )  # fmt: skip
    code, _, err = run(capsys, "sketch", tmp_path / "s", *program, "--degree", "1", "--directions", "4")
    assert code == 0, err
    asked = ["predict", tmp_path / "s", *program, "--delete", "0", "--query"]
    code, _, err = run(capsys, *asked, "my_flat_queries:large")
    assert code == 1
    assert "only through > at my_flat_queries.py:5" in err
    code, out, err = run(capsys, *asked, "my_flat_queries:both")
    assert code == 0, err
    report = json.loads(out, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    assert [ends[1] for ends in report["interval"]] == [None, None]
    assert all(ends[0] is not None for ends in report["interval"])


BAD_QUESTIONS = {
    "no such example": (["--delete", "0,12"], "names example 12, but there are 5"),
    "negative": (["--delete=-3"], "counted from 0, got '-3'"),
    "no position": (["--delete", ","], "positions such as"),
    "downwards": (["--delete", "3-1"], "goes upwards"),
    "letters": (["--delete", "x"], "for your own program"),
    "other examples": (["--delete", "1", "--examples", "7"], "of 5 examples, not 7"),
    "no examples": (["--delete", "1", "--examples", "0"], "of 5 examples, not 0"),
}


@pytest.mark.parametrize(("arguments", "message"), BAD_QUESTIONS.values(), ids=BAD_QUESTIONS)
def test_a_store_is_asked_for_what_it_can_answer(tmp_path, capsys, monkeypatch, arguments, message):
    (tmp_path / "a_sum_and_no_more.py").write_text(
        "import jax.numpy as jnp\ndef train(w):\n    return w * jnp.sum(w)\ndef first(p):\n    return p[0]\n"
    )
    monkeypatch.chdir(tmp_path)
    program = ["--train", "a_sum_and_no_more:train", "--quiet"]
    made = run(capsys, "sketch", "s", *program, "--examples", "5", "--degree", "1", "--directions", "3")
    assert made[0] == 0, made[2]
    examples = [] if "--examples" in arguments else ["--examples", "5"]
    code, _, err = run(capsys, "predict", "s", *program, "--query", "a_sum_and_no_more:first", *arguments, *examples)
    assert code == 1
    assert message in err


def test_an_operation_without_a_rule_is_named_without_a_traceback(tmp_path, capsys, monkeypatch):
    (tmp_path / "has_no_rule.py").write_text("import jax\ndef train(w):\n    return jax.lax.bessel_i0e(w)\n")
    monkeypatch.chdir(tmp_path)
    code, _, err = run(capsys, "sketch", "s", "--train", "has_no_rule:train", "--examples", "3", "--quiet")
    assert code == 1
    assert "bessel_i0e" in err


BAD_STORES = {
    "no shard": (["sketch", "s", "--shard", "1"], "--shard is i/N"),
    "no such shard": (["sketch", "s", "--shard", "4/4"], "0 <= i < N"),
    "no store": (["predict", "nowhere", "--delete", "x"], "there is no sketch in"),
    "no module": (["sketch", "s", "--train", "no_such_module:f"], "cannot be imported"),
    "no function": (["sketch", "s", "--train", "math:no_such"], "has no function 'no_such'"),
    "not named": (["sketch", "s", "--train", "math"], "expected MODULE:NAME"),
    "no count": (["sketch", "s", "--train", "math:exp"], "give --examples"),
}


@pytest.mark.parametrize(("arguments", "message"), BAD_STORES.values(), ids=BAD_STORES)
def test_what_cannot_be_stored_or_asked_is_said(names, tmp_path, capsys, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    more = [] if "--train" in arguments else ["--names", names, "--examples", "12"]
    code, _, err = run(capsys, *arguments, *more)
    assert code == 1
    assert message in err
