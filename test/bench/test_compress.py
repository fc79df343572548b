# SPDX-License-Identifier: Apache-2.0
"""The rows of bench-compress say what was measured, over how many seeds, and what was not."""

from __future__ import annotations

import json

import numpy as np
import pytest
from rich.console import Console

pytest.importorskip("torch")
pytest.importorskip("transformers")

from tiny_model import write_hf_folder  # noqa: E402

from bench.kept import KeptFigures  # noqa: E402
from bench.trained_rows import METHODS, trained_rows  # noqa: E402
from bench.training_free import Measured, Subject, Variant  # noqa: E402
from bench.training_free_rows import draw_ablation, training_free_rows  # noqa: E402
from bench.weight_error_rows import KNOWN, weight_error_rows  # noqa: E402


def found():
    def tries(name, *values):
        return [Measured(name, seed, perplexity, 5 / perplexity, 3.0) for seed, perplexity in enumerate(values)]

    names = [
        Variant("ternary", "gptq"),
        Variant("ternary", "gptq", "answers"),
        Variant("ternary", "descent", "answers"),
    ]
    values = [(1.7, 1.8, 1.75), (1.5, 1.55, 1.6), (1.41, 1.42, 1.43)]
    return {"float": tries("float", 1.4)} | {v.name: tries(v.name, *x) for v, x in zip(names, values, strict=True)}


def test_weight_errors_are_the_known_ones():
    rows = weight_error_rows()
    assert len(rows) == 16 and all(row.holds for row in rows if row.goal is not None)


def test_the_known_weight_errors_are_those_of_the_densities():
    x = (np.arange(400_000) + 0.5) / 10_000
    densities = np.exp(-x * x / 2) * np.sqrt(2 / np.pi), np.exp(-x)
    for kind, density in enumerate(densities):
        share, mean = density / density.sum(), float((x * density).sum() / density.sum())

        def error(threshold, scale=None, share=share):
            above = share * (x > threshold)
            scale = (above * x).sum() / above.sum() if scale is None else scale
            return (share * (x - scale * (x > threshold)) ** 2).sum() / (share * x * x).sum()

        best = min(error(factor * mean) for factor in np.arange(0.5, 1.3, 0.01))
        exact = {"ternary": best, "ternary-twn": error(0.7 * mean), "ternary-absmean": error(mean / 2, mean),
                 "binary": error(0.0, mean)}  # fmt: skip
        assert {name: values[kind] for name, values in KNOWN.items()} == pytest.approx(exact, abs=2e-4)


def test_rows_are_means_over_seeds_held_against_the_goals(tmp_path):
    rows = {row.name: row for row in training_free_rows("demo", found())}
    best = rows["demo: ternary, descent + saliency: perplexity / float"]
    assert best.value == pytest.approx(1.42 / 1.4) and best.holds and "3 seeds" in best.note
    assert rows["demo: ternary, gptq: perplexity / float"].goal is None
    gain = rows["demo: ternary: gain of saliency in perplexity / spread over seeds"]
    assert gain.value == pytest.approx(0.2 / 0.05) and gain.holds
    assert rows["demo: int2-g128: gain of saliency in cider / spread over seeds"].value is None
    assert rows["demo: ternary: gain of saliency in blocks in perplexity / spread over seeds"].goal is None
    draw_ablation("demo", found(), tmp_path / "picture.png")
    assert (tmp_path / "picture.png").stat().st_size > 5000


def test_trained_rows_are_means_over_seeds_and_name_what_is_not_measured(tmp_path):
    folder = write_hf_folder(tmp_path / "model")
    subject = Subject("photos", folder, lambda seed: [], [], KeptFigures(tmp_path, known_only=True))
    subject.__dict__["identity"] = {"model": "m"}
    console = Console(quiet=True)
    assert all(row.value is None for row in trained_rows(subject, (), 9, 3, console))
    subject.kept.folder.joinpath("float-0.json").write_text(
        json.dumps({"identity": {"variant": "float", "model": "m", "seed": 0}, "figures": figures("float", 20.0, 0.5)})
    )
    for seed, cider in enumerate((0.49, 0.5, 0.48)):
        words = [*METHODS["ternary"], "--steps", "9", "--seed", str(seed)]
        identity = {"words": words, "method": "ternary", "options": [], **subject.calibrated_identity(seed)}
        known = {"identity": identity, "figures": figures("t", 20.5, cider)}
        (tmp_path / f"trained-ternary-{seed}.json").write_text(json.dumps(known))
    rows = {row.name: row for row in trained_rows(subject, (), 9, 3, console)}
    cider = rows["photos: ternary, trained: CIDEr / float"]
    assert cider.value == pytest.approx(0.98) and cider.holds and "3 seeds" in cider.note
    assert rows["photos: ternary, trained: perplexity / float"].value == pytest.approx(1.025)
    assert rows["photos: binary, trained: CIDEr / float"].value is None


def figures(variant, perplexity, cider):
    return {"variant": variant, "seed": 0, "perplexity": perplexity, "cider": cider, "weight_mb": 3.0}
