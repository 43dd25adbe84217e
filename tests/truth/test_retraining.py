"""Retraining: the same numbers as one run at a time, kept, resumed, and never mixed up."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import sketchlearn as sl
from sketchlearn.truth import bank

N = 12


@pytest.fixture(scope="module")
def experiment():
    return sl.microgpt.paper_experiment(num_examples=N)


@pytest.fixture(scope="module")
def deletions():
    x = np.random.default_rng(0).random((7, N)) < 0.3
    return x | np.eye(7, N, dtype=bool)  # none of them empty


def quadratic(w):
    return {"a": jnp.outer(w, w) @ jnp.arange(1.0 * len(w)), "b": w.sum()}


def total(p):
    return p["a"].sum() + p["b"]


def leaves_equal(a, b):
    return all(np.array_equal(x, y) for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True))


def test_the_empty_deletion_is_the_plain_run_to_the_bit(experiment, deletions):
    plain = jax.jit(experiment.train)(jnp.ones(N))
    weights = np.concatenate([1.0 - deletions[:2], np.ones((1, N))])
    assert leaves_equal(jax.tree.map(lambda leaf: leaf[2], sl.retrain(experiment.train, weights)), plain)
    bank = sl.RetrainBank(None, experiment.train, {})
    assert leaves_equal(bank.plain, plain)
    assert leaves_equal(bank.retrained(np.ones((1, N))), jax.tree.map(lambda leaf: leaf[None], plain))


@pytest.mark.usefixtures("x64")
def test_retraining_in_blocks_is_retraining_one_by_one(deletions):
    experiment = sl.microgpt.paper_experiment(num_examples=N)
    query = experiment.query(["max", "emma"])
    expected = sl.reference.retrain(experiment.train, query, deletions, N)
    found = sl.retrain(experiment.train, 1.0 - deletions, query, batch_size=3)
    np.testing.assert_allclose(found, expected, rtol=1e-12)  # twelve float64 steps, each rounded to 1e-16


def test_a_row_does_not_depend_on_the_rows_beside_it(experiment, deletions):
    weights = 1.0 - deletions
    together = sl.retrain(experiment.train, weights, batch_size=4)
    alone = sl.retrain(experiment.train, weights[5], batch_size=4)
    assert leaves_equal(jax.tree.map(lambda leaf: leaf[5], together), alone)


def test_a_bank_killed_after_a_block_goes_on_and_holds_the_same_bytes(deletions, tmp_path, monkeypatch):
    whole = sl.RetrainBank(None, quadratic, {"seed": 42}, sl.Examples(N), batch_size=2).parameters(deletions)
    first = sl.RetrainBank(tmp_path / "bank", quadratic, {"seed": 42}, sl.Examples(N), batch_size=2)
    keep, calls = sl.RetrainBank._keep, []

    def keep_two_blocks(self, keys, leaves):
        if len(calls) == 2:
            raise KeyboardInterrupt
        calls.append(keys)
        keep(self, keys, leaves)

    monkeypatch.setattr(sl.RetrainBank, "_keep", keep_two_blocks)
    with pytest.raises(KeyboardInterrupt):
        first.parameters(deletions)
    monkeypatch.undo()
    again = sl.RetrainBank(tmp_path / "bank", quadratic, {"seed": 42}, sl.Examples(N), batch_size=2)
    assert len(again) == 4
    assert leaves_equal(again.parameters(deletions), whole)
    assert len(again) == 7
    monkeypatch.setattr(bank, "retrained_blocks", lambda *a: pytest.fail("everything is stored"))
    third = sl.RetrainBank(tmp_path / "bank", quadratic, {"seed": 42}, sl.Examples(N))
    assert leaves_equal(third.parameters(deletions[::-1]), jax.tree.map(lambda leaf: leaf[::-1], whole))


def test_a_bank_of_another_configuration_is_refused_and_both_are_shown(tmp_path):
    sl.RetrainBank(tmp_path / "bank", quadratic, {"rate": 0.1}, sl.Examples(4))
    with pytest.raises(sl.StoreError, match=r'stored {"rate": 0.1}, asked for {"rate": 0.2}'):
        sl.RetrainBank(tmp_path / "bank", quadratic, {"rate": 0.2}, sl.Examples(4))


def test_a_changed_program_is_found_although_the_configuration_is_the_same(tmp_path):
    sl.RetrainBank(tmp_path / "bank", quadratic, {}, sl.Examples(4))

    def changed(w):
        return jax.tree.map(lambda leaf: 1.01 * leaf, quadratic(w))

    with pytest.raises(sl.StoreError, match="made by other arguments:\n  train: stored"):
        sl.RetrainBank(tmp_path / "bank", changed, {}, sl.Examples(4))


def test_a_query_that_is_not_finite_after_a_deletion_is_an_error_not_a_number():
    bank = sl.RetrainBank(None, lambda w: w, {}, sl.Examples(4))
    with pytest.raises(FloatingPointError, match=r"retraining 1 of 2 times, first for row 1"):
        bank.predict(lambda p: jnp.log(p[2]), [[0], [2]])
    with pytest.raises(FloatingPointError, match="NaN or infinite with nothing deleted"):
        sl.baselines.Metagradient(lambda w: w, sl.Examples(4)).predict(lambda p: jnp.log(p[0] - 1), [0])


def test_the_deletion_that_training_does_not_survive_is_named():
    with pytest.raises(FloatingPointError, match=r"with 2 examples weighted down or deleted, the first 1, .*NaN"):
        sl.retrain(lambda w: 1 / w[1:2], 1 - np.array([[1.0, 0, 0], [0, 1, 1]]))


def test_a_damaged_block_is_named(tmp_path):
    bank = sl.RetrainBank(tmp_path / "bank", quadratic, {}, sl.Examples(4))
    bank.parameters([0])
    (block,) = (tmp_path / "bank").glob("runs-*")
    block.write_bytes(block.read_bytes()[:50])
    with pytest.raises(sl.StoreError, match=f"{block.name} is damaged.*Delete this file"):
        sl.RetrainBank(tmp_path / "bank", quadratic, {}, sl.Examples(4))


def test_a_folder_with_something_else_is_left_alone(tmp_path):
    (tmp_path / "thesis.txt").write_text("mine", encoding="utf-8")
    with pytest.raises(sl.StoreError, match="exists and is no bank of retrainings"):
        sl.RetrainBank(tmp_path, quadratic, {}, sl.Examples(4))
    assert json.dumps(sorted(p.name for p in tmp_path.iterdir())) == '["thesis.txt"]'


def test_the_bank_predicts_the_change_in_the_unit_of_the_query_with_its_sign():
    bank = sl.RetrainBank(None, quadratic, {}, sl.Examples(4))
    found = bank.predict(total, [[0], [2, 3]])
    # by hand: Σ_ij w_i w_j j + Σ w = 4·6 + 4 = 28; without 0: 3·6 + 3; without 2 and 3: 2·1 + 2
    np.testing.assert_array_equal(found.value, [21.0, 4.0])
    np.testing.assert_array_equal(found.change, [-7.0, -24.0])
    np.testing.assert_array_equal(found.interval()[0], found.value)
    assert float(bank.predict(total, [0]).change) == -7


def test_duplicates_are_trained_once():
    bank = sl.RetrainBank(None, quadratic, {}, sl.Examples(4))
    bank.parameters([[0], [0], [1]])
    assert len(bank) == 2


def test_seed_noise_is_the_spread_of_changes_not_of_values():
    changes = sl.seed_noise(lambda s: lambda w: 10.0 * s + w.sum(), [1, 2, 3], lambda p: p, [[0], [1, 2]], 4)
    np.testing.assert_array_equal(changes, [[-1.0, -2.0]] * 3)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: sl.retrain(quadratic, np.ones((2, 2, 2))), ValueError, r"shape \(n,\) or \(B, n\)"),
        (lambda: sl.retrain(quadratic, [[1.0, np.nan, 1, 1]]), ValueError, "finite"),
        (lambda: sl.retrain(lambda w: jnp.log(w), [[0.0, -1]]), FloatingPointError, "NaN or infinity"),
        (lambda: sl.retrain(quadratic, np.ones((1, 4)), batch_size=0), ValueError, "batch_size must be at least 1"),
        (lambda: sl.RetrainBank(None, quadratic, {}), TypeError, r"pass space=sketchlearn.Examples\(n\)"),
        (lambda: sl.RetrainBank(None, quadratic, {"f": quadratic}, sl.Examples(4)), TypeError, "JSON"),
        (lambda: sl.seed_noise(lambda s: quadratic, [], total, [0], 4), ValueError, "at least one seed"),
        (lambda: sl.seed_noise(3, [1], total, [0], 4), TypeError, "make_train must be a function"),
    ],
)
def test_what_cannot_be_retrained_is_refused(call, error, message):
    with pytest.raises(error, match=message):
        call()
