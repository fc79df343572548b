# SPDX-License-Identifier: Apache-2.0
"""Baselines without memory that compute fewer tokens of each frame: merged ones (after ToMe) and a regular pattern.

ToMe (Bolya et al., ICLR 2023) merges between all blocks of the encoder, by its keys; here patches are merged once,
before the first block, by their pixels. Both baselines run the bundle's own weights in the NumPy executor: computed
tokens attend to each other alone, and every other token takes the output of the one that stands for it.
"""

from __future__ import annotations

import numpy as np

from custom_ops import spec
from custom_ops.executor import Caches, NumpyInterpreter
from custom_ops.reference import AttentionCache, TokenCache
from edge_vlm.runtime import Bundle
from edge_vlm.runtime.bundle import VISION_FILE
from edge_vlm.runtime.image import patchify, squash


class _Represented(TokenCache):
    """Rows of tokens that were not computed are those of their representatives ``(capacity,)``."""

    representative: np.ndarray

    def scatter(self, x: np.ndarray, positions: np.ndarray) -> np.ndarray:
        super().scatter(x, positions)
        return self.rows[self.representative]


class _Forgetful(Caches):
    """Caches that can be told to forget the frame before, and which token stands for which."""

    def of_tokens(self, attributes: spec.TokenScatter | spec.TokenGather) -> TokenCache:
        return self.tokens.setdefault(attributes.cache_id, _Represented(attributes.capacity, attributes.width))

    def begin(self, representative: np.ndarray) -> None:
        attention: AttentionCache
        for attention in self.attention.values():
            attention.written[:] = False
        for tokens in self.tokens.values():
            tokens.representative = representative


class FewerTokensEncoder:
    """The bundle's vision encoder on a part of the tokens of each frame."""

    def __init__(self, bundle: Bundle) -> None:
        """Raises OperatorError where the graph cannot be read."""
        self.info = bundle.info
        self.caches = _Forgetful()
        self.run = NumpyInterpreter(bundle.file(VISION_FILE), self.caches).get_signature_runner("encode")

    def merged(self, image: np.ndarray, tokens: int) -> np.ndarray:
        """Features ``(image_tokens, dim)`` with about ``tokens`` tokens left after merging the most alike patches."""
        patches = self._patches(image)
        groups = merge_alike(patches, tokens)
        means = np.stack([patches[groups == group].mean(axis=0) for group in np.unique(groups)])
        return self._encode(means, groups)

    def dropped(self, image: np.ndarray, tokens: int) -> np.ndarray:
        """Features with ``tokens`` tokens spread evenly over the picture; the others are dropped."""
        patches, groups = self._patches(image), nearest_of_even(self.info.vision.grid, tokens)
        return self._encode(patches[np.unique(groups)], groups)

    def _patches(self, image: np.ndarray) -> np.ndarray:
        return patchify(squash(image, self.info.image.size), self.info.image)

    def _encode(self, patches: np.ndarray, groups: np.ndarray) -> np.ndarray:
        """``groups (tokens,)``: the token index that stands for each; ``patches`` of these, ascending."""
        self.caches.begin(groups)
        return self.run(patches=patches, positions=np.unique(groups).astype(np.int32))["image_features"]


def merge_alike(patches: np.ndarray, tokens: int) -> np.ndarray:
    """Bipartite soft matching until about ``tokens`` groups are left: the token index of each patch's group.

    ``patches (N, values)``. Each round splits the groups into two sets by turns and merges the most alike pairs across;
    a group's token is the lowest of its members.
    """
    groups = np.arange(len(patches))
    while (left := np.unique(groups)).size > tokens:
        means = np.stack([patches[groups == group].mean(axis=0) for group in left])
        means = means / np.maximum(np.linalg.norm(means, axis=1, keepdims=True), 1e-12)
        ours, theirs = left[0::2], left[1::2]
        if not theirs.size:
            break
        likeness = means[0::2] @ means[1::2].T
        partner = likeness.argmax(axis=1)
        best = np.argsort(-likeness.max(axis=1), kind="stable")[: left.size - tokens]
        for index in best:
            groups[groups == ours[index]] = theirs[partner[index]]
    lowest = {group: int(np.flatnonzero(groups == group)[0]) for group in np.unique(groups)}
    return np.array([lowest[group] for group in groups])


def nearest_of_even(grid: int, tokens: int) -> np.ndarray:
    """``tokens`` patches on an even pattern over a ``grid`` x ``grid`` picture: the nearest of them for each patch."""
    side = tokens**0.5
    rows = max(1, round(side))
    columns = max(1, round(tokens / rows))
    y = ((np.arange(rows) + 0.5) * grid / rows).astype(int)
    x = ((np.arange(columns) + 0.5) * grid / columns).astype(int)
    near_y = y[np.abs(np.arange(grid)[:, None] - y).argmin(axis=1)]
    near_x = x[np.abs(np.arange(grid)[:, None] - x).argmin(axis=1)]
    return (near_y[:, None] * grid + near_x).reshape(-1)
