# SPDX-License-Identifier: Apache-2.0
"""Training of the photo captioner: its text half on captions alone, then the whole, its eyes taught by a teacher."""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional

from edge_vlm.errors import InputError
from offline_compress.train.distillation import IGNORED_LABEL
from offline_compress.train.float_training import FloatTrainer, FloatTrainingConfig
from offline_compress.train.packed_captions import encode, packed_logits
from offline_compress.train.photo_batches import PhotoBatches, TextBatches


@dataclass(frozen=True)
class PhotoTrainingConfig(FloatTrainingConfig):
    """`text_steps` on captions alone come before `steps - text_steps` on photos. `vision_rate` is relative to `rate`.
    The learning rate stays constant up to the last `decay` of the steps on photos and falls to 0 in these, and the
    weights of the teacher's losses to a fifth, so that a run can be given more or fewer `steps` up to then. The model
    that is kept is the running mean."""

    text_steps: int = 0
    decay: float = 0.4
    vision_rate: float = 0.4
    feature_weight: float = 1.0
    topic_weight: float = 1.0
    smoothing: float = 0.1
    dropout: float = 0.15
    mean_over_steps: int = 150
    frozen_blocks: int = 0  # of the vision encoder, with the patch convolution and positions

    def identity(self) -> dict:
        return {name: value for name, value in super().identity().items() if name not in ("steps", "decay")}

    def left(self, step: int) -> float:
        """1, from where the decay begins down to 0 at the last step."""
        photo_steps = self.steps - self.text_steps
        return min(1.0, (self.steps - step) / max(1, self.decay * photo_steps))


class TeacherHeads(nn.Module):
    """Linear layers from patches to the teacher's features and to words of the captions; thrown away afterwards."""

    def __init__(self, hidden_size: int, components: int, topic_shares: torch.Tensor):
        super().__init__()
        self.features = nn.Linear(hidden_size, components)
        self.topics = nn.Linear(2 * hidden_size, len(topic_shares))
        with torch.no_grad():  # begin with the means, whatever the encoder gives
            for layer in (self.features, self.topics):
                nn.init.zeros_(layer.weight)
            self.features.bias.zero_()
            self.topics.bias.copy_(torch.logit(topic_shares, eps=1e-4))

    def forward(self, hidden: torch.Tensor, batch: dict[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
        """hidden (B, patches, d): distance to the teacher relative to its variance, cross-entropy of the words."""
        side = int(hidden.shape[1] ** 0.5)
        target = batch["features"].transpose(1, 2).unflatten(2, (int(batch["features"].shape[1] ** 0.5), -1))
        target = functional.interpolate(target, (side, side), mode="bilinear").flatten(2).transpose(1, 2)
        seen = self.features(hidden)
        pooled, wanted = seen.mean(1), target.mean(1)
        distance = (seen - target).square().mean() / target.var() + (pooled - wanted).square().mean() / wanted.var()
        logits = self.topics(torch.cat([hidden.mean(1), hidden.amax(1)], 1))
        words = functional.binary_cross_entropy_with_logits(logits, batch["topics"], reduction="none").sum(1).mean()
        return distance, words / 10


@dataclass
class PhotoTrainer(FloatTrainer):
    """As `FloatTrainer`, in two stages."""

    config: PhotoTrainingConfig
    batches: PhotoBatches
    texts: TextBatches | None = None

    def __post_init__(self) -> None:
        self.vision = self.model.model.vision_model
        hidden = self.model.config.vision_config.hidden_size
        shares = torch.from_numpy(self.batches.topics.mean(0))
        self.heads = TeacherHeads(hidden, self.batches.views.features[0].shape[2], shares)
        self.optimiser = torch.optim.AdamW(self.groups(), lr=self.config.rate, betas=(0.9, 0.98), fused=True)
        self.worker = copy.deepcopy(self.model).to(torch.bfloat16) if self.config.bf16 else self.model
        self.kept = copy.deepcopy(self.model).eval()  # the running mean
        self.worker.train()
        freeze(self.worker.model.vision_model, self.config.frozen_blocks)
        add_dropout(self.worker, self.config.dropout)

    def groups(self) -> list[dict]:
        eyes = {id(p) for p in self.vision.parameters()}
        rest = [*self.model.parameters(), *self.heads.parameters()]
        groups = []
        for share, parameters in ((self.config.vision_rate, [p for p in rest if id(p) in eyes]),
                                  (1.0, [p for p in rest if id(p) not in eyes])):  # fmt: skip
            groups.append({"params": [p for p in parameters if p.ndim > 1], "share": share,
                           "weight_decay": self.config.weight_decay})  # fmt: skip
            groups.append({"params": [p for p in parameters if p.ndim <= 1], "share": share, "weight_decay": 0.0})
        return groups

    def train_step(self) -> tuple[dict[str, float], dict[str, float], int]:
        done, left = self.step - self.config.text_steps, self.config.left(self.step)
        warm = min(1.0, (1 + (self.step if done < 0 else done)) / self.config.warmup_steps)
        for group in self.optimiser.param_groups:
            group["lr"] = self.config.rate * group["share"] * warm * left
        torch.manual_seed(self.step)  # dropout, so that a resumed run goes on as it would have
        if done < 0:
            batch = self.texts.batch(self.step)
            losses = {"answer": caption_loss(self.worker, batch, None, self.config.smoothing)}
            loss = losses["answer"]
        else:
            batch = self.batches.batch(done)
            patches = encode(self.worker, batch["pixel_values"][:, 0])
            answer = caption_loss(self.worker, batch, patches, self.config.smoothing)
            features, topics = self.heads(patches.float(), batch)
            taught = self.config.feature_weight * features + self.config.topic_weight * topics
            loss = answer + (0.2 + 0.8 * left) * taught
            losses = {"answer": answer, "features": features, "topics": topics}
        if not torch.isfinite(loss):
            raise InputError(f"the loss of step {self.step + 1} is {loss.item()}", "train with a smaller --rate")
        loss.backward()
        self.update()
        return {name: value.item() for name, value in losses.items()}, {}, len(batch["input_ids"])

    def update(self) -> None:
        for parameter, working in zip(self.model.parameters(), self.worker.parameters(), strict=True):
            if working is not parameter:
                parameter.grad = None if working.grad is None else working.grad.float()
                working.grad = None
        nn.utils.clip_grad_norm_([*self.model.parameters(), *self.heads.parameters()], self.config.largest_gradient)
        self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)
        self.refresh_worker()
        with torch.no_grad():
            share = max(1 / (self.step + 1), 1 / self.config.mean_over_steps)
            torch._foreach_lerp_(list(self.kept.parameters()), list(self.model.parameters()), share)

    def state(self) -> dict:
        return {**super().state(), "kept": self.kept.state_dict()}

    def restore(self, state: dict, where: object) -> None:
        super().restore(state, where)
        self.kept.load_state_dict(state["kept"])


def caption_loss(
    model: nn.Module, batch: dict[str, torch.Tensor], patches: torch.Tensor | None, smoothing: float
) -> torch.Tensor:
    """Mean cross-entropy of all captions' tokens of `packed` sequences; ``patches`` None: no image."""
    known = batch["labels"] != IGNORED_LABEL
    logits = packed_logits(model, batch, patches).float()
    return functional.cross_entropy(logits, batch["labels"][known], label_smoothing=smoothing)


def freeze(vision: nn.Module, blocks: int) -> None:
    """No gradients below ``blocks``: nearly a third less to compute per frozen half."""
    if blocks:
        for module in (vision.embeddings, *vision.encoder.layers[:blocks]):
            module.requires_grad_(False)


def add_dropout(model: nn.Module, share: float) -> None:
    """On what attention and MLP of the text blocks add; only while the model trains."""

    def drop(module: nn.Module, _inputs, output):
        if not module.training:
            return output
        if isinstance(output, tuple):
            return (functional.dropout(output[0], share), *output[1:])
        return functional.dropout(output, share)

    for layer in model.model.text_model.layers:
        layer.self_attn.register_forward_hook(drop)
        layer.mlp.register_forward_hook(drop)
