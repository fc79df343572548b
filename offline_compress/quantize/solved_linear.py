# SPDX-License-Identifier: Apache-2.0
"""A solved matrix as export takes it, with what was measured of it; kept in files between two runs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from zipfile import BadZipFile

import numpy as np

from custom_ops.packing import Groups
from custom_ops.spec import WeightFormat
from edge_vlm.files import whole_file
from offline_compress.errors import QuantizeError
from offline_compress.export.weights import LinearWeights
from offline_compress.quantize.formats import Method
from offline_compress.quantize.grids import BINARY, INTEGER, TERNARY, Grid
from offline_compress.quantize.integer import grouped_weights
from offline_compress.quantize.solvers import SolvedMatrix

FORMATS = {TERNARY: WeightFormat.TERNARY, BINARY: WeightFormat.BINARY}
CODES, REST = ".codes.npy", ".npz"


@dataclass(frozen=True)
class SolvedLinear:
    """``weight_error`` and ``output_error`` as in `SolvedMatrix`; ``saliency_share``: what the most salient tenth of
    the calibration tokens holds of it (.1: all alike; None: not asked for). ``norm_scale`` (K,): what the norm before
    it has to be divided by, None for nothing (`offline_compress.quantize.awq`)."""

    weights: LinearWeights
    weight_error: float
    output_error: float
    saliency_share: float | None = None
    norm_scale: np.ndarray | None = None


def grid_of(method: Method) -> Grid:
    if method.group is not None:
        return Grid(INTEGER, method.bits, method.symmetric, method.group)
    kind, _, rule = method.name.partition("-")
    if kind not in FORMATS:
        raise QuantizeError(f"{method.name} is rounded, not solved", "plan ternary, binary or 2 to 4 bits")
    return Grid(kind, rule=rule or "kmeans")


def exported(matrix: SolvedMatrix, bias: np.ndarray | None) -> LinearWeights:
    """Codes and scales as the operators take them."""
    if matrix.grid.kind == INTEGER:
        return grouped_weights(matrix, bias)
    scale = matrix.scale[:, 0].numpy().astype(np.float32)
    return LinearWeights(FORMATS[matrix.grid.kind], matrix.codes.numpy().astype(np.int8), scale, bias)


def save_solved(folder: Path, name: str, solved: SolvedLinear) -> None:
    """Two files: the codes, which are mapped when they are read again, and all else."""
    weights = solved.weights
    rest = {"format": weights.format, "scale": weights.scale, "errors": [solved.weight_error, solved.output_error]}
    optional = {"bias": weights.bias, "saliency_share": solved.saliency_share, "norm_scale": solved.norm_scale}
    if weights.groups is not None:
        optional |= {"group_scale": weights.groups.scale, "zero": weights.groups.zero, "group": weights.groups.size}
    with whole_file(folder / f"{name}{REST}") as file:
        np.savez(file, **rest, **{key: value for key, value in optional.items() if value is not None})
    with whole_file(folder / f"{name}{CODES}") as file:
        np.save(file, np.ascontiguousarray(weights.codes))


def load_solved(folder: Path, name: str) -> SolvedLinear:
    """Raises QuantizeError for files that are damaged."""
    try:
        codes = np.load(folder / f"{name}{CODES}", mmap_mode="r", allow_pickle=False)
        with np.load(folder / f"{name}{REST}", allow_pickle=False) as rest:
            values = {key: rest[key] for key in rest.files}
        groups = None
        if "group" in values:
            groups = Groups(int(values["group"]), values["group_scale"], values.get("zero"))
        weights = LinearWeights(WeightFormat(int(values["format"])), codes, values["scale"], values.get("bias"), groups)
        weight_error, output_error = (float(value) for value in values["errors"])
        share = float(values["saliency_share"]) if "saliency_share" in values else None
        return SolvedLinear(weights, weight_error, output_error, share, values.get("norm_scale"))
    except (OSError, ValueError, KeyError, EOFError, BadZipFile) as error:
        raise QuantizeError(f"{folder / name}: damaged ({error})", "start anew with --resume never") from error
