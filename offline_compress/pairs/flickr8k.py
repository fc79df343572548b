# SPDX-License-Identifier: Apache-2.0
"""The Flickr8k layout: ``captions.txt`` (``image,caption`` lines), one ``*.SPLITImages.txt`` of file names per official
split, and the photos in a .zip, or as files in the folder or one below it."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path

from edge_vlm.errors import SourceError
from offline_compress.pairs.captioned_images import CaptionedImages, with_captions

SPLITS = ("train", "dev", "test")
CAPTIONS = "captions.txt"


def open_flickr8k(folder: Path, split: str) -> CaptionedImages:
    """The photos of a split. Raises SourceError where the folder, the split or all of its photos are missing."""
    folder = Path(folder)
    if split not in SPLITS:
        raise SourceError(f"split {split!r} is unknown", f"use one of {', '.join(SPLITS)}")
    lists = sorted(folder.glob(f"*[._]{split}Images.txt"))
    if len(lists) != 1:
        raise SourceError(f"{folder}: {len(lists)} files named *.{split}Images.txt", "give a folder as of Flickr8k")
    captions = read_captions(folder / CAPTIONS)
    read, present = image_files(folder)
    listed = read_text(lists[0]).split()
    return with_captions(f"{folder} ({split})", {name: captions.get(name, ()) for name in listed}, read, present)


def read_captions(path: Path) -> dict[str, list[str]]:
    """Captions by image."""
    captions: dict[str, list[str]] = {}
    for line in read_text(path).splitlines()[1:]:
        name, _, text = line.partition(",")
        captions.setdefault(name, []).append(text.strip().strip('"'))
    return captions


def read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SourceError(f"{path}: {error}", "give a folder as of Flickr8k") from error


def image_files(folder: Path) -> tuple[Callable[[str], bytes], set[str]]:
    """A function that reads an image by name, and the names."""
    archives = sorted(folder.glob("*.zip"))
    if archives:
        try:
            archive = zipfile.ZipFile(archives[0])
        except (OSError, zipfile.BadZipFile) as error:
            raise SourceError(f"{archives[0]}: {error}", "copy the archive again") from error
        members = {Path(name).name: name for name in archive.namelist()}
        return lambda name: archive.read(members[name]), set(members)
    paths = {path.name: path for pattern in ("*.jpg", "*/*.jpg") for path in folder.glob(pattern)}
    return lambda name: paths[name].read_bytes(), set(paths)
