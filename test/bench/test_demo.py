# SPDX-License-Identifier: Apache-2.0
"""The demo's benchmark reads the committed recording's truth and says what it could not measure."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

from bench import fresh_clone_rows  # noqa: E402
from bench.heldout_rows import caption_rows, size_rows  # noqa: E402
from bench.sample_bag_rows import STILL, ReplayError, Truth, reused_share  # noqa: E402
from bench.twin_rows import twin_rows  # noqa: E402
from offline_compress.evaluate.bundle_evaluation import BundleEvaluation, Footprint  # noqa: E402
from offline_compress.models.clip_recording import CAPTION_TOPIC, SEGMENT_TOPIC  # noqa: E402

SAMPLE = Path(__file__).resolve().parents[2] / "bags" / "sample.mcap"


def test_the_sample_recording_tells_what_happens_when():
    segments, captions = Truth.read(SAMPLE, SEGMENT_TOPIC), Truth.read(SAMPLE, CAPTION_TOPIC)
    begins_ns = segments.texts[0][0]
    at = [segments.at(begins_ns + round(second * 1e9)) for second in (0, 1.9, 3, 9, 24)]
    assert at == [STILL, STILL, "person", "pan", STILL]
    assert segments.at(begins_ns - 1) == ""
    assert "person" in captions.at(begins_ns + 4_000_000_000) and "person" not in captions.at(begins_ns)


def test_a_recording_without_truth_is_refused():
    with pytest.raises(ReplayError, match="/truth/nothing"):
        Truth.read(SAMPLE, "/truth/nothing")


def test_share_of_reused_tokens():
    frames = [{"tokens_computed": 196, "tokens_total": 196}, {"tokens_computed": 0, "tokens_total": 196}]
    assert reused_share(frames) == 0.5


def test_without_trained_models_their_figures_are_not_measured(tmp_path):
    footprint = Footprint(1, 1, 1, 7.0, 2.0, 9000.0, 60, 20)
    small = BundleEvaluation("b", "demo", "ternary", 3_000_000, 2_900_000, footprint, 1.4,
                             {"cider": 5.0, "bleu_4": 0.8, "rouge_l": 0.9}, 10)  # fmt: skip
    missing = {"original": "make models", "binary": "make models"}
    rows = [*caption_rows({"ternary": small}, missing), *size_rows({"ternary": small}, missing)]
    rows += twin_rows(tmp_path, [])
    unmeasured = {row.name for row in rows if row.value is None}
    assert {"float CIDEr, held-out", "ternary / float bytes", "captions equal to the twin's"} <= unmeasured
    assert all("make models" in row.note and row.holds is not True for row in rows if row.value is None)
    assert next(row for row in rows if row.name == "ternary CIDEr, held-out").value == 5.0


def test_a_demo_that_fails_in_a_clone_says_how(tmp_path):
    with pytest.raises(fresh_clone_rows.CloneError, match="no such thing"):
        fresh_clone_rows.run(["sh", "-c", "echo no such thing >&2; exit 3"], tmp_path)
