# SPDX-License-Identifier: Apache-2.0
"""What a run will cost, said before it starts: time on this machine, memory, disk."""

from __future__ import annotations

import resource
import time
from dataclasses import dataclass
from math import prod

import torch

from offline_compress.quantize.awq import EXPONENTS
from offline_compress.quantize.block import Grids, SolveConfig
from offline_compress.quantize.descent import SWEEPS
from offline_compress.streaming.calibration_pairs import CalibrationPairs
from offline_compress.streaming.hidden_states import CHUNK_TOKENS

PROBE = 768  # size of the products that are timed
BASE_BYTES = 700_000_000  # Python, PyTorch, transformers
COLUMN_S = 1.5e-4  # of the solver's column loop, however narrow
CODE_BYTES = 1.2  # of one weight in the work folder: int8 codes and scales
PASSES = {"none": 3, "block": 6, "answers": 6}  # through each block, by saliency; one back counts for two
BESIDE_PRODUCTS = 1.6  # attention, norms and activations: how much longer a pass takes than its products


@dataclass(frozen=True)
class Cost:
    seconds: float
    memory_bytes: int
    disk_bytes: int

    def __str__(self) -> str:
        minutes = f"{self.seconds / 60:.0f} min" if self.seconds >= 90 else f"{self.seconds:.0f} s"
        memory, disk = (value / 1e9 for value in (self.memory_bytes, self.disk_bytes))
        return f"about {minutes}, {memory:.1f} GB of memory, {disk:.2f} GB of disk while it runs"


def estimate(pairs: CalibrationPairs, grids: Grids, config: SolveConfig) -> Cost:
    """Of `BlockwiseRun`, from the shapes and a short measurement of this machine's matrix products."""
    vlm = pairs.vlm
    passes = PASSES[config.saliency] + (config.solver == "gptaq")
    shapes = {name: vlm.checkpoint.shape(f"{name}.weight") for name in grids}
    rate, rate32, rate64 = (products_per_second(dtype) for dtype in (vlm.dtype, torch.float32, torch.float64))
    seconds = BESIDE_PRODUCTS * passes * sum(pairs.cost(name) for name in pairs.blocks()) / rate
    for name, (rows, columns) in shapes.items():
        stage = name.rpartition(".self_attn")[0] or name.rpartition(".mlp")[0]
        count, tokens, _ = pairs.states_shape(stage)
        seconds += count * min(tokens, config.gram_tokens) * columns**2 / rate32
        if config.solver == "awq":
            seconds += 2 * len(EXPONENTS) * rows * columns**2 / rate64
        elif config.solver == "descent":
            once = rows * columns**2 / rate64 + columns * COLUMN_S
            seconds += (2 + 3 * SWEEPS) * once + 1.5 * columns**3 / rate64
        elif config.solver != "rtn":
            seconds += (rows * columns**2 + 1.5 * columns**3) / rate64 + columns * COLUMN_S
    disk = disk_bytes(pairs, shapes) + (pass_disk_bytes(pairs) if config.saliency == "answers" else 0)
    return Cost(seconds, memory_bytes(pairs, shapes), disk)


def estimate_plan(pairs: CalibrationPairs, candidates: int, rows: int, gram_tokens: int) -> Cost:
    """Of the measurements behind an automatic plan: a pass forwards and one back, ``rows`` of every matrix solved in
    ``candidates`` formats. All blocks' hidden states are on disk at once, and the gradient's."""
    vlm = pairs.vlm
    blocks = pairs.blocks()
    known = vlm.family.parameter_shapes(vlm.checkpoint.config, True)
    shapes = {
        name.removesuffix(".weight"): shape for name, shape in known.items()
        if len(shape) == 2 and name.startswith(tuple(f"{block}." for block in blocks))
    }  # fmt: skip
    rate, rate32, rate64 = (products_per_second(dtype) for dtype in (vlm.dtype, torch.float32, torch.float64))
    seconds = 4 * BESIDE_PRODUCTS * sum(pairs.cost(name) for name in blocks) / rate
    for name, (outputs, columns) in shapes.items():
        count, tokens, _ = pairs.states_shape(name)
        seconds += count * (min(tokens, gram_tokens) * columns**2 + tokens * columns * outputs) / rate32
        seconds += candidates * ((min(rows, outputs) * columns**2 + 1.5 * columns**3) / rate64 + columns * COLUMN_S)
    return Cost(seconds, memory_bytes(pairs, shapes), pass_disk_bytes(pairs))


def pass_disk_bytes(pairs: CalibrationPairs) -> int:
    """Of a pass forwards and back (`GradientPass`): hidden states of all blocks, two gradients."""
    states = [prod(pairs.states_shape(name)) for name in ("image", "text", *pairs.blocks())]
    return sum(states) * pairs.vlm.dtype.itemsize + 4 * 2 * max(states)


def disk_bytes(pairs: CalibrationPairs, shapes: dict[str, tuple[int, ...]]) -> int:
    """Two stages' states, each twice, and all codes."""
    states = max(prod(pairs.states_shape(name)) for name in ("image", "text"))
    return int(4 * states * pairs.vlm.dtype.itemsize + CODE_BYTES * sum(map(prod, shapes.values())))


def memory_bytes(pairs: CalibrationPairs, shapes: dict[str, tuple[int, ...]]) -> int:
    """A block, the Gram matrices of its inputs, the largest matrix while it is solved, a chunk of activations."""
    block = max((sum(prod(s) for n, s in shapes.items() if n.startswith(b)) for b in block_names(shapes)), default=0)
    widest = max((columns for _, columns in shapes.values()), default=0)
    largest = max(map(prod, shapes.values()), default=0)
    table = prod(pairs.vlm.checkpoint.shape(pairs.vlm.stored_name("lm_head.weight")))
    activations = 12 * CHUNK_TOKENS * max(pairs.states_shape(name)[2] for name in ("image", "text")) * 4
    return BASE_BYTES + max(8 * table, 8 * block + 5 * 8 * widest**2 + 5 * 8 * largest + activations)


def block_names(shapes: dict[str, tuple[int, ...]]) -> set[str]:
    return {f"{name.rpartition('.self_attn.')[0] or name.rpartition('.mlp.')[0]}." for name in shapes}


def peak_bytes() -> int:
    """The most memory that this process has had resident."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def products_per_second(dtype: torch.dtype) -> float:
    """Multiply-accumulates of a matrix product here and now."""
    a = torch.ones(PROBE, PROBE, dtype=dtype)
    torch.nn.functional.linear(a, a)
    start = time.perf_counter()
    for _ in range(3):
        torch.nn.functional.linear(a, a)
    return 3 * PROBE**3 / (time.perf_counter() - start)
