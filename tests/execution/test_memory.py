"""How many directions are run at once, and what is refused because it would not fit."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import sketchlearn as sl
from sketchlearn.execution import blocks, memory
from sketchlearn.execution.directional import deleting, jets_program
from sketchlearn.planning import pilot
from sketchlearn.runtime import jax_compat

GB = 1e9


def with_free(monkeypatch, free):
    monkeypatch.setattr(memory, "free_memory", lambda: free)


def test_a_block_that_needs_more_than_half_of_the_memory_is_made_smaller(monkeypatch):
    with_free(monkeypatch, 10 * GB)
    assert memory.better_block(100, 20 * GB, 128) == 22  # a tenth less than a quarter of it


def test_a_block_is_kept_if_twice_as_many_would_not_fit(monkeypatch):
    with_free(monkeypatch, 10 * GB)
    assert memory.better_block(10, 4 * GB, 128) == 10
    assert memory.better_block(10, 1 * GB, 128) == 45
    assert memory.better_block(10, 1 * GB, 12) == 10


@pytest.mark.parametrize("fixed", [0, 0.2 * GB, 2 * GB])
@pytest.mark.parametrize("first", [1, 9, 128])
def test_the_block_that_is_found_fits_and_twice_as_many_do_not_if_little_is_fixed(monkeypatch, fixed, first):
    with_free(monkeypatch, 10 * GB)
    tried = []

    def needed(size):
        tried.append(size)
        return fixed + size * 0.11 * GB

    found = memory.fitting_block(needed, first, 128)
    assert needed(found) <= 5 * GB
    assert needed(2 * found + 1) > 5 * GB or fixed > GB
    assert len(tried) <= memory.ATTEMPTS + 1


def test_one_direction_is_the_least_block_whatever_it_needs(monkeypatch):
    with_free(monkeypatch, 1 * GB)
    assert memory.fitting_block(lambda size: 8 * GB * size, 20, 128) == 1


def train(weights):
    def step(theta, i):
        x = jnp.sin(jnp.arange(8.0)[:, None] * jnp.arange(1.0, 4))
        return theta - 0.1 * jnp.tanh(x @ theta) @ (x * weights[:, None]), None

    return jax.lax.scan(step, jnp.ones(3), jnp.arange(4))[0]


def sketch(**options):
    return sl.sketch(train, sl.Examples(8), 2, 12, progress=False, **options)


def test_a_direction_that_does_not_fit_is_refused_before_it_runs_with_what_to_change(monkeypatch):
    with_free(monkeypatch, 100.0)
    monkeypatch.setattr(blocks, "side_by_side", lambda *_: pytest.fail("it ran"))
    with pytest.raises(MemoryError, match=r"^1 direction of degree 2 needs .* GB are free: put jax.checkpoint"):
        sketch()


def test_a_batch_that_does_not_fit_is_refused_with_one_that_does(monkeypatch):
    run, _, _ = blocks.compiled_block(
        jets_program(train, 2), lambda start, size: (jnp.ones(8), *[jnp.ones((size, 8))] * 2), 12, 12
    )
    with_free(monkeypatch, jax_compat.working_bytes(run) / 2)
    with pytest.raises(MemoryError, match=r"^12 directions of degree 2 need .* batch_size \(about 6\)"):
        sketch(batch_size=12)
    assert sketch(batch_size=4).num_directions == 12


def test_the_size_of_automatic_blocks_changes_no_result(monkeypatch):
    with jax.enable_x64(True):
        whole = sketch().predict(jnp.sum, [2]).change
        seen = []
        monkeypatch.setattr(memory, "largest_block", lambda: 3)
        monkeypatch.setattr("sketchlearn.sketching.make.largest_block", lambda: 3)
        real = blocks.parts_of
        monkeypatch.setattr(blocks, "parts_of", lambda *of: seen.append(real(*of)) or seen[-1])
        in_parts = sketch().predict(jnp.sum, [2]).change
    assert max(stop - start for part in seen for start, stop in part) == 3
    np.testing.assert_allclose(in_parts, whole, rtol=1e-12)  # rounding in float64


def test_a_finished_store_is_opened_without_asking_for_memory(monkeypatch, tmp_path):
    first = sketch(store=tmp_path / "s").predict(jnp.sum, [2]).change
    with_free(monkeypatch, 1.0)
    assert sketch(store=tmp_path / "s").predict(jnp.sum, [2]).change == first


def test_on_an_accelerator_one_large_block_is_run(monkeypatch):
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert blocks.largest_block() == 1024
    assert blocks.parts_of(500, blocks.largest_block()) == [(0, 500)]


PROGRAMS = {
    "logistic": lambda: sl.zoo.logistic_regression(num_examples=60).recipe,
    "convolutions": lambda: sl.zoo.digits_cnn(num_examples=80, epochs=1).recipe,
    "a loop over letters": lambda: sl.zoo.character_model(num_examples=60, epochs=1).recipe,
    "two layers": lambda: sl.zoo.larger_microgpt(num_examples=64, epochs=1, width=16).recipe,
    "layers in a loop": lambda: sl.zoo.source_code_model(num_examples=32, layers=2, width=16, length=32).recipe,
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_the_memory_that_a_plan_foresees_is_what_the_compiler_says_of_the_sketchs_own_block(name, monkeypatch):
    """From a block of four, within a factor of 1.3."""
    recipe = PROGRAMS[name]()
    n, count = recipe.num_examples, 48
    space, weights = sl.Examples(n), jnp.ones(n)
    monkeypatch.setattr(pilot, "CHEAP", 0.0)  # so that the pilot compiles for its own few directions

    def query(parameters):
        return sum(map(jnp.sum, jax.tree.leaves(parameters)))

    seen = pilot.run_pilot(recipe, space, query, np.eye(n)[:2], 1, 2, count, 0, None, False)
    cost = seen.costs[0]
    assert cost.timed == 4

    def draw(start, size):
        return weights, *deleting(space, *[jnp.ones((size, n))] * 2)

    run, size, _ = blocks.compiled_block(jets_program(recipe, 1), draw, count, count)
    assert size > 10
    assert 1 / 1.3 < cost.working_bytes * size / jax_compat.working_bytes(run) < 1.3
