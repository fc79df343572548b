# SPDX-License-Identifier: Apache-2.0
"""The tokenizer of a local model folder."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from offline_compress.export.checkpoint import COPY_AGAIN
from offline_compress.export.errors import CheckpointError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def open_tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    """Raises CheckpointError where it is missing or damaged."""
    from transformers import AutoTokenizer

    path = folder / "tokenizer.json"
    if not path.is_file():
        raise CheckpointError(f"{path}: no such file", COPY_AGAIN)
    try:
        return AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except Exception as error:  # transformers and tokenizers raise many kinds for damaged files
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise CheckpointError(f"{path}: cannot be loaded ({reason})", COPY_AGAIN) from error
