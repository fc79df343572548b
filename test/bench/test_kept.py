# SPDX-License-Identifier: Apache-2.0
"""Figures of a benchmark are shown again only where model, evaluation samples, calibration pairs, seed and options are
those that they were measured with."""

from __future__ import annotations

import dataclasses

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from tiny_model import CONFIG, make_image, random_tensors, write_hf_folder, write_safetensors  # noqa: E402

from bench import plan_rows, qat_rows, training_free  # noqa: E402
from bench.block_plans import all_blocks, inner_blocks  # noqa: E402
from bench.kept import KeptFigures  # noqa: E402
from bench.training_free import Measured, Subject, Variant  # noqa: E402
from offline_compress.evaluate.samples import ImageSample  # noqa: E402
from offline_compress.train.progress import open_console  # noqa: E402

CONSOLE = open_console()
SOLVED = Variant("ternary", "gptq")


class RandomPairs:
    """Pictures of noise behind a caption of random words."""

    def __init__(self, seed, size):
        self.seed, self.size = seed, size

    def batch(self, step):
        generator = torch.Generator().manual_seed(100 * self.seed + step)
        ids = torch.randint(6, 75, (self.size, 24), generator=generator)
        ids[:, 1:17] = CONFIG["image_token_id"]
        pixels = torch.randn(self.size, 1, 3, 32, 32, generator=generator)
        labels = torch.where(torch.arange(24) >= 19, ids, -100)
        return {"pixel_values": pixels, "input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": labels}


def subject(folder, work, pairs=4, images=1, caption="a red cube", known_only=False):
    samples = [ImageSample(make_image(index), (caption,)) for index in range(images)]
    kept = KeptFigures(work, known_only)
    return Subject("tiny", folder, lambda seed: [RandomPairs(seed, pairs).batch(0)], samples, kept)


@pytest.fixture
def folder(tmp_path):
    return write_hf_folder(tmp_path / "model")


@pytest.fixture
def measured(monkeypatch):
    """What was measured anew, instead of measuring it."""
    done = []

    def evaluated(self, variant, seed, console):
        done.append((variant and variant.name, seed))
        return Measured(variant.name if variant else "float", seed, 2.0 + len(done), 1.0, 0.1)

    monkeypatch.setattr(training_free.Subject, "evaluated", evaluated)
    return done


def test_a_figure_that_is_known_is_not_measured_again(folder, tmp_path, measured):
    rules = {rule.method for rule in inner_blocks(folder, "int2-g32").rules}
    assert rules == {"int8", "int2-g32"}
    everywhere = [rule.pattern for rule in all_blocks(folder, "ternary").rules if rule.method == "ternary"]
    assert everywhere == [r".*\.layers\..*"]
    first = subject(folder, tmp_path / "work").measure(SOLVED, 0, CONSOLE)
    folder.rename(tmp_path / "moved")
    again = subject(tmp_path / "moved", tmp_path / "work")
    assert again.measure(SOLVED, 0, CONSOLE) == first and measured == [("ternary, gptq", 0)]
    (tmp_path / "work" / "ternary_gptq-0.json").write_text("{")
    assert again.measure(SOLVED, 0, CONSOLE) != first and len(measured) == 2


def other_weights(folder):
    write_safetensors(folder / "model.safetensors", random_tensors(1))


def other_settings(folder):
    path = folder / "config.json"
    path.write_text(path.read_text().replace("5000.0", "6000.0"))


@pytest.mark.parametrize("change", [other_weights, other_settings])
def test_another_model_in_the_same_folder_is_measured_anew(folder, tmp_path, measured, change):
    for variant in (None, SOLVED):
        subject(folder, tmp_path / "work").measure(variant, 0, CONSOLE)
    change(folder)
    for variant in (None, SOLVED):
        subject(folder, tmp_path / "work").measure(variant, 0, CONSOLE)
    assert len(measured) == 4


@pytest.mark.parametrize("change", [{"pairs": 5}, {"images": 2}, {"caption": "a blue cube"}])
def test_other_data_are_measured_anew(folder, tmp_path, measured, change):
    subject(folder, tmp_path / "work").measure(SOLVED, 0, CONSOLE)
    subject(folder, tmp_path / "work", **change).measure(SOLVED, 0, CONSOLE)
    assert len(measured) == 2


def test_pairs_do_not_matter_to_what_is_not_calibrated(folder, tmp_path, measured):
    subject(folder, tmp_path / "work").measure(Variant("ternary"), 0, CONSOLE)
    subject(folder, tmp_path / "work", pairs=5).measure(Variant("ternary"), 0, CONSOLE)
    assert len(measured) == 1


def test_seeds_have_figures_of_their_own_and_nothing_is_measured_where_only_known_ones_are_wanted(
    folder, tmp_path, measured
):
    this = subject(folder, tmp_path / "work")
    assert this.measure(SOLVED, 0, CONSOLE) != this.measure(SOLVED, 1, CONSOLE)
    known = subject(folder, tmp_path / "work", known_only=True)
    assert [known.measure(SOLVED, seed, CONSOLE) is None for seed in range(3)] == [False, False, True]
    assert len(measured) == 2


def test_plans_are_compared_over_seeds_and_go_on_after_an_interruption(folder, tmp_path, monkeypatch):
    done = []

    def measured(subject, label, method, seed, budget, console):
        if len(done) == 3:
            done.append("interrupted")
            raise KeyboardInterrupt
        done.append((method, seed, budget))
        return {"perplexity": 2.0 + seed - 0.5 * (budget is not None), "cider": 1.0, "bytes": 1000 + seed}

    monkeypatch.setattr(plan_rows, "measured", measured)
    with pytest.raises(KeyboardInterrupt):
        plan_rows.plan_rows(subject(folder, tmp_path / "work"), 2, CONSOLE)
    rows = {row.name: row for row in plan_rows.plan_rows(subject(folder, tmp_path / "work"), 2, CONSOLE)}
    assert done[:3] == [("int2-g64", 0, None), ("int2-g64", 0, 1000), ("int2-g64", 1, None)]
    assert done[4:6] == [("int2-g64", 1, 1001), ("int3-g64", 0, None)] and len(done) == 9
    row = rows["tiny: automatic plan at the bytes of int2-g64: perplexity"]
    assert (row.value, row.goal, row.holds) == (2.0, 2.5, True) and "2 seeds, spread 0.707" in row.note
    unknown = subject(folder, tmp_path / "work", pairs=5, known_only=True)
    assert {row.value for row in plan_rows.plan_rows(unknown, 2, CONSOLE)} == {None}


def test_short_trainings_are_kept_by_model_data_and_options(folder, tmp_path, monkeypatch):
    done = []

    def curve(subject, method, batches, perplexity, config):
        done.append((method, config.steps))
        return [(0, 3.0), (config.steps, 2.0)]

    monkeypatch.setattr(qat_rows, "curve", curve)

    def rows(this, steps=4, size=2):
        return qat_rows.qat_rows(this, lambda seed: RandomPairs(seed, size), lambda model: 1.0, steps, 2, 1)

    this = subject(folder, tmp_path / "work")
    (row,) = rows(this)
    assert row.value == 1.0 and rows(this) == [row] and len(done) == 2
    rows(this, steps=6), rows(this, steps=6, size=3)
    assert len(done) == 6
    rows(dataclasses.replace(this, samples=this.samples * 2), steps=6, size=3)
    assert len(done) == 8
    assert rows(subject(folder, tmp_path / "none", known_only=True))[0].value is None


def test_a_short_training_has_a_point_at_every_checkpoint(folder, tmp_path):
    seen = iter(range(9, 0, -1))
    config = qat_rows.QatConfig(steps=4, checkpoint_every=2, bf16=False)
    this = subject(folder, tmp_path / "work")
    points = qat_rows.curve(this, "ternary", RandomPairs(0, 2), lambda model: float(next(seen)), config)
    assert points == [(0, 9.0), (2, 8.0), (4, 7.0)]
