# SPDX-License-Identifier: Apache-2.0
"""How much each matrix matters to what the model says: Gram matrices of its inputs, tokens weighted by the squared
gradient of the log-likelihood at its outputs.

To second order, changing a weight W by D costs ``KL = 1/2 sum_n (g_n' D x_n)^2`` of the answers, g_n being the gradient
at the output of token n for answers drawn from the model itself (Fisher information). With the rows of D independent
that is ``1/2 tr(D H D')``, ``H = sum_n mean_i(g_n,i^2) x_n x_n'``: paper Q's Hessian with a global saliency instead of
a block's own, and so in one unit for all matrices of both halves. (Ours; the papers weigh within a block.) What the
tokens of one image do together, which the sum over tokens leaves out, enters as one factor a matrix: `Coherence`.

The gradient goes back block by block, from files: one block of the model is in memory at a time, and a pass that was
interrupted goes on with the block that it was in.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from pathlib import Path

import torch

from offline_compress.export.module_names import CONNECTOR, EMBED_TOKENS, HEAD, TEXT
from offline_compress.models.families.siglip_llama import IMAGE_END, TEXT_BLOCKS, VISION_BLOCKS
from offline_compress.models.streamed import StreamedVlm
from offline_compress.quantize.block import Block, spread_tokens, watched
from offline_compress.quantize.calibration_pairs import Batches, CalibrationPairs
from offline_compress.quantize.errors import QuantizeError
from offline_compress.quantize.hidden_states import HiddenStates
from offline_compress.saliency.statistics import InputStatistics

LARGEST_GRAM = 8192  # inputs; of wider matrices the diagonal is kept
See = Callable[[str, InputStatistics], None]
Report = Callable[[float, str], None]


class Coherence:
    """How much more the tokens of a pair do to the loss together than each for itself, for random changes of a
    weight: ``sum_pairs |sum_n g_n x_n'|^2 / sum_n |g_n|^2 |x_n|^2``."""

    def __init__(self) -> None:
        self.together = self.apart = 0.0

    def add(self, inputs: torch.Tensor, gradients: torch.Tensor, valid: torch.Tensor) -> None:
        """inputs (B, T, K), gradients (B, T, N), valid (B, T)."""
        for x, g, counted in zip(inputs, gradients, valid, strict=True):
            x, g = x[counted], g[counted]
            self.together += float((g.T @ x).float().square().sum())
            self.apart += float((g.float().square().sum(-1) * x.float().square().sum(-1)).sum())

    @property
    def factor(self) -> float:
        return self.together / self.apart if self.apart > 0 else 1.0


class Sensitivity:
    """One backward pass over the calibration pairs; ``folder`` takes the hidden states of every block."""

    def __init__(self, vlm: StreamedVlm, batches: Batches, folder: Path, gram_tokens: int = 256, seed: int = 0) -> None:
        self.vlm, self.folder, self.gram_tokens, self.seed = vlm, Path(folder), gram_tokens, seed
        self.pairs = CalibrationPairs(vlm, batches)
        self.halves = vlm.family.halves(vlm.checkpoint.config)

    def steps(self) -> list[str]:
        """The way back, from the head to the first block."""
        back = [[f"{half}.{index}" for index in reversed(range(count))] for half, count in self.halves]
        return [HEAD, *back[1], CONNECTOR, *back[0]]

    def measure(
        self,
        see: See,
        report: Report = lambda share, what: None,
        finished: Callable[[str], None] = lambda step: None,
        done: Collection[str] = (),
    ) -> None:
        """``see(name, statistics)`` for every Linear of the blocks, the connector and the head, last ones first.

        ``finished`` is told each of `steps` after all it had to see; those in ``done`` are left out, where ``folder``
        is as the run before left it.
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
                self.back(step, before, see)
                finished(step)
            if before is not None:
                self.gradient(before).path.unlink(missing_ok=True)
            passed, before = passed + 3 * costs.get(step, 0.0), step

    def back(self, step: str, before: str | None, see: See) -> None:
        if step == HEAD:
            self.loss_gradient(see)
        elif step == CONNECTOR:
            self.connector_gradient(self.gradient(before), see)
        else:
            self.backward(step, self.gradient(before), see)

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

    def loss_gradient(self, see: See) -> None:
        """Answers drawn from the model; the gradient of their log-likelihood at the last block's output."""
        states, gradient = self.states(f"{TEXT_BLOCKS}.{self.halves[1][1] - 1}"), self.gradient(HEAD)
        answers = self.pairs.answers()
        generator = torch.Generator().manual_seed(self.seed)
        with self.vlm.loaded(f"{TEXT}.norm", HEAD) as model:
            head = model.get_submodule(HEAD)
            statistics = InputStatistics(HEAD, head.in_features)
            for first, last in states.chunks():
                hidden = states.read(first, last).requires_grad_(True)
                chosen = answers[first:last]
                x = self.vlm.family.head_inputs(model, hidden)[chosen]
                with torch.no_grad():
                    share = torch.softmax(head(x).float(), -1)  # (answer tokens, V)
                    drawn = torch.multinomial(share, 1, generator=generator)
                    share.scatter_add_(1, drawn, torch.full_like(drawn, -1, dtype=share.dtype))  # gradient of -log p
                    statistics.add(x, share.square().mean(-1))
                    at_inputs = share.to(head.weight.dtype) @ head.weight
                gradient.write(first, torch.autograd.grad(x, hidden, at_inputs)[0])
        see(HEAD, statistics)

    def backward(self, name: str, after_it: HiddenStates, see: See) -> None:
        states, gradient = self.before(name), self.gradient(name)
        with self.vlm.loaded(name):
            block = self.block(name)
            layers = {child: m for child, m in block.module.named_modules() if isinstance(m, torch.nn.Linear)}
            statistics = {child: InputStatistics(f"{name}.{child}", m.in_features) for child, m in layers.items()}
            coherence = {child: Coherence() for child in layers}
            for first, last in states.chunks():
                hidden, seen = states.read(first, last).requires_grad_(True), {}
                with watched(layers, lambda child, x, z, seen=seen: seen.__setitem__(child, (x.detach(), z))):
                    after = block(hidden)
                outputs = [z for _, z in seen.values()]
                at_after = after_it.read(first, last).to(after.dtype)
                at_hidden, *at_outputs = torch.autograd.grad(after, [hidden, *outputs], at_after)
                valid = block.valid[first:last]
                chosen = valid & spread_tokens(first, last, valid.shape[1], self.gram_tokens)
                for child, at_output in zip(seen, at_outputs, strict=True):
                    weight = at_output[chosen].float().square().mean(-1) * (valid.sum() / chosen.sum())
                    statistics[child].add(seen[child][0][chosen], weight)
                    coherence[child].add(seen[child][0], at_output, valid)
                gradient.write(first, at_hidden)
        for child in layers:
            statistics[child].hessian *= coherence[child].factor
            see(f"{name}.{child}", statistics.pop(child))

    def connector_gradient(self, at_text: HiddenStates, see: See) -> None:
        """From the text model's inputs back to the encoder's outputs."""
        states = self.states(f"{VISION_BLOCKS}.{self.halves[0][1] - 1}")
        at_image = self.gradient(CONNECTOR)
        ids = self.pairs.token_ids()
        with self.vlm.loaded(*IMAGE_END, EMBED_TOKENS) as model:
            layer = {CONNECTOR: model.get_submodule(CONNECTOR)}
            width = layer[CONNECTOR].in_features
            statistics = InputStatistics(CONNECTOR, width, diagonal=width > LARGEST_GRAM)
            coherence = Coherence()
            for first, last in states.chunks():
                hidden, seen = states.read(first, last).requires_grad_(True), {}
                with watched(layer, lambda child, x, z, seen=seen: seen.__setitem__(child, (x.detach(), z))):
                    features = self.vlm.family.image_features(model, hidden)
                text = self.vlm.family.text_hidden(model, ids[first:last], features)
                x, z = seen[CONNECTOR]
                at_hidden, at_output = torch.autograd.grad(text, [hidden, z], at_text.read(first, last).to(text.dtype))
                statistics.add(x, at_output.float().square().mean(-1))
                coherence.add(x, at_output, torch.ones(x.shape[:2], dtype=torch.bool))
                at_image.write(first, at_hidden)
        statistics.hessian *= coherence.factor
        see(CONNECTOR, statistics)
