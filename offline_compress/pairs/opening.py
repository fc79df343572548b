# SPDX-License-Identifier: Apache-2.0
"""One way in for whatever form the images and captions have."""

from __future__ import annotations

from pathlib import Path

from edge_vlm.errors import SourceError
from offline_compress.pairs.captioned_images import CaptionedImages, with_captions
from offline_compress.pairs.coco import find_annotations, open_coco
from offline_compress.pairs.flickr8k import CAPTIONS, open_flickr8k

IMAGES = (".jpg", ".jpeg", ".png", ".bmp", ".webp")


def open_pairs(path: Path, split: str = "train") -> CaptionedImages:
    """A COCO json, or a folder: of the Flickr8k layout, of COCO's, or of images that each have a .txt of their name,
    with a caption a line. ``split`` matters where the form has splits.

    Raises SourceError, saying what was looked for.
    """
    path = Path(path)
    if path.suffix == ".json":
        return open_coco(path)
    if not path.is_dir():
        raise SourceError(f"{path}: no such folder", "give a folder of images and captions, or a COCO json")
    if (path / CAPTIONS).is_file():
        return open_flickr8k(path, split)
    annotations = find_annotations(path, split)
    return open_folder(path) if annotations is None else open_coco(annotations)


def open_folder(folder: Path) -> CaptionedImages:
    """Images with a text file of the same name beside them; those without one are skipped."""
    paths = {path.name: path for path in sorted(folder.iterdir()) if path.suffix.lower() in IMAGES}
    if not paths:
        raise SourceError(f"{folder}: no images ({', '.join(IMAGES)})", "see docs/calibration.md")
    captions = {name: caption_lines(path.with_suffix(".txt")) for name, path in paths.items()}
    return with_captions(str(folder), captions, lambda name: paths[name].read_bytes(), set(paths))


def caption_lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return []
