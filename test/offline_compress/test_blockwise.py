# SPDX-License-Identifier: Apache-2.0
"""Block by block on a tiny VLM: what is quantised, what stays, that the output suffers less than by rounding, and that
a run that was ended goes on to the same bits."""

import shutil

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

import numpy as np  # noqa: E402
from tiny_vlm import save_tiny, tiny_batch, tiny_vlm  # noqa: E402

from edge_vlm.errors import EdgeVlmError, InputError, OutputError  # noqa: E402
from offline_compress.errors import QuantizeError  # noqa: E402
from offline_compress.quantize import block_work  # noqa: E402
from offline_compress.quantize.block import SolveConfig, block_saliency  # noqa: E402
from offline_compress.quantize.block_work import States  # noqa: E402
from offline_compress.quantize.blockwise import HALVES, BlockwiseRun  # noqa: E402
from offline_compress.quantize.grids import Grid  # noqa: E402
from offline_compress.streaming.block import Block  # noqa: E402
from offline_compress.streaming.streamed_vlm import StreamedVlm  # noqa: E402

GRID = Grid("integer", 4, group=32)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save_tiny(tiny_vlm(), tmp_path_factory.mktemp("tiny"))


def block_linears(model):
    return [n for n, m in model.named_modules() if isinstance(m, torch.nn.Linear) and n.startswith(HALVES)]


def batches(count=6):
    return [tiny_batch(seed, size=8) for seed in range(count)]


def logits(model, batch):
    with torch.no_grad():
        names = ("pixel_values", "input_ids", "attention_mask")
        return model(**{name: batch[name] for name in names}, use_cache=False).logits


def all_grids():
    return dict.fromkeys(block_linears(tiny_vlm()), GRID)


def solve(folder, work, solver="gptq", saliency="none", grids=None, given=None, **options):
    grids = all_grids() if grids is None else grids
    run = BlockwiseRun(
        StreamedVlm.open(folder),
        batches() if given is None else given,
        grids,
        SolveConfig(solver, saliency),
        work,
        **options,
    )
    return run.run()


def error(result, batch):
    """Of the logits of a model with these weights, relative to those of the float model."""
    model, wanted = tiny_vlm(), logits(tiny_vlm(), batch)
    for name, matrix in result.items():
        model.get_submodule(name).weight.data = torch.from_numpy(matrix.weights.dequantised())
    return float((logits(model, batch) - wanted).square().sum() / wanted.square().sum())


def same(first, second):
    return first.keys() == second.keys() and all(
        np.array_equal(first[name].weights.codes, second[name].weights.codes)
        and np.array_equal(first[name].weights.scale, second[name].weights.scale)
        for name in first
    )


def test_feedback_keeps_the_output_better_than_rounding(folder, tmp_path):
    batch = tiny_batch(99, size=8)
    errors = {solver: error(solve(folder, tmp_path / solver, solver), batch) for solver in ("rtn", "gptq", "gptaq")}
    assert errors["gptq"] < errors["rtn"] and errors["gptaq"] < errors["rtn"]


@pytest.mark.parametrize("kind", ["ternary", "binary"])
def test_every_matrix_of_the_blocks_is_solved_and_runs_repeat_exactly(folder, tmp_path, kind):
    grids = dict.fromkeys(block_linears(tiny_vlm()), Grid(kind))
    first, second = (solve(folder, tmp_path / name, saliency="answers", grids=grids) for name in "ab")
    assert sorted(first) == sorted(grids) and same(first, second)
    assert all(0.1 <= matrix.saliency_share < 1 and 0 < matrix.output_error < 1 for matrix in first.values())
    biases = [name for name, matrix in first.items() if matrix.weights.bias is not None]
    assert biases and all("vision" in name for name in biases)


def test_the_float_states_are_those_of_transformers(folder, tmp_path):
    """With nothing to solve, both halves give what the whole model gives."""
    given, captured = batches(2), {}
    model = tiny_vlm()
    for half in HALVES:
        last = model.get_submodule(half)[-1]
        last.register_forward_hook(lambda _m, _i, out, half=half: captured.setdefault(half, []).append(out))
    for batch in given:
        logits(model, batch)
    run = BlockwiseRun(StreamedVlm.open(folder), given, {}, SolveConfig(saliency="none"), tmp_path / "work")
    run.run()
    number = len(run.stages) - 1
    states = States.at(run.work.stage(number, run.stages[number]), run.pairs.states_shape("text"), torch.float32)
    expected = torch.cat([out[0] if isinstance(out, tuple) else out for out in captured[HALVES[1]]])
    for found in (states.wanted, states.hidden):
        assert torch.allclose(found.read(0, 16), expected, atol=1e-5)


@pytest.mark.parametrize("ended_in", [0, 2, 4, 6])
def test_an_interrupted_run_goes_on_to_the_same_bits(folder, tmp_path, monkeypatch, ended_in):
    whole = solve(folder, tmp_path / "whole", saliency="answers")
    do = BlockwiseRun.do

    def ending(run, number):
        if number == ended_in:
            (run.work.folder / ".half.written").mkdir()
            raise KeyboardInterrupt
        do(run, number)

    monkeypatch.setattr(BlockwiseRun, "do", ending)
    with pytest.raises(KeyboardInterrupt):
        solve(folder, tmp_path / "work", saliency="answers")
    done = []
    monkeypatch.setattr(BlockwiseRun, "do", lambda run, number: (done.append(number), do(run, number)))
    assert same(solve(folder, tmp_path / "work", saliency="answers"), whole)
    assert done == list(range(ended_in, 8)) and not list((tmp_path / "work").glob(".*"))


@pytest.mark.parametrize("ended_in", ["lm_head, back", f"{HALVES[1]}.1, back", f"{HALVES[0]}.1, back"])
def test_a_run_interrupted_while_saliency_is_measured_goes_on_to_the_same_bits(folder, tmp_path, ended_in):
    def report(share, what):
        assert 0 <= share <= 1
        if what == f"saliency: {ended_in}":
            raise KeyboardInterrupt

    run = BlockwiseRun(StreamedVlm.open(folder), batches(), all_grids(), SolveConfig(), tmp_path / "work")
    with pytest.raises(KeyboardInterrupt):
        run.run(report)
    whole = solve(folder, tmp_path / "whole", saliency="answers")
    assert same(solve(folder, tmp_path / "work", saliency="answers"), whole)
    assert not (tmp_path / "work" / "saliency" / "states").exists()


def test_work_of_another_run_is_not_gone_on_with(folder, tmp_path):
    solve(folder, tmp_path / "work", given=batches(1))
    for change in ({"given": batches(2)}, {"solver": "gptaq", "given": batches(1)}):
        with pytest.raises(QuantizeError, match="work of another model, plan or calibration set") as caught:
            solve(folder, tmp_path / "work", **change)
        assert "--resume never" in caught.value.remedy
    solve(folder, tmp_path / "work", given=batches(2), resume=False)


def test_a_full_disk_is_said_before_anything_is_computed(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(block_work.shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10**9, 10**9, 1000))
    with pytest.raises(OutputError, match="GB are needed for hidden states and codes, 0.00 GB are free"):
        solve(folder, tmp_path / "work")
    assert [path.name for path in (tmp_path / "work").iterdir()] == ["run.json"]


def test_an_interrupted_run_needs_no_more_disk_than_a_whole_one(folder, tmp_path, monkeypatch):
    needed = BlockwiseRun(StreamedVlm.open(folder), batches(), all_grids(), SolveConfig(), tmp_path / "other").cost()

    def left(path):
        taken = sum(file.stat().st_size for file in (tmp_path / "work").rglob("*") if file.is_file())
        return shutil._ntuple_diskusage(10**9, 0, needed.disk_bytes + 1000 - taken)

    do = BlockwiseRun.do

    def ending(run, number):
        if number == 4:
            raise KeyboardInterrupt
        do(run, number)

    monkeypatch.setattr(block_work.shutil, "disk_usage", left)
    monkeypatch.setattr(BlockwiseRun, "do", ending)
    with pytest.raises(KeyboardInterrupt):
        solve(folder, tmp_path / "work")
    assert left(tmp_path).free < needed.disk_bytes
    monkeypatch.setattr(BlockwiseRun, "do", do)
    solve(folder, tmp_path / "work")


def test_a_block_that_loses_nothing_has_even_saliency(folder, tmp_path):
    vlm, name = StreamedVlm.open(folder), f"{HALVES[1]}.0"
    before, after = (States.at(tmp_path, (8, 12, 20), torch.float32) for _ in range(2))
    after = States.at(tmp_path / "after", (8, 12, 20), torch.float32)
    (tmp_path / "after").mkdir()
    hidden = torch.randn(8, 12, 20, generator=torch.Generator().manual_seed(0))
    before.hidden.write(0, hidden)
    with vlm.loaded(name), torch.no_grad():
        block = Block(vlm, HALVES[1], name, torch.ones(8, 12, dtype=torch.bool))
        after.wanted.write(0, block(hidden))
        layer = block.module.mlp.down_proj
        kept = layer.weight.clone()
        found = block_saliency(block, {"mlp.down_proj": layer}, {"mlp.down_proj": GRID}, before, after)["mlp.down_proj"]
        assert torch.equal(layer.weight, kept)
    assert found.shape == (8 * 12,) and found.mean() == pytest.approx(1, abs=1e-4)


def test_padding_does_not_count(folder, tmp_path):
    name = [n for n in block_linears(tiny_vlm()) if n.startswith(HALVES[1])][0]
    batch = tiny_batch(0, size=8)
    short = {key: value[:, :9] if value.ndim == 2 else value for key, value in batch.items()}
    batch["attention_mask"][:, 9:] = 0
    first, second = (
        solve(folder, tmp_path / str(i), grids={name: GRID}, given=[b]) for i, b in enumerate((short, batch))
    )
    first, second = (result[name].weights.dequantised() for result in (first, second))
    assert np.abs(first - second).max() < 1e-5


def test_bad_calibration_sets_are_refused_by_name(folder, tmp_path):
    with pytest.raises(QuantizeError, match="no calibration pairs"):
        solve(folder, tmp_path / "a", given=[])
    with pytest.raises(QuantizeError, match="lm_head: no Linear of a block"):
        solve(folder, tmp_path / "b", grids={"lm_head": GRID})
    spoiled = tiny_batch()
    spoiled["pixel_values"][0, 0, 0, 3, 3] = torch.inf
    name = block_linears(tiny_vlm())[0]
    with pytest.raises(QuantizeError, match=f"{name}: its inputs are not finite"):
        solve(folder, tmp_path / "c", grids={name: GRID}, given=[spoiled])
    front = tiny_batch()
    front["attention_mask"][0, 0] = 0
    with pytest.raises(QuantizeError, match="padded at the front"):
        solve(folder, tmp_path / "d", given=[front])
    missing = tiny_batch()
    missing["input_ids"][0, 1] = 5
    with pytest.raises(InputError, match="15 image tokens in 4 prompts, one image gives 4"):
        solve(folder, tmp_path / "e", given=[missing])


@pytest.mark.parametrize("value, message", [(torch.nan, "are NaN or infinite"), (0.0, "all weights are zero")])
def test_bad_weights_are_named_and_nothing_half_written_is_left(tmp_path, value, message):
    model = tiny_vlm()
    name = block_linears(model)[7]
    model.get_submodule(name).weight.data[:] = value
    folder = save_tiny(model, tmp_path / "model")
    with pytest.raises(EdgeVlmError, match=f"{name}.*{message}"):
        solve(folder, tmp_path / "work")
    assert not list((tmp_path / "work").glob(".*"))


def test_a_row_of_zeros_stays_zero(tmp_path):
    model = tiny_vlm()
    name = block_linears(model)[3]
    model.get_submodule(name).weight.data[2] = 0
    result = solve(save_tiny(model, tmp_path / "model"), tmp_path / "work", saliency="answers")
    assert not result[name].weights.dequantised()[2].any()
