"""Sums, maxima and exchanges over a named axis: of ``vmap`` in the program, and of ``vmap`` around the transform."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from support.oracles import TESTED_IN_COLLECTIVES, assert_same_coefficients, directions

import sketchlearn as sl

pytestmark = pytest.mark.usefixtures("x64", "quick_compilation")

POINT = np.array([[0.3, -0.7, 1.1], [0.9, 1.6, -0.5], [0.2, 0.8, 0.4]])
REAL, COMPLEX = directions(POINT)


def normalised(a):
    """Batch normalisation whose batch is a named axis, as flax and haiku spell it."""
    mean = lax.pmean(a, "batch")
    return (a - mean) / jnp.sqrt(lax.pmean(a * a, "batch") - mean**2 + 0.1)


@jax.custom_jvp
def by_its_rule(a):
    return jnp.exp(a) / lax.psum(jnp.exp(a), "batch")


@by_its_rule.defjvp
def _(primals, tangents):
    (a,), (t,) = primals, tangents
    y = by_its_rule(a)
    return y, y * t - y * lax.psum(y * t, "batch")


def by_steps(a):
    """Each example takes a step along the mean gradient, twice."""

    def step(c, _):
        return c - 0.1 * lax.pmean(jax.grad(lambda c: jnp.sum(jnp.sin(c * a)))(c), "batch"), None

    return lax.scan(step, jnp.ones(3), None, length=2)[0]


# name: what every example does, and the primitive that it is about
PROGRAMS = {
    "psum": lambda a: a * lax.psum(jnp.exp(a), "batch"),
    "batch normalisation": normalised,
    "a derivative rule": by_its_rule,
    "training": by_steps,
    "all_gather": lambda a: jnp.sin(a) @ lax.all_gather(jnp.exp(a), "batch"),
    "all_gather, tiled": lambda a: lax.all_gather(a * a, "batch", axis=0, tiled=True),
    "ppermute": lambda a: a * lax.ppermute(jnp.exp(a), "batch", [(0, 1), (1, 2), (2, 0)]),
    "pshuffle": lambda a: lax.pshuffle(jnp.exp(a), "batch", [2, 0, 1]),
    "reduce_scatter": lambda a: a * lax.psum_scatter(jnp.exp(a), "batch"),
    "all_to_all": lambda a: a * lax.all_to_all(jnp.exp(a), "batch", 0, 0),
    "axis_index": lambda a: jnp.exp(a) * lax.axis_index("batch"),
}
# jvp has no rule for these
EXTREMES = {
    "pmax": (lambda a: a * lax.pmax(jnp.exp(a), "batch"), lambda x: x * jnp.max(jnp.exp(x), 0)),
    "pmin": (lambda a: a * lax.pmin(jnp.exp(a), "batch"), lambda x: x * jnp.min(jnp.exp(x), 0)),
    "a stable softmax": (
        lambda a: jnp.exp(a - lax.pmax(a, "batch")) / lax.psum(jnp.exp(a - lax.pmax(a, "batch")), "batch"),
        lambda x: jax.nn.softmax(x, 0),
    ),
}


def over_the_batch(f):
    return jax.vmap(f, axis_name="batch")


def expected_of(name):
    return EXTREMES[name][1] if name in EXTREMES else over_the_batch(PROGRAMS[name])


def program(name):
    return EXTREMES[name][0] if name in EXTREMES else PROGRAMS[name]


def test_every_rule_that_is_met_with_a_name_only_has_a_program():
    assert set(PROGRAMS) >= TESTED_IN_COLLECTIVES
    for name in TESTED_IN_COLLECTIVES:
        closed = jax.make_jaxpr(PROGRAMS[name], axis_env=[("batch", 3)])(POINT[0])
        assert name in {eqn.primitive.name for eqn in closed.jaxpr.eqns}


@pytest.mark.parametrize("name", [*PROGRAMS, *EXTREMES])
def test_vmap_around_the_transform_equals_nested_jvp_of_vmap_in_the_program(name):
    f = program(name)
    got = jax.jit(jax.vmap(lambda p, d: sl.taylor_coefficients(f, p, d, 3), out_axes=1, axis_name="batch"))(POINT, REAL)
    expected = jax.jit(lambda p: sl.reference.nested_jvp(expected_of(name), p, REAL, 3))(POINT)
    assert_same_coefficients(got, expected, rtol=1e-10)  # the same sums in another order


@pytest.mark.parametrize("name", [*PROGRAMS, *EXTREMES])
def test_vmap_in_the_program_equals_nested_jvp(name):
    f = over_the_batch(program(name))
    got = jax.jit(lambda p: sl.taylor_coefficients(f, p, REAL, 3))(POINT)
    expected = jax.jit(lambda p: sl.reference.nested_jvp(expected_of(name), p, REAL, 3))(POINT)
    assert_same_coefficients(got, expected, rtol=1e-10)  # the same sums in another order


@pytest.mark.parametrize("name", ["batch normalisation", "a derivative rule", "training", "a stable softmax"])
def test_vmap_in_the_program_equals_cauchy(name):
    f = over_the_batch(program(name))
    expected = sl.taylor.cauchy_coefficients(f, POINT, COMPLEX, 3)
    got = jax.jit(lambda d: sl.taylor_coefficients(f, POINT, d, 3))(COMPLEX)
    # where Cauchy's search for a radius stops
    assert_same_coefficients(got, expected.coefficients, rtol=1e-9, errors=expected.errors)


@pytest.mark.parametrize("degree", [3, 8], ids=["separate", "stacked"])
@pytest.mark.parametrize("name", [*PROGRAMS, *EXTREMES])
def test_directions_around_a_named_axis_are_a_loop_over_directions(name, degree):
    f, many = program(name), np.stack([COMPLEX, 1j * COMPLEX])
    over_points = jax.vmap(lambda p, d: sl.taylor_coefficients(f, p, d, degree), out_axes=1, axis_name="batch")
    together = jax.jit(jax.vmap(over_points, (None, 0)))(POINT, many)
    inside = jax.jit(lambda d: sl.taylor_coefficients(over_the_batch(f), POINT, d, degree))
    for got, direction in zip(together, many, strict=True):
        assert_same_coefficients(got, inside(direction), rtol=1e-12)  # rounding


def test_programs_of_their_own_on_every_device_are_refused_with_what_to_write_instead():
    mesh = jax.sharding.Mesh(np.array(jax.devices()[:1]), ("batch",))
    spec = jax.sharding.PartitionSpec("batch")
    f = jax.shard_map(lambda a: a * lax.psum(a, "batch"), mesh=mesh, in_specs=spec, out_specs=spec)
    with pytest.raises(sl.UnsupportedPrimitive, match=r"'shard_map'.*with_sharding_constraint.*axis_name"):
        sl.taylor_coefficients(f, POINT, REAL, 2)
