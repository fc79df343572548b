# SPDX-License-Identifier: Apache-2.0
"""One observation in, one report out: change -> route -> encode -> fuse -> caption.

The pipeline of every driver (ROS node, bag replay, watch): the same observations give the same captions, tokens and
branches. Nothing here depends on wall-clock time but the durations that are reported.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

import numpy as np

from custom_ops.frame_look import load_frame_looker
from custom_ops.scene_pass import load_scene_measurer
from edge_vlm.accounting import CostModel, StageCost
from edge_vlm.anc import FixedRules, MlpRouter, Route, RoutePolicy, SceneFeatures, scene_features
from edge_vlm.anc.hysteresis import BranchHysteresis, HysteresisConfig
from edge_vlm.errors import InputError, OperatorError
from edge_vlm.meters import EnergyMeter, StageClock, open_energy_meter
from edge_vlm.observation import Observation
from edge_vlm.pipeline_config import PipelineConfig, PipelineCounters
from edge_vlm.step_report import Caption, StepReport
from edge_vlm.sttf import Gate, GateDecision, SttfConfig, TokenState
from edge_vlm.sttf.degradation import InputWatch
from edge_vlm.sttf.fusion import CaptionPolicy, NeighbourMerging
from edge_vlm.sttf.scene_watch import Glance, SceneWatch

__all__ = ["CaptionPipeline", "PipelineConfig", "PipelineCounters"]


class ImageEncoder(Protocol):
    """What the pipeline needs of ``edge_vlm.runtime.VisionEncoder``."""

    def resize(self, image: np.ndarray, positions: np.ndarray | None = None) -> np.ndarray: ...

    def patchify(self, resized: np.ndarray, positions: np.ndarray | None = None) -> np.ndarray: ...

    def encode(self, patches: np.ndarray, positions: np.ndarray, shallow: bool = False) -> np.ndarray: ...


class CaptionDecoder(Protocol):
    """What the pipeline needs of ``edge_vlm.runtime.TextDecoder``."""

    def reset(self) -> None: ...

    def generate(self, image_features: np.ndarray, question: str | None, max_new_tokens: int | None): ...


class _Plan(NamedTuple):
    """What to do with this frame: the gate's and the router's word, and which tokens follow from it."""

    decision: GateDecision
    route: Route
    compute: np.ndarray  # bool (tokens,)


class CaptionPipeline:
    """Captions a stream of observations, computing what changed.

    ``bundle``: an ``edge_vlm.runtime.Bundle``. ``encoder``, ``decoder`` and ``meter`` are made from it unless given.
    Not thread-safe: one stream, one pipeline.
    """

    def __init__(
        self,
        bundle,
        config: PipelineConfig | None = None,
        *,
        encoder: ImageEncoder | None = None,
        decoder: CaptionDecoder | None = None,
        meter: EnergyMeter | None = None,
    ) -> None:
        self.config = config or PipelineConfig()
        self.bundle = bundle
        self.counters = PipelineCounters()
        self._grid = (bundle.vision.grid, bundle.vision.grid)
        sttf = self.config.sttf or SttfConfig.from_json(bundle.sttf)
        self._gate = Gate(sttf)
        self._watch = SceneWatch.of(sttf, self._grid, bundle.image.size, load_frame_looker())
        self._input = InputWatch()
        self._routes, self._measurer = _route_policy(bundle, self.config), load_scene_measurer()
        self._captions = CaptionPolicy(
            sttf.scene_distance if self.config.scene_distance is None else self.config.scene_distance,
            self.config.caption_max_age_s,
            self.config.caption_min_interval_s,
        )
        self._merging, self._tokens_merged = NeighbourMerging(self.config.merge_cosine), 0
        self._cost = CostModel(bundle)
        self._encoder, self._decoder = encoder, decoder
        if encoder is None or decoder is None:
            self._open_runtime(bundle)
        self._meter = meter or open_energy_meter()
        self._state = TokenState.of(self._grid)
        self._everything = _recompute_everything(self._state.tokens)
        self._question = self.config.question or None
        self._caption: Caption | None = None
        self._caption_wanted = ""
        self._image_shape: tuple[int, ...] | None = None
        self._last_stamp_ns: int | None = None
        self._last_branch = ""

    def _open_runtime(self, bundle) -> None:
        from edge_vlm.runtime.text_decoder import TextDecoder  # LiteRT: only where it is needed
        from edge_vlm.runtime.vision_encoder import DenseEncoder, VisionEncoder

        kind = DenseEncoder if self.config.recomputes_everything else VisionEncoder
        self._encoder = self._encoder or kind(bundle, threads=self.config.threads)
        self._decoder = self._decoder or TextDecoder(bundle, threads=self.config.threads)

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of visual tokens: the grid on which events are to be counted."""
        return self._grid

    @property
    def energy_source(self) -> str:
        return self._meter.source

    def reset(self, reason: str) -> None:
        """Forget all past frames and the caption; the next frame is computed whole. Counted by reason."""
        self._state.reset(reason)
        self._watch.reset()
        self._input.reset()
        self._routes.reset()
        self._decoder.reset()
        self._caption = None
        self._image_shape = self._last_stamp_ns = None
        self.counters.resets[reason] += 1

    def request_caption(self, question: str | None = None) -> None:
        """Decode a caption at the next step whatever the scene does; ``question`` replaces the standing one."""
        if question is not None:
            self._question = question or None
        self._caption_wanted = "asked for"

    def close(self) -> None:
        """Release the sensors and the interpreters. The pipeline is of no use afterwards."""
        self._meter.close()
        for part in (self._encoder, self._decoder):
            close = getattr(part, "close", None)
            if close is not None:
                close()

    def step(self, observation: Observation) -> StepReport:
        """Raises InputError for an image that is none (the stream may go on), OperatorError where the model fails."""
        clock = StageClock()
        self._check(observation)
        reset_reason = self._reset_where_needed(observation)
        self._meter.begin()
        glance, plan, degradation = None, self._everything, ()
        if not self.config.recomputes_everything:
            with clock.stage("change"):
                glance = self._watch.look(observation.frame.image, observation.events, self._state)
                degradation = self._input.notes(observation.events, glance.descriptors, glance.mean_level)
            with clock.stage("route"):
                plan = self._plan(glance, observation.stamp_ns)
        costs = self._encode(observation, glance, plan, clock)
        refreshed, caption_reason = self._caption_if_due(observation.stamp_ns, clock, costs)
        total_ms = clock.total_ms()
        energy = self._meter.end()
        computed, macs = int(plan.compute.sum()), costs["encode"].macs
        self._count(plan.route.branch, computed, macs, plan.decision.keyframe, refreshed)
        return StepReport(
            index=self.counters.frames - 1,
            stamp_ns=observation.stamp_ns,
            frame_id=observation.frame.frame_id,
            branch=plan.route.branch,
            branch_reason=plan.route.reason,
            tokens_computed=computed,
            tokens_total=self._state.tokens,
            caption=self._caption,
            caption_refreshed=refreshed,
            caption_reason=caption_reason,
            staleness_ms=(observation.stamp_ns - self._caption.stamp_ns) * 1e-6,
            stage_ms=clock.stage_ms,
            total_ms=total_ms,
            energy=energy,
            encoder_macs=macs,
            active=plan.compute.reshape(self._grid),
            reset_reason=reset_reason,
            costs=costs,
            tokens_merged=self._tokens_merged if refreshed else 0,
            degradation=degradation,
        )

    def _check(self, observation: Observation) -> None:
        image = observation.frame.image
        shape = getattr(image, "shape", None)
        if shape is None or len(shape) != 3 or shape[2] != 3 or 0 in shape or image.dtype != np.uint8:
            self.counters.frames_refused += 1
            got = f"{getattr(image, 'dtype', type(image).__name__)} {shape}"
            raise InputError(
                f"image is not uint8 (height, width, 3): got {got}", "check the camera driver's encoding and image size"
            )
        if not isinstance(observation.stamp_ns, (int, np.integer)):
            self.counters.frames_refused += 1
            raise InputError(
                f"stamp {observation.stamp_ns!r} is no whole number of nanoseconds", "check the publisher's clock"
            )
        if observation.events is not None and observation.events.counts.shape != self._grid:
            self.counters.frames_refused += 1
            raise InputError(
                f"events are counted on a grid of {observation.events.counts.shape}, the tokens lie on {self._grid}",
                "count events on the grid of the bundle that is loaded",
            )

    def _reset_where_needed(self, observation: Observation) -> str:
        stamp_ns, shape = observation.stamp_ns, observation.frame.image.shape
        reason = ""
        if self._last_stamp_ns is not None and stamp_ns < self._last_stamp_ns:
            reason = "stamp jumped back"
        elif self._image_shape is not None and shape != self._image_shape:
            reason = "image size changed"
        if reason:
            self.reset(reason)
        self._last_stamp_ns, self._image_shape = stamp_ns, shape
        return reason

    def _plan(self, glance: Glance, stamp_ns: int) -> _Plan:
        decision = self._gate.decide(glance.scores, self._state, stamp_ns)
        asks = self._routes.asks_router(decision, self._state.valid)
        features = self._features(glance, decision) if asks else None
        route = self._routes.choose(decision, features, self._state.valid)
        return _Plan(decision, route, self._routes.tokens(route.branch, decision))

    def _features(self, glance: Glance, decision: GateDecision) -> SceneFeatures:
        confidence = 1.0 if self._caption is None else self._caption.score
        return scene_features(glance, decision, self._state, confidence, self._measurer)

    def _encode(
        self, observation: Observation, glance: Glance | None, plan: _Plan, clock: StageClock
    ) -> dict[str, StageCost]:
        """Runs the branch, refreshes what it computed, and returns the costs so far."""
        state, shallow, image = self._state, plan.route.branch == "shallow", observation.frame.image
        costs = {"encode": StageCost()}
        if glance is not None:
            costs["change"] = self._cost.change(image, glance.descriptors)
        if plan.compute.any():
            positions = np.flatnonzero(plan.compute).astype(np.int32)
            with clock.stage("resize"):
                resized = self._encoder.resize(image, None if len(positions) == state.tokens else positions)
            with clock.stage("encode"):
                state.features = self._run_encoder(resized, positions, shallow)
            if glance is not None:
                state.refresh(plan.compute, glance.descriptors, glance.light, observation.stamp_ns, shallow)
            state.measure_distance()
            costs |= {"resize": self._cost.resize(image), "encode": self._cost.encode(len(positions), shallow)}
        state.observe(plan.decision.changed, plan.decision.due & ~plan.compute, plan.compute, observation.stamp_ns)
        return costs

    def _run_encoder(self, resized: np.ndarray, positions: np.ndarray, shallow: bool) -> np.ndarray:
        try:
            features = self._encoder.encode(self._encoder.patchify(resized, positions), positions, shallow)
            if not np.isfinite(features).all():
                raise OperatorError("the vision encoder gave numbers that are not finite", "edge-vlm doctor")
        except Exception:
            self.reset("encoder failed")  # its caches may be half written
            raise
        return features

    def _caption_if_due(self, stamp_ns: int, clock: StageClock, costs: dict[str, StageCost]) -> tuple[bool, str]:
        state = self._state
        if self.config.recomputes_everything or self._caption_wanted:
            due, reason = True, self._caption_wanted or "reuse is off"
        elif self._caption is None:
            due, reason = True, "first caption"
        else:
            age_s = (stamp_ns - self._caption.stamp_ns) * 1e-9
            settled = state.quiet_frames >= self._gate.config.settle_frames
            due, reason = self._captions.reason_to_refresh(state.caption_distance, age_s, settled)
        if not due:
            return False, reason
        if self.config.recomputes_everything:
            self._decoder.reset()
        features = self._merging.merge(state.features, state.unchanged_since_caption())
        self._tokens_merged = len(state.features) - len(features)
        generation = self._decoder.generate(features, self._question, self.config.max_new_tokens)
        clock.add("prefill", generation.prefill_ms)
        clock.add("decode", generation.decode_ms)
        kept = generation.prompt_tokens - generation.prefilled_tokens
        costs["prefill"] = self._cost.prefill(kept, generation.prefilled_tokens, generation.prefilled_images)
        costs["decode"] = self._cost.decode(
            generation.prompt_tokens, generation.decoded_tokens, generation.decode_calls
        )
        self._caption = Caption(generation.text, generation.score, stamp_ns)
        state.describe()
        self._caption_wanted = ""
        return True, reason

    def _count(self, branch: str, computed: int, macs: int, keyframe: bool, captioned: bool) -> None:
        counters = self.counters
        counters.frames += 1
        counters.captions += captioned
        counters.keyframes += keyframe
        counters.branch_switches += bool(self._last_branch) and branch != self._last_branch
        counters.tokens_computed += computed
        counters.encoder_macs += macs
        counters.branches[branch] += 1
        self._last_branch = branch


def _recompute_everything(tokens: int) -> _Plan:
    everything = np.ones(tokens, bool)
    decision = GateDecision(everything, everything, ~everything, True, False, "reuse is off")
    return _Plan(decision, Route("full", decision.reason), everything)


def _route_policy(bundle, config: PipelineConfig) -> RoutePolicy:
    router = FixedRules() if bundle.router is None else MlpRouter.from_json(bundle.router).in_library()
    hysteresis = BranchHysteresis(getattr(router, "hysteresis", None) or HysteresisConfig())
    override = None if config.route == "auto" else config.route
    learned = None if config.variant == "sttf" else router
    return RoutePolicy(learned, override, whole_frames=config.variant == "anc", hysteresis=hysteresis)
