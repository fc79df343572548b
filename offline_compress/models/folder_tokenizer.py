# SPDX-License-Identifier: Apache-2.0
"""The tokenizer of a local model folder."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from offline_compress.errors import CheckpointError
from offline_compress.export.checkpoint import COPY_AGAIN, read_config
from offline_compress.export.prompt import read_special_tokens

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def open_tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    """Where no tokenizer_config.json names them, ends and pads are those that an export of the folder takes.

    Raises CheckpointError where it is missing or damaged, ExportError where nothing says how a caption ends.
    """
    from transformers import AutoTokenizer

    path = folder / "tokenizer.json"
    if not path.is_file():
        raise CheckpointError(f"{path}: no such file", COPY_AGAIN)
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except Exception as error:  # transformers and tokenizers raise many kinds for damaged files
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise CheckpointError(f"{path}: cannot be loaded ({reason})", COPY_AGAIN) from error
    if tokenizer.eos_token_id is None or tokenizer.pad_token_id is None:
        known = read_special_tokens(read_config(folder), path.read_bytes())
        tokenizer.eos_token, tokenizer.pad_token = tokenizer.convert_ids_to_tokens([known.eos, known.pad])
    return tokenizer
