"""The command ``sketchlearn doctor``: versions, devices, and whether they compute right."""

from __future__ import annotations

import argparse
import platform
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from sketchlearn.cli.output import VERSION, say
from sketchlearn.deletions.examples import Examples
from sketchlearn.runtime.precision import matmul_precision
from sketchlearn.runtime.programs import jit
from sketchlearn.runtime.seeds import stream
from sketchlearn.sketching.make import sketch
from sketchlearn.taylor import cauchy_coefficients, taylor_coefficients

BY_DEFAULT, IN_SKETCHES = "float32_product_errs_by_jax_default", "float32_product_errs_in_sketches"
FLOAT32_PRODUCTS = 1e-5  # relative: forty times what float32 leaves, a fiftieth of what TF32 does


def add(commands: Any) -> argparse.ArgumentParser:
    """The command's parser."""
    doctor = commands.add_parser("doctor", help="versions, devices, how exact float32 products are, a self-check")
    doctor.set_defaults(run=run)
    return doctor


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Run it; returns the report."""
    import flax
    import optax

    def curve(x: Any) -> Any:
        return jnp.tanh(jnp.sin(x)) / (1 + x * x)

    with jax.enable_x64(True):
        series = taylor_coefficients(curve, 0.3, 1.0, degree=8)
        circle = cauchy_coefficients(curve, 0.3, 1.0, degree=8).coefficients
        gap = float(jnp.max(jnp.abs(series - circle)))
    linear = sketch(lambda w: w @ jnp.arange(4.0), Examples(4), degree=1, num_directions=64, progress=False)
    prediction = linear.predict(lambda y: y, [3], estimator="mean")
    off = abs(float(prediction.change) + 3) / float(prediction.standard_error)
    rows = np.zeros((40_000, 3), np.float32)
    rows[:, 0] = np.arange(len(rows))
    products = _product_errors()
    squares = jit(jax.vmap(lambda row: jnp.sum((jnp.eye(3) @ row) ** 2)))(rows)
    compiled_right = bool(np.allclose(squares, (rows**2).sum(1), rtol=1e-5))
    report = {
        "versions": {
            "sketchlearn": VERSION,
            "python": platform.python_version(),
            "jax": jax.__version__,
            "flax": flax.__version__,
            "optax": optax.__version__,
            "numpy": np.__version__,
        },
        "devices": [f"{d.platform}: {d.device_kind}" for d in jax.devices()],
        "default_float": str(jnp.result_type(float)),
        "series_against_circles": gap,
        "sketch_of_a_linear_function_off_by_standard_errors": off,
        "compiler_fuses_products_and_sums_right": compiled_right,
        **products,
        "ok": gap < 1e-11 and off < 5 and compiled_right,
    }
    for name, value in report.items():
        say(args, f"{name:52s} {value:.1e}" if name in products else f"{name:52s} {value}")
    if products[IN_SKETCHES] > FLOAT32_PRODUCTS:
        report["warning"] = (
            f"a float32 product of matrices errs by {products[IN_SKETCHES]:.0e} here, where full precision errs by "
            f"about 2e-7 (JAX's precision of products is {matmul_precision()}): every coefficient of a sketch is as "
            "inexact. Leave jax_default_matmul_precision unset (in the environment: JAX_DEFAULT_MATMUL_PRECISION), or "
            "use float64."
        )
        say(args, f"warning: {report['warning']}")
    return report


def _product_errors() -> dict[str, float]:
    """The relative error of a float32 product of matrices on this device, as JAX computes it and as sketches do."""
    a, b = stream("precision check", 0).normal(size=(2, 256, 256)).astype(np.float32)
    exact = a.astype(np.float64) @ b.astype(np.float64)

    def error(product: Any) -> float:
        return float(np.linalg.norm(np.asarray(product, np.float64) - exact) / np.linalg.norm(exact))

    with jax.default_matmul_precision(None):
        plain = error(jax.jit(jnp.matmul)(a, b))
    return {BY_DEFAULT: plain, IN_SKETCHES: error(jit(jnp.matmul)(a, b))}
