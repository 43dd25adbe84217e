"""How far exact Taylor orders reach: a map over batch size, steps, learning rate and epsilon.

Many names train microgpt in minibatches. What retraining without all names of one kind changes (those that contain a
letter or a pair of letters, begin with a letter, end with two) stands beside the exact sum of the first orders along
each of those deletions, so that what is measured is the run, and no estimator.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool

from sketchlearn.experiments import zoo
from sketchlearn.planning.stability import stability_profile
from sketchlearn.runtime.programs import jit
from sketchlearn.taylor.coefficients import taylor_coefficients
from sketchlearn.truth.retrain import retrain

DEGREE, QUERIES, DIRECTIONS = 4, 20, 4
#: The deletions: a kind, and the letters.
KINDS = (
    ("contains", "x"), ("contains", "v"), ("contains", "w"), ("contains", "an"), ("contains", "ya"), ("contains", "li"),
    ("begins with", "a"), ("begins with", "k"), ("begins with", "t"),
    ("ends with", "an"), ("ends with", "en"), ("ends with", "ia"),
)  # fmt: skip


def _settings() -> tuple[dict[str, Any], ...]:
    usual = {"num_examples": 4000, "batch_size": 16, "epochs": 1, "rate": 0.01, "epsilon": 1e-3, "dtype": "float32"}
    out = []
    for batch in (64, 16, 4, 1):
        out += [{**usual, "batch_size": batch, "rate": rate} for rate in (0.003, 0.01, 0.03)]
        out += [{**usual, "batch_size": batch, "epsilon": epsilon} for epsilon in (1e-2, 1e-4) if batch > 1]
        if batch > 4:
            out.append({**usual, "batch_size": batch, "num_examples": 20_000})
    return tuple(out)


#: The runs of the map: arguments of :func:`sketchlearn.zoo.many_names`.
SETTINGS = _settings()


def kinds_of_names(names: Sequence[str], kinds: Sequence[tuple[str, str]] = KINDS) -> Bool[np.ndarray, "B n"]:
    """Which names each kind deletes: one row for each.

    Example:
        >>> kinds_of_names(["maya", "ivan"], [("contains", "ya"), ("ends with", "an")]).astype(int).tolist()
        [[1, 0], [0, 1]]
    """
    are = {"contains": str.__contains__, "begins with": str.startswith, "ends with": str.endswith}
    return np.array([[are[kind](name, letters) for name in names] for kind, letters in kinds])


def reach(settings: dict[str, Any], kinds: Sequence[tuple[str, str]] = KINDS, degree: int = DEGREE) -> dict[str, Any]:
    """Exact orders beside retraining, in one run.

    Args:
        settings: one of :data:`SETTINGS`.
        kinds: what is deleted, each in its turn.
        degree: the highest order.

    Returns:
        Plain numbers for JSON: ``settings``, ``steps``; ``loss`` after training (nats, mean of held-out names) and
        ``untrained``; ``kinds`` with how many ``names`` each deletes; root mean squares over the queries, for each
        kind: ``change`` (what retraining says), ``terms`` (one list for each kind, orders 1 to the degree), ``errors``
        (of the sum up to each of these orders); ``norms`` (Bombieri, of the mean loss, for each order).
    """
    work = zoo.many_names(**settings)
    recipe, n, query = work.recipe, settings["num_examples"], work.query(range(QUERIES), each=True)
    x = kinds_of_names(work.names or (), kinds).astype(settings["dtype"])
    ones = jnp.ones(n, settings["dtype"])
    plain = np.asarray(jit(lambda w: query(recipe(w)))(ones), np.float64)
    change = np.asarray(retrain(recipe, 1 - x, query), np.float64) - plain

    def along(direction: jax.Array) -> jax.Array:
        return taylor_coefficients(lambda w: query(recipe(w)), ones, -direction, degree)

    terms = np.asarray(jit(jax.vmap(along))(jnp.asarray(x)), np.float64)[:, 1:]
    errors = np.cumsum(terms, axis=1) - change[:, None]
    profile = stability_profile(recipe, work.query(range(QUERIES)), degree, DIRECTIONS, progress=False)

    def rms(values: np.ndarray) -> list:
        return np.sqrt((values**2).mean(-1)).tolist()

    return {
        "settings": settings,
        "steps": recipe.num_steps,
        "loss": float(plain.mean()),
        "untrained": float(np.mean(jit(query)(recipe.parameters))),
        "kinds": [list(kind) for kind in kinds],
        "names": x.sum(1).astype(int).tolist(),
        "change": rms(change),
        "terms": rms(terms),
        "errors": rms(errors),
        "norms": profile.bombieri().tolist(),
    }


def relative_errors(record: dict[str, Any]) -> np.ndarray:
    """What the sums of orders leave of the changes: RMS over kinds and queries, over that of the changes."""
    errors, change = np.array(record["errors"]), np.array(record["change"])
    return np.sqrt((errors**2).mean(0) / (change**2).mean())


def stored() -> list[dict[str, Any]]:
    """The map that comes with the package, one record for each of :data:`SETTINGS`; made by ``tools/make_reach.py``."""
    return json.loads((Path(__file__).parent / "data" / "reach.json").read_text(encoding="utf-8"))
