"""Programs side by side: the same results in the same order, in the caller's precision."""

import subprocess
import sys
import threading

import jax
import jax.numpy as jnp
import pytest

from sketchlearn.runtime.workers import num_workers, side_by_side, waits_for_its_own_threads


@pytest.mark.parametrize("width", [1, 2, 3, 7])
def test_results_come_in_the_order_of_the_arguments(width):
    assert list(side_by_side(lambda a, b: a - b, [(i, 2 * i) for i in range(5)], width)) == [0, -1, -2, -3, -4]


def test_as_many_run_at_once_as_there_are_workers():
    together = threading.Barrier(3, timeout=20)  # breaks unless three are running at once
    assert len(list(side_by_side(lambda _: together.wait(), [(i,) for i in range(6)], width=3))) == 6


def test_a_lane_computes_in_the_precision_of_the_caller():
    with jax.enable_x64(True):
        out = list(side_by_side(lambda x: jnp.asarray(x) / 3, [(1.0,), (2.0,)], width=2))
    assert [o.dtype for o in out] == [jnp.float64, jnp.float64]


def test_an_error_reaches_the_caller_and_stops_what_has_not_begun():
    begun = []

    def run(i):
        begun.append(i)
        raise KeyError(f"number {i}")

    with pytest.raises(KeyError, match="number 0"):
        list(side_by_side(run, [(i,) for i in range(50)], width=2))
    assert len(begun) < 10


def test_small_work_is_not_split():
    assert num_workers(31, 32) == 1
    assert num_workers(1, 32) == 1


# Eight steps of Newton's method for every row of weights: side by side, they soon wait for one another.
NEWTON = """
import jax, jax.numpy as jnp, numpy as np
from sketchlearn.runtime.workers import side_by_side, waits_for_its_own_threads

x = jnp.asarray(np.random.default_rng(0).normal(size=(300, 30)), jnp.float32)
solve = {
    "lu": jnp.linalg.solve,
    "cholesky": lambda a, b: jax.scipy.linalg.cho_solve(jax.scipy.linalg.cho_factor(a), b),
    "eigh": lambda a, b: jnp.linalg.eigh(a)[1] @ b / 1e3,
}["KIND"]

def one(weights):
    def step(theta, _):
        p = jax.nn.sigmoid(x @ theta)
        hessian = (x * (weights * p * (1 - p))[:, None]).T @ x + jnp.eye(30)
        return theta - solve(hessian, x.T @ (weights * (p - 0.25)) + theta), None
    return jax.lax.scan(step, jnp.zeros(30), length=8)[0]

weights = jnp.asarray(np.random.default_rng(1).uniform(0.5, 1.5, (64, 300)), jnp.float32)
program = jax.jit(jax.vmap(one)).lower(weights).compile()
out = list(side_by_side(program, ((weights + i / 1000,) for i in range(100)), width=2))
print(len(out), waits_for_its_own_threads(program), bool((out[0] == program(weights)).all()))
"""


@pytest.mark.parametrize("kind", ["lu", "cholesky", "eigh"])
def test_batches_of_factorisations_end_where_there_are_several_workers(kind):
    """Each of them stopped for ever, within its first hundred blocks, when two ran at once."""
    code = [sys.executable, "-c", NEWTON.replace("KIND", kind)]  # a thread that waits for ever cannot be stopped
    done = subprocess.run(code, capture_output=True, text=True, check=True, timeout=300)
    assert done.stdout.split() == ["100", "True", "True"]


def test_a_program_without_factorisations_keeps_its_workers():
    program = jax.jit(lambda x: jnp.tanh(x @ x)).lower(jnp.ones((64, 64))).compile()
    assert not waits_for_its_own_threads(program)
