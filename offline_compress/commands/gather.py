# SPDX-License-Identifier: Apache-2.0
"""``edge-vlm-compress gather``: a user's own images or recordings become captioned images to compress with.

What has no caption is captioned by the float model itself: the compressed model then learns to say in this domain what
the float one would.
"""

from __future__ import annotations

import argparse
import hashlib
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import cv2
import numpy as np
from rich.console import Console

from edge_vlm.commands.numbers import count
from edge_vlm.errors import SourceError
from edge_vlm.files import check_replaceable, whole_folder, write_bytes, write_text
from edge_vlm.sources.observations import open_bag
from offline_compress.evaluate.captioning import greedy_captions
from offline_compress.export.checkpoint import model_stamp
from offline_compress.kept_parts import KeptParts
from offline_compress.models.loading import load_vlm
from offline_compress.pairs.captioned_images import words
from offline_compress.pairs.opening import IMAGES, caption_lines
from offline_compress.train.progress import counted, open_console

BATCH = 8
GATHERED = ".gathered"  # marks a folder that may be replaced


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", type=Path, metavar="HF_FOLDER", help="the float model, which captions what is not")
    parser.add_argument("sources", type=Path, nargs="+", metavar="SOURCE", help="folders of images, or recordings")
    parser.add_argument(
        "--out", type=Path, required=True, metavar="DIR", help="folder to write: images, each with .txt"
    )
    parser.add_argument("--every", type=count, default=30, help="of a recording's images (default: every 30th)")
    parser.add_argument("--most", type=count, default=256, help="images altogether (default: %(default)s)")
    parser.add_argument(
        "--resume", choices=["auto", "never"], default="auto", help="captions of an interrupted run are taken over"
    )


def run(args: argparse.Namespace) -> int:
    console = open_console()
    check_replaceable(args.out, GATHERED, "a folder that gather made")
    found = [item for source in args.sources for item in images_of(source, args.every, args.most)]
    kept = np.linspace(0, len(found) - 1, min(args.most, len(found))).round().astype(int) if found else ()
    chosen = [found[index] for index in kept if found[index].read() is not None]
    if not chosen:
        raise SourceError(f"{', '.join(map(str, args.sources))}: no image that can be used", "name other sources")
    silent = [index for index, item in enumerate(chosen) if not item.captions]
    unread = f", {len(kept) - len(chosen)} that cannot be decoded left out" if len(kept) > len(chosen) else ""
    console.print(f"{len(chosen)} of {len(found)} images{unread}, {len(silent)} to be captioned by {args.folder.name}")
    if silent:
        said = captioned(args, [chosen[index] for index in silent], console)
        for index, caption in zip(silent, said, strict=True):
            chosen[index] = replace(chosen[index], captions=(caption,))
    usable = [item for item in chosen if any(words(caption) for caption in item.captions)]
    if not usable:
        raise SourceError(
            f"{args.folder} says nothing about any of {len(chosen)} images", "give captions: a .txt beside each image"
        )
    write_pairs(args.out, usable)
    lost = len(chosen) - len(usable)
    without = f", {lost} left out of which the model says nothing" if lost else ""
    console.print(f"{args.out}: {len(usable)} images with captions{without}", highlight=False)
    return 0


@dataclass(frozen=True)
class Found:
    """``read``: RGB uint8 (rows, cols, 3), or None where it cannot be decoded. Decoded anew each time: many are too
    large to be held together."""

    read: Callable[[], np.ndarray | None]
    captions: tuple[str, ...]
    jpeg: bytes | None = None  # of a recording's image, as it will be written


def captioned(args: argparse.Namespace, images: list[Found], console: Console) -> list[str]:
    """What the float model says of each image. Says the cost after the first batch."""
    vlm = load_vlm(args.folder)
    parts = KeptParts(Path(f"{args.out}.gather.work"), {"model": model_stamp(args.folder)}, args.resume == "auto")
    said: list[str] = []
    with counted("captions", len(images), console) as advance:
        for first in range(0, len(images), BATCH):
            squares = [vlm.image.square(item.read()) for item in images[first : first + BATCH]]
            start = time.perf_counter()
            say = partial(greedy_captions, vlm.model, vlm.tokenizer, vlm.prompt, squares, batch=BATCH,
                          normalise=vlm.image.normalised)  # fmt: skip
            said += parts.of(digest(squares), say)
            if first == 0 and not parts.begun:
                left = len(images) - len(said)
                seconds = left * (time.perf_counter() - start) / len(said)
                console.print(f"captions: about {seconds:.0f} s", highlight=False)
            advance(len(said))
    parts.remove()
    return said


def digest(images: list[np.ndarray]) -> str:
    return hashlib.sha256(b"".join(image.tobytes() for image in images)).hexdigest()[:16]


def images_of(source: Path, every: int, most: int) -> Iterable[Found]:
    """All images of a folder, every n-th of a recording. Raises SourceError for no such source."""
    if source.is_dir() and any(path.suffix.lower() in IMAGES for path in source.iterdir()):
        for path in sorted(path for path in source.iterdir() if path.suffix.lower() in IMAGES):
            told = tuple(line for line in caption_lines(path.with_suffix(".txt")) if words(line))
            yield Found(partial(read_photo, path), told)
        return
    for jpeg in frames_of(source, every, most):
        yield Found(partial(decoded, jpeg), (), jpeg)


def frames_of(recording: Path, every: int, most: int) -> list[bytes]:
    """JPEGs of every n-th image, or of every 2n-th, 4n-th and so on where those were more than twice ``most``: what is
    held does not grow with the recording."""
    kept: list[bytes] = []
    bag = open_bag(recording, event_topic="none")
    try:
        for number, observation in enumerate(bag):
            if number % every == 0:
                kept.append(jpeg_of(observation.frame.image))
                if len(kept) > 2 * most:
                    kept, every = kept[::2], 2 * every
    finally:
        bag.close()
    return kept


def jpeg_of(image: np.ndarray) -> bytes:
    _, jpeg = cv2.imencode(".jpg", image[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, 95])
    return jpeg.tobytes()


def decoded(jpeg: bytes) -> np.ndarray:
    return np.ascontiguousarray(cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)[:, :, ::-1])


def read_photo(path: Path) -> np.ndarray | None:
    try:
        image = cv2.imread(str(path), cv2.IMREAD_COLOR)
    except cv2.error:  # more pixels than OpenCV agrees to
        return None
    return None if image is None else np.ascontiguousarray(image[:, :, ::-1])


def write_pairs(out: Path, pairs: list[Found]) -> None:
    """JPEG and .txt of each. The folder is replaced whole."""
    with whole_folder(out) as folder:
        write_text(folder / GATHERED, "")
        for number, item in enumerate(pairs):
            write_bytes(folder / f"{number:05d}.jpg", item.jpeg or jpeg_of(item.read()))
            write_text(folder / f"{number:05d}.txt", "\n".join(item.captions) + "\n")
