# SPDX-License-Identifier: Apache-2.0
"""From a Hugging Face folder to a bundle: the exported graphs compute what training computed."""

import json
import shutil

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from tiny_model import IMAGE_SIZE, make_image, write_hf_folder  # noqa: E402

from edge_vlm.errors import InputError, OutputError  # noqa: E402
from edge_vlm.runtime.bundle import Bundle  # noqa: E402
from edge_vlm.runtime.text_decoder import TextDecoder  # noqa: E402
from edge_vlm.runtime.vision_encoder import VisionEncoder  # noqa: E402
from offline_compress.export.weights import ModelWeights  # noqa: E402
from offline_compress.models.folder_tokenizer import open_tokenizer  # noqa: E402
from offline_compress.quantize import block_work  # noqa: E402
from offline_compress.quantize.replace import quantise_model, to_model_weights  # noqa: E402
from offline_compress.train.compression import (  # noqa: E402
    CHECKPOINT,
    Source,
    load_float_model,
    report_of,
    train_quantised,
    write_bundle,
)
from offline_compress.train.qat import QatConfig  # noqa: E402

STEPS = 6


class RandomBatches:
    """The tiny model's prompt and a few random words under random images."""

    def __init__(self, folder):
        from tokenizers import Tokenizer

        tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        text = "<|im_start|>" + "<fake_token_around_image><global-img>" + "<image>" * 16 + "<fake_token_around_image>"
        self.prompt = tokenizer.encode(text, add_special_tokens=False).ids

    def batch(self, step):
        generator = torch.Generator().manual_seed(step)
        words = torch.randint(6, 20, (3, 5), generator=generator)
        ids = torch.cat([torch.tensor(self.prompt).repeat(3, 1), words], 1)
        labels = ids.clone()
        labels[:, : len(self.prompt)] = -100
        pixels = torch.rand(3, 1, 3, IMAGE_SIZE, IMAGE_SIZE, generator=generator) * 2 - 1
        return {
            "pixel_values": pixels, "input_ids": ids, "labels": labels, "attention_mask": torch.ones_like(ids),
        }  # fmt: skip


@pytest.fixture(scope="module")
def hf_folder(tmp_path_factory):
    return write_hf_folder(tmp_path_factory.mktemp("compression") / "tiny")


def trained(folder, work, variant="ternary", resume=True, steps=STEPS):
    source = Source.read(folder, variant)
    config = QatConfig(steps=steps, bf16=False, latent_rate=5e-2, checkpoint_every=2)
    weights, rows, curve = train_quantised(source, RandomBatches(folder), config, work, resume, lambda progress: None)
    return source, weights, rows, curve


@pytest.mark.parametrize("variant", ["ternary", "binary"])
def test_exported_graphs_equal_the_fake_quantised_model(hf_folder, tmp_path, variant):
    source = Source.read(hf_folder, variant)
    model = load_float_model(hf_folder).eval()
    rows = quantise_model(model, source.table)
    weights = to_model_weights(model, source.weights.config)
    report = report_of(source, rows, None, None)
    bundle = Bundle.load(write_bundle(source, weights, tmp_path / "bundle", "tiny", report))
    encoder, decoder = VisionEncoder(bundle), TextDecoder(bundle)
    patches = encoder.preprocess(make_image(3))
    features = encoder.encode(patches, np.arange(len(patches)))
    prompt = decoder.tokenizer.prompt()
    logits = decoder.run("score", prompt, 0, features)
    pixels = torch.from_numpy(make_image(3).astype(np.float32) / 255 * 2 - 1).permute(2, 0, 1)[None, None]
    with torch.no_grad():
        wanted = (
            model(input_ids=torch.from_numpy(prompt[None].astype(np.int64)), pixel_values=pixels, use_cache=False)
            .logits[0]
            .numpy()
        )
    # a value on the edge between two int8 steps may fall to either side, hence not 1e-6
    assert np.abs(logits - wanted).max() < 1e-2 * np.abs(wanted).max()
    assert (logits.argmax(1) == wanted.argmax(1)).mean() > 0.95


def test_the_bundle_asks_as_the_models_own_chat_template_does(hf_folder, tmp_path):
    folder = tmp_path / "hf"
    shutil.copytree(hf_folder, folder)
    template = "{% for m in messages %}{{ '<|im_start|>Q ' }}{% for c in m.content %}{% if c.type == 'image' %}<image>"
    template += "{% else %}{{ c.text }}{% endif %}{% endfor %}{% endfor %} A"
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "chat_template": template}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    source = Source.read(folder, "binary")
    rounded, rows = source.initial()
    report = report_of(source, rows, None, None)
    bundle = Bundle.load(write_bundle(source, rounded, tmp_path / "bundle", "tiny", report))
    assert bundle.info.prompt.template == "<|im_start|>Q {image}{question} A"


def test_a_tokenizer_without_settings_ends_captions_as_the_bundle_does(hf_folder):
    assert not (hf_folder / "tokenizer_config.json").exists()
    tokenizer = open_tokenizer(hf_folder)
    assert (tokenizer.eos_token, tokenizer.pad_token) == ("<end_of_utterance>", "<pad>")


def test_rounding_alone_needs_no_torch_and_equals_the_modules(hf_folder):
    source = Source.read(hf_folder, "ternary")
    rounded, rows = source.initial()
    model = load_float_model(hf_folder)
    assert quantise_model(model, source.table) == rows
    weights = to_model_weights(model, source.weights.config)
    for name, matrix in rounded.linears.items():
        np.testing.assert_array_equal(matrix.codes, weights.linears[name].codes, name)
        np.testing.assert_allclose(matrix.scale, weights.linears[name].scale, rtol=1e-6)
    assert rounded.tensors.keys() == weights.tensors.keys()


def test_training_writes_checkpoint_and_curve_and_resumes_to_the_same(hf_folder, tmp_path):
    _, whole, rows, curve = trained(hf_folder, tmp_path / "a")
    assert rows[10].final_error is not None and len(rows) == len(whole.linears)

    class Stop(Exception):
        pass

    def stop(progress):
        if progress.step == 5:
            raise Stop

    source = Source.read(hf_folder, "ternary")
    config = QatConfig(steps=STEPS, bf16=False, latent_rate=5e-2, checkpoint_every=2)
    with pytest.raises(Stop):
        train_quantised(source, RandomBatches(hf_folder), config, tmp_path / "b", True, stop)
    _, resumed, _, _ = trained(hf_folder, tmp_path / "b")
    for name, matrix in whole.linears.items():
        np.testing.assert_array_equal(matrix.codes, resumed.linears[name].codes, name)
        np.testing.assert_array_equal(matrix.scale, resumed.linears[name].scale, name)


def test_the_cost_of_training_is_said_before_it_starts_and_a_full_disk_too(hf_folder, tmp_path, monkeypatch):
    told, source = [], Source.read(hf_folder, "ternary")
    config = QatConfig(steps=2, bf16=False)

    def report(progress):
        told.append(progress.step)

    batches = RandomBatches(hf_folder)
    train_quantised(source, batches, config, tmp_path / "a", True, report, announce=told.append)
    cost, *steps = told
    assert steps == [1, 2] and cost.seconds > 0 and cost.memory_bytes > 5e7 and 5e5 < cost.disk_bytes < 5e6
    monkeypatch.setattr(block_work.shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10**9, 10**9, 1000))
    with pytest.raises(OutputError, match="GB are needed for checkpoints, 0.00 GB are free"):
        train_quantised(source, batches, config, tmp_path / "b", True, report)
    assert not (tmp_path / "b" / CHECKPOINT).exists()


@pytest.mark.parametrize("other, message", [("model", "another model"), ("variant", "another plan")])
def test_a_checkpoint_of_another_model_or_plan_is_refused(hf_folder, tmp_path, other, message):
    trained(hf_folder, tmp_path / "work", steps=2)
    folder = write_hf_folder(tmp_path / "model", seed=1) if other == "model" else hf_folder
    with pytest.raises(InputError, match=f"{CHECKPOINT}: training of {message}") as caught:
        trained(folder, tmp_path / "work", "ternary" if other == "model" else "binary", steps=2)
    assert "--resume never" in caught.value.remedy


def test_damaged_or_foreign_checkpoint_is_named(hf_folder, tmp_path):
    trained(hf_folder, tmp_path, steps=2)
    with pytest.raises(InputError, match="other training options"):
        trained(hf_folder, tmp_path)
    (tmp_path / CHECKPOINT).write_bytes(b"cut off")
    with pytest.raises(InputError, match=f"{CHECKPOINT}: not a checkpoint"):
        trained(hf_folder, tmp_path)


def test_original_keeps_every_weight(hf_folder):
    source = Source.read(hf_folder, "original")
    weights, rows = source.initial()
    float_weights = ModelWeights.from_hf_folder(hf_folder)
    assert all(row.relative_error == 0 and row.bits == 32 for row in rows)
    assert all(weights.linears[name] is source.weights.linears[name] for name in float_weights.linears)
