# SPDX-License-Identifier: Apache-2.0
"""What a token costs besides its arithmetic: a model of the same blocks and the same vocabulary in two small widths.

Their time grows with the width by what is computed; carried on to no width at all it is what remains: Python, the
runtime's way from node to node, and the choice among all tokens.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from bench.peers.contender import Contender
from bench.rows import Row
from bench.smolvlm_files import export, load
from offline_compress.export.checkpoint import read_config
from offline_compress.export.module_names import linear_names
from offline_compress.models.random_checkpoint import with_sizes, write_random_checkpoint
from offline_compress.quantize.plan import default_plan
from offline_compress.quantize.replace import float_weights, quantise_model, to_model_weights

WIDTHS = (64, 128)
HEAD_DIM = 64
GOAL = 0.05


def hollow_bundle(config_folder: Path, work: Path, width: int) -> Path:
    """As ternary as the whole model; made where it is missing."""
    bundle, checkpoint = work / f"hollow-{width}", work / "hollow-checkpoint"
    if (bundle / "bundle.json").is_file():
        return bundle
    text = {"hidden_size": width, "intermediate_size": width, "num_attention_heads": width // HEAD_DIM,
            "num_key_value_heads": 1, "head_dim": HEAD_DIM}  # fmt: skip
    vision = {"hidden_size": 64, "intermediate_size": 64, "num_attention_heads": 1, "num_hidden_layers": 1}
    sizes = {"text_config": text, "vision_config": vision}
    write_random_checkpoint(with_sizes(read_config(config_folder), sizes), checkpoint)
    shutil.copyfile(config_folder / "tokenizer.json", checkpoint / "tokenizer.json")
    model, config = load(checkpoint), read_config(checkpoint)
    tied = float_weights(model).tied
    quantise_model(model, default_plan(config, "ternary", tied).resolve(linear_names(config, tied)))
    export(to_model_weights(model, config), bundle, "ternary", config_folder / "tokenizer.json")
    shutil.rmtree(checkpoint)
    return bundle


def hollow_contenders(
    config_folder: Path, work: Path, tokens: int, threads: tuple[int, ...]
) -> dict[int, list[Contender]]:
    """By threads, one of each width, loaded."""
    bundles = [hollow_bundle(config_folder, work, width).resolve() for width in WIDTHS]
    return {n: [Contender(f"hollow, {n} threads", "ours", bundle, "--tokens", tokens, threads=n) for bundle in bundles]
            for n in threads}  # fmt: skip


def dispatch_rows(hollow: dict[int, list[Contender]], named: dict[str, Contender]) -> list[Row]:
    """Beside the tokens of the whole model with its head in int8."""
    rows = []
    for n, (narrow, wide) in hollow.items():
        rest_ms = 2 * narrow.best("token_ms") - wide.best("token_ms")
        share = rest_ms / named[f"ours, {n} threads"].best("token_ms")
        rows.append(Row(f"dispatch and Python of a token, {n} threads", rest_ms, "ms"))
        rows.append(Row(f"dispatch and Python, {n} threads, share of a token", share, "", GOAL))
    return rows
