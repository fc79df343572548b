# SPDX-License-Identifier: Apache-2.0
import json
import math
import os
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("pycocoevalcap")

from edge_vlm.errors import InputError  # noqa: E402
from offline_compress.evaluate import caption_metrics as metrics_module  # noqa: E402
from offline_compress.evaluate.caption_metrics import caption_metrics  # noqa: E402
from offline_compress.evaluate.caption_parts import PARTS, caption_parts, part_accuracy  # noqa: E402
from offline_compress.evaluate.perplexity import from_log_probabilities  # noqa: E402
from offline_compress.models.scenes import captions, sample_scene  # noqa: E402
from offline_compress.pairs.captioned_images import words  # noqa: E402

SHARED = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "caption_metrics" / "nlg_eval"
NAMES = {"Bleu_1": "bleu_1", "Bleu_2": "bleu_2", "Bleu_3": "bleu_3", "Bleu_4": "bleu_4", "ROUGE_L": "rouge_l",
         "CIDEr": "cider", "METEOR": "meteor"}  # fmt: skip


def published_cases():
    path = SHARED / "expected_scores.json"
    return json.loads(path.read_text())["cases"] if path.is_file() else []


@pytest.mark.skipif(not published_cases(), reason="../shared/data/caption_metrics is absent")
@pytest.mark.parametrize("index", range(2))
def test_equals_the_scores_nlg_eval_publishes(index):
    case = published_cases()[index]
    scores = caption_metrics(case["hyps"], case["refs"])
    for theirs, ours in NAMES.items():
        if scores[ours] is None:
            assert ours == "meteor" and "Java" in scores["meteor_note"]
        else:
            assert scores[ours] == pytest.approx(case["corpus_scores"][theirs], abs=2e-5 if ours != "meteor" else 5e-3)


@pytest.mark.skipif(not SHARED.is_dir(), reason="../shared/data/caption_metrics is absent")
def test_files_as_users_have_them():
    lines = {name: (SHARED / f"{name}.txt").read_text().splitlines() for name in ("hyp", "ref1", "ref2")}
    scores = caption_metrics(lines["hyp"], list(zip(lines["ref1"], lines["ref2"], strict=True)), meteor=False)
    assert scores["bleu_4"] == pytest.approx(0.201143, abs=2e-5)
    assert scores["cider"] == pytest.approx(1.242192, abs=2e-5)


def test_without_java_only_meteor_is_missing(monkeypatch):
    monkeypatch.setattr(metrics_module.shutil, "which", lambda name: None)
    scores = caption_metrics(["a red ball"], [["a red ball", "one red ball"]])
    assert scores["meteor"] is None and "Java" in scores["meteor_note"]
    assert scores["bleu_1"] == pytest.approx(1.0)


def test_true_captions_score_high_and_those_of_other_scenes_low():
    references = [captions(sample_scene(seed, "heldout")) for seed in range(40)]
    true = caption_metrics([texts[0] for texts in references], references, meteor=False)
    shifted = caption_metrics([texts[0] for texts in references[1:] + references[:1]], references, meteor=False)
    assert true["cider"] > 3 and shifted["cider"] < 1
    assert true["bleu_4"] == pytest.approx(1.0) and true["rouge_l"] == pytest.approx(1.0)


def test_case_and_punctuation_do_not_count():
    assert words("A red ball, and a Cone.") == ["a", "red", "ball", "and", "a", "cone"]


@pytest.mark.parametrize("script", ["exit 1", "while read line; do echo nonsense; done"])
def test_a_java_that_fails_costs_meteor_alone(tmp_path, monkeypatch, script):
    java = tmp_path / "java"
    java.write_text(f"#!/bin/sh\n{script}\n")
    java.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    metrics = caption_metrics(["a red ball", "a cone"], [["a red ball"], ["a cone"]])
    assert metrics["meteor"] is None and "Java" in metrics["meteor_note"]
    assert metrics["bleu_1"] == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("hypotheses", "references", "named"),
    [([], [], "0 captions"), (["a"], [["a"], ["b"]], "1 captions for 2"), (["a"], [[]], "no reference")],
)
def test_nothing_to_compare_is_refused(hypotheses, references, named):
    with pytest.raises(InputError, match=named):
        caption_metrics(hypotheses, references)


def test_perplexity_counts_tokens_equally():
    rows = [np.log([0.5, 0.5]), np.log([0.125])]
    assert from_log_probabilities(rows) == pytest.approx((2 * 2 * 8) ** (1 / 3))
    assert from_log_probabilities([np.full(3, -math.log(7)), np.full(2, -math.log(7))]) == pytest.approx(7)


@pytest.mark.parametrize("rows", [[], [[float("nan")]], [[-math.inf]]])
def test_perplexity_of_nothing_or_of_nonsense_is_refused(rows):
    with pytest.raises(InputError):
        from_log_probabilities(rows)


def test_all_phrasings_of_a_scene_say_the_same_parts():
    for split in ("train", "heldout"):
        for seed in range(100):
            texts = captions(sample_scene(seed, split))
            parts = [caption_parts(text) for text in texts]
            assert all(part == parts[0] for part in parts), texts
            assert parts[0]["objects"] and parts[0]["surface"]


def test_part_accuracy_names_what_is_wrong():
    truth = "two red balls left of a green cone on a striped rug and a person walking to the left"
    said = "two red balls left of a blue cone on a striped rug and a person walking to the right"
    accuracy = part_accuracy([truth, said], [[truth], [truth]])
    assert set(accuracy) == {*PARTS, "all"}
    assert accuracy["kinds"] == accuracy["counts"] == accuracy["relation"] == accuracy["surface"] == 1
    assert accuracy["colours"] == accuracy["actor"] == accuracy["all"] == 0.5
