"""Training runs as functions of the weights: each optimiser and reduction, against oracles that share no code."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from runs import (
    BATCHES,
    COMPLEX,
    DRAW,
    INPUTS,
    N,
    ONES,
    TARGETS,
    assert_equals_cauchy_and_retraining,
    recipe,
    squared_error,
)

import sketchlearn as sl

pytestmark = pytest.mark.usefixtures("x64", "quick_compilation")

# --- optimisers -------------------------------------------------------------------------


def two_layers(parameters, x):
    return (jnp.tanh(x @ parameters["in"]) @ parameters["out"])[:, 0]


START = {"in": DRAW.normal(size=(3, 3)), "out": DRAW.normal(size=(3, 2))}
CLIPPED = 0.5  # below the norms of the gradients here, which are about 1 to 4

OPTIMIZERS = {
    "sgd with a schedule": optax.sgd(optax.cosine_decay_schedule(0.2, 3)),
    "nesterov with decay": optax.chain(optax.add_decayed_weights(0.1), optax.sgd(0.1, momentum=0.9, nesterov=True)),
    "adam": optax.adam(0.1, eps=0.0, eps_root=1e-3),
    "adamw": optax.adamw(optax.linear_schedule(0.1, 0.01, 3), eps=0.0, eps_root=1e-3, weight_decay=0.1),
    "rmsprop": optax.rmsprop(0.05, eps=1e-3, eps_in_sqrt=True, momentum=0.5),
    "muon": optax.contrib.muon(0.1),
    "clipped": optax.chain(optax.clip_by_global_norm(CLIPPED), optax.sgd(0.3)),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_series_of_a_run_with(name):
    assert_equals_cauchy_and_retraining(recipe(two_layers, OPTIMIZERS[name], initial=START))


def test_clipping_is_recorded_as_piecewise():
    report = sl.piecewise_report(recipe(two_layers, OPTIMIZERS["clipped"], initial=START), ONES)
    assert any(place.startswith("lt at ") for place in report)


