# SPDX-License-Identifier: Apache-2.0
"""Keeps the router from flickering between branches (paper S admits routing instability; this answer is ours)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

from edge_vlm.errors import BundleError


@dataclass(frozen=True)
class HysteresisConfig:
    """``dwell_frames``: a dearer branch is kept at least that long. ``margin``: and left only for a branch whose
    probability is larger by that much."""

    dwell_frames: int = 3
    margin: float = 0.1

    def to_json(self) -> dict[str, float | int]:
        return asdict(self)

    @classmethod
    def from_json(cls, values: dict | None) -> HysteresisConfig:
        if values is None:
            return cls()
        try:
            return cls(dwell_frames=int(values["dwell_frames"]), margin=float(values["margin"]))
        except (KeyError, TypeError, ValueError) as error:
            raise BundleError(f"the router's hysteresis is impossible: {error}", "write the bundle again") from error


@dataclass
class BranchHysteresis:
    """Dearer at once, cheaper slowly: a change must never wait for a dwell time to end.

    The dearest branch is not held: a whole encode puts everything right at once, and one after the other would be the
    costliest way to be steady.
    """

    config: HysteresisConfig
    current: int | None = None
    frames_held: int = 0

    def reset(self) -> None:
        self.current, self.frames_held = None, 0

    def choose(self, probabilities: Sequence[float], branches: Sequence[str]) -> tuple[str, bool]:
        """The branch of this frame, and whether it was held against the router's wish. ``branches`` cheapest first."""
        wish = max(range(len(branches)), key=probabilities.__getitem__)  # the first of equals, which is the cheapest
        if wish == len(branches) - 1:
            self.frames_held += 1
            return branches[wish], False
        if self.current is None or wish > self.current:
            self.current, self.frames_held = wish, 0
        self.frames_held += 1
        if wish == self.current:
            return branches[wish], False
        gain = probabilities[wish] - probabilities[self.current]
        if self.frames_held <= self.config.dwell_frames or gain < self.config.margin:
            return branches[self.current], True
        self.current, self.frames_held = wish, 1
        return branches[wish], False
