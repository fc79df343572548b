# SPDX-License-Identifier: Apache-2.0
"""Photographs with captions in the Flickr8k layout.

A folder with ``captions.txt`` (``image,caption`` lines), one ``*.SPLITImages.txt`` of file names per official split,
and the photos: in a .zip, or as files in the folder or one below it.
"""

from __future__ import annotations

import re
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from edge_vlm.errors import SourceError

SPLITS = ("train", "dev", "test")
_WORD = re.compile(r"[\w']+")


@dataclass(frozen=True)
class PhotoSet:
    """Photos of one split: names, the bytes of a photo by name, and the captions of each as its annotators wrote them."""

    split: str
    names: tuple[str, ...]
    captions: tuple[tuple[str, ...], ...]
    read: Callable[[str], bytes]

    def __len__(self) -> int:
        return len(self.names)

    def image(self, index: int) -> np.ndarray:
        """uint8 (rows, cols, 3) RGB. Raises SourceError for a photo that is missing or cannot be decoded."""
        name = self.names[index]
        try:
            content = self.read(name)
        except (OSError, KeyError, zipfile.BadZipFile) as error:
            raise SourceError(f"{name}: cannot be read ({error})", "copy the photos again") from error
        image = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR) if content else None
        if image is None:
            raise SourceError(f"{name}: not an image that OpenCV reads", "copy the photo again, or remove it")
        return np.ascontiguousarray(image[:, :, ::-1])


def open_photos(folder: Path, split: str) -> PhotoSet:
    """Photos that the split lists, that are there, and that have captions.

    Raises SourceError where the folder, the split or all of its photos are missing.
    """
    folder = Path(folder)
    if split not in SPLITS:
        raise SourceError(f"split {split!r} is unknown", f"use one of {', '.join(SPLITS)}")
    lists = sorted(folder.glob(f"*[._]{split}Images.txt"))
    if len(lists) != 1:
        raise SourceError(f"{folder}: {len(lists)} files named *.{split}Images.txt", "give a folder as of Flickr8k")
    captions = read_captions(folder / "captions.txt")
    read, present = photo_files(folder)
    listed = lists[0].read_text(encoding="utf-8").split()
    names = tuple(name for name in listed if name in present and captions.get(name))
    if not names:
        raise SourceError(f"{folder}: none of the {len(listed)} photos of {lists[0].name}", "put the photos there")
    return PhotoSet(split, names, tuple(tuple(captions[name]) for name in names), read)


def read_captions(path: Path) -> dict[str, list[str]]:
    """Captions by photo; empty ones are left out."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise SourceError(f"{path}: {error}", "give a folder as of Flickr8k") from error
    captions: dict[str, list[str]] = {}
    for line in lines[1:]:
        name, _, text = line.partition(",")
        if words(text):
            captions.setdefault(name, []).append(text.strip().strip('"').strip())
    return captions


def photo_files(folder: Path) -> tuple[Callable[[str], bytes], set[str]]:
    """A function that reads a photo by name, and the names."""
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


def words(caption: str) -> list[str]:
    """Lower-case words without punctuation: what captions are compared and trained as."""
    return _WORD.findall(caption.lower())


def plain(captions: Sequence[str]) -> tuple[str, ...]:
    """Captions as their words with single spaces between."""
    return tuple(" ".join(words(caption)) for caption in captions)
