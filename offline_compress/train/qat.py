# SPDX-License-Identifier: Apache-2.0
"""Quantisation-aware training: the float model teaches its quantised copy (paper T's QAT, plus distillation)."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Protocol

import torch
from torch import nn

from edge_vlm.errors import InputError
from offline_compress.errors import QuantizeError
from offline_compress.quantize.replace import low_bit_layers
from offline_compress.train.checkpoint import require_same_options
from offline_compress.train.distillation import (
    DistillationConfig,
    HiddenTaps,
    distillation_loss,
    tapped_modules,
)
from offline_compress.train.precision import multiplies_bfloat16
from offline_compress.train.processes import Processes

SAVED_EVERY_S = 120.0  # what an interrupt costs at most where steps are slow


class BatchSource(Protocol):
    """Training data. The same step always gives the same batch, so that a resumed run goes on as it would have."""

    def batch(self, step: int) -> dict[str, torch.Tensor]:
        """pixel_values (B, 1, 3, H, W) float, input_ids, labels (-100: no answer), attention_mask (B, T)."""


@dataclass(frozen=True)
class QatConfig:
    """Learning rates: ``latent`` of the low-bit codes' latents in [-1, 1], ``scale`` of their row scales relative
    to the mean scale of the matrix, ``other`` of all that stays int8 or float."""

    steps: int = 1000
    latent_rate: float = 2e-3
    scale_rate: float = 2e-3
    other_rate: float = 3e-4
    warmup: float = 0.05
    final_rate: float = 0.02
    betas: tuple[float, float] = (0.9, 0.98)
    largest_gradient: float = 1.0
    bf16: bool = field(default_factory=multiplies_bfloat16)
    checkpoint_every: int = 100
    distillation: DistillationConfig = field(default_factory=DistillationConfig)

    def identity(self) -> dict:
        """What must be equal for a checkpoint to be continued."""
        values = asdict(self)
        return {name: value for name, value in values.items() if name != "checkpoint_every"}


@dataclass(frozen=True)
class QatProgress:
    """One finished step; losses are floats, ``rate`` the factor of the learning rates."""

    step: int
    steps: int
    losses: dict[str, float]
    rate: float


def rate_factor(step: int, config: QatConfig) -> float:
    """Linear warm-up, then a cosine down to ``final_rate``."""
    warmup = max(1, round(config.steps * config.warmup))
    if step < warmup:
        return (step + 1) / warmup
    done = (step - warmup) / max(1, config.steps - warmup)
    return config.final_rate + (1 - config.final_rate) * 0.5 * (1 + math.cos(math.pi * done))


def parameter_groups(student: nn.Module, config: QatConfig) -> list[dict]:
    """Latents, scales (one group per matrix: their size differs) and all other parameters, without weight decay."""
    layers = low_bit_layers(student)
    special = {id(parameter) for layer in layers for parameter in (layer.latent, layer.scale)}
    groups = [{"params": [p for p in student.parameters() if id(p) not in special], "rate": config.other_rate}]
    if layers:
        groups.append({"params": [layer.latent for layer in layers], "rate": config.latent_rate})
    groups += [
        {"params": [layer.scale], "rate": config.scale_rate * float(layer.scale.detach().mean())} for layer in layers
    ]
    return groups


class QatTrainer:
    """Student, optimiser and step; `run` trains to the end, `state` and `restore` make a checkpoint of it all.

    With ``bf16`` the teacher is turned into bfloat16, in place. Both go to the device of ``processes``; several
    processes take a batch each at every step, and one step together. ``made_of``: model, plan and data, for checkpoints
    that must not be continued with others."""

    def __init__(
        self, student: nn.Module, teacher: nn.Module, batches: BatchSource, config: QatConfig,
        processes: Processes | None = None, made_of: Mapping[str, object] | None = None,
    ) -> None:  # fmt: skip
        self.processes, self.made_of = processes or Processes(), dict(made_of or {})
        self.student, self.batches, self.config = student.to(self.processes.device), batches, config
        teacher = teacher.to(torch.bfloat16) if config.bf16 else teacher  # whole: no casts on the way
        self.teacher = teacher.to(self.processes.device).eval()
        self.optimiser = torch.optim.AdamW(
            parameter_groups(student, config), lr=config.other_rate, betas=config.betas, weight_decay=0.0
        )
        self.step = 0

    def run(
        self,
        report: Callable[[QatProgress], None] = lambda progress: None,
        save: Callable[[QatTrainer], None] = lambda trainer: None,
    ) -> None:
        """Train up to the last step; ``save`` is called every ``checkpoint_every`` steps, after `SAVED_EVERY_S` without
        it, and at the end.

        Raises QuantizeError where the loss is no longer finite.
        """
        saved_s = time.monotonic()
        with self.tapped() as taps:
            while self.step < self.config.steps:
                losses, rate = self.train_step(*taps), rate_factor(self.step, self.config)
                self.step += 1
                report(QatProgress(self.step, self.config.steps, losses, rate))
                if self.due or time.monotonic() - saved_s > SAVED_EVERY_S:
                    save(self)
                    saved_s = time.monotonic()

    @property
    def due(self) -> bool:
        """Whether the last step was one after which to look at the model."""
        return self.step % self.config.checkpoint_every == 0 or self.step == self.config.steps

    def rehearse(self) -> float:
        """Seconds of a step, which is not taken: no weight changes."""
        start = time.perf_counter()
        with self.tapped() as taps:
            self.losses(*taps)[0].backward()
        if self.processes.device.type == "cuda":
            torch.cuda.synchronize(self.processes.device)
        self.optimiser.zero_grad(set_to_none=True)
        return time.perf_counter() - start

    @contextmanager
    def tapped(self) -> Iterator[tuple[HiddenTaps, HiddenTaps]]:
        """The student in training, hidden states of student and teacher at hand."""
        names = tapped_modules(self.student) if self.config.distillation.hidden_weight else []
        taps = HiddenTaps(self.student, names), HiddenTaps(self.teacher, names)
        self.student.train()
        try:
            yield taps
        finally:
            for tap in taps:
                tap.close()
            self.student.eval()

    def losses(self, taps: HiddenTaps, teacher_taps: HiddenTaps) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """The loss of the step that is next, and its parts."""
        batch = self.processes.moved(self.batches.batch(self.processes.share_of(self.step)))
        with torch.no_grad():
            teacher_logits = forward(self.teacher, batch)
        with torch.autocast(batch["pixel_values"].device.type, torch.bfloat16, enabled=self.config.bf16):
            logits = forward(self.student, batch)
        return distillation_loss(
            logits, teacher_logits, taps.outputs, teacher_taps.outputs, batch, self.config.distillation
        )

    def train_step(self, taps: HiddenTaps, teacher_taps: HiddenTaps) -> dict[str, float]:
        self.set_rates()
        loss, parts = self.losses(taps, teacher_taps)
        if not torch.isfinite(loss):
            raise QuantizeError(
                f"the loss of step {self.step + 1} is {loss.item()}", "resume with smaller learning rates"
            )
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        self.processes.average_gradients(self.student.parameters())
        nn.utils.clip_grad_norm_(self.student.parameters(), self.config.largest_gradient)
        self.optimiser.step()
        for layer in low_bit_layers(self.student):
            layer.clip_latent()
        return {"loss": loss.item(), **{name: value.item() for name, value in parts.items()}}

    def set_rates(self) -> None:
        factor = rate_factor(self.step, self.config)
        for group in self.optimiser.param_groups:
            group["lr"] = group["rate"] * factor

    def state(self) -> dict:
        return {
            "step": self.step,
            "student": self.student.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "config": self.identity(),
            "made_of": self.made_of,
        }

    def identity(self) -> dict:
        """What must be equal for a checkpoint to be continued."""
        return {**self.config.identity(), "processes": self.processes.count}

    def restore(self, state: dict, where: Path | str) -> None:
        """Raises InputError where the checkpoint ``where`` is of another run."""
        require_same_options({"config": {"processes": 1, **state.get("config", {})}}, self.identity(), where)
        other = [name for name, value in state.get("made_of", {}).items() if value != self.made_of.get(name, value)]
        if other:
            raise InputError(
                f"{where}: training of another {', another '.join(other)}",
                "start anew with --resume never, or name another --work folder",
            )
        self.student.load_state_dict(state["student"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.step = state["step"]


def forward(model: nn.Module, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    """Logits (B, T, V)."""
    return model(
        input_ids=batch["input_ids"],
        attention_mask=batch["attention_mask"],
        pixel_values=batch["pixel_values"].to(model.dtype),
        use_cache=False,
    ).logits
