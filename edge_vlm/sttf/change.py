# SPDX-License-Identifier: Apache-2.0
"""What changed in each patch since its token was last computed, from frames, from events, or from both.

Paper S asks for event-driven change detection; the descriptors, the noise units and the illumination model are ours.
Scores are in noise units, see ``SttfConfig``.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

import cv2
import numpy as np

from custom_ops.frame_look import CELLS, SAMPLE_STEP, FrameLooker, Remembered, Seen
from edge_vlm.errors import InputError
from edge_vlm.observation import EventWindow
from edge_vlm.sttf.config import SttfConfig
from edge_vlm.sttf.illumination import Light, LightTracker, relight
from edge_vlm.sttf.token_state import TokenState

_NOISE_QUANTILE = 0.25  # of the patches: still ones even while much of the image moves
_NOISE_SAMPLES_AT_ONCE, _NOISE_SAMPLE_STEP = 8, 4
_EVENT_NOISE_SIGMAS = 8.0
_EVENT_NOISE_TOLERANCE = 0.25  # noise differs from patch to patch
_QUARTILE_TO_MEAN_SIGMAS = 0.67  # of a Poisson count
_EVENT_RATE_MEMORY_S = 2.0
_LUMA = np.array([0.299, 0.587, 0.114], np.float32)


def describe(image: np.ndarray, grid: tuple[int, int]) -> np.ndarray:
    """Mean colours of the cells of each patch: uint8 RGB ``(height, width, 3)`` -> float32 ``(tokens, 16, 3)``.

    From the camera's image of any size: most frames change so little that the encoder's input is never needed.
    """
    rows, cols = grid
    height, width = rows * CELLS, cols * CELLS
    halved = _halved(np.ascontiguousarray(image), height * 3 // 2, width * 3 // 2)
    shrinks = halved.shape[0] >= height and halved.shape[1] >= width
    method = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    cells = cv2.resize(halved.astype(np.float32), (width, height), interpolation=method)
    patches = cells.reshape(rows, CELLS, cols, CELLS, 3).transpose(0, 2, 1, 3, 4)
    return np.ascontiguousarray(patches).reshape(rows * cols, CELLS * CELLS, 3)


def _halved(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """``image`` shrunk by 2 for as long as it stays at least so large.

    Means of 2 x 2 pixels take a tenth of the time of any other area; each halving rounds to whole grey levels, which
    the cells average out.
    """
    while (rows := image.shape[0] // 2) >= height and (cols := image.shape[1] // 2) >= width:
        if image.shape[0] % 2 or image.shape[1] % 2:
            break
        image = cv2.resize(image, (cols, rows), interpolation=cv2.INTER_AREA)
    return image


def cell_image(descriptors: np.ndarray, grid: tuple[int, int]) -> np.ndarray:
    """The small luma image ``(4 rows, 4 cols)`` that the descriptors hold, for features and ego-motion."""
    rows, cols = grid
    luma = descriptors.reshape(-1, 3) @ _LUMA
    return np.ascontiguousarray(luma.reshape(rows, cols, CELLS, CELLS).transpose(0, 2, 1, 3)).reshape(
        rows * CELLS, cols * CELLS
    )


def _rms(difference: np.ndarray) -> np.ndarray:
    """``(tokens, cells, 3) -> (tokens,)``."""
    flat = difference.reshape(len(difference), -1)
    return np.sqrt(np.einsum("ij,ij->i", flat, flat) / flat.shape[1])


@dataclass
class NoiseFloor:
    """``levels``: running median of the quiet patches' frame-to-frame difference, in grey levels, sampled every few
    frames; at least ``minimum``, at most ``maximum``."""

    minimum: float
    maximum: float
    window: deque
    frames: int = 0
    levels: float = 0.0

    def __post_init__(self) -> None:
        self._settle()

    @classmethod
    def of(cls, config: SttfConfig) -> NoiseFloor:
        return cls(config.noise_min_levels, config.noise_max_levels, deque(maxlen=config.noise_window_frames))

    def reset(self) -> None:
        self.window.clear()
        self.frames = 0
        self._settle()

    def wants_sample(self) -> bool:
        """Every frame at first; later it is enough to look now and then. Call once per frame."""
        self.frames += 1
        return len(self.window) < _NOISE_SAMPLES_AT_ONCE or self.frames % _NOISE_SAMPLE_STEP == 0

    def update(self, patch_rms: np.ndarray) -> None:
        rank = int(_NOISE_QUANTILE * (len(patch_rms) - 1))
        self.window.append(float(np.partition(patch_rms, rank)[rank]))
        self._settle()

    def _settle(self) -> None:
        middle = sorted(self.window)[len(self.window) // 2] if self.window else 0.0
        self.levels = min(max(middle, self.minimum), self.maximum)


class FrameLook(NamedTuple):
    """One frame: scores ``(tokens,)``, descriptors ``(tokens, 16, 3)``, the light they were seen under, and their
    mean grey level."""

    scores: np.ndarray
    descriptors: np.ndarray
    light: Light
    mean_level: float


@dataclass
class FrameChange:
    """Descriptor distance of each patch against the patch at its last refresh, lighting taken out.

    ``looker``: the operator library's pass over a frame, where there is one.
    """

    config: SttfConfig
    noise: NoiseFloor
    looker: FrameLooker | None = None
    lights: LightTracker = field(default_factory=LightTracker)
    previous: np.ndarray | None = None  # (tokens, cells, 3)
    previous_light: Light = field(default_factory=Light)

    @classmethod
    def of(cls, config: SttfConfig, looker: FrameLooker | None = None) -> FrameChange:
        return cls(config, NoiseFloor.of(config), looker)

    def reset(self) -> None:
        self.noise.reset()
        self.lights.reset()
        self.previous, self.previous_light = None, Light()

    def look(self, image: np.ndarray, state: TokenState) -> FrameLook:
        """``image``: uint8 RGB of any size; ``state`` holds the references. Call once per frame."""
        seen = self._see(image, state)
        descriptors, mean_level = seen.descriptors, seen.mean_level
        light = self.lights.update(seen.sample, self.noise.levels, self._steady_as(seen))
        compared = seen.change is not None and light is self.previous_light
        if self.previous is not None and self.noise.wants_sample():
            self.noise.update(seen.step if compared else self._step(descriptors, light))
        self.previous, self.previous_light = descriptors, light
        if not state.valid:
            return FrameLook(np.full(len(descriptors), np.inf, np.float32), descriptors, light, mean_level)
        change = seen.change if compared else self._change(descriptors, light, state)
        if not compared and light.is_far():
            state.rebase_light(self.lights.rebase())
            light = self.previous_light = self.lights.light
        return FrameLook(change / np.float32(self.noise.levels), descriptors, light, mean_level)

    def _see(self, image: np.ndarray, state: TokenState) -> Seen:
        """The library also compares, which is right where the light turns out to be steady; NumPy does not yet."""
        if self.looker is None or not self.looker.can_look(image, state.grid):
            descriptors = describe(image, state.grid)
            sample = np.ascontiguousarray(descriptors.reshape(-1, 3)[::SAMPLE_STEP].T)
            return Seen(descriptors, sample, float(descriptors.mean()))
        known = Remembered(
            state.reference, state.light_gain, state.light_offset,
            (self.previous_light.gain, self.previous_light.offset),
            self.previous, self.lights.expected, self.lights.previous,
            self.noise.levels, self.config.light_gain_max, self.config.light_offset_max,
        )  # fmt: skip
        return self.looker.look(image, state.grid, known)

    def _steady_as(self, seen: Seen) -> Callable[[np.ndarray | None], bool] | None:
        if seen.change is None:
            return None
        return lambda then: seen.as_expected if then is self.lights.expected else seen.as_before

    def _step(self, descriptors: np.ndarray, light: Light) -> np.ndarray:
        """Since the frame before, grey levels ``(tokens,)``."""
        return _rms(descriptors - self._as_now(self.previous, self.previous_light, light))

    def _change(self, descriptors: np.ndarray, light: Light, state: TokenState) -> np.ndarray:
        """Since each patch's last refresh, grey levels ``(tokens,)``."""
        return _rms(descriptors - self._as_now(state.reference, Light(state.light_gain, state.light_offset), light))

    def _as_now(self, levels: np.ndarray, then: Light, now: Light) -> np.ndarray:
        return relight(levels, then, now, self.config.light_gain_max, self.config.light_offset_max)


@dataclass
class EventChange:
    """Events of each patch since its last refresh that the sensor's noise does not explain.

    A one-sided cumulative sum (CUSUM, Page 1954): each window adds its events and takes away what noise would have
    given, and a bit more; noise thus never adds up, while few events per frame from a slow edge do.
    """

    config: SttfConfig
    noise_per_s: float | None = None  # events per patch and second in the quiet patches

    def reset(self) -> None:
        self.noise_per_s = None

    def measure(self, window: EventWindow, state: TokenState) -> np.ndarray:
        """Scores ``(tokens,)``; adds the window to the evidence that ``state`` keeps. Overload: all infinite.

        Raises InputError where the window was counted on another grid than that of the tokens.
        """
        if window.counts.shape != state.grid:
            raise InputError(
                f"events counted on a {window.counts.shape} grid, the model's tokens lie on {state.grid}",
                "count events on the grid of the bundle that is loaded",
            )
        duration_s = max(window.duration_us, 0) * 1e-6
        counts = window.counts.reshape(-1).astype(np.float32)
        noise = self._noise_events(counts, duration_s)
        slack = _EVENT_NOISE_TOLERANCE * noise + 0.5 * np.sqrt(noise)
        state.event_evidence = np.maximum(state.event_evidence + counts - noise - slack, 0.0)
        if window.overload or not state.valid:
            return np.full(len(counts), np.inf, np.float32)
        enough = self.config.event_on_per_pixel * _patch_pixels(window) + _EVENT_NOISE_SIGMAS * np.sqrt(noise)
        return self.config.threshold_on * state.event_evidence / enough

    def _noise_events(self, counts: np.ndarray, duration_s: float) -> float:
        """Noise events to expect in one patch during this window, from the quiet quarter of the patches."""
        if duration_s <= 0.0:
            return 0.0
        rank = int(_NOISE_QUANTILE * (len(counts) - 1))
        quartile = float(np.partition(counts, rank)[rank])
        rate = (quartile + _QUARTILE_TO_MEAN_SIGMAS * quartile**0.5) / duration_s
        known = rate if self.noise_per_s is None else self.noise_per_s
        self.noise_per_s = known + min(duration_s / _EVENT_RATE_MEMORY_S, 1.0) * (rate - known)
        return self.noise_per_s * duration_s


def _patch_pixels(window: EventWindow) -> float:
    """Sensor pixels that one patch covers; a 346 x 260 sensor where the source did not say."""
    return window.pixels_per_patch or 346 * 260 / window.counts.size


def combine(frame_scores: np.ndarray | None, event_scores: np.ndarray | None) -> np.ndarray:
    """The larger of the scores that there are. Not-a-number counts as changed."""
    present = [scores for scores in (frame_scores, event_scores) if scores is not None]
    scores = present[0] if len(present) == 1 else np.maximum(*present)
    return np.nan_to_num(scores, nan=np.inf, posinf=np.inf) if np.isnan(scores.sum()) else scores
