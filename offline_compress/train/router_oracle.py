# SPDX-License-Identifier: Apache-2.0
"""What each branch of the encoder would have given: the facts that the router learns from.

Gate and encoder run over clips as they do on board. Where the router would have a choice, a branch is taken at random,
so that caches, ages and debts of all kinds occur as they will on board. Before a ``sparse`` or ``full`` one all of them
are tried on the same caches and their image features are compared with those of a whole encode: a shallow pass first,
as the full-depth pass over the same tokens after it overwrites all that it wrote. Before ``reuse`` and ``shallow``
nothing can be tried: the caches must stay as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from custom_ops.frame_look import load_frame_looker
from edge_vlm.anc import SceneFeatures, scene_features
from edge_vlm.runtime.bundle import VisionInfo
from edge_vlm.sttf import Gate, GateDecision, SttfConfig, TokenState
from edge_vlm.sttf.fusion import scene_distance
from edge_vlm.sttf.scene_watch import SceneWatch
from offline_compress.train.router_clips import ClipFrame

_TAKEN = {"reuse": 0.2, "shallow": 0.12, "sparse": 0.58, "full": 0.1}  # how often, where there is a choice
_MOST_REUSES = 3  # in a row, as ``RoutePolicy`` has it
_CONFIDENCE_EVERY = 8


class Encoder(Protocol):
    """``edge_vlm.runtime.VisionEncoder``, or a fake."""

    def resize(self, image: np.ndarray) -> np.ndarray: ...

    def patchify(self, resized: np.ndarray, positions: np.ndarray | None = None) -> np.ndarray: ...

    def encode(self, patches: np.ndarray, positions: np.ndarray, shallow: bool = False) -> np.ndarray: ...


@dataclass(frozen=True)
class EncodedFrame:
    """A frame at the encoder's size, with its image features by a whole encode ``(image_tokens, dim)``.

    ``still``: nothing but noise differs from the frame before.
    """

    stamp_ns: int
    resized: np.ndarray
    dense: np.ndarray
    still: bool


@dataclass(frozen=True)
class Trial:
    """One frame in which the router had a choice.

    ``errors (4,)``: scene distance of each branch's features from the dense ones; ``costs (4,)``: multiply-accumulates
    of the branch over those of a whole encode. Both in the order of ``BRANCHES``. ``clip``: which clip it is from.
    """

    clip: int
    features: SceneFeatures
    errors: np.ndarray
    costs: np.ndarray

    def to_json(self) -> dict:
        features = {name: float(value) for name, value in self.features._asdict().items()}
        return {"clip": self.clip, "features": features, "errors": self.errors.tolist(), "costs": self.costs.tolist()}

    @classmethod
    def from_json(cls, values: dict) -> Trial:
        errors, costs = (np.array(values[name], np.float32) for name in ("errors", "costs"))
        return cls(values["clip"], SceneFeatures(**values["features"]), errors, costs)


@dataclass(frozen=True)
class GateQuality:
    """What a gate's settings give with full-depth refreshes alone: errors per frame, and tokens computed of all."""

    errors: np.ndarray
    token_share: float


def encode_whole(encoder: Encoder, clip: Iterable[ClipFrame], tokens: int) -> list[EncodedFrame]:
    """Every frame of a clip encoded whole."""
    everything = np.arange(tokens, dtype=np.int32)
    frames = []
    for frame in clip:
        resized = encoder.resize(frame.image)
        dense = np.array(encoder.encode(encoder.patchify(resized), everything))
        frames.append(EncodedFrame(frame.stamp_ns, resized, dense, frame.still))
    return frames


class _Rollout:
    """The gate's side of one clip on board, with the caches of ``encoder``."""

    def __init__(self, encoder: Encoder, config: SttfConfig, grid: tuple[int, int], size: int) -> None:
        self.encoder, self.gate = encoder, Gate(config)
        self.state = TokenState.of(grid)
        self.watch = SceneWatch.of(config, grid, size, load_frame_looker())

    def look(self, frame: EncodedFrame):
        glance = self.watch.look(frame.resized, None, self.state)
        return glance, self.gate.decide(glance.scores, self.state, frame.stamp_ns)

    def encode(self, frame: EncodedFrame, tokens: np.ndarray, shallow: bool = False) -> np.ndarray:
        positions = np.flatnonzero(tokens).astype(np.int32)
        return np.array(self.encoder.encode(self.encoder.patchify(frame.resized, positions), positions, shallow))

    def take(self, frame: EncodedFrame, glance, decision, branch: str) -> np.ndarray:
        """Run a branch as the pipeline does; the image features after it."""
        tokens = {"reuse": np.zeros_like(decision.active), "full": np.ones_like(decision.active)}.get(
            branch, decision.active
        )
        if tokens.any():
            shallow = branch == "shallow"
            self.state.features = self.encode(frame, tokens, shallow)
            self.state.refresh(tokens, glance.descriptors, glance.light, frame.stamp_ns, shallow)
        self.state.observe(decision.changed, decision.due & ~tokens, tokens, frame.stamp_ns)
        return self.state.features


def gate_quality(
    encoder: Encoder, clips: Sequence[Sequence[EncodedFrame]], config: SttfConfig, grid: tuple[int, int], size: int
) -> GateQuality:
    """Errors of the gate with these settings over encoded clips, whenever something was reused."""
    errors: list[float] = []
    computed = frames = 0
    for clip in clips:
        rollout = _Rollout(encoder, config, grid, size)
        for frame in clip:
            glance, decision = rollout.look(frame)
            features = rollout.take(frame, glance, decision, "sparse")
            computed, frames = computed + int(decision.active.sum()), frames + 1
            errors.append(scene_distance(frame.dense, features))
    return GateQuality(np.array(errors), computed / (frames * grid[0] * grid[1]))


def trials_of_clip(
    encoder: Encoder,
    clip: Sequence[EncodedFrame],
    index: int,
    config: SttfConfig,
    vision: VisionInfo,
    size: int,
    confidence: Callable[[np.ndarray], float],
) -> list[Trial]:
    """All branches, where there is a choice and the caches allow it. ``confidence`` scores a caption of features."""
    rng = np.random.default_rng([index, 5])
    rollout = _Rollout(encoder, config, (vision.grid, vision.grid), size)
    trials, score, reuses = [], 1.0, 0
    for number, frame in enumerate(clip):
        if number % _CONFIDENCE_EVERY == 0:
            score = confidence(frame.dense)
        glance, decision = rollout.look(frame)
        branch = "sparse"
        if has_choice(decision):
            branch = str(rng.choice(list(_TAKEN), p=list(_TAKEN.values())))
            branch = "sparse" if branch == "reuse" and reuses == _MOST_REUSES else branch
            if branch in ("sparse", "full"):
                trials.append(_trial(rollout, frame, glance, decision, index, score, vision))
        reuses = reuses + 1 if branch == "reuse" else 0
        rollout.take(frame, glance, decision, branch)
    return trials


def has_choice(decision: GateDecision) -> bool:
    """Whether the router decides, and not the rules above it."""
    return bool(decision.active.any()) and not decision.keyframe and not decision.deep_only


def _trial(rollout: _Rollout, frame: EncodedFrame, glance, decision, index: int, score: float, vision: VisionInfo):
    before, tokens = rollout.state.features, int(decision.active.sum())
    results = (before, rollout.encode(frame, decision.active, shallow=True), rollout.encode(frame, decision.active))
    errors = [scene_distance(frame.dense, result) for result in results]
    macs = (0, vision.encoder_macs(tokens, True), vision.encoder_macs(tokens), vision.encoder_macs(vision.tokens))
    features = scene_features(glance, decision, rollout.state, score)
    return Trial(index, features, np.array([*errors, 0.0], np.float32), np.array(macs, np.float32) / macs[-1])
