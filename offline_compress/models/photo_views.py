# SPDX-License-Identifier: Apache-2.0
"""Views of training photos and what the teacher sees in them, computed once and kept in a cache folder.

View 0 is the whole photo, the others are random crops, every other one mirrored. Per view: `view-V.pixels.npy` uint8
(photos, size, size, 3), `view-V.features.npy` float16 (photos, 49, components) and, written last, `view-V.json`: a view
without it is computed again. `basis.npz` holds the principal components of the teacher's features.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from edge_vlm.files import make_folder, write_json
from offline_compress.models.mobilenet_features import SIDE, MobileNetFeatures
from offline_compress.pairs.captioned_images import CaptionedImages

COMPONENTS = 192
BASIS_PHOTOS = 300
LEAST_AREA, MOST_ASPECT = 0.5, 1.25


@dataclass(frozen=True)
class PhotoViews:
    """pixels: per view uint8 (photos, size, size, 3), mapped; features: per view float16 (photos, 49, components)."""

    pixels: tuple[np.ndarray, ...]
    features: tuple[np.ndarray, ...]

    def __len__(self) -> int:
        return len(self.pixels)

    @staticmethod
    def mirrored(view: int) -> bool:
        return view % 2 == 1


def prepare_views(
    photos: CaptionedImages,
    teacher: Path,
    cache: Path,
    size: int,
    views: int,
    report: Callable[[int, int], None] = lambda done, total: None,
) -> PhotoViews:
    """Computes what ``cache`` lacks, view by view. Raises SourceError for a photo that cannot be decoded, InputError
    for a teacher that is none, OutputError where the folder cannot be written."""
    identity = {"photos": digest(photos.names), "size": size, "components": COMPONENTS}
    total = views * len(photos)
    missing = [view for view in range(views) if read_identity(cache / f"view-{view}.json") != identity]
    if missing:
        make_folder(cache)
        network = MobileNetFeatures(teacher)
        mean, basis = principal_components(photos, network, cache)
    for done, view in enumerate(missing, start=views - len(missing)):
        first = done * len(photos)
        compute_view(
            photos, view, size, cache, lambda image: (network(image) - mean) @ basis,
            lambda count, first=first: report(first + count, total),
        )  # fmt: skip
        write_json(cache / f"view-{view}.json", identity)
    report(total, total)
    return PhotoViews(
        tuple(np.load(cache / f"view-{view}.pixels.npy", mmap_mode="r") for view in range(views)),
        tuple(np.load(cache / f"view-{view}.features.npy", mmap_mode="r") for view in range(views)),
    )


def compute_view(
    photos: CaptionedImages,
    view: int,
    size: int,
    cache: Path,
    features: Callable[[np.ndarray], np.ndarray],
    report: Callable[[int], None],
) -> None:
    shapes = {"pixels": (np.uint8, (size, size, 3)), "features": (np.float16, (SIDE * SIDE, COMPONENTS))}
    files = {
        name: np.lib.format.open_memmap(
            cache / f"view-{view}.{name}.npy", mode="w+", dtype=kind, shape=(len(photos), *shape)
        )
        for name, (kind, shape) in shapes.items()
    }
    for index in range(len(photos)):
        seen = view_of(photos.image(index), view, index)
        method = cv2.INTER_AREA if max(seen.shape[:2]) > size else cv2.INTER_LINEAR
        files["pixels"][index] = cv2.resize(seen, (size, size), interpolation=method)
        files["features"][index] = features(seen)
        if index % 50 == 0:
            report(index)
    for file in files.values():
        file.flush()


def view_of(image: np.ndarray, view: int, index: int) -> np.ndarray:
    """The whole image, or a crop of at least half of it that depends on ``view`` and ``index`` alone."""
    if view == 0:
        return image
    rng = np.random.default_rng([view, index])
    height, width = image.shape[:2]
    area, aspect = rng.uniform(LEAST_AREA, 1), MOST_ASPECT ** rng.uniform(-1, 1)
    rows, cols = min(1.0, (area * aspect) ** 0.5), min(1.0, (area / aspect) ** 0.5)
    rows, cols = max(1, round(rows * height)), max(1, round(cols * width))
    top, left = rng.integers(0, height - rows + 1), rng.integers(0, width - cols + 1)
    crop = image[top : top + rows, left : left + cols]
    return np.ascontiguousarray(crop[:, ::-1] if PhotoViews.mirrored(view) else crop)


def principal_components(
    photos: CaptionedImages, network: MobileNetFeatures, cache: Path
) -> tuple[np.ndarray, np.ndarray]:
    """Mean (1280,) and basis (1280, components) of the features of some whole photos, scaled so that a component of
    standard deviation d keeps d ** 0.5 and the strongest has 1: the weak ones count, their noise does not rule."""
    path = cache / "basis.npz"
    if not path.is_file():
        rows = np.concatenate([network(photos.image(i)) for i in range(min(BASIS_PHOTOS, len(photos)))])
        mean = rows.mean(0)
        _, deviations, components = np.linalg.svd((rows - mean)[:: max(1, len(rows) // 6000)], full_matrices=False)
        kept = min(COMPONENTS, len(components))
        spread = (rows - mean) @ components[:kept].T
        scale = spread.std(0) ** -0.5 * spread[:, :1].std() ** -0.5
        basis = np.zeros((rows.shape[1], COMPONENTS), np.float32)
        basis[:, :kept] = components[:kept].T * scale
        np.savez(path, mean=mean, basis=basis)
    stored = np.load(path)
    return stored["mean"], stored["basis"]


def digest(names: tuple[str, ...]) -> str:
    return hashlib.sha256("\n".join(names).encode()).hexdigest()[:16]


def read_identity(path: Path) -> dict | None:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
