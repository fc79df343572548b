# SPDX-License-Identifier: Apache-2.0
"""A bundle at work: load and check it, run its graphs, encode images, decode captions."""

from edge_vlm.runtime.bundle import Bundle
from edge_vlm.runtime.text_decoder import Generation, Sampling, TextDecoder
from edge_vlm.runtime.vision_encoder import DenseEncoder, VisionEncoder

__all__ = ["Bundle", "DenseEncoder", "Generation", "Sampling", "TextDecoder", "VisionEncoder"]
