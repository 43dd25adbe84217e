"""Paths as users write them: the home directory, relative ones, hidden files, files in the place of directories."""

import os
from pathlib import Path

import numpy as np
import pytest

import sketchlearn as sl
from sketchlearn.cli import demo, main
from sketchlearn.experiments import comparison
from sketchlearn.runtime.paths import as_path, directory
from sketchlearn.sketching.store.format import Store


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A home directory, and another one to work in."""
    for name in ("home", "work"):
        (tmp_path / name).mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path / "home"


def square(w):
    return {"total": w.sum()}


def query(p):
    return p["total"] ** 2


def sketched(store):
    return sl.sketch(square, sl.Examples(3), 2, 8, store=store, progress=False)


def bank_of(path):
    return sl.RetrainBank(path, square, {}, sl.Examples(3))


def test_every_path_may_begin_with_the_home_directory(home):
    made = sketched("~/deep/store/")
    assert (home / "deep" / "store" / "manifest.json").exists()
    for path in ("~/deep/store", Path("~/deep/store"), home / "deep" / "store"):
        assert float(sl.open_sketch(path).predict(query, [0]).value) == float(made.predict(query, [0]).value)
    bank_of("~/bank").predict(query, [1])
    assert len(bank_of(home / "bank")) == 1
    (home / "names.txt").write_text("ann\nbob\n")
    assert sl.datasets.load_names("~/names.txt") == ["ann", "bob"]
    assert directory("--out", Path("~/out")) == home / "out"
    assert as_path("x", "~") == home
    assert not list(Path().iterdir()), "nothing is called ~ in the working directory"


def test_the_folder_of_a_comparison_may_begin_with_the_home_directory(home, monkeypatch):
    def stop(path, *_, **__):
        raise InterruptedError(str(path))

    monkeypatch.setattr(comparison, "RetrainBank", stop)
    with pytest.raises(InterruptedError, match=str(home)):
        comparison.compare("ridge", quick=True, bank="~/runs", progress=False)


def test_the_command_line_writes_where_the_home_directory_is(home, monkeypatch):
    seen = []
    monkeypatch.setattr(demo, "run", lambda args: seen.append(args.out) or {})
    assert main.main(["demo", "--out=~/pictures/"]) == 0
    assert seen == [home / "pictures"]
    assert seen[0].is_dir()


def test_the_command_line_looks_at_its_directory_before_it_computes(home, monkeypatch, capsys):
    monkeypatch.setattr(demo, "run", lambda args: pytest.fail("it computed first"))
    (home / "file").write_text("")
    assert main.main(["demo", "--out", "~/file"]) == 1
    assert "file is a file: give a directory" in capsys.readouterr().err


def test_a_store_with_a_relative_path_is_read_from_another_working_directory(home, monkeypatch):
    made = sketched("store")
    opened, bank = sl.open_sketch("store"), bank_of("bank")
    monkeypatch.chdir(home)
    np.testing.assert_array_equal(opened.predict(query, [0]).value, made.predict(query, [0]).value)
    bank.predict(query, [0])
    assert not list(home.iterdir())


def test_a_directory_of_hidden_files_is_an_empty_store(tmp_path):
    for name, make in (("store", sketched), ("bank", bank_of)):
        folder = tmp_path / name
        (folder / ".ipynb_checkpoints").mkdir(parents=True)
        (folder / ".DS_Store").write_text("whatever")
        make(folder)
        assert (folder / "manifest.json").exists()
        assert (folder / ".DS_Store").read_text() == "whatever"
        make(folder)
    sl.open_sketch(tmp_path / "store")


def test_a_directory_of_other_files_is_no_store(tmp_path):
    (tmp_path / "notes.txt").write_text("")
    for make in (sketched, bank_of):
        with pytest.raises(sl.StoreError, match=r"exists and is no .*: give a path that is new or empty"):
            make(tmp_path)


def test_a_file_is_no_store_and_a_directory_no_list_of_names(tmp_path):
    file = tmp_path / "file"
    file.write_text("")
    for make in (sketched, bank_of):
        with pytest.raises(sl.StoreError, match="is a file: give the path of a directory"):
            make(file)
        with pytest.raises(sl.StoreError, match="cannot be created"):
            make(file / "below")
    with pytest.raises(sl.StoreError, match=r"there is no sketch in .*file: it is a file"):
        sl.open_sketch(file)
    with pytest.raises(sl.StoreError, match=r"there is no sketch in .*: no manifest\.json"):
        sl.open_sketch(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match="there is no file of names"):
        sl.datasets.load_names(tmp_path)


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="the superuser may write anywhere")
def test_a_directory_that_cannot_be_written_is_said_so(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(sl.StoreError, match=r"could not be written|cannot be created"):
        sketched(tmp_path)
    with pytest.raises(PermissionError, match="cannot be written to"):
        directory("--out", tmp_path)
    tmp_path.chmod(0o700)


def test_a_directory_that_cannot_be_read_or_written_is_said_so_whoever_asks(tmp_path, monkeypatch):
    def refused(*_, **__):
        raise PermissionError(13, "Permission denied")

    sketched(tmp_path / "store")
    with monkeypatch.context() as patch:
        patch.setattr(Path, "read_text", refused)
        with pytest.raises(sl.StoreError, match=r"manifest\.json cannot be read: .*Permission denied"):
            Store(tmp_path / "store")
    with monkeypatch.context() as patch:
        (tmp_path / "new").mkdir()
        patch.setattr(Path, "iterdir", refused)
        with pytest.raises(sl.StoreError, match=r"cannot be created: .*Permission denied"):
            Store(tmp_path / "new", {})


@pytest.mark.parametrize(
    ("path", "error", "message"),
    [
        (5, TypeError, "must be a string or a path, got 5"),
        (b"store", TypeError, "must be a string or a path, got b'store'"),
        ("", ValueError, "is an empty string"),
        ("~nobody-of-this-name/x", ValueError, "names a home directory that is not known"),
    ],
)
def test_what_is_no_path_is_refused_wherever_one_is_expected(path, error, message):
    for take in (sketched, sl.open_sketch, bank_of, sl.datasets.load_names):
        with pytest.raises(error, match=message):
            take(path)
