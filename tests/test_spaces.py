"""Deletion spaces: every way of writing a deletion is the same vector, and what is not a deletion is refused."""

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import sketchlearn as sl
from sketchlearn.spaces import deletion_vectors

N = 6
# No deadline: the first call of a JAX function compiles it.
examples = settings(max_examples=60, deadline=None, derandomize=True)
subsets = st.lists(st.integers(0, N - 1), min_size=1, max_size=N, unique=True)


def vector(positions):
    return np.isin(np.arange(N), positions).astype(float)


@examples
@given(subsets)
def test_every_way_of_writing_a_deletion_is_the_same_vector(positions):
    x = vector(positions)
    same = [
        positions,
        tuple(positions),
        np.array(positions),
        np.array(positions, np.uint8),
        jnp.array(positions),
        [jnp.asarray(i) for i in positions],
        [np.int32(i) for i in positions],
        x.astype(bool),
        x.astype(bool).tolist(),
        jnp.asarray(x, bool),
        x,
        x.astype(np.float32),
        x.tolist(),
    ]
    for written in same:
        got = sl.Examples(N).locate(written)
        assert got.dtype == np.float64
        np.testing.assert_array_equal(got, x)


@examples
@given(st.lists(subsets, min_size=1, max_size=4))
def test_every_way_of_writing_a_stack_is_its_deletions_one_by_one(stack):
    rows = np.stack([vector(positions) for positions in stack])
    mixed = [p if i % 2 else rows[i].astype(bool) for i, p in enumerate(stack)]
    for written in (stack, [np.array(p) for p in stack], rows, rows.astype(bool), rows.astype(bool).tolist(), mixed):
        np.testing.assert_array_equal(sl.Examples(N).locate(written), rows)


def test_one_position_may_be_written_as_a_number_and_a_table_of_positions_is_a_stack():
    np.testing.assert_array_equal(deletion_vectors(2, N), vector([2]))
    np.testing.assert_array_equal(deletion_vectors(np.array([[0, 1], [4, 2]]), N), [vector([0, 1]), vector([2, 4])])


def test_fractions_are_kept_as_they_are():
    x = np.array([0.5, 0, 0, -0.25, 1, 0])
    np.testing.assert_array_equal(sl.Examples(N).locate(x), x)
    np.testing.assert_array_equal(sl.Candidates([0, 3, 4], N).locate(x), [0.5, -0.25, 1])
    np.testing.assert_array_equal(sl.Groups(["a", "b", "a", "b"]).locate(np.array([0.5, 0, 0.5, 0])), [0.5, 0])


@examples
@given(st.data(), subsets)
def test_embed_and_locate_are_inverse_on_candidates(data, pool):
    space = sl.Candidates(pool, N)
    assert space.dim == len(pool)
    assert space.num_examples == N
    positions = data.draw(st.lists(st.sampled_from(pool), min_size=1, unique=True))
    np.testing.assert_array_equal(space.embed(space.locate(positions)), vector(positions))
    z = np.arange(1.0, len(pool) + 1) / 8  # eighths are exact in float32
    np.testing.assert_array_equal(space.locate(np.asarray(space.embed(z))), z)


@examples
@given(st.data(), st.lists(st.sampled_from("abc"), min_size=1, max_size=8))
def test_embed_and_locate_are_inverse_on_groups(data, labels):
    space = sl.Groups(labels)
    chosen = data.draw(st.lists(st.sampled_from(space.names), min_size=1, unique=True))
    x = space.embed(space.locate(chosen))
    np.testing.assert_array_equal(x, [label in chosen for label in labels])
    np.testing.assert_array_equal(space.locate(np.asarray(x)), space.locate(chosen))
    z = np.arange(1.0, space.dim + 1) / 8
    np.testing.assert_array_equal(space.locate(np.asarray(space.embed(z))), z)


def test_embed_is_linear_over_leading_axes():
    z = np.arange(12.0).reshape(2, 3, 2)
    for space in (sl.Candidates([4, 1], N), sl.Groups(["u", "v", "u"]), sl.Examples(2)):
        x = np.asarray(space.embed(z))
        assert x.shape == (2, 3, space.num_examples)
        np.testing.assert_array_equal(x[1, 2], space.embed(z[1, 2]))


def test_a_pool_may_be_a_boolean_mask():
    np.testing.assert_array_equal(sl.Candidates(vector([1, 4]).astype(bool), N).indices, [1, 4])


@pytest.mark.parametrize(
    ("labels", "one", "union"),
    [
        (["ann", "bob", "ann", "cid"], "ann", ["ann", "cid"]),
        ([7, 3, 7, 11], 7, [7, 11]),
        ([True, False, True, False], True, [True, False]),
    ],
)
def test_groups_are_named_one_by_one_or_as_a_union(labels, one, union):
    space = sl.Groups(labels)
    member = np.array([label in union for label in labels])
    np.testing.assert_array_equal(space.embed(space.locate(one)), [label == one for label in labels])
    for written in (union, tuple(union), np.array(union), union + union[:1]):
        np.testing.assert_array_equal(space.embed(space.locate(written)), member)
    np.testing.assert_array_equal(space.locate(np.array(one)), space.locate(one))


def test_masks_over_the_examples_are_read_as_unions_even_where_groups_are_called_0_and_1():
    space = sl.Groups([0, 1, 0])
    for mask in (np.array([True, False, True]), [True, False, True], jnp.array([True, False, True])):
        np.testing.assert_array_equal(space.locate(mask), [1, 0])
    np.testing.assert_array_equal(space.locate(np.array([[True, False, True], [False, True, False]])), np.eye(2))


def test_a_stack_of_unions_is_located_row_by_row():
    space = sl.Groups(["a", "b", "c"])
    np.testing.assert_array_equal(space.locate([["a"], ["b", "c"]]), [[1, 0, 0], [0, 1, 1]])
    np.testing.assert_array_equal(space.locate(np.array([["a", "b"], ["c", "b"]])), [[1, 1, 0], [0, 1, 1]])
    np.testing.assert_array_equal(space.locate([["a"], np.array([False, True, False])]), [[1, 0, 0], [0, 1, 0]])


WRONG = {
    "empty": ([], ValueError, "empty: give at least one"),
    "empty row": ([[0], []], ValueError, "empty"),
    "nothing deleted": (np.zeros(N), ValueError, "no example is deleted"),
    "nothing deleted in a row": (np.array([vector([1]), vector([])]), ValueError, r"empty \(row 1 of the stack\)"),
    "too large": ([0, N], IndexError, f"names example {N}, but there are {N} examples, 0 to {N - 1}"),
    "negative": ([-1], IndexError, "names example -1"),
    "twice": ([1, 2, 1], ValueError, "more than once"),
    "whole-number mask": ([0, 1, 0, 1], ValueError, "mask has dtype bool"),
    "short mask": (np.ones(N - 1, bool), ValueError, rf"\({N},\) or \(B, {N}\), got \({N - 1},\)"),
    "deep mask": (np.ones((2, 2, N), bool), ValueError, "must have shape"),
    "NaN": ([0.0, np.nan, 0, 0, 0, 1], ValueError, r"delete must be finite.*index \(1,\)"),
    "infinity": (np.array([np.inf, 0, 0, 0, 0, 0]), ValueError, "delete must be finite"),
    "complex": (np.ones(N) * 1j, TypeError, "dtype complex128"),
    "text": ("max", TypeError, "positions .whole numbers., a boolean mask or a real vector"),
    "set": ({0, 1}, TypeError, "positions .whole numbers."),
    "nothing": (None, TypeError, "positions .whole numbers."),
    "two levels": ([[[0], [1]], [[2], [3]]], ValueError, "one level"),
    "table of tables": (np.zeros((2, 2, 1), int), ValueError, "one level"),
    "mixed levels": ([0, [1, 2]], ValueError, "mixes levels"),
}


@pytest.mark.parametrize(("delete", "error", "message"), WRONG.values(), ids=WRONG)
def test_what_is_no_deletion_is_refused_with_the_reason(delete, error, message):
    for space in (sl.Examples(N), sl.Candidates(range(N), N)):
        with pytest.raises(error, match=message):
            space.locate(delete)


def test_an_example_outside_the_pool_is_named():
    space = sl.Candidates([1, 4], N)
    with pytest.raises(ValueError, match=r"2 examples outside the pool of 2 candidates: \[0, 5\]\. Sketch a larger"):
        space.locate([0, 1, 5])
    with pytest.raises(ValueError, match=r"1 examples outside the pool of 2 candidates: \[3\]"):
        space.locate([[1, 4], [1, 3]])


@pytest.mark.parametrize(
    ("delete", "error", "message"),
    [
        ("zed", KeyError, r"no group 'zed'; the groups are \['a', 'b'\]"),
        (["a", "zed"], KeyError, "no group 'zed'"),
        (None, KeyError, "no group None"),
        ([], ValueError, "empty: name at least one group"),
        (np.array([True, False, False]), ValueError, r"members of \['a'\] differently\. 1 examples .*: \[2\]"),
        (np.array([1.0, 0, 0.5]), ValueError, "not a union of whole groups"),
        (np.zeros(3, bool), ValueError, "empty"),
        (np.ones(2, bool), ValueError, r"\(3,\) or \(B, 3\)"),
    ],
)
def test_what_is_no_union_of_groups_is_refused_with_the_reason(delete, error, message):
    with pytest.raises(error, match=message):
        sl.Groups(["a", "b", "a"]).locate(delete)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: sl.Examples(0), ValueError, "num_examples must be at least 1, got 0"),
        (lambda: sl.Examples(2.0), TypeError, "num_examples must be a whole number, got 2.0 of type float"),
        (lambda: sl.Examples(True), TypeError, "num_examples must be a whole number"),
        (lambda: sl.Candidates([], N), ValueError, "at least one example"),
        (lambda: sl.Candidates([1.5], N), ValueError, "dtype float64"),
        (lambda: sl.Candidates([[1], [2]], N), ValueError, r"shape \(2, 1\)"),
        (lambda: sl.Candidates([2, 2], N), ValueError, "more than once"),
        (lambda: sl.Candidates([N], N), IndexError, f"names example {N}"),
        (lambda: sl.Candidates([0], 0), ValueError, "num_examples must be at least 1"),
        (lambda: sl.Groups([]), ValueError, r"got shape \(0,\)"),
        (lambda: sl.Groups([["a"], ["b"]]), ValueError, r"got shape \(2, 1\)"),
    ],
)
def test_a_space_that_cannot_be_made_is_refused_with_the_reason(make, error, message):
    with pytest.raises(error, match=message):
        make()


def test_spaces_say_what_they_are():
    assert repr(sl.Examples(3)) == "Examples(3)"
    assert repr(sl.Candidates([0, 2], 5)) == "Candidates(2 of 5)"
    assert repr(sl.Groups(["a", "b", "a"])) == "Groups(2 groups of 3 examples)"


def test_groups_are_a_linear_map_with_their_indicators_as_columns():
    groups = sl.Groups(["a", "b", "a", "c"])
    linear = sl.LinearMap(np.array([[1, 0, 0], [0, 1, 0], [1, 0, 0], [0, 0, 1]]))
    z = np.arange(6.0).reshape(2, 3)
    np.testing.assert_array_equal(linear.embed(z), groups.embed(z))
    for mask in ([True, False, True, False], [[True, True, True, False], [False, False, False, True]]):
        # a least-squares solve in float64
        np.testing.assert_allclose(linear.locate(np.array(mask)), groups.locate(np.array(mask)), atol=1e-14)
    assert (linear.dim, linear.num_examples) == (3, 4)


def test_a_deletion_that_no_combination_of_columns_gives_names_the_examples_outside():
    space = sl.LinearMap([[1.0, 0], [1, 0], [0, 1]])
    with pytest.raises(ValueError, match=r"2 examples cannot be given the fractions asked for: \[0, 1\]"):
        space.locate([0])


@pytest.mark.parametrize(
    ("matrix", "message"),
    [
        ([1.0, 2], "shape"), (np.zeros((0, 2)), "shape"), ([[1.0], [np.inf]], "finite"),
        ([[1.0, 2], [2, 4]], "dependent"), (np.ones((2, 3)), "dependent"), ([[1.0, 0], [1, 0]], "dependent"),
    ],
)  # fmt: skip
def test_a_matrix_that_spans_no_unique_coordinates_is_refused(matrix, message):
    with pytest.raises(ValueError, match=message):
        sl.LinearMap(matrix)


def test_a_group_named_twice_is_deleted_once():
    np.testing.assert_array_equal(sl.Groups(["a", "b", "a"]).locate(["a", "a"]), [1, 0])
