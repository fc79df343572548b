# SPDX-License-Identifier: Apache-2.0
"""What a quantised student learns from its float teacher: answers, logits and hidden states.

Not in paper T, which trains on cross-entropy alone; the hidden states make recovery many times faster.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional

from offline_compress.export.module_names import TEXT, VISION
from offline_compress.models.token_sequences import IGNORED_LABEL


@dataclass(frozen=True)
class DistillationConfig:
    """Weights of the three losses; ``temperature`` softens the logits of both."""

    answer_weight: float = 0.5
    logits_weight: float = 1.0
    hidden_weight: float = 1.0
    temperature: float = 1.0


class HiddenTaps:
    """Keeps the outputs of named modules during one forward pass; `close` takes the hooks off."""

    def __init__(self, model: nn.Module, names: list[str]) -> None:
        self.outputs: dict[str, torch.Tensor] = {}
        self.hooks = [model.get_submodule(name).register_forward_hook(self.keep(name)) for name in names]

    def keep(self, name: str):
        def hook(module, arguments, output):
            self.outputs[name] = output[0] if isinstance(output, tuple) else output

        return hook

    def close(self) -> None:
        for hook in self.hooks:
            hook.remove()
        self.outputs.clear()


def tapped_modules(model: nn.Module) -> list[str]:
    """The blocks of both halves, the end of the encoder, and the connector."""
    vision = [f"{VISION}.encoder.layers.{i}" for i in range(len(model.get_submodule(f"{VISION}.encoder.layers")))]
    text = [f"{TEXT}.layers.{i}" for i in range(len(model.get_submodule(f"{TEXT}.layers")))]
    return [*vision, f"{VISION}.post_layernorm", "model.connector", *text]


def distillation_loss(
    logits: torch.Tensor,
    teacher_logits: torch.Tensor,
    hidden: dict[str, torch.Tensor],
    teacher_hidden: dict[str, torch.Tensor],
    batch: dict[str, torch.Tensor],
    config: DistillationConfig,
) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """The weighted sum and its detached parts (answer, logits, hidden). logits: (B, T, V)."""
    answer, divergence = answer_losses(logits, teacher_logits, batch["labels"], config.temperature)
    distance = hidden_loss(hidden, teacher_hidden, batch["attention_mask"])
    total = config.answer_weight * answer + config.logits_weight * divergence + config.hidden_weight * distance
    return total, {"answer": answer.detach(), "logits": divergence.detach(), "hidden": distance.detach()}


def answer_losses(
    logits: torch.Tensor, teacher_logits: torch.Tensor, labels: torch.Tensor, temperature: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Cross-entropy, and KL(teacher | student) * temperature^2, both over the answer's tokens."""
    target = labels[:, 1:]
    known = target != IGNORED_LABEL
    student = logits[:, :-1][known].float()  # (answers, V)
    teacher = teacher_logits[:, :-1][known].float()
    answer = functional.cross_entropy(student, target[known])
    divergence = functional.kl_div(
        functional.log_softmax(student / temperature, -1),
        functional.log_softmax(teacher / temperature, -1),
        reduction="batchmean",
        log_target=True,
    )
    return answer, divergence * temperature**2


def hidden_loss(
    hidden: dict[str, torch.Tensor], teacher_hidden: dict[str, torch.Tensor], attention_mask: torch.Tensor
) -> torch.Tensor:
    """Mean over the tapped modules of |student - teacher|^2 relative to the teacher's variance."""
    losses = []
    for name, target in teacher_hidden.items():
        value, target = hidden[name].float(), target.float()
        if name.startswith(f"{TEXT}.layers"):  # padding has no meaning
            value, target = value[attention_mask.bool()], target[attention_mask.bool()]
        centred = target - target.mean(dim=tuple(range(target.ndim - 1)), keepdim=True)
        losses.append((value - target).square().mean() / centred.square().mean().clamp_min(1e-12))
    return torch.stack(losses).mean()
