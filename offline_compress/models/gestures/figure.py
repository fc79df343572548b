# SPDX-License-Identifier: Apache-2.0
"""A person's upper body before a background, in grey levels: head, torso, and two arms of two parts each."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from offline_compress.models.gestures.movements import Pose

_OVERSAMPLING = 2  # drawn larger and averaged, so that edges move by parts of a pixel
_SHIFT = 4  # OpenCV's fixed point: 16 parts of a pixel


@dataclass(frozen=True)
class Subject:
    """What a person and the room look like. Lengths in parts of the picture's side, brightness 0..255.

    ``x``: of the middle of the body, ``shoulder_y``: height of the shoulders; ``shoulder``: half the distance between
    them; ``upper_arm``, ``forearm``: lengths; ``head``: (half width, half height); ``limb``: half thickness.
    ``sleeve``: brightness of the forearm, clothed or bare.
    """

    x: float
    shoulder_y: float
    shoulder: float
    upper_arm: float
    forearm: float
    head: tuple[float, float]
    limb: float
    clothes: float
    sleeve: float
    skin: float
    trousers: float
    background: np.ndarray  # uint8 (side, side), oversampled

    @property
    def arm(self) -> float:
        return self.upper_arm + self.forearm


def sample_subject(random: np.random.Generator, size: int) -> Subject:
    """A random person in a random room, for pictures of ``size`` pixels."""
    background, level = sample_background(random, size * _OVERSAMPLING)
    clothes = _contrasting(random, (level, 60.0))
    skin = _contrasting(random, (level, 35.0), (clothes, 45.0))
    return Subject(
        x=0.5 + random.uniform(-0.06, 0.06),
        shoulder_y=random.uniform(0.36, 0.44),
        shoulder=random.uniform(0.105, 0.15),
        upper_arm=random.uniform(0.15, 0.19),
        forearm=random.uniform(0.14, 0.18),
        head=(random.uniform(0.055, 0.075), random.uniform(0.08, 0.1)),
        limb=random.uniform(0.022, 0.034),
        clothes=clothes,
        sleeve=skin if random.random() < 0.5 else clothes * random.uniform(0.85, 0.95),
        skin=skin,
        trousers=random.uniform(20, 200),
        background=background,
    )


def _contrasting(random: np.random.Generator, *others: tuple[float, float]) -> float:
    """A brightness 25..240 that differs from each of the others ``(brightness, by at least)``."""
    while True:
        value = random.uniform(25, 240)
        if all(abs(value - level) >= contrast for level, contrast in others):
            return value


def sample_background(random: np.random.Generator, side: int) -> tuple[np.ndarray, float]:
    """A shaded wall with a few rectangles on it, uint8 (side, side), and its brightness."""
    level = random.uniform(40, 210)
    slope = random.uniform(-25, 25, 2)
    axis = np.linspace(-0.5, 0.5, side, dtype=np.float32)
    wall = (level + slope[0] * axis[:, None] + slope[1] * axis[None, :]).astype(np.float32)
    for _ in range(int(random.integers(0, 6))):
        x, y = random.integers(0, side, 2)
        width, height = random.integers(side // 12, side // 3, 2)
        wall[y : y + height, x : x + width] += random.uniform(-35, 35)
    return np.clip(wall, 5, 250).astype(np.uint8), level


def draw(subject: Subject, pose: Pose, sway: tuple[float, float], size: int) -> np.ndarray:
    """uint8 (size, size). ``sway`` shifts the whole body, in parts of the side."""
    side = size * _OVERSAMPLING
    canvas = subject.background.copy()
    x, y = subject.x + sway[0], subject.shoulder_y + sway[1]
    limb = subject.limb
    waist = 0.8 * subject.shoulder
    shoulders = [(x - subject.shoulder - limb, y - limb), (x + subject.shoulder + limb, y - limb)]
    _polygon(canvas, [*shoulders, (x + waist, y + 0.42), (x - waist, y + 0.42)], subject.clothes)
    legs = [(x - waist, y + 0.42), (x + waist, y + 0.42), (x + waist, 1.2), (x - waist, 1.2)]
    _polygon(canvas, legs, subject.trousers)
    half_width, half_height = subject.head
    head_x, head_y = x + 2 * half_height * pose.head[0], y - limb - half_height * (1.15 - 2 * pose.head[1])
    centre, axes = _fixed((head_x, head_y), side), _fixed((half_width, half_height), side)
    cv2.ellipse(canvas, centre, axes, 0, 0, 360, subject.skin, -1, cv2.LINE_AA, _SHIFT)
    for direction, hand in zip((-1, 1), pose.hands, strict=True):
        _arm(canvas, subject, (x + direction * subject.shoulder, y), hand, direction)
    return cv2.resize(canvas, (size, size), interpolation=cv2.INTER_AREA)


def _arm(canvas: np.ndarray, subject: Subject, shoulder, hand, direction: int) -> None:
    """The elbow is where both parts meet, on the outer or lower side of the line from shoulder to hand."""
    side, reach = len(canvas), np.array(hand) * subject.arm
    distance = float(np.clip(np.hypot(*reach), abs(subject.upper_arm - subject.forearm) + 1e-3, 0.999 * subject.arm))
    along = reach / max(float(np.hypot(*reach)), 1e-6)
    a = (subject.upper_arm**2 - subject.forearm**2 + distance**2) / (2 * distance)
    across = np.array([-along[1], along[0]])
    if across @ np.array([direction, 0.8]) < 0:
        across = -across
    start = np.array(shoulder)
    elbow = start + a * along + np.sqrt(max(subject.upper_arm**2 - a**2, 0.0)) * across
    end = start + distance * along
    thickness = max(1, round(2 * subject.limb * side))
    parts = ((start, elbow, 0.92 * subject.clothes, thickness), (elbow, end, subject.sleeve, round(0.85 * thickness)))
    for begin, finish, brightness, width in parts:
        cv2.line(canvas, _fixed(begin, side), _fixed(finish, side), brightness, width, cv2.LINE_AA, _SHIFT)
    radius = round(1.25 * subject.limb * side * (1 << _SHIFT))
    cv2.circle(canvas, _fixed(end, side), radius, subject.skin, -1, cv2.LINE_AA, _SHIFT)


def _polygon(canvas: np.ndarray, corners, brightness: float) -> None:
    points = np.array([_fixed(corner, len(canvas)) for corner in corners], np.int32)
    cv2.fillConvexPoly(canvas, points, brightness, cv2.LINE_AA, _SHIFT)


def _fixed(point, side: int) -> tuple[int, int]:
    """Parts of the side to OpenCV's fixed-point pixels."""
    return tuple(int(round(float(value) * side * (1 << _SHIFT))) for value in point)
