# SPDX-License-Identifier: Apache-2.0
"""A .tflite of ours as arrays, read with every offset checked, without the schema that some runtimes lack.

What a file may hold is what `tflite_writer` writes; anything else is refused, because the runtime would read it
unchecked. The meaning of what was read is checked in `model_check`, which is where to open a file.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from custom_ops.builtin_contract import BUILTINS, CUSTOM
from custom_ops.flatbuffer import I8, I32, U8, U32, U64, DamagedFile, Flatbuffer, Kind, Lists, Tables, Texts

FILE_IDENTIFIER = b"TFL3"
SMALLEST_FILE = 64  # bytes; less holds no model
MAX_LISTED = 256  # operator codes, subgraphs, signatures: each of these is read on its own
TENSOR_TYPES = {
    "float32": 0,
    "float16": 1,
    "int32": 2,
    "uint8": 3,
    "int64": 4,
    "int8": 9,
}  # schema TensorType by NumPy name

_MODEL = Kind("model", ("version", "codes", "subgraphs", "description", "buffers", "", "", "signatures"))
_CODE = Kind("operator code", ("deprecated_code", "custom", "version", "code"))
_BUFFER = Kind("buffer", ("", "offset", "size"))
_SUBGRAPH = Kind("subgraph", ("tensors", "inputs", "outputs", "operators", "name"))
_TENSOR = Kind("tensor", ("shape", "type", "buffer", "name", "", "", "", "shape_signature"))
_OPERATOR = Kind(
    "operator", ("code", "inputs", "outputs", "options_type", "options", "custom_options", "custom_options_format")
)
_SIGNATURE = Kind("signature", ("inputs", "outputs", "key", "", "subgraph"))
_NAMED_TENSOR = Kind("name of a tensor", ("name", "tensor"))


@dataclass(frozen=True)
class Tensors:
    """``types`` and ``buffers`` (tensors,); a shape without a list is that of a scalar."""

    types: np.ndarray
    buffers: np.ndarray
    names: Texts
    shapes: Lists
    signatures: Lists  # shapes with -1 where a size is not known yet; empty where all are

    def __len__(self) -> int:
        return len(self.types)


@dataclass(frozen=True)
class Operators:
    """``codes`` indices of operator codes (operators,); ``options`` of builtin operators by their index here."""

    codes: np.ndarray
    inputs: Lists
    outputs: Lists
    custom_options: Lists
    options: dict[int, dict[str, int]]

    def __len__(self) -> int:
        return len(self.codes)


@dataclass(frozen=True)
class SubgraphFile:
    tensors: Tensors
    operators: Operators
    inputs: np.ndarray
    outputs: np.ndarray


@dataclass(frozen=True)
class SignatureFile:
    key: str
    subgraph: int
    inputs: dict[str, int]
    outputs: dict[str, int]


@dataclass(frozen=True)
class ModelFile:
    """``data`` the mapped bytes; ``codes`` (builtin code, custom name) of operators; constants as offsets and sizes."""

    data: np.ndarray
    codes: tuple[tuple[int, str], ...]
    buffer_offsets: np.ndarray
    buffer_sizes: np.ndarray
    subgraphs: tuple[SubgraphFile, ...]
    signatures: tuple[SignatureFile, ...]

    def constant(self, buffer: int) -> np.ndarray | None:
        """The bytes of a buffer, in place; None for one without any."""
        start, size = int(self.buffer_offsets[buffer]), int(self.buffer_sizes[buffer])
        return self.data[start : start + size] if size else None


def parse(data: np.ndarray) -> ModelFile:
    """Structure alone: all of it lies inside the file and is of a kind that we write. Raises DamagedFile."""
    if data.size < SMALLEST_FILE or data[4:8].tobytes() != FILE_IDENTIFIER:
        raise DamagedFile("not a .tflite file")
    model = Flatbuffer(data).root(_MODEL)
    if model.numbers("version", U32)[0] != 3:
        raise DamagedFile("not version 3 of the .tflite format")
    model.texts("description")
    listed = (("codes", _CODE), ("subgraphs", _SUBGRAPH), ("signatures", _SIGNATURE))
    code_tables, subgraphs, signatures = (model.children(field, kind) for field, kind in listed)
    if max(map(len, (code_tables, subgraphs, signatures))) > MAX_LISTED:
        raise DamagedFile(f"more than {MAX_LISTED} operator codes, subgraphs or signatures")
    codes = parse_codes(code_tables)
    buffers = model.children("buffers", _BUFFER)
    offsets, sizes = buffers.numbers("offset", U64), buffers.numbers("size", U64)
    buffers.expect_none(
        (offsets > data.size) | (sizes > data.size - np.minimum(offsets, data.size)), "lies behind the end of the file"
    )
    graphs = tuple(parse_subgraph(subgraphs.rows([i]), f"subgraph {i}, ", codes) for i in range(len(subgraphs)))
    places = offsets.astype(np.int64), sizes.astype(np.int64)
    return ModelFile(data, codes, *places, graphs, parse_signatures(signatures))


def parse_codes(tables: Tables) -> tuple[tuple[int, str], ...]:
    codes, deprecated = tables.numbers("code", I32), tables.numbers("deprecated_code", I8)
    tables.expect_none(np.minimum(codes, 127) != deprecated, "has two numbers that differ")
    tables.expect_none(tables.numbers("version", I32, 1) != 1, "is of a version that we do not write")
    names = tables.texts("custom")
    return tuple((int(code), names[i]) for i, code in enumerate(codes))


def parse_subgraph(table: Tables, place: str, codes: tuple[tuple[int, str], ...]) -> SubgraphFile:
    table.texts("name")
    tensors = table.children("tensors", _TENSOR, place)
    return SubgraphFile(
        parse_tensors(tensors),
        parse_operators(table.children("operators", _OPERATOR, place), place, codes),
        table.lists("inputs", I32).values,
        table.lists("outputs", I32).values,
    )


def parse_tensors(tables: Tables) -> Tensors:
    return Tensors(
        tables.numbers("type", I8),
        tables.numbers("buffer", U32),
        tables.texts("name"),
        tables.lists("shape", I32),
        tables.lists("shape_signature", I32),
    )


def parse_operators(tables: Tables, place: str, codes: tuple[tuple[int, str], ...]) -> Operators:
    indices = tables.numbers("code", U32)
    tables.expect_none(indices >= len(codes), "is of a kind that the file does not list")
    tables.expect_none(tables.numbers("custom_options_format", I8) != 0, "has options of an unknown format")
    builtin = np.array([code for code, _ in codes], np.int64)[indices] if len(codes) else indices
    return Operators(
        indices,
        tables.lists("inputs", I32),
        tables.lists("outputs", I32),
        tables.lists("custom_options", U8),
        parse_options(tables, place, builtin),
    )


def parse_options(tables: Tables, place: str, builtin_codes: np.ndarray) -> dict[int, dict[str, int]]:
    """The options of every builtin operator, those of one kind at a time."""
    types, found = tables.numbers("options_type", U8), {}
    for code in np.unique(builtin_codes).tolist():
        mine = np.flatnonzero(builtin_codes == code)
        if code == CUSTOM:
            tables.expect_none((builtin_codes == CUSTOM) & (types != 0), "is our own but has options of a builtin one")
            continue
        if code not in BUILTINS:
            raise DamagedFile(f"builtin operator {code} is not one that edge-vlm-compress writes")
        builtin = BUILTINS[code]
        tables.expect_none((builtin_codes == code) & (types != builtin.options_type), f"is no {builtin.name} of ours")
        options = tables.rows(mine).single("options", builtin.kind, place)
        for vector in builtin.vectors:
            options.lists(vector, I32)
        columns = {option.name: options.numbers(option.name, option.dtype) for option in builtin.options if option}
        for option in filter(None, builtin.options):
            if option.allowed is not None:
                wrong = ~np.isin(columns[option.name], option.allowed)
                options.expect_none(wrong, f"sets {option.name}, which edge-vlm-compress does not")
        for row, index in enumerate(mine.tolist()):
            found[index] = {name: int(column[row]) for name, column in columns.items()}
    return found


def parse_signatures(tables: Tables) -> tuple[SignatureFile, ...]:
    keys, subgraphs = tables.texts("key"), tables.numbers("subgraph", U32)
    inputs, outputs = parse_names(tables, "inputs"), parse_names(tables, "outputs")
    return tuple(SignatureFile(keys[i], int(subgraphs[i]), inputs[i], outputs[i]) for i in range(len(tables)))


def parse_names(signatures: Tables, field: str) -> list[dict[str, int]]:
    """Tensors by name, of each signature."""
    tables, counts = signatures.families(field, _NAMED_TENSOR)
    names, tensors = tables.texts("name"), tables.numbers("tensor", U32).tolist()
    ends = np.cumsum(counts).tolist()
    found = [
        {names[i]: tensors[i] for i in range(end - count, end)}
        for end, count in zip(ends, counts.tolist(), strict=True)
    ]
    if sum(map(len, found)) != len(tables):
        raise DamagedFile("two inputs or outputs of a signature have one name")
    return found
