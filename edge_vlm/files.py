# SPDX-License-Identifier: Apache-2.0
"""Files and folders that appear whole or not at all."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from edge_vlm.errors import OutputError

CHUNK_BYTES = 1 << 20


@contextlib.contextmanager
def whole_file(path: Path) -> Iterator[BinaryIO]:
    """A file to write under a temporary name; it is synced and takes the place of ``path`` when the block ends well.

    Raises OutputError; nothing half-written stays behind.
    """
    path = Path(path)
    with reporting(path):
        handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        try:
            with os.fdopen(handle, "wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            os.chmod(temporary, 0o666 & ~current_umask())
            os.replace(temporary, path)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise


def write_bytes(path: Path, data: bytes) -> None:
    """The file appears whole or not at all. Raises OutputError."""
    with whole_file(path) as file:
        file.write(data)


def write_text(path: Path, text: str) -> None:
    write_bytes(path, text.encode("utf-8"))


def write_json(path: Path, value: object) -> None:
    """Indented, keys in the order given; NaN is refused because readers of JSON refuse it."""
    write_text(path, json.dumps(value, indent=2, allow_nan=False) + "\n")


def make_folder(path: Path) -> None:
    """Create a folder and those above it; one that is there already will do. Raises OutputError."""
    with reporting(Path(path)):
        Path(path).mkdir(parents=True, exist_ok=True)


@contextlib.contextmanager
def whole_folder(target: Path) -> Iterator[Path]:
    """A folder to fill; it takes the place of ``target`` when the block ends well and vanishes otherwise.

    A folder of that name is replaced (set aside first, removed after). Raises OutputError.
    """
    target = Path(target)
    with reporting(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    try:
        with reporting(target):
            yield temporary
            os.chmod(temporary, 0o777 & ~current_umask())
            for path in temporary.iterdir():
                sync(path)
            replace_folder(temporary, target)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def check_replaceable(folder: Path, mark: str, what: str) -> None:
    """Before a folder is written that replaces another: that must be ``what`` it says, which has a file named ``mark``,
    or be empty; else it may hold somebody's work. And something must be writable there. Raises OutputError."""
    folder = Path(folder)
    with reporting(folder):
        nearest = next(place for place in folder.absolute().parents if place.is_dir())
        with tempfile.TemporaryFile(dir=nearest):
            pass
    if folder.exists() and not (folder / mark).is_file() and (not folder.is_dir() or any(folder.iterdir())):
        raise OutputError(f"{folder} exists and is not {what}", "name another output folder, or remove this one")


def replace_folder(new: Path, target: Path) -> None:
    """Rename ``new`` to ``target``; a rename cannot replace a full folder, so the old one steps aside."""
    if not target.exists():
        os.replace(new, target)
        return
    aside = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    os.replace(target, aside / "old")
    try:
        os.replace(new, target)
    except OSError:
        os.replace(aside / "old", target)
        raise
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def sha256_of(path: Path) -> str:
    """Hexadecimal digest of a file, read into one buffer: fresh memory for each piece would cost as much as hashing."""
    digest, buffer = hashlib.sha256(), memoryview(bytearray(CHUNK_BYTES))
    with open(path, "rb", buffering=0) as file:
        while count := file.readinto(buffer):
            digest.update(buffer[:count])
    return digest.hexdigest()


def sync(path: Path) -> None:
    with open(path, "rb") as file:
        os.fsync(file.fileno())


def current_umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


@contextlib.contextmanager
def reporting(path: Path) -> Iterator[None]:
    """Turn the system's errors into an OutputError that names the path."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        raise OutputError(f"{path}: cannot be written ({reason})", "check free space and permissions") from error
