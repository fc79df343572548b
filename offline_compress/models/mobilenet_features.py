# SPDX-License-Identifier: Apache-2.0
"""Feature maps of an int8 MobileNetV2 .tflite: what a vision encoder that starts anew can be taught to see."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from edge_vlm.errors import InputError

INPUT = 224
FEATURES = "features"
# Side and channels of each map: the last ones of their size before the network halves it, and what it gives.
MAPS = {"edges": (28, 32), "parts": (14, 96), FEATURES: (7, 1280)}


@dataclass
class MobileNetFeatures:
    """Raises InputError for a file that is no such network."""

    path: Path

    def __post_init__(self) -> None:
        from ai_edge_litert.interpreter import Interpreter

        try:
            content = with_map_outputs(Path(self.path).read_bytes())
            self.interpreter = Interpreter(model_content=content, num_threads=1)
            self.interpreter.allocate_tensors()
        except (OSError, ValueError, TypeError, RuntimeError, IndexError, struct.error) as error:
            raise InputError(f"{self.path}: {error}", "give an int8 MobileNetV2 1.0/224 as .tflite") from error
        self.input = self.interpreter.get_input_details()[0]["index"]
        self.outputs = dict(zip(MAPS, self.interpreter.get_output_details(), strict=True))

    def __call__(self, image_rgb: np.ndarray) -> dict[str, np.ndarray]:
        """uint8 (rows, cols, 3) RGB -> float32 (side * side, channels) of each of `MAPS`."""
        square = cv2.resize(image_rgb, (INPUT, INPUT), interpolation=cv2.INTER_LINEAR)
        self.interpreter.set_tensor(self.input, square[None])
        self.interpreter.invoke()
        return {name: self.real(output) for name, output in self.outputs.items()}

    def real(self, output: dict) -> np.ndarray:
        codes, (scale, zero) = self.interpreter.get_tensor(output["index"])[0], output["quantization"]
        return (codes.reshape(-1, codes.shape[-1]).astype(np.float32) - zero) * np.float32(scale)


def with_map_outputs(content: bytes) -> bytes:
    """The model with `MAPS` as outputs, in their order, in place of the classes."""
    import flatbuffers
    from ai_edge_litert import schema_py_generated as schema

    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(content, 0))
    graph = model.subgraphs[0]
    made = {tuple(graph.tensors[index].shape): index for operator in graph.operators for index in operator.outputs}
    wanted = [(1, side, side, channels) for side, channels in MAPS.values()]
    missing = [shape for shape in wanted if shape not in made]
    if missing:
        raise ValueError(f"no feature map of {missing[0]}")
    graph.outputs, model.signatureDefs = [made[shape] for shape in wanted], None
    builder = flatbuffers.Builder(len(content))
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())
