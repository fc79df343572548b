# SPDX-License-Identifier: Apache-2.0
"""``compress --solver``: from a folder and calibration pairs to a bundle, without training."""

import argparse
from types import SimpleNamespace

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from tiny_model import write_hf_folder  # noqa: E402

from edge_vlm.errors import EdgeVlmError  # noqa: E402
from edge_vlm.runtime.bundle import Bundle  # noqa: E402
from offline_compress.commands import compress  # noqa: E402
from offline_compress.quantize.blockwise import BlockwiseRun  # noqa: E402
from offline_compress.train import compression_data  # noqa: E402
from offline_compress.train.training_free import verdict  # noqa: E402


class RandomPairs:
    """Pictures of noise with random words, as many as asked for."""

    def __init__(self, size):
        self.size, self.steps = size, []

    def batch(self, step):
        self.steps.append(step)
        generator = torch.Generator().manual_seed(step)
        ids = torch.randint(6, 75, (self.size, 26), generator=generator)
        ids[:, 1:17] = 3  # image tokens
        mask = torch.ones_like(ids)
        mask[0, 22:] = 0
        pixels = torch.randn(self.size, 1, 3, 32, 32, generator=generator)
        labels = torch.where((mask == 1) & (torch.arange(26) >= 20), ids, -100)
        return {"pixel_values": pixels, "input_ids": ids, "attention_mask": mask, "labels": labels}


@pytest.fixture(scope="module")
def hf_folder(tmp_path_factory):
    return write_hf_folder(tmp_path_factory.mktemp("calibration") / "tiny")


@pytest.fixture
def pairs(monkeypatch):
    made = []

    def scene_data(folder, cache, size, seed):
        made.append(RandomPairs(size))
        return SimpleNamespace(batches=made[-1])

    monkeypatch.setattr(compression_data, "scene_data", scene_data)
    return made


def run(folder, out, *words):
    parser = argparse.ArgumentParser()
    compress.add_arguments(parser)
    given = [folder, "--out", out, "--heldout", 0, "--data-cache", "scenes", *words]
    return compress.run(parser.parse_args([str(word) for word in given]))


@pytest.mark.parametrize("method, solver", [("ternary", "gptq"), ("binary", "gptq"), ("int3", "awq")])
def test_a_solver_writes_a_bundle_of_other_codes_with_the_same_bytes(hf_folder, tmp_path, pairs, method, solver):
    assert run(hf_folder, tmp_path / "rtn", "--method", method, "--steps", 0, "--solver", "rtn") == 0
    words = ("--method", method, "--steps", 0, "--solver", solver, "--pairs", 20)
    assert run(hf_folder, tmp_path / "a", *words) == run(hf_folder, tmp_path / "b", *words) == 0
    assert pairs[0].size == 5 and sorted(set(pairs[0].steps)) == [0, 1, 2, 3]
    plain, solved = Bundle.load(tmp_path / "rtn"), Bundle.load(tmp_path / "a")
    assert solved.info.weight_bytes == plain.info.weight_bytes
    for name in ("vision.tflite", "text.tflite"):
        graph = (tmp_path / "a" / name).read_bytes()
        assert graph == (tmp_path / "b" / name).read_bytes() != (tmp_path / "rtn" / name).read_bytes()
    wanted = {"solver": solver, "saliency": "answers", "pairs": 20, "seed": 0, "precision": "float32"}
    options = solved.report()["training"]["options"]
    assert {name: options[name] for name in wanted} == wanted
    assert {row["saliency_share"] is None for row in solved.report()["layers"] if row["bits"] < 8} == {False}


def test_training_starts_from_what_a_solver_found(hf_folder, tmp_path, pairs):
    words = ("--method", "ternary", "--solver", "gptq", "--pairs", 8)
    assert run(hf_folder, tmp_path / "solved", *words, "--steps", 0) == 0
    still = ("--latent-rate", 1e-12, "--other-rate", 1e-12, "--watch", 0, "--batch", 4)
    assert run(hf_folder, tmp_path / "trained", *words, "--steps", 1, *still) == 0
    solved, trained = (Bundle.load(tmp_path / name).report() for name in ("solved", "trained"))
    errors = [[row["relative_error"] for row in report["layers"]] for report in (solved, trained)]
    assert errors[1] == pytest.approx(errors[0], rel=1e-4)
    assert [row["final_error"] for row in trained["layers"]] == pytest.approx(errors[0], rel=1e-2, abs=1e-3)
    assert trained["training"]["method"] == "qat + distillation"
    assert trained["training"]["calibration"] == solved["training"]["options"]


@pytest.mark.parametrize(
    "words, message",
    [
        (["--steps", "3", "--method", "auto", "--bits", "3"], "an automatic plan is not trained"),
        (["--steps", "0", "--method", "int8"], "nothing to calibrate"),
        (["--steps", "3", "--method", "int3", "--solver", "awq"], "training does not begin with awq"),
    ],
)
def test_what_cannot_be_done_is_said(hf_folder, tmp_path, pairs, words, message):
    with pytest.raises(EdgeVlmError, match=message):
        run(hf_folder, tmp_path / "b", "--solver", "gptq", *words)
    assert not (tmp_path / "b").exists()


def test_an_automatic_plan_keeps_its_budget_and_is_stored(hf_folder, tmp_path, pairs, capsys):
    words = ("--method", "auto", "--budget-mb", 0.19, "--pairs", 8)
    assert run(hf_folder, tmp_path / "b", *words) == 0
    bundle = Bundle.load(tmp_path / "b")
    report = bundle.report()
    assert bundle.info.variant == "mixed" and bundle.info.weight_bytes <= 190_000
    assert report["plan"]["name"] == "auto" and report["training"]["losses"]["lm_head"]
    chosen = [row for row in report["layers"] if "sensitivity" in row["why"]]
    assert len(chosen) == 4 * 6 + 4 * 7 + 1 and all(row["expected_loss"] >= 0 for row in chosen)
    printed = capsys.readouterr().out
    cost, again = printed.index("GB of memory"), printed.rindex("GB of memory")  # of the plan, of the solver
    assert cost < printed.index("auto, planned") < again < printed.index("auto, gptq")
    with pytest.raises(EdgeVlmError, match="a budget of 0.02 MB; the smallest plan takes"):
        run(hf_folder, tmp_path / "c", "--method", "auto", "--budget-mb", 0.02, "--pairs", 8)
    for words in (("--method", "auto", "--budget-mb", 1, "--bits", 4), ("--method", "int4", "--bits", 4)):
        with pytest.raises(EdgeVlmError, match="are sizes of an automatic plan"):
            run(hf_folder, tmp_path / "c", *words)
    assert not (tmp_path / "c").exists()


def test_a_budget_for_more_than_8_bits_is_rounded(hf_folder, tmp_path, pairs):
    assert run(hf_folder, tmp_path / "b", "--bits", 12, "--steps", 0, "--pairs", 8) == 0
    assert {row["bits"] for row in Bundle.load(tmp_path / "b").report()["layers"]} == {8}


@pytest.mark.parametrize("words", [("--steps", 0), ("--method", "auto")])
def test_without_training_the_default_is_a_plan_of_its_own_at_a_few_bits(hf_folder, tmp_path, pairs, words):
    assert run(hf_folder, tmp_path / "b", *words, "--pairs", 8) == 0
    bundle = Bundle.load(tmp_path / "b")
    report = bundle.report()
    assert report["plan"]["name"] == "auto" and report["training"]["options"]["bits"] == 4.5
    assert bundle.info.variant == "mixed"


def test_an_interrupted_compression_ends_in_the_same_bundle(hf_folder, tmp_path, pairs, monkeypatch):
    words = ("--method", "int3", "--steps", 0, "--pairs", 8, "--name", "tiny")
    assert run(hf_folder, tmp_path / "a", *words) == 0
    do = BlockwiseRun.do

    def ending(blockwise, number):
        if number == 6:
            raise KeyboardInterrupt
        do(blockwise, number)

    monkeypatch.setattr(BlockwiseRun, "do", ending)
    with pytest.raises(KeyboardInterrupt):
        run(hf_folder, tmp_path / "b", *words)
    assert not (tmp_path / "b").exists()
    monkeypatch.setattr(BlockwiseRun, "do", do)
    assert run(hf_folder, tmp_path / "b", *words) == 0
    for file in sorted((tmp_path / "a").iterdir()):
        assert file.read_bytes() == (tmp_path / "b" / file.name).read_bytes()


def test_the_verdict_warns_where_words_are_lost():
    assert verdict(1.4, 1.37, "int4") is None
    assert "1.77 times that of the float model" in verdict(2.42, 1.37, "ternary")
    assert "--steps" in verdict(2.42, 1.37, "ternary") and "--budget-mb" in verdict(2.42, 1.37, "int2")


@pytest.mark.parametrize("perplexity, warns", [(2.1, False), (9.0, True)])
def test_a_ternary_model_that_babbles_is_warned_of_with_the_remedy(
    hf_folder, tmp_path, pairs, monkeypatch, capsys, perplexity, warns
):
    found = SimpleNamespace(perplexity=perplexity, metrics={"cider": 0.1}, to_json=dict)
    monkeypatch.setattr(compress, "evaluate_bundle", lambda *_: found)
    monkeypatch.setattr(compress, "streamed_perplexity", lambda *_: 2.0)
    monkeypatch.setattr(compress, "sample_batches", lambda *_: [])
    words = ("--method", "ternary", "--steps", 0, "--pairs", 8, "--heldout", 2)
    assert run(hf_folder, tmp_path / "b", *words) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert ("warning: perplexity 9.000 is 4.50 times that of the float model (2.000)" in said) == warns
    assert ("remedy: train it: --steps 1000" in said) == warns
    assert Bundle.load(tmp_path / "b").report()["heldout"]["judged"]["float_perplexity"] == 2.0
