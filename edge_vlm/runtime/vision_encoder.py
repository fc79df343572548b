# SPDX-License-Identifier: Apache-2.0
"""Runs vision.tflite: some patches are computed, the others are remembered; or all, and nothing is."""

from __future__ import annotations

import numpy as np

from edge_vlm.errors import BundleError
from edge_vlm.runtime.bundle import EXPORT_AGAIN, VISION_FILE, Bundle
from edge_vlm.runtime.image import patchify, squash, squash_patches
from edge_vlm.runtime.interpreter import open_graph


class VisionEncoder:
    """Keeps K,V and final hidden states of all tokens in the graph's caches between calls.

    Any number of active tokens may follow any other: LiteRT plans its memory anew for each, which was measured at
    0.1-0.3 ms for the demo model (x86-64), so they are not rounded up to a few sizes.
    """

    def __init__(self, bundle: Bundle, threads: int | None = None, engine: str | None = None) -> None:
        """``threads`` and ``engine`` as in `open_graph`. Raises BundleError or OperatorError where it cannot run."""
        self.info = bundle.info
        self.graph = open_graph(bundle.file(VISION_FILE), threads, engine)
        for name in ("encode", "encode_shallow"):
            if name not in self.graph.signatures:
                raise BundleError(f"{bundle.file(VISION_FILE)}: no signature {name}", EXPORT_AGAIN)
        self.image_features: np.ndarray | None = None  # of the last call; None before the first full one

    @property
    def primed(self) -> bool:
        """Whether all tokens were computed once since the last reset, so that some of them can be."""
        return self.image_features is not None

    def reset(self) -> None:
        """Forget the scene: the next call must compute all tokens."""
        self.image_features = None

    def close(self) -> None:
        """Free the graph and its caches; the encoder is of no use afterwards."""
        self.graph = self.image_features = None

    def preprocess(self, image_rgb: np.ndarray) -> np.ndarray:
        """uint8 (height, width, 3) -> patches float32 (N, 3 P P). Raises InputError."""
        return self.patchify(self.resize(image_rgb))

    def resize(self, image_rgb: np.ndarray, positions: np.ndarray | None = None) -> np.ndarray:
        """uint8 (height, width, 3) -> uint8 (size, size, 3), right at least in the patches of ``positions`` (default:
        all). Raises InputError."""
        if positions is None:
            return squash(image_rgb, self.info.image.size)
        return squash_patches(image_rgb, self.info.image, positions)

    def patchify(self, resized: np.ndarray, positions: np.ndarray | None = None) -> np.ndarray:
        """uint8 (size, size, 3) -> normalised patches float32 (N, 3 P P), or (A, 3 P P) of ``positions`` alone."""
        return patchify(resized, self.info.image, positions)

    def encode(self, patches: np.ndarray, positions: np.ndarray, shallow: bool = False) -> np.ndarray:
        """Compute the tokens at ``positions`` and return the features of the whole image.

        ``patches`` float32 (A, 3 P P) of the active tokens alone, ``positions`` their token indices (A,),
        ascending. ``shallow`` runs the first blocks only and adds what the others gave each token last time.
        Returns image_features float32 (I, D_text), valid until the next call. With A = 0 nothing runs.
        Raises ValueError where the first call after a reset is not a full one, and OperatorError where the graph
        fails; its caches are then unknown, so the next call must be full again.
        """
        positions = self.check(patches, positions, shallow)
        if len(positions) == 0:
            return self.image_features
        signature = "encode_shallow" if shallow else "encode"
        inputs = {"patches": np.ascontiguousarray(patches, np.float32), "positions": positions}
        self.reset()  # until the graph has run to its end
        self.image_features = self.graph.run(signature, inputs)["image_features"]
        return self.image_features

    def check(self, patches: np.ndarray, positions: np.ndarray, shallow: bool) -> np.ndarray:
        positions = np.ascontiguousarray(positions, np.int32)
        tokens = self.info.vision.tokens
        if positions.ndim != 1 or len(patches) != len(positions):
            raise ValueError(f"{len(patches)} patches for positions of shape {positions.shape}")
        if len(positions) and (positions[0] < 0 or positions[-1] >= tokens or (np.diff(positions) <= 0).any()):
            raise ValueError(f"positions are not ascending within 0..{tokens - 1}")
        if not self.primed and (shallow or len(positions) != tokens):
            raise ValueError(f"the first call must encode all {tokens} tokens in full")
        return positions


class DenseEncoder(VisionEncoder):
    """Computes every image whole and keeps nothing of it, in less memory: for those who never reuse a token.

    The features are a `VisionEncoder`'s, bit for bit. Bundles of earlier versions have no signature for it and remember
    all the same.
    """

    def encode(self, patches: np.ndarray, positions: np.ndarray, shallow: bool = False) -> np.ndarray:
        """As `VisionEncoder.encode`, for all tokens at full depth. Raises ValueError for fewer, and OperatorError."""
        self.reset()
        if "encode_dense" not in self.graph.signatures:
            return super().encode(patches, positions, shallow)
        self.check(patches, positions, shallow)
        self.image_features = self.graph.run("encode_dense", {"patches": np.ascontiguousarray(patches, np.float32)})[
            "image_features"
        ]
        return self.image_features
