# SPDX-License-Identifier: Apache-2.0
"""The last feature map of an int8 MobileNetV2 .tflite: what a vision encoder that starts anew can be taught to see."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from edge_vlm.errors import InputError

SIDE, CHANNELS, INPUT = 7, 1280, 224


@dataclass
class MobileNetFeatures:
    """Raises InputError for a file that is no such network."""

    path: Path

    def __post_init__(self) -> None:
        from ai_edge_litert.interpreter import Interpreter

        try:
            content, self.scale, self.zero = with_feature_output(Path(self.path).read_bytes())
            self.interpreter = Interpreter(model_content=content, num_threads=1)
            self.interpreter.allocate_tensors()
        except (OSError, ValueError, RuntimeError, IndexError) as error:
            raise InputError(f"{self.path}: {error}", "give an int8 MobileNetV2 1.0/224 as .tflite") from error
        self.input = self.interpreter.get_input_details()[0]["index"]
        self.output = self.interpreter.get_output_details()[0]["index"]

    def __call__(self, image_rgb: np.ndarray) -> np.ndarray:
        """uint8 (rows, cols, 3) RGB -> float32 (49, 1280)."""
        square = cv2.resize(image_rgb, (INPUT, INPUT), interpolation=cv2.INTER_LINEAR)
        self.interpreter.set_tensor(self.input, square[None])
        self.interpreter.invoke()
        codes = self.interpreter.get_tensor(self.output)[0].reshape(SIDE * SIDE, CHANNELS)
        return (codes.astype(np.float32) - self.zero) * np.float32(self.scale)


def with_feature_output(content: bytes) -> tuple[bytes, float, int]:
    """The model with its feature map as output in place of the classes; scale and zero point of the map's codes."""
    from ai_edge_litert import schema_py_generated as schema

    graph = schema.Model.GetRootAs(content, 0).Subgraphs(0)
    shape = (1, SIDE, SIDE, CHANNELS)
    found = [i for i in range(graph.TensorsLength()) if tuple(graph.Tensors(i).ShapeAsNumpy()) == shape]
    if len(found) != 1 or graph.OutputsLength() != 1:
        raise ValueError(f"{len(found)} feature maps of {shape}")
    quantization = graph.Tensors(found[0]).Quantization()
    start = graph._tab.Vector(graph._tab.Offset(8))  # SubGraph.outputs is its third field
    patched = bytearray(content)
    patched[start : start + 4] = found[0].to_bytes(4, "little")
    return bytes(patched), float(quantization.Scale(0)), int(quantization.ZeroPoint(0))
