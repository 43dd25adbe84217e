"""The worked training runs: they learn, and their series say what retraining says."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import sketchlearn as sl

pytestmark = pytest.mark.usefixtures("x64", "quick_compilation")

# Small versions of each, with the loss of a model that knows nothing.
SMALL = {
    "logistic_regression": (lambda: sl.zoo.logistic_regression(200, epochs=2), np.log(10)),
    "digits_cnn": (lambda: sl.zoo.digits_cnn(100, epochs=3), np.log(10)),
    "character_model": (lambda: sl.zoo.character_model(100, epochs=3), np.log(27)),
    "many_names": (lambda: sl.zoo.many_names(60, epochs=4, batch_size=20), np.log(27)),
    "larger_microgpt": (lambda: sl.zoo.larger_microgpt(60, epochs=4, batch_size=20, width=16), np.log(27)),
}


@pytest.mark.parametrize("name", SMALL)
def test_series_predicts_training_again_and_the_run_learns(name):
    make, chance = SMALL[name]
    work = make()
    run, n = work.recipe, work.recipe.num_examples
    query = work.query()
    direction = np.zeros(n)
    direction[:4] = -1.0

    coefficients = np.asarray(
        jax.jit(lambda d: sl.taylor_coefficients(lambda w: query(run(w)), jnp.ones(n), d, 3))(direction)
    )
    assert coefficients[0] < chance
    train = jax.jit(lambda w: query(run(w)))
    errors = []
    for t in (0.2, 0.4):  # down-weights of four examples
        truth = train(1 + t * direction)
        errors.append(abs(np.polynomial.polynomial.polyval(t, coefficients) - truth))
        assert errors[-1] < 0.05 * abs(truth - coefficients[0]), (
            "what order 4 and above leave is small beside the change"
        )
    # The error of a polynomial of degree 3 grows like t^4: 16-fold, here between 8- (t^3) and 32-fold (t^5).
    assert 8 < errors[1] / errors[0] < 32


def test_the_largest_run_has_the_promised_size():
    run = sl.zoo.larger_microgpt().recipe
    assert sum(p.size for p in jax.tree.leaves(run.parameters)) >= 100_000
    assert run.num_examples >= 2000
    assert run.batches.shape[1] > 1


def test_labels_and_held_out_digits_are_those_of_scikit_learn():
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    work = sl.zoo.logistic_regression(1000, seed=3)
    together = np.concatenate([np.asarray(work.recipe.examples[0]), work.held_out[0]]) * 16
    order = np.lexsort(images.T), np.lexsort(together.T)  # a permutation of the same rows
    np.testing.assert_array_equal(images[order[0]], together[order[1]])
    both = np.concatenate([work.labels, work.held_out[1]])
    np.testing.assert_array_equal(np.bincount(labels), np.bincount(both))


def test_a_query_by_name_is_the_loss_on_that_name():
    work = sl.zoo.larger_microgpt(20, epochs=1, batch_size=10, width=8)
    parameters = work.recipe.parameters
    tokens, targets, _ = sl.microgpt.encode(["max"], 16)
    logits = work.recipe.apply(parameters, tokens)[0]
    expected = -jax.nn.log_softmax(logits)[np.arange(4), targets[0, :4]].mean()  # m, a, x and the end
    np.testing.assert_allclose(work.query("max")(parameters), expected, rtol=1e-12)  # the same sum, masked
    each = work.query(["max", "mia"], each=True)(parameters)
    np.testing.assert_allclose(each[0], expected, rtol=1e-12)
    two = work.query(each=True)(parameters)[np.array([3, 5])]
    np.testing.assert_allclose(work.query([3, 5])(parameters), two.mean(), rtol=1e-12)
    later = work.recipe.apply(parameters, np.where(np.arange(16) == 3, 7, tokens))[0]
    np.testing.assert_array_equal(later[:3], logits[:3])  # causal: a later letter changes nothing before it
    assert (later[3] != logits[3]).any()


@pytest.mark.parametrize("of", ["Max", "", [""], 500, "a" * 16], ids=str)
def test_queries_that_make_no_sense_are_refused(of):
    work = sl.zoo.character_model(20, epochs=1)
    with pytest.raises(ValueError, match=r"expected|name"):
        work.query(of)


@pytest.mark.parametrize("epsilon", [0.0, -1.0, float("nan")])
def test_an_epsilon_without_a_series_is_refused(epsilon):
    with pytest.raises(ValueError, match="epsilon must be positive"):
        sl.zoo.larger_microgpt(20, epochs=1, batch_size=10, width=8, epsilon=epsilon)


def tiny_source(**changed):
    given = {"width": 8, "layers": 2, "length": 8, "batch_size": 4, "held_out": 3, "packages": ("json", "email")}
    return sl.zoo.source_code_model(24, **(given | changed))


def test_scanned_layers_under_checkpoint_have_the_series_that_circles_give():
    work = tiny_source()
    query, n = work.query_of_sources(), 24

    def losses(w):
        return query(work.recipe(w))

    direction = np.random.default_rng(0).normal(size=n) / n
    series = jax.jit(lambda d: sl.taylor_coefficients(losses, jnp.ones(n), d, 3))(direction)
    circles = sl.taylor.cauchy_coefficients(losses, jnp.ones(n), direction, 3).coefficients
    # float64; circles resolve the third order to ten digits, beside numbers of size one in the first
    np.testing.assert_allclose(series, circles, rtol=1e-8, atol=1e-12)


def test_a_step_of_the_layered_model_is_that_of_its_layers_one_after_the_other():
    from sketchlearn.experiments import models

    rng = np.random.default_rng(0)
    parameters = models.code_gpt_parameters(rng, 8, 3, 6)
    tokens = rng.integers(0, 128, (2, 6))
    x = parameters["bytes"][tokens] + parameters["places"]

    def rms_norm(x):
        return x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-5)

    for layer in range(3):
        p = {name: matrix[layer] for name, matrix in parameters["layers"].items()}
        q, k, v = np.split((rms_norm(x) @ p["read"]).reshape(2, 6, 4, 6), 3, axis=-1)
        scores = np.einsum("bihd,bjhd->bhij", q, k) / np.sqrt(2)
        scores = np.exp(np.where(np.tril(np.ones((6, 6), bool)), scores, -np.inf))
        mixed = np.einsum("bhij,bjhd->bihd", scores / scores.sum(-1, keepdims=True), v).reshape(2, 6, 8)
        x = x + mixed @ p["mixed"]
        x = x + np.asarray(jax.nn.gelu(rms_norm(x) @ p["wide"], approximate=False)) @ p["narrow"]
    expected = rms_norm(x) @ parameters["bytes"].T
    # float32 parameters, a few hundred additions in another order
    np.testing.assert_allclose(models.code_gpt(parameters, tokens), expected, rtol=1e-4, atol=1e-6)


def test_packages_share_the_texts_and_each_is_asked_about_its_own():
    work = tiny_source(packages=("json", "email", "xml"), held_out=2)
    assert work.sources == ("json", "email", "xml")
    assert np.bincount(work.labels).tolist() == [8, 8, 8]
    assert work.held_out_labels.tolist() == [0, 0, 1, 1, 2, 2]
    start = work.recipe.parameters
    each = work.query(each=True)(start)
    np.testing.assert_allclose(work.query_of_sources()(start), each.reshape(3, 2).mean(1), rtol=1e-12)  # float64
    kept = {text.tobytes() for text in np.asarray(work.recipe.examples)}
    assert not kept & {text.tobytes() for text in np.asarray(work.held_out)}


def test_ten_million_parameters_are_a_matter_of_arguments():
    from sketchlearn.experiments import models

    made = models.code_gpt_parameters(np.random.default_rng(0), 384, 6, 128)
    assert sum(leaf.size for leaf in jax.tree.leaves(made)) == 12 * 6 * 384**2 + 256 * 384
    assert 10.7e6 < sum(leaf.size for leaf in jax.tree.leaves(made)) < 10.8e6


def test_the_program_of_series_does_not_grow_with_the_number_of_layers():
    def lines(layers):
        run = tiny_source(layers=layers).recipe
        ones = jnp.ones(24)
        return jax.jit(lambda d: sl.taylor_coefficients(run, ones, d, 2)).lower(ones).as_text().count("\n")

    assert lines(12) <= 1.1 * lines(2)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"packages": "json"}, "each once and at least one, got 'json'"),
        ({"packages": ()}, "at least one"), ({"packages": ("json", "json")}, "each once"),
        ({"packages": ("..",)}, "no paths"),
        ({"packages": ("no_such_package",)}, "this Python has no package 'no_such_package'"),
        ({"packages": ("json", "email"), "length": 20_000}, "json has 1 texts|json has 0 texts|fewer examples"),
        ({"width": 6}, "width must be a multiple of 4"), ({"epsilon": 0.0}, "epsilon must be positive"),
        ({"rate": -1.0}, "rate"),
    ],
)  # fmt: skip
def test_source_that_is_not_there_and_sizes_that_do_not_fit_are_refused(changed, message):
    with pytest.raises(ValueError, match=message):
        tiny_source(**changed)


def test_digits_have_no_sources():
    with pytest.raises(ValueError, match="examples here have no sources"):
        sl.zoo.logistic_regression(100, epochs=1).query_of_sources()
