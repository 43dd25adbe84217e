"""A sketch on disk: one atomic file for every block of directions, and a manifest of what made them.

A store is a directory. ``manifest.json`` holds the arguments, the versions and a fingerprint of the training program;
each block is one file of arrays in the safetensors format (no pickle), with a checksum over its content, its name and
the manifest's arguments. A file appears under its name only when it is whole, so a process may be killed at any moment:
the same call goes on with the blocks that are missing. Blocks depend on the arguments alone, so several processes may
fill one store.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import time
import uuid
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from sketchlearn.errors import StoreError
from sketchlearn.runtime.paths import as_path

FORMAT = 3  # what is written
READ_ONLY = (
    2  # the format before: other names of arguments, and a checksum of the program with names of functions in it
)
RENAMED = {"key": "seed", "lanes": "workers"}  # arguments since then
MANIFEST = "manifest.json"


class Store:
    """A directory of checked blocks.

    Args:
        path: the directory; created if missing. One that holds hidden files alone is empty.
        arguments: what makes the blocks, as JSON values. A store made by other arguments is refused, and the
            differences are printed. ``None`` opens an existing store.
        versions: recorded beside them, not compared.
        what: that it holds, for messages.
        remedy: what to do about a damaged block or manifest, for messages.
        repair: write a damaged or missing manifest again from the arguments. Blocks are not touched: the checksum of
            each covers the arguments that made it, so those of other arguments are damaged blocks.
    """

    def __init__(
        self,
        path: str | Path,
        arguments: dict | None = None,
        versions: dict | None = None,
        what: str = "sketch",
        remedy: str = "Make the sketch again with repair=True: only damaged and missing blocks are computed.",
        repair: bool = False,
    ):
        self.path, self.what, self.remedy = as_path("the path of a store", path), what, remedy
        manifest = self.path / MANIFEST
        content = {"format": FORMAT, "arguments": arguments, "versions": versions or {}}
        if not os.path.exists(manifest):
            if arguments is None:
                why = f"no {MANIFEST}" if self.path.is_dir() or not self.path.exists() else "it is a file"
                raise StoreError(f"there is no {what} in {self.path}: {why}.")
            self._create(manifest, content, repair)
        stored, fault = self._manifest(manifest)
        if fault and repair and arguments is not None:
            self._write_manifest(manifest, content)
            stored, fault = self._manifest(manifest)
        self.format, self.versions = stored.get("format"), stored.get("versions", {})
        if "format" in stored and self.format not in (FORMAT, READ_ONLY):
            raise StoreError(
                f"{self.path} has format {self.format}, written by sketchlearn {self.versions.get('sketchlearn', '?')};"
                f" this version reads formats {READ_ONLY} and {FORMAT}. Use that version, or make it again."
            )
        if fault:
            raise StoreError(f"{manifest} is damaged ({fault}). {remedy}")
        self.arguments = stored["arguments"]
        self._fingerprint = json.dumps(self.arguments, sort_keys=True)  # as they were written: checksums cover them
        if self.format == READ_ONLY:
            self.arguments = {RENAMED.get(name, name): value for name, value in self.arguments.items()}
        if arguments is not None:
            if self.format == READ_ONLY:
                raise StoreError(
                    f"{self.path} has format {READ_ONLY}, written by sketchlearn "
                    f"{self.versions.get('sketchlearn', '?')}; this version only reads it. Give a path that is new or "
                    "empty."
                )
            self._compare(json.loads(json.dumps(arguments)))

    def _manifest(self, manifest: Path) -> tuple[dict, str]:
        """What the manifest says, as far as it can be read, and what is wrong with it."""
        try:
            content = json.loads(manifest.read_text(encoding="utf-8"))
        except OSError as error:
            raise StoreError(f"{manifest} cannot be read: {error}.") from error
        except ValueError as error:
            return {}, f"{type(error).__name__}: {error}"
        if not isinstance(content, dict) or not isinstance(content.get("versions", {}), dict):
            return {}, "it is no description of a store"
        missing = {"format", "arguments", "versions", "seal"} - set(content)
        if missing:
            return content, f"it has no {', '.join(sorted(missing))}"
        return content, "" if content["seal"] == _seal(content) else "its content does not fit its checksum"

    def _create(self, manifest: Path, content: dict, repair: bool) -> None:
        own = (".*", "*.safetensors") if repair else (".*",)  # hidden: other programs', or just being written
        try:
            if self.path.exists() and not self.path.is_dir():
                raise StoreError(f"{self.path} is a file: give the path of a directory, new or empty.")
            foreign = self.path.exists() and any(not any(p.match(name) for name in own) for p in self.path.iterdir())
            if foreign and not manifest.exists():  # another process may have begun the same store a moment ago
                raise StoreError(f"{self.path} exists and is no {self.what}: give a path that is new or empty.")
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StoreError(f"{self.path} cannot be created: {error}.") from error
        self._write_manifest(manifest, content, replace=False)

    def _write_manifest(self, manifest: Path, content: dict, replace: bool = True) -> None:
        content = json.loads(json.dumps(content))
        content["seal"] = _seal(content)
        self._place(manifest, json.dumps(content, indent=1).encode(), replace=replace)

    def _compare(self, arguments: dict) -> None:
        names = sorted(set(arguments) | set(self.arguments))
        other = [n for n in names if arguments.get(n) != self.arguments.get(n)]
        if other:
            lines = "\n".join(
                f"  {n}: {_stored(self.arguments, n)}, asked for {_short(arguments.get(n))}" for n in other
            )
            raise StoreError(
                f"{self.path} holds a {self.what} made by other arguments:\n{lines}\n"
                "Give another path, or these arguments."
            )

    def _place(self, target: Path, content: bytes, replace: bool = True) -> None:
        """Write a file so that it appears under its name only when it is whole and on the disk."""
        part = self.path / f".part-{uuid.uuid4().hex}"
        try:
            with part.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            if replace:
                part.replace(target)
            else:
                try:
                    os.link(part, target)
                except FileExistsError:
                    pass  # another process was first; its content is compared next
                except OSError:  # a file system without hard links
                    if not target.exists():
                        part.replace(target)
        except OSError as error:
            raise StoreError(
                f"{target} could not be written: {error}. What was stored before is kept; "
                "the same call goes on from there."
            ) from error
        finally:
            with contextlib.suppress(OSError):  # a disk that cannot be written has said so above
                part.unlink(missing_ok=True)

    def clean(self) -> None:
        """Remove what killed processes left half written an hour ago or earlier; younger files may be in the making."""
        for part in self.path.glob(".part-*"):
            with contextlib.suppress(FileNotFoundError):
                if part.stat().st_mtime < time.time() - 3600:
                    part.unlink()

    def file(self, name: str) -> Path:
        """Where a block lies."""
        return self.path / f"{name}.safetensors"

    def has(self, name: str) -> bool:
        """Whether a block was stored (whole, though perhaps damaged since)."""
        return self.file(name).exists()

    def write(self, name: str, arrays: dict[str, np.ndarray]) -> None:
        """Store a block of named arrays."""
        plain = {key: _as_real(np.array(a, order="C")) for key, a in arrays.items()}
        kinds = {key: str(a.dtype) for key, a in arrays.items()}
        header = json.dumps({"dtypes": kinds, "checksum": self._checksum(name, plain, kinds)}, sort_keys=True)
        self._place(self.file(name), save(plain, {"sketchlearn": header}))

    def read(self, name: str) -> dict[str, np.ndarray]:
        """The arrays of a block, checked."""
        file = self.file(name)
        if not file.exists():
            raise StoreError(f"{file} is missing: the sketch is not finished. The call that made it goes on there.")
        try:
            with safe_open(file, "numpy") as opened:
                header = json.loads((opened.metadata() or {})["sketchlearn"])
                plain = {key: opened.get_tensor(key) for key in opened.keys()}  # noqa: SIM118 (no mapping)
            kinds = header["dtypes"]
            whole = set(kinds) == set(plain) and header["checksum"] == self._checksum(name, plain, kinds)
            arrays = {key: _as_stored(plain[key], kinds[key]) for key in kinds} if whole else {}
        except (SafetensorError, OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
            raise StoreError(f"{file} is damaged ({type(error).__name__}: {error}). {self.remedy}") from error
        if not whole:
            raise StoreError(f"{file} is damaged (its content does not fit its checksum). {self.remedy}")
        return arrays

    def _checksum(self, name: str, arrays: dict[str, np.ndarray], kinds: dict[str, str]) -> str:
        digest = hashlib.sha256(f"{self._fingerprint}\n{name}\n".encode())
        for key in sorted(arrays):
            a = arrays[key]
            digest.update(f"{key} {kinds[key]} {a.dtype} {a.shape}\n".encode())
            digest.update(a.tobytes())
        return digest.hexdigest()


def _seal(manifest: dict) -> str:
    content = {key: value for key, value in manifest.items() if key != "seal"}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _stored(arguments: dict, name: str) -> str:
    if name not in arguments:
        return "not stored (by an earlier version, which had no such argument)"
    return f"stored {_short(arguments[name])}"


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _as_real(a: np.ndarray) -> np.ndarray:
    """Complex numbers as pairs of real ones on a last axis: what every reader of the format knows."""
    return np.stack([a.real, a.imag], -1) if np.iscomplexobj(a) else a


def _as_stored(a: np.ndarray, kind: str) -> np.ndarray:
    dtype = np.dtype(kind)
    if dtype.kind != "c":
        return a.astype(dtype, copy=False)
    return np.ascontiguousarray(a).view(dtype)[..., 0]


def check_disk(path: str | Path, expected: int) -> None:
    """Refuse to begin what will not fit."""
    there = as_path("store", path)
    while not there.exists():
        there = there.parent
    free = shutil.disk_usage(there).free
    if expected > free:
        raise StoreError(
            f"the sketch needs about {expected / 1e9:.3g} GB on the disk of {path}, and {free / 1e9:.3g} GB are free: "
            "fewer directions, a lower degree, or queries= (which keeps measurements, not models)."
        )
