# SPDX-License-Identifier: Apache-2.0
"""Events that an event camera would have seen of a video: thresholds on log intensity, per pixel.

The pixel model of ESIM (Rebecq et al., CoRL 2018) and v2e (Hu et al., CVPRW 2021), without their upsampling: a pixel
remembers the log intensity of its last event and fires each time that the light, taken as straight between two
frames, has moved from there by its threshold. Thresholds differ from pixel to pixel; a pixel rests after each event;
background noise fires everywhere. Seeded: the same frames give the same events.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import cv2
import numpy as np

from edge_vlm.errors import InputError
from edge_vlm.observation import Events


@dataclass(frozen=True)
class SimulatorConfig:
    """``threshold`` and its ``threshold_spread`` (one sigma between pixels) are steps of natural log intensity;
    ``dark_level`` of 255 is added before the logarithm, as noise of dark pixels is no light. ``noise_hz`` is the
    rate of background events per pixel. ``max_per_step`` bounds the events of one pixel between two frames."""

    threshold: float = 0.25
    threshold_spread: float = 0.03
    dark_level: float = 12.0
    refractory_us: int = 500
    noise_hz: float = 0.05
    max_per_step: int = 16
    seed: int = 0


@dataclass
class EventSimulator:
    """An event camera of ``width`` x ``height`` pixels that looks at frames of that size."""

    width: int
    height: int
    config: SimulatorConfig = field(default_factory=SimulatorConfig)

    def __post_init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """As before the first frame, thresholds and noise included."""
        config = self.config
        self._rng = np.random.default_rng(config.seed)
        spread = self._rng.normal(config.threshold, config.threshold_spread, (self.height, self.width))
        self._threshold = np.maximum(spread, 0.2 * config.threshold).astype(np.float32)
        self._log: np.ndarray | None = None  # float32 (height, width), light of the last frame
        self._level: np.ndarray | None = None  # float32 (height, width), light of each pixel's last event
        self._rests_until_us = np.zeros(self.height * self.width, np.int64)
        self._t_us = 0

    def step(self, image: np.ndarray, t_us: int) -> Events:
        """The events after the last frame up to this one, in time order; none for the first frame.

        ``image`` is uint8 (height, width, 3) RGB or (height, width).

        Raises:
            InputError: another size than the sensor's, or a time that does not run forward.
        """
        log = self._log_intensity(image)
        if self._log is None:
            self._log, self._level, self._t_us = log, log.copy(), t_us
            return self._events(*(np.zeros(0, np.int64) for _ in range(3)))
        if t_us <= self._t_us:
            raise InputError(
                f"frame times run backward: {t_us} us after {self._t_us} us", "call reset() between videos"
            )
        pixel, event_us, polarity = (
            np.concatenate(parts) for parts in zip(self._crossings(log, t_us), self._noise(t_us), strict=True)
        )
        self._log, self._t_us = log, t_us
        order = np.lexsort((pixel, event_us))
        pixel, event_us, polarity = self._after_rest(pixel[order], event_us[order], polarity[order])
        return self._events(pixel, event_us, polarity)

    def _log_intensity(self, image: np.ndarray) -> np.ndarray:
        if image.shape[:2] != (self.height, self.width):
            raise InputError(
                f"frame size: {image.shape[1]}x{image.shape[0]}, the sensor has {self.width}x{self.height}",
                "scale the frames to the sensor",
            )
        grey = image if image.ndim == 2 else cv2.cvtColor(np.ascontiguousarray(image), cv2.COLOR_RGB2GRAY)
        table = np.log(np.arange(256, dtype=np.float32) + self.config.dark_level)
        return table[grey]

    def _crossings(self, log: np.ndarray, t_us: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Pixel, time and polarity of each threshold crossing between the last frame and this one."""
        moved = log - self._level
        count = np.minimum(np.abs(moved) / self._threshold, self.config.max_per_step).astype(np.int64)
        pixel = np.flatnonzero(count)
        count = count.reshape(-1)[pixel]
        before, after = self._log.reshape(-1)[pixel], log.reshape(-1)[pixel]
        level, step = (
            self._level.reshape(-1)[pixel],
            np.sign(moved).reshape(-1)[pixel] * self._threshold.reshape(-1)[pixel],
        )
        self._level.reshape(-1)[pixel] = level + count * step
        which = np.repeat(np.arange(len(pixel)), count)
        number = np.arange(len(which)) - np.repeat(np.cumsum(count) - count, count) + 1  # 1, 2 .. of its pixel
        crossed = level[which] + number * step[which]
        slope = (after - before)[which]
        share = np.divide(crossed - before[which], slope, out=np.ones_like(crossed), where=np.abs(slope) > 1e-6)
        return pixel[which], self._times(np.clip(share, 0.0, 1.0), t_us), (step > 0)[which]

    def _noise(self, t_us: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        pixels = self.width * self.height
        count = self._rng.poisson(self.config.noise_hz * pixels * (t_us - self._t_us) * 1e-6)
        times = self._times(self._rng.random(count), t_us)
        return self._rng.integers(0, pixels, count), times, self._rng.random(count) < 0.5

    def _times(self, share: np.ndarray, t_us: int) -> np.ndarray:
        """Shares of the interval as whole microseconds after its start, up to its end."""
        return self._t_us + np.maximum(np.ceil(share * (t_us - self._t_us)), 1).astype(np.int64)

    def _after_rest(self, pixel: np.ndarray, t_us: np.ndarray, polarity: np.ndarray) -> tuple[np.ndarray, ...]:
        """Without the events that fall into the rest of their pixel, those of one pixel judged one after another."""
        keep = np.ones(len(pixel), bool)
        order = np.lexsort((t_us, pixel))
        waiting = order
        while len(waiting):  # once per event of the busiest pixel
            first = np.ones(len(waiting), bool)
            first[1:] = pixel[waiting[1:]] != pixel[waiting[:-1]]
            now = waiting[first]
            fires = t_us[now] >= self._rests_until_us[pixel[now]]
            keep[now] = fires
            self._rests_until_us[pixel[now[fires]]] = t_us[now[fires]] + self.config.refractory_us
            waiting = waiting[~first]
        return pixel[keep], t_us[keep], polarity[keep]

    def _events(self, pixel: np.ndarray, t_us: np.ndarray, polarity: np.ndarray) -> Events:
        y, x = np.divmod(pixel, self.width)
        return Events(x.astype(np.uint16), y.astype(np.uint16), t_us, polarity.astype(bool), self.width, self.height)
