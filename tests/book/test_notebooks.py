"""Guards that keep the comparison of notebooks meaningful: nbval skips a cell that was never executed."""

import ast
import importlib.util
import json
import re
from pathlib import Path

import nbformat
import pytest
from IPython.core.inputtransformer2 import TransformerManager

from sketchlearn.experiments import comparison

ROOT = Path(__file__).parents[2]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
IMAGES = {"image/svg+xml", "image/png", "image/jpeg"}


def tool(name):
    spec = importlib.util.spec_from_file_location(name, ROOT / "tools" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


installing = tool("install_cell")


def code_cells(path):
    return [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]


def test_there_are_notebooks():
    assert NOTEBOOKS


def test_every_notebook_is_a_page_of_the_book():
    toc = (Path(__file__).parents[2] / "_toc.yml").read_text(encoding="utf-8")
    assert [p.stem for p in NOTEBOOKS if f"notebooks/{p.stem}\n" not in toc + "\n"] == []


def test_nothing_says_to_install_the_package_by_its_bare_name():
    """It is on no index: what somebody publishes there under that name would be another program."""
    texts = [*NOTEBOOKS, *ROOT.glob("*.md"), *ROOT.glob("*.yml"), ROOT / "Makefile", ROOT / "requirements.lock"]
    texts += [p for p in (ROOT / "binder").rglob("*") if p.is_file()]
    for folder in ("book", "tools", "sketchlearn", "benchmarks", ".github", ".ci"):
        texts += [p for p in (ROOT / folder).rglob("*") if p.suffix in (".md", ".py", ".yml", ".toml", ".txt", "")]
    read = {p: p.read_text(encoding="utf-8") for p in texts if p.is_file()}
    assert sum("pip install" in text or "pip --" in text for text in read.values()) > 12, "there are such commands"
    assert {p: found for p, text in read.items() if (found := installing.bare_installs(text))} == {}
    for path in (ROOT / "binder").iterdir():  # requirements.txt, environment.yml: names without a command
        assert not re.search(r"^\s*-?\s*sketchlearn\b", path.read_text(encoding="utf-8"), re.MULTILINE), path


@pytest.mark.parametrize(
    ("command", "bare"),
    [
        ("%pip install --quiet sketchlearn", True),
        ('    "    %pip install sketchlearn\\n",', True),
        ("python -m pip install -U 'sketchlearn[dev]>=0.1' numpy", True),
        ("uv add sketchlearn", True),
        ("conda install -c forge sketchlearn", True),
        ("`pip install -e .` first; `sketchlearn doctor` then", False),
        ("pip install git+https://example.org/someone/sketchlearn", False),
        ('pip install "sketchlearn @ git+https://example.org/someone/sketchlearn"', False),
        ("pip install ./sketchlearn  # or sketchlearn/", False),
    ],
)
def test_a_bare_name_is_told_from_an_address(command, bare):
    assert bool(installing.bare_installs(command)) is bare


def run_install_cell(address, folder, monkeypatch):
    """What the cell passes to %pip where the package is missing."""
    asked = []

    class Shell:
        def run_line_magic(self, name, line, *_):
            asked.append((name, line.format(**names)))

    names = {"get_ipython": Shell}
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.chdir(folder)
    exec(TransformerManager().transform_cell(installing.install_cell(address)), names)
    return asked


def test_a_notebook_in_a_checkout_installs_the_checkout(monkeypatch):
    for address in ("", "https://example.org/someone/sketchlearn"):
        assert run_install_cell(address, ROOT / "notebooks", monkeypatch) == [("pip", "install --quiet ..")]


def test_a_notebook_by_itself_installs_from_the_address_of_the_repository(monkeypatch, tmp_path):
    address = "https://example.org/someone/sketchlearn"
    assert run_install_cell(address, tmp_path, monkeypatch) == [("pip", f"install --quiet git+{address}")]


def test_a_notebook_that_knows_no_address_says_so_and_installs_nothing(monkeypatch, tmp_path):
    with pytest.raises(ModuleNotFoundError, match="knows no address to install it from"):
        run_install_cell("", tmp_path, monkeypatch)


def test_the_install_cell_does_nothing_where_the_package_is():
    exec(TransformerManager().transform_cell(installing.install_cell("")), {})


def test_writing_the_install_cell_changes_nothing_else():
    path = NOTEBOOKS[0]
    text = path.read_text(encoding="utf-8")
    other = installing.with_cell(text, "import importlib.util")
    assert other != text
    assert installing.with_cell(other, installing.install_cell(installing.repository())) == text
    before, after = (nbformat.reads(t, as_version=4) for t in (text, other))
    assert before.cells[1].source != after.cells[1].source
    after.cells[1].source = before.cells[1].source
    assert after == before


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
class TestNotebook:
    def test_begins_by_installing_what_the_configuration_says(self, path):
        first = code_cells(path)[0]
        assert first.source == installing.install_cell(installing.repository())
        assert first.outputs == []
        assert first.metadata.tags == ["remove-cell"]

    def test_is_valid_and_names_the_plain_kernel(self, path):
        notebook = nbformat.read(path, as_version=4)
        nbformat.validate(notebook)
        assert notebook.metadata.kernelspec.name == "python3"

    def test_every_code_cell_was_executed_once_in_order(self, path):
        cells = code_cells(path)
        assert cells
        assert [c.execution_count for c in cells] == list(range(1, len(cells) + 1))
        assert not any("execution" in c.metadata for c in cells), "times of execution differ from run to run"

    def test_no_cell_stores_an_error_or_writes_to_stderr(self, path):
        for c in code_cells(path):
            if "raises-exception" not in c.metadata.get("tags", []):
                assert not any(o.output_type == "error" for o in c.outputs), c.source
            assert not any(o.get("name") == "stderr" for o in c.outputs), c.source

    def test_every_figure_has_alt_text(self, path):
        for c in code_cells(path):
            if any(IMAGES & set(o.get("data", {})) for o in c.outputs):
                assert c.metadata.get("mystnb", {}).get("image", {}).get("alt"), c.source

    def test_code_fits_the_page_and_ends_without_a_semicolon(self, path):
        for c in code_cells(path):
            assert not c.source.rstrip().endswith(";"), "nbval shows the output after a trailing semicolon"
            assert max(map(len, c.source.splitlines()), default=0) <= 79, c.source


def measured_figures():
    """The values of the benchmarks' records by subject and label."""
    figures = {}
    for record in json.loads((ROOT / "benchmarks/results.json").read_text(encoding="utf-8")):
        figures.setdefault(record["id"].split("/")[0], {})[record["label"]] = record["value"]
    return figures


def test_the_measured_numbers_of_the_scaling_chapter_are_those_of_the_benchmarks():
    """What that chapter types, because it takes an hour to measure, is what `python -m benchmarks` wrote down."""
    root = Path(__file__).parents[2]
    figures = measured_figures()
    typed = {}
    for cell in code_cells(root / "notebooks/12_scaling.ipynb"):
        if "remove-cell" in cell.metadata.get("tags", []):
            continue  # %pip is no Python
        for line in ast.parse(cell.source).body:
            if isinstance(line, ast.Assign) and isinstance(line.targets[0], ast.Name):
                try:
                    typed[line.targets[0].id] = ast.literal_eval(line.value)
                except ValueError:
                    continue

    def rounded(value):
        return float(f"{value:.3g}")

    one = figures["one_direction"]
    assert typed["batch"] == [rounded(one[f"degree {k}, a block of 128, over plain"]) for k in (1, 2, 3)]
    assert typed["split"] == [rounded(one[f"degree {k}, over plain run in 2 lanes too"]) for k in (1, 2, 3)]
    sizes = {}
    for label, value in figures["scaling"].items():
        if found := re.match(r"(time|memory), (.*) = (\d+), over \d+$", label):
            sizes.setdefault(found[2], {}).setdefault(int(found[3]), []).append(rounded(value))
    assert {name: {s: list(v) for s, v in grid.items()} for name, grid in typed["measured"].items()} == sizes
    larger = {label: rounded(value) for label, value in figures["larger"].items()}
    assert typed["larger"] == {label: larger[label] for label in typed["larger"]}
    error = "RMSE over that of the exact first order"
    assert typed["against_first"] == {what: larger[f"{what}: {error}"] for what in typed["against_first"]}


def test_figures_quoted_in_chapter_7_and_the_readme_are_those_that_were_measured():
    root = Path(__file__).parents[2]
    figures = measured_figures()
    groups, pool, subsets = (figures[subject] for subject in ("groups", "pool", "random_subsets"))
    chapter = (root / "notebooks/07_worth_its_cost.ipynb").read_text(encoding="utf-8")
    readme = (root / "README.md").read_text(encoding="utf-8")
    text = "\n".join("".join(c["source"]) for c in json.loads(chapter)["cells"] if c["cell_type"] == "markdown")

    def rmse(kind):
        return f"{groups[f'{kind}: RMSE over that of the exact first order']:.2f}"

    def held(kind, what):
        return groups[f"{kind}auto: coverage of the 95% interval: {what}"]

    for name in ("mean", "auto"):
        assert f"| {name} | {rmse(name)} | {rmse(f'additive, {name}')} |" in text
    for name, key in (("median of means", "median_of_means"), ("least squares", "least_squares"), ("kernel", "kernel")):
        assert f"| {name} | {rmse(key)} | |" in text
    assert f"| auto, centre 0.1 | {rmse('centre, auto')} | {rmse('additive and centre, auto')} |" in text
    other = (rmse(f"another seed, {name}") for name in ("mean", "auto"))
    assert 'with another seed it has {}, and "auto" {}'.format(*other) in text
    sums = (rmse(f"sums over {what}") for what in ("groups", "groups and pairs"))
    assert (
        "errs {} of the exact first order, for the price of half a dozen directions, and with the 325 pairs {}".format(
            *sums
        )
        in text
    )
    assert (
        f"held {held('', 'single groups'):.3f} of the truths for single groups and {held('', 'unions'):.3f} for "
        f"unions; those of the additive sketch {held('additive, ', 'unions'):.3f} for unions"
    ) in text
    ratio = "standard error of order {} in Examples(1000) over Candidates(100), {}"
    two, three = ([f"{pool[ratio.format(r, e)]:.0f}" for e in ("mean", "kernel")] for r in (2, 3))
    assert (
        f"of order two is {two[0]} times smaller with the mean and {two[1]} times with the kernel, "
        f"of order three {three[0]} and {three[1]} times"
    ) in text
    of = {m: f"{subsets[f'LDS at 5%, {m}']:.2f}" for m in ("plain, mean", "plain, auto", "additive, auto")}
    assert (
        f'is {of["plain, mean"]} for the mean, {of["plain, auto"]} for "auto", {of["additive, auto"]} for the additive '
        f"sketch. The exact first order alone has {subsets['LDS at 5%, exact first order']:.2f} there"
    ) in text
    rows = {(r["method"], r["deletions"]): r for r in comparison.stored()["microgpt"]["rows"]}

    def lds(method):
        return f"{rows[method, 'random 5.0%']['lds']:.3f}"

    assert (
        f"leave-one-out retrainings | {lds('leave-one-out sums')} | exact first order {lds('metagradient')}, default "
        f"sketch {lds('sketch')} |"
    ) in readme
    unions = "structured 5%-30%"

    def unseen(method):  # those that it was made from are exact
        r = rows[method, unions]
        return (
            f"{r['rmse'] * (r['count'] / (r['count'] - r['seen'])) ** 0.5 / rows['metagradient', unions]['rmse']:.2f}"
        )

    sums = unseen("sums over groups"), unseen("sums over groups and pairs")
    assert (
        f"additive sketch | {unseen('additive sketch of groups')} | sums of the 26 group retrainings {sums[0]}, with "
        f"all pairs {sums[1]} |"
    ) in readme
    curved = figures["curvature"]
    both = [f"{curved[f'RMSE at 5%, {what}']:.2f}" for what in ("32 products", "sums of leave-one-out retrainings")]
    assert f"32 Hessian products | {both[0]} | 1,000 leave-one-out retrainings {both[1]} |" in readme
    one = figures["one_direction"]["degree 2, a block of 128, over plain"]
    assert f"in plain trainings | {one:.1f} | 13, by counting multiplications |" in readme
