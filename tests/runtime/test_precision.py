"""Products and convolutions are traced in full precision wherever the package traces them, unless the user says other.

No GPU is needed to see that: JAX writes the precision into every product when it is traced.
"""

import ast
import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax import lax

import sketchlearn as sl
from sketchlearn import reference
from sketchlearn.cli import doctor, main
from sketchlearn.runtime import precision
from sketchlearn.runtime.precision import full_precision, in_full_precision, matmul_precision
from sketchlearn.runtime.programs import jit

PACKAGE = Path(sl.__file__).parent
HIGHEST, HIGH, DEFAULT = ((p, p) for p in (lax.Precision.HIGHEST, lax.Precision.HIGH, lax.Precision.DEFAULT))
N = 6
SPACE = sl.Examples(N)
RNG = np.random.default_rng(0)
A, B = (RNG.normal(size=shape).astype(np.float32) for shape in ((N, N), (4, N)))


@pytest.fixture
def seen(monkeypatch):
    """The precision of every product and every convolution from now on, traced or computed."""
    jax.clear_caches()  # what was traced before is not traced again
    found = []
    for primitive in (lax.dot_general_p, lax.conv_general_dilated_p):

        def bind(*args, original=primitive.bind, **params):
            found.append(params["precision"])
            return original(*args, **params)

        monkeypatch.setattr(primitive, "bind", bind)
    return found


def training(**options):
    """A new training program, so that no trace of it is remembered: products in a loop, a convolution, and a solve."""

    def train(w):
        def step(theta, _):
            slope = jax.grad(lambda t: jnp.sum(w * jnp.tanh(jnp.dot(A, t, **options)) ** 2))(theta)
            return theta - 0.1 * slope, None

        theta = lax.scan(step, jnp.linspace(0, 1, N), None, length=2)[0]
        smooth = lax.conv_general_dilated(theta[None, None], jnp.ones((1, 1, 3)), (1,), "SAME", **options)[0, 0]
        return {"theta": theta, "smooth": smooth}

    return train


def question(**options):
    return lambda p: jnp.dot(B, p["theta"], **options) ** 2 + p["smooth"].sum()


def number(p):
    return jnp.dot(p["theta"], p["smooth"])


def sketched(**options):
    return sl.sketch(training(), SPACE, 2, 4, progress=False, **options)


def a_recipe():
    model, loss = (lambda p, x: x @ p["w"]), (lambda model, batch: (model(batch[0]) - batch[1]) ** 2)
    initial, data = {"w": np.zeros(N, np.float32)}, (A, np.ones(N, np.float32))
    return sl.Recipe(
        model, optax.adam(0.1, eps=0.0, eps_root=1e-3), loss, data, np.arange(N).reshape(3, 2), initial=initial
    )


def a_problem():
    a = jnp.asarray(A)
    z, loss = (lambda t, i: a[i] @ t), (lambda z, i: (z - 1) ** 2)
    points = (sl.Checkpoint(jnp.zeros(N), 0.1, np.ones(N)),)
    return sl.Problem(
        lambda t, i: loss(z(t, i), i), N, jnp.ones(N), lambda t: 5 * t @ t, outputs=z, output_loss=loss,
        checkpoints=points,
    )  # fmt: skip


def asked(make, query=None):
    """A baseline made and asked."""
    return lambda: make().predict(query or (lambda t: jnp.dot(jnp.asarray(B), t)), [[0], [1, 2]])


def microgpt():
    return sl.microgpt.paper_experiment(num_examples=4, num_steps=4, dtype="float32")


def backwards(recipe):
    return lambda w: recipe.train_checkpointed(w)["w"].sum()


def first_failure():
    recipe = a_recipe()
    assert recipe.first_failure(np.ones(N), np.ones(N)) is None


def bank():
    return sl.RetrainBank(None, training(), {}, SPACE)


def entry(name):
    return getattr(sl.baselines, name)


ENTRIES = {
    "sketch": lambda: sketched().predict(question(), [[0], [1, 2]]),
    "sketch, all options": lambda: sketched(additive=True, centre=0.1, queries={"q": question()}).predict("q", [0]),
    "control": lambda: sketched(additive=True).predict(question(), [0], control=True),
    "LinearMap": lambda: sl.sketch(training(), sl.LinearMap(np.eye(N)[:, :2]), 1, 2, centre=0.1, progress=False),
    "LinearMap.embed": lambda: sl.LinearMap(np.eye(N)).embed(np.ones(N, np.float32)),
    "retrain": lambda: sl.retrain(training(), [np.ones(N), np.zeros(N)], question()),
    "RetrainBank": lambda: bank().predict(question(), [[0]]),
    "seed_noise": lambda: sl.seed_noise(lambda s: training(), [0], question(), [0], N),
    "gradient": lambda: sl.gradient(training(), question(), SPACE),
    "taylor_coefficients": lambda: sl.taylor_coefficients(training(), jnp.ones(N), jnp.ones(N), 2),
    "under a jit of the user's": lambda: jax.jit(lambda w: sl.taylor_coefficients(training(), w, jnp.ones(N), 2))(
        jnp.ones(N)
    ),
    "cauchy": lambda: sl.taylor_coefficients(training(), jnp.ones(N), jnp.ones(N), 2, method="cauchy"),
    "push_forward": lambda: sl.taylor.push_forward(lambda x: jnp.dot(x, x), jnp.ones((2, 3))),
    "solve": lambda: sl.taylor_coefficients(
        lambda w: jnp.linalg.solve(jnp.eye(N) + w, jnp.ones(N)), jnp.ones(N), jnp.ones(N), 2
    ),
    "piecewise_report": lambda: sl.piecewise_report(lambda w: jnp.maximum(jnp.dot(A, w), 0), jnp.ones(N)),
    "stability": lambda: sl.stability_profile(training(), number, 2, 2, SPACE, progress=False),
    "stability, circles": lambda: sl.stability_profile(training(), number, 2, 1, SPACE, 0, "cauchy", progress=False),
    "plan": lambda: sl.plan(training(), SPACE, number, [[0]], 1, 16, 2, progress=False),
    "check": lambda: sl.check(training(), N, stability=True, degree=1, num_directions=2),
    "Recipe": lambda: a_recipe()(np.ones(N, np.float32)),
    "Recipe, traced": lambda: jax.jit(a_recipe())(np.ones(N, np.float32)),
    "Recipe, checkpointed": lambda: jax.grad(backwards(a_recipe()))(jnp.ones(N, jnp.float32)),
    "Recipe.apply": lambda: a_recipe().apply({"w": jnp.ones(N, jnp.float32)}, A),
    "Recipe.query": lambda: a_recipe().query((A, np.ones(N, np.float32)))({"w": jnp.ones(N, jnp.float32)}),
    "first_failure": first_failure,
    "microgpt": lambda: jax.eval_shape(microgpt().train, jnp.ones(4, jnp.float32)),
    "microgpt, a query": lambda: (lambda e: jax.eval_shape(e.query("max"), e.initial))(microgpt()),
    "microgpt, a gradient": lambda: (lambda e: jax.eval_shape(jax.grad(e.example_loss), e.initial, 0))(microgpt()),
    "Ridge": lambda: sl.worlds.Ridge(A, A[0]).train(jnp.ones(N)),
    "LinearDescent": lambda: sl.worlds.LinearDescent(sl.worlds.Ridge(A, A[0]), 0.1, 2).train(jnp.ones(N)),
    "Logistic": lambda: sl.worlds.Logistic(A, np.sign(A[0])).train(jnp.ones(N)),
    "PolynomialLearner": lambda: sl.worlds.PolynomialLearner(N).train(jnp.ones(N)),
    "Problem": lambda: a_problem().objective(jnp.ones(N), jnp.ones(N)),
    "nested_jvp": lambda: reference.nested_jvp(training(), jnp.ones(N), jnp.ones(N), 1),
    "reference.retrain": lambda: reference.retrain(training(), question(), np.zeros(N), N),
    "Metagradient": asked(lambda: entry("Metagradient")(training(), SPACE), question()),
    "ForwardFirstOrder": asked(lambda: entry("ForwardFirstOrder")(training(), SPACE), question()),
    "CoordinateSums": asked(lambda: entry("CoordinateSums")(bank()), question()),
    "DatamodelRegression": asked(lambda: entry("DatamodelRegression")(bank(), 10), number),
    "TracIn": asked(lambda: entry("TracIn")(a_problem(), SPACE)),
    "ProjectedGradients": asked(lambda: entry("ProjectedGradients")(a_problem(), SPACE, 2, 1.0)),
    "GroupInfluence": asked(lambda: entry("GroupInfluence")(a_problem(), SPACE)),
    "NewtonStep": asked(lambda: entry("NewtonStep")(a_problem(), SPACE)),
    "InfinitesimalJackknife": asked(lambda: entry("InfinitesimalJackknife")(a_problem(), SPACE)),
    **{
        f"Influence, {solver}": asked(lambda s=solver: sl.baselines.Influence(a_problem(), SPACE, s))
        for solver in ("exact", "cg", "gauss_newton")
    },
    "evaluate": lambda: sl.evaluate(
        {"m": lambda: sl.baselines.Metagradient(training(), SPACE)}, bank(), number, {"one": np.eye(N, dtype=bool)}
    ),
}


@pytest.mark.parametrize("name", ENTRIES)
def test_every_product_is_traced_in_full_precision(name, seen):
    ENTRIES[name]()
    assert seen, "no product was traced: the test looks at nothing"
    assert set(seen) == {HIGHEST}


@pytest.mark.parametrize("name", ["sketch", "retrain", "cauchy", "Recipe", "microgpt", "Metagradient"])
def test_a_setting_of_the_users_is_kept(name, seen):
    with jax.default_matmul_precision("tensorfloat32"):
        ENTRIES[name]()
    assert set(seen) == {HIGH}


@pytest.mark.parametrize("name", ["sketch", "plan"])
def test_another_precision_can_be_asked_for_and_ends_with_the_call(name, seen):
    if name == "sketch":
        sketched(precision="high")
    else:
        sl.plan(training(), SPACE, number, [[0]], 1, 16, 2, progress=False, precision="high")
    assert set(seen) == {HIGH}
    assert jax.config.jax_default_matmul_precision is None


@pytest.mark.parametrize("wrong", ["exact", 3, ""])
def test_a_precision_that_jax_does_not_know_is_refused(wrong):
    with pytest.raises(ValueError, match=f'^precision must be a name that JAX knows, "highest".* got {wrong!r}'):
        sketched(precision=wrong)


def products_found(train):
    report = sl.check(train, N, stability=False)
    assert report.ok
    return [f for f in report.findings if f.kind == "rounded product"]


def test_check_says_where_a_program_asks_for_rounded_products():
    found = products_found(training(precision="default"))
    assert {f.message for f in found} == {"its precision is DEFAULT"}
    assert any("conv_general_dilated" in f.where for f in found)
    assert all("test_precision.py" in f.where for f in found)
    assert products_found(training()) == []
    with jax.default_matmul_precision("tensorfloat32"):
        assert {f.message for f in products_found(training())} == {"its precision is HIGH"}
    narrow = products_found(lambda w: jnp.dot(A, w, preferred_element_type=jnp.bfloat16).astype(jnp.float32))
    assert [f.message for f in narrow] == ["its result is bfloat16"]


def test_jaxs_own_default_can_be_asked_for(seen):
    with jax.default_matmul_precision("default"):
        sketched().predict(question(), [0])
    assert set(seen) == {DEFAULT}


def test_the_precision_of_an_operation_is_kept(seen):
    made = sl.sketch(training(precision="default"), SPACE, 2, 4, progress=False)
    made.predict(question(precision="default"), [0])
    sl.retrain(training(precision="default"), [np.zeros(N)], question(precision="default"))
    assert set(seen) == {DEFAULT}


def test_a_setting_of_the_users_inside_of_train_is_kept(seen):
    def train(w):
        with jax.default_matmul_precision("tensorfloat32"):
            return jnp.dot(A, w)

    sl.sketch(train, SPACE, 1, 2, progress=False)
    assert set(seen) == {HIGH}


def test_the_program_for_a_gpu_has_full_precision_in_every_product():
    def coefficients(w):
        return sl.taylor_coefficients(training(), w, jnp.ones(N), 2)

    lowered = jax.jit(coefficients).trace(jnp.ones(N)).lower(lowering_platforms=("cuda",)).as_text()
    lines = [line for line in lowered.splitlines() if "stablehlo.dot_general" in line or "convolution(" in line]
    assert len(lines) > 5
    assert all(line.count("HIGHEST") == 2 for line in lines)


def test_nothing_is_compiled_but_through_the_packages_own_jit():
    allowed = {"programs.py", "jax_compat.py"}
    allowed |= {"directions.py"}  # draws: no products
    allowed |= {"doctor.py"}  # the doctor measures JAX's default, too
    found = set()
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if (
                isinstance(node, ast.Attribute)
                and node.attr in ("jit", "make_jaxpr")
                and ast.unparse(node.value) == "jax"
            ):
                found.add(path.name)
    assert found == allowed


def test_full_precision_yields_to_a_setting_and_ends_with_its_block():
    assert jax.config.jax_default_matmul_precision is None, "the tests run at JAX's default"
    with full_precision():
        assert matmul_precision() == "HIGHEST"
        with jax.default_matmul_precision("tensorfloat32"), full_precision():
            assert matmul_precision() == "HIGH"
    assert jax.config.jax_default_matmul_precision is None
    assert matmul_precision() == "HIGHEST", "what the package would use"
    with jax.default_matmul_precision("float32"):
        assert matmul_precision() == "HIGHEST", "two names of one precision"
    with jax.default_matmul_precision("TF32_TF32_F32_X3"):
        assert matmul_precision() == "TF32_TF32_F32_X3"


def test_a_function_keeps_its_name_in_full_precision():
    @in_full_precision
    def named(x):
        """Says this."""
        return x

    assert (named.__name__, named.__doc__, named(3)) == ("named", "Says this.", 3)


def test_a_function_is_traced_once_for_each_setting(seen):
    def f(x):
        return jnp.dot(x, x)

    x = np.ones(2, np.float32)
    for _ in range(2):
        precision.shapes_of(f, x)
        jit(f)(x)
        with jax.default_matmul_precision("tensorfloat32"):
            jit(f)(x)
    assert seen == [HIGHEST, HIGH]


def test_circles_are_compiled_again_for_another_setting(seen):
    def f(x):
        return jnp.dot(x, x)

    x = jnp.ones(2)
    sl.taylor.cauchy_coefficients(f, x, x, 2)
    first = len(seen)
    with jax.default_matmul_precision("tensorfloat32"):
        sl.taylor.cauchy_coefficients(f, x, x, 2)
    assert set(seen[:first]) == {HIGHEST}
    assert set(seen[first:]) == {HIGH}


def test_a_query_is_measured_again_for_another_setting(seen):
    made, query = sketched(), question()
    made.measure(query)
    before = len(seen)
    made.measure(query)
    assert len(seen) == before, "remembered"
    with jax.default_matmul_precision("tensorfloat32"):
        made.measure(query)
    assert set(seen[before:]) == {HIGH}


def test_the_plain_run_is_the_primal_of_the_series_in_every_precision(seen):
    train = training()
    for setting in ("highest", "tensorfloat32"):
        with jax.default_matmul_precision(setting):
            made = sl.sketch(train, SPACE, 2, 4, progress=False)
            again = sl.retrain(train, np.ones(N))
        # the same products in the same precision, compiled among others: rounding of float32
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-7), made.parameters, again)
    assert set(seen) == {HIGHEST, HIGH}


def test_a_store_of_another_precision_is_refused_and_it_alone_is_named(tmp_path):
    train, options = training(), {"store": tmp_path / "s", "progress": False}
    sl.sketch(train, SPACE, 1, 2, **options)
    with (
        jax.default_matmul_precision("tensorfloat32"),
        pytest.raises(sl.StoreError, match="made by other arguments") as error,
    ):
        sl.sketch(train, SPACE, 1, 2, **options)
    assert str(error.value).splitlines()[1:-1] == ['  matmul_precision: stored "HIGHEST", asked for "HIGH"']
    with jax.default_matmul_precision("float32"):  # another name of the same
        sl.sketch(train, SPACE, 1, 2, **options)
    with jax.default_matmul_precision("tensorfloat32"):  # the program is the same whatever it is opened under
        assert sl.open_sketch(tmp_path / "s", train).num_directions == 2


def test_a_store_without_a_precision_is_refused_in_words(tmp_path):
    from sketchlearn.sketching.store import format

    store = format.Store(tmp_path / "s", {"degree": 1})
    assert store.arguments == {"degree": 1}
    with pytest.raises(sl.StoreError, match=r'matmul_precision: not stored \(by an earlier version.*for "HIGHEST"'):
        format.Store(tmp_path / "s", {"degree": 1, "matmul_precision": "HIGHEST"})


def test_a_bank_holds_retrainings_of_one_precision(tmp_path):
    train = training()
    bank = sl.RetrainBank(tmp_path / "bank", train, {}, SPACE)
    bank.parameters([0])
    with jax.default_matmul_precision("tensorfloat32"):
        bank.parameters([0])  # is there already
        with pytest.raises(ValueError, match=r"precision of products HIGHEST, and JAX is set to HIGH now"):
            bank.parameters([1])
        with pytest.raises(sl.StoreError, match='matmul_precision: stored "HIGHEST"'):
            sl.RetrainBank(tmp_path / "bank", train, {}, SPACE)
    assert len(bank) == 1


def test_doctor_measures_the_products_of_the_device(capsys):
    assert main.main(["doctor", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    # on a CPU both are sums of 256 float32 products, each rounded to 6e-8
    assert 1e-8 < report["float32_product_errs_by_jax_default"] < 1e-6
    assert 1e-8 < report["float32_product_errs_in_sketches"] < 1e-6
    assert "warning" not in report


def test_doctor_warns_where_products_in_sketches_lose_digits(capsys, monkeypatch):
    def rounded(f):  # to TF32, as an H100 at JAX's default: ten binary digits after the first
        return lambda *xs: f(*(lax.reduce_precision(x, 8, 10) for x in xs))

    real = doctor.jit
    monkeypatch.setattr(doctor, "jit", lambda f: real(rounded(f) if f is jnp.matmul else f))
    assert main.main(["doctor"]) == 0
    out = capsys.readouterr().out
    (line,) = (line for line in out.splitlines() if line.startswith("float32_product_errs_in_sketches"))
    assert 1e-4 < float(line.split()[1]) < 1e-3
    assert "warning: a float32 product of matrices errs by" in out
    assert "jax_default_matmul_precision" in out
