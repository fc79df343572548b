# SPDX-License-Identifier: Apache-2.0
"""What tokens count by the model's answers, against automatic differentiation of the whole model."""

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from tiny_vlm import save_tiny, tiny_batch, tiny_vlm  # noqa: E402

from edge_vlm.errors import OutputError  # noqa: E402
from offline_compress.errors import QuantizeError  # noqa: E402
from offline_compress.quantize.blockwise import HALVES  # noqa: E402
from offline_compress.saliency.gradient_pass import GradientPass  # noqa: E402
from offline_compress.saliency.statistics import clipped_to_mean_one  # noqa: E402
from offline_compress.saliency.token_saliency import TokenSaliency  # noqa: E402
from offline_compress.streaming.streamed_vlm import StreamedVlm  # noqa: E402

VISION, TEXT = HALVES


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    folder = save_tiny(tiny_vlm(), tmp_path_factory.mktemp("tiny"))
    batch = tiny_batch(0, size=6)
    batch["attention_mask"][:, 10:], batch["labels"][:, 10:] = 0, -100  # two tokens of padding
    saliency = TokenSaliency(StreamedVlm.open(folder), [batch], tmp_path_factory.mktemp("work"))
    saliency.measure()
    return saliency, batch


def gradients(batch, names):
    """Of answers drawn as the pass draws them, in one piece."""
    model, seen = tiny_vlm(), {}

    def keep(module, _inputs, output):
        output.requires_grad_(True)
        seen[module] = output

    layers = [model.get_submodule(name) for name in names]
    for layer in layers:
        layer.register_forward_hook(keep)
    given = {name: batch[name] for name in ("pixel_values", "input_ids")}
    logits = model.requires_grad_(False)(**given, use_cache=False).logits
    answers = torch.nn.functional.pad(batch["labels"][:, 1:] != -100, (0, 1))
    scores = torch.log_softmax(logits[answers].float(), -1)
    drawn = torch.multinomial(scores.detach().exp(), 1, generator=torch.Generator().manual_seed(0))
    found = torch.autograd.grad(-scores.gather(1, drawn).sum(), [seen[layer] for layer in layers])
    return [gradient.abs().mean(-1) for gradient in found]


@pytest.mark.parametrize("block, matrix", [(VISION, "mlp.fc1"), (VISION, "self_attn.v_proj"),
                                           (TEXT, "self_attn.k_proj"), (TEXT, "mlp.down_proj")])  # fmt: skip
@pytest.mark.parametrize("layer", [0, 2])
def test_tokens_count_by_the_gradient_of_the_answers(measured, block, matrix, layer):
    saliency, batch = measured
    (wanted,) = gradients(batch, [f"{block}.{layer}.{matrix}"])
    valid = batch["attention_mask"].bool() if block == TEXT else torch.ones(6, 16, dtype=torch.bool)
    found = saliency.of(f"{block}.{layer}")[matrix]
    torch.testing.assert_close(found, clipped_to_mean_one(wanted[valid]), rtol=1e-3, atol=1e-5)


def test_in_the_last_block_only_tokens_before_an_answer_count(measured):
    saliency, batch = measured
    found = saliency.of(f"{TEXT}.2")["mlp.down_proj"].reshape(6, 10)
    before_answer = (batch["labels"][:, 1:] != -100)[:, :10]
    assert torch.equal(found > 0, before_answer)


def test_after_a_failure_it_begins_anew(tmp_path, monkeypatch):
    folder = save_tiny(tiny_vlm(), tmp_path / "model")
    saliency = TokenSaliency(StreamedVlm.open(folder), [tiny_batch(0, size=6)], tmp_path / "work")
    backward = GradientPass.backward

    def failing(gradients, name, *rest):
        if name == f"{TEXT}.0":
            raise OutputError("disk full", "free space")
        backward(gradients, name, *rest)

    with monkeypatch.context() as patch, pytest.raises(OutputError):
        patch.setattr(GradientPass, "backward", failing)
        saliency.measure()
    assert not saliency.folder.exists()
    saliency.measure()
    assert saliency.of(f"{VISION}.0")


def test_what_is_known_is_not_measured_again_and_damage_is_told(measured, tmp_path, monkeypatch):
    saliency, _ = measured
    monkeypatch.setattr(type(saliency.gradients), "run", lambda *_: pytest.fail("measured again"))
    saliency.measure()
    saliency.drop_states()
    assert not saliency.gradients.folder.exists() and saliency.of(f"{TEXT}.1")
    path = saliency.path(f"{TEXT}.1")
    for damaged in (b"damaged", path.read_bytes()[:-30], b""):
        path.write_bytes(damaged)
        with pytest.raises(QuantizeError, match="damaged") as caught:
            saliency.of(f"{TEXT}.1")
        assert "--resume never" in caught.value.remedy
