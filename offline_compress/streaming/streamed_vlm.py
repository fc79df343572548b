# SPDX-License-Identifier: Apache-2.0
"""A model in PyTorch whose weights stay on disk: its modules are filled when they are called and emptied after."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import nn

from offline_compress.errors import QuantizeError
from offline_compress.export.checkpoint import Checkpoint
from offline_compress.export.module_names import EMBED_TOKENS, HEAD
from offline_compress.export.weights import LinearWeights
from offline_compress.models.families import family_of, open_checkpoint


class StreamedVlm:
    """``model`` is transformers' own, without storage; within ``loaded(names)`` the named modules have theirs.

    ``quantised``: matrices that are computed with their dequantised values instead of the checkpoint's.
    """

    def __init__(self, checkpoint: Checkpoint, dtype: torch.dtype = torch.float32) -> None:
        self.checkpoint, self.dtype = checkpoint, dtype
        self.family = family_of(checkpoint.config)
        self.model: nn.Module = self.family.skeleton(checkpoint.config).requires_grad_(False)
        self.quantised: Mapping[str, LinearWeights] = {}

    @staticmethod
    def open(folder: Path | str, dtype: torch.dtype = torch.float32) -> StreamedVlm:
        """Raises CheckpointError naming what is missing or does not fit."""
        return StreamedVlm(open_checkpoint(folder), dtype)

    @contextmanager
    def loaded(self, *names: str) -> Iterator[nn.Module]:
        """The model, with these modules filled. Raises QuantizeError naming a parameter that is not finite."""
        try:
            for name in names:
                self.fill(name)
            yield self.model
        finally:
            for name in names:
                self.model.get_submodule(name).to("meta")

    def fill(self, name: str) -> None:
        module = self.model.get_submodule(name)
        values = {child: self.parameter(f"{name}.{child}") for child, _ in module.named_parameters()}
        module.load_state_dict(values, assign=True)
        module.requires_grad_(False)

    def parameter(self, name: str) -> torch.Tensor:
        owner, _, kind = name.rpartition(".")
        if kind == "weight" and owner in self.quantised:
            shape = self.model.get_parameter(name).shape
            return torch.from_numpy(self.quantised[owner].dequantised()).reshape(shape).to(self.dtype)
        return self.float_parameter(name).to(self.dtype)

    def float_parameter(self, name: str) -> torch.Tensor:
        """float32, as the checkpoint has it."""
        value = torch.from_numpy(self.checkpoint[self.stored_name(name)])
        if not torch.isfinite(value).all():
            bad = int((~torch.isfinite(value)).sum())
            raise QuantizeError(
                f"{name}: {bad} of {value.numel()} weights are NaN or infinite",
                "copy or download the model folder again, or train it again",
            )
        return value

    def stored_name(self, name: str) -> str:
        """Tied tables are stored under one of their two names."""
        twins = {f"{HEAD}.weight": f"{EMBED_TOKENS}.weight", f"{EMBED_TOKENS}.weight": f"{HEAD}.weight"}
        return name if name in self.checkpoint else twins.get(name, name)
