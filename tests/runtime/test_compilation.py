"""The CPU compiler's fusions that give wrong numbers are off, whoever imports what first."""

import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import sketchlearn as sl
from sketchlearn.runtime import jax_compat as compat
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
        assert options == [compat.QUICK_OPTIONS[0]] or options[:2] == list(compat.QUICK_OPTIONS)  # the latter: JAX 0.12
        well = jax.jit(jax.vmap(lambda j: sl.taylor.push_forward(query, j, value=value)))(jets)
        halves = [{n: j[part] for n, j in jets.items()} for part in (slice(0, 5), slice(5, 8))]
        in_parts = query_jets.push(query, value, halves, 8)
    # a few dozen additions in float64, in another order
    np.testing.assert_allclose(quick, np.asarray(well).reshape(quick.shape), rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(in_parts, quick, rtol=1e-12, atol=1e-14)


def test_what_runs_long_is_compiled_well_and_unknown_options_are_left_out(monkeypatch):
    options = compiled_with(monkeypatch)
    monkeypatch.setattr(compat, "QUICK_FLOPS", 1e3)
    assert compat.compiled_for(1, lambda a: a @ a, jnp.ones((20, 20)))(jnp.ones((20, 20)))[0, 0] == 20
    assert options == [None]
    monkeypatch.setattr(compat, "QUICK_OPTIONS", ({"xla_no_such_option": "1"},))
    assert compat.compiled_for(1, lambda a: a @ a, jnp.ones((2, 2)))(jnp.ones((2, 2)))[0, 0] == 2
    assert options[1:] == [{"xla_no_such_option": "1"}, None]
