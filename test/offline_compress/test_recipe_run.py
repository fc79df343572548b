# SPDX-License-Identifier: Apache-2.0
"""A small recipe for real: all stages one after the other, each alone, and again after an interruption."""

import argparse
from dataclasses import dataclass

import cv2
import numpy as np
import pytest
import yaml

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")
pytest.importorskip("rich")

from edge_vlm.runtime.bundle import Bundle  # noqa: E402
from offline_compress import cli  # noqa: E402
from offline_compress.commands import compress, gather  # noqa: E402
from offline_compress.commands import run as run_command  # noqa: E402
from offline_compress.kept_parts import KeptParts  # noqa: E402
from offline_compress.models.demo_model import build_demo_model, demo_config, save_folder  # noqa: E402
from offline_compress.models.tokenizer import train_tokenizer  # noqa: E402
from offline_compress.pairs.opening import open_pairs  # noqa: E402
from offline_compress.train import compression, router  # noqa: E402
from offline_compress.train.qat import QatConfig  # noqa: E402

CAPTIONS = ("A red cube.", "A blue sphere on a table.")


def small_model(folder):
    config, tokenizer = demo_config(), train_tokenizer(CAPTIONS)
    vision, text = config.vision_config, config.text_config
    vision.hidden_size, vision.intermediate_size, vision.num_attention_heads, vision.num_hidden_layers = 24, 40, 2, 3
    vision.image_size = 64  # 4 x 4 patches
    text.hidden_size, text.intermediate_size, text.num_attention_heads, text.num_hidden_layers = 20, 36, 2, 3
    text.head_dim, text.vocab_size = 10, len(tokenizer)
    save_folder(build_demo_model(0, config), tokenizer, folder)


def pictures(folder, count, captioned):
    folder.mkdir()
    rng = np.random.default_rng(count)
    for index in range(count):
        cv2.imwrite(str(folder / f"{index}.png"), rng.integers(0, 256, (40, 60, 3), dtype=np.uint8))
        if captioned(index):
            (folder / f"{index}.txt").write_text("\n".join(CAPTIONS))


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("recipe")
    small_model(folder / "model")
    pictures(folder / "photos", 8, lambda index: True)
    (folder / "photos" / "broken.png").write_bytes(b"no image")
    (folder / "photos" / "0.txt").write_text(" . \n")
    pictures(folder / "mine", 4, lambda index: index % 2)
    (folder / "mine" / "broken.jpg").write_bytes(b"no image")
    return folder


@dataclass(frozen=True)
class SavedOften(QatConfig):
    checkpoint_every: int = 1


def in_this_process(command):
    words = command[command.index("offline_compress") + 1 :]
    return cli.main(words)


@pytest.fixture(scope="module", autouse=True)
def quick():
    """Steps run in this process instead of one of their own, every training step leaves a checkpoint, and few frames
    do for a router."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run_command, "ended", in_this_process)
        patch.setattr(compress, "QatConfig", SavedOften)
        patch.setattr(router, "_FEWEST_TRIALS", 5)
        patch.setattr(gather, "BATCH", 1)
        yield


def recipe(data, out):
    value = {
        "model": str(data / "model"), "out": str(out), "data": {"images": str(data / "photos")},
        "stages": {
            "compress": {"method": "ternary", "steps": 2, "batch": 2, "heldout": 0},
            "specialise": {"images": str(data / "mine"), "pairs": 2},
            "eliminate": {"clips": 5},
        },
    }  # fmt: skip
    path = out.with_suffix(".yaml")
    path.write_text(yaml.safe_dump(value))
    return path


def run(path, *words):
    parser = argparse.ArgumentParser()
    run_command.add_arguments(parser)
    return run_command.run(parser.parse_args([str(path), *map(str, words)]))


def contents(bundle):
    return {path.name: path.read_bytes() for path in sorted(bundle.iterdir())}


@pytest.fixture(scope="module")
def whole(data, tmp_path_factory):
    """The bundle that an undisturbed run gives."""
    out = tmp_path_factory.mktemp("whole") / "b"
    assert run(recipe(data, out)) == 0
    return out


def test_all_stages_make_one_bundle_with_gate_and_router(data, whole):
    bundle = Bundle.load(whole)
    assert bundle.info.variant == "ternary" and bundle.sttf and bundle.router["training"]["clips"] == 5
    assert bundle.report()["training"]["options"]["steps"] == 2
    domain = open_pairs(whole.with_name("b.work") / "domain")
    assert len(domain) >= 2 and set(domain.captions) >= {CAPTIONS}


def test_each_stage_runs_alone(data, whole, tmp_path, capsys):
    path = recipe(data, tmp_path / "b")
    for stage in ("compress", "specialise", "eliminate"):
        assert run(path, "--stage", stage) == 0
        assert "about " in (said := capsys.readouterr().out) and "GB of memory" in said
        assert stage != "compress" or "2 skipped: 0.png (its caption is empty), broken.png" in said
        assert (Bundle.load(tmp_path / "b").router is not None) == (stage == "eliminate")
    assert contents(tmp_path / "b") == contents(whole)
    assert run(path) == 0 and "to do" not in capsys.readouterr().out


def test_a_recipe_that_is_interrupted_in_every_step_ends_in_the_same_bundle(data, whole, tmp_path, monkeypatch):
    path, save, part = recipe(data, tmp_path / "b"), compression.save_checkpoint, KeptParts.of
    ended = []

    def end_once(what):
        if what not in ended:
            ended.append(what)
            raise KeyboardInterrupt

    def ending_training(state, where):
        """After the first of two steps, once in each training."""
        save(state, where)
        end_once(where)

    def ending_parts(self, name, make):
        """After the first caption, and after the first clip that a router learns from."""
        value = part(self, name, make)
        if name != "gate":
            end_once(self.folder)
        return value

    monkeypatch.setattr(compression, "save_checkpoint", ending_training)
    monkeypatch.setattr(KeptParts, "of", ending_parts)
    for _ in range(4):
        with pytest.raises(KeyboardInterrupt):
            run(path)
    assert run(path) == 0 and len(ended) == 4
    assert contents(tmp_path / "b") == contents(whole)
