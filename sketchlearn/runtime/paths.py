"""Paths as users write them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from sketchlearn.errors import shown


def as_path(name: str, path: Any) -> Path:
    """An absolute path, with ``~`` for the home directory; or what was expected.

    Absolute, because a store is read when it is asked, and the working directory may be another by then.
    """
    if not isinstance(path, (str, os.PathLike)) or not isinstance(os.fspath(path), str):
        raise TypeError(f"{name} must be a string or a path, got {shown(path)}.")
    if not os.fspath(path):
        raise ValueError(f"{name} is an empty string: give a path, '.' for the working directory.")
    try:
        return Path(path).expanduser().absolute()
    except RuntimeError as error:
        raise ValueError(f"{name} {os.fspath(path)!r} names a home directory that is not known: {error}") from error


def directory(name: str, path: Any) -> Path:
    """A directory that exists and can be written to, made if it is missing."""
    folder = as_path(name, path)
    if folder.exists() and not folder.is_dir():
        raise NotADirectoryError(f"{name} {folder} is a file: give a directory.")
    folder.mkdir(parents=True, exist_ok=True)
    if not os.access(folder, os.W_OK):
        raise PermissionError(f"{name} {folder} cannot be written to: give another directory.")
    return folder
