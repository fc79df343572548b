# SPDX-License-Identifier: Apache-2.0
"""Events in, a class out, step by step: draw -> what changed -> encode those tokens -> add to the evidence.

The event benchmark of paper S on the captioner's own parts: change signal, gate, token state, sparse encoder.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from edge_vlm.errors import BundleError, InputError, OperatorError
from edge_vlm.events.model import TRAIN_AGAIN, EventModel
from edge_vlm.events.surface import EventSurface
from edge_vlm.meters import StageClock
from edge_vlm.observation import Events
from edge_vlm.runtime.interpreter import open_graph
from edge_vlm.sources.event_accumulator import EventAccumulator
from edge_vlm.sources.event_clip import clip_between
from edge_vlm.sttf import Gate, SttfConfig, TokenState
from edge_vlm.sttf.change import EventChange
from edge_vlm.sttf.illumination import Light


@dataclass(frozen=True)
class EventStep:
    """One step's result.

    ``probabilities`` float32 (classes,) of the stream so far; ``label`` is the likeliest class and ``score`` its
    probability. ``logits`` float32 (classes,) of this step alone. ``tokens_computed`` of ``tokens_total`` ran through
    the encoder, those in ``active`` bool (grid, grid). ``events``: how many this step drew. ``stage_ms`` holds
    wall-clock milliseconds per stage (draw, change, encode).
    """

    index: int
    stamp_us: int
    label: str
    score: float
    probabilities: np.ndarray = field(repr=False)
    logits: np.ndarray = field(repr=False)
    events: int
    tokens_computed: int
    tokens_total: int
    encoder_macs: int
    reason: str
    stage_ms: dict[str, float]
    total_ms: float
    active: np.ndarray = field(repr=False)


@dataclass
class Evidence:
    """Mean log-probability of the steps so far, old ones fading: the same rule for a clip and for an endless stream."""

    classes: int
    memory_s: float

    def __post_init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        self.total, self.weight = np.zeros(self.classes), 0.0

    def add(self, logits: np.ndarray, duration_s: float) -> np.ndarray:
        """Probabilities float32 (classes,) with this step's logits (classes,) counted in."""
        fade = math.exp(-duration_s / self.memory_s)
        self.total = fade * self.total + log_softmax(logits)
        self.weight = fade * self.weight + 1.0
        return np.exp(log_softmax(self.total / self.weight)).astype(np.float32)


class EventClassifier:
    """Classifies one stream of events. Not thread-safe: one stream, one classifier."""

    def __init__(
        self,
        model: EventModel,
        reuse: bool = True,
        threads: int | None = 1,
        engine: str | None = None,
        sttf: SttfConfig | None = None,
    ) -> None:
        """``reuse`` False computes every token at every step; ``threads`` and ``engine`` as in `open_graph`; ``sttf``
        in place of the model's gate. Raises BundleError or OperatorError where the model cannot run."""
        self.model, self.reuse = model, reuse
        self._graph = open_graph(model.graph, threads, engine)
        if "encode" not in self._graph.signatures:
            raise BundleError(f"{model.graph}: no signature encode", TRAIN_AGAIN)
        self._grid = (model.surface.grid, model.surface.grid)
        self._surface = EventSurface(model.surface)
        self._counter = EventAccumulator(self._grid)
        config = sttf or SttfConfig.from_json(model.sttf)
        self._gate, self._change = Gate(config), EventChange(config)
        self._state = TokenState.of(self._grid, cells=0)
        self._evidence = Evidence(len(model.classes), model.memory_s)
        self._logits: np.ndarray | None = None
        self._stamp_us: int | None = None
        self._index = 0

    @property
    def engine_name(self) -> str:
        return self._graph.engine_name

    def reset(self, reason: str = "new stream") -> None:
        """Forget the stream so far; the next step computes every token."""
        self._surface = EventSurface(self.model.surface)
        self._counter.reset()
        self._change.reset()
        self._state.reset(reason)
        self._evidence.reset()
        self._logits = self._stamp_us = None
        self._index = 0

    def run(self, events: Events) -> Iterator[EventStep]:
        """All steps of a recording from a reset on: one for each window of the model that begins within it.

        Raises InputError for a recording without events, for times that run backward and for too small a sensor.
        """
        if not len(events):
            raise InputError("a recording without events", "check the camera, or name another recording")
        if (np.diff(events.t_us) < 0).any():
            raise InputError("event times run backward", "sort the recording by time, or cut it where the clock jumps")
        self.reset()
        window_us = round(self.model.window_ms * 1000)
        start_us = int(events.t_us[0])
        steps = (int(events.t_us[-1]) - start_us) // window_us + 1
        ends_us = start_us + window_us * np.arange(1, steps + 1)
        for end_us in ends_us.tolist():
            yield self.step(clip_between(events, end_us - window_us, end_us), end_us)

    def step(self, events: Events, stamp_us: int) -> EventStep:
        """The events since the last step, up to ``stamp_us``; coordinates must lie on the sensor, times ascend.

        Raises InputError where time does not run forward or the sensor does not fit, OperatorError where the model
        fails.
        """
        if self._stamp_us is not None and stamp_us <= self._stamp_us:
            raise InputError(
                f"a step at {stamp_us} us after one at {self._stamp_us} us", "call reset() between streams"
            )
        duration_us = round(self.model.window_ms * 1000) if self._stamp_us is None else stamp_us - self._stamp_us
        clock = StageClock()
        with clock.stage("draw"):
            self._surface.add(events)
        with clock.stage("change"):
            active, reason = self._choose(events, duration_us, stamp_us)
        with clock.stage("encode"):
            macs = self._encode(active, stamp_us)
        probabilities = self._evidence.add(self._logits, duration_us * 1e-6)
        self._stamp_us = stamp_us
        self._index += 1
        best = int(probabilities.argmax())
        return EventStep(
            index=self._index - 1,
            stamp_us=stamp_us,
            label=self.model.classes[best],
            score=float(probabilities[best]),
            probabilities=probabilities,
            logits=self._logits,
            events=len(events),
            tokens_computed=int(active.sum()),
            tokens_total=self._state.tokens,
            encoder_macs=macs,
            reason=reason,
            stage_ms=clock.stage_ms,
            total_ms=clock.total_ms(),
            active=active.reshape(self._grid),
        )

    def _choose(self, events: Events, duration_us: int, stamp_us: int) -> tuple[np.ndarray, str]:
        """Which tokens to compute, bool (tokens,), and why."""
        if not self.reuse:
            return np.ones(self._state.tokens, bool), "reuse is off"
        self._counter.add(events)
        window = self._counter.take(duration_us)
        decision = self._gate.decide(self._change.measure(window, self._state), self._state, stamp_us * 1000)
        self._state.observe(decision.changed, decision.due, decision.active)
        return decision.active, decision.reason

    def _encode(self, active: np.ndarray, stamp_us: int) -> int:
        """Computes the active tokens, keeps the logits; returns multiply-accumulates."""
        positions = np.flatnonzero(active).astype(np.int32)
        if not len(positions):
            return 0
        inputs = {"patches": self._surface.patches(positions), "positions": positions}
        try:
            logits = self._graph.run("encode", inputs)["logits"].reshape(-1)
            if not np.isfinite(logits).all():
                raise OperatorError(f"{self.model.graph}: logits that are not finite", TRAIN_AGAIN)
        except Exception:
            self.reset("encoder failed")  # its caches may be half written
            raise
        self._logits = logits
        descriptors = np.zeros((self._state.tokens, 0, 3), np.float32)  # of frames, which there are none
        self._state.refresh(active, descriptors, Light(), stamp_us * 1000)
        return self.model.vision.encoder_macs(len(positions))


def log_softmax(logits: np.ndarray) -> np.ndarray:
    shifted = logits.astype(np.float64) - logits.max()
    return shifted - np.log(np.exp(shifted).sum())
