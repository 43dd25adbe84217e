"""Programs with numbers of 16 bits: coefficients in float32, values as the program rounds them."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax import lax

import sketchlearn as sl

pytestmark = pytest.mark.usefixtures("quick_compilation")

BFLOAT = float(jnp.finfo(jnp.bfloat16).eps)  # 1/128
ROUNDINGS = 6  # of values inside the functions below, each by half of that, times the slopes around
POINT = np.array([0.3, -0.7, 1.1, 0.9], np.float32)
DIRECTION = np.array([0.5, 1.0, -0.8, 0.3], np.float32)
ROWS = np.sin(np.arange(12.0, dtype=np.float32)).reshape(3, 4)

FUNCTIONS = {
    "products": lambda x: (x * x).astype(x.dtype) @ ROWS.T.astype(x.dtype) / 4,
    "matrix": lambda x: jnp.dot(x[None], x[:, None], preferred_element_type=x.dtype)[0],
    "scatter": lambda x: jnp.zeros(3, x.dtype).at[np.array([0, 2, 2, 0])].add(x).at[1].set(x[1]),
    "gather": lambda x: jnp.asarray(x).at[np.array([3, 0, 9])].get(mode="fill", fill_value=0.5),
    "convolution": lambda x: jnp.convolve(x, ROWS[0].astype(x.dtype)),
    "sums": lambda x: jnp.cumsum(x) * jnp.mean(x) - jnp.cumprod(x),
    "elementary": lambda x: jnp.exp(x) / (2 + jnp.sin(x)) + jnp.tanh(x) ** 3 + jnp.sqrt(2 + x) ** 1.5,
    "own rules": lambda x: jax.nn.gelu(x, approximate=False) + jax.nn.silu(x) + jax.nn.relu(x) + jax.nn.softplus(x),
    "normalised": lambda x: jax.nn.log_softmax(x) + jax.nn.softmax(2 * x) + jax.nn.logsumexp(x),
    "pieces": lambda x: (
        jnp.where(x > 0, jnp.maximum(x, 0.5 * x), jnp.clip(x, -2, 2)) + jnp.sort(x) + jnp.max(jnp.abs(x))
    ),
    "loop": lambda x: lax.scan(lambda c, row: (jnp.tanh(c + row), c.sum()), x, ROWS.astype(x.dtype)),
    "growing": lambda x: lax.fori_loop(0, 3, lambda i, c: c * x + 1, jnp.ones(4, x.dtype)),
    "branch": lambda x: lax.cond(x[0] > 0, lambda y: y * y, lambda y: jnp.zeros_like(y), x),
    "rounded": lambda x: lax.reduce_precision(x * x, 8, 7),
    "remembered": jax.checkpoint(lambda x: jnp.sin(x) * x),
    "gradient": jax.grad(lambda x: jnp.sum(jnp.tanh(ROWS.astype(x.dtype) @ x) ** 2)),
}


def like_float32(f, dtype):
    """``f`` in the narrow type inside a float32 program."""
    return lambda x: jax.tree.map(lambda y: y.astype(jnp.float32), f(x.astype(dtype)))


@pytest.mark.parametrize("name", FUNCTIONS)
def test_series_inside_a_narrow_type_are_those_of_float32_to_its_rounding(name):
    f = FUNCTIONS[name]
    point = np.asarray(jnp.asarray(POINT, jnp.bfloat16), np.float32)  # the same point for both
    got = sl.taylor_coefficients(like_float32(f, jnp.bfloat16), point, DIRECTION, 3)
    expected = sl.taylor_coefficients(f, point, DIRECTION, 3)
    values = like_float32(f, jnp.bfloat16)(point)
    for a, b, value in zip(*map(jax.tree.leaves, (got, expected, values)), strict=True):
        assert a.dtype == jnp.float32
        # the values are those of the program, to a last digit where a compiler keeps more of them inside
        np.testing.assert_allclose(a[0], value, rtol=BFLOAT, atol=BFLOAT * np.abs(value).max())
        scale = np.maximum(np.abs(b).max(axis=tuple(range(1, b.ndim)), keepdims=True), np.abs(b).max() / 10)
        assert (np.abs(a - b) <= ROUNDINGS * BFLOAT * scale).all()


@pytest.mark.parametrize("degree", [3, 9])  # separate and stacked coefficients
@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_linear_functions_lose_nothing_to_a_narrow_type(dtype, degree):
    """A cast in the middle rounds the value alone: what is linear after it has the coefficients of float32."""
    f = lambda cast: lambda x: lax.reduce_precision(cast(jnp.sin(x)), 5, 7)[::-1] * 3.0  # noqa: E731
    got = sl.taylor_coefficients(f(lambda y: y.astype(dtype)), POINT, DIRECTION + 1j, degree)
    exact = sl.taylor_coefficients(lambda x: jnp.sin(x)[::-1] * 3.0, POINT, DIRECTION + 1j, degree)
    np.testing.assert_allclose(got[1:], exact[1:], rtol=1e-5, atol=1e-7)  # float32


@pytest.mark.parametrize("method", ["series", "cauchy"])
def test_point_of_16_bits_has_coefficients_in_float32(method):
    point = jnp.asarray(POINT, jnp.bfloat16)
    for direction in (DIRECTION, DIRECTION + 0.5j, jnp.asarray(DIRECTION, jnp.bfloat16)):
        got = sl.taylor_coefficients(lambda x: x**3, point, direction, 3, method=method)
        d, x = np.asarray(direction).astype(np.complex64), np.asarray(point, np.float32)
        assert got.dtype == (np.complex64 if np.iscomplexobj(direction) else np.float32)
        for coefficient, exact in zip(got[1:], (3 * x**2 * d, 3 * x * d**2, d**3), strict=True):
            # x**2 is float32; the first digits that Cauchy's sum loses are those of float32, too
            np.testing.assert_allclose(coefficient, exact, rtol=3e-4, atol=1e-5)
    wide = jnp.asarray(DIRECTION, jnp.float32)
    with pytest.raises(TypeError, match="computed in float32"), jax.enable_x64(True):
        sl.taylor_coefficients(lambda x: x, point, np.asarray(wide, float), 1)


# --- whole runs -------------------------------------------------------------------------

X = np.random.default_rng(0).normal(size=(8, 3)).astype(np.float32)
Y = np.random.default_rng(1).normal(size=8).astype(np.float32)
SPACE = sl.Examples(8)


def recipe(parameters, examples=jnp.float32):
    return sl.Recipe(
        lambda p, x: jnp.tanh(x @ p["w"]),
        optax.sgd(0.3),
        lambda model, batch: (model(batch[0]) - batch[1]) ** 2,
        (X.astype(examples), Y.astype(examples)),
        sl.minibatches(8, 4, epochs=2),
        initial={"w": jnp.full(3, 0.125, parameters)},
    )


def casting(last=jnp.float32, middle=jnp.float32):
    """A run in float32 that casts what it returns, or its activations."""

    def train(w):
        def loss(p):
            return jnp.mean(w * (jnp.tanh((X @ p).astype(middle).astype(jnp.float32)) - Y) ** 2)

        return {"w": lax.fori_loop(0, 4, lambda _, p: p - 0.3 * jax.grad(loss)(p), jnp.zeros(3)).astype(last)}

    return train


def squared(trained):
    return jnp.sum(trained["w"].astype(jnp.float32) ** 2)


@functools.cache
def effects(train, query):
    s = sl.sketch(train, SPACE, degree=2, num_directions=4, progress=False)
    return s.predict(query, [[0], [1], [2]]).change


CASTING, RECIPE = casting(), recipe(jnp.float32)
RUNS = {
    "leaves": (casting(last=jnp.bfloat16), squared, CASTING),
    "half leaves": (casting(last=jnp.float16), squared, CASTING),
    "activations": (casting(middle=jnp.bfloat16), squared, CASTING),
    "query": (CASTING, lambda t: squared(t).astype(jnp.bfloat16), CASTING),
    "parameters": (recipe(jnp.bfloat16), squared, RECIPE),
    "all": (recipe(jnp.bfloat16, jnp.bfloat16), squared, RECIPE),
}


@pytest.mark.parametrize("name", RUNS)
def test_sketch_of_a_run_with_narrow_numbers_predicts_what_float32_does(name):
    """To a few roundings of 1/128: in the values that the run passes through, and in the baseline."""
    train, query, in_float32 = RUNS[name]
    expected = effects(in_float32, squared)
    # a few roundings to 16 bits of the value and of its change
    scale = np.abs(expected).max() + float(squared(in_float32(jnp.ones(8))))
    np.testing.assert_allclose(effects(train, query), expected, atol=3 * BFLOAT * scale)


def test_other_ways_to_a_run_with_narrow_leaves_are_those_of_float32_to_its_rounding():
    """Backward, circles, and the examples' own terms."""
    train, in_float32 = RUNS["leaves"][0], CASTING
    # backwards in 16 bits, as the program is: a few roundings; of norms twice as many, for they are of order two
    expected = sl.gradient(in_float32, squared, SPACE)
    np.testing.assert_allclose(sl.gradient(train, squared, SPACE), expected, atol=3 * BFLOAT * np.abs(expected).max())
    profiles = [
        sl.stability_profile(t, squared, 2, 2, SPACE, method="cauchy", progress=False) for t in RUNS["leaves"][::2]
    ]
    np.testing.assert_allclose(profiles[0].norms, profiles[1].norms, rtol=6 * BFLOAT)
    s = sl.sketch(train, SPACE, degree=1, num_directions=2, progress=False, additive=True)
    retrained = squared(train(jnp.ones(8).at[0].set(0))) - squared(train(jnp.ones(8)))
    # a deletion of one example is exact with its own terms, to the rounding of float32
    np.testing.assert_allclose(s.predict(squared, [0]).change, retrained, rtol=1e-5)


def test_store_and_bank_keep_leaves_of_16_bits(tmp_path):
    train = RUNS["leaves"][0]
    sl.sketch(train, SPACE, degree=2, num_directions=4, progress=False, store=tmp_path / "s")
    stored = sl.open_sketch(tmp_path / "s")
    np.testing.assert_array_equal(stored.predict(squared, [[0], [1], [2]]).change, effects(train, squared))
    bank = sl.RetrainBank(tmp_path / "bank", train, {"dtype": "bfloat16"}, SPACE)
    rows = np.ones((2, 8)) - np.eye(8)[:2]
    first, again = (
        bank.retrained(rows),
        sl.RetrainBank(tmp_path / "bank", train, {"dtype": "bfloat16"}, SPACE).retrained(rows),
    )
    assert first["w"].dtype == jnp.bfloat16
    np.testing.assert_array_equal(first["w"], again["w"])
    np.testing.assert_array_equal(first["w"], np.stack([train(jnp.asarray(r, jnp.float32))["w"] for r in rows]))
