# SPDX-License-Identifier: Apache-2.0
"""events.tflite: the sparse encoder of vision.tflite with the mean of all tokens and a class head behind it."""

from __future__ import annotations

import numpy as np

from custom_ops.spec import CacheFormat
from offline_compress.export.graph_builder import DYNAMIC, GraphBuilder, ModelBuilder
from offline_compress.export.model_shape import VisionShape
from offline_compress.export.module_names import VISION
from offline_compress.export.vision_graph import VisionTemplate
from offline_compress.export.weights import ModelWeights

CLASSIFIER = "classifier"  # name of the head's Linear


def add_event_signature(model: ModelBuilder, weights: ModelWeights, shape: VisionShape) -> None:
    """Add ``encode``: patches f32 (A, C P P), positions i32 (A,) -> logits f32 (1, classes)."""
    template = EventTemplate(weights, shape, shape.layers, CacheFormat.FLOAT32)
    graph = model.graph("encode")
    patches = graph.input("patches", (DYNAMIC, shape.patch_values), np.float32)
    positions = graph.input("positions", (DYNAMIC,), np.int32)
    graph.finish(logits=template.classify(graph, patches, positions))


class EventTemplate(VisionTemplate):
    """Embedding and blocks are the captioner's; only what follows the last block differs."""

    def classify(self, graph: GraphBuilder, patches: int, positions: int) -> int:
        hidden = self.blocks(graph, self.embed(graph, patches, positions), positions, range(self.shape.layers))
        tokens = graph.norm(self.remembered(graph, hidden, positions), self.norm(f"{VISION}.post_layernorm"))
        return graph.linear(graph.writer.mean_row(tokens), self.weights.linears[CLASSIFIER])
