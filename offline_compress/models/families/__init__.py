# SPDX-License-Identifier: Apache-2.0
"""Model families, one module per architecture, found by the ``model_type`` of config.json.

A family is a `Family`: which parameters a configuration asks for, and how the parts of the model are called one after
the other. A new architecture adds a module and a line here.
"""

from __future__ import annotations

from pathlib import Path

from offline_compress.errors import CheckpointError
from offline_compress.export.checkpoint import Checkpoint
from offline_compress.models.families import idefics3, smolvlm
from offline_compress.models.families.siglip_llama import SiglipLlama

Family = SiglipLlama
FAMILIES: dict[str, Family] = {family.model_type: family for family in (smolvlm.FAMILY, idefics3.FAMILY)}


def family_of(config: dict, where: object = "config.json") -> Family:
    """Raises CheckpointError, naming ``where``, for an architecture that is not registered."""
    kind = config.get("model_type")
    if kind not in FAMILIES:
        raise CheckpointError(
            f"{where}: unknown architecture, model_type {kind!r}", f"give a model of type {' or '.join(FAMILIES)}"
        )
    return FAMILIES[kind]


def open_checkpoint(folder: Path | str) -> Checkpoint:
    """A local Hugging Face folder whose files, architecture and shapes are right. Reads headers alone.

    Raises CheckpointError or ExportError naming what is missing, damaged, unknown or does not fit.
    """
    checkpoint = Checkpoint.open(folder)
    family_of(checkpoint.config, checkpoint.folder / "config.json").check(checkpoint)
    return checkpoint
