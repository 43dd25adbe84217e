"""Lists of names: the bundled one to the bit, files of the user's, and the download with all that can go wrong."""

import functools
import hashlib

import pooch
import pytest

from sketchlearn.experiments import datasets


def test_the_bundled_list_is_the_published_one_to_the_bit():
    names = datasets.load_names()
    assert len(names) == 32_257
    assert names[:3] == ["emma", "olivia", "ava"]
    raw = "".join(name + "\n" for name in names).encode()
    assert hashlib.sha256(raw).hexdigest() == "bd02dfd33179e23ec2dd093cbd4de619834f75d660ef1ae04d3127e7a0110053"


def test_every_bundled_name_fits_the_model():
    assert all(
        name.isascii() and name.isalpha() and name.islower() and len(name) <= 15 for name in datasets.load_names()
    )


def test_a_damaged_bundle_is_noticed(monkeypatch):
    monkeypatch.setattr(datasets, "PACKAGED_SHA256", "0" * 64)
    with pytest.raises(ValueError, match="bundled list of names is damaged"):
        datasets.load_names()


def test_a_file_is_read_in_its_order_without_blank_lines(tmp_path):
    file = tmp_path / "names.txt"
    file.write_text("max\r\n\n  emma \nabcdefghijklmno\n", encoding="utf-8")
    for path in (file, str(file)):
        assert datasets.load_names(path) == ["max", "emma", "abcdefghijklmno"]


@pytest.mark.parametrize("bad", ["Max", "o'neil", "two words", "élodie", "r2d", "abcdefghijklmnop"])
def test_a_line_that_is_no_name_is_counted_and_shown(tmp_path, bad):
    file = tmp_path / "names.txt"
    file.write_text(f"emma\n{bad}\nava\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"name number 2 is .*; expected 1 to 15 lower-case letters a-z") as caught:
        datasets.load_names(file)
    assert repr(bad) in str(caught.value)
    assert str(file) in str(caught.value)


def test_an_empty_file_is_refused(tmp_path):
    file = tmp_path / "names.txt"
    file.write_text("\n \n", encoding="utf-8")
    with pytest.raises(ValueError, match="holds no names"):
        datasets.load_names(file)


def test_a_missing_file_and_a_directory_are_refused_with_the_ways_out(tmp_path):
    for path in (tmp_path / "none.txt", tmp_path):
        with pytest.raises(FileNotFoundError, match='None for the bundled list, or "paper" to download') as caught:
            datasets.load_names(path)
        assert str(path) in str(caught.value)


def retrieve_into(monkeypatch, folder, content):
    """Let pooch fetch ``content`` (or fail with it) from a network that does not exist."""

    def downloader(url, output_file, pooch):
        assert url == datasets.PAPER_URL
        if isinstance(content, Exception):
            raise content
        with open(output_file, "wb") as file:
            file.write(content)

    monkeypatch.setattr(pooch, "retrieve", functools.partial(pooch.retrieve, path=folder, downloader=downloader))


def test_the_download_is_checked_and_read(monkeypatch, tmp_path):
    retrieve_into(monkeypatch, tmp_path, b"emma\nmax\n")
    monkeypatch.setattr(datasets, "PAPER_SHA256", hashlib.sha256(b"emma\nmax\n").hexdigest())
    assert datasets.load_names("paper") == ["emma", "max"]


def test_a_download_with_another_checksum_is_refused(monkeypatch, tmp_path):
    retrieve_into(monkeypatch, tmp_path, b"emma\nmax\n")
    with pytest.raises(ValueError, match="does not match the known hash") as caught:
        datasets.load_names("paper")
    assert datasets.PAPER_SHA256 in str(caught.value)
    assert not list(tmp_path.iterdir()), "nothing that could be mistaken for the list is kept"


def test_offline_the_message_says_what_to_do_instead(monkeypatch, tmp_path):
    retrieve_into(monkeypatch, tmp_path, OSError("no route to host"))
    with pytest.raises(
        ConnectionError, match=r"\(OSError: no route to host\)\. Offline\? Use the bundled list"
    ) as caught:
        datasets.load_names("paper")
    assert datasets.PAPER_URL in str(caught.value)
