# SPDX-License-Identifier: Apache-2.0
"""Weights out of an ONNX file, without the onnx package: its protocol buffers hold little that we need.

Fields (onnx.proto): ModelProto.graph = 7; GraphProto.node = 1, .initializer = 5; NodeProto.input = 1, .name = 3,
.op_type = 4; TensorProto.dims = 1, .data_type = 2, .float_data = 4, .name = 8, .raw_data = 9.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from edge_vlm.errors import InputError

_FLOAT = 1  # TensorProto.DataType
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5  # wire types


def read_onnx_weights(path: Path) -> dict[str, np.ndarray]:
    """Float32 tensors by name; a MatMul's nameless weight as ``NODE/MatMul.weight``, (outputs, inputs).

    Node names lose the leading slash and join with dots: "backbone.encoder.layer.0.mlp.fc1.weight". Raises InputError
    for a file that is missing or no ONNX model.
    """
    try:
        content = memoryview(Path(path).read_bytes())
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}", "give an ONNX file") from error
    try:
        graph = dict(fields(content))[7]
        tensors = dict(tensor(value) for number, value in fields(graph) if number == 5)
        nodes = [node(value) for number, value in fields(graph) if number == 1]
    except (KeyError, IndexError, ValueError, TypeError, struct.error) as error:
        raise InputError(f"{path}: not an ONNX model ({error})", "give a whole ONNX file") from error
    weights = {name: value for name, value in tensors.items() if value is not None}
    for operator, name, inputs in nodes:
        if operator == "MatMul" and name.endswith("/MatMul"):
            stem = name.strip("/").removesuffix("/MatMul").replace("/", ".")
            weights |= {f"{stem}.weight": weights[value].T for value in inputs if value in weights}
    return weights


def fields(message: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """(number, value) of a protocol buffer message; nested messages and strings as bytes."""
    position = 0
    while position < len(message):
        key, position = varint(message, position)
        number, wire = key >> 3, key & 7
        if wire == _VARINT:
            value, position = varint(message, position)
        elif wire == _BYTES:
            length, position = varint(message, position)
            if position + length > len(message):
                raise ValueError("cut short")
            value, position = message[position : position + length], position + length
        elif wire in (_FIXED32, _FIXED64):
            width = 4 if wire == _FIXED32 else 8
            value, position = message[position : position + width], position + width
        else:
            raise ValueError(f"wire type {wire}")
        yield number, value


def varint(message: memoryview, position: int) -> tuple[int, int]:
    value, shift = 0, 0
    while True:
        byte = message[position]
        value |= (byte & 0x7F) << shift
        position, shift = position + 1, shift + 7
        if byte < 0x80:
            return value, position


def tensor(message: memoryview) -> tuple[str, np.ndarray | None]:
    """Name and float32 values; None for another type."""
    dims, kind, name, raw, packed = [], 0, "", b"", b""
    for number, value in fields(message):
        if number == 1:
            dims += [value] if isinstance(value, int) else packed_varints(value)
        elif number == 2:
            kind = value
        elif number == 4:
            packed = bytes(packed) + bytes(value)
        elif number == 8:
            name = bytes(value).decode()
        elif number == 9:
            raw = value
    return name, np.frombuffer(raw or packed, "<f4").reshape(dims) if kind == _FLOAT else None


def packed_varints(message: memoryview) -> list[int]:
    values, position = [], 0
    while position < len(message):
        value, position = varint(message, position)
        values.append(value)
    return values


def node(message: memoryview) -> tuple[str, str, list[str]]:
    """Operator, name and inputs."""
    operator, name, inputs = "", "", []
    for number, value in fields(message):
        if number in (1, 3, 4):
            text = bytes(value).decode()
            operator, name = (text if number == 4 else operator), (text if number == 3 else name)
            inputs += [text] if number == 1 else []
    return operator, name, inputs
