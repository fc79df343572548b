# SPDX-License-Identifier: Apache-2.0
"""Run by Python for Arm under qemu-user: the wheel's delegate in LiteRT's own wheel against NumPy. Prints the tables.

``python arm_wheel_check.py FOLDER_OF_THE_WHEEL FOLDER_OF_PACKAGES``
"""

import sys
import tempfile
from pathlib import Path

sys.path[:0] = sys.argv[1:3]

import numpy as np  # noqa: E402

from custom_ops import reference  # noqa: E402
from custom_ops.library import load_operators  # noqa: E402
from custom_ops.packing import pack  # noqa: E402
from custom_ops.spec import Linear, NormKind, WeightFormat  # noqa: E402
from custom_ops.tflite_writer import ModelWriter  # noqa: E402

OUTPUTS, INPUTS = 37, 70


def main() -> None:
    rng = np.random.default_rng(0)
    codes = rng.integers(-1, 2, (OUTPUTS, INPUTS)).astype(np.int8)
    scale, weight = (rng.uniform(0.5, 1, n).astype(np.float32) for n in (OUTPUTS, INPUTS))
    writer = ModelWriter("arm")
    graph = writer.subgraph("run")
    x = graph.input("x", (-1, INPUTS))
    constants = [pack(codes, WeightFormat.TERNARY).data, scale, weight]
    tensors = [graph.constant(f"c{i}", array) for i, array in enumerate(constants)]
    attributes = Linear(WeightFormat.TERNARY, INPUTS, OUTPUTS, norm_kind=NormKind.RMS, norm_epsilon=1e-5)
    y = graph.custom(attributes, [x, *tensors], "y", (-1, OUTPUTS))
    graph.signature("run", {"x": x}, {"y": y})
    operators = load_operators()
    with tempfile.TemporaryDirectory() as folder:
        writer.save(Path(folder) / "model.tflite")
        interpreter = operators.interpreter(Path(folder) / "model.tflite")
        run = interpreter.get_signature_runner("run")
        for rows in (1, 13):
            given = rng.normal(size=(rows, INPUTS)).astype(np.float32)
            expected = reference.linear(reference.norm(given, weight, None, NormKind.RMS, 1e-5), codes, scale)
            step = np.abs(expected).max() / 100  # an activation next to a half may round either way
            assert np.abs(run(x=given)["y"] - expected).max() < step
    print(",".join(operators.info.available_isas))


main()
