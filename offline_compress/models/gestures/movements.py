# SPDX-License-Identifier: Apache-2.0
"""Where hands and head are at an instant of each gesture.

A hand's place is relative to its shoulder, in arm lengths: x to the right of the picture, y down. The subject faces
the camera, so the right arm is on the left of the picture, and clockwise is as the camera sees it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from edge_vlm.sources.dvs_gesture import GESTURES

Point = tuple[float, float]
RIGHT, LEFT = 0, 1  # arms; the right one is at the smaller x
_OUTWARD = (-1.0, 1.0)  # direction of x that leads away from the body


@dataclass(frozen=True)
class Pose:
    """``hands``: of the right and the left arm; ``head``: its shift, in head heights."""

    hands: tuple[Point, Point]
    head: Point = (0.0, 0.0)


@dataclass(frozen=True)
class Manner:
    """How one subject makes one gesture: all that varies within a class.

    ``phase_rad`` grows with time; ``size`` scales the movement; ``drift`` (2,) moves its middle, in arm lengths;
    ``shoulder`` is half the distance between the shoulders, in arm lengths; ``turn`` is 1 or -1; ``kind`` 0..1 picks
    among the movements that are "other gestures".
    """

    size: float
    drift: Point
    shoulder: float
    turn: float
    kind: float


def pose(label: int, phase_rad: float, manner: Manner) -> Pose:
    """The pose of class ``label`` at a phase of its period (2 pi)."""
    return _MOVEMENTS[GESTURES[label]](phase_rad, manner)


def rest(side: int) -> Point:
    """The arm hangs down."""
    return (0.12 * _OUTWARD[side], 0.93)


def _one_arm(side: int, hand: Point) -> Pose:
    hands = [rest(RIGHT), rest(LEFT)]
    hands[side] = hand
    return Pose((hands[0], hands[1]))


def _clap(phase: float, m: Manner) -> Pose:
    gap = m.size * 0.22 * (1 + np.cos(phase))  # of each hand from the middle
    y = 0.45 + m.drift[1]
    return Pose(((m.shoulder - gap - 0.03, y), (-m.shoulder + gap + 0.03, y)))


def _wave(side: int) -> Callable[[float, Manner], Pose]:
    def at(phase: float, m: Manner) -> Pose:
        x = (0.38 + m.drift[0]) * _OUTWARD[side] + 0.3 * m.size * np.sin(phase)
        return _one_arm(side, (x, -0.55 + m.drift[1] + 0.08 * np.cos(2 * phase)))

    return at


def _circle(side: int, turn: float) -> Callable[[float, Manner], Pose]:
    """``turn`` 1: clockwise in the picture, whose y points down."""

    def at(phase: float, m: Manner) -> Pose:
        radius, angle = 0.5 * m.size, turn * phase
        x = (0.36 + m.drift[0]) * _OUTWARD[side] + radius * np.cos(angle)
        return _one_arm(side, (x, m.drift[1] + radius * np.sin(angle)))

    return at


def _roll(phase: float, m: Manner) -> Pose:
    """The forearms turn around each other before the chest."""
    x, y = 0.2 * m.size * np.cos(m.turn * phase), 0.2 * m.size * np.sin(m.turn * phase)
    middle = 0.38 + m.drift[1]
    return Pose(((m.shoulder + x, middle + y), (-m.shoulder - x, middle - y)))


def _drums(phase: float, m: Manner) -> Pose:
    """Hands up and down in turn, each before its own shoulder."""
    beat = 0.24 * m.size * np.sin(phase)
    return Pose(((-0.12 + m.drift[0], 0.35 + beat), (0.12 - m.drift[0], 0.35 - beat)))


def _guitar(phase: float, m: Manner) -> Pose:
    """The left hand holds the neck, the right one strums before the belly."""
    strum = 0.2 * m.size * np.sin(phase)
    neck = (0.62 + m.drift[0] + 0.06 * np.sin(0.3 * phase), 0.18 + m.drift[1])
    return Pose(((m.shoulder * 0.9, 0.68 + strum), neck))


def _other(phase: float, m: Manner) -> Pose:
    """One of six movements that are none of the other classes."""
    kinds = (_jumping_jack, _punches, _head_shake, _salute, _both_circle, _scissors)
    return kinds[min(int(m.kind * len(kinds)), len(kinds) - 1)](phase, m)


def _jumping_jack(phase: float, m: Manner) -> Pose:
    angle = np.pi / 2 - 1.3 * m.size * np.sin(phase)  # from straight down to overhead
    x, y = 0.9 * abs(np.sin(angle)), 0.9 * np.cos(angle)
    return Pose(((-x, y), (x, y)))


def _punches(phase: float, m: Manner) -> Pose:
    """Across the body, one fist after the other."""
    reach = (m.shoulder + 0.35 * m.size) * np.maximum(np.sin([phase, phase + np.pi]), 0)
    return Pose(((reach[0], 0.1 + m.drift[1]), (-reach[1], 0.1 + m.drift[1])))


def _head_shake(phase: float, m: Manner) -> Pose:
    head = (0.35 * m.size * np.sin(phase), 0.0) if m.turn > 0 else (0.0, 0.25 * m.size * np.sin(phase))
    return replace(Pose((rest(RIGHT), rest(LEFT))), head=head)


def _salute(phase: float, m: Manner) -> Pose:
    side = RIGHT if m.turn > 0 else LEFT
    lift = 0.5 * (1 - np.cos(phase))
    x = (0.12 - 0.35 * lift) * _OUTWARD[side]
    return _one_arm(side, (x, 0.93 - 1.35 * lift))


def _both_circle(phase: float, m: Manner) -> Pose:
    """Both arms swing round, mirrored."""
    x, y = 0.36 + 0.5 * m.size * np.cos(m.turn * phase), 0.5 * m.size * np.sin(m.turn * phase)
    return Pose(((-x, y), (x, y)))


def _scissors(phase: float, m: Manner) -> Pose:
    """Straight arms cross and open at the height of the belly."""
    x = 0.5 * m.size * np.sin(phase)
    return Pose(((-0.1 - x + m.shoulder * 0.5, 0.75), (0.1 + x - m.shoulder * 0.5, 0.75)))


_MOVEMENTS: dict[str, Callable[[float, Manner], Pose]] = {
    "hand clapping": _clap,
    "right hand wave": _wave(RIGHT),
    "left hand wave": _wave(LEFT),
    "right arm clockwise": _circle(RIGHT, 1.0),
    "right arm counter clockwise": _circle(RIGHT, -1.0),
    "left arm clockwise": _circle(LEFT, 1.0),
    "left arm counter clockwise": _circle(LEFT, -1.0),
    "arm roll": _roll,
    "air drums": _drums,
    "air guitar": _guitar,
    "other gestures": _other,
}

# Cycles per second: from, to.
FREQUENCY_HZ: dict[str, tuple[float, float]] = {
    "hand clapping": (1.5, 3.0),
    "right hand wave": (1.2, 2.5),
    "left hand wave": (1.2, 2.5),
    "right arm clockwise": (0.7, 1.3),
    "right arm counter clockwise": (0.7, 1.3),
    "left arm clockwise": (0.7, 1.3),
    "left arm counter clockwise": (0.7, 1.3),
    "arm roll": (1.0, 2.0),
    "air drums": (1.3, 2.6),
    "air guitar": (1.8, 3.2),
    "other gestures": (0.7, 1.5),
}
