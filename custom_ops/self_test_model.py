# SPDX-License-Identifier: Apache-2.0
"""The model of the self-test: one ternary Linear of 5 x 37, signature "run": x (rows, 37) -> y (rows, 5).

Kept as bytes so that the test needs no .tflite schema (tflite-runtime has none). ``python -m
custom_ops.self_test_model`` writes it anew; a test compares it with the writer's output.
"""

from __future__ import annotations

import base64
import zlib

import numpy as np

CODES = (np.arange(5 * 37) * 7 % 11 % 3 - 1).astype(np.int8).reshape(5, 37)
SCALE = np.array([0.5, 0.25, 1.5, 0.1, 2.0], np.float32)
X = np.linspace(-1, 1, 3 * 37, dtype=np.float32).reshape(3, 37)

COMPRESSED = """
eNqVUs1Kw0AQnjRJjSXqIkE89JBLDoKColetFPVUMEgS8CRF11pIe2jqH3jw4CP0FXwHj3mAevchfIc4u5mk24CHTPjY+Z9vZ9MGgOCid+hAG7
bBAQY2WCDEQAvQB/CB+EH8It4bADqeGoLJvBbVGKgBarl/H/K8yeNY5gq/RXkWxQzq80qnLfs1ZU5Tib9Qvo84UuZuyZp8rgO5pDop6HWUeFq4
KW7ID2ATwe8G/OYpHrkJj+/3pjyZ5nPznuvKXgy0oNyL4PUmdlK5qyM5Mjm92CWj++3SblzEeXR5oGEnUeMhTFgWjfrqit1Q/BoUdwH4Ij5nZM
dZltkKV1GHrsxUdl70MiU3Rm9kyNOmOKN4ctuP+VK+2MlGmc8WfHShryCe+XDwME2kP5VcGL2xVTJ3aFaVp6e8fcHTU/47m6YDzXcXXd01sVt8
0yge9YZj3p/A/+Lv+Kuz1qz72fVKNawhlVKp1qkPgzC4DqLgKoxCXxhRENUpxyt08A88wQ13vufzY7RPoYb8AdCBdl8=
"""


def file_bytes() -> bytes:
    """The .tflite file."""
    return zlib.decompress(base64.b64decode(COMPRESSED))


def write(path) -> None:
    """Write the model with the writer of this version."""
    from custom_ops.packing import pack
    from custom_ops.spec import Linear, WeightFormat
    from custom_ops.tflite_writer import ModelWriter

    writer = ModelWriter("edge_vlm self-test")
    graph = writer.subgraph("run")
    x = graph.input("x", (-1, CODES.shape[1]))
    packed = pack(CODES, WeightFormat.TERNARY)
    constants = [graph.constant("weights", packed.data), graph.constant("scale", SCALE)]
    attributes = Linear(WeightFormat.TERNARY, CODES.shape[1], CODES.shape[0])
    y = graph.custom(attributes, [x, *constants], "y", (-1, CODES.shape[0]))
    graph.signature("run", {"x": x}, {"y": y})
    writer.save(path)


def main() -> None:
    """Print COMPRESSED for the writer of this version."""
    import tempfile
    import textwrap
    from pathlib import Path

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.tflite"
        write(path)
        text = base64.b64encode(zlib.compress(path.read_bytes(), 9)).decode()
    print(textwrap.fill(text, 110))


if __name__ == "__main__":
    main()
