"""Comparisons and directions that the tests of the Taylor transform share."""

import jax
import numpy as np

# primitives whose cases need a named axis: not in tests/taylor/test_rules.py, but in test_collectives.py
TESTED_IN_COLLECTIVES = {"all_gather", "all_to_all", "ppermute", "reduce_scatter"}


def directions(point, seed=0):
    """A real direction and a complex one of the point's structure, seeded, entries of size about 1."""
    rng = np.random.default_rng(seed)
    real = jax.tree.map(lambda p: rng.normal(size=np.shape(p)), point)
    return real, jax.tree.map(lambda d: d + 1j * rng.normal(size=np.shape(d)), real)


def by_order(tree):
    """All leaves of a tree of coefficients side by side, shape (degree + 1, outputs)."""
    leaves = [np.asarray(leaf) for leaf in jax.tree.leaves(tree)]
    return np.concatenate([leaf.reshape(len(leaf), -1) for leaf in leaves], axis=1)


def assert_same_coefficients(got, expected, rtol, errors=None):
    """Every order equal to ``rtol`` of its largest coefficient, plus the errors the oracle admits.

    A coefficient that is zero is the difference of terms as large as its neighbours',
    each rounded to 1e-16: 1e-14 of the largest coefficient of all is allowed for that.
    """
    assert jax.tree.structure(got) == jax.tree.structure(expected)
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(expected), strict=True):
        assert np.shape(a) == np.shape(b)
    got, expected = by_order(got), by_order(expected)
    assert np.isfinite(got).all()
    size = np.abs(expected).max(1, initial=0, keepdims=True)
    allowed = np.broadcast_to(rtol * size + 1e-14 * size.max(), expected.shape)
    if errors is not None:
        allowed = allowed + by_order(errors)
    wrong = np.abs(got - expected) - allowed
    worst = np.unravel_index(wrong.argmax(), wrong.shape)
    assert (wrong <= 0).all(), (
        f"order {worst[0]}, output {worst[1]}: got {got[worst]}, expected {expected[worst]} ± {allowed[worst]:.1e}"
    )


def walk(jaxpr):
    """Every equation of a jaxpr and of the jaxprs inside it."""
    jaxpr = getattr(jaxpr, "jaxpr", jaxpr)
    for eqn in jaxpr.eqns:
        yield eqn
        inner = jax.tree.leaves(list(eqn.params.values()), is_leaf=_is_jaxpr)
        for value in filter(_is_jaxpr, inner):
            yield from walk(value)


def _is_jaxpr(value):
    return hasattr(value, "eqns") or hasattr(value, "jaxpr")
