"""The stored map of exact orders: complete, derived again in part, and what the book says of it."""

from pathlib import Path

import numpy as np
import pytest

from sketchlearn.experiments import reach

STORED = reach.stored()


def by(**wanted):
    """The record of one run: 4000 names in batches of 16, rate 0.01, epsilon 0.001, if nothing else is wanted."""
    wanted = {"num_examples": 4000, "batch_size": 16, "rate": 0.01, "epsilon": 1e-3} | wanted
    (found,) = [record for record in STORED if wanted.items() <= record["settings"].items()]
    return found


def test_kinds_are_the_names_that_they_say():
    kinds = [("contains", "an"), ("begins with", "m"), ("ends with", "a")]
    names = ["maya", "ivan", "anna", "liam"]
    assert reach.kinds_of_names(names, kinds).astype(int).tolist() == [[0, 1, 1, 0], [1, 0, 0, 0], [1, 0, 1, 0]]


def test_every_run_of_the_map_is_stored():
    assert [record["settings"] for record in STORED] == list(reach.SETTINGS)
    for record in STORED:
        settings = record["settings"]
        assert record["steps"] == -(-settings["num_examples"] // settings["batch_size"])
        assert record["loss"] < record["untrained"]
        assert np.shape(record["terms"]) == np.shape(record["errors"]) == (len(reach.KINDS), reach.DEGREE)
        # the error of the first order is the change without it, so it is between their difference and their sum
        change, first = np.array(record["change"]), np.array(record["terms"])[:, 0]
        assert np.all(np.abs(change - first) <= np.array(record["errors"])[:, 0] * (1 + 1e-5))


def test_the_readme_says_what_is_stored():
    readme = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
    one, two, three = (f"{error:.2f}" for error in reach.relative_errors(by(batch_size=64))[:3])
    assert f"over the change | {two} | one order {one}, three {three} |" in readme


def test_a_part_of_the_map_is_derived_again():
    known = by(batch_size=64)
    kinds = [("contains", "x"), ("ends with", "ia")]
    rows = [known["kinds"].index(list(kind)) for kind in kinds]
    again = reach.reach(known["settings"], kinds, degree=2)
    assert again["names"] == [known["names"][row] for row in rows]
    for what in ("loss", "untrained", "steps"):
        assert again[what] == pytest.approx(known[what], rel=1e-5)  # six digits are stored
    # float32: another processor rounds differently, and the changes are a thousandth of the losses
    np.testing.assert_allclose(again["change"], [known["change"][row] for row in rows], rtol=5e-3)
    np.testing.assert_allclose(again["terms"], [known["terms"][row][:2] for row in rows], rtol=5e-3)
    np.testing.assert_allclose(again["norms"], known["norms"][:2], rtol=5e-3)
