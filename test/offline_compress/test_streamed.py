# SPDX-License-Identifier: Apache-2.0
"""A model read block by block says what the whole one says, and leaves nothing in memory."""

import math

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from tiny_vlm import save_tiny, tiny_batch, tiny_vlm  # noqa: E402

from offline_compress.evaluate.streamed_perplexity import streamed_perplexity  # noqa: E402
from offline_compress.models.random_checkpoint import write_random_checkpoint  # noqa: E402
from offline_compress.streaming.streamed_vlm import StreamedVlm  # noqa: E402


@pytest.mark.parametrize("tied", [True, False])
def test_perplexity_is_that_of_the_whole_model(tmp_path, tied):
    model = tiny_vlm(tied=tied)
    batches = [tiny_batch(seed) for seed in range(3)]
    batches[1]["attention_mask"][0, 10:] = 0
    batches[1]["labels"][0, 10:] = -100
    total, count = 0.0, 0
    for batch in batches:
        given = {name: batch[name] for name in ("pixel_values", "input_ids", "attention_mask")}
        with torch.no_grad():
            logits = model(**given, use_cache=False).logits[:, :-1]
        target = batch["labels"][:, 1:]
        total += float(
            torch.nn.functional.cross_entropy(logits[target != -100], target[target != -100], reduction="sum")
        )
        count += int((target != -100).sum())
    vlm = StreamedVlm.open(save_tiny(model, tmp_path))
    assert streamed_perplexity(vlm, batches) == pytest.approx(math.exp(total / count), rel=1e-4)
    assert all(parameter.device.type == "meta" for parameter in vlm.model.parameters())


def test_modules_are_emptied_also_after_an_error(tmp_path):
    vlm = StreamedVlm.open(save_tiny(tiny_vlm(), tmp_path))
    with pytest.raises(ZeroDivisionError), vlm.loaded("lm_head") as model:
        assert model.lm_head.weight.device.type == "cpu"
        raise ZeroDivisionError
    assert vlm.model.lm_head.weight.device.type == "meta"


def test_random_checkpoints_have_the_shapes_of_their_configuration(tmp_path):
    import json

    save_tiny(tiny_vlm(), tmp_path / "tiny")
    config = json.loads((tmp_path / "tiny/config.json").read_text())
    first, second = (StreamedVlm.open(write_random_checkpoint(config, tmp_path / name)) for name in "ab")
    name = "model.text_model.layers.0.mlp.up_proj.weight"
    assert torch.equal(first.float_parameter(name), second.float_parameter(name))
    assert not list((tmp_path / "a").glob("*.bin"))
