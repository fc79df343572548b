# SPDX-License-Identifier: Apache-2.0
"""The tensors of a Hugging Face folder, each read from disk when it is asked for; NumPy alone, no pickle, no network.

One safetensors file, or several with an index. Such a file is ``u64 n``, ``n`` bytes of JSON
``{name: {dtype, shape, data_offsets}}``, then the data.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path

import numpy as np

from offline_compress.errors import CheckpointError

COPY_AGAIN = "copy or download the model folder again"
GIVE_FLOAT = "give the float model that it was made from"
FLOAT_DTYPES = {"F64": np.float64, "F32": np.float32, "F16": np.float16, "BF16": np.uint16}
WEIGHT_FILE, INDEX_FILE = "model.safetensors", "model.safetensors.index.json"
LARGEST_HEADER = 100 << 20  # bytes; the format's own limit


@dataclass(frozen=True)
class StoredTensor:
    """Where a tensor lies: its file, type, shape, first byte in the file and number of bytes."""

    path: Path
    dtype: str
    shape: tuple[int, ...]
    start: int
    size: int

    def read(self) -> np.ndarray:
        """As float32, in memory of its own."""
        try:
            raw = np.fromfile(self.path, FLOAT_DTYPES[self.dtype], prod(self.shape), offset=self.start)
        except OSError as error:
            raise CheckpointError(f"{self.path}: cannot be read ({error})", COPY_AGAIN) from error
        if raw.nbytes != self.size:
            raise CheckpointError(f"{self.path}: was cut off while it was read", COPY_AGAIN)
        if self.dtype == "BF16":  # the upper half of a float32
            raw = (raw.astype(np.uint32) << 16).view(np.float32)
        return raw.astype(np.float32, copy=False).reshape(self.shape)


class Checkpoint(Mapping[str, np.ndarray]):
    """The float tensors of a folder by parameter name. Opening reads the headers alone and checks that every file is
    there in full; ``checkpoint[name]`` reads one tensor, as float32, anew each time."""

    def __init__(self, folder: Path, config: dict, tensors: Mapping[str, StoredTensor]) -> None:
        self.folder, self.config, self.tensors = folder, config, tensors

    @staticmethod
    def open(folder: Path | str) -> Checkpoint:
        """Raises CheckpointError naming the file or tensor that is missing, cut off, damaged or no float."""
        folder = Path(folder)
        config = read_config(folder)
        if config.get("quantization_config"):
            method = config["quantization_config"].get("quant_method", "quantised")
            raise CheckpointError(f"{folder / 'config.json'}: the model is quantised already ({method})", GIVE_FLOAT)
        return Checkpoint(folder, config, read_headers(folder))

    def __getitem__(self, name: str) -> np.ndarray:
        return self.tensors[name].read()

    def __iter__(self) -> Iterator[str]:
        return iter(self.tensors)

    def __len__(self) -> int:
        return len(self.tensors)

    def __contains__(self, name: object) -> bool:
        return name in self.tensors

    def shape(self, name: str) -> tuple[int, ...]:
        return self.tensors[name].shape

    def stamp(self) -> dict[str, list[int]]:
        """Size and time of change of every weight file: what tells two states of a folder apart."""
        files = sorted({tensor.path for tensor in self.tensors.values()})
        return {path.name: [path.stat().st_size, path.stat().st_mtime_ns] for path in files}


def model_stamp(folder: Path) -> dict[str, list[int]]:
    """Size and time of change of the model's files: another model in the same folder is compressed anew."""
    files = sorted(path for name in ("*.json", "*.safetensors") for path in folder.glob(name))
    return {path.name: [path.stat().st_size, path.stat().st_mtime_ns] for path in files}


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


def read_headers(folder: Path) -> dict[str, StoredTensor]:
    """Every tensor of the folder's files, each file checked against the index where there is one."""
    tensors: dict[str, StoredTensor] = {}
    for path in shard_paths(folder):
        tensors |= read_header(path)
    for name, shard in weight_map(folder).items():
        if name not in tensors or tensors[name].path.name != shard:
            raise CheckpointError(f"{folder / shard}: holds no {name}, which {INDEX_FILE} says it does", COPY_AGAIN)
    return tensors


def shard_paths(folder: Path) -> list[Path]:
    """The folder's safetensors files; all of them exist."""
    if (folder / WEIGHT_FILE).is_file():
        return [folder / WEIGHT_FILE]
    if not (folder / INDEX_FILE).is_file():
        others = [*folder.glob("*.bin"), *folder.glob("*.pt"), *folder.glob("*.pth")]
        found = f"; {others[0].name} is a pickle, which may run foreign code and is not read" if others else ""
        raise CheckpointError(
            f"{folder}: neither {WEIGHT_FILE} nor {INDEX_FILE}{found}",
            "download the weights too, or save the model with save_pretrained(..., safe_serialization=True)",
        )
    names = sorted(set(weight_map(folder).values()))
    if not names or any(Path(name).name != name for name in names):
        raise CheckpointError(f"{folder / INDEX_FILE}: weight_map names no files of this folder", COPY_AGAIN)
    for name in names:
        if not (folder / name).is_file():
            raise CheckpointError(f"{folder / name}: missing; {INDEX_FILE} lists {len(names)} files", COPY_AGAIN)
    return [folder / name for name in names]


def weight_map(folder: Path) -> dict[str, str]:
    """Tensor name: file name, of the index; empty for a folder of one file."""
    if (folder / WEIGHT_FILE).is_file():
        return {}
    table = read_json_object(folder / INDEX_FILE).get("weight_map")
    if not isinstance(table, dict) or not all(isinstance(name, str) for name in table.values()):
        raise CheckpointError(f"{folder / INDEX_FILE}: no weight_map", COPY_AGAIN)
    return table


def read_header(path: Path) -> dict[str, StoredTensor]:
    """The tensors of one file. A file that ends before its data does is refused here, before any work is done."""
    try:
        with open(path, "rb") as file:
            length = path.stat().st_size
            head = file.read(8)
            size = struct.unpack("<Q", head)[0] if len(head) == 8 else 0
            if not 0 < size <= min(length - 8, LARGEST_HEADER):
                raise CheckpointError(f"{path}: truncated, or not a safetensors file", COPY_AGAIN)
            header = json.loads(file.read(size))
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror})", COPY_AGAIN) from error
    except ValueError as error:
        raise CheckpointError(f"{path}: damaged safetensors header ({error})", COPY_AGAIN) from error
    if not isinstance(header, dict):
        raise CheckpointError(f"{path}: damaged safetensors header", COPY_AGAIN)
    entries = ((name, entry) for name, entry in header.items() if name != "__metadata__")
    tensors = {name: read_entry(path, name, entry, 8 + size, length) for name, entry in entries}
    return {name: tensor for name, tensor in tensors.items() if tensor.dtype in FLOAT_DTYPES}  # no index buffers


def read_entry(path: Path, name: str, entry: dict, data_start: int, file_size: int) -> StoredTensor:
    try:
        dtype, shape = str(entry["dtype"]), tuple(int(size) for size in entry["shape"])
        begin, end = (int(value) for value in entry["data_offsets"])
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{path}: damaged entry of {name}", COPY_AGAIN) from error
    if dtype not in FLOAT_DTYPES:
        if name.endswith(".weight"):
            raise CheckpointError(f"{path}: {name} is stored as {dtype}: quantised already", GIVE_FLOAT)
        return StoredTensor(path, dtype, shape, data_start + begin, end - begin)
    if begin < 0 or min(shape, default=1) < 0 or end - begin != np.dtype(FLOAT_DTYPES[dtype]).itemsize * prod(shape):
        raise CheckpointError(f"{path}: damaged entry of {name}", COPY_AGAIN)
    if data_start + end > file_size:
        missing = data_start + end - file_size
        raise CheckpointError(f"{path}: the data of {name} is cut off, {missing} bytes are missing", COPY_AGAIN)
    return StoredTensor(path, dtype, shape, data_start + begin, end - begin)
