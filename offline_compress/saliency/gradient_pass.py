# SPDX-License-Identifier: Apache-2.0
"""The gradient of what a model says at the output of each of its matrices: one pass forwards over the calibration pairs
and one back, block by block, from files. One block of the model is in memory at a time, and a pass that was interrupted
goes on with the block that it was in.

The loss is the negative log-likelihood of answers that are drawn from the model itself, so that the mean of squared
gradients is the Fisher information: how much the answers change with the outputs.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path

import torch

from offline_compress.errors import QuantizeError
from offline_compress.export.module_names import CONNECTOR, EMBED_TOKENS, HEAD, TEXT
from offline_compress.models.families.siglip_llama import IMAGE_END, TEXT_BLOCKS, VISION_BLOCKS
from offline_compress.streaming.block import Block, watched
from offline_compress.streaming.calibration_pairs import Batches, CalibrationPairs
from offline_compress.streaming.hidden_states import HiddenStates
from offline_compress.streaming.streamed_vlm import StreamedVlm

Report = Callable[[float, str], None]


@dataclass(frozen=True)
class Seen:
    """What the Linear ``name`` took and the gradient at what it gave, for the pairs from ``first`` on: inputs
    (B, T, K), gradients (B, T, N), valid (B, T) where a token is no padding. Of the head only tokens after which one
    of the answer is said, all valid: (tokens, K), (tokens, N), (tokens,)."""

    name: str
    inputs: torch.Tensor
    gradients: torch.Tensor
    valid: torch.Tensor
    first: int


Look = Callable[[Seen], None]


class GradientPass:
    """``folder`` takes the hidden states of every block."""

    def __init__(self, vlm: StreamedVlm, batches: Batches, folder: Path, seed: int = 0) -> None:
        self.vlm, self.folder, self.seed = vlm, Path(folder), seed
        self.pairs = CalibrationPairs(vlm, batches)
        self.halves = vlm.family.halves(vlm.checkpoint.config)

    def steps(self) -> list[str]:
        """The way back, from the head to the first block."""
        back = [[f"{half}.{index}" for index in reversed(range(count))] for half, count in self.halves]
        return [HEAD, *back[1], CONNECTOR, *back[0]]

    def run(
        self,
        look: Look,
        finished: Callable[[str], None],
        report: Report = lambda share, what: None,
        done: Collection[str] = (),
    ) -> None:
        """``look`` gets every Linear of the blocks, the connector and the head, last ones first, chunks of pairs in
        order. ``finished`` is told each of `steps` after all there was to see of it; those in ``done`` are left out,
        where ``folder`` is as the run before left it.

        Raises QuantizeError naming what gives outputs that are not finite, or for pairs without labels.
        """
        forwards = [f"{half}.{index}" for half, count in self.halves for index in range(count)]
        costs = {name: self.pairs.cost(name) for name in forwards}
        total, passed = 4 * sum(costs.values()), 0.0
        for name in ("image", *forwards[: self.halves[0][1]], "text", *forwards[self.halves[0][1] :]):
            report(passed / total, name)
            if not self.states(name).is_whole():
                self.forward(name)
            passed += costs.get(name, 0.0)
        before = None
        for step in self.steps():
            report(passed / total, f"{step}, back")
            if step not in done:
                self.back(step, before, look)
                finished(step)
            if before is not None:
                self.gradient(before).path.unlink(missing_ok=True)
            passed, before = passed + 3 * costs.get(step, 0.0), step

    def back(self, step: str, before: str | None, look: Look) -> None:
        if step == HEAD:
            self.loss_gradient(look)
        elif step == CONNECTOR:
            self.connector_gradient(self.gradient(before), look)
        else:
            self.backward(step, self.gradient(before), look)

    def states(self, name: str) -> HiddenStates:
        return HiddenStates(self.folder / f"{name}.bin", self.pairs.states_shape(name), self.vlm.dtype)

    def before(self, name: str) -> HiddenStates:
        """What a block takes."""
        half, _, index = name.rpartition(".")
        first = "image" if half == VISION_BLOCKS else "text"
        return self.states(first if index == "0" else f"{half}.{int(index) - 1}")

    def gradient(self, step: str) -> HiddenStates:
        """Of the loss at what ``step`` takes."""
        takes = {HEAD: f"{TEXT_BLOCKS}.0", CONNECTOR: f"{VISION_BLOCKS}.0"}.get(step, step)
        return HiddenStates(self.folder / f"{step}.gradient", self.pairs.states_shape(takes), torch.float32)

    @torch.no_grad()
    def forward(self, name: str) -> None:
        target = self.states(name)
        if name == "image":
            self.pairs.start_image((target,))
        elif name == "text":
            self.pairs.start_text(self.states(f"{VISION_BLOCKS}.{self.halves[0][1] - 1}"), target)
        else:
            with self.vlm.loaded(name):
                block = self.block(name)
                for first, last in target.chunks():
                    target.write(first, block(self.before(name).read(first, last)))
        for first, last in target.chunks():
            if not torch.isfinite(target.read(first, last)).all():
                raise QuantizeError(f"{name}: its outputs are not finite", "look at the calibration data and the model")

    def block(self, name: str) -> Block:
        half = name.rpartition(".")[0]
        return Block(self.vlm, half, name, self.pairs.valid(half))

    def loss_gradient(self, look: Look) -> None:
        """Answers drawn from the model; the gradient of their log-likelihood at the last block's output."""
        states, gradient = self.states(f"{TEXT_BLOCKS}.{self.halves[1][1] - 1}"), self.gradient(HEAD)
        answers = self.pairs.answers()
        generator = torch.Generator().manual_seed(self.seed)
        with self.vlm.loaded(f"{TEXT}.norm", HEAD) as model:
            head = model.get_submodule(HEAD)
            for first, last in states.chunks():
                hidden = states.read(first, last).requires_grad_(True)
                x = self.vlm.family.head_inputs(model, hidden)[answers[first:last]]
                with torch.no_grad():
                    share = torch.softmax(head(x).float(), -1)  # (answer tokens, V)
                    drawn = torch.multinomial(share, 1, generator=generator)
                    share.scatter_add_(1, drawn, torch.full_like(drawn, -1, dtype=share.dtype))  # gradient of -log p
                    look(Seen(HEAD, x, share, torch.ones(len(x), dtype=torch.bool), first))
                    at_inputs = share.to(head.weight.dtype) @ head.weight
                gradient.write(first, torch.autograd.grad(x, hidden, at_inputs)[0])

    def backward(self, name: str, after_it: HiddenStates, look: Look) -> None:
        states, gradient = self.before(name), self.gradient(name)
        with self.vlm.loaded(name):
            block = self.block(name)
            layers = {child: m for child, m in block.module.named_modules() if isinstance(m, torch.nn.Linear)}
            for first, last in states.chunks():
                hidden, seen = states.read(first, last).requires_grad_(True), {}
                with watched(layers, lambda child, x, z, seen=seen: seen.__setitem__(child, (x.detach(), z))):
                    after = block(hidden)
                outputs = [z for _, z in seen.values()]
                at_after = after_it.read(first, last).to(after.dtype)
                at_hidden, *at_outputs = torch.autograd.grad(after, [hidden, *outputs], at_after)
                for (child, (x, _)), at_output in zip(seen.items(), at_outputs, strict=True):
                    look(Seen(f"{name}.{child}", x, at_output, block.valid[first:last], first))
                gradient.write(first, at_hidden)

    def connector_gradient(self, at_text: HiddenStates, look: Look) -> None:
        """From the text model's inputs back to the encoder's outputs."""
        states = self.states(f"{VISION_BLOCKS}.{self.halves[0][1] - 1}")
        at_image = self.gradient(CONNECTOR)
        ids = self.pairs.token_ids()
        with self.vlm.loaded(*IMAGE_END, EMBED_TOKENS) as model:
            layer = {CONNECTOR: model.get_submodule(CONNECTOR)}
            for first, last in states.chunks():
                hidden, seen = states.read(first, last).requires_grad_(True), {}
                with watched(layer, lambda child, x, z, seen=seen: seen.__setitem__(child, (x.detach(), z))):
                    features = self.vlm.family.image_features(model, hidden)
                text = self.vlm.family.text_hidden(model, ids[first:last], features)
                x, z = seen[CONNECTOR]
                at_hidden, at_output = torch.autograd.grad(text, [hidden, z], at_text.read(first, last).to(text.dtype))
                look(Seen(CONNECTOR, x, at_output, torch.ones(x.shape[:2], dtype=torch.bool), first))
                at_image.write(first, at_hidden)
