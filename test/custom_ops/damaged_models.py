# SPDX-License-Identifier: Apache-2.0
"""Run in a process of its own, which a crash would end: models damaged at random, opened and run where they open.

``python damaged_models.py FOLDER MODEL SIGNATURE COUNT``; prints how many ran and how many were refused.
"""

import random
import sys
from pathlib import Path

import numpy as np

from custom_ops.errors import OperatorError
from custom_ops.executor import read_model
from custom_ops.library import load_operators

INPUTS = {
    "encode": {"patches": np.zeros((3, 768), np.float32), "positions": np.arange(3, dtype=np.int32)},
    "decode": {"token_ids": np.zeros(1, np.int32), "positions": np.zeros(1, np.int32)},
}
REFUSALS = (ValueError, RuntimeError, TypeError, KeyError, OperatorError)  # LiteRT's are of all these kinds
EXTREMES = (0, 1, 127, 128, 255)


def damaged(model: bytes, graph_bytes: int, seed: int) -> bytes:
    """Some bytes of the graph, some of the constants, or the end cut off."""
    chance, data = random.Random(seed), bytearray(model)
    if seed % 5 == 0:
        return bytes(data[: chance.randrange(len(data))])
    if seed % 5 == 1:
        for _ in range(64):
            data[chance.randrange(graph_bytes, len(data))] = chance.randrange(256)
        return bytes(data)
    for _ in range(chance.choice((1, 1, 2, 8))):
        data[chance.randrange(8, graph_bytes)] = chance.choice((*EXTREMES, chance.randrange(256)))
    return bytes(data)


def main(folder: Path, path: Path, signature: str, count: int) -> None:
    model, operators, ran = path.read_bytes(), load_operators(), 0
    graph_bytes = min(buffer.offset for buffer in read_model(path)[1].buffers if buffer.offset > 1)
    for seed in range(count):
        target = folder / "damaged.tflite"
        target.write_bytes(damaged(model, graph_bytes, seed))
        try:
            interpreter = operators.interpreter(target)
            interpreter.get_signature_runner(signature)(**INPUTS[signature])
            ran += 1
        except REFUSALS:
            pass
    print(f"{ran} ran, {count - ran} refused")


main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], int(sys.argv[4]))
