# SPDX-License-Identifier: Apache-2.0
"""A .tflite is checked before a runtime opens it: ours pass, what a runtime would crash over is named."""

import struct
import time
from pathlib import Path

import numpy as np
import pytest
from every_format import write_every_format

from custom_ops.builtin_contract import BUILTINS, CUSTOM
from custom_ops.errors import OperatorError
from custom_ops.litert import load_schema
from custom_ops.model_check import read_model
from custom_ops.model_file import TENSOR_TYPES
from custom_ops.spec import Norm, NormKind
from custom_ops.tflite_writer import ModelWriter

BUNDLE = Path(__file__).resolve().parents[2] / "bundles" / "demo"


def small_model():
    """x (rows, 4) -> norm (operator 0), times a constant (1), the last row (2) as y."""
    writer = ModelWriter("small")
    graph = writer.subgraph("run")
    x = graph.input("x", (-1, 4))
    weight = graph.constant("weight", np.ones(4, np.float32))
    normed = graph.custom(Norm(NormKind.RMS, 4, 1e-5), [x, weight], "normed", (-1, 4))
    graph.signature("run", {"x": x}, {"y": graph.last_row(graph.mul(normed, weight))})
    return writer


def refusal(writer, tmp_path):
    writer.save(tmp_path / "m.tflite")
    with pytest.raises(OperatorError, match="m.tflite: .*\n  remedy: copy the file again") as caught:
        read_model(tmp_path / "m.tflite")
    return caught.value.what


def test_what_the_writer_writes_is_read_back(tmp_path):
    small_model().save(tmp_path / "m.tflite")
    model = read_model(tmp_path / "m.tflite")
    (graph,), (signature,) = model.subgraphs, model.signatures
    assert [graph.tensors.names[i] for i in (0, 1, 2)] == ["x", "weight", "normed"]
    assert graph.tensors.shapes.of(0).tolist() == [1, 4] and graph.tensors.signatures.of(0).tolist() == [-1, 4]
    assert model.constant(int(graph.tensors.buffers[1])).view(np.float32).tolist() == [1, 1, 1, 1]
    assert [model.codes[code] for code in graph.operators.codes] == [(32, "EdgeVlmNorm"), (18, ""), (45, "")]
    assert graph.operators.inputs.of(1).tolist() == [2, 1]
    assert graph.operators.options[2] == {"begin_mask": 0b10, "end_mask": 0b11}
    assert (signature.key, signature.inputs, list(signature.outputs)) == ("run", {"x": 0}, ["y"])


@pytest.mark.parametrize("name", ["vision", "text"])
def test_the_demo_bundle_passes(name):
    model = read_model(BUNDLE / f"{name}.tflite")
    assert {signature.key for signature in model.signatures} >= {"vision": {"encode"}, "text": {"decode"}}[name]


def test_every_format_and_cache_passes(tmp_path):
    write_every_format(tmp_path / "m.tflite")
    assert len(read_model(tmp_path / "m.tflite").subgraphs) == 7


def test_numbers_are_those_of_the_schema():
    schema = load_schema()
    assert schema.BuiltinOperator.CUSTOM == CUSTOM
    for builtin in BUILTINS.values():
        assert getattr(schema.BuiltinOperator, builtin.name) == builtin.code
        kind = next(name for name, value in vars(schema.BuiltinOptions).items() if value == builtin.options_type)
        fields = list(vars(getattr(schema, f"{kind}T")()))  # in the order of their slots
        for option, field in zip(builtin.options, fields, strict=False):
            if option is not None:
                first, *rest = option.name.split("_")
                assert field.startswith(first + "".join(map(str.title, rest)))
    assert {name: getattr(schema.TensorType, name.upper()) for name in TENSOR_TYPES} == TENSOR_TYPES


def set_of(path, value):
    """A change: ``path`` such as "subgraphs.0.tensors.1.type" of the model gets a value."""

    def change(model):
        *parents, last = path.split(".")
        for part in parents:
            model = model[int(part)] if part.isdigit() else getattr(model, part)
        if last.isdigit():
            model[int(last)] = value
        else:
            setattr(model, last, value)

    return change


GRAPH = "subgraphs.0"


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("version", 2, "not version 3"),
        ("metadataBuffer", [1], "model 0 has field 5, which edge-vlm-compress does not write"),
        ("operatorCodes.0.customCode", "Flex", "operator Flex is unknown"),
        ("operatorCodes.0.customCode", None, "operator (without a name) is unknown"),
        ("operatorCodes.0.version", 2, "operator code 0 is of a version that we do not write"),
        ("operatorCodes.1.builtinCode", 19, "operator code 1 has two numbers that differ"),
        ("subgraphs", [], "the model is empty"),
        (f"{GRAPH}.tensors.1.type", 7, "subgraph 0, tensor 1 is of a type that we do not write"),
        (f"{GRAPH}.tensors.1.buffer", 99, "subgraph 0, tensor 1 takes a buffer that is not there"),
        (f"{GRAPH}.tensors.1.shape", [5], "tensor 1 is a constant whose bytes do not fit its shape"),
        (f"{GRAPH}.tensors.1.shape", [2**16, 2**16, 2**16, 2**16, 4], "bytes do not fit its shape"),
        (f"{GRAPH}.tensors.1.shape", [-4], "tensor 1 has a size below 1"),
        (f"{GRAPH}.tensors.2.shape", [1] * 7, "tensor 2 has more than 6 dimensions"),
        (f"{GRAPH}.tensors.2.shapeSignature", [-1], "tensor 2 has two shapes of unequal rank"),
        (f"{GRAPH}.tensors.2.shapeSignature", [-1, 5], "tensor 2 has two shapes that differ"),
        (f"{GRAPH}.tensors.2.isVariable", True, "tensor 2 has field 5"),
        (f"{GRAPH}.operators.0.opcodeIndex", 9, "operator 0 is of a kind that the file does not list"),
        (f"{GRAPH}.operators.0.opcodeIndex", 1, "operator 0 is no MUL of ours"),
        (f"{GRAPH}.operators.1.opcodeIndex", 0, "operator 1 is our own but has options of a builtin one"),
        (f"{GRAPH}.operators.0.inputs", [0, 77], "an operator's input is a tensor that is not there"),
        (f"{GRAPH}.operators.0.inputs", [0, -2], "an operator's input is a tensor that is not there"),
        (f"{GRAPH}.operators.0.inputs", [3, 1], "operator 0 reads a tensor before it is written"),
        (f"{GRAPH}.operators.1.inputs", [2], "operator 1 (MUL) has 1 inputs"),
        (f"{GRAPH}.operators.1.inputs", [2, -1], "operator 1 (MUL) has an input that is no float32 tensor"),
        (f"{GRAPH}.operators.2.inputs", [3, 4, 5, 2], "(STRIDED_SLICE) has an input that is no constant int32 tensor"),
        (f"{GRAPH}.operators.0.outputs", [1], "a constant, an input or another operator's output is written over"),
        (f"{GRAPH}.operators.0.outputs", [0], "a constant, an input or another operator's output is written over"),
        (f"{GRAPH}.operators.0.outputs", [2, 3], "operator 0 has not one output"),
        (f"{GRAPH}.operators.1.builtinOptions.fusedActivationFunction", 1, "sets fused_activation"),
        (f"{GRAPH}.operators.1.builtinOptions", None, "operator has no options"),
        (f"{GRAPH}.operators.0.intermediates", [1], "operator 0 has field 8"),
        (f"{GRAPH}.inputs", [0, 1], "is written over"),
        (f"{GRAPH}.outputs", [70], "an output is a tensor that is not there"),
        ("signatureDefs.0.subgraphIndex", 3, "signature run has no graph"),
        ("signatureDefs.0.inputs.0.tensorIndex", 1, "signature run names other inputs than its graph has"),
        ("signatureDefs.0.outputs.0.tensorIndex", 2, "signature run names an output that its graph does not have"),
    ],
)
def test_what_a_runtime_would_take_for_granted_is_named(path, value, message, tmp_path):
    writer = small_model()
    set_of(path, value)(writer.model)
    assert message in refusal(writer, tmp_path)


def test_files_that_are_cut_or_no_model(tmp_path):
    whole = (BUNDLE / "text.tflite").read_bytes()
    path = tmp_path / "m.tflite"
    for length, message in (
        (0, "cannot be read"),
        (7, "not a .tflite file"),
        (5000, "outside of the file|behind the end"),
    ):
        path.write_bytes(whole[:length])
        with pytest.raises(OperatorError, match=f"m.tflite: .*({message})"):
            read_model(path)
    path.write_bytes(whole[:-64])
    with pytest.raises(OperatorError, match="buffer [0-9]+ lies behind the end of the file"):
        read_model(path)


@pytest.mark.parametrize(("field", "message"), [("subgraphs", "more than 256"), ("tensors", "vectors are longer")])
def test_offsets_that_lead_to_one_table_again_and_again_cost_no_time(field, message, tmp_path):
    """100,000 subgraphs of a model, or tensors of a subgraph, that are all the same one: [file][vector][file]."""
    whole, count = small_model().content(), 100_000
    model = load_schema().Model.GetRootAs(whole, 0)
    subgraph = model.Subgraphs(0)
    parent, child = (model, subgraph) if field == "subgraphs" else (subgraph, subgraph.Tensors(0))
    place = parent._tab.Pos + parent._tab.Offset({"subgraphs": 8, "tensors": 4}[field])  # by its place in the vtable
    target = len(whole) + 4 + 4 * count + child._tab.Pos
    entries = target - (len(whole) + 4 + 4 * np.arange(count, dtype=np.uint32))
    data = bytearray(whole + struct.pack("<I", count) + entries.astype("<u4").tobytes() + whole)
    struct.pack_into("<I", data, place, len(whole) - place)
    (tmp_path / "m.tflite").write_bytes(data)
    begun = time.perf_counter()
    with pytest.raises(OperatorError, match=message):
        read_model(tmp_path / "m.tflite")
    assert time.perf_counter() - begun < 1


def test_thousands_of_tensors_are_checked_in_no_time(tmp_path):
    writer = ModelWriter("long")
    graph = writer.subgraph("run")
    x = y = graph.input("x", (-1, 4))
    for _ in range(1500):
        weight = graph.constant("weight", np.ones(4, np.float32))
        y = graph.custom(Norm(NormKind.RMS, 4, 1e-5), [y, weight], "normed", (-1, 4))
    graph.signature("run", {"x": x}, {"y": y})
    writer.save(tmp_path / "m.tflite")
    begun = time.perf_counter()
    assert len(read_model(tmp_path / "m.tflite").subgraphs[0].tensors) == 3001
    assert time.perf_counter() - begun < 0.2  # seen: 5 ms
