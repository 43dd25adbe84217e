"""What the package promises: its public names, each documented with an example, each with types."""

import ast
import inspect
import types
from pathlib import Path

import pytest

import sketchlearn as sl

NAMES = {
    "Candidates",
    "CheckReport",
    "Checkpoint",
    "Curvature",
    "Evaluation",
    "Examples",
    "Finding",
    "Groups",
    "LinearMap",
    "Plan",
    "PrecisionWarning",
    "Prediction",
    "Recipe",
    "Problem",
    "RetrainBank",
    "Sketch",
    "StabilityProfile",
    "StoreError",
    "Trained",
    "UnsupportedPrimitive",
    "check",
    "datasets",
    "curvature",
    "gradient",
    "baselines",
    "checkpointed_scan",
    "estimators",
    "evaluate",
    "microgpt",
    "open_sketch",
    "minibatches",
    "piecewise_report",
    "plan",
    "random_deletions",
    "reference",
    "retrain",
    "seed_noise",
    "sketch",
    "stability_profile",
    "taylor",
    "taylor_coefficients",
    "zoo",
    "worlds",
}
TAYLOR_NAMES = {
    "CauchyCoefficients",
    "Rule",
    "cauchy_coefficients",
    "piecewise_report",
    "push_forward",
    "refused_primitives",
    "stand_in",
    "supported_primitives",
    "taylor_coefficients",
}

RESULT = "a result, made by a function whose example shows it"
MODEL = "a model; the function that trains it has the example"
TABLE = "a table for the documentation, without arguments"
WITHOUT_EXAMPLE = {
    "PrecisionWarning": "a warning: nothing to call",
    "UnsupportedPrimitive": "an exception: nothing to call",
    "StoreError": "an exception: nothing to call",
    "Plan": RESULT,
    "Prediction": RESULT,
    "Evaluation": RESULT,
    "Checkpoint": "a record: the example of TracIn makes one",
    "Sketch": RESULT,
    "StabilityProfile": RESULT,
    "Trained": RESULT,
    "CheckReport": RESULT,
    "Curvature": RESULT,
    "Finding": RESULT,
    "microgpt.Experiment": RESULT,
    "taylor.CauchyCoefficients": RESULT,
    "taylor.Rule": "an entry of a table",
    "taylor.refused_primitives": TABLE,
    "taylor.supported_primitives": TABLE,
    "datasets.download_paper_names": "it needs the network",
    "zoo.Workload": RESULT,
    "zoo.Block": MODEL,
    "zoo.CharacterRNN": MODEL,
    "zoo.DigitsCNN": MODEL,
    "zoo.LayeredGPT": MODEL,
}


def imported_names(path):
    """The names that a file re-exports, as ``X as X``, and those that it imports otherwise."""
    found = [
        a
        for node in ast.parse(path.read_text(encoding="utf-8")).body
        if isinstance(node, ast.ImportFrom)
        for a in node.names
    ]
    return {a.name for a in found if a.asname == a.name}, {a.name for a in found if a.asname != a.name}


def public():
    """Every public function and class: of the package, and of its public modules where they are defined."""
    out = {name: getattr(sl, name) for name in sorted(NAMES) if callable(getattr(sl, name, None))}
    for name in ("datasets", "microgpt", "reference", "worlds", "zoo"):
        module = getattr(sl, name)
        for inner, value in sorted(vars(module).items()):
            if callable(value) and not inner.startswith("_") and value.__module__ == module.__name__:
                out[f"{name}.{inner}"] = value
    for inner, value in sorted(vars(sl.baselines).items()):
        if inspect.isclass(value):
            out[f"baselines.{inner}"] = value
    for inner in sorted(TAYLOR_NAMES):
        value = getattr(sl.taylor, inner)
        if value not in out.values():
            out[f"taylor.{inner}"] = value
    return out


PUBLIC = public()


def methods(name):
    """The functions behind a public name: itself, or what its class defines and does not hide."""
    value = PUBLIC[name]
    if not inspect.isclass(value):
        return {name: value}
    found = {}
    for inner, method in vars(value).items():
        function = method.fget if isinstance(method, property) else inspect.unwrap(getattr(value, inner))
        made_here = getattr(function, "__code__", None) and function.__code__.co_filename.startswith(str(ROOT))
        if (
            isinstance(function, types.FunctionType)
            and made_here
            and (inner == "__init__" or not inner.startswith("_"))
        ):
            found[f"{name}.{inner}"] = function
    return found


ROOT = Path(sl.__file__).parent


@pytest.mark.parametrize(
    ("path", "names"),
    [(ROOT / "__init__.py", NAMES), (ROOT / "taylor" / "__init__.py", TAYLOR_NAMES)],
    ids=["sl", "sl.taylor"],
)
def test_the_public_names_are_exactly_these(path, names):
    exported, hidden = imported_names(path)
    assert exported == names
    assert not any(name in names for name in hidden)


def test_the_public_names_that_the_design_binds_are_there():
    for name in ("taylor_coefficients", "sketch", "Examples", "Candidates", "Groups", "stability_profile"):
        assert callable(getattr(sl, name))
    assert callable(sl.microgpt.paper_experiment)


@pytest.mark.parametrize("name", PUBLIC)
def test_every_public_name_is_documented_with_an_example_or_listed_with_a_reason(name):
    text = inspect.getdoc(PUBLIC[name])
    assert PUBLIC[name].__doc__, "its own docstring, not an inherited one"
    has_example = ">>> " in text
    assert has_example or name in WITHOUT_EXAMPLE, f"{name} has no example"
    assert not (has_example and name in WITHOUT_EXAMPLE), f"{name} has an example now: take it off the list"
    first = text.splitlines()[0]
    assert first.endswith((".", ":")), "one line that is a sentence"


def test_no_exception_is_listed_for_a_name_that_is_gone():
    assert set(WITHOUT_EXAMPLE) <= set(PUBLIC)


@pytest.mark.parametrize("name", PUBLIC)
def test_every_public_function_and_method_is_annotated_and_documented(name):
    for where, function in methods(name).items():
        signature = inspect.signature(function)
        for parameter in list(signature.parameters.values())[("." in where and where != name) :]:
            assert parameter.annotation is not parameter.empty, f"{where}: {parameter.name} has no type"
        if not where.endswith("__init__"):
            assert signature.return_annotation is not signature.empty, f"{where} says not what it returns"
            assert function.__doc__, f"{where} has no docstring"


@pytest.mark.parametrize("name", [n for n in PUBLIC if not inspect.isclass(PUBLIC[n])])
def test_every_argument_of_a_public_function_is_described(name):
    arguments = [p for p in inspect.signature(PUBLIC[name]).parameters if not p.startswith("_")]
    if len(arguments) > 1:
        text = inspect.getdoc(PUBLIC[name])
        missing = [a for a in arguments if f"{a}:" not in text and f"``{a}``" not in text]
        assert not missing, f"{name} does not describe {missing}"


def test_the_methods_that_users_call_are_among_those_checked():
    found = {where for name in PUBLIC for where in methods(name)}
    assert {
        "Sketch.predict",
        "Prediction.interval",
        "Recipe.query",
        "StabilityProfile.plot",
        "microgpt.Experiment.train",
        "sketch",
    } <= found
    assert {"microgpt.Experiment.num_examples", "Groups.locate", "reference.retrain"} <= found


def test_the_package_carries_its_types():
    assert (ROOT / "py.typed").is_file()
