# SPDX-License-Identifier: Apache-2.0
"""Writes an event model: the graph, and event_model.json that describes and seals it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from edge_vlm import __version__
from edge_vlm.events.model import FORMAT, GRAPH_FILE, MODEL_JSON, VERSION, EventModel
from edge_vlm.events.surface import SurfaceConfig
from edge_vlm.files import check_replaceable, sha256_of, whole_folder, write_json
from offline_compress.errors import ExportError
from offline_compress.export.event_graph import CLASSIFIER, add_event_signature
from offline_compress.export.graph_builder import ModelBuilder
from offline_compress.export.macs import block_macs
from offline_compress.export.model_shape import VisionShape
from offline_compress.export.module_names import PATCH_EMBEDDING, vision_block_names
from offline_compress.export.weights import LinearWeights, ModelWeights


@dataclass(frozen=True)
class EventModelDescription:
    """What event_model.json says beside what follows from the weights; see `edge_vlm.events.model`."""

    name: str
    variant: str
    classes: tuple[str, ...]
    surface: SurfaceConfig
    window_ms: float
    memory_s: float
    sttf: dict | None


def event_weights(tensors: Mapping[str, np.ndarray], layers: int) -> ModelWeights:
    """Float32 parameters by name (those of the vision encoder as Hugging Face names them, and classifier.weight,
    classifier.bias) as what the graph template takes. Raises ExportError where a matrix is missing."""
    rest = {name: np.ascontiguousarray(value, np.float32) for name, value in tensors.items()}
    linears = {}
    for name in linear_names(layers):
        weight = rest.pop(f"{name}.weight", None)
        if weight is None:
            raise ExportError(f"no tensor {name}.weight in this model", "train it again")
        linears[name] = LinearWeights.of_float(weight.reshape(len(weight), -1), rest.pop(f"{name}.bias", None))
    return ModelWeights({}, linears, rest)


def linear_names(layers: int) -> list[str]:
    """Every matrix, in the order in which data flows."""
    return [PATCH_EMBEDDING, *(name for layer in range(layers) for name in vision_block_names(layer)), CLASSIFIER]


def export_event_model(
    weights: ModelWeights, shape: VisionShape, description: EventModelDescription, out_dir: Path
) -> Path:
    """Write the folder whole and return it; an event model of that name is replaced, anything else is not.

    Raises ExportError or OutputError.
    """
    out_dir = Path(out_dir)
    check_event_model_replaceable(out_dir)
    graphs = ModelBuilder(f"{description.name} {description.variant}: events")
    add_event_signature(graphs, weights, shape)
    with whole_folder(out_dir) as folder:
        graphs.save(folder / GRAPH_FILE)
        file = {"sha256": sha256_of(folder / GRAPH_FILE), "bytes": (folder / GRAPH_FILE).stat().st_size}
        write_json(
            folder / MODEL_JSON,
            {
                "format": FORMAT,
                "version": VERSION,
                **asdict(description),
                "files": {GRAPH_FILE: file},
                "vision": vision_info(shape, len(description.classes)),
                "created_by": f"edge-vlm-compress {__version__}",
            },
        )
        EventModel.load(folder)  # what we just wrote must be what the board accepts
    return out_dir


def check_event_model_replaceable(out_dir: Path) -> None:
    """Raises OutputError for a folder that is no event model."""
    check_replaceable(out_dir, MODEL_JSON, "an event model")


def vision_info(shape: VisionShape, classes: int) -> dict[str, int]:
    """The fields of `edge_vlm.runtime.bundle.VisionInfo`; no branch is shallow, the head projects one mean token."""
    per_token = shape.patch_values * shape.hidden_size + shape.layers * block_macs(shape)
    return {
        "tokens": shape.tokens,
        "grid": shape.grid,
        "hidden_size": shape.hidden_size,
        "layers": shape.layers,
        "shallow_layers": shape.layers,
        "image_tokens": 1,
        "encode_macs_per_token": per_token,
        "shallow_macs_per_token": per_token,
        "attention_macs_per_pair": 2 * shape.hidden_size,
        "project_macs": shape.hidden_size * classes,
    }
