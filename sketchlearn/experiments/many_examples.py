"""Many examples: what each method says where retraining without every single one would not pay.

Twenty thousand names train microgpt in minibatches (:func:`sketchlearn.zoo.many_names`). What is deleted are the names
of one kind, or random ones; what is asked are the losses on twenty held-out names, which no sketch was told of.
Far fewer directions than examples see little of a deletion, so the space of all examples stands beside spaces of
overlapping features of the names.
"""

from __future__ import annotations

import dataclasses
import functools
import json
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from string import ascii_lowercase
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from sketchlearn.deletions.base import Space
from sketchlearn.deletions.examples import Examples
from sketchlearn.deletions.linear_map import LinearMap
from sketchlearn.evaluation import baselines
from sketchlearn.evaluation.deletion_sets import random_deletions
from sketchlearn.evaluation.evaluate import evaluate
from sketchlearn.execution.timing import priced
from sketchlearn.experiments import zoo
from sketchlearn.experiments.reach import kinds_of_names
from sketchlearn.prediction.result import Prediction
from sketchlearn.runtime.paths import as_path
from sketchlearn.sketching.make import sketch
from sketchlearn.sketching.sketch import Sketch
from sketchlearn.truth.bank import RetrainBank

Kind = tuple[str, str]

#: The full run, and a tiny one to see that it works.
SETTINGS: dict[bool, dict[str, Any]] = {
    False: {"examples": 20_000, "batch": 16, "queries": 20, "degree": 2, "directions": 512, "features": 128,
            "more_features": 512, "fraction": 0.1, "products": 8, "subsets": 512, "count": 50},
    True: {"examples": 200, "batch": 20, "queries": 2, "degree": 2, "directions": 16, "features": 60,
           "more_features": 80, "fraction": 0.1, "products": 2, "subsets": 40, "count": 4},
}  # fmt: skip
BLOCK = 32  # directions at once


class World(NamedTuple):
    """The run, what is asked and deleted, and the features of the names that smaller spaces are made of."""

    work: zoo.Workload
    query: Callable
    deletions: dict[str, np.ndarray]  # name of a set -> (B, n) booleans
    features: list[Kind]  # in the order in which a space takes them, none a combination of others

    def space(self, count: int) -> LinearMap:
        """The space of the first features."""
        return LinearMap(kinds_of_names(self.work.names or (), self.features[:count]).T.astype(float))


def world(settings: dict[str, Any]) -> World:
    """The run of some settings.

    The features are single letters (contained, first, last), then pairs of letters from the most frequent on, then
    first and last pairs and letters by threes. Of what is deleted, only the single letters are features.

    Example:
        >>> sorted(world(SETTINGS[True]).deletions)
        ['beginnings', 'endings', 'letters', 'pairs', 'random 1%', 'random 10%']
    """
    s = settings
    work = zoo.many_names(s["examples"], s["batch"], dtype=jnp.float32)
    names, count = work.names or (), s["count"]
    pairs, threes = (_common(part for name in names for part in _parts(name, size)) for size in (2, 3))
    ends, begins = _common(name[-2:] for name in names), _common(name[:2] for name in names)
    letters = [(kind, letter) for kind in ("contains", "begins with") for letter in ascii_lowercase]
    told = [*letters, *[("ends with", letter) for letter in ascii_lowercase], *[("contains", p) for p in pairs]]
    told = independent(told, names, s["features"])
    untold = [pair for pair in pairs if ("contains", pair) not in told]
    deleted = {
        "letters": [kind for kind in letters if kinds_of_names(names, [kind]).any()],
        "pairs": [("contains", pair) for pair in untold[:count]],
        "endings": [("ends with", end) for end in ends[:count]],
        "beginnings": [("begins with", begin) for begin in begins[:count]],
    }
    more = [
        *[("contains", pair) for pair in untold[count:]],
        *[("begins with", begin) for begin in begins[count:]],
        *[("ends with", end) for end in ends[count:]],
        *[("contains", three) for three in threes],
    ]
    deletions = {label: kinds_of_names(names, kinds) for label, kinds in deleted.items()}
    for percent in (1, 10):
        deletions[f"random {percent}%"] = random_deletions(s["examples"], percent / 100, count)
    features = independent([*told, *more], names, s["more_features"])
    return World(work, work.query(range(s["queries"]), each=True), deletions, features)


def _parts(name: str, size: int) -> set[str]:
    return {name[i : i + size] for i in range(len(name) - size + 1)}


def _common(things: Iterable[str]) -> list[str]:
    """The most frequent first; ties in alphabetical order."""
    return [thing for thing, _ in sorted(Counter(things).items(), key=lambda found: (-found[1], found[0]))]


def independent(kinds: Sequence[Kind], names: Sequence[str], count: int) -> list[Kind]:
    """The first kinds, as many as wanted, none of which is a combination of those before it on these names.

    Example:
        >>> independent([("contains", "a"), ("contains", "b"), ("contains", "c")], ["ab", "b", "ac"], 3)
        [('contains', 'a'), ('contains', 'b'), ('contains', 'c')]
        >>> independent([("contains", "a"), ("begins with", "a"), ("contains", "c")], ["ab", "b", "ac"], 3)
        [('contains', 'a'), ('contains', 'c')]
    """
    chosen: list[Kind] = []
    basis = np.zeros((min(count, len(kinds)), len(names)))
    for kind in kinds:
        if len(chosen) == count:
            break
        column = kinds_of_names(names, [kind])[0].astype(float)
        left, known = column, basis[: len(chosen)]
        for _ in range(2):  # once more, for what rounding left
            left = left - (known @ left) @ known
        if np.linalg.norm(left) > 1e-6 * max(
            float(np.linalg.norm(column)), 1.0
        ):  # far above rounding, far below one name
            basis[len(chosen)] = left / np.linalg.norm(left)
            chosen.append(kind)
    return chosen


class FirstOrderGiven:
    """A sketch of examples that is given the exact first order of every query that it is asked."""

    differentiates = True

    def __init__(self, made: Sketch, slopes: Callable[[], baselines.Metagradient]):
        self.made, self.slopes = made, slopes

    def predict(self, query: Callable, delete: Any) -> Prediction:
        """As :meth:`sketchlearn.Sketch.predict`."""
        return self.made.predict(query, delete, gradient=self.slopes().gradient(query))


class NearSpan:
    """A method of a space of features, asked for any deletion: ``x = G z + rest``, by least squares.

    The method answers for ``G z``; for the rest its slope does, if it is given, and otherwise nothing is said of it.
    """

    def __init__(self, method: Any, space: LinearMap, slopes: Callable[[], baselines.Metagradient] | None = None):
        self.method, self.space, self.slopes = method, space, slopes
        self.seen_deletions = getattr(method, "seen_deletions", None)
        self.differentiates = slopes is not None or getattr(method, "differentiates", False)

    def predict(self, query: Callable, delete: Any) -> Prediction:
        """As :meth:`sketchlearn.Sketch.predict`, for a stack of deletion vectors."""
        z, rest = self.space.nearest(delete)
        found = self.method.predict(query, z @ self.space.matrix.T)
        if self.slopes is None:
            return found
        change = (rest @ self.slopes().gradient(query)).reshape(found.change.shape)
        return dataclasses.replace(found, change=found.change + change, value=found.value + change)


def many(
    folder: str | Path, quick: bool = False, only: Sequence[str] | None = None, progress: bool = True
) -> dict[str, Any]:
    """Every method on many names, against retraining; what was done is kept, and an interrupted run goes on.

    Args:
        folder: keeps retrainings, directions and the rows of each method.
        quick: a tiny run, to see that it works.
        only: names of the methods to run; all of them if not given.
        progress: show progress bars.

    Returns:
        A dict of plain numbers for JSON. ``settings``. ``sets``: of each set of deletions how many there are, the mean
        and largest number of names, the rms change in nats, and the share of the deletion vectors' length outside the
        spans of the features. ``rows``, ``warnings``, ``plain_seconds``: as :class:`sketchlearn.Evaluation` has them;
        what was made beforehand is priced by its number of retrainings (in a block) or directions, the price of one
        direction being ``direction``, so that an interruption changes no price. ``first``: what each method says of
        the first deletion of each set, for every query. ``orders``: of the paper's mean over the directions of each
        sketch, by set: ``errors`` (of order one, of both) and ``noise`` (of each order), over the rms change.
    """
    settings, folder = SETTINGS[bool(quick)], as_path("folder", folder)
    folder.mkdir(parents=True, exist_ok=True)
    made = world(settings)
    run = _Run(settings, made, folder, progress)
    found = {
        name: run.kept(name, functools.partial(run.ask, name)) for name in run.makers if only is None or name in only
    }
    plain = float(np.median([own["report"]["plain_seconds"] for own in found.values()]))
    direction = run.kept("price of a direction", run.price_of_direction) / plain
    slope, retraining = (
        next((row[price] for row in found.get(name, _NOTHING)["report"]["rows"]), float("nan"))
        for name, price in (("metagradient", "per_query"), ("retraining", "per_deletion"))
    )
    rows = [row for own in found.values() for row in own["report"]["rows"]]
    for row in rows:
        directions, retrainings = run.made_of(row["method"])
        row["precomputation"] = directions * direction + (retrainings * retraining if retrainings else 0.0)
        row["per_query"] += slope if "by gradient" in row["method"] else 0.0
    return {
        "settings": settings,
        "sets": run.sets(),
        "plain_seconds": plain,
        "direction": direction,
        "rows": rows,
        "warnings": {name: own["report"]["warnings"][name] for name, own in found.items()},
        "first": {name: own["first"] for name, own in found.items()},
        "orders": {
            name: run.kept(f"orders of the {name}", functools.partial(run.orders, name))
            for name in ("sketch", "sketch of features")
            if name in found
        },
    }


_NOTHING: dict[str, Any] = {"report": {"rows": []}}


class _Run:
    """One run of the experiment in its folder."""

    def __init__(self, settings: dict[str, Any], made: World, folder: Path, progress: bool):
        self.settings, self.made, self.folder, self.progress = settings, made, folder, progress
        self.space = Examples(settings["examples"])
        self.recipe = made.work.recipe
        self.truth = self.bank("truth", self.space)
        self.slopes = functools.cache(lambda: baselines.Metagradient(self.recipe, self.space, jnp.float32))
        self.features = functools.cache(made.space)
        self.makers = self._makers()

    def kept(self, name: str, make: Callable[[], Any]) -> Any:
        """What was made of this name, from the folder if it is there."""
        file = self.folder / f"{name.translate({ord(' '): '_', ord(','): None, ord('%'): None})}.json"
        if not file.exists():
            file.write_text(json.dumps(make()), encoding="utf-8")
        return json.loads(file.read_text(encoding="utf-8"))

    def bank(self, name: str, space: Space) -> RetrainBank:
        about = {key: self.settings[key] for key in ("examples", "batch")}
        return RetrainBank(self.folder / name, self.recipe, about, space, dtype=jnp.float32, progress=self.progress)

    def sketch(self, name: str) -> Sketch:
        count, _ = self.made_of(name)
        space = self.features(count) if "features" in name else self.space
        return sketch(self.recipe, space, self.settings["degree"], count, dtype=jnp.float32, store=self.folder / name,
                      batch_size=min(BLOCK, count), progress=self.progress)  # fmt: skip

    def price_of_direction(self) -> float:
        """Seconds of one direction, from a block of its own."""
        make = functools.partial(sketch, self.recipe, self.space, self.settings["degree"], BLOCK, seed=1,
                                 dtype=jnp.float32, batch_size=BLOCK, progress=self.progress)  # fmt: skip
        return priced(make)[1].running / BLOCK

    def made_of(self, name: str) -> tuple[int, int]:
        """Of how many directions and retrainings a method is made."""
        s = self.settings
        if name.startswith("sketch"):
            return s["features" if "of features" in name else "directions"], 0
        if name.startswith("datamodels"):
            return 0, s["subsets"]
        return 0, s["more_features"] if "more features" in name else s["features"] if "features" in name else 0

    def ask(self, name: str) -> dict[str, Any]:
        """The report of a method, and what it says of the first deletion of each set, (Q,)."""
        if "by gradient" in name:
            self.slopes().gradient(self.made.query)  # shared, so that nobody pays for it by chance
        method, query, sets = self.makers[name](), self.made.query, self.made.deletions
        names = [f"held-out name {i}" for i in range(self.settings["queries"])]
        report = evaluate({name: method}, self.truth, query, sets, names).to_dict()
        first = {label: method.predict(query, x[:1]).change[0].tolist() for label, x in sets.items()}
        return {"report": report, "first": first}

    def _makers(self) -> dict[str, Callable[[], Any]]:
        """Every method by name, as a function that makes it."""
        s, recipe = self.settings, self.recipe

        def sums(count: int, fraction: float) -> NearSpan:
            features = self.features(count)
            bank = self.bank(f"{count} features less {fraction:.0%}", features)
            return NearSpan(baselines.CoordinateSums(bank, fraction=fraction), features)

        def subsets(fraction: float) -> baselines.DatamodelRegression:
            return baselines.DatamodelRegression(self.bank("subsets", self.space), s["subsets"], fraction)

        of_features: dict[str, Callable[[], NearSpan]] = {
            "sketch of features": lambda: NearSpan(self.sketch("sketch of features"), self.features(s["features"])),
            "sums over features": lambda: sums(s["features"], 1.0),
            "slopes of features": lambda: sums(s["features"], s["fraction"]),
            "slopes of more features": lambda: sums(s["more_features"], s["fraction"]),
        }

        def rest(make: Callable[[], NearSpan]) -> Callable[[], NearSpan]:
            def made() -> NearSpan:
                near = make()
                return NearSpan(near.method, near.space, self.slopes)

            return made

        return {
            "retraining": lambda: self.truth,
            "metagradient": self.slopes,
            "curvature": lambda: baselines.LeadingCurvature(recipe, self.space, s["products"], dtype=jnp.float32),
            "sketch": lambda: self.sketch("sketch"),
            "sketch, first order by gradient": lambda: FirstOrderGiven(self.sketch("sketch"), self.slopes),
            **of_features,
            **{f"{name}, rest by gradient": rest(make) for name, make in of_features.items() if "sums" not in name},
            **{f"datamodels, {share:.0%} deleted": functools.partial(subsets, share) for share in (0.01, 0.1, 0.5)},
        }

    def changes(self, label: str) -> np.ndarray:
        """What retraining says of a set of deletions, (B, Q)."""
        return self.truth.predict(self.made.query, self.made.deletions[label]).change

    def sets(self) -> dict[str, dict[str, Any]]:
        """What each set of deletions is like."""
        out: dict[str, dict[str, Any]] = {}
        for label, x in self.made.deletions.items():
            out[label] = {
                "count": len(x),
                "mean_names": float(x.sum(1).mean()),
                "most_names": int(x.sum(1).max()),
                "change": _rms(self.changes(label)),
                "outside": {
                    name: float(np.sqrt((self.features(self.settings[name]).nearest(x)[1] ** 2).sum() / x.sum()))
                    for name in ("features", "more_features")
                },
            }
        return out

    def orders(self, name: str) -> dict[str, dict[str, Any]]:
        """Of the paper's mean over a sketch's directions, by set: what its orders add up to, and their noise.

        ``errors`` (of order one, of both; against retraining) and ``noise`` (root mean square of each order's standard
        error), both over the root mean square of the changes. Of features, for what their span holds of a deletion.
        """
        made, out = self.sketch(name), {}
        for label, x in self.made.deletions.items():
            if isinstance(made.space, LinearMap):
                x = made.space.nearest(x)[0] @ made.space.matrix.T
            found, change = made.predict(self.made.query, x, estimator="mean"), self.changes(label)
            errors = np.cumsum(found.terms, axis=1) - change[:, None]
            size = _rms(change)
            out[label] = {
                "errors": [_rms(error) / size for error in np.moveaxis(errors, 1, 0)],
                "noise": [_rms(noise) / size for noise in np.moveaxis(found.standard_errors, 1, 0)],
            }
        return out


def _rms(values: np.ndarray) -> float:
    return float(np.sqrt(np.mean(values**2)))


def stored() -> dict[str, Any]:
    """The full run that comes with the package, as :func:`many` returns it; made by ``tools/make_many_examples.py``."""
    return json.loads((Path(__file__).parent / "data" / "many_examples.json").read_text(encoding="utf-8"))
