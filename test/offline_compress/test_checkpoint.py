# SPDX-License-Identifier: Apache-2.0
"""Reading Hugging Face folders without torch, and refusing what the templates do not serve."""

from __future__ import annotations

import argparse
import copy
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tiny_model import CONFIG, random_tensors, random_weights, write_bundle, write_hf_folder, write_safetensors

from custom_ops.spec import WeightFormat
from edge_vlm.errors import OutputError
from edge_vlm.runtime.bundle import Bundle
from offline_compress.commands import export as export_command
from offline_compress.errors import CheckpointError, ExportError
from offline_compress.export.checkpoint import Checkpoint
from offline_compress.export.model_shape import read_text_shape, read_vision_shape
from offline_compress.export.module_names import HEAD
from offline_compress.export.prompt import Prompt, read_special_tokens
from offline_compress.export.weights import LinearWeights, ModelWeights, StoredFloat

QUERY = "model.text_model.layers.0.self_attn.q_proj"


@pytest.mark.parametrize(("dtype", "tolerance"), [("F32", 0.0), ("F16", 1e-3), ("BF16", 8e-3)])
def test_every_float_type_is_read(tmp_path: Path, dtype: str, tolerance: float):
    folder, tensors = write_hf_folder(tmp_path / "hf"), random_tensors()
    write_safetensors(folder / "model.safetensors", tensors, dtype)
    weights = ModelWeights.from_hf_folder(folder)
    expected = tensors[f"{QUERY}.weight"]
    assert np.allclose(weights.linears[QUERY].codes, expected, rtol=tolerance, atol=tolerance / 100)
    assert weights.tied and HEAD in weights.linears


def test_shards_are_put_together(tmp_path: Path):
    folder = write_hf_folder(tmp_path / "hf")
    index = sharded(folder, random_tensors())
    assert ModelWeights.from_hf_folder(folder).linears.keys() == random_weights().linears.keys()
    index["weight_map"]["x"] = "../../secret.safetensors"
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(CheckpointError, match="names no files of this folder"):
        ModelWeights.from_hf_folder(folder)


@pytest.mark.parametrize("kept", [0, 5, 200, -10])
def test_a_truncated_file_is_named(tmp_path: Path, kept: int):
    folder = write_hf_folder(tmp_path / "hf")
    data = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(data[:kept])
    with pytest.raises(CheckpointError, match="model.safetensors"):
        ModelWeights.from_hf_folder(folder)


def sharded(folder: Path, tensors: dict[str, np.ndarray]) -> dict:
    """The folder's weights as two files with an index, which is returned."""
    (folder / "model.safetensors").unlink(missing_ok=True)
    middle = len(tensors) // 2
    halves = {
        "a.safetensors": dict(list(tensors.items())[:middle]),
        "b.safetensors": dict(list(tensors.items())[middle:]),
    }
    for shard, half in halves.items():
        write_safetensors(folder / shard, half)
    index = {"weight_map": {name: shard for shard, half in halves.items() for name in half}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    return index


def test_incomplete_shards_are_named_before_anything_is_read(tmp_path: Path):
    folder = write_hf_folder(tmp_path / "hf")
    index = sharded(folder, random_tensors())
    data = (folder / "b.safetensors").read_bytes()
    (folder / "b.safetensors").write_bytes(data[:-10])
    with pytest.raises(CheckpointError, match=r"b.safetensors: the data of .* is cut off, 10 bytes are missing"):
        Checkpoint.open(folder)
    (folder / "b.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"b.safetensors: missing; .* lists 2 files"):
        Checkpoint.open(folder)
    (folder / "b.safetensors").write_bytes(data)
    index["weight_map"]["lm_tail.weight"] = "b.safetensors"
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(CheckpointError, match="b.safetensors: holds no lm_tail.weight"):
        Checkpoint.open(folder)


def test_pickles_are_not_read(tmp_path: Path):
    folder = write_hf_folder(tmp_path / "hf")
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match="pytorch_model.bin is a pickle") as caught:
        ModelWeights.from_hf_folder(folder)
    assert "safe_serialization" in caught.value.remedy


def test_a_model_that_is_quantised_already_is_refused(tmp_path: Path):
    folder = write_hf_folder(tmp_path / "hf")
    (folder / "config.json").write_text(json.dumps({**CONFIG, "quantization_config": {"quant_method": "awq"}}))
    with pytest.raises(CheckpointError, match=r"quantised already \(awq\)") as caught:
        ModelWeights.from_hf_folder(folder)
    assert "float model" in caught.value.remedy
    (folder / "config.json").write_text(json.dumps(CONFIG))
    header = json.dumps({f"{QUERY}.weight": {"dtype": "U8", "shape": [4], "data_offsets": [0, 4]}}).encode()
    (folder / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + b"1234")
    with pytest.raises(CheckpointError, match=f"{QUERY}.weight is stored as U8: quantised already"):
        ModelWeights.from_hf_folder(folder)


def test_shapes_and_architectures_that_do_not_fit_are_named(tmp_path: Path):
    folder, tensors = write_hf_folder(tmp_path / "hf"), random_tensors()
    tensors[f"{QUERY}.weight"] = tensors[f"{QUERY}.weight"][:-1]
    write_safetensors(folder / "model.safetensors", tensors)
    with pytest.raises(CheckpointError, match=rf"{QUERY}.weight has shape \(59, 42\), config.json says \(60, 42\)"):
        ModelWeights.from_hf_folder(folder)
    (folder / "config.json").write_text(json.dumps({**CONFIG, "model_type": "llava"}))
    with pytest.raises(CheckpointError, match="config.json: unknown architecture, model_type 'llava'") as caught:
        ModelWeights.from_hf_folder(folder)
    assert "smolvlm or idefics3" in caught.value.remedy


def test_tables_that_are_tied_must_be_equal(tmp_path: Path):
    folder, tensors = write_hf_folder(tmp_path / "hf"), random_tensors()
    tensors[f"{HEAD}.weight"] = tensors["model.text_model.embed_tokens.weight"].copy()
    write_safetensors(folder / "model.safetensors", tensors)
    assert ModelWeights.from_hf_folder(folder).tied
    tensors[f"{HEAD}.weight"][0, 0] += 1
    write_safetensors(folder / "model.safetensors", tensors)
    with pytest.raises(CheckpointError, match="the two tables differ") as caught:
        ModelWeights.from_hf_folder(folder)
    assert "tie_word_embeddings" in caught.value.remedy
    (folder / "config.json").write_text(json.dumps({**CONFIG, "tie_word_embeddings": False}))
    assert not ModelWeights.from_hf_folder(folder).tied


@pytest.mark.parametrize(
    "name",
    ["text_model.norm.weight", "vision_model.encoder.layers.0.mlp.fc1.bias", "text_model.layers.1.mlp.up_proj.weight"],
)
def test_a_tensor_that_is_not_finite_is_named_even_where_it_stays_float(tmp_path: Path, name: str):
    folder, tensors = write_hf_folder(tmp_path / "hf"), random_tensors()
    tensors[f"model.{name}"].flat[3] = np.nan
    write_safetensors(folder / "model.safetensors", tensors)
    parser = argparse.ArgumentParser()
    export_command.add_arguments(parser)
    with pytest.raises(CheckpointError, match=f"model.safetensors: model.{name} holds NaN"):
        export_command.run(parser.parse_args([str(folder), "--out", str(tmp_path / "out")]))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("model_type", ["smolvlm", "idefics3"])
def test_sharded_halves_in_bfloat16_give_the_bundle_of_the_whole(tmp_path: Path, model_type: str):
    """Tied tables under either name, matrices read one by one."""
    folder, tensors = write_hf_folder(tmp_path / "hf"), random_tensors()
    (folder / "config.json").write_text(json.dumps({**CONFIG, "model_type": model_type}))
    rounded = {name: (value.view(np.uint32) & 0xFFFF0000).view(np.float32) for name, value in tensors.items()}
    rounded[f"{HEAD}.weight"] = rounded.pop("model.text_model.embed_tokens.weight")
    sharded(folder, rounded)
    write_safetensors(folder / "a.safetensors", dict(list(rounded.items())[: len(rounded) // 2]), "BF16")
    weights = ModelWeights.from_hf_folder(folder)
    assert isinstance(weights.linears[QUERY], StoredFloat) and weights.tied
    stored = write_bundle(tmp_path / "stored", weights)
    held = write_bundle(
        tmp_path / "held", ModelWeights.from_tensors({**CONFIG, "model_type": model_type}, rounded, "x")
    )
    for name in ("vision.tflite", "text.tflite"):
        assert (stored / name).read_bytes() == (held / name).read_bytes()


def test_missing_parts_are_named(tmp_path: Path):
    with pytest.raises(CheckpointError, match="no such folder"):
        ModelWeights.from_hf_folder(tmp_path / "absent")
    folder = write_hf_folder(tmp_path / "hf")
    tensors = random_tensors()
    del tensors[f"{QUERY}.weight"]
    write_safetensors(folder / "model.safetensors", tensors)
    with pytest.raises(CheckpointError, match=f"no tensor {QUERY}.weight"):
        ModelWeights.from_hf_folder(folder)
    (folder / "config.json").write_text("{")
    with pytest.raises(CheckpointError, match="config.json: not valid JSON"):
        ModelWeights.from_hf_folder(folder)


@pytest.mark.parametrize(
    ("section", "setting", "value"),
    [
        ("", "model_type", "llava"),
        ("vision_config", "hidden_act", "relu"),
        ("vision_config", "patch_size", 9),
        ("vision_config", "num_attention_heads", 7),
        ("", "scale_factor", 3),
        ("text_config", "hidden_act", "gelu"),
        ("text_config", "model_type", "mistral"),
        ("text_config", "num_key_value_heads", 4),
        ("text_config", "rope_parameters", {"rope_type": "llama3", "rope_theta": 1e4}),
        ("text_config", "rope_scaling", {"type": "linear", "factor": 2.0}),
        ("text_config", "hidden_size", "42"),
        ("text_config", "qk_layer_norms", True),
    ],
)
def test_what_the_template_lacks_is_refused_by_name(section: str, setting: str, value: object):
    config = copy.deepcopy(CONFIG)
    target = config[section] if section else config
    if setting == "rope_scaling":
        del target["rope_parameters"]
    target[setting] = value
    with pytest.raises(ExportError, match="not supported") as caught:
        read_vision_shape(config), read_text_shape(config)
    assert caught.value.remedy


def test_both_spellings_of_the_rotary_base_are_read():
    config = copy.deepcopy(CONFIG)
    assert read_text_shape(config).rope_theta == 5000.0
    del config["text_config"]["rope_parameters"]
    config["text_config"] |= {"rope_theta": 100000, "rope_scaling": None}
    assert read_text_shape(config).rope_theta == 100000.0


@pytest.fixture
def published() -> Path:
    """Configuration and tokenizer of SmolVLM-256M-Instruct."""
    path = Path(__file__).resolve().parents[2].parent / "shared/data/vlm_configs/SmolVLM-256M-Instruct"
    if not path.is_dir():
        pytest.skip(f"no published configuration here: {path}")
    return path


def test_the_published_smolvlm_256m_fits_the_template(published: Path):
    config = json.loads((published / "config.json").read_text())
    vision, text = read_vision_shape(config), read_text_shape(config)
    assert (vision.tokens, vision.image_tokens, vision.hidden_size) == (1024, 64, 768)
    assert (text.query_heads, text.kv_heads, text.layers, text.rope_theta) == (9, 3, 30, 100000.0)


def test_the_published_prompt_and_markers_are_known_to_its_tokenizer(published: Path):
    from tokenizers import Tokenizer

    config, tokenizer = json.loads((published / "config.json").read_text()), published / "tokenizer.json"
    tokens = read_special_tokens(config, tokenizer.read_bytes())
    assert (tokens.bos, tokens.eos, tokens.pad) == (1, 49279, 2)  # config.json alone says eos 2
    prompt = Prompt.smolvlm(64)
    text = prompt.template.replace("{image}", prompt.image).replace("{question}", prompt.question)
    ids = Tokenizer.from_file(str(tokenizer)).encode(text, add_special_tokens=False).ids
    assert ids.count(config["image_token_id"]) == 64 and ids[0] == tokens.bos and ids.count(tokens.eos) == 1
    with pytest.raises(ExportError, match="<image> is 49190 in tokenizer.json, 7 in config.json"):
        read_special_tokens({**config, "image_token_id": 7}, tokenizer.read_bytes())


def test_codes_outside_their_format_are_refused():
    ones = np.ones(2, np.float32)
    for weight_format, codes in ((WeightFormat.TERNARY, [[2, 0], [0, 0]]), (WeightFormat.BINARY, [[1, 0], [1, 1]])):
        with pytest.raises(ExportError):
            LinearWeights(weight_format, np.array(codes, np.int8), ones)
    with pytest.raises(ExportError, match="scale"):
        LinearWeights(WeightFormat.INT8, np.ones((3, 2), np.int8), ones)


def test_fused_matrices_must_share_a_format(tmp_path: Path):
    weights = random_weights()
    codes = np.zeros(weights.linears[QUERY].codes.shape, np.int8)
    changed = LinearWeights(WeightFormat.TERNARY, codes, np.ones(len(codes), np.float32))
    with pytest.raises(ExportError, match="layers.0.self_attn.q_proj.*different formats") as caught:
        write_bundle(tmp_path / "bundle", weights.with_linears({QUERY: changed}))
    assert "one format" in caught.value.remedy
    assert not (tmp_path / "bundle").exists()


def test_a_missing_norm_is_named_and_nothing_is_left(tmp_path: Path):
    weights = random_weights()
    tensors = {name: value for name, value in weights.tensors.items() if name != "model.text_model.norm.weight"}
    with pytest.raises(ExportError, match="model.text_model.norm.weight"):
        write_bundle(tmp_path / "bundle", replace(weights, tensors=tensors))
    assert [path.name for path in tmp_path.iterdir()] == ["tiny_tokenizer.json"]


def test_a_full_disk_leaves_no_half_bundle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    old = write_bundle(tmp_path / "bundle", random_weights())
    before = (old / "bundle.json").read_bytes()

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("custom_ops.tflite_writer.os.fsync", full)
    with pytest.raises(OutputError, match="No space left"):
        write_bundle(tmp_path / "bundle", random_weights(1))
    assert (old / "bundle.json").read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bundle", "tiny_tokenizer.json"]


def test_somebody_elses_folder_is_not_replaced(tmp_path: Path):
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "notes.txt").write_text("mine")
    with pytest.raises(OutputError, match="not a bundle"):
        write_bundle(tmp_path / "work", random_weights())
    assert (tmp_path / "work" / "notes.txt").read_text() == "mine"


def test_the_export_is_the_same_every_time(tmp_path: Path):
    files = ("vision.tflite", "text.tflite", "bundle.json")
    first, second = (write_bundle(tmp_path / name, random_weights()) for name in ("a", "b"))
    assert all((first / name).read_bytes() == (second / name).read_bytes() for name in files)


def test_the_command_writes_a_bundle(tmp_path: Path, capsys: pytest.CaptureFixture):
    folder = write_hf_folder(tmp_path / "hf")
    (folder / "preprocessor_config.json").write_text(json.dumps({"image_mean": [0.1, 0.2, 0.3]}))
    parser = argparse.ArgumentParser()
    export_command.add_arguments(parser)
    status = export_command.run(parser.parse_args([str(folder), "--out", str(tmp_path / "out"), "--name", "mine"]))
    bundle = Bundle.load(tmp_path / "out")
    assert status == 0 and "mine (original)" in capsys.readouterr().out
    assert bundle.image.mean == (0.1, 0.2, 0.3) and bundle.image.std == (0.5, 0.5, 0.5)


def test_a_context_that_does_not_hold_prompt_and_caption_is_refused(tmp_path: Path):
    folder, parser = write_hf_folder(tmp_path / "hf"), argparse.ArgumentParser()
    export_command.add_arguments(parser)

    def export(context):
        words = [str(folder), "--out", str(tmp_path / "out"), "--max-new-tokens", "12", "--context", str(context)]
        return export_command.run(parser.parse_args(words))

    with pytest.raises(ExportError, match="context_length 20; the prompt and a caption of 12 tokens take") as caught:
        export(20)
    assert not (tmp_path / "out").exists()
    assert export(int(caught.value.remedy.split()[1])) == 0


def test_the_command_names_a_missing_tokenizer(tmp_path: Path):
    folder = write_hf_folder(tmp_path / "hf")
    (folder / "tokenizer.json").unlink()
    parser = argparse.ArgumentParser()
    export_command.add_arguments(parser)
    with pytest.raises(CheckpointError, match="tokenizer.json"):
        export_command.run(parser.parse_args([str(folder), "--out", str(tmp_path / "out")]))
