# SPDX-License-Identifier: Apache-2.0
"""Reads the tensors of a Hugging Face folder with NumPy alone: one safetensors file, or several with an index.

A safetensors file is ``u64 n``, ``n`` bytes of JSON ``{name: {dtype, shape, data_offsets}}``, then the data.
"""

from __future__ import annotations

import json
import struct
from pathlib import Path

import numpy as np

from offline_compress.export.errors import CheckpointError

COPY_AGAIN = "copy or download the model folder again"
FLOAT_DTYPES = {"F64": np.float64, "F32": np.float32, "F16": np.float16, "BF16": np.uint16}


def read_config(folder: Path) -> dict:
    """The model's config.json. Raises CheckpointError where it is missing or no JSON object."""
    if not Path(folder).is_dir():
        raise CheckpointError(f"{folder}: no such folder", "name a folder with config.json and *.safetensors")
    return read_json_object(Path(folder) / "config.json")


def read_file(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror})", COPY_AGAIN) from error


def read_json_object(path: Path) -> dict:
    try:
        value = json.loads(read_file(path))
    except ValueError as error:
        raise CheckpointError(f"{path}: not valid JSON ({error})", COPY_AGAIN) from error
    if not isinstance(value, dict):
        raise CheckpointError(f"{path}: not a JSON object", COPY_AGAIN)
    return value


def read_tensors(folder: Path) -> dict[str, np.ndarray]:
    """All float tensors of the folder as float32, by name. Raises CheckpointError naming the file."""
    tensors: dict[str, np.ndarray] = {}
    for path in shard_paths(Path(folder)):
        tensors.update(read_safetensors(path))
    return tensors


def shard_paths(folder: Path) -> list[Path]:
    single, index = folder / "model.safetensors", folder / "model.safetensors.index.json"
    if single.is_file():
        return [single]
    if not index.is_file():
        raise CheckpointError(
            f"{folder}: neither model.safetensors nor model.safetensors.index.json",
            "save the model with save_pretrained(..., safe_serialization=True)",
        )
    names = sorted(set(read_json_object(index).get("weight_map", {}).values()))
    if not names or any(Path(name).name != name for name in names):
        raise CheckpointError(f"{index}: weight_map names no files of this folder", COPY_AGAIN)
    return [folder / name for name in names]


def read_safetensors(path: Path) -> dict[str, np.ndarray]:
    """The float tensors of one file, as float32."""
    try:
        data = np.memmap(path, np.uint8, "r")
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path}: cannot be read ({error})", COPY_AGAIN) from error
    header, start = parse_header(path, data)
    tensors = {}
    for name, entry in header.items():
        if name != "__metadata__" and entry.get("dtype") in FLOAT_DTYPES:
            tensors[name] = read_entry(path, name, entry, data[start:])
    return tensors


def parse_header(path: Path, data: np.ndarray) -> tuple[dict, int]:
    size = struct.unpack("<Q", data[:8].tobytes())[0] if data.size >= 8 else 0
    if not 0 < size <= data.size - 8:
        raise CheckpointError(f"{path}: truncated, or not a safetensors file", COPY_AGAIN)
    try:
        header = json.loads(data[8 : 8 + size].tobytes())
    except ValueError as error:
        raise CheckpointError(f"{path}: damaged safetensors header ({error})", COPY_AGAIN) from error
    return header, 8 + size


def read_entry(path: Path, name: str, entry: dict, data: np.ndarray) -> np.ndarray:
    begin, end = entry["data_offsets"]
    dtype, shape = np.dtype(FLOAT_DTYPES[entry["dtype"]]), tuple(entry["shape"])
    if not 0 <= begin <= end <= data.size or end - begin != dtype.itemsize * int(np.prod(shape, dtype=np.int64)):
        raise CheckpointError(f"{path}: the data of {name} is cut off", COPY_AGAIN)
    raw = np.frombuffer(data[begin:end].tobytes(), dtype).reshape(shape)
    if entry["dtype"] == "BF16":  # the upper half of a float32
        raw = (raw.astype(np.uint32) << 16).view(np.float32)
    return raw.astype(np.float32)
