# SPDX-License-Identifier: Apache-2.0
"""Quantises a model without training, block by block, with one block of it in memory and all else on disk.

A run is a chain of stages, `image` (patch embeddings), the vision blocks, `text` (connector and token table), the
text blocks, each of which leaves its results in the work folder. A run that was ended goes on after the last stage that
is whole, to the same bits.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import torch

from offline_compress.errors import QuantizeError
from offline_compress.export.module_names import text_block_names, vision_block_names
from offline_compress.export.weights import LinearWeights
from offline_compress.models.families.siglip_llama import TEXT_BLOCKS, VISION_BLOCKS
from offline_compress.quantize.block import Grids, SolveConfig, quantise_block
from offline_compress.quantize.block_work import BlockWork, States
from offline_compress.quantize.cost import PASSES, Cost, estimate
from offline_compress.quantize.solved_linear import SolvedLinear
from offline_compress.saliency.token_saliency import TokenSaliency
from offline_compress.streaming.block import Block
from offline_compress.streaming.calibration_pairs import Batches, CalibrationPairs
from offline_compress.streaming.streamed_vlm import StreamedVlm

HALVES = (VISION_BLOCKS, TEXT_BLOCKS)
Report = Callable[[float, str], None]


class BlockwiseRun:
    """One run over one model, calibration set and plan."""

    def __init__(
        self,
        vlm: StreamedVlm,
        batches: Batches,
        grids: Grids,
        config: SolveConfig,
        work: Path,
        resume: bool = True,
        quantised: Mapping[str, LinearWeights] | None = None,
    ) -> None:
        """``quantised``: matrices outside of blocks that are computed with their rounded values. Raises QuantizeError,
        naming the module, for no pairs, a name that is no Linear of a block, or work of another run."""
        self.vlm, self.grids, self.config = vlm, grids, config
        self.pairs, self.settings = CalibrationPairs(vlm, batches), vlm.checkpoint.config
        self.stages = stage_names(vlm)
        check_names(grids, self.settings)
        vlm.quantised = quantised or {}
        self.work = BlockWork(work, self.identity(), resume)
        self.work.require_space(self.cost().disk_bytes)
        self.saliency = TokenSaliency(vlm, batches, Path(work) / "saliency") if config.saliency == "answers" else None

    def cost(self) -> Cost:
        """Of the whole run, or of what is left of one that was interrupted; memory and disk are the whole run's."""
        whole = estimate(self.pairs, self.grids, self.config)
        return replace(whole, seconds=whole.seconds * (1 - self.share_done()))

    def share_done(self) -> float:
        costs = [self.pairs.cost(name) for name in self.stages]
        return sum(costs[: self.first()]) / max(sum(costs), 1)

    def first(self) -> int:
        """The first stage that is not done."""
        return next((i for i, name in enumerate(self.stages) if not self.work.is_done(i, name)), len(self.stages))

    def run(self, report: Report = lambda share, what: None) -> dict[str, SolvedLinear]:
        """By module name. ``report`` is told the share of the work that is done, by its cost, and what is done next.

        Raises QuantizeError naming the module whose weights or inputs cannot be used, OutputError for a full disk.
        """
        costs, first = [self.pairs.cost(name) for name in self.stages], self.first()
        before = 0.0
        if self.saliency is not None:
            before = 1 - PASSES["none"] / PASSES["answers"]
            self.saliency.measure(lambda share, what: report(before * share, f"saliency: {what}"))
        for number in range(first, len(self.stages)):
            report(before + (1 - before) * sum(costs[:number]) / sum(costs), self.stages[number])
            self.do(number)
            if number:
                self.work.drop_states(number - 1, self.stages[number - 1])
        if self.saliency is not None:
            self.saliency.drop_states()
        report(1.0, "done")
        result: dict[str, SolvedLinear] = {}
        for number, name in enumerate(self.stages):
            result |= {f"{name}.{child}": matrix for child, matrix in self.work.solved(number, name).items()}
        return result

    def do(self, number: int) -> None:
        name = self.stages[number]
        with self.work.writing(number, name) as folder:
            after = self.states(folder, name)
            if name == "image":
                with torch.no_grad():
                    self.pairs.start_image([states for states in (after.wanted, after.hidden) if not states.is_whole()])
                return
            before_name = self.stages[number - 1]
            before = self.states(self.work.stage(number - 1, before_name), before_name)
            if name == "text":
                with torch.no_grad():
                    if not after.wanted.is_whole():
                        self.pairs.start_text(before.wanted, after.wanted)
                    self.pairs.start_text(before.hidden, after.hidden)
                return
            blocks = name.rpartition(".")[0]
            with self.vlm.loaded(name), torch.no_grad():
                block = Block(self.vlm, blocks, name, self.pairs.valid(blocks))
                importance = None if self.saliency is None else self.saliency.of(name)
                self.work.save(folder, quantise_block(block, before, after, self.grids, self.config, importance))

    def states(self, folder: Path, name: str) -> States:
        """What a stage gives; the float model's are known where saliency was measured with it."""
        wanted = None if self.saliency is None else self.saliency.gradients.states(name)
        return States.at(folder, self.pairs.states_shape(name), self.vlm.dtype, wanted)

    def identity(self) -> dict:
        """What must be equal for a run to be gone on with."""
        grids = {name: vars(grid) for name, grid in self.grids.items()}
        rounded = {name: weights.format.name for name, weights in self.vlm.quantised.items()}
        return {
            "model": self.vlm.checkpoint.stamp(), "pairs": self.pairs.digest(), "grids": grids, "rounded": rounded,
            "solve": self.config.to_json(), "dtype": str(self.vlm.dtype),
        }  # fmt: skip


def stage_names(vlm: StreamedVlm) -> list[str]:
    names = []
    for first, (blocks, count) in zip(("image", "text"), vlm.family.halves(vlm.checkpoint.config), strict=True):
        names += [first, *(f"{blocks}.{index}" for index in range(count))]
    return names


def check_names(grids: Grids, config: dict) -> None:
    known = {
        name for index in range(config["vision_config"]["num_hidden_layers"]) for name in vision_block_names(index)
    }
    known |= {name for index in range(config["text_config"]["num_hidden_layers"]) for name in text_block_names(index)}
    for name in grids:
        if name not in known:
            raise QuantizeError(f"{name}: no Linear of a block", "name modules as Hugging Face does")
