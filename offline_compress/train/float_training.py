# SPDX-License-Identifier: Apache-2.0
"""Training of the demo model from random weights: cross-entropy on answers, helped by dense supervision of patches."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field

import torch
from torch import nn
from torch.nn import functional

from edge_vlm.errors import InputError
from offline_compress.models.token_sequences import IGNORED_LABEL
from offline_compress.train.checkpoint import digest_of, require_same_options
from offline_compress.train.dense_heads import DenseHeads
from offline_compress.train.precision import WorkingCopy, multiplies_bfloat16
from offline_compress.train.qat import BatchSource


@dataclass(frozen=True)
class FloatTrainingConfig:
    """`rate` is AdamW's, after a linear warm-up and along a cosine; `dense_weight` falls to a tenth over the run."""

    steps: int = 4000
    rate: float = 1.2e-3
    weight_decay: float = 0.05
    warmup_steps: int = 100
    final_rate: float = 0.02
    dense_weight: float = 1.0
    largest_gradient: float = 1.0
    bf16: bool = field(default_factory=multiplies_bfloat16)
    checkpoint_every: int = 250

    def identity(self) -> dict:
        """What must be equal for a checkpoint to be continued."""
        return {name: value for name, value in asdict(self).items() if name != "checkpoint_every"}


@dataclass(frozen=True)
class TrainingProgress:
    """One finished step: losses, accuracy per dense channel, samples per second of the last steps."""

    step: int
    steps: int
    losses: dict[str, float]
    accuracy: dict[str, float]
    samples_per_s: float


@dataclass
class FloatTrainer:
    """Model, dense heads, optimiser and step; `state` and `restore` make a checkpoint of it all."""

    model: nn.Module
    batches: BatchSource
    config: FloatTrainingConfig
    step: int = 0
    heads: DenseHeads = field(init=False)
    optimiser: torch.optim.Optimizer = field(init=False)
    working: WorkingCopy = field(init=False)

    def __post_init__(self) -> None:
        self.heads = DenseHeads(self.model.config.vision_config.hidden_size)
        self.optimiser = make_optimiser(self.model, self.heads, self.config)
        self.working = WorkingCopy(self.model, self.config.bf16)
        self.working.module.train()

    def run(self, report: Callable[[TrainingProgress], None], save: Callable[[FloatTrainer], None]) -> None:
        """Train to the last step; `save` is called every `checkpoint_every` steps and at the end.

        Raises InputError where the loss is no longer finite.
        """
        while self.step < self.config.steps:
            began = time.perf_counter()
            losses, accuracy, samples = self.train_step()
            self.step += 1
            rate = samples / (time.perf_counter() - began)
            report(TrainingProgress(self.step, self.config.steps, losses, accuracy, rate))
            if self.step % self.config.checkpoint_every == 0 or self.step == self.config.steps:
                save(self)

    def train_step(self) -> tuple[dict[str, float], dict[str, float], int]:
        batch = self.batches.batch(self.step)
        for group in self.optimiser.param_groups:
            group["lr"] = self.config.rate * rate_factor(self.step, self.config)
        answer, patches = caption_loss(self.working.module, batch)
        dense, accuracy = self.heads(patches.float(), batch["patch_labels"])
        loss = answer + self.config.dense_weight * (1 - 0.9 * self.step / self.config.steps) * dense
        if not torch.isfinite(loss):
            raise InputError(f"the loss of step {self.step + 1} is {loss.item()}", "train with a smaller --rate")
        loss.backward()
        self.update()
        return {"answer": answer.item(), "dense": dense.item()}, accuracy, len(batch["input_ids"])

    def update(self) -> None:
        """One step of the optimiser, new weights to the working copy."""
        self.working.hand_over_gradients()
        nn.utils.clip_grad_norm_([*self.model.parameters(), *self.heads.parameters()], self.config.largest_gradient)
        self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)
        self.working.refresh()

    def identity(self) -> dict:
        """What must be equal for a checkpoint to be continued."""
        return {**self.config.identity(), "data": digest_of(self.batches.batch(0))}

    def state(self) -> dict:
        return {
            "step": self.step,
            "model": self.model.state_dict(),
            "heads": self.heads.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "config": self.identity(),
        }

    def restore(self, state: dict, where: object) -> None:
        """Raises InputError where the checkpoint `where` is of another run."""
        require_same_options(state, self.identity(), where)
        self.model.load_state_dict(state["model"])
        self.heads.load_state_dict(state["heads"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.step = state["step"]
        self.working.refresh()


def caption_loss(model: nn.Module, batch: dict[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean cross-entropy of the answers' tokens, and the last hidden states of the patches (B, patches, d)."""
    kept: dict[str, torch.Tensor] = {}
    layer = model.model.vision_model.post_layernorm
    hook = layer.register_forward_hook(lambda module, inputs, output: kept.__setitem__("patches", output))
    answers = int((batch["labels"] != IGNORED_LABEL).sum(1).max())
    try:
        logits = model(
            input_ids=batch["input_ids"],
            pixel_values=batch["pixel_values"].to(model.dtype),
            use_cache=False,
            logits_to_keep=answers + 1,
        ).logits  # (B, answers + 1, V): padding stands at the end and answers begin together
    finally:
        hook.remove()
    target = batch["labels"][:, -answers:]
    known = target != IGNORED_LABEL
    return functional.cross_entropy(logits[:, :-1][known].float(), target[known]), kept["patches"]


def rate_factor(step: int, config: FloatTrainingConfig) -> float:
    """Linear warm-up, then a cosine down to `final_rate`."""
    if step < config.warmup_steps:
        return (step + 1) / config.warmup_steps
    done = (step - config.warmup_steps) / max(1, config.steps - config.warmup_steps)
    return config.final_rate + (1 - config.final_rate) * 0.5 * (1 + math.cos(math.pi * done))


def make_optimiser(model: nn.Module, heads: nn.Module, config: FloatTrainingConfig) -> torch.optim.Optimizer:
    """AdamW; norms and biases are not decayed."""
    parameters = [*model.parameters(), *heads.parameters()]
    groups = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": config.weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=config.rate, betas=(0.9, 0.98), fused=True)
