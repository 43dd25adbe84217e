"""A stored sketch: the same numbers, nothing lost, and never a wrong number out of a damaged file."""

import datetime
import errno
import json
import os
import shutil
import subprocess
import sys
import textwrap
import time
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import sketchlearn as sl
from sketchlearn.sketching.store import blocks, fingerprint, format

pytestmark = pytest.mark.usefixtures("x64")
KILLS = int(os.environ.get("SKETCHLEARN_KILLS", "3"))  # each costs the start of a process
A = np.random.default_rng(0).normal(size=(3, 6))


def train(w):
    y = jnp.asarray(A) @ (1 - w)
    return {"a": y[:1] ** 2, "b": (y[1:], jnp.sin(y[0]))}


def query(p):
    return jnp.stack([p["a"][0] + p["b"][0].sum(), p["b"][1]])


def sketched(store=None, f=train, m=10, batch_size=4, **options):
    space = options.pop("space", sl.Examples(6))
    return sl.sketch(f, space, 2, m, batch_size=batch_size, store=store, progress=False, **options)


def content(path):
    return {p.name: p.read_bytes() for p in sorted(path.iterdir())}


@pytest.mark.parametrize(
    "options", [{}, {"additive": True}, {"centre": 0.25, "additive": True}, {"design": "orthogonal"}]
)
def test_an_opened_sketch_predicts_what_the_one_in_memory_does(tmp_path, options):
    memory, stored = sketched(**options), sketched(tmp_path / "s", **options)
    opened = sl.open_sketch(tmp_path / "s")
    for made in (stored, opened, sl.open_sketch(tmp_path / "s", train=train)):
        for control in (False, True):
            ours, theirs = (s.predict(query, [[0], [1, 2]], control=control) for s in (made, memory))
            # the same arrays, measured in blocks of another size: roundings of 1e-16
            np.testing.assert_allclose(ours.value, theirs.value, rtol=1e-12)
            np.testing.assert_allclose(ours.standard_error, theirs.standard_error, rtol=1e-6, atol=1e-12)
        assert repr(made) == repr(memory)
    jax.tree.map(np.testing.assert_array_equal, opened.coefficients, memory.coefficients)
    jax.tree.map(np.testing.assert_array_equal, opened.parameters, memory.parameters)


@pytest.mark.parametrize(
    ("space", "delete"),
    [
        (sl.Candidates([1, 4], 6), [4]), (sl.Groups(list("aabbcc")), ["a", "c"]), (sl.Groups([3, 1, 1, 2, 2, 3]), [3]),
        (sl.LinearMap(np.eye(6)[:, :4]), [0, 2]),
    ],
)  # fmt: skip
def test_every_space_is_opened_again(tmp_path, space, delete):
    made = sketched(tmp_path / "s", space=space)
    opened = sl.open_sketch(tmp_path / "s")
    assert repr(opened.space) == repr(space)
    np.testing.assert_array_equal(opened.predict(query, delete).value, made.predict(query, delete).value)


@pytest.mark.parametrize("options", [{}, {"additive": True, "centre": 0.25}])
def test_queries_known_beforehand_are_kept_in_place_of_the_parameters(tmp_path, options):
    whole = sketched(**options)
    known = {"both": query, "first": lambda p: p["a"][0]}
    for made in (
        sketched(queries=known, **options),
        sketched(tmp_path / "s", queries=known, **options),
        sl.open_sketch(tmp_path / "s"),
    ):
        for name, q in known.items():
            # kernels are scaled by how much coordinates move the parameters, or what was kept of them: not the kernel's
            ours, theirs = (s.predict(f, [[0], [1, 3]], "least_squares") for s, f in ((made, name), (whole, q)))
            np.testing.assert_allclose(ours.value, theirs.value, rtol=1e-12)  # as above
        with pytest.raises(KeyError, match="no query is called 'second'; this sketch was made with"):
            made.predict("second", [0])
        with pytest.raises(ValueError, match="sketch without queries="):
            made.predict(lambda p: p["a"], [0])
        with pytest.raises(ValueError, match="needs the parameters"):
            made.predict("both", [0], control=True)


def test_an_interrupted_run_goes_on_and_ends_with_the_same_bytes(tmp_path, monkeypatch):
    sketched(tmp_path / "whole")
    put, computed = blocks.StoreSink.put, []

    def twice(self, *block):
        if len(computed) == 2:
            raise KeyboardInterrupt
        computed.append(block[0])
        put(self, *block)

    monkeypatch.setattr(blocks.StoreSink, "put", twice)
    with pytest.raises(KeyboardInterrupt):
        sketched(tmp_path / "broken")
    with pytest.raises(sl.StoreError, match="not finished: 1 of 3 blocks are missing"):
        sl.open_sketch(tmp_path / "broken")
    monkeypatch.setattr(blocks.StoreSink, "put", lambda self, *block: (computed.append(block[0]), put(self, *block)))
    sketched(tmp_path / "broken", batch_size=9)  # the store keeps its own size of blocks
    assert computed == [0, 4, 8], "nothing twice"
    assert content(tmp_path / "broken") == content(tmp_path / "whole")


def test_killed_at_random_moments_it_loses_no_finished_block(tmp_path):
    program = textwrap.dedent(
        """
        import sys, time
        import jax
        import jax.numpy as jnp
        import sketchlearn as sl
        from sketchlearn.sketching.store import blocks

        put = blocks.StoreSink.put
        def slow(self, start, stop, block):
            put(self, start, stop, block)
            print(start, flush=True)
            time.sleep(0.02)
        blocks.StoreSink.put = slow
        jax.config.update("jax_enable_x64", True)
        sl.sketch(lambda w: jnp.sin(w.sum()), sl.Examples(5), 2, 120, batch_size=2, store=sys.argv[1], progress=False)
        """
    )
    done, rng = [], np.random.default_rng(0)
    for _ in range(KILLS):
        command = [sys.executable, "-c", program, tmp_path / "s"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as run:
            first = run.stdout.readline()
            time.sleep(rng.uniform(0, 0.8 / KILLS))
            run.kill()
            done += [int(line) for line in (first + run.stdout.read()).split()]
        assert len(set(done)) == len(done), "no finished block was computed again"
    assert KILLS <= len(done) < 60, "some blocks each time, and not all"
    for path in (tmp_path / "s", tmp_path / "whole"):
        sl.sketch(lambda w: jnp.sin(w.sum()), sl.Examples(5), 2, 120, batch_size=2, store=path, progress=False)
    for part in (tmp_path / "s").glob(".part-*"):
        part.unlink()  # half a file, of no name that is read
    assert content(tmp_path / "s") == content(tmp_path / "whole")


def test_other_arguments_are_refused_and_both_are_printed(tmp_path):
    sketched(tmp_path / "s")
    for options, message in (
        ({"m": 11}, "num_directions: stored 10, asked for 11"),
        ({"seed": 3}, "seed: stored 0, asked for 3"),
        ({"f": lambda w: train(2 * w)}, "train: stored"),
        ({"space": sl.Groups(list("aabbcc"))}, "space: stored"),
        ({"additive": True}, "additive: stored false, asked for true"),
        ({"centre": 0.5}, "centre: stored null"),
        ({"queries": {"q": query}}, "queries: stored null"),
        ({"dtype": jnp.float32}, 'dtype: stored "float64", asked for "float32"'),
    ):
        with pytest.raises(sl.StoreError, match=message):
            sketched(tmp_path / "s", **options)
    with pytest.raises(sl.StoreError, match="another training program"):
        sl.open_sketch(tmp_path / "s", train=lambda w: train(2 * w))


def test_the_fingerprint_of_a_program_does_not_know_what_its_functions_are_called():
    def program(double, ramp, slope=2.0):
        def inner(x):
            return slope * jnp.where(x > 0, x, 0.0)

        inner.__name__ = double
        jitted = jax.jit(inner)

        @jax.custom_jvp
        def rule(x):
            return jnp.sin(x)

        rule.defjvp(lambda p, t: (rule(*p), jnp.cos(p[0]) * t[0]))
        rule.fun.__name__ = ramp
        return lambda w: jax.lax.scan(lambda c, _: (jitted(c) + rule(c) + jitted(2 * c), None), w, None, length=2)[0]

    made = [program("double", "ramp"), program("twice", "sine"), program("double", "ramp", 3.0)]
    one, renamed, other = (fingerprint.fingerprint(f, jnp.ones(3)) for f in made)
    assert one == renamed
    assert one != other
    one, renamed, other = (fingerprint.fingerprint(f, jnp.ones(3), names=True) for f in made)
    assert one != renamed, "of format 2"


def test_constants_of_the_program_count_as_arguments():
    first, second = (
        fingerprint.fingerprint(lambda w, c=c: w * jnp.asarray(c), jnp.ones(2)) for c in ([1.0, 2], [1.0, 3])
    )
    again = fingerprint.fingerprint(lambda w: w * jnp.asarray([1.0, 2]), jnp.ones(2))
    assert first != second
    assert first == again


@pytest.mark.parametrize("wrapped", [jax.jit, jax.checkpoint, lambda f: lambda w: jax.lax.scan(
    lambda c, _: (jax.jit(f)(c), None), w, None, length=2)[0]], ids=["jit", "remat", "scan"])  # fmt: skip
def test_constants_inside_of_inner_programs_count_too(tmp_path, wrapped):
    def program(data):
        return wrapped(lambda w: w * data)

    one, other = np.arange(6.0), np.arange(6.0) + 1
    assert fingerprint.fingerprint(program(one), np.ones(6)) == fingerprint.fingerprint(program(one.copy()), np.ones(6))
    sketched(tmp_path / "s", f=program(one))
    with pytest.raises(sl.StoreError, match="another training program"):
        sl.open_sketch(tmp_path / "s", train=program(other))
    with pytest.raises(sl.StoreError, match="made by other arguments"):
        sketched(tmp_path / "s", f=program(other))
    assert any(f.kind == "two traces differ" for f in sl.check(lambda w: program(np.random.rand(6))(w), 6).findings)


class Pair(NamedTuple):
    """A pytree that is no dict, list or tuple."""

    one: jax.Array
    two: jax.Array


@pytest.mark.parametrize("of", [lambda a, b: Pair(a, b), lambda a, b: {0: a, 1: [b, (a,)]}, lambda a, b: (a, None, b)])
def test_a_store_of_any_pytree_goes_on_and_answers(tmp_path, of):
    def program(w):
        p = train(w)
        return of(p["a"], p["b"][1])

    def asked(p):
        return sum(jnp.sum(leaf) for leaf in jax.tree.leaves(p))

    memory = sketched(f=program).predict(asked, [0, 2]).value
    for _ in range(2):  # made, and found whole
        # the same arrays, measured in blocks of another size: roundings of 1e-16
        np.testing.assert_allclose(sketched(tmp_path / "s", f=program).predict(asked, [0, 2]).value, memory, rtol=1e-12)


def test_damaged_measurements_are_computed_again_when_asked(tmp_path):
    options = {"queries": {"q": query}}
    whole = sketched(tmp_path / "s", **options).predict("q", [0]).value
    (file,) = (tmp_path / "s").glob("query-*")
    file.write_bytes(file.read_bytes()[:-9])
    with pytest.raises(sl.StoreError, match=r"query-00000.*damaged"):
        sketched(tmp_path / "s", **options)
    np.testing.assert_array_equal(sketched(tmp_path / "s", repair=True, **options).predict("q", [0]).value, whole)
    assert sl.open_sketch(tmp_path / "s").predict("q", [0]).value.shape == (2,)


def test_a_shard_alone_says_that_others_are_missing(tmp_path):
    part = sketched(tmp_path / "s", queries={"q": query}, shard=(0, 2))
    with pytest.raises(KeyError, match="shards of this sketch are missing"):
        part.predict("q", [0])


def test_what_cannot_fit_in_memory_is_refused_before_anything_is_run():
    with pytest.raises(MemoryError, match=r"about 9\.6e\+03 GB of memory.*store=path"):
        sl.sketch(lambda w: w.sum() * jnp.ones(10**6), sl.Examples(3), 3, 2 * 10**5, progress=False)


def test_a_file_system_without_hard_links_will_do(tmp_path, monkeypatch):
    def refused(*_):
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", refused)
    sketched(tmp_path / "s")
    assert sl.open_sketch(tmp_path / "s").num_directions == 10


def test_a_file_system_that_cannot_be_written_is_said_to_be_so(tmp_path, monkeypatch):
    opening = format.Path.open

    def refused(path, mode="r", *others, **named):
        if mode == "r":
            return opening(path, mode, *others, **named)
        raise OSError(errno.EROFS, "Read-only file system")

    sketched(tmp_path / "s", m=8)
    shutil.copytree(tmp_path / "s", tmp_path / "t")
    next((tmp_path / "t").glob("directions-*")).unlink()
    monkeypatch.setattr(format.Path, "open", refused)
    monkeypatch.setattr(format.Path, "unlink", lambda path, missing_ok=False: refused(path, "w"))
    with pytest.raises(sl.StoreError, match=r"could not be written: .*Read-only"):
        sketched(tmp_path / "t", m=8)


def test_groups_named_by_what_a_store_cannot_hold_are_refused_beforehand(tmp_path):
    days = [datetime.date(2026, 1, 1 + i // 2) for i in range(6)]
    with pytest.raises(TypeError, match=r"as text or numbers, got datetime.date\(2026, 1, 1\)"):
        sketched(tmp_path / "s", space=sl.Groups(days))
    assert not (tmp_path / "s").exists()


def test_a_recipe_is_stored_with_its_random_keys_as_constants(tmp_path):
    work = sl.zoo.logistic_regression(20, epochs=1)
    arguments = (work.recipe, sl.Groups(np.arange(20) % 4), 2, 6)
    made = sl.sketch(*arguments, store=tmp_path / "s", queries={"loss": work.query()}, progress=False)
    again = sl.open_sketch(tmp_path / "s", work.recipe)
    np.testing.assert_array_equal(again.predict("loss", [1]).terms, made.predict("loss", [1]).terms)
    seeds = [fingerprint.fingerprint(lambda w, s=s: w * jax.random.uniform(jax.random.key(s)), 1.0) for s in (0, 1)]
    keys = [jax.random.key(s) for s in (0, 1)]
    closed = [fingerprint.fingerprint(lambda w, k=k: w * jax.random.uniform(k), 1.0) for k in keys]
    assert len(set(seeds)) == len(set(closed)) == 2


def test_the_derivative_rule_of_a_function_is_part_of_its_fingerprint():
    def program(slope):
        f = jax.custom_jvp(lambda x: x**2)
        f.defjvp(lambda p, t: (p[0] ** 2, slope * p[0] * t[0]))
        return f

    one, same, other = (fingerprint.fingerprint(program(slope), jnp.ones(2)) for slope in (2.0, 2.0, 3.0))
    assert one == same != other


def test_a_thousand_bit_flips_truncations_and_swaps_never_give_a_wrong_number(tmp_path):
    sketched(tmp_path / "s", additive=True)
    right = sl.open_sketch(tmp_path / "s").predict(query, [[0], [1, 2]]).value
    whole, rng = content(tmp_path / "s"), np.random.default_rng(0)
    found = {"refused": 0, "same": 0}
    work = tmp_path / "damaged"
    shutil.copytree(tmp_path / "s", work)
    names = list(whole)
    for i in range(1000):
        name = names[rng.integers(len(names))]
        broken = bytearray(whole[name])
        if i % 10 == 8:
            broken = broken[: rng.integers(len(broken))]
        elif i % 10 == 9:
            broken = whole[names[(names.index(name) + 1) % len(names)]]
        else:
            broken[rng.integers(len(broken))] ^= 1 << rng.integers(8)
        (work / name).write_bytes(broken)
        try:
            opened = sl.open_sketch(work)
            jax.tree.map(np.asarray, opened.coefficients)
            if i < 20:
                np.testing.assert_array_equal(opened.predict(query, [[0], [1, 2]]).value, right)
            jax.tree.map(np.testing.assert_array_equal, opened.parameters, sl.open_sketch(tmp_path / "s").parameters)
            found["same"] += 1
        except sl.StoreError as error:
            found["refused"] += str(work) in str(error)  # it names the file
        (work / name).write_bytes(whole[name])
    assert found["refused"] >= 990, found  # white space in the manifest may change without harm


@pytest.mark.parametrize("damage", ["cut", "changed", "list", "missing"])
def test_a_damaged_manifest_is_written_again_when_asked_and_no_block_is_lost(tmp_path, monkeypatch, damage):
    sketched(tmp_path / "s")
    manifest, before = tmp_path / "s" / "manifest.json", content(tmp_path / "s")
    text = manifest.read_text()
    broken = {"cut": text[:50], "changed": text.replace('"degree": 2', '"degree": 3'), "list": "[]"}
    if damage == "missing":
        manifest.unlink()
    else:
        manifest.write_text(broken[damage])
    with pytest.raises(sl.StoreError, match="exists and is no sketch" if damage == "missing" else "repair=True"):
        sketched(tmp_path / "s")
    written = []
    monkeypatch.setattr(format.Store, "write", lambda self, name, arrays: written.append(name))
    sketched(tmp_path / "s", repair=True)
    assert not written
    assert content(tmp_path / "s") == before


def test_other_arguments_cannot_pass_by_repairing_a_damaged_manifest(tmp_path):
    sketched(tmp_path / "s")
    (tmp_path / "s" / "manifest.json").write_text("{}")
    sketched(tmp_path / "s", repair=True, seed=1)
    other, fresh = sl.open_sketch(tmp_path / "s"), sketched(seed=1)
    jax.tree.map(np.testing.assert_array_equal, other.coefficients, fresh.coefficients)


def test_a_damaged_block_is_named_and_computed_again_when_asked(tmp_path):
    sketched(tmp_path / "s")
    whole = content(tmp_path / "s")
    block = tmp_path / "s" / "directions-00000004-00000008.safetensors"
    block.write_bytes(block.read_bytes()[:-3])
    with pytest.raises(sl.StoreError, match=r"directions-00000004-00000008.safetensors is damaged .* repair=True"):
        sketched(tmp_path / "s")
    with pytest.raises(sl.StoreError, match="is damaged"):
        sl.open_sketch(tmp_path / "s").predict(query, [0])
    sketched(tmp_path / "s", repair=True)
    assert content(tmp_path / "s") == whole


def test_shards_fill_one_store_with_the_same_bytes(tmp_path):
    sketched(tmp_path / "whole")
    for i in (1, 2, 0):
        part = sketched(tmp_path / "shards", shard=(i, 3))
        if i == 1:
            with pytest.raises(sl.StoreError, match="missing"):
                part.predict(query, [0])
    assert content(tmp_path / "shards") == content(tmp_path / "whole")
    for shard, error in (((3, 3), "0 <= i < N"), ((-1, 2), "0 <= i < N")):
        with pytest.raises(ValueError, match=error):
            sketched(tmp_path / "shards", shard=shard)
    with pytest.raises(ValueError, match="give store=path"):
        sketched(shard=(0, 2))


def test_a_store_that_another_process_has_begun_a_moment_ago_is_taken_for_what_it_is(tmp_path, monkeypatch):
    first = format.Store(tmp_path / "s", {"degree": 1})
    first.write("block", {"a": np.ones(2)})
    seen = []
    exists = format.os.path.exists

    def late(path):  # the first look was before the other process wrote its manifest
        seen.append(path)
        return exists(path) if len(seen) > 1 else False

    monkeypatch.setattr(format.os.path, "exists", late)
    assert format.Store(tmp_path / "s", {"degree": 1}).read("block")["a"].tolist() == [1.0, 1.0]


def test_two_writers_at_once_leave_a_whole_store(tmp_path):
    sketched(tmp_path / "whole")

    def one(_):
        with jax.enable_x64(True):
            return sketched(tmp_path / "s").predict(query, [0]).value

    with ThreadPoolExecutor(2) as pool:
        values = list(pool.map(one, range(2)))
    np.testing.assert_array_equal(*values)
    assert content(tmp_path / "s") == content(tmp_path / "whole")


def test_a_path_that_is_something_else_is_refused(tmp_path):
    (tmp_path / "file").write_text("mine")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "thesis.tex").write_text("mine")
    for path, why in ((tmp_path / "file", "is a file"), (tmp_path / "folder", "exists and is no sketch")):
        with pytest.raises(sl.StoreError, match=why):
            sketched(path)
    with pytest.raises(sl.StoreError, match="there is no sketch in"):
        sl.open_sketch(tmp_path / "nothing")
    with pytest.raises(sl.StoreError, match="cannot be created"):
        sketched(tmp_path / "file" / "below")
    assert (tmp_path / "folder" / "thesis.tex").read_text() == "mine"


def test_a_store_of_another_format_is_refused_with_the_reason(tmp_path):
    sketched(tmp_path / "s")
    manifest = tmp_path / "s" / "manifest.json"
    changed = json.loads(manifest.read_text()) | {"format": 7}
    manifest.write_text(json.dumps(changed))
    with pytest.raises(sl.StoreError, match=r"has format 7, written by sketchlearn .*reads formats 2 and 3"):
        sl.open_sketch(tmp_path / "s")


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS, errno.EACCES])
def test_a_disk_that_takes_no_more_keeps_what_was_stored(tmp_path, monkeypatch, code):
    fsync, count = os.fsync, []

    def full(descriptor):
        count.append(1)
        if len(count) == 3:  # the manifest and one block
            raise OSError(code, os.strerror(code))
        fsync(descriptor)

    monkeypatch.setattr(format.os, "fsync", full)
    with pytest.raises(sl.StoreError, match=f"{os.strerror(code)}.*What was stored before is kept"):
        sketched(tmp_path / "s")
    assert sorted(content(tmp_path / "s")) == ["directions-00000000-00000004.safetensors", "manifest.json"]
    sketched(tmp_path / "s")
    sl.open_sketch(tmp_path / "s")


def test_what_cannot_fit_on_the_disk_is_refused_before_anything_is_run(tmp_path, monkeypatch):
    monkeypatch.setattr(format.shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10**9, 10**9, 100))
    with pytest.raises(sl.StoreError, match=r"needs about .* GB on the disk of .*queries="):
        sketched(tmp_path / "s")
    assert not (tmp_path / "s").exists()


def test_parameters_of_another_kind_need_the_program_to_be_opened(tmp_path):
    @jax.tree_util.register_dataclass
    @__import__("dataclasses").dataclass
    class Own:
        y: jax.Array

    def own(w):
        return Own(w.sum() ** 2)

    sketched(tmp_path / "s", f=own)
    with pytest.raises(sl.StoreError, match="give train= to open_sketch"):
        sl.open_sketch(tmp_path / "s")
    opened = sl.open_sketch(tmp_path / "s", train=own)
    found = opened.predict(lambda p: p.y, [0], "least_squares")
    np.testing.assert_allclose(found.terms[0], -12.0, rtol=1e-9)  # 36 becomes (6 - t)²; 20 equations, 6 unknowns


@pytest.mark.parametrize("bad", [{}, [query], {"q": 3}, {1: query}])
def test_queries_must_be_named_functions(bad):
    with pytest.raises(TypeError, match="quer"):
        sketched(queries=bad)
