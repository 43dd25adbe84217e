"""Every random purpose has a stream of its own."""

import ast
import itertools
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import sketchlearn as sl
from sketchlearn.deletions.directions import directions
from sketchlearn.runtime.seeds import PURPOSES, jax_key, stream, subseed

PACKAGE = Path(__file__).parents[2] / "sketchlearn"
# What makes a training program (its data, their order, where it starts) is the program's own and no evaluation of it.
PROGRAMS = {"batches.py", "microgpt.py", "worlds.py", "zoo.py", "comparison.py"}


def test_no_two_purposes_draw_the_same_numbers_nor_what_a_user_draws():
    drawn = {purpose: stream(purpose, 0).integers(0, 2**63, 4).tobytes() for purpose in PURPOSES}
    drawn["the user's"] = np.random.default_rng(0).integers(0, 2**63, 4).tobytes()
    assert len(set(drawn.values())) == len(PURPOSES) + 1
    keys = [jax.random.key_data(jax_key(purpose, 0)).tolist() for purpose in PURPOSES]
    keys += [jax.random.key_data(jax.random.key(0)).tolist()]
    keys += [jax.random.key_data(jax.random.fold_in(jax.random.key(0), i)).tolist() for i in range(100)]
    assert len({tuple(k) for k in keys}) == len(keys)
    assert len({subseed(purpose, 0) for purpose in PURPOSES}) == len(PURPOSES)


def test_a_stream_depends_on_seed_and_on_which_of_its_draws_is_meant():
    first, again = (stream("bootstrap", 3).random(5) for _ in range(2))
    np.testing.assert_array_equal(first, again)
    others = [stream("bootstrap", 4).random(5), stream("bootstrap", 3, 1).random(5)]
    assert all((first != other).all() for other in others)
    with pytest.raises(ValueError, match=r"a stream is drawn for one of 'directions', .*, got 'luck'"):
        stream("luck", 0)


def test_the_package_draws_from_named_streams_only():
    for path in PACKAGE.rglob("*.py"):
        if path.name in PROGRAMS or path.name == "seeds.py":
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            text = ast.unparse(node) if isinstance(node, ast.Call) else ""
            assert not text.startswith(("np.random.", "jax.random.key(", "jax.random.PRNGKey(")), f"{path.name}: {text}"


def test_directions_are_not_the_noise_that_a_program_draws_from_the_same_seed():
    re, _ = directions(0, jnp.arange(50), 40)
    steps = [jax.random.normal(jax.random.fold_in(jax.random.key(0), i), (2, 40)) for i in range(50)]
    alike = [abs(np.corrcoef(np.asarray(a), np.asarray(b)[0])[0, 1]) for a, b in zip(re, steps, strict=True)]
    assert np.mean(alike) < 0.25  # of independent numbers 0.13; before, 1


@pytest.mark.parametrize("key", range(3))
def test_no_test_subset_is_a_training_subset_of_the_regression_of_the_same_seed(key):
    bank = sl.RetrainBank(None, lambda w: w @ jnp.arange(40.0), {}, sl.Examples(40))
    method = sl.baselines.DatamodelRegression(bank, num_subsets=100, fraction=0.1, seed=key)
    tested = sl.random_deletions(40, 0.1, 100, key)
    assert not {x.tobytes() for x in method.seen_deletions} & {x.tobytes() for x in tested.astype(float)}


def test_test_subsets_of_different_sizes_are_not_parts_of_one_another():
    sets = [sl.random_deletions(200, share, 20) for share in (0.05, 0.1, 0.25)]
    for small, large in itertools.combinations(sets, 2):
        inside = (small & large).sum(1) / small.sum(1)
        assert inside.mean() < 0.45  # by chance 0.1 and 0.25
