# SPDX-License-Identifier: Apache-2.0
"""One training shared by several processes, each with a device of its own, as torchrun starts them."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import torch
from torch import distributed, nn

LONGEST_WAIT_H = 24  # for a process that solves while the others wait


@dataclass(frozen=True)
class Processes:
    """This process is number ``rank`` of ``count``. Alone: the first GPU, or the CPU where there is none."""

    rank: int = 0
    count: int = 1
    device: torch.device = torch.device("cpu")

    @staticmethod
    def join() -> Processes:
        """By torchrun's environment; a process that was started without it is alone."""
        count, local = (int(os.environ.get(name, default)) for name, default in (("WORLD_SIZE", 1), ("LOCAL_RANK", 0)))
        device = torch.device("cuda", local) if torch.cuda.is_available() else torch.device("cpu")
        if device.type == "cuda":
            torch.cuda.set_device(device)
        if count > 1 and not distributed.is_initialized():
            backend = "nccl" if device.type == "cuda" else "gloo"
            distributed.init_process_group(backend, timeout=timedelta(hours=LONGEST_WAIT_H))
        return Processes(int(os.environ.get("RANK", 0)), count, device)

    @property
    def leads(self) -> bool:
        """The one that prints, keeps checkpoints and writes the bundle."""
        return self.rank == 0

    def share_of(self, step: int) -> int:
        """Which of the source's batches this process takes at a step: together they take ``count`` of them."""
        return step * self.count + self.rank

    def moved(self, batch: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        return {name: value.to(self.device, non_blocking=True) for name, value in batch.items()}

    def average_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """The same gradient in all processes: as of one batch of all their images."""
        if self.count == 1:
            return
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        flat = torch.cat([gradient.flatten() for gradient in gradients])
        distributed.all_reduce(flat)
        flat /= self.count
        for gradient, mean in zip(gradients, flat.split([g.numel() for g in gradients]), strict=True):
            gradient.copy_(mean.view_as(gradient))

    @contextmanager
    def lead_first(self) -> Iterator[None]:
        """The block is done by the leading process alone, then by the others, who find in files what it made."""
        if self.count > 1 and not self.leads:
            distributed.barrier()
        yield
        if self.count > 1 and self.leads:
            distributed.barrier()

    def leave(self) -> None:
        if self.count > 1:
            distributed.barrier()
            distributed.destroy_process_group()
