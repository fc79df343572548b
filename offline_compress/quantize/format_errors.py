# SPDX-License-Identifier: Apache-2.0
"""What each format would do to each matrix: the loss it is expected to add, measured on the float model."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from edge_vlm.errors import EdgeVlmError
from edge_vlm.files import make_folder, write_json
from offline_compress.errors import QuantizeError
from offline_compress.quantize.block_work import require_space
from offline_compress.quantize.budget import Losses
from offline_compress.quantize.cost import Cost, estimate_plan
from offline_compress.quantize.formats import Method, method_named
from offline_compress.quantize.rows import checked
from offline_compress.quantize.solved_linear import grid_of
from offline_compress.quantize.solvers import solve
from offline_compress.saliency.gradient_pass import Report
from offline_compress.saliency.sensitivity import Sensitivity
from offline_compress.saliency.statistics import InputStatistics
from offline_compress.streaming.calibration_pairs import Batches
from offline_compress.streaming.streamed_vlm import StreamedVlm

CANDIDATES = ("ternary", "int2-g64", "int3-g64", "int4-g64", "int8")
ROWS = 192  # of a matrix that are solved to measure it; rows do not depend on one another


def measure_formats(
    vlm: StreamedVlm,
    batches: Batches,
    work: Path,
    candidates: Sequence[str] = CANDIDATES,
    report: Report = lambda share, what: None,
    announce: Callable[[Cost], None] = lambda cost: None,
) -> Losses:
    """All Linears of the blocks, the connector and the head. What was measured before in ``work`` is read from there,
    else ``announce`` is told the cost; a measurement that was interrupted goes on.

    Raises QuantizeError naming a matrix that cannot be quantised, or inputs that are not finite, OutputError where the
    disk is too small.
    """
    methods = [method_named(name) for name in candidates]
    states = work / "states"
    sensitivity = Sensitivity(vlm, batches, states)
    pairs = sensitivity.gradients.pairs
    identity = {"pairs": pairs.digest(), "candidates": list(candidates), "model": vlm.checkpoint.stamp(),
                "dtype": str(vlm.dtype)}  # fmt: skip
    path, begun_path = work / "format_errors.json", states / "begun.json"
    kept = read_kept(path, identity)
    if kept is not None:
        return kept
    begun = read_begun(begun_path, identity)
    if begun is None:
        remove(states)
        make_folder(states)
        cost = estimate_plan(pairs, len(methods), ROWS, sensitivity.gram_tokens)
        require_space(states, cost.disk_bytes, "hidden states of all blocks", "give fewer --pairs")
        announce(cost)
        begun = {"identity": identity, "losses": {}, "done": []}
        write_json(begun_path, begun)
    losses, done = begun["losses"], begun["done"]

    def see(name: str, statistics: InputStatistics) -> None:
        weight = checked(vlm.float_parameter(f"{name}.weight").flatten(1).numpy(), name)
        losses[name] = {
            method.name: expected_loss(torch.from_numpy(weight), method, statistics, pairs.count) for method in methods
        }

    def finished(step: str) -> None:
        done.append(step)
        write_json(begun_path, begun)

    try:
        sensitivity.measure(see, report, finished, tuple(done))
        write_json(path, {"identity": identity, "losses": losses})
    except EdgeVlmError:  # it would come again, and its hidden states are large
        remove(states)
        raise
    remove(states)
    return losses


def remove(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)


def expected_loss(weight: torch.Tensor, method: Method, statistics: InputStatistics, pairs: int) -> float:
    """``1/2 tr(D H D')`` of a pair, from evenly chosen rows of the weight (N, K) float64."""
    rows = weight[torch.linspace(0, len(weight) - 1, min(ROWS, len(weight))).long()]
    if method.bits >= 8:
        result = method.quantise(rows.numpy(), statistics.name) if method.quantise else None
        value = rows if result is None else torch.from_numpy(result.codes * result.scale[:, None].astype("float64"))
    else:
        solver = "rtn" if statistics.diagonal else "gptq"
        value = solve(rows, grid_of(method), None if statistics.diagonal else statistics, solver).dequantised()
    difference = rows - value
    if statistics.diagonal:
        total = (difference.square() * statistics.hessian).sum()
    else:
        total = ((difference @ statistics.hessian) * difference).sum()
    return float(total) / 2 / pairs * len(weight) / len(rows)


def read_kept(path: Path, identity: dict) -> Losses | None:
    if not path.is_file():
        return None
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
        return value["losses"] if value["identity"] == identity else None
    except (ValueError, KeyError) as error:
        raise QuantizeError(f"{path}: damaged ({error})", "remove it") from error


def read_begun(path: Path, identity: dict) -> dict | None:
    """How far a measurement had come; None for another one, or none."""
    try:
        begun = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return begun if begun.get("identity") == identity else None
