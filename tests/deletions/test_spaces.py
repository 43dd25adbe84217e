"""Deletion spaces: every way of writing a deletion is the same vector, and what is not a deletion is refused."""

import datetime
import decimal
import enum
import re

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import sketchlearn as sl
from sketchlearn.deletions.base import describe, from_description
from sketchlearn.deletions.reading import deletion_vectors

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
    for written in (union, tuple(union), np.array(union)):
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


def test_the_nearest_combination_leaves_what_is_orthogonal_to_all_columns():
    rng = np.random.default_rng(0)
    space, x = sl.LinearMap(rng.normal(size=(9, 4))), rng.normal(size=(5, 9))
    z, rest = space.nearest(x)
    # float64, numbers of size one; a solve amplifies rounding by the condition of the matrix, below ten
    np.testing.assert_allclose(z, np.linalg.lstsq(space.matrix, x.T, rcond=None)[0].T, atol=1e-13)
    np.testing.assert_allclose(z @ space.matrix.T + rest, x, atol=1e-14)  # a few additions
    np.testing.assert_allclose(rest @ space.matrix, 0, atol=1e-13)  # nine products, after the solve
    one, left = space.nearest(x[2])
    # a product with one column is added up in another order
    np.testing.assert_allclose(one, z[2], atol=1e-14)
    np.testing.assert_allclose(left, rest[2], atol=1e-14)  # likewise


def test_nothing_is_left_of_what_the_columns_span():
    space = sl.LinearMap([[1.0, 0], [1, 1], [0, 1]])
    z, rest = space.nearest([[0, 1], [1, 2]])
    np.testing.assert_allclose(z, np.eye(2), atol=1e-15)  # rounding
    np.testing.assert_allclose(rest, 0, atol=1e-15)  # rounding


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
    np.testing.assert_array_equal(sl.Groups([7, 3, 7, 11]).locate([7, 11, 7]), [0, 1, 1])


# --- what can be read in two ways -----------------------------------------------------------


@pytest.mark.parametrize("make", [np.array, list, tuple, jnp.array], ids=["NumPy", "list", "tuple", "JAX"])
def test_masks_of_n_entries_are_masks_for_boolean_groups(make):
    column = [True, False, True, False, True]
    space = sl.Groups(np.array(column))
    np.testing.assert_array_equal(space.locate(make(column)), [0, 1])
    np.testing.assert_array_equal(space.locate(make([not c for c in column])), [1, 0])
    np.testing.assert_array_equal(space.locate(make([True] * 5)), [1, 1])
    with pytest.raises(ValueError, match="not a union of whole groups"):
        space.locate(make([True, False, False, False, False]))
    with pytest.raises(ValueError, match="the deletion is empty"):
        space.locate(make([False] * 5))
    np.testing.assert_array_equal(space.locate([True]), [0, 1])  # names: they are no mask of five examples
    np.testing.assert_array_equal(space.locate([True, False]), [1, 1])
    with pytest.raises(ValueError, match="4 zeros and ones are no mask of 5 examples, and as names"):
        space.locate(make(column[:4]))


def test_deleting_by_the_column_that_made_the_groups_deletes_one_of_the_two():
    column = np.array([True, False, False, True, False])
    made = sl.sketch(lambda w: w.sum(), sl.Groups(column), 1, 4, progress=False)
    np.testing.assert_allclose(made.predict(lambda y: y, column).change, -2, rtol=1e-5)  # one order, in float32


def test_a_stack_of_masks_is_masks_for_boolean_groups():
    column = np.array([True, False, True])
    np.testing.assert_array_equal(sl.Groups(column).locate(np.stack([column, ~column])), [[0, 1], [1, 0]])
    np.testing.assert_array_equal(sl.Groups(column).locate([column, [False]]), [[0, 1], [1, 0]])


BOTH = "can be read in two ways"
TWO_READINGS = {
    "zeros and ones of groups 0 and 1": ([0, 1, 1, 0], [0, 1, 1, 0], "bool", [0, 1]),
    "an array of them": ([0, 1, 1, 0], np.array([1, 0, 0, 1]), "bool", [1, 0]),
    "of three groups": ([0, 1, 1, 2], [1, 0, 0, 1], "bool", None),
    "ones alone": ([0, 1, 1], np.ones(3, int), "bool", [1, 1]),
    "floats of groups 0.0 and 1.0": ([0.0, 1.0, 1.0], np.array([0.0, 1.0, 1.0]), "bool", [0, 1]),
    "whole numbers of groups 0.0 and 1.0": ([0.0, 1.0, 1.0], [0, 1, 1], "bool", [0, 1]),
    "fractions that are names": ([0.25, 0.5, 1.0], [0.5, 1.0, 0.25], "bool", None),
    "two truth values of two examples": ([True, False], [True, False], "float", [0, 1]),
    "and of one group": ([False, False], np.array([False, False]), None, None),
}


@pytest.mark.parametrize("name", TWO_READINGS)
def test_names_that_are_a_mask_or_vector_too_are_refused_with_both_readings(name):
    labels, delete, dtype, meant = TWO_READINGS[name]
    space = sl.Groups(labels)
    if dtype is None:  # nothing is deleted by this mask, and by these names everything is
        with pytest.raises(ValueError, match="empty"):
            space.locate(delete)
        return
    with pytest.raises(ValueError, match=BOTH) as refusal:
        space.locate(delete)
    with pytest.raises(ValueError, match=BOTH):
        space.locate([delete, delete])
    # as the message says: each reading in a way that is the only one
    names = [name for name in space.names if name in delete]
    assert f"np.isin(labels, {names}).astype({dtype})" in str(refusal.value)
    named = space.locate(np.isin(labels, names).astype(dtype))
    np.testing.assert_array_equal(named, [name in names for name in space.names])
    if meant is not None:
        np.testing.assert_array_equal(space.locate(np.array(delete).astype(dtype)), meant)


def test_two_readings_with_one_result_are_no_two_readings():
    np.testing.assert_array_equal(sl.Groups([1, 1]).locate([1, 1]), [1])
    np.testing.assert_array_equal(sl.Groups([1.0]).locate(np.array([1.0])), [1])
    np.testing.assert_array_equal(sl.Groups([True]).locate([True]), [1])


def test_numbers_that_cannot_be_names_are_vectors_and_the_other_way_round():
    whole, real = sl.Groups([0, 1, 0]), sl.Groups([0.5, 1.5, 0.5, 2.5])
    for written in (np.array([1.0, 0, 1]), [1.0, 0.0, 1.0], [1, 0.0, 1]):
        np.testing.assert_array_equal(whole.locate(written), [1, 0])
        np.testing.assert_array_equal(sl.Groups(["a", "b", "a"]).locate(written), [1, 0])
    np.testing.assert_array_equal(real.locate([0.25, 0.0, 0.25, 1.0]), [0.25, 0, 1])
    for written in ([0.5, 2.5], np.array([0.5, 2.5]), jnp.array([0.5, 2.5])):
        np.testing.assert_array_equal(real.locate(written), [1, 0, 1])
    np.testing.assert_array_equal(sl.Groups([1.0, 2.0, 1.0]).locate(2), [0, 1])
    with pytest.raises(ValueError, match=r"shape \(3,\) or"):
        whole.locate([1.0, 0.0])
    with pytest.raises(KeyError, match=r"no group 3\.5"):
        real.locate([0.5, 3.5])


def test_a_centre_is_a_vector_whatever_the_groups_are_called():
    made = sl.sketch(lambda w: w.sum(), sl.Groups([0.25, 0.5]), 1, 4, centre=[0.5, 0.25], progress=False)
    np.testing.assert_array_equal(made.centre, [0.5, 0.25])


def test_a_name_is_of_the_kind_of_the_labels():
    cases = [
        (["1", "2"], 1), (["1", "2"], ["1", 2]), ([1, 2], "1"), ([0, 1], True), ([0, 1, 2], [True]), ([1, 2], 1.0),
        (["a", "b"], [0]), ([True, False], 1), ([True, False], "True"), (["nan", "b"], float("nan")),
    ]  # fmt: skip
    for labels, delete in cases:
        with pytest.raises((KeyError, ValueError), match=r"no group|must have shape"):
            sl.Groups(labels * 2).locate(delete)
    with pytest.raises(KeyError, match="Positions of examples are written as a mask"):
        sl.Groups(["a", "b", "a"]).locate([0, 2])


@pytest.mark.parametrize("make", [list, np.array, jnp.array, tuple], ids=["list", "NumPy", "JAX", "tuple"])
def test_zero_and_one_of_two_examples_are_positions_and_a_mask_and_so_refused(make):
    for space in (sl.Examples(2), sl.LinearMap(np.eye(2)), sl.Candidates([True, True], 2)):
        with pytest.raises(ValueError, match=r"deletes example 1: write \[False, True\]"):
            space.locate(make([0, 1]))
        with pytest.raises(ValueError, match=r"deletes example 0: write \[True, False\]"):
            space.locate([make([1, 0]), [0]])
        for written in ([True, True], range(2), [1.0, 1.0]):
            np.testing.assert_array_equal(space.locate(written), [1, 1])
        np.testing.assert_array_equal(space.locate([1]), [0, 1])
    with pytest.raises(ValueError, match=BOTH):
        sl.Candidates(make([0, 1]), 2)
    np.testing.assert_array_equal(sl.Examples(3).locate(make([0, 1])), [1, 1, 0])


def test_a_pool_of_both_of_two_examples_is_described_and_made_again():
    space = from_description(describe(sl.Candidates([True, True], 2)))
    np.testing.assert_array_equal(space.indices, [0, 1])


# --- containers and missing values ----------------------------------------------------------


@pytest.mark.parametrize(
    "delete",
    [{0, 1}, frozenset([0]), {0: 1}, {0: 1}.keys(), {0: 1}.values(), (i for i in [0]), iter([0]), map(int, [0]),
     np.ma.array([0, 1, 2], mask=[0, 1, 0]), [{0}, {1}], [[0], (i for i in [1])]],
    ids=lambda d: type(d).__name__,
)  # fmt: skip
def test_what_is_neither_a_list_nor_an_array_is_refused_by_every_space(delete):
    for space in (sl.Examples(N), sl.Candidates([0, 1], N), sl.Groups([0, 1, 2, 0, 1, 2]), sl.LinearMap(np.eye(N))):
        with pytest.raises(TypeError, match=r"got a \w+: a deletion is a list or an array .* Write list\("):
            space.locate(delete)


def test_truth_values_among_numbers_are_refused():
    for delete in ([True, 2], [0, True, False, 0, 0, 0], [[True, 2], [1]], [np.True_, 0.5, 0, 0, 0, 0], [True, None]):
        with pytest.raises(TypeError, match="mixes truth values with"):
            sl.Examples(N).locate(delete)


def test_a_number_beside_a_list_is_no_stack():
    for delete in ([[0, 1], 2], [2, [0, 1]], [np.array([0]), 2]):
        with pytest.raises(ValueError, match="mixes levels"):
            sl.Examples(N).locate(delete)
    for delete in ([["a"], "b"], ["b", ["a"]]):
        with pytest.raises(ValueError, match="mixes levels"):
            sl.Groups(["a", "b"]).locate(delete)
    with pytest.raises(ValueError, match="one level"):
        sl.Groups(["a", "b"]).locate([[["a"]], [["b"]]])


def test_ranges_and_arrays_of_objects_are_lists():
    np.testing.assert_array_equal(sl.Examples(N).locate(range(1, 3)), vector([1, 2]))
    np.testing.assert_array_equal(sl.Examples(N).locate([range(2), range(3, 5)]), [vector([0, 1]), vector([3, 4])])
    mask = vector([1, 4]).astype(bool)
    np.testing.assert_array_equal(sl.Examples(N).locate(mask.astype(object)), vector([1, 4]))
    np.testing.assert_array_equal(sl.Examples(N).locate(np.array([1, 4], object)), vector([1, 4]))
    rows = np.empty(2, object)
    rows[:] = [[0], [1, 2]]
    np.testing.assert_array_equal(sl.Examples(N).locate(rows), [vector([0]), vector([1, 2])])
    np.testing.assert_array_equal(sl.Examples(N).locate(jnp.asarray(vector([2]), jnp.bfloat16)), vector([2]))


class NA:
    """As pandas' NA: comparisons have no truth value."""

    def __ne__(self, other):
        return self

    def __eq__(self, other):
        return self

    def __hash__(self):
        return 0

    def __bool__(self):
        raise TypeError("boolean value of NA is ambiguous")


@pytest.mark.parametrize(
    "missing",
    [None, float("nan"), np.float32("nan"), NA(), np.datetime64("NaT"), decimal.Decimal("nan")],
    ids=["None", "NaN", "float32", "NA", "NaT", "Decimal"],
)
def test_an_example_without_a_label_is_refused_by_its_position(missing):
    for labels in (["a", missing, "b", missing], np.array(["a", missing, "b", missing], object)):
        with pytest.raises(ValueError, match=r"2 examples have no label \(.*\): \[1, 3\]"):
            sl.Groups(labels)
    with pytest.raises(ValueError, match=r"1 examples have no label \(nan\): \[1\]"):
        sl.Groups(np.array([0.5, np.nan]))


def test_labels_of_two_kinds_are_refused_not_made_one():
    for labels, message in [
        ([1, "1", 1], "whole numbers .1. and text .'1'."), ([True, 1], "truth values .True. and whole numbers .1."),
        (["a", 0.5], "text"), ([datetime.date(2026, 1, 1), datetime.datetime(2026, 1, 1)], "days .* and times"),
        (np.array(["a", 1], object), "text .'a'. and whole numbers"), ([b"a", "a"], "type bytes"),
    ]:  # fmt: skip
        with pytest.raises(TypeError, match=f"labels are of one kind, these mix .*{message}"):
            sl.Groups(labels)
    assert sl.Groups([1, 0.5, 1]).names == [0.5, 1.0]


@pytest.mark.parametrize(
    ("labels", "error", "message"),
    [
        ([("a", 1), ("b", 2)], ValueError, "a label is one value, got a tuple"),
        ([("a", 1), ("b",)], ValueError, "a label is one value, got a tuple"),
        ([frozenset("a"), frozenset("ab")], TypeError, "a label is one value"),
        ([{"a": 1}, {"b": 1}], TypeError, "a label is one value"),
        ([["a"], ["b", "c"]], ValueError, "labels must be a list with the group of every example"),
        ("abab", ValueError, r"got shape \(\)"),
        ({"a", "b"}, ValueError, r"got shape \(\)"),
        ([1j, 2j], TypeError, "values that can be compared"),
        ([object(), object()], TypeError, "values that can be compared"),
        (np.array(["2026-01-01T00:00:00.000000001"], "M8[ns]"), TypeError, "finer than microseconds"),
    ],
)
def test_labels_that_cannot_name_groups_are_refused_with_the_reason(labels, error, message):
    with pytest.raises(error, match=message):
        sl.Groups(labels)


DAYS = ["2026-01-02", "2026-01-01", "2026-01-02"]


@pytest.mark.parametrize(
    "labels",
    [np.array(DAYS, "M8[D]"), np.array(DAYS, "M8[ns]"), np.array(DAYS, "M8[s]"), list(np.array(DAYS, "M8[D]")),
     [datetime.date.fromisoformat(day) for day in DAYS], [datetime.datetime.fromisoformat(day) for day in DAYS]],
    ids=["D", "ns", "s", "scalars", "date", "datetime"],
)  # fmt: skip
def test_groups_may_be_days_of_any_type_and_are_named_by_any(labels):
    space = sl.Groups(labels)
    assert np.datetime64(space.names[0]) == np.datetime64(labels[1])
    for day in (np.datetime64(DAYS[0]), np.datetime64(DAYS[0], "ns"), datetime.date(2026, 1, 2),
                datetime.datetime(2026, 1, 2)):  # fmt: skip
        for written in (day, [day], np.array([day], "M8[ns]")):
            np.testing.assert_array_equal(space.locate(written), [0, 1])
    with pytest.raises(KeyError, match=r"no group datetime\.date"):
        space.locate(datetime.date(2026, 1, 3))
    with pytest.raises(KeyError, match="no group"):
        space.locate(np.datetime64("2026-01-01T12:00"))


def test_groups_may_be_other_values_that_can_be_compared():
    class Size(enum.IntEnum):
        SMALL, LARGE = 1, 2

    for a, b in [
        (decimal.Decimal("0.1"), decimal.Decimal("0.2")), (datetime.timedelta(1), datetime.timedelta(2)), (b"a", b"b"),
        (Size.SMALL, Size.LARGE), (np.timedelta64(1, "s"), np.timedelta64(2, "s")), (np.str_("a"), np.str_("b")),
        (2**70, 2**71),
    ]:  # fmt: skip
        space = sl.Groups([b, a, b])
        assert space.names == [a, b]
        np.testing.assert_array_equal(space.locate(b), [0, 1])
        np.testing.assert_array_equal(space.locate([a, b]), [1, 1])


def test_series_of_pandas_are_labels_and_deletions():
    pandas = pytest.importorskip("pandas")
    column = pandas.Series(["b", "a", "b"], index=[7, 5, 6])
    for labels in (column, column.astype("category"), column.astype("string"),
                   column.astype(pandas.CategoricalDtype(["a", "b", "never"]))):  # fmt: skip
        space = sl.Groups(labels)
        assert space.names == ["a", "b"]
        for written in (column[column == "b"][:1], column == "b", (column == "b").astype("boolean"),
                        pandas.Index(["b"]), (column == "b").astype(float)):  # fmt: skip
            np.testing.assert_array_equal(space.locate(written), [0, 1])
    with pytest.raises(ValueError, match=r"1 examples have no label .*: \[1\]"):
        sl.Groups(pandas.Series(["a", pandas.NA, "b"], dtype="string"))
    times = pandas.Series(pandas.to_datetime(DAYS))
    for day in (times[0], datetime.date(2026, 1, 2), np.datetime64(DAYS[0])):
        np.testing.assert_array_equal(sl.Groups(times).locate(day), [0, 1])
    np.testing.assert_array_equal(sl.Examples(N).locate(pandas.Series([1, 4])), vector([1, 4]))
    np.testing.assert_array_equal(sl.Examples(N).locate(pandas.Index([1, 4])), vector([1, 4]))
    np.testing.assert_array_equal(sl.Examples(N).locate(pandas.Series(vector([1, 4])) > 0), vector([1, 4]))
    np.testing.assert_array_equal(sl.Examples(N).locate(pandas.array([1, 4], "Int64")), vector([1, 4]))
    with pytest.raises(TypeError, match=re.escape("mixes truth values with <NA>")):
        sl.Examples(2).locate(pandas.array([True, pandas.NA], "boolean"))


def test_a_matrix_of_other_than_real_numbers_is_refused():
    for matrix in ([[1j], [2]], [["1"], ["2"]]):
        with pytest.raises(TypeError, match="must hold real numbers, got dtype"):
            sl.LinearMap(matrix)
