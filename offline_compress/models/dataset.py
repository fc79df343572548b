# SPDX-License-Identifier: Apache-2.0
"""Scenes rendered once: a folder of shards that a training maps into memory.

A shard of up to 500 scenes is three files, `SPLIT-00007.images.npy` uint8 (n, rows, cols, 3) RGB, `.labels.npy`
uint8 (n, 14, 14, channels) and, written last, `.json` with the captions: a shard without it is rendered again, so an
interrupted rendering goes on where it stopped.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from functools import lru_cache
from multiprocessing import get_context
from pathlib import Path

import numpy as np

from edge_vlm.errors import SourceError
from edge_vlm.files import make_folder, whole_file, write_json
from offline_compress.models.patch_labels import patch_labels
from offline_compress.models.scenes import captions, render, sample_scene
from offline_compress.models.scenes.sampling import SPLITS

SHARD = 500
SIZE = (224, 224)


@dataclass(frozen=True)
class SceneSet:
    """Rendered scenes of one split. images: per shard uint8 (n, rows, cols, 3); labels: uint8 (scenes, 14, 14, c)."""

    split: str
    images: tuple[np.ndarray, ...]
    labels: np.ndarray
    captions: tuple[tuple[str, ...], ...]

    def __len__(self) -> int:
        return len(self.captions)

    def image(self, index: int) -> np.ndarray:
        """uint8 (rows, cols, 3) RGB."""
        return self.images[index // SHARD][index % SHARD]


def render_splits(
    folder: Path,
    counts: dict[str, int],
    processes: int = 2,
    report: Callable[[int, int], None] = lambda done, total: None,
) -> None:
    """Render what `folder` lacks of `counts` scenes per split. `report(done, total)` counts scenes.

    Raises SourceError for an unknown split, OutputError where the folder cannot be written.
    """
    tasks = [task for split, count in counts.items() for task in shards_of(folder, split, count)]
    total, missing = sum(task[2] for task in tasks), [task for task in tasks if not is_complete(*task)]
    done = total - sum(task[2] for task in missing)
    report(done, total)
    if not missing:
        return
    make_folder(folder)
    # spawned, not forked: a fork of a process in which PyTorch has threads may find its locks held for ever
    with ProcessPoolExecutor(processes, get_context("spawn"), _single_thread) as pool:
        try:
            for future in as_completed([pool.submit(render_shard, *task) for task in missing]):
                done += future.result()
                report(done, total)
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def open_split(folder: Path, split: str, count: int) -> SceneSet:
    """The first `count` scenes of a split. Raises SourceError where they are missing or of another renderer."""
    images, labels, texts = [], [], []
    for task in shards_of(folder, split, count):
        if not is_complete(*task):
            raise SourceError(
                f"{task[0]}.json: missing, or rendered by another version of the scenes",
                "run edge-vlm-compress train-demo with this --cache-dir, it renders what is missing",
            )
        images.append(np.load(f"{task[0]}.images.npy", mmap_mode="r"))
        labels.append(np.load(f"{task[0]}.labels.npy"))
        texts += json.loads(Path(f"{task[0]}.json").read_text(encoding="utf-8"))["captions"]
    return SceneSet(split, tuple(images), np.concatenate(labels), tuple(tuple(text) for text in texts[:count]))


def shards_of(folder: Path, split: str, count: int) -> list[tuple[Path, str, int, int]]:
    """(path without suffix, split, scenes, first index) of every shard that `count` scenes need."""
    if split not in SPLITS:
        raise SourceError(f"split {split!r} is unknown", f"use one of {', '.join(SPLITS)}")
    return [
        (Path(folder) / f"{split}-{start // SHARD:05d}", split, min(SHARD, count - start), start)
        for start in range(0, count, SHARD)
    ]


def is_complete(stem: Path, split: str, scenes: int, start: int) -> bool:
    """Whether the shard holds at least these scenes, made by this renderer."""
    try:
        content = json.loads(Path(f"{stem}.json").read_text(encoding="utf-8"))
        return content["renderer"] == renderer_version() and len(content["captions"]) >= scenes
    except (OSError, ValueError, KeyError, TypeError):
        return False


def render_shard(stem: Path, split: str, scenes: int, start: int) -> int:
    """Render and write one shard; returns how many scenes."""
    pictures, labels, texts = [], [], []
    for index in range(start, start + scenes):
        picture, label, text = render_sample(split, index)
        pictures.append(picture)
        labels.append(label)
        texts.append(text)
    for name, arrays in (("images", pictures), ("labels", labels)):
        with whole_file(Path(f"{stem}.{name}.npy")) as file:
            np.save(file, np.stack(arrays))
    write_json(Path(f"{stem}.json"), {"renderer": renderer_version(), "captions": texts})
    return scenes


def render_sample(split: str, index: int) -> tuple[np.ndarray, np.ndarray, tuple[str, ...]]:
    """Image, patch labels and captions. Every other moving training scene is seen up to a second later."""
    scene, time_s = sample_scene(index, split), 0.0
    if split == "train" and index % 2 and scene.actor is not None and scene.actor.velocity:
        time_s = float(np.random.default_rng([index, 5]).uniform(0, 1))
    rendering = render(scene, time_s, SIZE)
    return rendering.image, patch_labels(scene, rendering), captions(scene, time_s)


@lru_cache
def renderer_version() -> str:
    """A digest of a few samples: scenes, labels or captions that changed are rendered again, moved code is not."""
    digest = hashlib.sha256()
    for split, index in [("train", 2), ("train", 3), ("train", 16), ("heldout", 5), ("heldout", 8)]:
        image, labels, text = render_sample(split, index)
        digest.update(image.tobytes() + labels.tobytes() + "\n".join(text).encode())
    return digest.hexdigest()[:16]


def _single_thread() -> None:
    import cv2

    os.environ["OMP_NUM_THREADS"] = "1"
    cv2.setNumThreads(1)
