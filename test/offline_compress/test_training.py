# SPDX-License-Identifier: Apache-2.0
import json

import cv2
import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from edge_vlm.errors import InputError  # noqa: E402
from offline_compress import cli  # noqa: E402
from offline_compress.evaluate import caption_metrics  # noqa: E402
from offline_compress.export.prompt import Prompt  # noqa: E402
from offline_compress.models.dataset import SceneSet, render_sample  # noqa: E402
from offline_compress.models.demo_model import IMAGE_TOKENS, build_demo_model, demo_config  # noqa: E402
from offline_compress.models.pixels import augmented  # noqa: E402
from offline_compress.models.tokenizer import train_tokenizer  # noqa: E402
from offline_compress.train import demo_training  # noqa: E402
from offline_compress.train.attention import use_plain_attention  # noqa: E402
from offline_compress.train.caption_batches import CaptionBatches  # noqa: E402
from offline_compress.train.demo_training import DemoTraining  # noqa: E402
from offline_compress.train.float_training import FloatTrainer, FloatTrainingConfig, caption_loss, rate_factor  # noqa: E402
from offline_compress.train.precision import multiplies_bfloat16  # noqa: E402


def scene_set(count=8, split="train") -> SceneSet:
    images, labels, texts = zip(*(render_sample(split, index) for index in range(count)), strict=True)
    return SceneSet(split, (np.stack(images),), np.stack(labels), tuple(texts))


@pytest.fixture(scope="module")
def scenes():
    return scene_set()


def caption_batches(scenes, seed):
    tokenizer = train_tokenizer(text for texts in scenes.captions for text in texts)
    return CaptionBatches(scenes, tokenizer, Prompt.smolvlm(IMAGE_TOKENS), size=4, seed=seed)


@pytest.fixture(scope="module")
def batches(scenes):
    return caption_batches(scenes, seed=1)


def small_model(seed=0):
    config = demo_config()
    config.vision_config.num_hidden_layers = config.text_config.num_hidden_layers = 1
    model = build_demo_model(seed, config)
    use_plain_attention(model)
    return model


def test_a_batch_depends_on_its_step_alone(batches):
    first, other = batches.batch(5), batches.batch(6)
    again = batches.batch(5)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["pixel_values"], other["pixel_values"])
    assert first["pixel_values"].shape == (4, 1, 3, 224, 224) and first["pixel_values"].abs().max() <= 1
    assert first["patch_labels"].shape[:2] == (4, 196)


def test_every_scene_is_seen_once_per_epoch(scenes, batches):
    seen = [batches.batch(step)["patch_labels"] for step in (0, 1)]
    labels = torch.from_numpy(scenes.labels.astype(np.int64)).flatten(1, 2)
    hits = [sum(torch.equal(row, label) for batch in seen for row in batch) for label in labels]
    assert hits == [1] * len(scenes)


def test_labels_are_the_caption_and_its_end(scenes, batches):
    batch = batches.batch(0)
    spoken = {text for texts in scenes.captions for text in texts}
    tokenizer = train_tokenizer(text for texts in scenes.captions for text in texts)
    for labels, mask in zip(batch["labels"], batch["attention_mask"], strict=True):
        answer = labels[labels != -100].tolist()
        assert answer[-1] == tokenizer.eos_token_id
        assert tokenizer.decode(answer[:-1]).strip() in spoken
        assert mask.sum() == len(batches.prompt) + len(answer)


def test_augmentation_never_mirrors(scenes):
    images = np.stack([scenes.image(i) for i in range(4)])
    changed = augmented(images, np.random.default_rng(0))
    assert changed.dtype == np.float32 and changed.min() >= 0 and changed.max() <= 1
    for image, other in zip(images, changed, strict=True):
        other = cv2.blur(other, (9, 9)).ravel()  # a shift of fine texture is no likeness
        likeness, mirrored = (
            np.corrcoef(cv2.blur(picture, (9, 9)).ravel(), other)[0, 1] for picture in (image, image[:, ::-1].copy())
        )
        assert likeness > 0.85 and likeness > mirrored


def test_loss_equals_that_of_transformers(batches):
    model, batch = small_model(), batches.batch(0)
    loss, patches = caption_loss(model, batch)
    inputs = {name: batch[name] for name in ("input_ids", "pixel_values", "labels")}
    assert loss.item() == pytest.approx(model(**inputs).loss.item(), rel=1e-4)
    assert patches.shape == (4, 196, 192)


def test_rates_warm_up_and_fall():
    config = FloatTrainingConfig(steps=1000, warmup_steps=100)
    rates = [rate_factor(step, config) for step in range(1000)]
    assert rates[0] == 0.01 and max(rates) == rates[99] == 1 and rates[99:] == sorted(rates[99:], reverse=True)
    assert rates[-1] == pytest.approx(config.final_rate, abs=1e-3)


@pytest.mark.parametrize("bf16", [False, True])
def test_loss_falls_and_a_resumed_run_is_the_same_run(batches, bf16):
    config = FloatTrainingConfig(steps=8, warmup_steps=2, checkpoint_every=4, rate=3e-3, bf16=bf16)
    losses, states = [], []
    trainer = FloatTrainer(small_model(), batches, config)
    trainer.run(lambda p: losses.append(p.losses["answer"]), lambda t: states.append(clone(t.state())))
    assert losses[-1] < losses[0] - 1
    resumed_losses = []
    resumed = FloatTrainer(small_model(seed=9), batches, config)
    resumed.restore(states[0], "checkpoint.pt")
    resumed.run(lambda p: resumed_losses.append(p.losses["answer"]), lambda t: None)
    assert resumed_losses == pytest.approx(losses[4:], rel=1e-3)
    assert resumed.step == 8


def test_bfloat16_is_for_processors_that_multiply_it(monkeypatch):
    for flags, multiplies in (("fma avx2", False), ("avx512f avx512_bf16", True), ("bf16 asimd i8mm", True)):
        monkeypatch.setattr("pathlib.Path.read_text", lambda path, encoding, flags=flags: f"flags : {flags}\n")
        multiplies_bfloat16.cache_clear()
        assert FloatTrainingConfig().bf16 is multiplies
    multiplies_bfloat16.cache_clear()


def clone(state):
    import copy

    return copy.deepcopy(state)


def test_a_checkpoint_of_other_options_is_refused(scenes, batches):
    state = FloatTrainer(small_model(), batches, FloatTrainingConfig(steps=4)).state()
    other = FloatTrainer(small_model(), batches, FloatTrainingConfig(steps=5))
    with pytest.raises(InputError, match="checkpoint.pt.*other training options"):
        other.restore(state, "checkpoint.pt")
    others_data = FloatTrainer(small_model(), caption_batches(scenes, seed=9), FloatTrainingConfig(steps=4))
    with pytest.raises(InputError, match="checkpoint.pt.*or data"):
        others_data.restore(state, "checkpoint.pt")


def test_a_loss_that_is_not_finite_stops_the_run(batches):
    model = small_model()
    with torch.no_grad():
        model.model.connector.modality_projection.proj.weight.fill_(float("nan"))
    with pytest.raises(InputError, match="loss of step 1 is nan"):
        FloatTrainer(model, batches, FloatTrainingConfig(steps=2)).train_step()


def test_a_whole_run_writes_model_metrics_and_curve(scenes, tmp_path, monkeypatch):
    monkeypatch.setattr(demo_training, "build_demo_model", small_model)
    monkeypatch.setattr(demo_training, "CURVE_EVERY", 1)
    monkeypatch.setattr(caption_metrics.shutil, "which", lambda name: None)  # Java takes seconds to start
    config = FloatTrainingConfig(steps=2, warmup_steps=1, checkpoint_every=2)
    lines = []

    def training():
        return DemoTraining(tmp_path / "run", scenes, scene_set(2, "heldout"), config, batch=2, say=lines.append)

    metrics = training().run(resume=True, report=lambda p: None)
    written = {path.name for path in (tmp_path / "run").iterdir()}
    assert written == {"model", "preview", "checkpoint.pt", "curve.jsonl", "curve.png", "metrics.json"}
    assert json.loads((tmp_path / "run" / "metrics.json").read_text()) == metrics
    assert metrics["heldout_scenes"] == 2 and metrics["perplexity"] > 1 and metrics["steps"] == 2
    curve = (tmp_path / "run" / "curve.jsonl").read_text()
    again = training().run(resume=True, report=lambda p: None)  # finished: only measured again
    assert again["cider"] == metrics["cider"] and any("going on after step 2" in line for line in lines)
    assert (tmp_path / "run" / "curve.jsonl").read_text() == curve
    (tmp_path / "run" / "checkpoint.pt").write_bytes(b"no checkpoint")
    with pytest.raises(InputError, match="checkpoint.pt: not a checkpoint"):
        training().run(resume=True, report=lambda p: None)


def test_command_line_explains_errors(capsys, monkeypatch, tmp_path):
    assert cli.main([]) == 2
    assert "train-demo" in capsys.readouterr().out
    assert cli.main(["compress", str(tmp_path / "nowhere"), "--out", str(tmp_path / "b")]) == 1
    error = capsys.readouterr().err
    assert "nowhere" in error and "Traceback" not in error
    monkeypatch.setitem(cli.COMMANDS, "broken", ("no_such_package_here", ""))
    with pytest.raises(ModuleNotFoundError):
        cli.main(["broken"])
    with pytest.raises(SystemExit) as stopped:
        cli.main(["train-demo"])
    assert stopped.value.code == 2
