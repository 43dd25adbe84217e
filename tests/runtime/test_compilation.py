"""The CPU compiler's fusions that give wrong numbers are off, whoever imports what first."""

import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import sketchlearn as sl
from sketchlearn.runtime import jax_compat, programs
from sketchlearn.sketching import query_jets

BEGIN = "import jax, jax.numpy as jnp\n"


def in_a_new_process(code, flags=None):
    """What the code prints, on standard output and as warnings."""
    env = {k: v for k, v in os.environ.items() if k != "XLA_FLAGS"} | ({} if flags is None else {"XLA_FLAGS": flags})
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
    return done.stdout.strip(), done.stderr


def test_importing_the_package_computes_nothing_and_sets_the_flag():
    code = "import os, sketchlearn\nfrom jax._src import xla_bridge\n"
    out, warned = in_a_new_process(code + "print(xla_bridge.backends_are_initialized(), os.environ['XLA_FLAGS'])")
    assert out.startswith("False --xla_cpu_experimental_ynn_fusion_type=LIBRARY_FUSION_TYPE_INDIVIDUAL_DOT")
    assert "RuntimeWarning" not in warned


WATCHED = """
import importlib, os, pkgutil, sys
seen = []
class Watch:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("sketchlearn", "flax", "optax", "sklearn"):
            seen.append((name, "ynn_fusion_type" in os.environ.get("XLA_FLAGS", "")))
sys.meta_path.insert(0, Watch())
importlib.import_module(FIRST)
import sketchlearn
for module in pkgutil.walk_packages(sketchlearn.__path__, "sketchlearn."):
    if not module.name.endswith("__main__"):
        importlib.import_module(module.name)
from jax._src import xla_bridge
print(len(seen), [name for name, is_set in seen if not is_set], xla_bridge.backends_are_initialized())
"""


@pytest.mark.parametrize("first", ["sketchlearn", "sketchlearn.taylor.functions"])
def test_the_flag_is_set_before_any_module_that_might_compute_and_none_computes_when_it_is_imported(first):
    out, warned = in_a_new_process(WATCHED.replace("FIRST", repr(first)))
    count, rest = out.split(" ", 1)
    assert int(count) > 60, "all modules of the package, and those of Flax and Optax"
    # the module that sets the flag, its folder, and the one that it imports, which defines functions only
    first = ["sketchlearn", *(f"sketchlearn.runtime{name}" for name in ("", ".jax_compat", ".precision"))]
    assert rest == f"{first} False"
    assert "RuntimeWarning" not in warned


def test_importing_the_package_imports_no_library_that_is_slow_to_import_and_seldom_used():
    """Twice the time of importing JAX, Flax NNX and Optax went to these."""
    out, _ = in_a_new_process("import sys, sketchlearn; print(*sorted(sys.modules))")
    slow = {"matplotlib", "pandas", "scipy.special", "scipy.stats", "sklearn"}
    assert slow & set(out.split()) == set()


def test_a_choice_of_the_users_is_respected_and_other_flags_are_kept():
    show = "import os, sketchlearn; print(os.environ['XLA_FLAGS'])"
    chosen = "--xla_cpu_experimental_ynn_fusion_type="
    assert in_a_new_process(show, chosen)[0] == chosen
    assert in_a_new_process(show, "--xla_force_host_platform_device_count=2")[0].startswith(
        "--xla_force_host_platform_device_count=2 --xla_cpu_experimental"
    )


def test_an_import_that_comes_too_late_warns():
    _, warned = in_a_new_process(BEGIN + "jnp.ones(3).sum()\nimport sketchlearn")
    assert "RuntimeWarning: JAX computed something before sketchlearn was imported" in warned


def test_a_sum_of_squared_products_is_right_on_many_rows():
    """The case of https://github.com/jax-ml/jax/issues/39103."""
    rows = np.zeros((40_000, 3), np.float32)
    rows[:, 0] = np.arange(40_000)

    def f(x):
        return jax.vmap(lambda row: jnp.sum((jnp.eye(3) @ row) ** 2))(x)

    np.testing.assert_allclose(jax.jit(f)(rows), (rows**2).sum(1), rtol=1e-6)  # a handful of roundings in float32


def test_the_gauss_newton_product_of_a_vector_of_zeros_is_zero():
    """Compiled with the zeros as constants, which was wrong on a thousand examples."""
    experiment = sl.microgpt.paper_experiment()
    trained = jax.jit(experiment.train)(jnp.ones(1000))
    loss, outputs = experiment.example_loss, experiment.example_logits
    problem = sl.Problem(loss, 1000, trained, outputs=outputs, output_loss=experiment.output_loss)
    product = jax.jit(lambda theta: problem.gauss_newton_product(theta, jnp.zeros_like(theta)))
    assert not np.asarray(product(problem.flat)).any()


def compiled_with(monkeypatch):
    """The options of every compilation from now on."""
    options, compile_ = [], jax.stages.Lowered.compile

    def recorded(self, compiler_options=None, **more):
        options.append(compiler_options)
        return compile_(self, compiler_options, **more)

    monkeypatch.setattr(jax.stages.Lowered, "compile", recorded)
    return options


def test_a_query_is_compiled_quickly_and_has_the_same_coefficients(monkeypatch):
    def query(p):
        return jax.nn.log_softmax(jnp.tanh(p["a"] @ p["b"]) / jnp.sqrt(1 + jnp.sum(p["b"] ** 2)))

    rng = np.random.default_rng(0)
    value = {"a": rng.normal(size=(5, 4)), "b": rng.normal(size=4)}
    jets = {
        n: 0.1 * (rng.normal(size=(8, 3, *v.shape)) + 1j * rng.normal(size=(8, 3, *v.shape))) for n, v in value.items()
    }
    options = compiled_with(monkeypatch)
    with jax.enable_x64(True):
        quick = query_jets.push(query, value, [jets], 8)
        assert options == [programs.QUICK_OPTIONS[0]] or options[:2] == list(
            programs.QUICK_OPTIONS
        )  # the latter: JAX 0.12
        well = jax.jit(jax.vmap(lambda j: sl.taylor.push_forward(query, j, value=value)))(jets)
        halves = [{n: j[part] for n, j in jets.items()} for part in (slice(0, 5), slice(5, 8))]
        in_parts = query_jets.push(query, value, halves, 8)
    # a few dozen additions in float64, in another order
    np.testing.assert_allclose(quick, np.asarray(well).reshape(quick.shape), rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(in_parts, quick, rtol=1e-12, atol=1e-14)


def test_a_program_is_compiled_quickly_for_a_few_runs_and_well_for_many_whatever_was_asked_before(monkeypatch):
    options, square, one = compiled_with(monkeypatch), programs.jit(lambda a: a @ a), jnp.ones((20, 20))
    runs = [square.compiled(one, calls=calls) for calls in (1, 1e9, 1, 1e9)]
    assert [run(one)[0, 0] for run in runs] == [20] * 4
    assert runs[0] is runs[2] is not runs[1] is runs[3]
    assert len([o for o in options if o is None]) == 1
    assert square.compiled(one) is runs[1]


def test_what_runs_long_is_compiled_well_and_unknown_options_are_left_out(monkeypatch):
    options = compiled_with(monkeypatch)
    monkeypatch.setattr(programs, "WELL_FROM", 1e3)
    assert programs.jit(lambda a: a @ a).compiled(jnp.ones((20, 20)), calls=1)(jnp.ones((20, 20)))[0, 0] == 20
    assert options == [None]
    monkeypatch.setattr(programs, "QUICK_OPTIONS", ({"xla_no_such_option": "1"},))
    assert programs.jit(lambda a: a @ a).compiled(jnp.ones((2, 2)), calls=1)(jnp.ones((2, 2)))[0, 0] == 2
    assert options[1:] == [{"xla_no_such_option": "1"}, None]


def test_a_loop_counts_as_often_as_it_runs():
    """XLA's own count takes the body of a loop once: a long training would seem short."""

    def one(a):
        return jnp.tanh(a @ a)

    def count(f):
        return jax_compat.operations(jax.make_jaxpr(f)(jnp.ones((5, 5))).jaxpr)

    assert count(one) == 2 * 5**3 + 5**2
    assert count(jax.jit(one)) == count(one)
    assert count(lambda a: jax.lax.fori_loop(0, 7, lambda i, x: one(x), a)) == 7 * (count(one) + 1)  # and i + 1
    assert count(lambda a: jax.lax.cond(a[0, 0] > 0, one, lambda x: x, a)) >= count(one)
    assert count(lambda a: jax.lax.while_loop(lambda x: x[0, 0] < 9, one, a)) == np.inf
    kernel = jnp.ones((8, 3, 5, 5))
    images = jnp.ones((2, 3, 16, 16))
    products = jax.make_jaxpr(lambda x: jax.lax.conv(x, kernel, (1, 1), "SAME"))(images)
    assert jax_compat.operations(products.jaxpr) == 2 * (2 * 8 * 16 * 16) * (3 * 5 * 5)


# --- once in a process ----------------------------------------------------------------------


class Counted:
    """How many programs XLA compiles."""

    def __enter__(self):
        self.count = 0
        jax.monitoring.register_event_duration_secs_listener(self.heard)
        return self

    def heard(self, event, seconds, **_):
        self.count += event == "/jax/core/compile/backend_compile_duration"

    def __exit__(self, *_):
        jax.monitoring.unregister_event_duration_listener(self.heard)


class Learner:
    """A training program that is a method, which is another object every time that it is read."""

    def __init__(self, seed=0):
        self.x = jnp.asarray(np.random.default_rng(seed).normal(size=(90, 3)), jnp.float32)

    def train(self, weights):
        def step(theta, i):
            return theta - 0.1 * jnp.mean(weights * jnp.tanh(self.x @ theta)) * jnp.cos(theta), None

        return jax.lax.scan(step, jnp.ones(3), jnp.arange(4))[0]


def squared(parameters):
    return jnp.sum(parameters**2)


def asked(learner, space, seed=0, directions=70, degree=2):
    made = sl.sketch(learner.train, space, degree, directions, seed, progress=False)
    return made.predict(squared, [0, 1]).change


QUESTIONS = {
    "the same sketch": lambda of, n: asked(of, sl.Examples(n)),
    "another seed": lambda of, n: asked(of, sl.Examples(n), seed=3),
    "a few more directions": lambda of, n: asked(of, sl.Examples(n), directions=72),
    "retraining other weights": lambda of, n: sl.retrain(of.train, np.eye(n)[:50], squared),
    "retraining one": lambda of, n: sl.retrain(of.train, np.ones(n), squared),
    "a gradient": lambda of, n: sl.gradient(of.train, squared, sl.Examples(n)),
    "a curvature": lambda of, n: sl.curvature(of.train, squared, sl.Examples(n), products=3, progress=False).gradient,
    "a bank": lambda of, n: sl.RetrainBank(None, of.train, {}, sl.Examples(n)).values(squared, [[0], [1, 2]]),
    "an additive sketch": lambda of, n: (
        sl.sketch(of.train, sl.Examples(n), 2, 33, additive=True, progress=False).single_coordinates.ends
    ),
}


@pytest.mark.parametrize("question", QUESTIONS)
def test_the_second_time_nothing_is_compiled(question):
    learner, n = Learner(), 90
    asked(learner, sl.Examples(n))
    first = QUESTIONS[question](learner, n)
    with Counted() as compiled:
        again = QUESTIONS[question](learner, n)
    assert compiled.count == 0
    np.testing.assert_array_equal(again, first)


def test_another_seed_and_a_few_more_directions_are_run_by_what_the_first_sketch_compiled():
    learner, space = Learner(1), sl.Examples(90)
    asked(learner, space)
    with Counted() as compiled:
        asked(learner, space, seed=1)
        asked(learner, space, directions=72)
    assert compiled.count == 0


def test_a_sketch_of_groups_is_run_by_what_that_of_examples_compiled():
    learner = Learner(2)
    asked(learner, sl.Examples(90))
    space = sl.Groups(np.arange(90) % 5)
    asked(Learner(3), space)  # what draws directions of five coordinates
    with Counted() as compiled:
        sl.sketch(learner.train, space, 2, 70, progress=False)
    assert compiled.count == 0


def test_a_sketch_is_run_by_what_its_plan_compiled():
    learner, space = Learner(4), sl.Examples(90)
    sl.plan(learner.train, space, squared, num_directions=70, degree=2, progress=False)
    asked(Learner(5), space)  # what draws the directions, and what other programs have in common
    with Counted() as compiled:
        sl.sketch(learner.train, space, 2, 70, progress=False)
    assert compiled.count == 0


def test_another_program_degree_or_precision_is_compiled_for_itself():
    learner, space = Learner(6), sl.Examples(90)
    first = asked(learner, space)
    with Counted() as compiled:
        assert asked(Learner(7), space) != first
        assert compiled.count > 0
    with Counted() as compiled:
        asked(learner, space, degree=3)
        assert compiled.count > 0
    with Counted() as compiled, jax.enable_x64(True):
        assert abs(asked(learner, space) - first) < 1e-3 * abs(first)  # float64 in place of float32
        assert compiled.count > 0


def test_no_more_programs_are_kept_than_are_said(monkeypatch):
    monkeypatch.setattr(programs, "LAST", 3)
    made = []

    @programs.once
    def numbered(part):
        made.append(part)
        return object()

    first = numbered(0)
    assert numbered(0) is first
    for part in (1, 2, 3):
        numbered(part)
    assert numbered(0) is not first
    assert made == [0, 1, 2, 3, 0]


def test_parts_are_told_apart_by_what_they_are():
    @programs.once
    def pair(*parts):
        return object()

    learner, other, values = Learner(), Learner(), np.ones(3)
    assert pair(learner.train) is pair(learner.train)
    assert pair(learner.train) is not pair(other.train)
    assert pair(1) is not pair(True)
    assert pair(1) is not pair(1.0)
    assert pair(values) is pair(values)  # the same object, though it has no hash
    assert pair(values) is not pair(np.ones(3))


ASKED = """
import jax, sketchlearn as sl
heard = []
jax.monitoring.register_event_listener(lambda event, **_: heard.append(event))
train = lambda w: (w * jax.numpy.arange(4.0)).sum() ** 2
space, query = sl.Examples(4), lambda p: p**2
made = sl.sketch(train, space, 2, 4, progress=False)
sl.retrain(train, [[1.0, 0, 1, 1]], query), sl.gradient(train, query, space)
sl.curvature(train, query, space, 2, progress=False)
print(made.predict(query, [0]).change, heard.count("/jax/compilation_cache/cache_misses"))
"""


def test_jax_s_cache_on_disk_keeps_every_program_for_the_next_process(tmp_path, monkeypatch):
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(tmp_path / "compiled"))
    monkeypatch.setenv("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")  # else quick ones are not worth a file
    monkeypatch.setenv("JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES", "-1")
    (first, missed), (again, none) = (in_a_new_process(ASKED)[0].split() for _ in range(2))
    assert int(missed) > 5
    assert (again, none) == (first, "0")
