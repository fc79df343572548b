# SPDX-License-Identifier: Apache-2.0
"""Block by block on a tiny VLM: what is quantised, what stays, and that the output suffers less than by rounding."""

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

import copy  # noqa: E402

from tiny_vlm import tiny_batch, tiny_vlm  # noqa: E402

from offline_compress.quantize.blockwise import HALVES, block_saliency, first_inputs, quantise_blockwise  # noqa: E402
from offline_compress.quantize.errors import QuantizeError  # noqa: E402
from offline_compress.quantize.grids import Grid  # noqa: E402

GRID = Grid("integer", 3, group=12)


def block_linears(model):
    return [n for n, m in model.named_modules() if isinstance(m, torch.nn.Linear) and n.startswith(HALVES)]


def batches(count=6):
    return [tiny_batch(seed, size=8) for seed in range(count)]


def logits(model, batch):
    with torch.no_grad():
        names = ("pixel_values", "input_ids", "attention_mask")
        return model(**{name: batch[name] for name in names}, use_cache=False).logits


def error(model, reference, batch):
    wanted = logits(reference, batch)
    return float((logits(model, batch) - wanted).square().sum() / wanted.square().sum())


def quantised(solver, saliency, grid=GRID):
    model = tiny_vlm()
    result = quantise_blockwise(model, batches(), dict.fromkeys(block_linears(model), grid), solver, saliency)
    return model, result


def test_feedback_keeps_the_output_better_than_rounding():
    reference, batch = tiny_vlm(), tiny_batch(99, size=8)
    errors = {solver: error(quantised(solver, False)[0], reference, batch) for solver in ("rtn", "gptq", "gptaq")}
    assert errors["gptq"] < errors["rtn"] and errors["gptaq"] < errors["rtn"]


@pytest.mark.parametrize("saliency", [False, True])
def test_the_model_holds_what_is_returned_and_runs_repeat_exactly(saliency):
    model, result = quantised("gptq", saliency, Grid("ternary"))
    again, _ = quantised("gptq", saliency, Grid("ternary"))
    assert list(result) == block_linears(model)
    for name, matrix in result.items():
        weight = model.get_submodule(name).weight
        assert torch.equal(weight, matrix.dequantised().float())
        assert torch.equal(weight, again.get_submodule(name).weight)


def test_what_the_plan_lacks_stays_float():
    model, reference = tiny_vlm(), tiny_vlm()
    name = block_linears(model)[4]
    quantise_blockwise(model, batches(1), {name: GRID})
    changed = [n for n, p in model.named_parameters() if not torch.equal(p, reference.get_parameter(n))]
    assert changed == [f"{name}.weight"]


def test_a_block_that_loses_nothing_has_even_saliency():
    model = tiny_vlm()
    calls = first_inputs(model, HALVES[1], batches(1))
    block = model.get_submodule(HALVES[1])[0]
    layers = {"mlp.down_proj": block.mlp.down_proj}
    before = copy.deepcopy(block.state_dict())
    with torch.no_grad():
        targets = [block(calls[0].hidden, **calls[0].arguments)]
    found = block_saliency(block, layers, {"mlp.down_proj": GRID}, calls, targets)["mlp.down_proj"]
    assert found.shape == (8 * 12,) and found.mean() == pytest.approx(1, abs=1e-4)
    assert all(torch.equal(value, before[name]) for name, value in block.state_dict().items())


def test_padding_does_not_count():
    model, padded = tiny_vlm(), tiny_vlm()
    name = [n for n in block_linears(model) if n.startswith(HALVES[1])][0]
    batch = tiny_batch(0, size=8)
    short = {key: value[:, :9] if value.ndim == 2 else value for key, value in batch.items()}
    batch["attention_mask"][:, 9:] = 0
    quantise_blockwise(model, [short], {name: GRID}, saliency=False)
    quantise_blockwise(padded, [batch], {name: GRID}, saliency=False)
    assert (model.get_submodule(name).weight - padded.get_submodule(name).weight).abs().max() < 1e-5


def test_bad_input_is_refused_by_name():
    with pytest.raises(QuantizeError, match="no calibration pairs"):
        quantise_blockwise(tiny_vlm(), [], {})
    with pytest.raises(QuantizeError, match="lm_head: no Linear of a block"):
        quantise_blockwise(tiny_vlm(), batches(1), {"lm_head": GRID})
    spoiled = tiny_batch()
    spoiled["pixel_values"][0, 0, 0, 3, 3] = torch.nan
    name = block_linears(tiny_vlm())[0]
    with pytest.raises(QuantizeError, match=f"{name}: its inputs are not finite"):
        quantise_blockwise(tiny_vlm(), [spoiled], {name: GRID}, saliency=False)
