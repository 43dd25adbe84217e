"""The data of the page "Delete it yourself": a sketch, what its default estimator needs, and retrained truth.

    python tools/make_page_data.py             # everything: a sketch of 512 directions, about 1,800 trainings
    python tools/make_page_data.py --encode    # only book/_static/delete_data.js, from the sketch and the truth kept

The sketch and the retrainings are kept in ``book/_data/delete_page.npz``; ``delete_data.js`` is derived from that file.

What can be deleted is written ``x = G z``: 120-odd names one by one, the others by their first letter. Columns of G
have length one, so that a group of names is no louder along a random direction than a single name.
"""

from __future__ import annotations

import argparse
import base64
import dataclasses
import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import sketchlearn as sl
from sketchlearn.prediction.equations import Equations
from sketchlearn.prediction.known import QueryJets
from sketchlearn.prediction.sizes import fraction_of, sizes_along
from sketchlearn.sketching.coordinate_scales import scales_of_query
from sketchlearn.sketching.jets import QueriesOnly
from sketchlearn.sketching.sketch import Sketch

ROOT = Path(__file__).parents[1]
KEPT = ROOT / "book" / "_data" / "delete_page.npz"
PAGE = ROOT / "book" / "_static" / "delete_data.js"

TESTS = ["max", "alexa", "maya", "oliver", "quinn", "zoe", "jack", "emma"]
QUERY = "tests"
DEGREE, DIRECTIONS, KEY = 3, 512, 0
SINGLE = 125  # names that can be ticked one by one: all with an x, a q or a z, and a random rest
SHARES = np.arange(1, 11) / 10


class Unit(NamedTuple):
    """What one box of the page deletes: a name, or all other names with one first letter."""

    label: str
    letter: str
    members: tuple[int, ...]


def units_of(names: tuple[str, ...]) -> list[Unit]:
    """One unit for every box, by first letter: single names in alphabetical order, then the others."""
    rare = [i for i, name in enumerate(names) if set(name) & set("xqz")]
    others = np.array([i for i in range(len(names)) if i not in set(rare)])
    drawn = np.random.default_rng(KEY).choice(others, SINGLE - len(rare), replace=False)
    single = {*rare, *drawn.tolist()}
    units = []
    for letter in sorted({name[0] for name in names}):
        mine = [i for i, name in enumerate(names) if name[0] == letter]
        alone = sorted((i for i in mine if i in single), key=lambda i: (names[i], i))
        units += [Unit(names[i], letter, (i,)) for i in alone]
        rest = tuple(i for i in mine if i not in single)
        if rest:
            units.append(Unit(f"the other {len(rest)} names with {letter}", letter, rest))
    return units


def space_of(units: list[Unit], num_examples: int) -> sl.LinearMap:
    """The deletions that the boxes span, with orthonormal columns."""
    g = np.zeros((num_examples, len(units)))
    for j, unit in enumerate(units):
        g[list(unit.members), j] = len(unit.members) ** -0.5
    return sl.LinearMap(g)


def coordinates(ticked: np.ndarray, units: list[Unit]) -> np.ndarray:
    """Deletion vectors (..., n) of ticked boxes (..., q)."""
    x = np.zeros((*ticked.shape[:-1], sum(len(u.members) for u in units)))
    for j, unit in enumerate(units):
        x[..., list(unit.members)] = ticked[..., j, None]
    return x


def cases_of(units: list[Unit]) -> list[tuple[str, str, np.ndarray]]:
    """The deletions with stored truth: (group, label, ticked boxes (q,))."""
    q = len(units)
    single = np.array([len(u.members) == 1 and not u.label.startswith("the other ") for u in units])
    letters = sorted({u.letter for u in units})

    def of_letters(chosen: str) -> np.ndarray:
        return np.array([u.letter in chosen for u in units])

    def containing(letter: str) -> np.ndarray:
        return np.array([bool(s) and letter in u.label for s, u in zip(single, units, strict=True)])

    cases = [
        ("With a rare letter", f"names with {a} {c}", containing(c)) for a, c in (("an", "x"), ("a", "q"), ("a", "z"))
    ]
    cases.append(
        ("With a rare letter", "names with a q, an x or a z", containing("x") | containing("q") | containing("z"))
    )
    cases += [("By first letter", f"names that begin with {c}", of_letters(c)) for c in letters]
    for several in ("am", "ez", "ao", "jk", "lmno", "aeiou"):
        cases.append(("Several letters", "names that begin with " + ", ".join(several), of_letters(several)))
    draw = np.random.default_rng(KEY + 1)
    for percent in (5, 10, 20, 50):
        for copy in range(4):
            chosen = draw.choice(np.flatnonzero(single), round(percent / 100 * single.sum()), replace=False)
            cases.append(
                ("At random", f"{percent}% of the single names, draw {copy + 1}", np.isin(np.arange(q), chosen))
            )
    cases.append(("Everything with a box of its own", "all single names", single))
    cases += [("One name", u.label, np.arange(q) == j) for j, u in enumerate(units) if single[j]]
    return cases


def compute(experiment: Any, store: str | None = None, progress: bool = True) -> dict[str, np.ndarray]:
    """The sketch's coefficients of the test names' losses, and those losses after retraining."""
    units = units_of(experiment.names)
    query = experiment.query(TESTS)
    sketch = sl.sketch(
        experiment.train, space_of(units, experiment.num_examples), degree=DEGREE, num_directions=DIRECTIONS, seed=KEY,
        queries={QUERY: query}, store=store, progress=progress,
    )  # fmt: skip
    value, c = sketch.measure(QUERY)
    return {"baseline": value, "coefficients": c, "truth": retrained(experiment, progress=progress)}


def retrained(experiment: Any, which: slice = slice(None), shares: Any = SHARES, progress: bool = False) -> np.ndarray:
    """Losses (cases, shares, tests) after retraining with the weights ``1 - s x``."""
    units = units_of(experiment.names)
    x = coordinates(np.stack([ticked for _, _, ticked in cases_of(units)[which]]).astype(float), units)
    weights = 1 - np.asarray(shares)[:, None] * x[:, None]
    flat = sl.retrain(
        experiment.train, weights.reshape(-1, experiment.num_examples), experiment.query(TESTS), progress=progress
    )
    return flat.reshape(*weights.shape[:2], len(TESTS))


def kept_sketch(kept: dict[str, np.ndarray], units: list[Unit]) -> Sketch:
    """The sketch again, from the coefficients that were kept: it answers for ``QUERY`` as the one that was made."""
    m, k, _ = kept["coefficients"].shape
    value = kept["baseline"]
    jets = QueryJets(None, value, value.astype(float), kept["coefficients"], None)
    space = space_of(units, sum(len(u.members) for u in units))
    return Sketch(space, k, KEY, QueriesOnly({QUERY: jets}, m), None)


def derived(sketch: Sketch) -> dict[str, np.ndarray]:
    """What ``estimator="auto"`` needs at any deletion, in the notation of ``interpolation.py``.

    Order one is solved for: a gradient. The fit of order r > 1 at z is ``Σ_i Re[conj(β_ir) (ψ_i · z)^r]``, or where the
    scaled kernel fits better ``Σ_i Re[conj(β_ir) ((ψ_i · S z)^r + bonus_r Σ_j (s_j ψ_ij z_j)^r)]`` with S the squared
    scales s; what it leaves of ``c_ir`` are the residuals. ``sizes`` are those of the residuals and of all; ``left`` is
    how much the residuals are of all.
    """
    jets = sketch.queries[QUERY]
    c = jets.coefficients.astype(complex)
    rounding = float(np.finfo(jets.coefficients.dtype).eps)
    eye, equations = np.eye(sketch.space.dim), Equations(sketch.directions)
    scales = scales_of_query(jets, equations)
    assert equations.solve_first
    fits, residuals, scaled, proven, bonus = [], [], [], [], []
    for r in range(2, sketch.degree + 1):
        both = equations.of(r), equations.of(r, scales)
        assert not both[0].determined
        plain, other = (each.fit(c[:, r - 1], eye[:1], rounding) for each in both)
        use = (np.abs(other.residuals) ** 2).sum(0) < (np.abs(plain.residuals) ** 2).sum(0)
        residuals.append(np.where(use, other.residuals, plain.residuals))
        scaled.append(use)
        proven.append(np.where(use, other.beyond_chance, plain.beyond_chance))
        bonus.append(both[1].bonus)
        betas = [each.kernel_weights(c[:, r - 1]) for each in both]
        fits.append(np.where(use, betas[1], betas[0]))
    rest = np.concatenate([c[:, :1], np.stack(residuals, 1)], 1)
    left, whole = (sizes_along(sketch.directions, of) for of in (rest, c))
    return {
        "sizes": np.stack([[of.pure, of.mixed] for of in (left, whole)]),
        "left": fraction_of(rest, c),
        "gradient": equations.of(1).fit(c[:, 0], eye, rounding).values,
        "scales": scales,
        "scaled": np.array(scaled),
        "proven": np.array(proven),
        "bonus": np.array(bonus),
        "fits": np.stack(fits, 1),
        "residuals": np.stack(residuals, 1),
    }


def array(values: np.ndarray) -> dict[str, Any]:
    """An array as the page reads it: base64 of little-endian float32."""
    values = np.asarray(values)
    return {"shape": list(values.shape), "base64": base64.b64encode(values.astype("<f4").tobytes()).decode()}


def read(packed: dict[str, Any]) -> np.ndarray:
    """What :func:`array` wrote, as the page decodes it."""
    return np.frombuffer(base64.b64decode(packed["base64"]), "<f4").reshape(packed["shape"]).astype(float)


def pair(values: np.ndarray) -> np.ndarray:
    """Real and imaginary parts on a last axis."""
    return np.stack([values.real, values.imag], -1)


def page_data(kept: dict[str, np.ndarray], names: tuple[str, ...]) -> dict[str, Any]:
    """All that the page knows, ready for JSON."""
    units = units_of(names)
    sketch = kept_sketch(kept, units)
    d = derived(sketch)
    return {
        "tests": TESTS,
        "numExamples": len(names),
        "degree": sketch.degree,
        "numDirections": sketch.num_directions,
        "calibration": json.loads(json.dumps(dataclasses.asdict(sketch.calibration))),  # as the page reads it
        "units": [{"label": u.label, "letter": u.letter, "names": [names[i] for i in u.members]} for u in units],
        "cases": [
            {"group": group, "label": label, "units": np.flatnonzero(ticked).tolist()}
            for group, label, ticked in cases_of(units)
        ],
        "shares": SHARES.tolist(),
        "baseline": array(kept["baseline"]),
        "truth": array(kept["truth"]),
        "sizes": array(d["sizes"]),
        "left": array(d["left"]),
        "gradient": array(d["gradient"]),
        "scales": array(d["scales"]),
        "scaled": d["scaled"].tolist(),
        "proven": d["proven"].tolist(),
        "bonus": d["bonus"].tolist(),
        "directions": array(pair(sketch.directions)),
        "fits": array(pair(d["fits"])),
        "residuals": array(pair(d["residuals"])),
    }


def written(data: dict[str, Any]) -> str:
    """The script that defines the data: a page opened from a file may not fetch, but may load scripts."""
    return "var sketchlearnDeletePage = " + json.dumps(data, separators=(",", ":")) + ";\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--encode", action="store_true", help="keep the sketch and the truth, write the script again")
    parser.add_argument("--store", help="directory for the blocks of the sketch, to go on after a stop")
    args = parser.parse_args()
    experiment = sl.microgpt.paper_experiment(dtype="float32")
    if not args.encode:
        KEPT.parent.mkdir(exist_ok=True)
        np.savez(KEPT, **compute(experiment, args.store))
    with np.load(KEPT) as file:
        kept = dict(file)
    PAGE.write_text(written(page_data(kept, experiment.names)), encoding="utf-8")
    print(f"{PAGE.relative_to(ROOT)}: {PAGE.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
