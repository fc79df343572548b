# SPDX-License-Identifier: Apache-2.0
"""All that is remembered of past frames, in one value that can be reset.

The K,V caches and the token caches belong to the operator delegate; this is the board's side of them. ``valid``
says whether those caches hold a complete frame: after ``reset`` the next frame is computed whole, which overwrites
every row of them.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

import numpy as np

from edge_vlm.sttf.fusion import scene_distance
from edge_vlm.sttf.illumination import Light


@dataclass
class TokenState:
    """Per token: what it showed at its last refresh and when that was. Build with ``TokenState.of(grid)``.

    reference: descriptors ``(tokens, cells, 3)`` at the last refresh, seen under ``light_gain, light_offset
        (tokens, 3)``. event_evidence: events since the last refresh that noise does not explain.
    deep_stamp_ns: when the token was last computed at full depth. shallow: computed at shallow depth since then.
    context_debt: patches that have changed since the token was computed, as a part of all, added up over frames.
    was_active: changed at the previous frame. due_frames: for how many frames it waits for its refresh.
    stamp_ns: of the previous frame, None where it is not known.
    features: last image features ``(image_tokens, dim)``. full_features: those of the last whole encode.
        caption_features: those that the last caption describes; caption_distance: how far the scene has moved from
        them.
    """

    grid: tuple[int, int]
    reference: np.ndarray
    light_gain: np.ndarray
    light_offset: np.ndarray
    event_evidence: np.ndarray
    deep_stamp_ns: np.ndarray
    shallow: np.ndarray
    context_debt: np.ndarray
    was_active: np.ndarray
    due_frames: np.ndarray
    features: np.ndarray | None = None
    full_features: np.ndarray | None = None
    caption_features: np.ndarray | None = None
    caption_distance: float = 0.0
    valid: bool = False
    stamp_ns: int | None = None
    frames_since_full: int = 0
    quiet_frames: int = 0
    resets: Counter = field(default_factory=Counter)

    @classmethod
    def of(cls, grid: tuple[int, int], cells: int = 16) -> TokenState:
        tokens = grid[0] * grid[1]
        return cls(
            grid=grid,
            reference=np.zeros((tokens, cells, 3), np.float32),
            light_gain=np.ones((tokens, 3), np.float32),
            light_offset=np.zeros((tokens, 3), np.float32),
            event_evidence=np.zeros(tokens, np.float32),
            deep_stamp_ns=np.zeros(tokens, np.int64),
            shallow=np.zeros(tokens, bool),
            context_debt=np.zeros(tokens, np.float32),
            was_active=np.zeros(tokens, bool),
            due_frames=np.zeros(tokens, np.int32),
        )

    @property
    def tokens(self) -> int:
        return self.grid[0] * self.grid[1]

    def age_s(self, stamp_ns: int) -> np.ndarray:
        """Seconds since each token was computed at full depth ``(tokens,)``."""
        return (stamp_ns - self.deep_stamp_ns) * 1e-9

    def reset(self, reason: str) -> None:
        """Forget every frame; the reason is counted in ``resets``."""
        fresh = TokenState.of(self.grid, self.reference.shape[1])
        for name, value in vars(fresh).items():
            if name != "resets":
                setattr(self, name, value)
        self.resets[reason] += 1

    def refresh(
        self, refreshed: np.ndarray, descriptors: np.ndarray, light: Light, stamp_ns: int, shallow: bool = False
    ) -> None:
        """Tokens ``refreshed`` (bool) were computed from this frame; all the others keep their references."""
        self.reference[refreshed] = descriptors[refreshed]
        self.light_gain[refreshed], self.light_offset[refreshed] = light.gain, light.offset
        self.event_evidence[refreshed] = 0.0
        self.due_frames[refreshed] = 0
        self.shallow[refreshed] = shallow
        if not shallow:
            self.deep_stamp_ns[refreshed] = stamp_ns
        if refreshed.all() and not shallow:
            self.valid = True
            self.frames_since_full = 0
            self.full_features = None if self.features is None else self.features.copy()

    def rebase_light(self, base: Light) -> None:
        """The light ``base`` counts as none from now on."""
        light = Light(self.light_gain, self.light_offset).relative_to(base)
        self.light_gain, self.light_offset = light.gain, light.offset

    def measure_distance(self) -> None:
        """To be called when ``features`` are new."""
        if self.caption_features is not None:
            self.caption_distance = scene_distance(self.caption_features, self.features)

    def unchanged_since_caption(self) -> np.ndarray:
        """bool ``(image_tokens,)``; none is before the first caption."""
        if self.caption_features is None:
            return np.zeros(len(self.features), bool)
        return (self.features == self.caption_features).all(axis=1)

    def describe(self) -> None:
        """The features have got a caption."""
        self.caption_features, self.caption_distance = self.features.copy(), 0.0

    def observe(self, changed: np.ndarray, due: np.ndarray, computed: np.ndarray, stamp_ns: int | None = None) -> None:
        """Close a frame: which tokens had changed, which wait for their turn, and which were computed.

        What the others attended to changes when a changed token is computed, not before.
        """
        if computed.any():
            renewed = np.count_nonzero(changed & computed) / changed.size
            self.context_debt = np.where(computed, np.float32(0), self.context_debt + np.float32(renewed))
        self.was_active = changed
        self.due_frames = (self.due_frames + np.int32(1)) * due
        self.quiet_frames = 0 if changed.any() else self.quiet_frames + 1
        self.frames_since_full += 1
        self.stamp_ns = stamp_ns
