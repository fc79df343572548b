# SPDX-License-Identifier: Apache-2.0
"""Activations that are infinite or no numbers are told by the module that they appear at, in every way of compressing
that looks at activations; nothing half-written stays."""

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from tiny_vlm import save_tiny, tiny_batch, tiny_vlm  # noqa: E402

from offline_compress.errors import QuantizeError  # noqa: E402
from offline_compress.quantize.block import SALIENCY, SolveConfig  # noqa: E402
from offline_compress.quantize.blockwise import HALVES, BlockwiseRun  # noqa: E402
from offline_compress.quantize.format_errors import measure_formats  # noqa: E402
from offline_compress.quantize.grids import Grid  # noqa: E402
from offline_compress.streaming.streamed_vlm import StreamedVlm  # noqa: E402

VISION, TEXT = (f"{half}.1" for half in HALVES)


def overflowing(tmp_path, name):
    """Weights that are finite themselves, whose products overflow float32."""
    model = tiny_vlm()
    model.get_submodule(name).weight.data *= 1e38
    return save_tiny(model, tmp_path / "model")


def grids():
    modules = tiny_vlm().named_modules()
    return {n: Grid("ternary") for n, m in modules if isinstance(m, torch.nn.Linear) and n.startswith(HALVES)}


@pytest.mark.parametrize("saliency", SALIENCY)
@pytest.mark.parametrize("block, matrix", [(VISION, "mlp.fc1"), (TEXT, "mlp.up_proj"), (TEXT, "self_attn.v_proj")])
def test_a_solver_names_the_module_where_activations_overflow(tmp_path, block, matrix, saliency):
    folder = overflowing(tmp_path, f"{block}.{matrix}")
    run = BlockwiseRun(StreamedVlm.open(folder), [tiny_batch()], grids(), SolveConfig("gptq", saliency), tmp_path / "w")
    with pytest.raises(QuantizeError, match=f"{block}.*not finite") as caught:
        run.run()
    assert "calibration" in caught.value.remedy
    assert not list((tmp_path / "w").glob(".*"))
    assert not (tmp_path / "w" / "saliency" / "states").exists()


@pytest.mark.parametrize("block, matrix", [(VISION, "mlp.fc1"), (TEXT, "mlp.up_proj")])
def test_an_automatic_plan_names_the_module_where_activations_overflow(tmp_path, block, matrix):
    folder = overflowing(tmp_path, f"{block}.{matrix}")
    with pytest.raises(QuantizeError, match=f"{block}: its outputs are not finite"):
        measure_formats(StreamedVlm.open(folder), [tiny_batch()], tmp_path / "w")


@pytest.mark.parametrize("value", [torch.inf, torch.nan])
def test_an_automatic_plan_refuses_pictures_that_are_not_finite(tmp_path, value):
    batch = tiny_batch()
    batch["pixel_values"][0, 0, 0, 3, 3] = value
    folder = save_tiny(tiny_vlm(), tmp_path / "model")
    with pytest.raises(QuantizeError, match="image: its outputs are not finite"):
        measure_formats(StreamedVlm.open(folder), [batch], tmp_path / "w")
    assert not list((tmp_path / "w").rglob("*.bin"))
