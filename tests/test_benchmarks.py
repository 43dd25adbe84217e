"""The benchmark of a device writes what it knows, whatever fails."""

import json
import subprocess
import sys
from pathlib import Path

from benchmarks import accelerator

ROOT = Path(__file__).parent.parent


def measured(out, *options):
    command = [sys.executable, "-m", "benchmarks.accelerator", "--out", str(out), *options]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(out.read_text()), done.stdout


def test_a_part_that_is_measured_is_written_with_its_device(tmp_path):
    records, shown = measured(tmp_path / "r.json", "--parts", "precision", "--size", "small")
    assert [label for _, label, *_ in records] == [
        f"error of a float32 product, precision '{name}'" for name in ("default", "high", "highest")
    ]
    assert all(1e-8 < value < 1e-2 for _, _, value, *_ in records)
    assert "jax" in records[0][-1]
    assert (tmp_path / "r.md").read_text() in shown
    assert not list(tmp_path.glob("*.lines"))


def test_a_part_that_takes_too_long_is_a_row_that_says_so(tmp_path):
    records, _ = measured(tmp_path / "r.json", "--parts", "program_size", "--minutes", "0", "--size", "small")
    assert records == [
        ["accelerator/program_size", "failure", "not finished within the 0 minutes of all parts", "", "", "small"]
    ]


def test_the_stored_figures_are_of_all_parts_and_their_table_is_made_from_them():
    stored = ROOT / "benchmarks" / "accelerator.json"
    records = json.loads(stored.read_text())
    assert {record[0].split("/")[1] for record in records} == set(accelerator.PARTS)
    assert not [label for _, label, *_ in records if label == "failure"]
    assert stored.with_suffix(".md").read_text() == accelerator.table(records)
