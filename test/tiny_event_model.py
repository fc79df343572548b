# SPDX-License-Identifier: Apache-2.0
"""A random event model with odd widths, made without torch, and streams of events for it."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from edge_vlm.events.surface import SurfaceConfig
from edge_vlm.observation import Events
from offline_compress.export.event_graph import CLASSIFIER
from offline_compress.export.event_model_writer import EventModelDescription, event_weights, export_event_model
from offline_compress.export.model_shape import VisionShape
from offline_compress.export.module_names import PATCH_EMBEDDING, POSITION_EMBEDDING, VISION, vision_block_names

SURFACE = SurfaceConfig(grid=4, patch_size=3, decay_events_per_pixel=2.0)
SHAPE = VisionShape(
    hidden_size=36, layers=2, heads=3, intermediate_size=70, image_size=12, patch_size=3, epsilon=1e-6, scale_factor=1
)
CLASSES = ("left", "right", "up")
GATE = {"dilation": 0, "keyframe_fraction": 1.0, "context_share": 0.0, "context_debt_max": 1e9, "max_age_s": 1e6}
SENSOR = (17, 13)  # width, height


def random_event_tensors(seed: int = 0) -> dict[str, np.ndarray]:
    """Parameters by name."""
    random = np.random.default_rng(seed)
    width, inner = SHAPE.hidden_size, SHAPE.intermediate_size
    shapes = {f"{PATCH_EMBEDDING}.weight": (width, 3, 3, 3), f"{PATCH_EMBEDDING}.bias": (width,)}
    shapes |= {f"{CLASSIFIER}.weight": (len(CLASSES), width), f"{CLASSIFIER}.bias": (len(CLASSES),)}
    norms = [f"{VISION}.post_layernorm"]
    for layer in range(SHAPE.layers):
        for name in vision_block_names(layer):
            rows, columns = {"fc1": (inner, width), "fc2": (width, inner)}.get(name.split(".")[-1], (width, width))
            shapes |= {f"{name}.weight": (rows, columns), f"{name}.bias": (rows,)}
        norms += [f"{VISION}.encoder.layers.{layer}.layer_norm{number}" for number in (1, 2)]
    tensors = {}
    for name, shape in shapes.items():
        tensors[name] = random.standard_normal(shape).astype(np.float32) / np.sqrt(np.prod(shape[1:]))
    tensors[POSITION_EMBEDDING] = random.standard_normal((SHAPE.tokens, width)).astype(np.float32)
    for name in norms:
        tensors |= {f"{name}.weight": np.ones(width, np.float32), f"{name}.bias": np.zeros(width, np.float32)}
    return tensors


def write_event_model(folder: Path, seed: int = 0, **gate) -> Path:
    description = EventModelDescription(
        name="tiny", variant="original", classes=CLASSES, surface=SURFACE, window_ms=10.0, memory_s=0.1,
        sttf={**GATE, **gate},
    )  # fmt: skip
    weights = event_weights(random_event_tensors(seed), SHAPE.layers)
    return export_event_model(weights, SHAPE, description, folder)


def moving_edge(seed: int = 0, duration_ms: int = 100, events: int = 2000) -> Events:
    """An edge that wanders over a sensor of 17 x 13 pixels, and some noise."""
    random = np.random.default_rng(seed)
    t_us = np.sort(random.integers(0, duration_ms * 1000, events))
    x = np.clip(t_us * SENSOR[0] // (duration_ms * 1000) + random.integers(-1, 2, events), 0, SENSOR[0] - 1)
    y = random.integers(0, SENSOR[1] // 2, events)
    return Events(x.astype(np.uint16), y.astype(np.uint16), t_us, random.random(events) < 0.5, *SENSOR)
