# SPDX-License-Identifier: Apache-2.0
import json

import cv2
import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")
pytest.importorskip("pycocoevalcap")

from offline_compress import cli  # noqa: E402
from offline_compress.models.demo_model import build_demo_model, demo_config, save_folder  # noqa: E402
from offline_compress.models.tokenizer import train_tokenizer  # noqa: E402

CAPTIONS = ["A red cube.", "A blue sphere on a table."]


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory):
    config = demo_config()
    config.vision_config.num_hidden_layers = config.text_config.num_hidden_layers = 1
    tokenizer = train_tokenizer(CAPTIONS)
    config.text_config.vocab_size = len(tokenizer)
    folder = tmp_path_factory.mktemp("model") / "hf"
    save_folder(build_demo_model(0, config), tokenizer, folder)
    return folder


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data") / "pairs"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for index in range(3):
        cv2.imwrite(str(folder / f"{index}.png"), rng.integers(0, 256, (50, 70, 3), dtype=np.uint8))
        (folder / f"{index}.txt").write_text("\n".join(CAPTIONS))
    (folder / "3.jpg").write_bytes(b"not an image")
    (folder / "3.txt").write_text("a cube")
    return folder


@pytest.fixture(autouse=True)
def without_java(monkeypatch):
    """METEOR's Java process takes its time."""
    monkeypatch.setattr("offline_compress.evaluate.caption_metrics.shutil.which", lambda name: None)


@pytest.mark.parametrize("mean", [0.5, 4.0])
def test_a_model_and_its_bundle_agree(model_folder, data, tmp_path, capsys, mean):
    path = model_folder / "preprocessor_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"image_mean": [mean, 0.5, 0.5]}))
    bundle = tmp_path / "bundle"
    assert cli.main(["export", str(model_folder), "--out", str(bundle)]) == 0
    out = tmp_path / "figures.json"
    arguments = ["--data", str(data), "--plain-captions", "--threads", "1", "--out", str(out)]
    assert cli.main(["evaluate", str(model_folder), str(bundle), *arguments]) == 0
    figures = json.loads(out.read_text())
    torch_result, tflite_result = figures["results"]
    assert set(figures["skipped"]) == {"3.jpg"} and "1 skipped: 3.jpg" in capsys.readouterr().out
    assert (torch_result["through"], tflite_result["through"]) == ("PyTorch", ".tflite")
    for name in ("token_perplexity", "word_perplexity"):
        assert torch_result[name] == pytest.approx(tflite_result[name], rel=2e-3)
    assert torch_result["captions"] == tflite_result["captions"]
    assert torch_result["samples"] == 3


def test_beam_search_in_pytorch(model_folder, data, capsys):
    arguments = ["--data", str(data), "--limit", "2", "--beams", "2", "--threads", "1"]
    assert cli.main(["evaluate", str(model_folder), *arguments]) == 0
    assert "2 beams" in capsys.readouterr().out


def test_without_data_the_error_says_what_is_missing(model_folder, tmp_path, capsys):
    assert cli.main(["evaluate", str(model_folder), "--data", str(tmp_path / "nothing")]) == 1
    assert "no such folder" in capsys.readouterr().err
