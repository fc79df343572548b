# SPDX-License-Identifier: Apache-2.0
"""AWQ on a tiny VLM with strong channels: what is scaled before rounding is scaled back by what comes before."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from tiny_vlm import save_tiny, tiny_batch, tiny_vlm  # noqa: E402

from offline_compress.quantize.awq import divided_norms  # noqa: E402
from offline_compress.quantize.block import SolveConfig  # noqa: E402
from offline_compress.quantize.blockwise import HALVES, BlockwiseRun  # noqa: E402
from offline_compress.quantize.grids import Grid  # noqa: E402
from offline_compress.streaming.streamed_vlm import StreamedVlm  # noqa: E402

GRID, STRENGTH = Grid("integer", 4, group=32), 20.0


def model_with_strong_channels():
    """The same function as `tiny_vlm`, with two channels that are much stronger before every matrix that has a norm or
    a matrix before it."""
    model = tiny_vlm()
    for block in [*model.get_submodule(HALVES[0]), *model.get_submodule(HALVES[1])]:
        attention, mlp = block.self_attn, block.mlp
        vision = hasattr(block, "layer_norm1")
        norms = (block.layer_norm1, block.layer_norm2) if vision else (
            block.input_layernorm, block.post_attention_layernorm
        )  # fmt: skip
        for norm, readers in (
            (norms[0], (attention.q_proj, attention.k_proj, attention.v_proj)),
            (norms[1], (mlp.fc1,) if vision else (mlp.gate_proj, mlp.up_proj)),
        ):
            for value in norm.parameters():
                value.data[:2] *= STRENGTH
            for reader in readers:
                reader.weight.data[:, :2] /= STRENGTH
        if not vision:
            mlp.up_proj.weight.data[:2] *= STRENGTH
            mlp.down_proj.weight.data[:, :2] /= STRENGTH
    return model


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save_tiny(model_with_strong_channels(), tmp_path_factory.mktemp("strong"))


def logits(model):
    batch = tiny_batch(99, size=8)
    with torch.no_grad():
        names = ("pixel_values", "input_ids", "attention_mask")
        return model(**{name: batch[name] for name in names}, use_cache=False).logits


def logits_error(folder, work, solver, saliency="none"):
    """Of the quantised model, relative to those of the float model."""
    model = model_with_strong_channels()
    names = [n for n, m in model.named_modules() if isinstance(m, torch.nn.Linear) and n.startswith(HALVES)]
    batches = [tiny_batch(seed, size=8) for seed in range(6)]
    run = BlockwiseRun(
        StreamedVlm.open(folder), batches, dict.fromkeys(names, GRID), SolveConfig(solver, saliency), work
    )
    solved = run.run()
    parameters = {name: value.detach().numpy() for name, value in model.named_parameters()}
    scales = {name: matrix.norm_scale for name, matrix in solved.items() if matrix.norm_scale is not None}
    changed = divided_norms(parameters, scales)
    for name, matrix in solved.items():
        changed[f"{name}.weight"] = matrix.weights.dequantised()
        if matrix.weights.bias is not None:
            changed[f"{name}.bias"] = matrix.weights.bias
    wanted = logits(model)
    model.load_state_dict({name: torch.from_numpy(np.asarray(value)) for name, value in changed.items()}, strict=False)
    return float((logits(model) - wanted).square().sum() / wanted.square().sum())


@pytest.mark.parametrize("saliency", ["none", "answers"])
def test_strong_channels_survive_rounding(folder, tmp_path, saliency):
    scaled = logits_error(folder, tmp_path / "awq", "awq", saliency)
    assert scaled < 0.5 * logits_error(folder, tmp_path / "rtn", "rtn", saliency)
