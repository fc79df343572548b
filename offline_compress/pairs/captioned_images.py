# SPDX-License-Identifier: Apache-2.0
"""Images with their captions, wherever they come from; what cannot be used is left out, counted and named."""

from __future__ import annotations

import re
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import cv2
import numpy as np

from edge_vlm.errors import SourceError

_WORD = re.compile(r"[\w']+")
SHOWN = 5  # names in a message


@dataclass(frozen=True)
class CaptionedImages:
    """``read`` gives the bytes of an image by name. ``skipped``: why an image of that name is not among ``names``.
    ``decoded``: all of them are known to be images."""

    source: str
    names: tuple[str, ...]
    captions: tuple[tuple[str, ...], ...]
    read: Callable[[str], bytes]
    skipped: Mapping[str, str] = field(default_factory=dict)
    decoded: bool = False

    def __len__(self) -> int:
        return len(self.names)

    def image(self, index: int) -> np.ndarray:
        """uint8 (rows, cols, 3) RGB. Raises SourceError for an image that is missing or cannot be decoded."""
        name = self.names[index]
        try:
            content = self.read(name)
        except (OSError, KeyError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
            raise SourceError(f"{name}: cannot be read ({error})", "copy the image again") from error
        try:
            image = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR) if content else None
        except cv2.error as error:  # more pixels than OpenCV agrees to
            raise SourceError(f"{name}: {error.err or error}", "make it smaller, or remove it") from error
        if image is None:
            raise SourceError(f"{name}: not an image that OpenCV reads", "copy the image again, or remove it")
        return np.ascontiguousarray(image[:, :, ::-1])

    def chosen(self, indices: Sequence[int], decoded: bool = False) -> CaptionedImages:
        """These alone, in this order; nothing of them counts as skipped."""
        names, captions = (tuple(row[i] for i in indices) for row in (self.names, self.captions))
        return replace(self, names=names, captions=captions, skipped={}, decoded=decoded or self.decoded)

    def plain(self) -> CaptionedImages:
        """The same with captions of lower-case words, for models that are trained on such."""
        return replace(self, captions=tuple(plain(texts) for texts in self.captions))

    def decodable(
        self, most: int | None = None, seed: int | None = None, report: Callable[[int], None] = lambda done: None
    ) -> tuple[list[int], dict[str, str]]:
        """Indices of up to ``most`` images that decode, in order or, with ``seed``, drawn at random; and the others
        met on the way, with the reason. ``report`` gets how many were looked at; what is known to decode is not
        looked at again. Raises SourceError where not a single one decodes."""
        order = range(len(self)) if seed is None else np.random.default_rng(seed).permutation(len(self)).tolist()
        good, bad = [], dict(self.skipped)
        for looked, index in enumerate(order, start=1):
            if most is not None and len(good) >= most:
                break
            try:
                if not self.decoded:
                    self.image(index)
                good.append(index)
            except SourceError as error:
                bad[self.names[index]] = error.what.removeprefix(f"{self.names[index]}: ")
            report(looked)
        if not good:
            raise SourceError(f"{self.source}: none of {len(self)} images can be decoded", "copy the images again")
        return good, bad


def with_captions(
    source: str, captions: Mapping[str, Sequence[str]], read: Callable[[str], bytes], present: set[str]
) -> CaptionedImages:
    """Keeps images that are there and have a caption with a word in it; the others are ``skipped``.

    Raises SourceError where none is left.
    """
    kept: dict[str, tuple[str, ...]] = {}
    skipped = {}
    for name, texts in captions.items():
        told = tuple(" ".join(text.split()) for text in texts if words(text))
        if name not in present:
            skipped[name] = "the image is missing"
        elif not told:
            skipped[name] = "its caption is empty" if texts else "it has no caption"
        else:
            kept[name] = told
    if not kept:
        raise SourceError(
            f"{source}: no image with a caption ({skipped_text(skipped)})",
            "let the float model caption them: edge-vlm-compress gather; or see docs/calibration.md",
        )
    return CaptionedImages(source, tuple(kept), tuple(kept.values()), read, skipped)


def skipped_text(skipped: Mapping[str, str]) -> str:
    """ "3 skipped: a.jpg (its caption is empty), ..."; empty for none."""
    if not skipped:
        return ""
    named = ", ".join(f"{name} ({reason})" for name, reason in first(skipped.items()))
    return f"{len(skipped)} skipped: {named}{', ...' if len(skipped) > SHOWN else ''}"


def first(items) -> Iterator:
    return (item for item, _ in zip(items, range(SHOWN), strict=False))


def words(text: str) -> list[str]:
    """Lower-case words without punctuation."""
    return _WORD.findall(text.lower())


def plain(captions: Sequence[str]) -> tuple[str, ...]:
    """Captions as lower-case words with single spaces between: what a small captioner is trained to say."""
    return tuple(" ".join(words(caption)) for caption in captions)
