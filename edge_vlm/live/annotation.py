# SPDX-License-Identifier: Apache-2.0
"""The frame with what was computed of it tinted green and its caption below, for people to look at."""

from __future__ import annotations

import cv2
import numpy as np

from edge_vlm.observation import Observation
from edge_vlm.step_report import StepReport

MAX_WIDTH = 640
_GREEN = np.array((40, 220, 90), np.uint16)
_LINE_HEIGHT = 18
_FONT, _SCALE = cv2.FONT_HERSHEY_SIMPLEX, 0.45


def annotated(observation: Observation, report: StepReport) -> np.ndarray:
    """RGB uint8 (height, width, 3), at most ``MAX_WIDTH`` wide, with a strip of text below the picture."""
    picture = _scaled(observation.frame.image)
    height, width = picture.shape[:2]
    mask = cv2.resize(report.active.astype(np.uint8), (width, height), interpolation=cv2.INTER_NEAREST).astype(bool)
    picture[mask] = ((picture[mask].astype(np.uint16) * 5 + _GREEN * 3) >> 3).astype(np.uint8)
    said = report.caption.text if report.caption else "(no caption yet)"
    state = f"{report.branch} {report.tokens_computed}/{report.tokens_total}  {report.total_ms:.0f} ms"
    lines = [state, *_wrapped(said, width - 8)]
    strip = np.zeros((_LINE_HEIGHT * len(lines) + 8, width, 3), np.uint8)
    for number, line in enumerate(lines):
        place = (4, _LINE_HEIGHT * (number + 1) - 2)
        cv2.putText(strip, line, place, _FONT, _SCALE, (255, 255, 255), 1, cv2.LINE_AA)
    return np.concatenate([picture, strip])


def _scaled(image: np.ndarray) -> np.ndarray:
    """A copy of its own, at most ``MAX_WIDTH`` wide."""
    height, width = image.shape[:2]
    if width <= MAX_WIDTH:
        return image.copy()
    size = (MAX_WIDTH, max(1, round(height * MAX_WIDTH / width)))
    return cv2.resize(np.ascontiguousarray(image), size, interpolation=cv2.INTER_AREA)


def _wrapped(text: str, width: int) -> list[str]:
    rows, row = [], ""
    for word in text.split():
        longer = f"{row} {word}".strip()
        if row and cv2.getTextSize(longer, _FONT, _SCALE, 1)[0][0] > width:
            rows.append(row)
            row = word
        else:
            row = longer
    return [*rows, row][:4]
