# SPDX-License-Identifier: Apache-2.0
"""What each stage of a frame computes and moves, counted from shapes: the same on every machine.

Multiply-accumulates are those of all matrices and of attention; norms, activations and the gate's own arithmetic are
not counted. Bytes are the tensors that a stage takes in and gives out, and once per call the file of the graph that it
runs, whose weights it reads; caches and intermediate tensors are not counted.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edge_vlm.runtime.bundle import TEXT_FILE, VISION_FILE, Bundle

_FLOAT, _INT32 = 4, 4


@dataclass(frozen=True)
class StageCost:
    """``macs`` multiply-accumulates, of two FLOPs each, and ``bytes`` of one stage of one frame."""

    macs: int = 0
    bytes: int = 0

    @property
    def flops(self) -> int:
        return 2 * self.macs


@dataclass(frozen=True)
class CostModel:
    """Costs of the stages with one bundle."""

    bundle: Bundle

    def change(self, image: np.ndarray, descriptors: np.ndarray) -> StageCost:
        """Camera image in, descriptors ``(tokens, 16, 3)`` out."""
        return StageCost(0, image.nbytes + descriptors.nbytes)

    def resize(self, image: np.ndarray) -> StageCost:
        """Camera image in, the encoder's image out; where only some patches are needed, this is the most it can be."""
        return StageCost(0, image.nbytes + 3 * self.bundle.image.size**2)

    def encode(self, tokens: int, shallow: bool) -> StageCost:
        """Patches and positions of ``tokens`` in, the features of all image tokens out."""
        if tokens == 0:
            return StageCost()
        vision, text = self.bundle.vision, self.bundle.text
        taken = tokens * (3 * self.bundle.image.patch_size**2 * _FLOAT + _INT32)
        given = vision.image_tokens * text.hidden_size * _FLOAT
        return StageCost(vision.encoder_macs(tokens, shallow), self._file(VISION_FILE) + taken + given)

    def prefill(self, first: int, tokens: int, image_tokens: int) -> StageCost:
        """Prompt tokens ``first`` to ``first + tokens``, ``image_tokens`` of which stand for image features."""
        if tokens == 0:
            return StageCost()
        features = image_tokens * self.bundle.text.hidden_size * _FLOAT
        return StageCost(
            self.bundle.text.macs(first, tokens, head_rows=1), self._file(TEXT_FILE) + features + 2 * _INT32 * tokens
        )

    def decode(self, first: int, tokens: int, calls: int) -> StageCost:
        """``tokens`` tokens from position ``first`` on, in ``calls`` calls; each gives the token that follows it."""
        macs = self.bundle.text.macs(first, tokens, head_rows=tokens)
        return StageCost(macs, calls * self._file(TEXT_FILE) + 3 * _INT32 * tokens)

    def _file(self, name: str) -> int:
        return self.bundle.info.files[name].bytes
