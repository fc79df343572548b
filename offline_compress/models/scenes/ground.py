# SPDX-License-Identifier: Apache-2.0
"""Procedural textures of the six surfaces and of the wall behind them, in linear RGB over whole images."""

from __future__ import annotations

from functools import cache

import numpy as np

from .bodies import linear

_NOISE_SIZE = 256


@cache
def _noise(grain: int) -> np.ndarray:
    """A periodic noise tile (256, 256) in about [-1, 1], smoothed over `grain` cells."""
    tile = np.random.default_rng(grain).standard_normal((_NOISE_SIZE, _NOISE_SIZE)).astype(np.float32)
    for axis in (0, 1):
        tile = sum(np.roll(tile, shift, axis) for shift in range(grain))
    return (tile / (2 * tile.std())).astype(np.float32)


def _sample(x: np.ndarray, y: np.ndarray, grain: int) -> np.ndarray:
    """Nearest noise value at coordinates in cells."""
    rows, columns = y.astype(np.int32) & (_NOISE_SIZE - 1), x.astype(np.int32) & (_NOISE_SIZE - 1)
    return _noise(grain).ravel()[rows * _NOISE_SIZE + columns]


def _blend(weight: np.ndarray, first, second) -> np.ndarray:
    """Linear RGB (rows, cols, 3) between two display colours; the weight (rows, cols) may leave [0, 1] a little."""
    first, second = np.asarray(linear(first), np.float32), np.asarray(linear(second), np.float32)
    return first + weight[..., None].astype(np.float32) * (second - first)


def _wooden_table(x, y):
    plank = np.floor(x * 0.9)
    grain = _sample(x * 40 + plank * 77, y * 3 + plank * 31, 3)
    gap = np.abs(x * 0.9 - plank - 0.5) > 0.485
    return _blend(0.45 + 0.28 * grain + 0.12 * np.sin(plank * 2.4) - 0.9 * gap, (0.46, 0.29, 0.16), (0.70, 0.50, 0.31))


def _steel_bench(x, y):
    brushed = _sample(x * 2, y * 60, 3)
    seam = np.abs(x / 3 - np.floor(x / 3) - 0.5) > 0.492
    return _blend(0.5 + 0.16 * brushed - 0.9 * seam, (0.54, 0.60, 0.66), (0.76, 0.81, 0.86))


def _tiled_floor(x, y):
    u, v = x * 0.8, y * 0.8
    column, row = np.floor(u), np.floor(v)
    grout = (np.abs(u - column - 0.5) > 0.46) | (np.abs(v - row - 0.5) > 0.46)
    shade = _sample(column * 7, row * 11, 1)
    return _blend(0.75 + 0.12 * shade - 1.0 * grout, (0.55, 0.46, 0.38), (0.78, 0.69, 0.58))


def _grey_carpet(x, y):
    pile = _sample(x * 28, y * 22, 2) + 0.6 * _sample(x * 9 + 50, y * 9, 3)
    return _blend(0.5 + 0.42 * pile, (0.34, 0.34, 0.36), (0.52, 0.52, 0.54))


def _green_mat(x, y):
    line = (np.abs(x * 1.25 - np.floor(x * 1.25) - 0.5) > 0.47) | (np.abs(y * 1.25 - np.floor(y * 1.25) - 0.5) > 0.47)
    weave = _sample(x * 30, y * 30, 2)
    return _blend(0.15 + 0.06 * weave + 0.45 * line, (0.10, 0.30, 0.24), (0.45, 0.66, 0.55))


def _striped_rug(x, y):
    band = np.floor(y * 1.4 - np.floor(y * 1.4) + 0.5)
    pile = _sample(x * 26, y * 20, 2)
    return _blend(band + 0.10 * pile, (0.44, 0.24, 0.26), (0.72, 0.64, 0.54))


_TEXTURES = {
    "wooden table": _wooden_table, "steel bench": _steel_bench, "tiled floor": _tiled_floor,
    "grey carpet": _grey_carpet, "green mat": _green_mat, "striped rug": _striped_rug,
}  # fmt: skip
_SKIRTING_HEIGHT = 0.35
_WALLS = tuple(linear(c) for c in ((0.80, 0.79, 0.75), (0.66, 0.70, 0.74), (0.74, 0.70, 0.66), (0.62, 0.66, 0.62)))


def surface_albedo(surface: str, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Linear RGB (rows, cols, 3) of the surface at world coordinates x, y (rows, cols)."""
    # Keep coordinates positive and small: floor and integer masks then behave, and float32 stays exact enough.
    return _TEXTURES[surface](np.clip(x, -30, 30) + 32, np.clip(y, -30, 60) + 32)


def wall_albedo(tone: int, z: np.ndarray) -> np.ndarray:
    """Linear RGB (n, 3) of the back wall at heights z (n,), darker along the floor."""
    shade = np.where(z < _SKIRTING_HEIGHT, np.float32(0.35), np.float32(1.0))
    return shade[:, None] * np.asarray(_WALLS[tone % len(_WALLS)], np.float32)
