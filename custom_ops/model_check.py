# SPDX-License-Identifier: Apache-2.0
"""Opens a .tflite of ours and checks it, before a runtime does, which would crash over a damaged one.

    model = read_model("vision.tflite")      # OperatorError: which file, what is wrong with it, what to do

Indices are in range, constants are as long as their shapes say, nothing writes over a constant or over another
operator's result, every tensor is written before it is read. The attributes of our own operators, and shapes from
operator to operator, are checked by the delegate and by the runtime, which refuse them with a message.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from custom_ops.builtin_contract import BUILTINS, CUSTOM
from custom_ops.errors import OperatorError
from custom_ops.flatbuffer import DamagedFile
from custom_ops.model_file import TENSOR_TYPES, ModelFile, SubgraphFile, Tensors, parse
from custom_ops.spec import OPERATORS

COPY_AGAIN = "copy the file again, or export the bundle again with this version of edge-vlm-compress"
MAX_RANK = 6
MAX_TENSOR_BYTES = 1 << 30  # of one that is computed; more is a damaged file, not a model for a robot
CONSTANT_ALIGNMENT = 64  # kernels read constants in place
NEVER = np.iinfo(np.int64).max
_DTYPES = {code: np.dtype(name) for name, code in TENSOR_TYPES.items()}
_ITEM_BYTES = np.zeros(128, np.int64)
_ITEM_BYTES[list(_DTYPES)] = [dtype.itemsize for dtype in _DTYPES.values()]


def read_model(path: Path | str) -> ModelFile:
    """Map, read and check a .tflite of ours. Raises OperatorError naming file and fault."""
    try:
        data = np.asarray(np.memmap(path, np.uint8, "r"))
    except (OSError, ValueError) as error:
        raise OperatorError(f"{path}: cannot be read ({error})", COPY_AGAIN) from error
    try:
        model = parse(data)
        check_model(model)
    except DamagedFile as error:
        raise OperatorError(f"{path}: {error}", COPY_AGAIN) from error
    return model


def check_model(model: ModelFile) -> None:
    """Raises DamagedFile."""
    if not model.subgraphs or not len(model.buffer_sizes):
        raise DamagedFile("the model is empty")
    check_buffers(model.buffer_offsets, model.buffer_sizes)
    for code, custom in model.codes:
        if code == CUSTOM and custom not in OPERATORS:
            raise DamagedFile(f"operator {custom or '(without a name)'} is unknown")
    for index in range(len(model.subgraphs)):
        check_subgraph(model, index)
    check_signatures(model)


def check_subgraph(model: ModelFile, index: int) -> None:
    graph = model.subgraphs[index]
    try:
        constant = check_tensors(graph.tensors, model.buffer_sizes)
        check_order(graph, constant)
        check_builtins(model, graph, constant)
    except DamagedFile as error:
        raise DamagedFile(f"subgraph {index}, {error}") from error


def check_buffers(offsets: np.ndarray, sizes: np.ndarray) -> None:
    """The first is "no data" by convention."""
    expect((sizes == 0) == (offsets == 0), "buffer", "has a size or an offset alone")
    expect(offsets % CONSTANT_ALIGNMENT == 0, "buffer", f"does not lie at a multiple of {CONSTANT_ALIGNMENT} bytes")
    if sizes[0]:
        raise DamagedFile("buffer 0 holds data")


def check_tensors(tensors: Tensors, buffer_sizes: np.ndarray) -> np.ndarray:
    """Types, shapes and sizes; which tensors are constants."""
    expect(np.isin(tensors.types, list(_DTYPES)), "tensor", "is of a type that we do not write")
    expect(tensors.buffers < len(buffer_sizes), "tensor", "takes a buffer that is not there")
    shapes, owners = tensors.shapes, tensors.shapes.owners
    expect(shapes.counts <= MAX_RANK, "tensor", f"has more than {MAX_RANK} dimensions")
    if (shapes.values < 1).any():
        raise DamagedFile(f"tensor {owners[np.argmax(shapes.values < 1)]} has a size below 1")
    sizes = np.ones(len(tensors))  # float64, which does not wrap; exact up to 2^53
    np.multiply.at(sizes, owners, shapes.values.astype(np.float64))
    sizes *= _ITEM_BYTES[tensors.types]
    held = buffer_sizes[tensors.buffers]
    constant = held > 0
    expect(~constant | (sizes == held), "tensor", "is a constant whose bytes do not fit its shape")
    expect(constant | (sizes <= MAX_TENSOR_BYTES), "tensor", "is larger than 1 GiB")
    check_shape_signatures(tensors)
    return constant


def check_shape_signatures(tensors: Tensors) -> None:
    """Each size is that of the shape, or not known yet."""
    shapes, signatures = tensors.shapes, tensors.signatures
    expect((signatures.counts == 0) | (signatures.counts == shapes.counts), "tensor", "has two shapes of unequal rank")
    fixed = shapes.values[np.repeat(signatures.counts > 0, shapes.counts)]
    wrong = (signatures.values != -1) & (signatures.values != fixed)
    if wrong.any():
        raise DamagedFile(f"tensor {signatures.owners[np.argmax(wrong)]} has two shapes that differ")


def check_order(graph: SubgraphFile, constant: np.ndarray) -> None:
    """One operator writes a tensor, and those that read it come later."""
    count, operators = len(constant), graph.operators
    inputs, outputs = operators.inputs, operators.outputs
    expect(outputs.counts == 1, "operator", "has not one output")
    expect(inputs.counts >= 1, "operator", "has no inputs")
    for what, indices, lowest in (
        ("an operator's input", inputs.values, -1),
        ("an operator's output", outputs.values, 0),
        ("an input", graph.inputs, 0),
        ("an output", graph.outputs, 0),
    ):
        if np.count_nonzero((indices < lowest) | (indices >= count)):
            raise DamagedFile(f"{what} is a tensor that is not there")
    made = np.concatenate([graph.inputs, outputs.values])
    if constant[made].any() or len(np.unique(made)) < len(made):
        raise DamagedFile("a constant, an input or another operator's output is written over")
    written_by = np.where(constant, -1, NEVER)
    written_by[graph.inputs] = -1
    written_by[outputs.values] = np.arange(len(operators))
    given = inputs.values >= 0
    early = given & (written_by[inputs.values] >= inputs.owners)
    if early.any():
        raise DamagedFile(f"operator {inputs.owners[np.argmax(early)]} reads a tensor before it is written")
    if (written_by[graph.outputs] == NEVER).any():
        raise DamagedFile("an output is never written")


def check_builtins(model: ModelFile, graph: SubgraphFile, constant: np.ndarray) -> None:
    """Number and types of the inputs of builtin operators, and what they read of constants before they run."""
    for index in graph.operators.options:
        builtin = BUILTINS[model.codes[graph.operators.codes[index]][0]]
        given = graph.operators.inputs.of(index).tolist()
        where = f"operator {index} ({builtin.name})"
        if not len(builtin.inputs) - builtin.inputs[-1].startswith("[") <= len(given) <= len(builtin.inputs):
            raise DamagedFile(f"{where} has {len(given)} inputs")
        for tensor, wanted in zip(given, builtin.inputs, strict=False):
            if tensor < 0 and wanted.startswith("["):
                continue
            kind, _, dtype = wanted.strip("[]").rpartition(" ")
            if tensor < 0 or _DTYPES[int(graph.tensors.types[tensor])] != dtype or (kind and not constant[tensor]):
                raise DamagedFile(f"{where} has an input that is no {wanted.strip('[]')} tensor")


def check_signatures(model: ModelFile) -> None:
    """The names belong to inputs and outputs of their graph."""
    for signature in model.signatures:
        if signature.subgraph >= len(model.subgraphs):
            raise DamagedFile(f"signature {signature.key} has no graph")
        graph = model.subgraphs[signature.subgraph]
        if sorted(signature.inputs.values()) != sorted(graph.inputs.tolist()):
            raise DamagedFile(f"signature {signature.key} names other inputs than its graph has")
        if not set(signature.outputs.values()) <= set(graph.outputs.tolist()):
            raise DamagedFile(f"signature {signature.key} names an output that its graph does not have")
    if len({signature.key for signature in model.signatures}) < len(model.signatures):
        raise DamagedFile("two signatures have one name")


def expect(holds: np.ndarray, what: str, problem: str) -> None:
    if not holds.all():
        raise DamagedFile(f"{what} {int(np.argmin(holds))} {problem}")
