# SPDX-License-Identifier: Apache-2.0
"""The commands compress and compare on a tiny model."""

import argparse
import json

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")
pytest.importorskip("pycocoevalcap")

from tiny_model import make_image, write_hf_folder  # noqa: E402

from edge_vlm.errors import EdgeVlmError  # noqa: E402
from edge_vlm.runtime import VisionEncoder  # noqa: E402
from edge_vlm.runtime.bundle import Bundle  # noqa: E402
from offline_compress.commands import compare, compress  # noqa: E402
from offline_compress.evaluate.caption_metrics import caption_metrics  # noqa: E402
from offline_compress.evaluate.samples import ImageSample  # noqa: E402

CAPTIONS = ("a red cube on table", "a blue sphere left of gripper", "gripper on table")


@pytest.fixture(scope="module")
def hf_folder(tmp_path_factory):
    return write_hf_folder(tmp_path_factory.mktemp("command") / "tiny")


def run(command, *words):
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    return command.run(parser.parse_args([str(word) for word in words]))


def tiny_samples(count):
    """Pictures of different sizes, as a user's are."""
    images = [make_image(index)[: 32 - index] for index in range(count)]
    return [ImageSample(image, CAPTIONS[i % 3 :] + CAPTIONS[: i % 3]) for i, image in enumerate(images)]


@pytest.mark.parametrize("method", ["original", "ternary", "binary", "int8"])
def test_rounding_without_data_writes_a_bundle_with_its_report(hf_folder, tmp_path, capsys, method):
    assert run(compress, hf_folder, "--method", method, "--out", tmp_path / "b", "--steps", 0, "--heldout", 0) == 0
    bundle = Bundle.load(tmp_path / "b")
    report = bundle.report()
    assert bundle.info.variant == report["variant"] == method
    assert len(report["layers"]) == 4 * 6 + 4 * 7 + 3 and report["layers"][0]["why"]
    assert report["matrix_bytes"] == sum(row["bytes"] for row in report["layers"])
    assert "text blocks 1-2 (14)" in capsys.readouterr().out or method in ("original", "int8")


def test_dense_ternary_matrices_take_less_and_say_the_same(hf_folder, tmp_path, capsys):
    for name, options in (("plain", []), ("dense", ["--dense"])):
        words = ("--method", "ternary", *options, "--steps", 0, "--heldout", 0)
        run(compress, hf_folder, *words, "--out", tmp_path / name)
    plain, dense = (Bundle.load(tmp_path / name) for name in ("plain", "dense"))
    saved = plain.info.weight_bytes - dense.info.weight_bytes
    reported = plain.report()["matrix_bytes"] - dense.report()["matrix_bytes"]
    assert 0 < reported < plain.report()["matrix_bytes"] * 0.2 and abs(saved - reported) < 4096
    image, features = make_image(1), []
    for bundle in (plain, dense):
        encoder = VisionEncoder(bundle)
        features.append(encoder.encode(encoder.preprocess(image), np.arange(bundle.vision.tokens)))
    assert np.array_equal(*features)
    run(compress, hf_folder, "--dense", "--out", tmp_path / "b", "--plan-only")
    assert "both graphs: " in capsys.readouterr().out.splitlines()[-1]


def test_plan_only_writes_nothing(hf_folder, tmp_path, capsys):
    assert run(compress, hf_folder, "--out", tmp_path / "b", "--plan-only") == 0
    assert "vision blocks 1-2 (12)" in capsys.readouterr().out
    assert not list(tmp_path.iterdir())


def test_without_training_the_default_is_not_ternary(hf_folder, tmp_path):
    run(compress, hf_folder, "--out", tmp_path / "b", "--steps", 0, "--heldout", 0)
    assert Bundle.load(tmp_path / "b").info.variant == "int4"


@pytest.mark.parametrize(
    "rules, message",
    [
        (
            "default: int8\nrules: [{modules: '.*fc1', method: int8}, {modules: '.*mlp.*', method: binary}]",
            "both match",
        ),
        ("default: int8\nrules: [{modules: haed, method: int4-g64}]", "'haed' matches no module"),
        ("rules: []", "no rule for"),
        ("default: int8\nrules: [{modules: lm_head, method: int4-g64}]", "tables of tokens"),
        ("default: int8\nrules: [{modules: '.*q_proj', method: ternary}]", "computed by one operator"),
    ],
)
def test_a_plan_that_overlaps_or_names_nothing_leaves_no_bundle(hf_folder, tmp_path, rules, message):
    (tmp_path / "mine.yaml").write_text(rules)
    with pytest.raises(EdgeVlmError, match=message) as caught:
        run(
            compress, hf_folder, "--out", tmp_path / "b", "--steps", 0, "--heldout", 0, "--plan", tmp_path / "mine.yaml"
        )
    assert caught.value.remedy and [path.name for path in tmp_path.iterdir()] == ["mine.yaml"]


def test_what_is_missing_is_named(hf_folder, tmp_path):
    with pytest.raises(EdgeVlmError, match="training needs data"):
        run(compress, hf_folder, "--out", tmp_path / "b", "--steps", 2)
    with pytest.raises(EdgeVlmError, match="no rendered training scenes"):
        run(compress, hf_folder, "--out", tmp_path / "b", "--steps", 2, "--data-cache", tmp_path / "none")
    with pytest.raises(EdgeVlmError, match="no such folder"):
        run(compress, tmp_path / "model", "--out", tmp_path / "b")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/thesis.tex").write_text("years of work")
    with pytest.raises(EdgeVlmError, match="is not a bundle"):
        run(compress, hf_folder, "--out", tmp_path / "mine", "--steps", 0, "--heldout", 0)
    with pytest.raises(EdgeVlmError, match="is not a bundle"):
        run(compress, hf_folder, "--out", tmp_path / "mine", "--steps", 2, "--images", tmp_path / "not looked for")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine"]


def without_meteor(captions, references):
    """METEOR starts a Java machine, which is slow."""
    return caption_metrics(captions, references, meteor=False)


def test_compare_measures_through_the_graphs(hf_folder, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(compare, "heldout_samples", tiny_samples)
    monkeypatch.setattr(compare, "caption_scores", without_meteor)
    for method in ("original", "ternary"):
        run(compress, hf_folder, "--method", method, "--out", tmp_path / method, "--steps", 0, "--heldout", 0)
    assert run(compare, tmp_path / "original", tmp_path / "ternary", "--out", tmp_path / "out", "--scenes", 3) == 0
    result = json.loads((tmp_path / "out/comparison.json").read_text())
    original, ternary = result["rows"]
    assert ternary["weight_bytes"] < original["weight_bytes"]
    assert original["perplexity"] > 1 and original["footprint"]["tokens_per_second"] > 0
    assert {"cider", "bleu_4", "rouge_l"} <= ternary["metrics"].keys() and len(ternary["captions"]) == 3
    assert original["footprint"]["model_mb"] > 0
    assert (tmp_path / "out/comparison.png").is_file() and (tmp_path / "out/captions_ternary.json").is_file()
    layers = json.loads((tmp_path / "out/layers.json").read_text())["bundles"]
    assert {row["bits"] for row in layers["ternary"]} == {2, 8} and {row["bits"] for row in layers["original"]} == {32}
    assert all(row["why"] and row["bytes"] for rows in layers.values() for row in rows)
    assert (tmp_path / "out/layers.png").is_file()
    assert "original" in capsys.readouterr().out


def test_a_damaged_bundle_is_named_before_anything_runs(hf_folder, tmp_path, monkeypatch):
    monkeypatch.setattr(compare, "heldout_samples", tiny_samples)
    run(compress, hf_folder, "--out", tmp_path / "b", "--steps", 0, "--heldout", 0)
    with open(tmp_path / "b/text.tflite", "ab") as file:
        file.write(b"x")
    with pytest.raises(EdgeVlmError, match=r"b/text.tflite: altered"):
        run(compare, tmp_path / "b", "--out", tmp_path / "out", "--scenes", 2)
