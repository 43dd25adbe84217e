"""Public functions return arrays of the shapes and dtypes that their annotations say."""

import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import TypeCheckError, jaxtyped
from support.learners import Polynomial
from support.typed import checked

import sketchlearn as sl
from sketchlearn.deletions.directions import directions
from sketchlearn.deletions.reading import deletion_vectors

pytestmark = pytest.mark.usefixtures("x64")

LEARNER = Polynomial()
SPACE = sl.Examples(4)


def train(weights):
    return LEARNER.train(weights)


def made(**options):
    return sl.sketch(train, SPACE, 2, 6, progress=False, **options)


def bank():
    return sl.RetrainBank(None, train, {}, SPACE)


def profile():
    return sl.stability_profile(train, lambda p: p["a"][0], 3, 2, SPACE, progress=False)


def planned():
    return sl.plan(train, SPACE, LEARNER.query, degree=2, num_directions=8, pilot=2, progress=False)


LINEAR = sl.LinearMap([[1.0, 0], [0.5, 0.5], [0, 1], [0, 1]])
CALLS = {
    "Examples.locate, one": (sl.Examples.locate, SPACE, [1, 2]),
    "Examples.locate, a stack": (sl.Examples.locate, SPACE, [[1], [2, 3]]),
    "Candidates.locate": (sl.Candidates.locate, sl.Candidates([0, 2], 4), [2]),
    "Groups.locate": (sl.Groups.locate, sl.Groups(["a", "b", "a", "c"]), ["a", "c"]),
    "LinearMap.locate": (sl.LinearMap.locate, LINEAR, [0.0, 0.5, 1, 1]),
    "deletion_vectors": (deletion_vectors, [[0], [1, 2]], 4),
    "directions": (directions, 0, np.arange(3), 5),
    "random_deletions": (sl.random_deletions, 10, 0.3, 2),
    "minibatches": (sl.minibatches, 5, 2),
    "gradient": (sl.gradient, train, LEARNER.query, SPACE),
    "seed_noise": (sl.seed_noise, lambda s: lambda w: s * w, [1, 2], lambda p: p, [[0], [1]], 4),
    "Sketch.measure": (sl.Sketch.measure, made, LEARNER.query),
    "Sketch.directions": (sl.Sketch.directions.func, made),
    "Sketch.seen_deletions": (sl.Sketch.seen_deletions.fget, lambda: made(additive=True)),
    "RetrainBank.values": (sl.RetrainBank.values, bank, LEARNER.query, [[0], [1]]),
    "RetrainBank.evaluated": (sl.RetrainBank.evaluated, bank, LEARNER.query, np.ones((2, 4))),
    "StabilityProfile.bombieri": (sl.StabilityProfile.bombieri, profile),
    "Plan.noise": (sl.Plan.noise, planned, 8),
}
METHODS = {"made", "bank", "profile", "planned", "<lambda>"}


@pytest.mark.parametrize("name", CALLS)
def test_a_public_function_returns_what_its_annotation_says(name):
    function, *arguments = CALLS[name]
    if "." in name and callable(arguments[0]) and getattr(arguments[0], "__name__", "") in METHODS:
        arguments[0] = arguments[0]()  # made here, not when the file is read
    jaxtyped(typechecker=checked)(function)(*arguments)


def test_a_wrong_annotation_would_be_found():
    def wrong(delete: list) -> "sl.planning.plan.Float[np.ndarray, 'B q']":
        return SPACE.locate(delete)

    with pytest.raises(TypeCheckError):
        jaxtyped(typechecker=checked)(wrong)([0])
    assert jnp.ndim(wrong([0])) == 1
