"""Names (the bundled list, a file, or the paper's list downloaded on request), and source code that everybody has."""

from __future__ import annotations

import gzip
import hashlib
import sysconfig
from collections.abc import Sequence
from importlib import resources
from pathlib import Path

from sketchlearn.errors import shown
from sketchlearn.runtime.paths import as_path

PACKAGED_SHA256 = "bd02dfd33179e23ec2dd093cbd4de619834f75d660ef1ae04d3127e7a0110053"
PAPER_SHA256 = "0a30b5557f192f32ab962680889aac5f6fda0f4cecf40a6d0b5694f58ea8cc4d"
PAPER_URL = "https://raw.githubusercontent.com/karpathy/makemore/master/names.txt"


def load_names(path: str | Path | None = None) -> list[str]:
    """Read a list of names, one a line.

    Args:
        path: a text file of lower-case names (a-z), one a line; ``None`` for the
            bundled list (US Social Security Administration, 2018, public domain);
            ``"paper"`` to download the list of the paper's experiment
            (makemore's ``names.txt``), checked against its SHA-256.

    Returns:
        The names, in the file's order.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: a line is not a name of 1 to 15 letters a-z.
        ConnectionError: the download was asked for and cannot be had.

    Example:
        >>> names = load_names()
        >>> len(names), names[:3]
        (32257, ['emma', 'olivia', 'ava'])
    """
    if path is None:
        packed = resources.files("sketchlearn.experiments").joinpath("data", "names_ssa_2018.txt.gz").read_bytes()
        raw = gzip.decompress(packed)
        if hashlib.sha256(raw).hexdigest() != PACKAGED_SHA256:
            raise ValueError("the bundled list of names is damaged; reinstall sketchlearn.")
        return raw.decode().split()
    if path == "paper":
        path = download_paper_names()
    file = as_path("the list of names", path)
    if not file.is_file():
        raise FileNotFoundError(
            f"there is no file of names at {str(file)!r}. Give the path of a text file with one name a line, "
            'None for the bundled list, or "paper" to download the paper\'s.'
        )
    names = [line.strip() for line in file.read_text(encoding="utf-8").splitlines() if line.strip()]
    for number, name in enumerate(names, 1):
        if not (name.isascii() and name.isalpha() and name.islower() and len(name) <= 15):
            raise ValueError(f"{file}: name number {number} is {name!r}; expected 1 to 15 lower-case letters a-z.")
    if not names:
        raise ValueError(f"{file} holds no names.")
    return names


def download_paper_names() -> Path:
    """Fetch makemore's ``names.txt`` once into the user's cache and check its SHA-256."""
    import pooch

    try:
        return Path(pooch.retrieve(PAPER_URL, known_hash=f"sha256:{PAPER_SHA256}", fname="makemore_names.txt"))
    except ValueError:
        raise  # the checksum does not match: pooch says both
    except Exception as error:
        raise ConnectionError(
            f"the paper's list of names could not be downloaded from {PAPER_URL} ({type(error).__name__}: {error}). "
            "Offline? Use the bundled list (names=None), or save that file elsewhere and give its path."
        ) from error


PACKAGES = ("asyncio", "email", "importlib", "multiprocessing", "unittest", "xml")
HELD_OUT = 8  # every eighth file


def standard_library(packages: Sequence[str] = PACKAGES) -> dict[str, tuple[bytes, bytes]]:
    """The source of packages of Python's standard library, which comes with every Python.

    Other versions of Python have other source, so what is trained on it is not the same to the digit everywhere.

    Args:
        packages: their names. Their tests are left out.

    Returns:
        For each package the text of its files one after the other: those to train on, and every eighth, held out.

    Raises:
        ValueError: these are no names, or not each once; this Python has no source of a package, or of one file only.

    Example:
        >>> kept, held_out = standard_library(["json"])["json"]
        >>> b"def loads(" in kept + held_out, len(kept) > len(held_out)
        (True, True)
    """
    if isinstance(packages, str) or not packages or len(set(packages)) < len(packages):
        raise ValueError(f"packages must be names of folders, each once and at least one, got {shown(packages)}.")
    if not all(isinstance(package, str) and package.isidentifier() for package in packages):
        raise ValueError(f"packages must be names like 'json', no paths, got {shown(packages)}.")
    folder, found = Path(sysconfig.get_paths()["stdlib"]), {}
    for package in packages:
        files = sorted(f for f in (folder / package).rglob("*.py") if not {"test", "tests"} & set(f.parts))
        texts = [text for text in (file.read_bytes() for file in files) if text.strip()]
        if len(texts) < 2:
            raise ValueError(
                f"this Python has no package {package!r} of several files in {str(folder)!r}: expected folders of its "
                f"standard library, for instance {', '.join(PACKAGES)}."
            )
        out = range(1, len(texts), HELD_OUT)
        kept = b"".join(text for i, text in enumerate(texts) if i not in out)
        found[package] = kept, b"".join(texts[i] for i in out)
    return found
