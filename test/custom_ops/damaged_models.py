# SPDX-License-Identifier: Apache-2.0
"""Run in a process of its own, which a crash would end: models damaged at random, opened and run where they open.

``python damaged_models.py FOLDER MODEL COUNT [FIRST]``; prints how many of the seeds FIRST.. ran and how many were
refused. After a crash FOLDER holds ``damaged.tflite`` and, in ``seed``, what made it.
``EDGE_VLM_RUNTIME`` names the runtime; in ``numpy`` nothing but OperatorError may be raised.
"""

from __future__ import annotations

import contextlib
import os
import random
import struct
import sys
from pathlib import Path

import numpy as np

from custom_ops.errors import OperatorError
from custom_ops.executor import NumpyInterpreter
from custom_ops.library import load_operators
from custom_ops.litert import RUNTIME_VARIABLE
from custom_ops.model_check import read_model
from custom_ops.model_file import TENSOR_TYPES, ModelFile, SignatureFile
from custom_ops.spec import HEADER, MAGIC, OPERATORS, Attention, Embedding, TokenScatter

REFUSALS = (ValueError, RuntimeError, TypeError, KeyError, OperatorError)  # LiteRT's are of all these kinds
SHORT_BYTES = 1024  # constants up to here may be indices
EXTREME_BYTES = (0, 1, 127, 128, 255)
EXTREMES = (0, 1, 2, 3, 64, 65, 2**16, 2**24, 2**30, 2**31 - 1, 2**31, 2**32 - 1, 0x7FC00000)  # the last is a NaN
DTYPES = {code: np.dtype(name) for name, code in TENSOR_TYPES.items()}


class Damage:
    """Ways to damage one model; ``made(seed)`` takes them in turn."""

    def __init__(self, path: Path) -> None:
        self.whole, model = path.read_bytes(), read_model(path)
        self.offsets = model.buffer_offsets[model.buffer_sizes > 0].tolist()
        self.graph_bytes = min(self.offsets)
        short = (model.buffer_sizes > 0) & (model.buffer_sizes <= SHORT_BYTES)
        spans = zip(model.buffer_offsets[short].tolist(), model.buffer_sizes[short].tolist(), strict=True)
        self.words = [at for begin, size in spans for at in range(begin, begin + size - 3, 4)]
        graph = self.whole[: self.graph_bytes]
        self.attributes = [at for at in range(0, self.graph_bytes, 4) if graph[at : at + 4] == MAGIC]
        self.ways = (self.cut, self.constants, self.graph, self.word, self.attribute, self.constant_length, self.index)

    def made(self, seed: int) -> bytes:
        data = bytearray(self.whole)
        self.ways[seed % len(self.ways)](random.Random(seed), data)
        return bytes(data)

    def cut(self, chance: random.Random, data: bytearray) -> None:
        """The end is missing."""
        del data[chance.randrange(len(data)) :]

    def constants(self, chance: random.Random, data: bytearray) -> None:
        for _ in range(64):
            data[chance.randrange(self.graph_bytes, len(data))] = chance.randrange(256)

    def graph(self, chance: random.Random, data: bytearray) -> None:
        for _ in range(chance.choice((1, 1, 2, 8))):
            data[chance.randrange(8, self.graph_bytes)] = chance.choice((*EXTREME_BYTES, chance.randrange(256)))

    def word(self, chance: random.Random, data: bytearray) -> None:
        """An offset, a count, an index, a size: any 4 bytes of the graph."""
        at = 4 * chance.randrange(2, self.graph_bytes // 4)
        (old,) = struct.unpack_from("<I", data, at)
        near = (old + chance.choice((-64, -4, -1, 1, 4, 64))) % 2**32
        struct.pack_into("<I", data, at, chance.choice((near, chance.choice(EXTREMES), chance.randrange(len(data)))))

    def attribute(self, chance: random.Random, data: bytearray) -> None:
        """A field of one of our operators, the version, or the size of its attributes."""
        at = chance.choice(self.attributes)
        _, version, size = HEADER.unpack_from(data, at)
        if chance.randrange(8) == 0:
            HEADER.pack_into(
                data, at, MAGIC, chance.choice((0, version + 1, 1, 65535)), chance.choice((size, 0, 65535))
            )
            return
        field = at + HEADER.size + 4 * chance.randrange(size // 4)
        (old,) = struct.unpack_from("<I", data, field)
        new = chance.choice((*EXTREMES, (old - 1) % 2**32, (old + 1) % 2**32, 2 * old % 2**32))
        struct.pack_into("<I", data, field, new)

    def constant_length(self, chance: random.Random, data: bytearray) -> None:
        """A constant that is longer or shorter than its shape says, or that lies elsewhere."""
        offset = chance.choice(self.offsets)
        places = [at for at in range(0, self.graph_bytes - 16, 4) if struct.unpack_from("<Q", data, at)[0] == offset]
        at = chance.choice(places) + chance.choice((-8, 0, 8))
        value = chance.choice((*EXTREMES, offset + 1, offset + 64, offset - 64, len(data) - 64, 2**63, 2**64 - 1))
        struct.pack_into("<Q", data, at, value)

    def index(self, chance: random.Random, data: bytearray) -> None:
        """A number of a short constant: shapes, axes, bounds of slices, rows to gather."""
        if self.words:
            struct.pack_into("<I", data, chance.choice(self.words), chance.choice((*EXTREMES, 2**32 - 2, 2**32 - 8)))


def attributes_of(model: ModelFile, signature: SignatureFile) -> list:
    operators = model.subgraphs[signature.subgraph].operators
    names = [model.codes[code][1] for code in operators.codes.tolist()]
    return [
        OPERATORS[name].from_bytes(operators.custom_options.of(index).tobytes())
        for index, name in enumerate(names)
        if name
    ]


def calls(model: ModelFile, signature: SignatureFile) -> list[dict[str, np.ndarray]]:
    """Two calls of a signature: of many rows (all of an encoder's), then of one or a few."""
    operators = attributes_of(model, signature)
    caches = [a for a in operators if isinstance(a, (Attention, TokenScatter))]
    causal = any(isinstance(a, Attention) and a.causal for a in caches)
    capacity = min((a.capacity for a in caches), default=8)
    image_token = next((a.image_token_id for a in operators if isinstance(a, Embedding) and a.has_image), 0)
    first = inputs_of(model, signature, 0, 8 if causal else capacity, image_token)
    begin, rows = (len(first["positions"]), 1) if causal else (1, 3)
    return [first, inputs_of(model, signature, begin, rows, image_token)]


def inputs_of(model: ModelFile, signature: SignatureFile, first: int, rows: int, image_token: int) -> dict:
    """Zeros of ``rows`` rows, positions from ``first`` on; each of the ids is an image token where images are given."""
    tensors, inputs = model.subgraphs[signature.subgraph].tensors, {}
    for name, tensor in signature.inputs.items():
        shape = tensors.signatures.of(tensor) if tensors.signatures.counts[tensor] else tensors.shapes.of(tensor)
        shape = [-1, shape[1]] if name.startswith("image") else shape  # as many as there are image tokens
        inputs[name] = np.zeros([rows if size < 0 else size for size in shape], DTYPES[int(tensors.types[tensor])])
        if name == "positions":
            inputs[name] += np.arange(first, first + len(inputs[name]), dtype=np.int32)
        elif name in ("ids", "token_ids"):
            inputs[name] += image_token
    return inputs


def run(interpreter, wanted: dict[str, list[dict[str, np.ndarray]]]) -> None:
    for key, inputs in wanted.items():
        runner = interpreter.get_signature_runner(key)
        for arguments in inputs:
            runner(**arguments)


def main(folder: Path, path: Path, count: int, first: int = 0) -> None:
    numpy = os.environ.get(RUNTIME_VARIABLE) == "numpy"
    open_model, refusals = (NumpyInterpreter, OperatorError) if numpy else (load_operators().interpreter, REFUSALS)
    damage, model, ran = Damage(path), read_model(path), 0
    wanted = {signature.key: calls(model, signature) for signature in model.signatures}
    run(open_model(path), wanted)  # the whole one runs
    for seed in range(first, first + count):
        target = folder / "damaged.tflite"
        target.write_bytes(damage.made(seed))
        (folder / "seed").write_text(str(seed))
        with contextlib.suppress(refusals):
            run(open_model(target), wanted)
            ran += 1
    print(f"{ran} ran, {count - ran} refused")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), *map(int, sys.argv[3:]))
