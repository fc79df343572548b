# SPDX-License-Identifier: Apache-2.0
"""The comparison of bundles: ratios, table, files."""

import io
import json
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from offline_compress.evaluate.bundle_evaluation import BundleEvaluation, evaluate_bundle
from offline_compress.evaluate.compare import comparison_json, comparison_table, write_comparison
from offline_compress.evaluate.footprint import EvaluationError, Footprint
from offline_compress.evaluate.layer_report import labels_of, layer_table

LABELS = ["first", "second"]
FOOTPRINT = Footprint(30.0, 120.0, 130.0, 8.0, 4.0, 500.0, 70, 20)
ORIGINAL = BundleEvaluation("o", "demo", "original", 22_100_000, 22_000_000, FOOTPRINT, 1.5, {"cider": 2.5}, 4, ("a",))
TERNARY = replace(
    ORIGINAL,
    variant="ternary",
    weight_bytes=2_750_000,
    footprint=replace(FOOTPRINT, model_mb=6.0, tokens_per_second=1000.0),
    perplexity=1.6,
    metrics={"cider": 2.4, "bleu_4": 0.5},
)


def test_ratios_are_to_the_first_bundle():
    result = comparison_json([ORIGINAL, TERNARY], LABELS)
    assert result["reference"] == "first" and [row["label"] for row in result["rows"]] == LABELS
    assert set(result["ratios"][0].values()) == {1.0}
    assert result["ratios"][1]["weights"] == 0.125
    assert result["ratios"][1]["decode"] == 2
    assert result["ratios"][1]["cider"] == pytest.approx(0.96)
    assert "bleu_4" not in result["ratios"][1]  # not measured for both


def test_table_shows_every_bundle_and_its_ratio():
    console = Console(width=200, record=True, file=io.StringIO())
    console.print(comparison_table([ORIGINAL, TERNARY], LABELS))
    text = console.export_text()
    assert "first" in text and "second" in text and "demo, original" in text and "demo, ternary" in text
    assert "22.00" in text and "2.75" in text and "0.125x" in text


def test_a_bundle_that_says_nothing_has_no_tokens_per_second():
    silent = replace(TERNARY, footprint=replace(FOOTPRINT, tokens_per_second=None))
    assert comparison_json([ORIGINAL, silent], LABELS)["ratios"][1]["decode"] is None
    console = Console(width=200, record=True, file=io.StringIO())
    console.print(comparison_table([ORIGINAL, silent], LABELS))
    assert " - " in console.export_text()


def test_bundles_of_equal_folder_names_keep_apart():
    assert labels_of([Path("a/x"), Path("b/x"), Path("y")]) == ["a_x", "b_x", "y"]
    assert len(set(labels_of([Path("a/x"), Path("a/x")]))) == 2


def test_errors_of_weights_and_of_outputs_stand_apart():
    row = {"name": "model.text_model.layers.1.mlp.up_proj", "method": "int3-g64", "bits": 3, "bytes": 3000}
    rounded = row | {"relative_error": 0.04, "final_error": None, "output_error": None}
    solved = row | {"relative_error": 0.05, "final_error": None, "output_error": 0.001}
    console = Console(width=200, record=True, file=io.StringIO())
    console.print(layer_table({"rounded": [rounded], "solved": [solved]}))
    first, second = (line for line in console.export_text().splitlines() if "int3-g64" in line)
    assert "0.0400" in first and "0.0500" in second and "0.0010" in second


def test_files_are_written(tmp_path):
    pytest.importorskip("matplotlib")
    write_comparison([ORIGINAL, TERNARY], LABELS, tmp_path / "out")
    assert (tmp_path / "out/comparison.png").read_bytes().startswith(b"\x89PNG")
    assert json.loads((tmp_path / "out/comparison.json").read_text())["rows"][1]["footprint"]["model_mb"] == 6.0
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["comparison.json", "comparison.png"]


def test_nothing_to_evaluate_on_is_refused(tmp_path):
    with pytest.raises(EvaluationError, match="nothing to evaluate on"):
        evaluate_bundle(tmp_path, [], lambda captions, references: {})
