# SPDX-License-Identifier: Apache-2.0
"""What quantisation hands to export: every Linear as codes and scales, the rest as float tensors."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from math import prod
from pathlib import Path

import numpy as np

from custom_ops.packing import LIMITS, Groups
from custom_ops.spec import GROUP_MULTIPLE, GROUPED, WeightFormat
from offline_compress.errors import CheckpointError, ExportError
from offline_compress.export.checkpoint import COPY_AGAIN, Checkpoint
from offline_compress.export.module_names import EMBED_TOKENS, HEAD, check_tied, is_tied, linear_names
from offline_compress.models.families import open_checkpoint


@dataclass(frozen=True)
class LinearWeights:
    """One matrix: ``weight = codes * scale[:, None]``; with groups ``(codes - zero) * group scale * scale[:, None]``.

    ``codes`` int8 (N, K) in the range of their format (custom_ops.packing.LIMITS); for FLOAT32 the float32 weights
    themselves, ``scale`` then being ones. ``scale`` float32 (N,), ``bias`` float32 (N,) or None, ``groups`` of INT2,
    INT3 and INT4 alone. Raises ExportError where they do not fit together.
    """

    format: WeightFormat
    codes: np.ndarray
    scale: np.ndarray
    bias: np.ndarray | None = None
    groups: Groups | None = None

    def __post_init__(self) -> None:
        wanted = np.float32 if self.format == WeightFormat.FLOAT32 else np.int8
        if self.codes.ndim != 2 or self.codes.dtype != wanted:
            found = f"{self.codes.dtype} {self.codes.shape}"
            raise ExportError(f"{self.format.name} codes are {found}, not {wanted.__name__} (N, K)")
        for name, vector in (("scale", self.scale), ("bias", self.bias)):
            if vector is not None and (vector.shape != self.codes.shape[:1] or vector.dtype != np.float32):
                raise ExportError(f"{name} is {vector.dtype} {vector.shape}, not float32 ({self.out_features},)")
        if self.format in LIMITS and self.codes.size:
            low, high = LIMITS[self.format]
            if int(self.codes.max()) > high or int(self.codes.min()) < low:
                raise ExportError(f"{self.format.name} codes lie outside {low}..{high}")
            if self.format == WeightFormat.BINARY and not self.codes.all():
                raise ExportError("BINARY codes hold zeros; only -1 and 1 can be stored")
        if self.groups is not None:
            self.check_groups(self.groups)

    def check_groups(self, groups: Groups) -> None:
        if self.format not in GROUPED or groups.size < GROUP_MULTIPLE or groups.size % GROUP_MULTIPLE:
            raise ExportError(
                f"{self.format.name} in groups of {groups.size}",
                f"groups are of INT2, INT3 and INT4, and a multiple of {GROUP_MULTIPLE}",
            )
        shape = (self.out_features, -(-self.in_features // groups.size))
        for name, values, dtype in (("scale", groups.scale, np.float16), ("zero", groups.zero, np.int8)):
            if values is not None and (values.shape != shape or values.dtype != dtype):
                raise ExportError(f"group {name} is {values.dtype} {values.shape}, not {dtype.__name__} {shape}")

    @staticmethod
    def of_float(weight: np.ndarray, bias: np.ndarray | None = None) -> LinearWeights:
        """A float matrix (N, K), kept as it is."""
        weight = np.ascontiguousarray(weight, np.float32)
        return LinearWeights(WeightFormat.FLOAT32, weight, np.ones(len(weight), np.float32), bias)

    @staticmethod
    def of_groups(
        weight_format: WeightFormat,
        codes: np.ndarray,
        scale: np.ndarray,
        zero: np.ndarray | None,
        group_size: int,
        bias: np.ndarray | None = None,
    ) -> LinearWeights:
        """``weight = (codes - zero) * scale`` with scale and zero (N, groups), zero None or in the range of the codes
        (INT4: -8..7; a solver's unsigned codes and zeros are shifted by -8)."""
        row_scale, groups = Groups.of(scale, group_size, zero)
        return LinearWeights(weight_format, codes.astype(np.int8), row_scale, bias, groups)

    @property
    def out_features(self) -> int:
        return self.codes.shape[0]

    @property
    def in_features(self) -> int:
        return self.codes.shape[1]

    def dequantised(self) -> np.ndarray:
        """float32 (N, K)."""
        if self.groups is None:
            return self.codes.astype(np.float32) * self.scale[:, None]
        scale, zero = self.groups.columns(self.in_features)
        return (self.codes - zero.astype(np.float32)) * scale * self.scale[:, None]

    def stacked_on(self, others: Iterable[LinearWeights]) -> LinearWeights:
        """The rows of this matrix, then those of the others: one Linear for q, k, v or gate, up.

        Raises ExportError where the formats differ. Absent biases become zeros where another has one.
        """
        parts = [self, *others]
        if len({(part.format, part.groups and part.groups.size) for part in parts}) > 1:
            raise ExportError("matrices of one operator have different formats", "give them one format in the plan")
        has_bias = any(part.bias is not None for part in parts)
        biases = [np.zeros(part.out_features, np.float32) if part.bias is None else part.bias for part in parts]
        return LinearWeights(
            self.format,
            np.concatenate([part.codes for part in parts]),
            np.concatenate([part.scale for part in parts]),
            np.concatenate(biases) if has_bias else None,
            None if self.groups is None else stacked_groups([part.groups for part in parts]),
        )


def stacked_groups(parts: Sequence[Groups]) -> Groups:
    """Of one group size; zeros where another part has zero points."""
    zero = None
    if any(part.zero is not None for part in parts):
        zero = np.concatenate(
            [np.zeros(part.scale.shape, np.int8) if part.zero is None else part.zero for part in parts]
        )
    return Groups(parts[0].size, np.concatenate([part.scale for part in parts]), zero)


def finite(checkpoint: Checkpoint, name: str) -> np.ndarray:
    """The tensor ``name``. Raises CheckpointError where it holds a value that is not finite."""
    value = checkpoint[name]
    if not np.isfinite(value).all():
        raise CheckpointError(f"{checkpoint.tensors[name].path}: {name} holds NaN or infinity", COPY_AGAIN)
    return value


@dataclass(frozen=True)
class StoredFloat:
    """A float matrix that stays on disk, in the place of a `LinearWeights`: ``read() -> float32 (N, K)`` anew at
    each use of its codes."""

    out_features: int
    in_features: int
    bias: np.ndarray | None
    read: Callable[[], np.ndarray]
    format = WeightFormat.FLOAT32
    groups = None

    @staticmethod
    def of_checkpoint(checkpoint: Checkpoint, name: str) -> StoredFloat:
        """``name.weight``; a patch convolution is a matrix over its patches, a tied head may bear the other name."""
        name = EMBED_TOKENS if name == HEAD and f"{HEAD}.weight" not in checkpoint else name
        rows, *columns = checkpoint.shape(f"{name}.weight")
        bias = None if f"{name}.bias" not in checkpoint else finite(checkpoint, f"{name}.bias")
        return StoredFloat(rows, prod(columns), bias, lambda: finite(checkpoint, f"{name}.weight").reshape(rows, -1))

    @property
    def codes(self) -> np.ndarray:
        return self.read()

    @cached_property
    def scale(self) -> np.ndarray:
        return np.ones(self.out_features, np.float32)

    def dequantised(self) -> np.ndarray:
        """float32 (N, K)."""
        return self.read()

    def stacked_on(self, others: Iterable[StoredFloat | LinearWeights]) -> StoredFloat:
        """As `LinearWeights.stacked_on`, still on disk."""
        parts = [self, *others]
        if any(part.format != self.format for part in parts):
            raise ExportError("matrices of one operator have different formats", "give them one format in the plan")
        biases = [np.zeros(part.out_features, np.float32) if part.bias is None else part.bias for part in parts]
        return StoredFloat(
            sum(part.out_features for part in parts),
            self.in_features,
            None if all(part.bias is None for part in parts) else np.concatenate(biases),
            lambda: np.concatenate([part.codes for part in parts]),
        )


@dataclass(frozen=True)
class ModelWeights:
    """A whole model.

    ``config`` the Hugging Face config.json; ``linears`` by module name; ``tensors`` float32 by parameter name:
    norms and the position embedding. Where embeddings are tied, ``linears["lm_head"]`` is both tables and
    ``model.text_model.embed_tokens`` is absent; otherwise it is a member of ``linears`` of its own.
    """

    config: dict
    linears: Mapping[str, LinearWeights | StoredFloat]
    tensors: Mapping[str, np.ndarray]

    @classmethod
    def from_hf_folder(cls, folder: Path | str) -> ModelWeights:
        """All float, as trained; matrices stay on disk. Raises CheckpointError where files or tensors are missing, of
        an unknown architecture, or of other shapes than config.json says."""
        checkpoint = open_checkpoint(folder)
        tied = is_tied(checkpoint.config, checkpoint)
        if tied:
            check_tied(checkpoint)
        names = linear_names(checkpoint.config, tied)
        linears = {name: StoredFloat.of_checkpoint(checkpoint, name) for name in names}
        owned = tuple(f"{name}." for name in (*linears, EMBED_TOKENS))
        tensors = {name: finite(checkpoint, name) for name in checkpoint if not name.startswith(owned)}
        return cls(checkpoint.config, linears, tensors)

    @classmethod
    def from_tensors(cls, config: dict, tensors: Mapping[str, np.ndarray], where: str) -> ModelWeights:
        """From float32 parameters by name; ``where`` is named in errors."""
        rest = {name: np.asarray(value, np.float32) for name, value in tensors.items()}
        if is_tied(config, rest):
            rest[f"{HEAD}.weight"] = rest.get(f"{HEAD}.weight", rest.get(f"{EMBED_TOKENS}.weight"))
            rest.pop(f"{EMBED_TOKENS}.weight", None)
        linears = {}
        for name in linear_names(config, tied=f"{EMBED_TOKENS}.weight" not in rest):
            weight = rest.pop(f"{name}.weight", None)
            if weight is None:
                raise CheckpointError(f"{where}: no tensor {name}.weight", COPY_AGAIN)
            linears[name] = LinearWeights.of_float(weight.reshape(len(weight), -1), rest.pop(f"{name}.bias", None))
        return cls(config, linears, rest)

    def with_linears(self, changed: Mapping[str, LinearWeights]) -> ModelWeights:
        """A copy in which some matrices are replaced. Raises ExportError for an unknown name."""
        for name in changed:
            if name not in self.linears:
                raise ExportError(f"no Linear named {name} in this model", "name modules as Hugging Face does")
        return replace(self, linears={**self.linears, **changed})

    def tensor(self, name: str) -> np.ndarray:
        """A float32 parameter by its full name. Raises ExportError where the model lacks it."""
        if name not in self.tensors:
            raise ExportError(f"no tensor {name} in this model", COPY_AGAIN)
        return self.tensors[name]

    def fused(self, names: Sequence[str]) -> LinearWeights:
        """Several matrices with one input as one, rows in the order of ``names``."""
        first, *others = (self.linears[name] for name in names)
        try:
            return first.stacked_on(others)
        except ExportError as error:
            raise ExportError(f"{', '.join(names)}: {error.what}", error.remedy) from error

    @property
    def tied(self) -> bool:
        return EMBED_TOKENS not in self.linears
