# SPDX-License-Identifier: Apache-2.0
"""Figures that a benchmark measured before, each with what it was measured from: an interrupted benchmark goes on,
and never shows a figure of another model, other data or other options.

The program itself is no part of that: after a change of a quantiser or a solver, start with an empty folder.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from edge_vlm.files import make_folder, sha256_of, write_json
from offline_compress.evaluate.samples import Sample
from offline_compress.kept_parts import read_known

MODEL_FILES = ("*.json", "*.safetensors")  # configuration, tokenizer, processor, weights


@dataclass(frozen=True)
class KeptFigures:
    """A folder with a file per measurement. ``known_only``: measure nothing anew."""

    folder: Path
    known_only: bool = False

    def of(
        self, name: str, identity: Mapping[str, object], measure: Callable[[], dict[str, object]]
    ) -> dict[str, object] | None:
        """The figures called ``name``: those kept, where they were measured from the same ``identity``, else measured
        and kept. None where they are not known and must not be measured. Raises OutputError."""
        identity = json.loads(json.dumps(identity))  # as it is read again: lists for tuples
        path = self.folder / f"{name.replace(', ', '_').replace(' + ', '_').replace(' ', '_')}.json"
        known = read_known(path)
        if isinstance(known, dict) and known.get("identity") == identity:
            return known["figures"]
        if self.known_only:
            return None
        figures = measure()
        make_folder(self.folder)
        write_json(path, {"identity": identity, "figures": figures})
        return figures


def model_digest(folder: Path) -> str:
    """Of weights, configuration, tokenizer and processor settings, wherever the folder lies."""
    digest = hashlib.sha256()
    for path in sorted({path for pattern in MODEL_FILES for path in folder.glob(pattern)}):
        digest.update(f"{path.name} {sha256_of(path)}\n".encode())
    return digest.hexdigest()


def samples_digest(samples: Iterable[Sample]) -> str:
    """Of images and references."""
    digest = hashlib.sha256()
    for sample in samples:
        digest.update(repr((sample.image_rgb.shape, sample.references)).encode())
        digest.update(sample.image_rgb.tobytes())
    return digest.hexdigest()


def batches_digest(batches: Iterable[Mapping[str, torch.Tensor]]) -> str:
    """Of images and texts that something is calibrated or trained on."""
    digest = hashlib.sha256()
    for batch in batches:
        for name in sorted(batch):
            digest.update(f"{name} {tuple(batch[name].shape)}".encode())
            digest.update(batch[name].contiguous().numpy().tobytes())
    return digest.hexdigest()
