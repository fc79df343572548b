# SPDX-License-Identifier: Apache-2.0
"""Training of the photo captioner in four stages: English, what to say of the teacher's features, eyes that give the
same, and all of it together on photographs."""

from __future__ import annotations

import copy
from dataclasses import asdict, dataclass, field

import torch
from torch import nn
from torch.nn import functional

from edge_vlm.errors import InputError
from offline_compress.models.mobilenet_features import FEATURES
from offline_compress.models.packed_captions import encode_with_states, packed_logits
from offline_compress.models.token_sequences import IGNORED_LABEL
from offline_compress.train.checkpoint import digest_of, require_same_options
from offline_compress.train.float_training import FloatTrainer
from offline_compress.train.muon import Muon
from offline_compress.train.photo_batches import Ahead, Batch
from offline_compress.train.precision import WorkingCopy, multiplies_bfloat16
from offline_compress.train.qat import BatchSource
from offline_compress.train.teacher_bridge import TeacherBridge


@dataclass(frozen=True)
class Stages:
    """Steps of each: `texts` captions without photos, text half alone; `teacher` captions of the teacher's features,
    text half alone too; `glimpses` encoder and connector; `photos` everything."""

    texts: int
    teacher: int
    glimpses: int
    photos: int

    @property
    def steps(self) -> int:
        return sum(asdict(self).values())

    def of(self, step: int) -> tuple[str, int, int]:
        """The stage that a step lies in, the step within it, and its length."""
        for name, length in asdict(self).items():
            if step < length:
                return name, step, length
            step -= length
        raise IndexError("behind the last stage")


@dataclass(frozen=True)
class PhotoTrainingConfig:
    """`matrix_rate` is Muon's, for the matrices of the blocks, `rate` AdamW's, for all else. In each stage they rise
    linearly over `warmup_steps`, stay, and fall to 0 over its last part, `decay`: up to there a run can be resumed with
    another length. `last_rate` is what the rates of the stage `photos` are multiplied by, its encoder's by
    `vision_rate` besides. The model that is kept is the running mean."""

    stages: Stages
    rate: float = 1e-3
    matrix_rate: float = 0.02
    weight_decay: float = 0.1
    warmup_steps: int = 60
    decay: float = 0.5
    last_rate: float = 0.3
    vision_rate: float = 0.5
    hidden_weight: float = 1.0
    map_weight: float = 0.5
    smoothing: float = 0.1
    dropout: float = 0.2
    mean_over_steps: int = 100
    largest_gradient: float = 1.0
    bf16: bool = field(default_factory=multiplies_bfloat16)
    checkpoint_every: int = 100

    @property
    def steps(self) -> int:
        return self.stages.steps

    def identity(self) -> dict:
        """What must be equal for a checkpoint to be continued."""
        return {name: value for name, value in asdict(self).items() if name not in ("checkpoint_every", "stages")}

    def rate_factor(self, step: int) -> float:
        stage, done, length = self.stages.of(step)
        warm, left = (done + 1) / self.warmup_steps, (length - done) / max(1, self.decay * length)
        return min(1.0, warm, left) * (self.last_rate if stage == "photos" else 1.0)


@dataclass(frozen=True)
class StagedBatches:
    """Batches by stage."""

    stages: Stages
    texts: BatchSource
    photos: BatchSource
    glimpses: BatchSource

    def batch(self, step: int) -> Batch:
        stage, done, _ = self.stages.of(step)
        source = {"texts": self.texts, "glimpses": self.glimpses}.get(stage, self.photos)
        # both stages with captions go through the photos: the later one goes on where the earlier one stopped
        return source.batch(done + self.stages.teacher if stage == "photos" else done)


class PhotoTrainer(FloatTrainer):
    """As `FloatTrainer`, in stages, with a running mean of the weights in `kept`."""

    def __init__(
        self, model: nn.Module, batches: StagedBatches, bridge: TeacherBridge, config: PhotoTrainingConfig
    ) -> None:
        self.model, self.config, self.step, self.begun_from = model, config, 0, None
        self.data = [digest_of(source.batch(0)) for source in (batches.texts, batches.photos)]
        self.batches, self.heads = Ahead(batches.batch, config.steps), bridge
        self.optimisers = make_optimisers(model, bridge, config)
        self.working = WorkingCopy(model, config.bf16)
        self.kept = copy.deepcopy(model).eval()
        self.working.module.train()
        add_dropout(self.working.module, config.dropout)

    def begin_from(self, state: dict, where: object) -> None:
        """With the weights that the checkpoint ``state`` of an earlier run ended in, and all else anew.

        Raises InputError where they do not fit.
        """
        try:
            self.model.load_state_dict(state["kept"])
            self.heads.load_state_dict(state["heads"])
        except (KeyError, RuntimeError) as error:
            raise InputError(f"{where}: not of this captioner ({error})", "start from another run") from error
        self.kept.load_state_dict(state["kept"])
        self.begun_from = digest_of(state["kept"])
        self.working.refresh()

    def train_step(self) -> tuple[dict[str, float], dict[str, float], int]:
        stage, done, _ = self.config.stages.of(self.step)
        self.set_rates(stage)
        torch.manual_seed(self.step)  # dropout, so that a resumed run goes on as it would have
        batch = self.batches.batch(self.step)
        losses = self.losses(stage, batch)
        loss = sum(self.weight(name, stage) * value for name, value in losses.items())
        if not torch.isfinite(loss):
            raise InputError(f"the loss of step {self.step + 1} is {loss.item()}", "train with a smaller --rate")
        loss.backward()
        self.update(restart=done == 0)
        return {name: value.item() for name, value in losses.items()}, {}, len(next(iter(batch.values())))

    def losses(self, stage: str, batch: Batch) -> dict[str, torch.Tensor]:
        model = self.working.module
        if stage == "texts":
            return {"answer": caption_loss(model, batch, None, self.config.smoothing)}
        if stage == "teacher":
            image = self.heads.adapted(batch[FEATURES]).to(model.dtype)
            return {"answer": caption_loss(model, batch, image, self.config.smoothing)}
        image, states = encode_with_states(model, batch["pixel_values"][:, 0])
        with torch.autocast("cpu", torch.bfloat16, enabled=self.config.bf16):
            taught = self.heads.distances(image, states, batch)
        if stage == "glimpses":
            return taught
        return {"answer": caption_loss(model, batch, image, self.config.smoothing), **taught}

    def weight(self, loss: str, stage: str) -> float:
        """The teacher's losses fade as the encoder learns from the captions themselves."""
        fading = 0.1 + 0.9 * self.config.rate_factor(self.step) / self.config.last_rate if stage == "photos" else 1.0
        return {"answer": 1.0, "hidden": fading * self.config.hidden_weight}.get(loss, fading * self.config.map_weight)

    def set_rates(self, stage: str) -> None:
        factor = self.config.rate_factor(self.step)
        for optimiser in self.optimisers:
            for group in optimiser.param_groups:
                share = self.config.vision_rate if stage == "photos" and group["sees"] else 1.0
                group["lr"] = group["rate"] * factor * share

    def update(self, restart: bool = False) -> None:
        """``restart``: the running mean begins anew."""
        self.working.hand_over_gradients()
        nn.utils.clip_grad_norm_([*self.model.parameters(), *self.heads.parameters()], self.config.largest_gradient)
        for optimiser in self.optimisers:
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)
        self.working.refresh()
        with torch.no_grad():
            _, done, _ = self.config.stages.of(self.step)
            share = 1.0 if restart else max(1 / (done + 1), 1 / self.config.mean_over_steps)
            torch._foreach_lerp_(list(self.kept.parameters()), list(self.model.parameters()), share)

    def identity(self) -> dict:
        begun = {} if self.begun_from is None else {"begun_from": self.begun_from}
        return {**self.config.identity(), "data": self.data, **begun}

    def state(self) -> dict:
        return {
            "step": self.step,
            "model": self.model.state_dict(),
            "heads": self.heads.state_dict(),
            "kept": self.kept.state_dict(),
            "optimisers": [optimiser.state_dict() for optimiser in self.optimisers],
            "config": self.identity(),
        }

    def restore(self, state: dict, where: object) -> None:
        require_same_options(state, self.identity(), where)
        self.model.load_state_dict(state["model"])
        self.heads.load_state_dict(state["heads"])
        self.kept.load_state_dict(state["kept"])
        for optimiser, saved in zip(self.optimisers, state["optimisers"], strict=True):
            optimiser.load_state_dict(saved)
        self.step = state["step"]
        self.working.refresh()


def make_optimisers(
    model: nn.Module, bridge: TeacherBridge, config: PhotoTrainingConfig
) -> tuple[torch.optim.Optimizer, ...]:
    """A group `sees` where it belongs to encoder or connector. Norms and biases are not decayed."""
    vision, text = model.model.vision_model, model.model.text_model
    inside = {id(p) for blocks in (vision.encoder.layers, text.layers) for p in blocks.parameters() if p.ndim == 2}
    eyes = {id(p) for part in (vision, model.model.connector) for p in part.parameters()}
    matrices, others = [], []
    for sees in (True, False):
        mine = [p for p in [*model.parameters(), *bridge.parameters()] if (id(p) in eyes) == sees]
        rest = [p for p in mine if id(p) not in inside]
        matrices.append({"params": [p for p in mine if id(p) in inside], "rate": config.matrix_rate, "sees": sees})
        for decay, params in ((config.weight_decay, [p for p in rest if p.ndim > 1]),
                              (0.0, [p for p in rest if p.ndim <= 1])):  # fmt: skip
            others.append({"params": params, "weight_decay": decay, "rate": config.rate, "sees": sees})
    return (
        Muon(matrices, config.matrix_rate, weight_decay=config.weight_decay),
        torch.optim.AdamW(others, config.rate, betas=(0.9, 0.98), fused=True),
    )


def caption_loss(model: nn.Module, batch: Batch, image: torch.Tensor | None, smoothing: float) -> torch.Tensor:
    """Mean cross-entropy of all captions' tokens of `packed` sequences; ``image`` None: without."""
    known = batch["labels"] != IGNORED_LABEL
    logits = packed_logits(model, batch, image).float()
    return functional.cross_entropy(logits, batch["labels"][known], label_smoothing=smoothing)


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
