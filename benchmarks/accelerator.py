"""What this device does: ``python -m benchmarks.accelerator [--minutes 8] [--size small|large] [--out FILE]``.

Each part is measured in a process of its own and its figures are written as soon as they are known, so a part that
fails or takes too long costs no other. Times are seconds on the device that is named, and mean something on an
accelerator only; ratios are of things measured in one process. By default an accelerator gets the large sizes (ten
million parameters) and a CPU the small ones.
"""

from __future__ import annotations

import argparse
import itertools
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

HERE = Path(__file__).parent
Figure = tuple[str, Any, str, str]  # label, value, unit, reference


class Sizes(NamedTuple):
    """How large the programs are."""

    names: int
    directions: int
    plain_runs: tuple[int, int]
    model: dict[str, int]
    steps: int  # of the model


SIZES = {
    "small": Sizes(200, 64, (64, 256), {"width": 64, "layers": 2, "length": 64, "batch_size": 16}, 12),
    "large": Sizes(1000, 512, (512, 2048), {"width": 384, "layers": 6, "length": 128, "batch_size": 32}, 200),
}


def seconds(run: Callable) -> float:
    """The time of one call, to the last result."""
    import jax

    start = time.perf_counter()
    jax.block_until_ready(run())
    return time.perf_counter() - start


def precision(sizes: Sizes) -> Iterator[Figure]:
    """The relative error of a float32 product of matrices."""
    import jax
    import jax.numpy as jnp
    import numpy as np

    a, b = np.random.default_rng(0).normal(size=(2, 512, 512)).astype(np.float32)
    exact = a.astype(np.float64) @ b
    for name in ("default", "high", "highest"):
        with jax.default_matmul_precision(name):
            off = np.asarray(jax.jit(jnp.matmul)(a, b)) - exact
        error = float(np.linalg.norm(off) / np.linalg.norm(exact))
        yield (
            f"error of a float32 product, precision {name!r}",
            error,
            "relative",
            "about 4e-7 in full float32, 5e-4 in TF32",
        )


def microgpt(sizes: Sizes) -> Iterator[Figure]:
    """microgpt: a sketch of degree 3 twice in one process, and plain trainings in a batch."""
    import jax.numpy as jnp
    import numpy as np

    import sketchlearn as sl
    from sketchlearn.deletions.directions import directions
    from sketchlearn.execution.directional import jets_along
    from sketchlearn.runtime.programs import jit
    from sketchlearn.taylor.algebra import BundledSeries, Series

    n, m = sizes.names, sizes.directions
    experiment = sl.microgpt.paper_experiment(num_examples=n, num_steps=n, dtype="float32")
    what = f"microgpt, {n} steps, {m} directions of degree 3"

    def sketch(seed: int) -> Any:
        made = sl.sketch(
            experiment.train, sl.Examples(n), 3, m, seed, queries={"max": experiment.query("max")},
            dtype="float32", progress=False,
        )  # fmt: skip
        return made.measure("max")[1]

    yield f"{what}: first call", seconds(lambda: sketch(0)), "s", "with tracing and compiling"
    again = seconds(lambda: sketch(1))
    yield f"{what}: second call", again, "s", "nothing is compiled; at most 8 on an H100"
    for count in sizes.plain_runs:
        rows = np.random.default_rng(0).random((count, n), np.float32)
        sl.retrain(experiment.train, rows, batch_size=count)
        plain = seconds(lambda rows=rows, count=count: sl.retrain(experiment.train, rows, batch_size=count))
        yield f"microgpt, {n} steps, {count} plain trainings in a batch", plain, "s", "the second call"
        if count == m:
            yield "a direction of the sketch over a plain training", again / plain, "ratio", "1 + 2k(k + 1) = 25"
    re, im = directions(0, jnp.arange(m), n)
    for representation in (Series, BundledSeries):
        program = jit(lambda *xs, of=representation: jets_along(experiment.train, of(3), jnp.ones(n), *xs))
        compiled, begun = None, time.perf_counter()
        compiled = program.compiled(-re, -im)
        name = f"{what}, {representation.__name__}"
        yield f"{name}: compile", time.perf_counter() - begun, "s", "tracing included"
        compiled(-re, -im)
        yield f"{name}: one block", seconds(lambda run=compiled: run(-re, -im)), "s", "the second call"


def _work(sizes: Sizes, epsilon: float = 1e-4) -> tuple[Any, Any]:
    import sketchlearn as sl

    n = sizes.steps * sizes.model["batch_size"]
    work = sl.zoo.source_code_model(num_examples=n, dtype="float32", epsilon=epsilon, **sizes.model)
    return work, sl.Groups([work.sources[i] for i in work.labels])


def model(sizes: Sizes) -> Iterator[Figure]:
    """A GPT on source code: compiling, time and memory of one direction of degree 2 over one plain run."""
    import jax
    import jax.numpy as jnp

    from sketchlearn.execution.directional import deleting, jets_program
    from sketchlearn.execution.runs import plain_program
    from sketchlearn.runtime.jax_compat import working_bytes

    work, space = _work(sizes)
    count = sum(p.size for p in jax.tree.leaves(work.recipe.parameters))
    what = f"source code model, {count:,} parameters, {work.recipe.num_steps} steps"
    ones = jnp.ones(work.recipe.num_examples, jnp.float32)
    begun = time.perf_counter()
    plain = plain_program(work.recipe).compiled(ones)
    yield f"{what}: compile the plain run", time.perf_counter() - begun, "s", "tracing included"
    plain(ones)
    one = seconds(lambda: plain(ones))
    yield f"{what}: plain run", one, "s", "the second call"
    for size in (1, 4):
        directions = deleting(space, *(jnp.ones((size, space.dim), jnp.float32),) * 2)
        begun = time.perf_counter()
        compiled = jets_program(work.recipe, 2).compiled(ones, *directions)
        name = f"{what}, degree 2, {size} direction{'s' * (size > 1)} at once"
        yield f"{name}: compile", time.perf_counter() - begun, "s", "tracing included; at most 60 on an H100"
        compiled(ones, *directions)
        each = seconds(lambda run=compiled, of=directions: run(ones, *of)) / size
        yield f"{name}: one direction over one plain run", each / one, "ratio", "1 + 2k(k + 1) = 13; at most 15"
        needed = (working_bytes(compiled) or 0) / size
        yield f"{name}: memory of one direction", needed / 1e9, "GB", f"the plain run: {_gb(plain)}"
        peak = (jax.local_devices()[0].memory_stats() or {}).get("peak_bytes_in_use")
        yield f"{name}: most memory in use so far", "not told" if peak is None else peak / 1e9, "GB", "by the device"


def _gb(program: Any) -> str:
    from sketchlearn.runtime.jax_compat import working_bytes

    return f"{(working_bytes(program) or 0) / 1e9:.3g} GB"


def sketch(sizes: Sizes) -> Iterator[Figure]:
    """The same model in groups, one a package: a sketch of 11 directions of degree 2 against retraining."""
    for epsilon in (1e-4, 1e-6):
        yield from _against_retraining(*_work(sizes, epsilon), f", epsilon {epsilon:g}")


def _against_retraining(work: Any, space: Any, what: str) -> Iterator[Figure]:
    import numpy as np

    import sketchlearn as sl

    query, names = work.query_of_sources(), sorted(set(work.sources))
    asked = [[g] for g in names] + [list(pair) for pair in itertools.combinations(names, 2)]
    begun = time.perf_counter()
    made = sl.sketch(work.recipe, space, 2, 11, dtype="float32", queries={"loss": query}, progress=False)
    yield f"the sketch{what}: in all", time.perf_counter() - begun, "s", "with compiling"
    found = made.predict("loss", asked)
    gradient = sl.gradient(work.recipe, query, space, dtype="float32")
    first = space.locate(asked) @ np.asarray(gradient)
    begun = time.perf_counter()
    truth = sl.retrain(work.recipe, 1 - space.embed(space.locate(asked)), query, dtype="float32").astype(np.float64)
    yield f"{len(asked)} retrainings{what}", time.perf_counter() - begun, "s", "with compiling"
    change = truth - found.baseline
    low, high = found.interval(0.95)

    def rms(x: Any) -> float:
        return float(np.sqrt(np.mean(np.square(x))))

    yield f"rms of the changes{what}", rms(change), "nats", "retraining without one or two packages"
    yield f"exact first order{what}: RMSE", rms(first - change) / rms(change), "ratio", "the rms of the changes"
    yield (
        f"the sketch{what}: RMSE",
        rms(found.change - change) / rms(first - change),
        "ratio",
        "the exact first order's",
    )
    yield f"the sketch{what}: coverage", float(np.mean((low <= truth) & (truth <= high))), "share", "0.95"


def stability(sizes: Sizes) -> Iterator[Figure]:
    """The same model: norms of the orders up to 4 along two random directions of the groups."""
    import sketchlearn as sl

    for epsilon in (1e-4, 1e-6):
        work, space = _work(sizes, epsilon)
        query = _mean(work.query_of_sources())
        found = sl.stability_profile(work.recipe, query, 4, 2, space, progress=False)
        for order, norm in enumerate(found.bombieri(), 1):
            yield f"norm of order {order}, epsilon {epsilon:g}", float(norm), "nats", "the orders before it"


def _mean(query: Callable) -> Callable:
    return lambda parameters: query(parameters).mean()


def program_size(sizes: Sizes) -> Iterator[Figure]:
    """Lines of StableHLO of degree 2, from few layers to many (in a loop) and from few arrays to many."""
    import jax.numpy as jnp
    import numpy as np
    import optax

    import sketchlearn as sl
    from sketchlearn.execution.directional import jets_program

    def lines(recipe: Any) -> int:
        n = recipe.num_examples
        args = jnp.ones(n), *[jnp.ones((2, n))] * 2
        return jets_program(recipe, 2).lower(*args).as_text().count("\n")

    few, many = (
        lines(sl.zoo.source_code_model(num_examples=32, width=16, layers=k, length=32).recipe) for k in (2, 12)
    )
    yield "lines of degree 2, 12 layers over 2", many / few, "ratio", f"{few:,} lines; at most 1.1"

    def of_arrays(count: int) -> Any:
        x = np.random.default_rng(0).normal(size=(8, 100)).astype(np.float32)
        parts = np.split(np.linspace(-1, 1, 100, dtype=np.float32), count)

        def model(parameters: Any, x: Any) -> Any:
            return jnp.tanh(x @ jnp.concatenate(parameters))

        return sl.Recipe(
            model, optax.adam(0.1, eps=0.0, eps_root=1e-3), lambda model, x: model(x) ** 2, x,
            np.arange(8).reshape(4, 2), initial=parts,
        )  # fmt: skip

    few, many = lines(of_arrays(10)), lines(of_arrays(100))
    yield "lines of degree 2, 100 parameter arrays over 10", many / few, "ratio", f"{few:,} lines; at most 1.3"


PARTS = {f.__name__: f for f in (precision, microgpt, model, sketch, stability, program_size)}


def measure(part: str, sizes: Sizes, path: Path) -> None:
    """Measure one part in this process; each figure is a line of the file as soon as it is known."""
    import jax

    import sketchlearn  # noqa: F401 (before JAX computes)

    device = jax.devices()[0].device_kind
    with path.open("a") as out:
        for label, value, unit, reference in PARTS[part](sizes):
            record = [f"accelerator/{part}", label, value, unit, reference, f"{device}, jax {jax.__version__}"]
            print(json.dumps(record), file=out, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.accelerator", description=__doc__)
    parser.add_argument("--minutes", type=float, default=8.0, help="for all parts together")
    parser.add_argument("--size", choices=list(SIZES), help="default: large on an accelerator, small on a CPU")
    parser.add_argument("--parts", nargs="*", choices=list(PARTS), default=list(PARTS))
    parser.add_argument("--out", type=Path, default=HERE / "accelerator.json")
    parser.add_argument("--alone", type=Path, help=argparse.SUPPRESS)  # one part, its lines to this file
    args = parser.parse_args()
    if args.alone is not None:
        measure(args.parts[0], SIZES[args.size], args.alone)
        return
    deadline = time.monotonic() + 60 * args.minutes
    show = "import jax; print(jax.devices()[0].platform)"
    platform = subprocess.run([sys.executable, "-c", show], capture_output=True, text=True, check=True).stdout.split()
    size = args.size or ("small" if platform[-1] == "cpu" else "large")
    path = args.out.with_suffix(".lines")
    path.unlink(missing_ok=True)
    records: list[list] = []
    for part in args.parts:
        command = [sys.executable, "-m", "benchmarks.accelerator", "--alone", str(path), "--size", size]
        failure = ""
        try:
            left = max(deadline - time.monotonic(), 1)
            done = subprocess.run(
                [*command, "--parts", part], timeout=left, stderr=subprocess.PIPE, text=True, check=False
            )
            if done.returncode:
                failure = (done.stderr.strip().splitlines() or [f"it ended with {done.returncode}"])[-1][:200]
        except subprocess.TimeoutExpired:
            failure = f"not finished within the {args.minutes:g} minutes of all parts"
        records = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
        if failure:
            with path.open("a") as out:
                print(json.dumps([f"accelerator/{part}", "failure", failure, "", "", size]), file=out)
            records.append([f"accelerator/{part}", "failure", failure, "", "", size])
        args.out.write_text(json.dumps(records, indent=1) + "\n")
        args.out.with_suffix(".md").write_text(table(records))
    path.unlink(missing_ok=True)
    print(table(records))


def table(records: list[list]) -> str:
    """The figures as Markdown, part by part."""
    lines = ["# What one device does", "", "Made by `python -m benchmarks.accelerator`.", ""]
    for part in dict.fromkeys(record[0] for record in records):
        name = part.split("/")[1]
        lines += [f"## {name.replace('_', ' ')}", "", PARTS[name].__doc__ or "", ""]
        lines += ["| what | measured | unit | reference |", "|---|---|---|---|"]
        own = [record for record in records if record[0] == part]
        for _, label, value, unit, reference, _ in own:
            lines.append(
                f"| {label} | {value if isinstance(value, str) else format(value, '.3g')} | {unit} | {reference} |"
            )
        lines += ["", f"({own[0][-1]})", ""]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
