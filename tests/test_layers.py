"""The layering of the package: a module imports only from rows above its own."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "sketchlearn"
ROWS = {
    0: {"errors", "progress", "lanes", "paths", "precision", "seeds"},
    1: {
        "_jax_compat",
        "_jax_custom",
        "algebra",
        "directions",
        "spaces",
        "deletions",
        "labels",
        "datasets",
        "batches",
        "checkpointing",
        "meshes",
        "updating",
        "scales",
        "states",
    },
    2: {"taylor", "flatness", "emptied", "models", "networks", "problem", "pricing", "tracing"},
    3: {"microgpt", "reference", "running", "failures", "recipes", "worlds"},
    4: {
        "controls",
        "doubts",
        "interpolation",
        "estimators",
        "truncation",
        "measuring",
        "noise",
        "pilot",
        "prediction",
        "querying",
        "keeping",
        "storage",
        "sketching",
        "zoo",
    },
    5: {"stability", "figures", "planning", "wording", "checking", "retraining"},
    6: {"baselines", "evaluation"},
    7: {"comparison"},
    8: {"plotting", "cli_stores"},
    9: {"cli"},
}
ROW = {module: row for row, modules in ROWS.items() for module in modules}
# Within a row these may see each other; everywhere else a row is flat.
SAME_ROW = {
    ("taylor", "taylor"),
    ("spaces", "deletions"),
    ("spaces", "labels"),
    ("deletions", "labels"),
    ("flatness", "taylor"),
    ("recipes", "failures"),
    ("baselines", "baselines"),
    ("estimators", "interpolation"),
    ("prediction", "estimators"),
    ("doubts", "measuring"),
    ("doubts", "prediction"),
    ("querying", "doubts"),
    ("querying", "controls"),
    ("querying", "interpolation"),
    ("querying", "estimators"),
    ("querying", "truncation"),
    ("querying", "measuring"),
    ("measuring", "controls"),
    ("querying", "prediction"),
    ("noise", "interpolation"),
    ("pilot", "querying"),
    ("sketching", "controls"),
    ("sketching", "measuring"),
    ("sketching", "querying"),
    ("sketching", "keeping"),
    ("keeping", "controls"),
    ("keeping", "measuring"),
    ("keeping", "querying"),
    ("keeping", "storage"),
    ("figures", "stability"),
    ("figures", "retraining"),
    ("planning", "wording"),
    ("checking", "stability"),
}
# A result draws itself; the drawing is imported when it is asked for.
LATE = {("stability", "plotting"), ("planning", "plotting")}
FILES = sorted(p for p in PACKAGE.rglob("*.py") if p != PACKAGE / "__init__.py")


def module_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def package_imports(path: Path) -> set[str]:
    """The modules of the package that a file imports, inside functions too."""
    depth = len(path.relative_to(PACKAGE).parts)
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if not isinstance(node, ast.ImportFrom) or not node.level:
            continue
        if node.level < depth:  # from . import x inside a subpackage
            found.add(module_of(path))
        elif node.module:
            found.add(node.module.split(".")[0])
        else:
            found |= {alias.name for alias in node.names}
    return found


def test_every_module_has_a_row():
    assert {module_of(p) for p in FILES} == set(ROW)


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_come_from_rows_above(path):
    here = module_of(path)
    for other in package_imports(path):
        allowed = ROW[other] < ROW[here] or (here, other) in SAME_ROW | LATE
        assert allowed, f"{here} (row {ROW[here]}) imports {other} (row {ROW[other]})"


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_no_module_is_longer_than_400_lines(path):
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 400


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_nothing_is_pickled(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names = [a.name for a in node.names] if isinstance(node, (ast.Import, ast.ImportFrom)) else []
        assert not {"pickle", "cloudpickle", "joblib", "dill"} & {n.split(".")[0] for n in names}
        assert not (isinstance(node, ast.keyword) and node.arg == "allow_pickle")
