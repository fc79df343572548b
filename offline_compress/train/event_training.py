# SPDX-License-Identifier: Apache-2.0
"""Training of the event classifier: cross-entropy on augmented event frames, resumable at every checkpoint."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field

import torch
from torch import nn
from torch.nn import functional

from edge_vlm.errors import InputError
from offline_compress.models.event_vit import EventVit
from offline_compress.train.event_batches import EventBatches
from offline_compress.train.float_training import rate_factor


@dataclass(frozen=True)
class EventTrainingConfig:
    """``rate`` is AdamW's, after a linear warm-up and along a cosine; ``average`` is how much of the averaged weights,
    which are the ones that count, stays at each step."""

    steps: int
    batch: int
    rate: float = 2e-3
    weight_decay: float = 0.05
    warmup_steps: int = 100
    final_rate: float = 0.01
    label_smoothing: float = 0.05
    largest_gradient: float = 1.0
    average: float = 0.99
    checkpoint_every: int = 200

    def identity(self) -> dict:
        """What must be equal for a checkpoint to be continued."""
        return {name: value for name, value in asdict(self).items() if name != "checkpoint_every"}


@dataclass(frozen=True)
class EventProgress:
    """One finished step."""

    step: int
    loss: float
    accuracy: float
    samples_per_s: float


@dataclass
class EventTrainer:
    """Model, averaged model, optimiser and step; `state` and `restore` make a checkpoint of it all."""

    model: EventVit
    batches: EventBatches
    config: EventTrainingConfig
    step: int = 0
    averaged: dict[str, torch.Tensor] = field(init=False)
    optimiser: torch.optim.Optimizer = field(init=False)

    def __post_init__(self) -> None:
        decayed = [p for p in self.model.parameters() if p.ndim > 1]
        others = [p for p in self.model.parameters() if p.ndim <= 1]
        groups = [
            {"params": decayed, "weight_decay": self.config.weight_decay},
            {"params": others, "weight_decay": 0.0},
        ]
        self.optimiser = torch.optim.AdamW(groups, lr=self.config.rate, betas=(0.9, 0.98), fused=True)
        self.averaged = {name: value.detach().clone() for name, value in self.model.named_parameters()}

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
        for group in self.optimiser.param_groups:
            group["lr"] = self.config.rate * rate_factor(self.step, self.config)
        patches, labels, kept = self.batches.batch(self.step)
        logits = self.model(patches, kept)
        loss = functional.cross_entropy(logits, labels, label_smoothing=self.config.label_smoothing)
        if not torch.isfinite(loss):
            raise InputError(f"the loss of step {self.step + 1} is {loss.item()}", "train with a smaller --rate")
        loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), self.config.largest_gradient)
        self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)
        self.step += 1
        self.follow()
        accuracy = float((logits.argmax(1) == labels).float().mean())
        return EventProgress(self.step, loss.item(), accuracy, len(labels) / (time.perf_counter() - began))

    @torch.no_grad()
    def follow(self) -> None:
        """The averaged weights move towards the model's; at first quickly."""
        share = 1 - min(self.config.average, self.step / (self.step + 10))
        for name, value in self.model.named_parameters():
            self.averaged[name].lerp_(value, share)

    def state(self) -> dict:
        return {
            "step": self.step,
            "model": self.model.state_dict(),
            "averaged": self.averaged,
            "optimiser": self.optimiser.state_dict(),
            "config": self.config.identity(),
        }

    def restore(self, state: dict, where: object) -> None:
        """Raises InputError where the checkpoint `where` is of another run."""
        if state.get("config") != self.config.identity():
            raise InputError(f"{where}: made with other training options", "use the same, or start with --resume never")
        self.model.load_state_dict(state["model"])
        self.averaged = state["averaged"]
        self.optimiser.load_state_dict(state["optimiser"])
        self.step = state["step"]
