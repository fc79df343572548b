# SPDX-License-Identifier: Apache-2.0
"""Checkpoints of trainings: written whole, read without executing anything, refused where they are of another run."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

import torch

from edge_vlm.errors import InputError, OutputError
from edge_vlm.files import whole_file


def save_checkpoint(state: dict, path: Path) -> None:
    """Raises OutputError; nothing half-written stays behind."""
    try:
        with whole_file(path) as file:
            torch.save(state, file)
    except RuntimeError as error:
        if "inline_container" not in str(error):  # what PyTorch's writer makes of a full disk
            raise
        raise OutputError(f"{path}: cannot be written ({error})", "check free space and permissions") from error


def load_checkpoint(path: Path) -> dict:
    """Raises InputError for a file that is no checkpoint."""
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds
        raise InputError(f"{path}: not a checkpoint ({error})", "remove it and start anew") from error


def digest_of(batch: Mapping[str, torch.Tensor]) -> str:
    """The first batch stands for the data: it depends on their number, order, tokens and seed."""
    digest = hashlib.sha256()
    for name in sorted(batch):
        digest.update(batch[name].contiguous().numpy().tobytes())
    return digest.hexdigest()


def require_same_options(state: Mapping[str, object], options: Mapping[str, object], where: object) -> None:
    """Raises InputError where the checkpoint ``where`` was made with others."""
    made_with = state.get("config")
    if made_with != options:
        known = made_with if isinstance(made_with, dict) else {}
        other = sorted(name for name in {*known, *options} if known.get(name) != options.get(name))
        raise InputError(
            f"{where}: made with other training options or data ({', '.join(other)})",
            "use the same, or start with --resume never",
        )
