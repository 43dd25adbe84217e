"""Directions spread over several devices, and over several processes, give what one device gives."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import sketchlearn as sl

#: A short training run; its jets, saved by process 0 after running on as many devices as there are.
PROGRAM = """
import sys
import jax, jax.numpy as jnp, numpy as np
import sketchlearn as sl

jax.config.update("jax_enable_x64", True)
out, processes, number, address = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
if processes > 1:
    jax.distributed.initialize(address, processes, number, initialization_timeout=60)
x = jnp.asarray(np.random.default_rng(0).normal(size=(12, 3)))

def train(w):
    def step(theta, _):
        loss = lambda theta: w @ jnp.tanh((x @ theta["a"] - 0.5)) ** 2 + theta["b"] ** 2 * jnp.sum(w)
        return jax.tree.map(lambda p, g: p - 0.05 * g, theta, jax.grad(loss)(theta)), None
    return jax.lax.scan(step, {"a": jnp.zeros(3), "b": jnp.ones(())}, None, length=20)[0]

mesh = jax.make_mesh((len(jax.devices()),), ("directions",))
kinds = {"plain": {}, "blocks": {"batch_size": 6}, "alone": {"additive": True, "centre": 0.1}}
for kind, more in kinds.items():
    made = sl.sketch(train, sl.Examples(12), 3, 22, progress=False, mesh=mesh, **more)
    found = made.predict(lambda p: p["a"], [[1], [2, 5]], estimator="mean")
    if number == 0:
        leaves = jax.tree.leaves(made.coefficients) + [found.value, found.standard_errors]
        np.savez(f"{out}/{kind}.npz", *leaves)
if processes > 1:
    try:
        sl.sketch(train, sl.Examples(12), 3, 22, progress=False, mesh=mesh, store=out + "/store")
    except ValueError as error:
        assert "shard=(jax.process_index()" in str(error)
    else:
        raise AssertionError("a store shared by processes through a mesh was not refused")
    jax.distributed.shutdown()
"""


def run(out: Path, devices: int, processes: int = 1) -> dict[str, list[np.ndarray]]:
    """The jets on ``devices`` virtual devices in each of ``processes``."""
    out.mkdir()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    env = os.environ | {"XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}", "JAX_PLATFORMS": "cpu"}
    commands = [[sys.executable, "-c", PROGRAM, str(out), str(processes), str(i), address] for i in range(processes)]
    children = [subprocess.Popen(c, env=env, stderr=subprocess.PIPE, text=True) for c in commands]
    try:
        said = [child.communicate(timeout=300)[1][-2000:] for child in children]
    finally:
        for child in children:
            child.kill()
    assert [child.returncode for child in children] == [0] * processes, said
    found = {}
    for file in sorted(out.glob("*.npz")):
        with np.load(file) as data:
            found[file.stem] = [data[name] for name in data.files]
    return found


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    return run(tmp_path_factory.mktemp("mesh") / "one", 1)


@pytest.mark.parametrize(("devices", "processes"), [(4, 1), (2, 2)])
def test_any_number_of_devices_and_processes_gives_the_same_jets(tmp_path, alone, devices, processes):
    found = run(tmp_path / "several", devices, processes)
    assert sorted(found) == ["alone", "blocks", "plain"]
    for kind, arrays in found.items():
        for a, b in zip(arrays, alone[kind], strict=True):
            # float64; a device's share of the rows changes the order of sums inside XLA's matrix products
            assert np.abs(a - b).max() <= 1e-12 * np.abs(b).max(), kind


def test_without_a_mesh_the_result_is_the_same(x64):
    def train(w):
        return jnp.cumsum(w) / (2 - jnp.mean(w))

    mesh = jax.make_mesh((1,), ("directions",))
    made = [sl.sketch(train, sl.Examples(5), 2, 9, progress=False, mesh=m) for m in (None, mesh)]
    # float64, another compiled program of the same operations: the last digits, absolute for those that vanish
    np.testing.assert_allclose(made[0].coefficients, made[1].coefficients, rtol=1e-13, atol=1e-15)


def test_what_is_no_mesh_is_refused():
    with pytest.raises(TypeError, match=r"mesh must be a jax\.sharding\.Mesh, got int"):
        sl.sketch(jnp.cumsum, sl.Examples(3), 2, 4, progress=False, mesh=4)


#: A model whose own parameters lie on four devices: its jets, and what each device needs.
SHARDED = """
import jax, jax.numpy as jnp, numpy as np
import sketchlearn as sl
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from sketchlearn.execution.directional import jets_program
from sketchlearn.runtime.jax_compat import working_bytes

jax.config.update("jax_enable_x64", True)
rng = np.random.default_rng(0)
x, start = jnp.asarray(rng.normal(size=(8, 64))), jnp.asarray(rng.normal(size=(64, 64)) / 64)

def training(divide):
    def train(w):
        def step(theta, _):
            slope = jax.grad(lambda theta: w @ jnp.tanh(x @ theta).sum(1) ** 2)(theta)
            return divide(theta - 0.01 * slope), None
        return jax.lax.scan(step, divide(start), None, length=4)[0]
    return train

def on(kind):
    mesh = jax.make_mesh((4,), ("model",), axis_types=(kind,))
    return mesh, NamedSharding(mesh, PartitionSpec(None, "model"))

mesh, columns = on(AxisType.Auto)
whole, divided = training(lambda theta: theta), training(lambda t: jax.lax.with_sharding_constraint(t, columns))
of = {name: sl.sketch(train, sl.Examples(8), 2, 12, progress=False) for name, train in
      {"whole": whole, "divided": divided}.items()}
query = lambda theta: jnp.sum(theta**3)
assert of["divided"].parameters.sharding.spec == PartitionSpec(None, "model")
one, four = (of[name].predict(query, [[0], [1, 2]]) for name in of)
np.testing.assert_allclose(four.change, one.change, rtol=1e-11)  # sums over columns in another order, float64
args = jnp.ones(8), *[jnp.ones((4, 8))] * 2
one, four = (working_bytes(jets_program(train, 2).compiled(*args)) for train in (whole, divided))
assert four < 0.35 * one, (four, one)
# the same sums over columns, likewise
np.testing.assert_allclose(
    sl.gradient(divided, query, sl.Examples(8)), sl.gradient(whole, query, sl.Examples(8)), rtol=1e-11
)
np.testing.assert_allclose(
    sl.retrain(divided, np.eye(8), query), sl.retrain(whole, np.eye(8), query), rtol=1e-11
)

mesh, columns = on(AxisType.Explicit)
with jax.set_mesh(mesh):
    placed = jax.device_put(start, columns)
    try:
        sl.sketch(lambda w: placed * w.sum(), sl.Examples(8), 2, 12, progress=False)
    except TypeError as error:
        assert "has its sharding in its type" in str(error) and "AxisType.Auto" in str(error), error
    else:
        raise AssertionError("a sharding in the type was not refused")
"""


def test_parameters_divided_over_devices_have_jets_divided_as_they_are():
    """The same numbers, a quarter of the memory on each; gradients and retraining, too; types that say it refused."""
    env = os.environ | {"XLA_FLAGS": "--xla_force_host_platform_device_count=4", "JAX_PLATFORMS": "cpu"}
    done = subprocess.run([sys.executable, "-c", SHARDED], env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
