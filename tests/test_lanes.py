"""Programs side by side: the same results in the same order, in the caller's precision."""

import threading

import jax
import jax.numpy as jnp
import pytest

from sketchlearn.lanes import lanes, side_by_side


@pytest.mark.parametrize("width", [1, 2, 3, 7])
def test_results_come_in_the_order_of_the_arguments(width):
    assert list(side_by_side(lambda a, b: a - b, [(i, 2 * i) for i in range(5)], width)) == [0, -1, -2, -3, -4]


def test_as_many_run_at_once_as_there_are_lanes():
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
    assert lanes(31, 32) == 1
    assert lanes(1, 32) == 1
