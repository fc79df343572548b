# SPDX-License-Identifier: Apache-2.0
"""What ternary costs in captions, and what it saves in bytes: the bundles on scenes that training never showed."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from bench.rows import Row
from offline_compress.evaluate.bundle_evaluation import BundleEvaluation, evaluate_bundle
from offline_compress.evaluate.heldout import caption_scores
from offline_compress.evaluate.samples import Sample
from offline_compress.train.progress import counted

NOT_TRAINED = "no {} here; make models trains them"


def heldout_rows(ternary: Path, models: Path, samples: list[Sample], console: Console) -> list[Row]:
    """Figures of three bundles through their .tflite graphs. A bundle that ``models`` lacks leaves rows not measured.

    Raises BundleError for a damaged bundle.
    """
    original, binary = models / "original", models / "binary"
    done: dict[str, BundleEvaluation] = {}
    for name, path in (("original", original), ("ternary", ternary), ("binary", binary)):
        if name == "ternary" or path.is_dir():
            with counted(f"{name} on held-out scenes", len(samples), console) as progress:
                done[name] = evaluate_bundle(path, samples, caption_scores, progress)
    missing = {"original": NOT_TRAINED.format(original), "binary": NOT_TRAINED.format(binary)}
    return [*caption_rows(done, missing), *size_rows(done, missing)]


def caption_rows(done: dict[str, BundleEvaluation], missing: dict[str, str]) -> list[Row]:
    first, small, binary = done.get("original"), done["ternary"], done.get("binary")
    cider = small.metrics["cider"]
    no_float, no_binary = "" if first else missing["original"], "" if binary else missing["binary"]
    return [
        Row("float CIDEr, held-out", first and first.metrics["cider"], "", 2.0, "higher", no_float),
        Row("ternary CIDEr, held-out", cider, "", None, "higher"),
        Row("ternary CIDEr / float CIDEr", first and cider / first.metrics["cider"], "", 0.95, "higher", no_float),
        Row("float perplexity, held-out", first and first.perplexity, "", None, "lower", no_float),
        Row("ternary perplexity, held-out", small.perplexity),
        Row("ternary / float perplexity", first and small.perplexity / first.perplexity, "", 1.15, "lower", no_float),
        Row("binary CIDEr, held-out", binary and binary.metrics["cider"], "", None, "higher", no_binary),
        Row("binary perplexity, held-out", binary and binary.perplexity, "", None, "lower", no_binary),
        Row("ternary BLEU-4, held-out", small.metrics["bleu_4"], "", None, "higher"),
        Row("ternary ROUGE-L, held-out", small.metrics["rouge_l"], "", None, "higher"),
    ]


def size_rows(done: dict[str, BundleEvaluation], missing: dict[str, str]) -> list[Row]:
    first, small = done.get("original"), done["ternary"]
    share = first and small.weight_bytes / first.weight_bytes
    return [
        Row("ternary / float bytes", share, "", 1 / 6, "lower", "" if first else missing["original"]),
        Row("committed bundle", small.bundle_bytes / 1e6, "MB", 6.0),
        Row("encode, all tokens (one thread)", small.footprint.encode_ms, "ms"),
        Row("decode, image in context (one thread)", small.footprint.tokens_per_second, "tokens/s", None, "higher"),
    ]
