# SPDX-License-Identifier: Apache-2.0
"""COCO's captions: a json with "images" (id, file_name) and "annotations" (image_id, caption), images beside it or
in a folder of COCO's layout (``annotations/captions_val2017.json``, ``val2017/*.jpg``)."""

from __future__ import annotations

import json
from pathlib import Path

from edge_vlm.errors import SourceError
from offline_compress.pairs.captioned_images import CaptionedImages, with_captions


def open_coco(path: Path) -> CaptionedImages:
    """``path`` is the json. Images are looked for beside it and in folders around it.

    Raises SourceError for a json of another kind, or where no image is found.
    """
    path = Path(path)
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        files = {image["id"]: str(image["file_name"]) for image in content["images"]}
        captions: dict[str, list[str]] = {name: [] for name in files.values()}
        for annotation in content["annotations"]:
            if annotation["image_id"] in files:
                captions[files[annotation["image_id"]]].append(str(annotation["caption"]))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise SourceError(f"{path}: no captions in COCO's form ({error!r})", "see docs/calibration.md") from error
    found = {name: place for name in captions if (place := locate(name, path)) is not None}
    return with_captions(str(path), captions, lambda name: found[name].read_bytes(), set(found))


def locate(name: str, annotations: Path) -> Path | None:
    """A name that leads out of these folders is not followed."""
    base, split = annotations.parent, annotations.stem.rpartition("_")[2]
    folders = [base, base / "images", base / split, base.parent / split, base.parent / "images"]
    if Path(name).is_absolute() or ".." in Path(name).parts:
        return None
    return next((place / name for place in folders if (place / name).is_file()), None)


def find_annotations(folder: Path, split: str) -> Path | None:
    """The caption file of ``split`` in COCO's layout below ``folder``; None where the folder is not of that layout.

    A single file is taken for every split; without a test file the one of "val" stands for it, as its captions are
    public. Raises SourceError where there are several files and none of the split.
    """
    found = [path for pattern in ("*.json", "annotations/*.json") for path in sorted(folder.glob(pattern))]
    found = [path for path in found if path.name.startswith("captions")] or (found if len(found) == 1 else [])
    if len(found) <= 1:
        return next(iter(found), None)
    for wanted in {"dev": ("dev", "val"), "test": ("test", "val")}.get(split, (split,)):
        for path in found:
            if wanted in path.stem:
                return path
    names = ", ".join(path.name for path in found)
    raise SourceError(f"{folder}: no captions of the split {split!r} among {names}", "give the json itself")
