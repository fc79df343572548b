# SPDX-License-Identifier: Apache-2.0
"""Sensitivity against automatic differentiation of the whole model, and against what changing a matrix really costs."""

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from tiny_vlm import save_tiny, tiny_batch, tiny_vlm  # noqa: E402

from offline_compress.quantize.format_errors import measure_formats  # noqa: E402
from offline_compress.saliency.gradient_pass import GradientPass  # noqa: E402
from offline_compress.saliency.sensitivity import Sensitivity  # noqa: E402
from offline_compress.streaming.streamed_vlm import StreamedVlm  # noqa: E402


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save_tiny(tiny_vlm(), tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def statistics(folder, tmp_path_factory):
    found = {}
    work = tmp_path_factory.mktemp("states")
    batches = [tiny_batch(seed, size=32) for seed in range(4)]
    Sensitivity(StreamedVlm.open(folder), batches, work).measure(found.__setitem__)
    return found


def divergence(model, reference, batch):
    """KL of the answers' next-token distributions, in nats a caption."""
    given = {name: batch[name] for name in ("pixel_values", "input_ids", "attention_mask")}
    with torch.no_grad():
        ours, theirs = (torch.log_softmax(m(**given, use_cache=False).logits, -1) for m in (model, reference))
    known = batch["labels"][:, 1:] != -100
    kl = (theirs.exp() * (theirs - ours)).sum(-1)[:, :-1][known].sum()
    return float(kl) / len(batch["input_ids"])


@pytest.mark.parametrize(
    "name",
    [
        "model.vision_model.encoder.layers.0.mlp.fc1",
        "model.vision_model.encoder.layers.2.self_attn.v_proj",
        "model.connector.modality_projection.proj",
        "model.text_model.layers.0.self_attn.q_proj",
        "model.text_model.layers.2.mlp.down_proj",
        "lm_head",
    ],
)
def test_the_expected_loss_is_near_the_divergence_of_a_small_change(statistics, name):
    model, reference = tiny_vlm(tied=True), tiny_vlm(tied=True)
    model.lm_head.weight = torch.nn.Parameter(model.lm_head.weight.detach().clone())  # the head alone, not the table
    weight = model.get_submodule(name).weight
    generator = torch.Generator().manual_seed(1)
    expected = real = 0.0
    batch = {key: torch.cat([tiny_batch(s, size=32)[key] for s in range(4)]) for key in tiny_batch()}
    kept = weight.detach().clone()
    for _ in range(6):
        change = 0.02 * kept.std() * torch.randn(kept.shape, generator=generator)
        weight.data = kept + change
        real += divergence(model, reference, batch)
        d = change.double()
        expected += float(((d @ statistics[name].hessian) * d).sum()) / 2 / 128
    assert 0.5 < expected / real < 2


def test_fewer_bits_cost_more_and_measurements_are_kept(folder, tmp_path, monkeypatch):
    batches = [tiny_batch(seed, size=16) for seed in range(2)]
    measured = measure_formats(StreamedVlm.open(folder), batches, tmp_path)
    assert len(measured) == 3 * 6 + 3 * 7 + 2
    for losses in measured.values():
        assert losses["int8"] < losses["int4-g64"] < losses["int3-g64"] < losses["int2-g64"]
    assert not (tmp_path / "states").exists()
    monkeypatch.setattr(Sensitivity, "measure", lambda *_: pytest.fail("measured again"))
    assert measure_formats(StreamedVlm.open(folder), batches, tmp_path) == measured


def test_an_interrupted_measurement_goes_on_to_the_same_losses(folder, tmp_path, monkeypatch):
    batches = [tiny_batch(seed, size=16) for seed in range(2)]
    whole = measure_formats(StreamedVlm.open(folder), batches, tmp_path / "whole")
    announced, passes = [], []

    def measured_until(stop):
        """Interrupted as soon as `stop` is to be done."""

        def report(share, what):
            passes.append(what)
            if what == stop:
                raise KeyboardInterrupt

        return measure_formats(
            StreamedVlm.open(folder), batches, tmp_path / "parts", report=report, announce=announced.append
        )

    steps = GradientPass(StreamedVlm.open(folder), batches, tmp_path).steps()
    stops = ["model.text_model.layers.1", *(f"{step}, back" for step in steps[1:])]
    for stop in stops:
        with pytest.raises(KeyboardInterrupt):
            measured_until(stop)
    ran = []
    for name in ("forward", "back"):
        method = getattr(GradientPass, name)
        monkeypatch.setattr(GradientPass, name, lambda *a, m=method: (ran.append(a[1]), m(*a)))
    assert measured_until(None) == whole
    assert ran == steps[-1:], "all else had been done"
    assert len(announced) == 1
    assert [path.name for path in (tmp_path / "parts").iterdir()] == ["format_errors.json"]
