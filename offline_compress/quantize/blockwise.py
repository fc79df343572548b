# SPDX-License-Identifier: Apache-2.0
"""Quantises a model without training, block by block, with one block of it in memory and all else on disk.

A run is a chain of stages, `image` (patch embeddings), the vision blocks, `text` (connector and token table), the
text blocks, each of which leaves its results in the work folder. A run that was ended goes on after the last stage that
is whole, to the same bits.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from offline_compress.export.weights import EMBED_TOKENS, LinearWeights, text_block_names, vision_block_names
from offline_compress.models.families.siglip_llama import IMAGE_EMBEDDING, IMAGE_END, TEXT_BLOCKS, VISION_BLOCKS
from offline_compress.models.streamed import StreamedVlm
from offline_compress.quantize.block import Block, Grids, SolveConfig, quantise_block
from offline_compress.quantize.block_work import BlockWork, States
from offline_compress.quantize.errors import QuantizeError
from offline_compress.quantize.solved_linear import SolvedLinear

HALVES = (VISION_BLOCKS, TEXT_BLOCKS)
CODE_BYTES = 1.2  # of one weight in the work folder: int8 codes and scales
Batches = Sequence[Mapping[str, torch.Tensor]]
Report = Callable[[float, str], None]


@dataclass(frozen=True)
class PairShape:
    """Sizes of a calibration set: pairs, and tokens of the longest text."""

    pairs: int
    text_tokens: int

    @staticmethod
    def of(batches: Batches) -> PairShape:
        """Raises QuantizeError for a set without pairs, or padded at the front."""
        if not batches:
            raise QuantizeError("no calibration pairs", "give images with captions")
        for batch in batches:
            check_padding(batch["attention_mask"])
        return PairShape(
            sum(len(batch["input_ids"]) for batch in batches), max(b["input_ids"].shape[1] for b in batches)
        )


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
        self.vlm, self.batches, self.grids, self.config = vlm, batches, grids, config
        self.shape, self.settings = PairShape.of(batches), vlm.checkpoint.config
        self.stages = stage_names(vlm)
        check_names(grids, self.settings)
        vlm.quantised = quantised or {}
        self.work = BlockWork(work, self.identity(), resume)
        self.work.require_space(self.disk_bytes())

    def run(self, report: Report = lambda share, what: None) -> dict[str, SolvedLinear]:
        """By module name. ``report`` is told the share of the work that is done, by its cost, and what is done next.

        Raises QuantizeError naming the module whose weights or inputs cannot be used, OutputError for a full disk.
        """
        costs = [self.cost(name) for name in self.stages]
        first = next((i for i, name in enumerate(self.stages) if not self.work.is_done(i, name)), len(self.stages))
        for number in range(first, len(self.stages)):
            report(sum(costs[:number]) / sum(costs), self.stages[number])
            self.do(number)
            if number:
                self.work.drop_states(number - 1, self.stages[number - 1])
        report(1.0, "done")
        result: dict[str, SolvedLinear] = {}
        for number, name in enumerate(self.stages):
            result |= {f"{name}.{child}": matrix for child, matrix in self.work.solved(number, name).items()}
        return result

    def do(self, number: int) -> None:
        name = self.stages[number]
        with self.work.writing(number, name) as folder:
            after = States.at(folder, self.states_shape(name), self.vlm.dtype)
            if name == "image":
                self.start_image(after)
                return
            before_name = self.stages[number - 1]
            before_folder = self.work.stage(number - 1, before_name)
            before = States.at(before_folder, self.states_shape(before_name), self.vlm.dtype)
            if name == "text":
                self.start_text(before, after)
                return
            blocks = name.rpartition(".")[0]
            with self.vlm.loaded(name), torch.no_grad():
                block = Block(self.vlm, blocks, name, self.valid(blocks))
                self.work.save(folder, quantise_block(block, before, after, self.grids, self.config))

    @torch.no_grad()
    def start_image(self, after: States) -> None:
        first = 0
        with self.vlm.loaded(*IMAGE_EMBEDDING) as model:
            for batch in self.batches:
                hidden = self.vlm.family.image_hidden(model, batch["pixel_values"])
                for states in (after.wanted, after.hidden):
                    states.write(first, hidden)
                first += len(hidden)

    @torch.no_grad()
    def start_text(self, before: States, after: States) -> None:
        ids = self.token_ids()
        with self.vlm.loaded(*IMAGE_END, EMBED_TOKENS) as model:
            for source, target in ((before.wanted, after.wanted), (before.hidden, after.hidden)):
                for first, last in source.chunks():
                    features = self.vlm.family.image_features(model, source.read(first, last))
                    target.write(first, self.vlm.family.text_hidden(model, ids[first:last], features))

    def token_ids(self) -> torch.Tensor:
        """(pairs, T), the shorter ones continued with their own last token; `valid` says where they end."""
        return torch.cat([widened(batch["input_ids"], self.shape.text_tokens) for batch in self.batches])

    def valid(self, blocks: str) -> torch.Tensor:
        """(pairs, T)."""
        if blocks == VISION_BLOCKS:
            return torch.ones(self.states_shape("image")[:2], dtype=torch.bool)
        widest = self.shape.text_tokens
        masks = [
            torch.nn.functional.pad(b["attention_mask"], (0, widest - b["attention_mask"].shape[1]))
            for b in self.batches
        ]
        return torch.cat(masks).bool()

    def states_shape(self, stage: str) -> tuple[int, int, int]:
        vision, text = self.vlm.family.shapes(self.settings)
        if stage == "image" or stage.startswith(VISION_BLOCKS):
            return self.shape.pairs, vision.tokens, vision.hidden_size
        return self.shape.pairs, self.shape.text_tokens, text.hidden_size

    def cost(self, stage: str) -> float:
        """Multiply-accumulates of one pass, which what else is done grows with."""
        if stage in ("image", "text"):
            return 0.0
        pairs, tokens, width = self.states_shape(stage)
        shapes = self.vlm.family.parameter_shapes(self.settings, True)
        weights = sum(torch.Size(shape).numel() for name, shape in shapes.items() if name.startswith(f"{stage}."))
        return float(pairs * tokens * (weights + 2 * tokens * width))

    def disk_bytes(self) -> int:
        """Two stages' states, each twice, and all codes."""
        states = max(torch.Size(self.states_shape(name)).numel() for name in ("image", "text"))
        shapes = self.vlm.family.parameter_shapes(self.settings, True)
        codes = sum(torch.Size(shapes[f"{name}.weight"]).numel() for name in self.grids)
        return int(4 * states * self.vlm.dtype.itemsize + CODE_BYTES * codes)

    def identity(self) -> dict:
        """What must be equal for a run to be gone on with."""
        checkpoint = self.vlm.checkpoint
        files = sorted({tensor.path for tensor in checkpoint.tensors.values()})
        model = {path.name: [path.stat().st_size, path.stat().st_mtime_ns] for path in files}
        grids = {name: vars(grid) for name, grid in self.grids.items()}
        rounded = {name: weights.format.name for name, weights in self.vlm.quantised.items()}
        return {
            "model": model, "pairs": digest_of(self.batches), "grids": grids, "rounded": rounded,
            "solve": self.config.to_json(), "dtype": str(self.vlm.dtype),
        }  # fmt: skip


def check_padding(mask: torch.Tensor) -> None:
    """mask (B, T): tokens first, then padding."""
    if (mask[:, 1:] > mask[:, :-1]).any() or not mask[:, 0].all():
        raise QuantizeError("calibration texts are padded at the front, or empty", "pad at the end")


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


def widened(ids: torch.Tensor, length: int) -> torch.Tensor:
    return torch.cat([ids, ids[:, -1:].expand(-1, length - ids.shape[1])], 1)


def digest_of(batches: Batches) -> str:
    digest = hashlib.sha256()
    for batch in batches:
        for name in ("pixel_values", "input_ids", "attention_mask"):
            digest.update(batch[name].contiguous().numpy().tobytes())
    return digest.hexdigest()
