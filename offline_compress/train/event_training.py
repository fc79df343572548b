# SPDX-License-Identifier: Apache-2.0
"""Training of the event classifier on short streams in which, as on board, a step computes only some tokens."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field

import torch
from torch import nn
from torch.nn import functional

from edge_vlm.errors import InputError
from offline_compress.models.event_vit import EventVit, take
from offline_compress.train.checkpoint import digest_of, require_same_options
from offline_compress.train.event_batches import EventBatch, EventBatches
from offline_compress.train.float_training import rate_factor
from offline_compress.train.muon import Muon
from offline_compress.train.precision import WorkingCopy, multiplies_bfloat16


@dataclass(frozen=True)
class EventTrainingConfig:
    """``matrix_rate`` is Muon's, for the matrices of the blocks; ``rate`` is AdamW's, for all else. Both rise linearly
    and fall along a cosine. ``average``: how much of the averaged weights, which are those that count, stays at each
    step."""

    steps: int
    batch: int
    rate: float = 1e-3
    matrix_rate: float = 0.02
    weight_decay: float = 0.05
    warmup_steps: int = 100
    final_rate: float = 0.01
    label_smoothing: float = 0.05
    largest_gradient: float = 1.0
    average: float = 0.99
    bf16: bool = field(default_factory=multiplies_bfloat16)
    checkpoint_every: int = 100

    def identity(self) -> dict:
        """What must be equal for a checkpoint to be continued."""
        return {name: value for name, value in asdict(self).items() if name != "checkpoint_every"}


@dataclass(frozen=True)
class EventProgress:
    """One finished step; ``accuracy`` is that of the streams' last frames."""

    step: int
    loss: float
    accuracy: float
    samples_per_s: float


@dataclass
class EventTrainer:
    """Model, averaged model, optimisers and step; `state` and `restore` make a checkpoint of it all."""

    model: EventVit
    batches: EventBatches
    config: EventTrainingConfig
    step: int = 0
    averaged: dict[str, torch.Tensor] = field(init=False)
    optimisers: tuple[torch.optim.Optimizer, ...] = field(init=False)
    working: WorkingCopy = field(init=False)

    def __post_init__(self) -> None:
        matrices = [p for p in self.model.vision.encoder.parameters() if p.ndim == 2]
        inside = {id(p) for p in matrices}
        others = [p for p in self.model.parameters() if id(p) not in inside]
        self.optimisers = (
            Muon(matrices, self.config.matrix_rate, weight_decay=self.config.weight_decay),
            torch.optim.AdamW(others, self.config.rate, betas=(0.9, 0.98), weight_decay=0.0, fused=True),
        )
        self.averaged = {name: value.detach().clone() for name, value in self.model.named_parameters()}
        self.working = WorkingCopy(self.model, self.config.bf16)

    def run(self, report: Callable[[EventProgress], None], save: Callable[[dict], None]) -> EventVit:
        """Train to the last step and return the model with the averaged weights.

        ``save`` is given the state every `checkpoint_every` steps and at the end. Raises InputError where the loss is
        no longer finite.
        """
        while self.step < self.config.steps:
            report(self.train_step())
            if self.step % self.config.checkpoint_every == 0 or self.step == self.config.steps:
                save(self.state())
        self.model.load_state_dict(self.averaged, strict=False)
        return self.model.eval()

    def train_step(self) -> EventProgress:
        began = time.perf_counter()
        factor = rate_factor(self.step, self.config)
        for optimiser, rate in zip(self.optimisers, (self.config.matrix_rate, self.config.rate), strict=True):
            optimiser.param_groups[0]["lr"] = rate * factor
        batch = self.batches.batch(self.step)
        loss, logits = self.loss(batch)
        if not torch.isfinite(loss):
            raise InputError(f"the loss of step {self.step + 1} is {loss.item()}", "train with a smaller --rate")
        loss.backward()
        self.update()
        self.step += 1
        accuracy = float((logits.argmax(1) == batch.labels).float().mean())
        return EventProgress(self.step, loss.item(), accuracy, len(batch.labels) / (time.perf_counter() - began))

    def loss(self, batch: EventBatch) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean cross-entropy over the steps of the streams, and the logits (B, classes) of the last step."""
        model = self.working.module
        patches = batch.patches.to(model.classifier.weight.dtype)
        caches, losses = model.blank(len(patches)), []
        for now, active in zip(patches.unbind(1), batch.active, strict=True):
            shown = now if active is None else take(now, active)
            logits, caches = model(shown, active, caches)
            logits = logits.float()
            losses.append(functional.cross_entropy(logits, batch.labels, label_smoothing=self.config.label_smoothing))
        return torch.stack(losses).mean(), logits

    def update(self) -> None:
        """A step of the optimisers, new weights to the working copy and the average."""
        self.working.hand_over_gradients()
        nn.utils.clip_grad_norm_(self.model.parameters(), self.config.largest_gradient)
        for optimiser in self.optimisers:
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)
        self.working.refresh()
        self.follow()

    @torch.no_grad()
    def follow(self) -> None:
        """The averaged weights move towards the model's; at first quickly."""
        share = 1 - min(self.config.average, self.step / (self.step + 10))
        for name, value in self.model.named_parameters():
            self.averaged[name].lerp_(value, share)

    def identity(self) -> dict:
        """What must be equal for a checkpoint to be continued."""
        first = self.batches.batch(0)
        return {**self.config.identity(), "data": digest_of({"patches": first.patches, "labels": first.labels})}

    def state(self) -> dict:
        return {
            "step": self.step,
            "model": self.model.state_dict(),
            "averaged": self.averaged,
            "optimisers": [optimiser.state_dict() for optimiser in self.optimisers],
            "config": self.identity(),
        }

    def restore(self, state: dict, where: object) -> None:
        """Raises InputError where the checkpoint `where` is of another run."""
        require_same_options(state, self.identity(), where)
        self.model.load_state_dict(state["model"])
        self.averaged = state["averaged"]
        for optimiser, saved in zip(self.optimisers, state["optimisers"], strict=True):
            optimiser.load_state_dict(saved)
        self.step = state["step"]
        self.working.refresh()
