# SPDX-License-Identifier: Apache-2.0
"""An event model: a folder with the graph events.tflite, sealed and described by event_model.json.

event_model.json (UTF-8)::

    {"format": "edge_vlm.event_model", "version": 1, "name": str, "variant": str,
     "files": {"events.tflite": {"sha256": hex, "bytes": int}},
     "classes": [str, ...],          # by class index
     "surface": {...},               # SurfaceConfig
     "vision": {...},                # VisionInfo; its one "image token" is the mean of all tokens
     "window_ms": float,             # events of so long a time make one step
     "memory_s": float,              # evidence of past steps fades to 1/e in this time
     "sttf": object | null,          # settings of the token gate; null: its defaults
     "created_by": str}

The graph has one signature, ``encode``: patches f32 (A, C P P) and positions i32 (A,) of the active tokens in,
logits f32 (1, classes) out. Attention runs against the cached K,V of all tokens.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from edge_vlm.errors import BundleError
from edge_vlm.events.surface import SurfaceConfig
from edge_vlm.runtime.bundle import BUNDLE_JSON, FileInfo, VisionInfo, check_file, read_json
from edge_vlm.runtime.bundle_fields import read_fields

FORMAT, VERSION = "edge_vlm.event_model", 1
MODEL_JSON, GRAPH_FILE = "event_model.json", "events.tflite"
MAX_SURFACE_SIDE = 4096
TRAIN_AGAIN = "copy the folder again, or train it again with edge-vlm-compress train-events"


@dataclass(frozen=True)
class _Fields:
    """What event_model.json holds beside its files and classes."""

    name: str
    variant: str
    surface: SurfaceConfig
    vision: VisionInfo
    window_ms: float
    memory_s: float
    sttf: dict | None
    created_by: str


@dataclass(frozen=True)
class EventModel:
    """A model whose graph exists and, where verified, is the one that was exported."""

    path: Path
    name: str
    variant: str
    classes: tuple[str, ...]
    surface: SurfaceConfig
    vision: VisionInfo
    window_ms: float
    memory_s: float
    sttf: dict | None

    @property
    def graph(self) -> Path:
        return self.path / GRAPH_FILE

    @staticmethod
    def load(path: Path | str, verify: bool = True) -> EventModel:
        """Read and check the folder; ``verify`` compares the sha256 of the graph. Raises BundleError."""
        folder = Path(path)
        if not folder.is_dir():
            raise BundleError(f"{folder}: no such folder", "name a folder that edge-vlm-compress train-events wrote")
        if (folder / "model" / MODEL_JSON).is_file():
            raise BundleError(f"{folder}: the model is in a folder below", f"name {folder / 'model'}")
        if (folder / BUNDLE_JSON).is_file():
            raise BundleError(f"{folder}: a captioner's bundle, no event model", TRAIN_AGAIN)
        try:
            return _load(folder, verify)
        except BundleError as error:
            raise BundleError(error.what, TRAIN_AGAIN) from error


def _load(folder: Path, verify: bool) -> EventModel:
    path = folder / MODEL_JSON
    value = read_json(path)
    if (value.get("format"), value.get("version")) != (FORMAT, VERSION):
        found = f"{value.get('format')!r} version {value.get('version')!r}"
        raise BundleError(f"{path}: {found} is no event model that this edge_vlm reads ({FORMAT} version {VERSION})")
    fields = read_fields(_Fields, value, path)
    files, classes = value.get("files"), value.get("classes")
    if not isinstance(files, dict) or GRAPH_FILE not in files:
        raise BundleError(f"{path}: lists no {GRAPH_FILE}")
    if not isinstance(classes, list) or len(classes) < 2 or not all(isinstance(name, str) for name in classes):
        raise BundleError(f"{path}: classes are no list of names")
    check_numbers(path, fields)
    graph = read_fields(FileInfo, files[GRAPH_FILE], path, f"files.{GRAPH_FILE}.")
    check_file(folder / GRAPH_FILE, graph, verify)
    kept = {name: getattr(fields, name) for name in vars(fields) if name != "created_by"}
    return EventModel(path=folder, classes=tuple(classes), **kept)


def check_numbers(path: Path, fields: _Fields) -> None:
    """What later code divides by or allocates must make sense."""
    surface, vision = fields.surface, fields.vision
    checks = (
        ("surface.grid", surface.grid > 0 and 0 < surface.size <= MAX_SURFACE_SIDE),
        ("surface.decay_events_per_pixel", surface.decay_events_per_pixel > 0),
        ("surface.motion_memory_ms", 0 <= surface.motion_memory_ms <= 60_000),
        ("vision.tokens", vision.tokens == surface.tokens and vision.grid == surface.grid),
        ("window_ms", 0.1 <= fields.window_ms <= 60_000),
        ("memory_s", fields.memory_s > 0),
    )
    for name, holds in checks:
        if not holds:
            raise BundleError(f"{path}: {name} does not fit the other settings")
