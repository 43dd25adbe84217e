"""microgpt against a second implementation in NumPy, derivative included, and against the paper's own figures."""

import json
import os
import random
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import erf

import sketchlearn as sl

REFERENCE = json.loads((Path(__file__).parents[1] / "data" / "microgpt_losses.json").read_text(encoding="utf-8"))
PAPER_NAMES = os.environ.get("SKETCHLEARN_PAPER_NAMES")
QUERIES = list(REFERENCE["loss"]["0.0"])
SHAPES = {
    "wte": (27, 16), "wpe": (16, 16), "lm_head": (27, 16), "attn_wq": (16, 16), "attn_wk": (16, 16),
    "attn_wv": (16, 16), "attn_wo": (16, 16), "mlp_fc1": (64, 16), "mlp_fc2": (16, 64),
}  # fmt: skip


class NumPyMicroGPT:
    """The same training run, written again: float64, one name at a time, every derivative by hand."""

    def __init__(self, names, num_examples, num_steps):
        documents = list(names)
        random.seed(42)
        random.shuffle(documents)
        self.initial = {
            name: np.array([[random.gauss(0, 0.08) for _ in range(columns)] for _ in range(rows)])
            for name, (rows, columns) in SHAPES.items()
        }
        self.names, self.num_steps = documents[:num_examples], num_steps

    @staticmethod
    def tokens(name):
        letters = ["abcdefghijklmnopqrstuvwxyz".index(c) for c in name]
        return [26, *letters], [*letters, 26]

    def loss_and_gradient(self, p, name):
        tokens, targets = self.tokens(name)
        length = len(tokens)
        rows = np.arange(length)

        x0 = p["wte"][tokens] + p["wpe"][:length]
        x1, back1 = rms_norm(x0)
        y, back_y = rms_norm(x1)
        q, k, v = (heads(y @ p[w].T) for w in ("attn_wq", "attn_wk", "attn_wv"))
        scores = np.where(np.tri(length, dtype=bool), q @ k.transpose(0, 2, 1) / 2, -np.inf)  # sqrt(head width 4) = 2
        a = np.exp(scores - scores.max(-1, keepdims=True))
        a /= a.sum(-1, keepdims=True)
        mixed = joined(a @ v)
        x2 = x1 + mixed @ p["attn_wo"].T
        z, back_z = rms_norm(x2)
        u = z @ p["mlp_fc1"].T
        half = 0.5 * (1 + erf(u / np.sqrt(2)))
        x3 = x2 + (u * half) @ p["mlp_fc2"].T
        logits = x3 @ p["lm_head"].T
        s = np.exp(logits - logits.max(-1, keepdims=True))
        s /= s.sum(-1, keepdims=True)
        loss = -np.log(s[rows, targets]).mean()

        g = dict.fromkeys(p)
        d = s.copy()
        d[rows, targets] -= 1
        d /= length
        g["lm_head"] = d.T @ x3
        d = d @ p["lm_head"]
        g["mlp_fc2"] = d.T @ (u * half)
        du = (d @ p["mlp_fc2"]) * (half + u * np.exp(-(u**2) / 2) / np.sqrt(2 * np.pi))
        g["mlp_fc1"] = du.T @ z
        d = d + back_z(du @ p["mlp_fc1"])
        g["attn_wo"] = d.T @ mixed
        dmixed = heads(d @ p["attn_wo"])
        da = dmixed @ v.transpose(0, 2, 1)
        ds = a * (da - (da * a).sum(-1, keepdims=True)) / 2
        to_heads = {"attn_wq": ds @ k, "attn_wk": ds.transpose(0, 2, 1) @ q, "attn_wv": a.transpose(0, 2, 1) @ dmixed}
        dy = 0
        for w, dw in to_heads.items():
            g[w] = joined(dw).T @ y
            dy = dy + joined(dw) @ p[w]
        d = back1(d + back_y(dy))
        g["wte"], g["wpe"] = np.zeros((27, 16)), np.zeros((16, 16))
        np.add.at(g["wte"], tokens, d)
        g["wpe"][:length] = d
        return loss, g

    def train(self, weights):
        p = dict(self.initial)
        m = {name: np.zeros(shape) for name, shape in SHAPES.items()}
        v = {name: np.zeros(shape) for name, shape in SHAPES.items()}
        for step in range(self.num_steps):
            i = step % len(self.names)
            _, gradient = self.loss_and_gradient(p, self.names[i])
            rate = 0.01 * (1 - step / self.num_steps)
            for name in SHAPES:
                g = weights[i] * gradient[name]
                m[name] = 0.85 * m[name] + 0.15 * g
                v[name] = 0.99 * v[name] + 0.01 * g**2
                m_hat, v_hat = m[name] / (1 - 0.85 ** (step + 1)), v[name] / (1 - 0.99 ** (step + 1))
                p[name] = p[name] - rate * m_hat / np.sqrt(v_hat + 1e-3)
        return p


def rms_norm(x):
    s = 1 / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-5)
    return x * s, lambda d: s * d - x * s**3 * (x * d).mean(-1, keepdims=True)


def heads(x):
    return x.reshape(len(x), 4, 4).transpose(1, 0, 2)


def joined(x):
    return x.transpose(1, 0, 2).reshape(x.shape[1], 16)


@pytest.fixture(scope="module")
def bundled():
    return sl.datasets.load_names()


@pytest.fixture(scope="module")
def short():
    """Forty names, forty steps, float32."""
    return sl.microgpt.paper_experiment(num_examples=40)


@pytest.fixture(scope="module")
def trained(short):
    return jax.jit(short.train)(jnp.ones(40))


def down_weighted(experiment, letters, share):
    """The weights with every name that contains ``letters`` down-weighted."""
    found = experiment.containing(letters)
    assert 0 < len(found) < experiment.num_examples
    x = np.zeros(experiment.num_examples)
    x[found] = share
    return 1 - x


def test_the_second_implementation_differentiates_what_it_computes(bundled):
    model = NumPyMicroGPT(bundled, 3, 3)
    _, gradient = model.loss_and_gradient(model.initial, "alexa")
    rng, h = np.random.default_rng(0), 1e-6
    for name, shape in SHAPES.items():
        along = rng.normal(size=shape)
        ends = [
            model.loss_and_gradient({**model.initial, name: model.initial[name] + s * along}, "alexa")[0]
            for s in (h, -h)
        ]
        # central differences: h² times a third derivative, and rounding 1e-16 / h
        assert (ends[0] - ends[1]) / (2 * h) == pytest.approx((gradient[name] * along).sum(), abs=1e-8)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(("num_examples", "num_steps"), [(1000, 1000), (30, 75)])
def test_losses_on_the_bundled_names_are_those_of_the_second_implementation(bundled, num_examples, num_steps):
    experiment = sl.microgpt.paper_experiment(num_examples=num_examples, num_steps=num_steps)
    model = NumPyMicroGPT(bundled, num_examples, num_steps)
    assert experiment.names == tuple(model.names)
    for name, values in model.initial.items():
        np.testing.assert_array_equal(experiment.initial[name], values)
    train, query = jax.jit(experiment.train), jax.jit(experiment.query(QUERIES))
    for share in (0.0, 0.5, 1.0):
        weights = down_weighted(experiment, "x" if num_examples == 1000 else "an", share)
        theirs = model.train(weights)
        expected = [model.loss_and_gradient(theirs, name)[0] for name in QUERIES]
        # 1000 steps of float64, each rounded to some 1e-16, and training damps more than it amplifies
        np.testing.assert_allclose(query(train(weights)), expected, rtol=1e-12)


@pytest.mark.usefixtures("x64")
@pytest.mark.skipif(
    PAPER_NAMES is None, reason="the paper's names are not bundled: SKETCHLEARN_PAPER_NAMES is their file"
)
def test_losses_on_the_paper_s_names_are_the_paper_s():
    experiment = sl.microgpt.paper_experiment(names=PAPER_NAMES)
    assert list(experiment.names[:5]) == REFERENCE["first_names"]
    assert experiment.deleted.tolist() == REFERENCE["deleted_positions"]
    np.testing.assert_array_equal(experiment.initial["wte"][0, :3], REFERENCE["first_parameters"])
    train = jax.jit(experiment.train)
    for share, expected in REFERENCE["loss"].items():
        got = experiment.query(list(expected))(train(down_weighted(experiment, "x", float(share))))
        np.testing.assert_allclose(got, list(expected.values()), rtol=1e-12)  # as above


@pytest.mark.usefixtures("x64")
def test_the_first_taylor_term_is_the_slope_of_the_second_implementation(bundled):
    experiment = sl.microgpt.paper_experiment(num_examples=30)
    model, loss = NumPyMicroGPT(bundled, 30, 30), experiment.query("max")
    along, h = down_weighted(experiment, "an", 1) - 1, 1e-4
    ends = [model.loss_and_gradient(model.train(1 + s * along), "max")[0] for s in (h, -h)]
    slope = jax.jit(lambda w: sl.taylor_coefficients(lambda w: loss(experiment.train(w)), w, jnp.asarray(along), 1))(
        jnp.ones(30)
    )[1]
    # central differences: h² = 1e-8 times a third derivative of size 1
    assert float(slope) == pytest.approx((ends[0] - ends[1]) / (2 * h), rel=1e-6)
    assert abs(slope) > 1e-3


def test_there_are_4192_parameters_of_the_documented_shapes_drawn_in_the_documented_order():
    from sketchlearn.experiments.models import PARAMETER_ORDER

    assert tuple(SHAPES.items()) == PARAMETER_ORDER
    assert sum(rows * columns for rows, columns in SHAPES.values()) == 4192


def test_float32_losses_follow_float64(short, trained):
    assert short.dtype == jnp.float32
    assert {p.dtype for p in trained.values()} == {jnp.dtype("float32")}
    with jax.enable_x64(True):
        double = sl.microgpt.paper_experiment(num_examples=40)
        assert double.dtype == jnp.float64
        exact = jax.jit(lambda w: double.query(QUERIES)(double.train(w)))(jnp.ones(40))
    # forty steps in float32, 6e-8 each
    np.testing.assert_allclose(jax.jit(short.query(QUERIES))(trained), exact, rtol=1e-5)


def test_encode_shifts_the_letters_by_one_between_two_end_marks():
    tokens, targets, present = sl.microgpt.encode(["abz", "c"])
    np.testing.assert_array_equal(tokens, [[26, 0, 1, 25], [26, 2, 26, 26]])
    np.testing.assert_array_equal(targets, [[0, 1, 25, 26], [2, 26, 26, 26]])
    np.testing.assert_array_equal(present, [[1, 1, 1, 1], [1, 1, 0, 0]])
    assert [x.shape for x in sl.microgpt.encode(["abz"], length=9)] == [(1, 9)] * 3


def test_a_query_of_one_name_and_of_a_list_agree(short, trained):
    names = ["max", "abcdefghijklmno", "emma"]
    together = jax.jit(short.query(names))(trained)
    assert together.shape == (3,)
    alone = [jax.jit(short.query(name))(trained) for name in names]
    assert {a.shape for a in alone} == {()}
    # padding to the longest name adds zeros to sums: float32 roundings of 6e-8, in another order
    np.testing.assert_allclose(alone, together, rtol=2e-6)
    np.testing.assert_allclose(jax.jit(short.query(tuple(names[::-1])))(trained), together[::-1], rtol=2e-6)


def test_deleted_are_the_names_with_an_x(short):
    experiment = sl.microgpt.paper_experiment()
    assert [experiment.names[i] for i in experiment.deleted[:3]] == ["alexandre", "loxley", "hendryx"]
    assert [i for i, name in enumerate(experiment.names) if name.count("x")] == experiment.deleted.tolist()
    assert [short.names[i] for i in short.containing("an")] == [name for name in short.names if "an" in name]
    assert short.containing("qqq").shape == (0,)


@pytest.mark.parametrize(
    ("weights", "error", "message"),
    [
        (np.ones(39, np.float32), ValueError, r"shape \(40,\), one for each training name, got \(39,\)"),
        (np.ones((1, 40), np.float32), ValueError, r"got \(1, 40\)"),
        (np.ones(40, int), TypeError, "real floating-point numbers, got dtype int"),
        (np.ones(40, bool), TypeError, "got dtype bool"),
        (np.ones(40, np.complex64), TypeError, "got dtype complex64"),
    ],
)
def test_weights_that_do_not_fit_are_refused(short, weights, error, message):
    with pytest.raises(error, match=message):
        short.train(weights)


def test_weights_more_precise_than_the_experiment_are_refused(short):
    with (
        jax.enable_x64(True),
        pytest.raises(TypeError, match="weights are float64 but this experiment runs in float32"),
    ):
        short.train(np.ones(40))


@pytest.mark.parametrize("name", ["Max", "", "o'neil", "max ", "élodie", "abcdefghijklmnop", 5, ["max", "Emma"], [3]])
def test_a_query_that_is_no_name_is_refused(short, name):
    wrong = name[-1] if isinstance(name, list) else name
    with pytest.raises((ValueError, TypeError), match="name") as caught:
        short.query(name)
    assert repr(wrong) in str(caught.value)


def test_an_empty_list_of_queries_is_refused(short):
    with pytest.raises(ValueError, match="at least one name"):
        short.query([])


def test_a_query_says_which_parameters_it_reads(short, trained):
    with pytest.raises(ValueError, match=r"keys \['attn_wk', .*\], got \['wte'\]"):
        short.query("max")({"wte": trained["wte"]})
    with pytest.raises(ValueError, match="got list"):
        short.query("max")(list(trained.values()))


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"num_examples": 0}, ValueError, "num_examples must be at least 1, got 0"),
        ({"num_examples": 2.0}, TypeError, "num_examples must be a whole number"),
        ({"num_examples": 40_000}, ValueError, "num_examples=40000, but the list has only 32257 names"),
        ({"num_steps": 0}, ValueError, "num_steps must be at least 1"),
        ({"dtype": jnp.int32}, TypeError, "dtype must be float32 or float64"),
        ({"dtype": jnp.complex64}, TypeError, "dtype must be float32 or float64"),
        ({"dtype": jnp.float64}, ValueError, r"float64 needs jax\.config\.update\('jax_enable_x64', True\)"),
        ({"names": "no/such/file.txt"}, FileNotFoundError, "no file of names at"),
    ],
)
def test_an_experiment_that_cannot_be_made_is_refused(arguments, error, message):
    with pytest.raises(error, match=message):
        sl.microgpt.paper_experiment(**arguments)
